{
  lib,
  stdenv,
  rustPlatform,
  installShellFiles,
}:
rustPlatform.buildRustPackage {
  pname = "quorate";
  inherit ((builtins.fromTOML (builtins.readFile ../Cargo.toml)).package) version;
  src = lib.cleanSource ../.;
  cargoLock.lockFile = ../Cargo.lock;
  cargoBuildFlags = [ "--package=quorate" ];
  # The tests are a check of the flake: whoever installs the tool need not wait for them.
  doCheck = false;
  nativeBuildInputs = [ installShellFiles ];
  # The program writes them itself, so it has to run where it is built.
  postInstall = lib.optionalString (stdenv.buildPlatform.canExecute stdenv.hostPlatform) ''
    $out/bin/quorate man $out/share/man/man1
    installShellCompletion --cmd quorate \
      --bash <($out/bin/quorate completions bash) \
      --fish <($out/bin/quorate completions fish) \
      --zsh <($out/bin/quorate completions zsh)
  '';
  meta = {
    description = "Promote container releases by a quorum of independent builders";
    license = lib.licenses.asl20;
    mainProgram = "quorate";
  };
}
