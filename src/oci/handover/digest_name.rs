//! The file names of docker's multi-platform example: an empty file for each image, named by the
//! 64 hex digits of its digest.

use super::{HandoverError, Source, Stated};
use crate::oci::{Digest, Repository};

/// The image of `repository` that a file of this name and size stands for.
///
/// # Errors
/// When the name is not 64 lower-case hex digits, or the file is not empty.
pub fn digest_name(name: &str, size: u64, repository: &Repository) -> Result<Source, HandoverError> {
    let digest: Digest = format!("sha256:{name}")
        .parse()
        .map_err(|_| HandoverError::new("its name is not the 64 lower-case hex digits of a digest"))?;
    if size != 0 {
        return Err(HandoverError::new(format!(
            "it has {size} bytes; the name of an empty file is the digest"
        )));
    }
    Ok(Source::in_repository(repository, digest, Stated::default()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_64_hex_digits() {
        let repository: Repository = "r.example/app".parse().unwrap();
        let hex = "0123456789abcdef".repeat(4);
        let source = digest_name(&hex, 0, &repository).unwrap();
        assert_eq!(source.place.to_string(), format!("r.example/app@sha256:{hex}"));
        assert!(digest_name(&hex, 1, &repository).is_err());
        for bad in
            ["", &hex[1..], &format!("{hex}0"), &hex.to_uppercase(), &format!("sha256:{hex}"), ".DS_Store"]
        {
            assert!(digest_name(bad, 0, &repository).is_err(), "{bad:?} was accepted");
        }
    }
}
