# Evaluates the flake of a user, at the path `example`, with the stand-ins of ./module.nix.
example:
(import example).outputs {
  just-flake.flakeModule = { };
  quorate.flakeModules.default = { };
  flake-parts.lib.mkFlake =
    _: user:
    import ./module.nix {
      settings = user;
      justFlake = true;
      perSystem =
        system:
        user.perSystem {
          pkgs = {
            bashInteractive = "/store/bash";
            cacert = "/store/cacert";
            coreutils = "/store/coreutils";
            iana-etc = "/store/iana-etc";
          };
          self'.packages = {
            klotho = "/store/klotho-${system}";
            poseidon = "/store/poseidon-${system}";
          };
        };
    };
}
