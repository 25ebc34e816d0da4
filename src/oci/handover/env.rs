//! `image-<name>.env`: a few `KEY=VALUE` lines that a build job leaves for a later one. They are
//! read here and never by a shell.

use super::{HandoverError, Source, Stated};
use crate::oci::{Digest, Repository, System};

/// What such a file says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EnvFile {
    /// The image's name, the last part of its repository's.
    pub image_name: String,
    run_attr: Option<String>,
    digest: Option<Digest>,
}

/// Reads a file. Known are `IMAGE_NAME`, `RUN_ATTR` (the flake attribute that pushes the image) and
/// `IMAGE_DIGEST`.
///
/// # Errors
/// When a line is not `KEY=VALUE` with a plain value, a key is unknown or is there twice, or
/// `IMAGE_NAME` is missing.
pub fn env(bytes: &[u8]) -> Result<EnvFile, HandoverError> {
    let text = std::str::from_utf8(bytes).map_err(HandoverError::new)?;
    let (mut name, mut run_attr, mut digest) = (None, None, None);
    for (number, line) in text.lines().enumerate() {
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        let wrong = |why: &str| HandoverError::new(format!("line {}: {why}", number + 1));
        let (key, value) = line.split_once('=').ok_or_else(|| wrong("not KEY=VALUE"))?;
        let plain = |b: u8| b.is_ascii_alphanumeric() || b"._-/#:@+".contains(&b);
        if value.is_empty() || !value.bytes().all(plain) {
            return Err(wrong("a value is letters, digits and ._-/#:@+, without quotes; no shell reads it"));
        }
        let slot = match key {
            "IMAGE_NAME" => &mut name,
            "RUN_ATTR" => &mut run_attr,
            "IMAGE_DIGEST" => &mut digest,
            _ => return Err(wrong("known are IMAGE_NAME, RUN_ATTR and IMAGE_DIGEST")),
        };
        if slot.replace(value.to_owned()).is_some() {
            return Err(wrong("the key is there twice"));
        }
    }
    Ok(EnvFile {
        image_name: name.ok_or_else(|| HandoverError::new("IMAGE_NAME is missing"))?,
        run_attr,
        digest: digest.map(|digest| digest.parse()).transpose().map_err(HandoverError::new)?,
    })
}

impl EnvFile {
    /// Whether the file is about an image of this repository.
    pub fn is_for(&self, repository: &Repository) -> bool {
        repository.path().rsplit('/').next() == Some(&self.image_name)
    }

    /// The image that the file names. A system in `RUN_ATTR` says what its platform is.
    ///
    /// # Errors
    /// When the file has no digest: then it says that something was built, and not what.
    pub fn source(&self, repository: &Repository) -> Result<Source, HandoverError> {
        let digest = self.digest.ok_or_else(|| {
            HandoverError::new("IMAGE_DIGEST is missing: let the job that pushes the image write it")
        })?;
        let platform = self
            .run_attr
            .as_deref()
            .and_then(|attribute| attribute.split(['.', '#']).find_map(|part| part.parse::<System>().ok()))
            .map(|system| system.platform());
        Ok(Source::in_repository(repository, digest, Stated { platform, ..Stated::default() }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HEX: &str = "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef";

    #[test]
    fn the_lines_are_data() {
        let repository: Repository = "r.example/acme/web".parse().unwrap();
        let file = format!(
            "# by the build job\nRUN_ATTR=#packages.aarch64-linux.web-image.passthru.copyTo\nIMAGE_NAME=web\n\nIMAGE_DIGEST=sha256:{HEX}\n"
        );
        let read = env(file.as_bytes()).unwrap();
        assert!(read.is_for(&repository) && !read.is_for(&"r.example/web/agent".parse().unwrap()));
        let source = read.source(&repository).unwrap();
        assert_eq!(source.place.to_string(), format!("r.example/acme/web@sha256:{HEX}"));
        assert_eq!(source.stated.platform, Some("linux/arm64".parse().unwrap()));

        let bare = env(b"RUN_ATTR=#web-image.passthru.copyTo\nIMAGE_NAME=web\n").unwrap();
        assert!(bare.source(&repository).unwrap_err().to_string().contains("IMAGE_DIGEST is missing"));
        for bad in [
            "",
            "RUN_ATTR=#web",
            "IMAGE_NAME",
            "IMAGE_NAME=",
            "IMAGE_NAME=web\nIMAGE_NAME=web",
            "IMAGE_NAME=\"web\"",
            "IMAGE_NAME=$(id)",
            "IMAGE_NAME=`id`",
            "IMAGE_NAME=web; id",
            "export IMAGE_NAME=web",
            "IMAGE_NAME=web\nPATH=/tmp",
            "IMAGE_NAME=web\nIMAGE_DIGEST=sha256:aa",
        ] {
            assert!(env(bad.as_bytes()).is_err(), "{bad:?} was accepted");
        }
    }
}
