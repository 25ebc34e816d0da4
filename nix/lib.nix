# What the flake module computes, as functions of plain values. It needs no nixpkgs, so that it can
# be evaluated, and tested, by itself.
let
  inherit (builtins)
    attrNames
    concatMap
    concatStringsSep
    elem
    filter
    foldl'
    hasAttr
    head
    length
    listToAttrs
    mapAttrs
    match
    replaceStrings
    split
    ;

  # The ends of tags, by system: the table of src/oci/platform.rs. Others are errors, never guesses.
  suffixes = {
    x86_64-linux = "amd64";
    aarch64-linux = "arm64";
    armv7l-linux = "armv7";
    armv6l-linux = "armv6";
    i686-linux = "386";
    riscv64-linux = "riscv64";
    powerpc64le-linux = "ppc64le";
    s390x-linux = "s390x";
    loongarch64-linux = "loong64";
  };

  refuse = why: throw "quorate.images: ${why}";

  # Whatever it holds, one word of a shell in a recipe of just.
  quote = text: "'" + replaceStrings [ "'" "{{" ] [ "'\\''" "{{{{" ] text + "'";

  twice = list: filter (one: length (filter (other: other == one) list) > 1) list;
in
rec {
  inherit suffixes;

  # SYSTEM -> how its tags end.
  suffix =
    system:
    suffixes.${system}
      or (refuse "`${system}` is not a system of container images; known are ${concatStringsSep ", " (attrNames suffixes)}");

  # The systems as given, all of them known, none twice.
  checkSystems =
    systems:
    if systems == [ ] then
      refuse "`linuxSystems` is empty"
    else if twice systems != [ ] then
      refuse "`linuxSystems` names `${head (twice systems)}` twice"
    else
      filter (system: suffix system != "") systems;

  # A repository, written out: the image's own registry goes before that of all.
  repository =
    {
      name,
      registry ? null,
      defaultRegistry ? null,
    }:
    let
      host = if registry != null then registry else defaultRegistry;
    in
    if host == null then
      refuse "the image `${name}` has no registry: set `quorate.images.registry`, or that of the image"
    else if match "[a-z0-9]+([._-]+[a-z0-9]+)*" name == null then
      refuse "`${name}` is no name of an image: small letters and digits, with ._- between them"
    else
      "${host}/${name}";

  # What `quorate assemble --plan` reads.
  plan =
    { repository, systems }:
    {
      version = 1;
      inherit repository;
      images = map (system: {
        inherit system;
        suffix = suffix system;
      }) (checkSystems systems);
    };

  # { SYSTEM = { NAME = repository; }; } -> { NAME = plan; }
  plans =
    { systems, repositories }:
    mapAttrs (
      name: _:
      let
        having = filter (system: hasAttr name repositories.${system}) systems;
        named = map (system: repositories.${system}.${name}) having;
      in
      if filter (other: other != head named) named != [ ] then
        refuse "`${name}` has another repository on another system: ${concatStringsSep ", " named}"
      else
        plan {
          repository = head named;
          systems = having;
        }
    ) (foldl' (all: system: all // repositories.${system}) { } systems);

  # { SYSTEM = { NAME = image; }; } -> { NAME = image; }: images of the first system under their
  # names, those of each other as `NAME-aarch64`.
  flatten =
    { systems, imagesBySystem }:
    let
      first = head systems;
      named =
        system: name: if system == first then name else "${name}-${head (split "-" system)}";
      all = concatMap (
        system:
        map (name: {
          name = named system name;
          value = imagesBySystem.${system}.${name};
        }) (attrNames imagesBySystem.${system})
      ) systems;
      double = twice (map (image: image.name) all);
    in
    if double != [ ] then
      refuse "two images would be `images.${head double}`; give one another name"
    else
      listToAttrs all;

  # { NAME = image; } -> { NAME-image = image; }: images as packages, by the names that CI jobs build.
  imagePackages =
    images:
    listToAttrs (
      map (name: {
        name = "${name}-image";
        value = images.${name};
      }) (attrNames images)
    );

  # A layer for each package, which leaves out all that the layers before it hold.
  foldImageLayers =
    buildLayer: base: packages:
    foldl' (
      layers: package:
      layers
      ++ [
        (buildLayer {
          copyToRoot = package;
          inherit layers;
        })
      ]
    ) base packages;

  # The packages of an image, none of which is in the common layer as well.
  ownPackages =
    {
      name,
      common,
      packages,
    }:
    let
      shared = filter (package: elem (toString package) (map toString common)) packages;
    in
    if shared == [ ] then
      packages
    else
      refuse "`${name}` has packages that are in `commonPackages` already: ${
        concatStringsSep ", " (map (package: package.name or (toString package)) shared)
      }; name each in one of the two";

  # The image configuration (image-spec, `config.md`). What is empty is left out.
  imageConfig =
    {
      entrypoint,
      cmd,
      env,
      workingDir,
      user,
      labels,
      certificates,
    }:
    let
      hasCertificates = filter (pair: match "SSL_CERT_FILE=.*" pair != null) env != [ ];
      given = {
        Entrypoint = entrypoint;
        Cmd = cmd;
        Env = env ++ (if hasCertificates then [ ] else [ "SSL_CERT_FILE=${certificates}" ]);
        WorkingDir = workingDir;
        User = user;
        Labels = labels;
      };
      set = filter (key: !(elem given.${key} [ null [ ] "" { } ])) (attrNames given);
    in
    listToAttrs (
      map (name: {
        inherit name;
        value = given.${name};
      }) set
    );

  # The labels of an image: its own go before those of all, and both before the revision.
  imageLabels =
    {
      revision,
      labels,
      own,
    }:
    (if revision == null then { } else { "org.opencontainers.image.revision" = revision; })
    // labels
    // own;

  # The options by which quorate gets the login of the registry.
  credentials =
    {
      mode,
      usernameRef ? null,
      passwordRef ? null,
    }:
    {
      # `GITHUB_TOKEN` is taken for ghcr.io without being named.
      ghcr = [ ];
      gcp = [
        "--creds"
        "gcp"
      ];
      op =
        if usernameRef == null || passwordRef == null then
          refuse "`authMode = \"op\"` needs `auth.op.usernameRef` and `auth.op.passwordRef`"
        else
          [
            "--creds"
            "${usernameRef},${passwordRef}"
          ];
      # The variable that whoever calls the recipe sets: arguments are there for all to see.
      raw = [
        "--creds-env"
        "CREDS"
      ];
    }
    .${mode} or (refuse "`authMode` is ghcr, gcp, op or raw, not `${mode}`");

  # The recipes, for just. `repositories` is { NAME = repository; }, `program` the path of quorate.
  # What a user types reaches the shell through variables, never as text of a script.
  justfile =
    {
      repositories,
      systems,
      credentials,
      policy,
      program,
    }:
    let
      names = attrNames repositories;
      quorate = verb: concatStringsSep " " (map quote ([ program ] ++ [ verb ] ++ credentials));
      recipe =
        doc: header: lines:
        concatStringsSep "\n" (
          [
            "# ${doc}"
            "${header}:"
            "    #!/usr/bin/env bash"
            "    set -euo pipefail"
          ]
          ++ map (line: "    ${line}") lines
        );
      find = [
        "case \"$name\" in"
      ]
      ++ map (name: "  ${quote name}) repository=${quote repositories.${name}} ;;") names
      ++ [
        "  *) echo \"error: there is no image $name\" >&2; exit 2 ;;"
        "esac"
      ];
      judge = verb: "${quorate verb} --policy ${quote policy}";
      candidate = [ "tag=\${tag:-git-$(git rev-parse --verify HEAD)}" ];
      build = system: "nix build \".#imagesBySystem.${system}.$name\" --out-link \"result-${system}\"";
      each = line: concatMap (system: [ (build system) ] ++ line system) (checkSystems systems);
    in
    concatStringsSep "\n\n" [
      (recipe "Build an image for every system, as result-SYSTEM" "image-build $name" (
        find ++ each (_: [ ])
      ))
      (recipe "Print the digests that the image has once it is pushed" "image-digest $name" (
        find
        # No registry is asked, and no login needed.
        ++ each (system: [ "${quote program} push --dry-run \"result-${system}\" \"$repository\"" ])
      ))
      (recipe "Push an image for every system, as TAG-ARCHITECTURE; TAG is git-COMMIT if not given"
        "image-push $name $tag=\"\""
        (
          find
          ++ candidate
          ++ each (system: [
            "${quorate "push"} --system ${system} --suffix arch \"result-${system}\" \"$repository:$tag\""
          ])
        )
      )
      (recipe "Push all images; all are tried" "image-push-all $tag=\"\"" (
        [ "failed=0" ]
        ++ map (
          name: "{{quote(just_executable())}} -f {{quote(justfile())}} image-push ${quote name} \"$tag\" || failed=1"
        ) names
        ++ [ "exit \"$failed\"" ]
      ))
      (recipe "Put the images of all systems together into one index" "image-assemble $name $tag=\"\"" (
        find
        ++ candidate
        ++ [
          "plan=$(mktemp)"
          "trap 'rm -f \"$plan\"' EXIT"
          "nix eval --json \".#imageManifests.$name\" > \"$plan\""
          "${quorate "assemble"} \"$repository:$tag\" --plan \"$plan\""
        ]
      ))
      (recipe "Sign what was built for a system; QUORATE_BUILDER and QUORATE_KEY say as whom"
        "image-attest $name $system $tag=\"\""
        (
          find
          ++ candidate
          ++ [
            "nix build \".#imagesBySystem.$system.$name\" --out-link \"result-$system\""
            # As what is signed by a job that builds the package.
            "${quorate "attest"} \"$repository:$tag\" --system \"$system\" --target \"$name-image\" --result \"result-$system\""
          ]
        )
      )
      (recipe "Move the tag TO to the candidate, if the quorum is there" "image-promote $name $to=\"latest\" $tag=\"\"" (
        find ++ candidate ++ [ "${judge "promote"} \"$repository:$tag\" --tag \"$to\"" ]
      ))
      (recipe "Judge a release again" "image-verify $name $tag=\"latest\"" (
        find ++ [ "${judge "verify"} \"$repository:$tag\"" ]
      ))
    ]
    + "\n";
}
