# Evaluates the flake module with the little of nixpkgs, flake-parts and nix2container that it
# needs: `settings` as in a user's flake, `perSystem` a function of the system. What nix2container
# would be asked to build comes out as it was asked.
{
  settings ? { },
  perSystem ? _: { },
  justFlake ? false,
  self ? { },
}:
let
  anything = { };
  types = {
    str = anything;
    bool = anything;
    package = anything;
    unspecified = anything;
    enum = _: anything;
    nullOr = _: anything;
    listOf = _: anything;
    attrsOf = inner: inner;
    submodule = module: { inherit module; };
  };
  lib = {
    inherit types;
    inherit (builtins) elem mapAttrs;
    mkOption = option: option // { isOption = true; };
    mkIf = condition: value: if condition then value else { };
    optional = condition: value: if condition then [ value ] else [ ];
    optionals = condition: list: if condition then list else [ ];
    optionalAttrs = condition: set: if condition then set else { };
    genAttrs =
      names: value:
      builtins.listToAttrs (
        map (name: {
          inherit name;
          value = value name;
        }) names
      );
  };

  # Every option with what was set, or its default.
  fill =
    options: given:
    builtins.mapAttrs (
      name: option:
      if !(option ? isOption) then
        fill option (given.${name} or { })
      else if option.type ? module then
        builtins.mapAttrs (
          name: value:
          let
            filled = fill (option.type.module {
              inherit name;
              config = filled;
            }).options value;
          in
          filled
        ) (given.${name} or option.default)
      else
        given.${name} or option.default
    ) options;

  module = import ../../../nix/flake-module.nix {
    quorate.packages = lib.genAttrs [ "x86_64-linux" "aarch64-linux" ] (system: {
      default = "/store/quorate-${system}";
    });
    nix2container.packages = lib.genAttrs [ "x86_64-linux" "aarch64-linux" ] (system: {
      nix2container = {
        buildLayer = layer: layer;
        buildImage = image: image // { inherit system; };
      };
    });
  };
  arguments = {
    inherit
      self
      lib
      config
      withSystem
      ;
    flake-parts-lib.mkPerSystemOption = module: module;
  };
  evaluated = module arguments;
  config = fill { inherit (evaluated.options) quorate; } settings;
  system =
    system:
    let
      pkgs = {
        buildEnv = arguments: "/store/common-${toString (builtins.length arguments.paths)}";
        cacert = "/store/cacert";
        writeText = _: text: text;
      };
      options = if justFlake then { just-flake = { }; } else { };
      per = evaluated.options.perSystem {
        inherit
          config
          options
          pkgs
          system
          ;
      };
      config = fill per.options (perSystem system);
    in
    {
      inherit config pkgs;
      made = per.config;
    };
  withSystem = name: use: use { inherit (system name) config pkgs; };
in
{
  options = removeAttrs config.quorate.images [ "nix2containerInput" ];
  perSystem = (system "x86_64-linux").config.quorate.images;
  flake = evaluated.config.flake or { };
  made = (system "x86_64-linux").made;
  packages = system': (system system').made.packages;
}
