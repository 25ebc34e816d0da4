//! `quorate key`.

use std::path::{Path, PathBuf};

use clap::{Args, Subcommand};
use serde_json::json;

use super::{Finished, PASSPHRASE, shown};
use crate::attestation::PublicKey;
use crate::edge::files;
use crate::edge::signer::{KeyPair, KeySource};
use crate::error::Error;

/// Make a builder's key, or print its public half
#[derive(Args)]
pub(super) struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Make an ECDSA P-256 key pair
    ///
    /// Writes the private key (PKCS#8 PEM, not encrypted, readable by its owner alone) to FILE
    /// and the public key beside it, with `.pub` at the end. Files that exist are left alone.
    /// `openssl pkcs8 -topk8` encrypts it; every command that takes a key takes it so, too.
    #[command(after_help = "Example:\n  quorate key generate garnix.key")]
    Generate {
        /// Where the private key goes
        file: PathBuf,
    },
    /// Print the public key of a private one
    #[command(after_help = "Example:\n  quorate key public garnix.key > keys/garnix.pub")]
    Public {
        /// The private key: a file, or `env:NAME` for the environment variable that holds it
        #[arg(value_name = "FILE|env:NAME")]
        key: KeySource,
        /// The environment variable that holds the passphrase of an encrypted key
        #[arg(long, value_name = "NAME", env = "QUORATE_KEY_PASSPHRASE_ENV", default_value = PASSPHRASE)]
        key_passphrase_env: String,
    },
}

impl Arguments {
    pub(super) fn run(&self) -> Result<Finished, Error> {
        match &self.command {
            Command::Generate { file } => {
                let mut public = file.clone().into_os_string();
                public.push(".pub");
                let public = PathBuf::from(public);
                if public.exists() {
                    return Err(Error::request(format!("`{}` exists already", shown(&public)))
                        .hint("nothing was written; name another file"));
                }
                let (signer, pem) = KeyPair::generate()?;
                let write = |path: &Path, bytes: &[u8], secret: bool| {
                    files::write_new(path, bytes, secret).map_err(|error| {
                        Error::request(format!("cannot write `{}`", shown(path))).because(error)
                    })
                };
                write(file, pem.as_bytes(), true)?;
                write(&public, signer.public().to_pem().as_bytes(), false)?;
                let text = format!("{}\n{}\n", shown(file), shown(&public));
                Ok(Finished::yes(text, document(signer.public(), Some(&shown(file)))))
            }
            Command::Public { key, key_passphrase_env } => {
                let signer = KeyPair::load(key, key_passphrase_env)?;
                Ok(Finished::yes(signer.public().to_pem(), document(signer.public(), None)))
            }
        }
    }
}

fn document(key: &PublicKey, file: Option<&str>) -> serde_json::Value {
    json!({
        "mediaType": "application/vnd.quorate.key.v1+json",
        "privateKey": file,
        "publicKey": key.to_pem(),
        "fingerprint": key.fingerprint(),
    })
}
