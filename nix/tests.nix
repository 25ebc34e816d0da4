# `{ NAME = { expr, expected }; }`, as nix-unit reads it. `nix flake check` runs them, and so does
# tests/peers/nix.rs.
let
  lib = import ./lib.nix;
  refused = value: !(builtins.tryEval (builtins.deepSeq value value)).success;
  both = [
    "x86_64-linux"
    "aarch64-linux"
  ];
  # What buildLayer would get.
  layers = lib.foldImageLayers (arguments: arguments);
  config = {
    entrypoint = [ ];
    cmd = [ ];
    env = [ ];
    workingDir = "/workspace";
    user = null;
    labels = { };
    certificates = "/ca.crt";
  };
  package = name: {
    inherit name;
    outPath = "/store/${name}";
  };
  own =
    common: packages:
    lib.ownPackages {
      name = "app";
      common = map package common;
      packages = map package packages;
    };
in
{
  testSuffixes = {
    expr = map lib.suffix both;
    expected = [
      "amd64"
      "arm64"
    ];
  };
  testUnknownSystems = {
    expr = map (system: refused (lib.suffix system)) [
      "x86_64-darwin"
      "amd64"
      ""
      "x86_64-linux"
    ];
    expected = [
      true
      true
      true
      false
    ];
  };
  testSystems = {
    expr = [
      (lib.checkSystems both)
      (refused (lib.checkSystems [ ]))
      (refused (lib.checkSystems (both ++ both)))
      (refused (lib.checkSystems [ "aarch64-darwin" ]))
    ];
    expected = [
      both
      true
      true
      true
    ];
  };

  testRepositories = {
    expr = [
      (lib.repository {
        name = "app";
        defaultRegistry = "ghcr.io/acme";
      })
      (lib.repository {
        name = "app";
        registry = "r.example/own";
        defaultRegistry = "ghcr.io/acme";
      })
      (refused (lib.repository { name = "app"; }))
      (refused (
        lib.repository {
          name = "App:latest";
          registry = "ghcr.io/acme";
        }
      ))
    ];
    expected = [
      "ghcr.io/acme/app"
      "r.example/own/app"
      true
      true
    ];
  };

  testPlans = {
    expr = lib.plans {
      systems = both;
      repositories = {
        x86_64-linux = {
          app = "r.example/app";
          tool = "r.example/tool";
        };
        aarch64-linux.app = "r.example/app";
      };
    };
    expected = {
      app = {
        version = 1;
        repository = "r.example/app";
        images = [
          {
            system = "x86_64-linux";
            suffix = "amd64";
          }
          {
            system = "aarch64-linux";
            suffix = "arm64";
          }
        ];
      };
      tool = {
        version = 1;
        repository = "r.example/tool";
        images = [
          {
            system = "x86_64-linux";
            suffix = "amd64";
          }
        ];
      };
    };
  };
  testPlanOfTwoRepositories = {
    expr = refused (
      lib.plans {
        systems = both;
        repositories = {
          x86_64-linux.app = "r.example/app";
          aarch64-linux.app = "r.example/other";
        };
      }
    );
    expected = true;
  };

  testImagesOfTheFirstSystemKeepTheirNames = {
    expr = lib.flatten {
      systems = both;
      imagesBySystem = {
        x86_64-linux.app = 1;
        aarch64-linux.app = 2;
      };
    };
    expected = {
      app = 1;
      app-aarch64 = 2;
    };
  };
  testNamesThatMeanTwoImages = {
    expr = refused (
      lib.flatten {
        systems = both;
        imagesBySystem = {
          x86_64-linux = {
            app = 1;
            app-aarch64 = 2;
          };
          aarch64-linux.app = 3;
        };
      }
    );
    expected = true;
  };

  testImagesAsPackages = {
    expr = lib.imagePackages {
      app = 1;
      tool = 2;
    };
    expected = {
      app-image = 1;
      tool-image = 2;
    };
  };

  testLayersLeaveOutWhatIsBelow = {
    expr = layers [ "common" ] [
      "a"
      "b"
    ];
    expected = [
      "common"
      {
        copyToRoot = "a";
        layers = [ "common" ];
      }
      {
        copyToRoot = "b";
        layers = [
          "common"
          {
            copyToRoot = "a";
            layers = [ "common" ];
          }
        ];
      }
    ];
  };
  testNoPackagesNoLayers = {
    expr = layers [ ] [ ];
    expected = [ ];
  };

  testPackagesInOneTier = {
    expr = map (one: one.name) (own [ "bash" ] [ "app" ]);
    expected = [ "app" ];
  };
  testPackagesInBothTiers = {
    expr = refused (own [ "bash" "cacert" ] [ "app" "bash" ]);
    expected = true;
  };

  testSmallestConfiguration = {
    expr = lib.imageConfig config;
    expected = {
      Env = [ "SSL_CERT_FILE=/ca.crt" ];
      WorkingDir = "/workspace";
    };
  };
  testWholeConfiguration = {
    expr = lib.imageConfig (
      config
      // {
        entrypoint = [ "/bin/app" ];
        cmd = [ "serve" ];
        env = [
          "A=b"
          "SSL_CERT_FILE=/own.crt"
        ];
        user = "1000";
        labels.a = "b";
      }
    );
    expected = {
      Entrypoint = [ "/bin/app" ];
      Cmd = [ "serve" ];
      Env = [
        "A=b"
        "SSL_CERT_FILE=/own.crt"
      ];
      WorkingDir = "/workspace";
      User = "1000";
      Labels.a = "b";
    };
  };
  testLabels = {
    expr = [
      (lib.imageLabels {
        revision = "1234";
        labels.a = "all";
        labels.b = "all";
        own.b = "own";
      })
      (lib.imageLabels {
        revision = null;
        labels = { };
        own = { };
      })
    ];
    expected = [
      {
        "org.opencontainers.image.revision" = "1234";
        a = "all";
        b = "own";
      }
      { }
    ];
  };

  testCredentials = {
    expr = [
      (lib.credentials { mode = "ghcr"; })
      (lib.credentials { mode = "gcp"; })
      (lib.credentials {
        mode = "op";
        usernameRef = "op://a/b/user";
        passwordRef = "op://a/b/password";
      })
      (lib.credentials { mode = "raw"; })
      (refused (lib.credentials { mode = "op"; }))
      (refused (lib.credentials { mode = "other"; }))
    ];
    expected = [
      [ ]
      [
        "--creds"
        "gcp"
      ]
      [
        "--creds"
        "op://a/b/user,op://a/b/password"
      ]
      [
        "--creds-env"
        "CREDS"
      ]
      true
      true
    ];
  };
}
