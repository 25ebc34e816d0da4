#!/usr/bin/env bash
# Finds or builds the program: FOLDER, or PATH, or BUILD_WITH (cargo, nix) from SOURCE into BUILT.
set -euo pipefail

if [[ -z $FOLDER ]] && ! command -v quorate; then
    source=$(realpath "$SOURCE")
    case $BUILD_WITH in
    nix)
        nix --extra-experimental-features 'nix-command flakes' \
            build --no-write-lock-file --out-link "$BUILT" "path:$source"
        ;;
    # From its own folder: rust-toolchain.toml and .cargo of the caller's checkout are not for it.
    cargo) (cd "$source" && cargo install --locked --path . --root "$BUILT") ;;
    *)
        echo '::error title=quorate::build-with is neither nix nor cargo'
        exit 2
        ;;
    esac
    FOLDER=$BUILT/bin
fi
if [[ -n $FOLDER ]]; then
    if [[ ! -x $FOLDER/quorate ]]; then
        echo '::error title=quorate::there is no program in the folder that path names'
        exit 2
    fi
    "$FOLDER/quorate" --version
    realpath "$FOLDER" >>"$GITHUB_PATH"
else
    quorate --version
fi
