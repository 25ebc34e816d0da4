{
  inputs = {
    nixpkgs.url = "github:NixOS/nixpkgs/nixos-unstable";
    flake-parts.url = "github:hercules-ci/flake-parts";
    just-flake.url = "github:juspay/just-flake";
    quorate.url = "github:OWNER/quorate";
  };

  outputs =
    inputs:
    inputs.flake-parts.lib.mkFlake { inherit inputs; } {
      imports = [
        inputs.just-flake.flakeModule
        inputs.quorate.flakeModules.default
      ];
      systems = [
        "x86_64-linux"
        "aarch64-linux"
        "aarch64-darwin"
      ];

      quorate.images = {
        enable = true;
        registry = "us-east1-docker.pkg.dev/addendalabs/yard";
        authMode = "gcp";
        linuxSystems = [
          "x86_64-linux"
          "aarch64-linux"
        ];
      };

      perSystem =
        { pkgs, self', ... }:
        {
          quorate.images = {
            commonPackages = [
              pkgs.bashInteractive
              pkgs.cacert
              pkgs.coreutils
              pkgs.iana-etc
            ];
            images.klotho = {
              packages = [ self'.packages.klotho ];
              entrypoint = [ "/bin/klotho" ];
            };
            images.poseidon = {
              packages = [ self'.packages.poseidon ];
              entrypoint = [ "/bin/poseidon" ];
            };
          };
        };
    };
}
