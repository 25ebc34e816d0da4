# For flake-parts: images, plans for their indexes, and recipes to release them. docs/nix.md has
# every option.
{ quorate, nix2container }:
{
  self,
  config,
  lib,
  flake-parts-lib,
  withSystem,
  ...
}:
let
  inherit (lib) mkOption types;
  pure = import ./lib.nix;
  cfg = config.quorate.images;
  systems = pure.checkSystems cfg.linuxSystems;

  repositories = lib.mapAttrs (
    _: image:
    pure.repository {
      inherit (image) name registry;
      defaultRegistry = cfg.registry;
    }
  );

  option =
    type: default: description:
    mkOption { inherit type default description; };

  imageOptions =
    { name, config, ... }:
    {
      options = {
        name = option types.str name "The last part of the repository's name.";
        registry = option (types.nullOr types.str) null "In the place of `quorate.images.registry`.";
        packages = option (types.listOf types.package) [ ] "A layer for each, at the root of the image.";
        entrypoint = option (types.listOf types.str) [ ] "What is run.";
        cmd = option (types.listOf types.str) [ ] "Its arguments, unless others are given.";
        env = option (types.listOf types.str) [ ] "`NAME=value`; `SSL_CERT_FILE` is added.";
        workingDir = option types.str "/workspace" "Where it is run.";
        user = option (types.nullOr types.str) null "As whom.";
        labels = option (types.attrsOf types.str) { } "They go before those of all images.";
        tag = option types.str "latest" "The tag for local use (`copyToPodman`); no push takes it.";
        extraLayers = option (types.listOf types.unspecified) [ ] "Layers made by `buildLayer`.";
        fromImage = option types.unspecified null "An image to build upon, made by `pullImage`.";
        skipCommonLayer = option types.bool (config.fromImage != null) "Leave `commonPackages` out.";
      };
    };

  build =
    system:
    withSystem system (
      { config, pkgs, ... }:
      let
        inherit (config.quorate.images) commonPackages images;
        inherit (cfg.nix2containerInput.packages.${system}.nix2container) buildImage buildLayer;
        common = lib.optional (commonPackages != [ ]) (buildLayer {
          copyToRoot = pkgs.buildEnv {
            name = "common-env";
            paths = commonPackages;
            ignoreCollisions = true;
          };
        });
      in
      lib.mapAttrs (
        _: image:
        let
          base = lib.optionals (!image.skipCommonLayer) common;
          packages = pure.ownPackages {
            inherit (image) name packages;
            common = lib.optionals (base != [ ]) commonPackages;
          };
        in
        buildImage (
          {
            inherit (image) name tag;
            layers = pure.foldImageLayers buildLayer base packages ++ image.extraLayers;
            config = pure.imageConfig {
              inherit (image)
                entrypoint
                cmd
                env
                workingDir
                user
                ;
              labels = pure.imageLabels {
                revision = if cfg.addRevisionLabel then self.rev or self.dirtyRev or null else null;
                inherit (cfg) labels;
                own = image.labels;
              };
              certificates = "${pkgs.cacert}/etc/ssl/certs/ca-bundle.crt";
            };
          }
          // lib.optionalAttrs (image.fromImage != null) { inherit (image) fromImage; }
        )
      ) images
    );
in
{
  options.quorate.images = {
    enable = option types.bool false "Whether to make images.";
    linuxSystems = option (types.listOf types.str) (
      if cfg.linuxSystem == null then [ "x86_64-linux" ] else [ cfg.linuxSystem ]
    ) "The systems that images are built for.";
    linuxSystem = option (types.nullOr types.str) null "One system: the older form of `linuxSystems`.";
    registry = option (types.nullOr types.str) null "Where images go, such as `ghcr.io/acme`.";
    labels = option (types.attrsOf types.str) { } "Labels of all images.";
    addRevisionLabel =
      option types.bool true
        "Label images with the commit of the flake (`org.opencontainers.image.revision`).";
    authMode = option (types.enum [
      "ghcr"
      "gcp"
      "op"
      "raw"
    ]) "ghcr" "How the recipes log in.";
    policy = option types.str "quorate.toml" "The policy, seen from the folder of the justfile.";
    auth.op.usernameRef = option (types.nullOr types.str) null "`op://VAULT/ITEM/FIELD`.";
    auth.op.passwordRef = option (types.nullOr types.str) null "`op://VAULT/ITEM/FIELD`.";
    nix2containerInput = option types.unspecified nix2container "The flake of nix2container.";
  };

  options.perSystem = flake-parts-lib.mkPerSystemOption (
    {
      config,
      options,
      pkgs,
      system,
      ...
    }:
    let
      justfile = pure.justfile {
        repositories = repositories config.quorate.images.images;
        inherit systems;
        inherit (cfg) policy;
        credentials = pure.credentials {
          mode = cfg.authMode;
          inherit (cfg.auth.op) usernameRef passwordRef;
        };
        program = "${quorate.packages.${system}.default}/bin/quorate";
      };
    in
    {
      options.quorate.images = {
        commonPackages = option (types.listOf types.package) [ ] "One layer, the same in all images.";
        images = option (types.attrsOf (types.submodule imageOptions)) { } "The images, by name.";
      };
      config = lib.mkIf cfg.enable (
        {
          packages = {
            images-just = pkgs.writeText "images.just" justfile;
          }
          // lib.optionalAttrs (lib.elem system systems) (pure.imagePackages (build system));
        }
        // lib.optionalAttrs (options ? just-flake) {
          just-flake.features.images = {
            enable = true;
            inherit justfile;
          };
        }
      );
    }
  );

  config = lib.mkIf cfg.enable {
    flake = rec {
      imagesBySystem = lib.genAttrs systems build;
      images = pure.flatten { inherit systems imagesBySystem; };
      imageManifests = pure.plans {
        inherit systems;
        repositories = lib.genAttrs systems (
          system: withSystem system ({ config, ... }: repositories config.quorate.images.images)
        );
      };
    };
  };
}
