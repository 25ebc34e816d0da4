{ lib, rustPlatform }:
rustPlatform.buildRustPackage {
  pname = "quorate";
  inherit ((builtins.fromTOML (builtins.readFile ../Cargo.toml)).package) version;
  src = lib.cleanSource ../.;
  cargoLock.lockFile = ../Cargo.lock;
  cargoBuildFlags = [ "--package=quorate" ];
  # The tests are a check of the flake: whoever installs the tool need not wait for them.
  doCheck = false;
  meta = {
    description = "Promote container releases by a quorum of independent builders";
    license = lib.licenses.asl20;
    mainProgram = "quorate";
  };
}
