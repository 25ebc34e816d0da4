# In the place of nixpkgs: what flake.nix asks of it, and nothing that could be built.
{
  outputs =
    { self }:
    let
      lib = {
        cleanSource = path: path;
        filterAttrs =
          keep: set:
          removeAttrs set (builtins.filter (name: !keep name set.${name}) (builtins.attrNames set));
        genAttrs =
          names: value:
          builtins.listToAttrs (
            map (name: {
              inherit name;
              value = value name;
            }) names
          );
        licenses.asl20 = "Apache-2.0";
        optionalString = condition: text: if condition then text else "";
      };
      for =
        system:
        let
          make =
            arguments:
            derivation {
              name = "${arguments.pname or arguments.name}-${arguments.version or "0"}";
              inherit system;
              builder = "/bin/sh";
            }
            // {
              inherit arguments;
              inherit (arguments) meta;
              overrideAttrs = change: make (arguments // change arguments);
            };
          tool =
            name:
            make {
              inherit name;
              meta = { };
            };
        in
        {
          callPackage = path: _: import path {
            inherit lib;
            rustPlatform.buildRustPackage = make;
            stdenv = {
              buildPlatform.canExecute = host: host == system;
              hostPlatform = system;
            };
            installShellFiles = tool "install-shell-files";
          };
          mkShell = _: tool "shell";
          writeText = name: _: tool name;
          clippy = tool "clippy";
          git = tool "git";
          just = tool "just";
          rustfmt = tool "rustfmt";
          skopeo = tool "skopeo";
        };
    in
    {
      inherit lib;
      legacyPackages = lib.genAttrs [
        "x86_64-linux"
        "aarch64-linux"
        "x86_64-darwin"
        "aarch64-darwin"
      ] for;
    };
}
