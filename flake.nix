{
  description = "Promote container releases by a quorum of independent builders";

  inputs = {
    nixpkgs.url = "github:NixOS/nixpkgs/nixos-unstable";
    nix2container.url = "github:nlewo/nix2container";
    nix2container.inputs.nixpkgs.follows = "nixpkgs";
  };

  outputs =
    {
      self,
      nixpkgs,
      nix2container,
    }:
    let
      systems = [
        "x86_64-linux"
        "aarch64-linux"
        "x86_64-darwin"
        "aarch64-darwin"
      ];
      eachSystem =
        outputs: nixpkgs.lib.genAttrs systems (system: outputs nixpkgs.legacyPackages.${system});
      package = pkgs: pkgs.callPackage ./nix/package.nix { };
    in
    {
      lib = import ./nix/lib.nix;

      flakeModules.default = import ./nix/flake-module.nix {
        quorate = self;
        inherit nix2container;
      };

      overlays.default = final: _: { quorate = package final; };

      packages = eachSystem (pkgs: rec {
        quorate = package pkgs;
        default = quorate;
      });

      apps = eachSystem (pkgs: {
        default = {
          type = "app";
          program = "${package pkgs}/bin/quorate";
        };
      });

      devShells = eachSystem (pkgs: {
        default = pkgs.mkShell {
          inputsFrom = [ (package pkgs) ];
          packages = [
            pkgs.clippy
            pkgs.rustfmt
            pkgs.just
            pkgs.skopeo
          ];
        };
      });

      checks = eachSystem (
        pkgs:
        let
          cargo =
            tools: command:
            (package pkgs).overrideAttrs (before: {
              nativeBuildInputs = (before.nativeBuildInputs or [ ]) ++ tools;
              buildPhase = "cargo ${command}";
              installPhase = "touch $out";
            });
          failed = builtins.attrNames (
            nixpkgs.lib.filterAttrs (_: test: test.expr != test.expected) (import ./nix/tests.nix)
          );
        in
        {
          package = package pkgs;
          tests = cargo [ pkgs.git ] "test";
          clippy = cargo [ pkgs.clippy ] "clippy --workspace --all-targets -- -D warnings";
          format = cargo [ pkgs.rustfmt ] "fmt --check";
          lib =
            if failed == [ ] then
              pkgs.writeText "lib-tests" "all hold"
            else
              throw "nix/tests.nix: ${builtins.concatStringsSep ", " failed}";
        }
      );
    };
}
