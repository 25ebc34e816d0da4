//! Files that build jobs leave for the job that assembles, see [`crate::oci::handover`].

use std::fs::{self, DirEntry};
use std::path::{Path, PathBuf};

use super::files;
use crate::error::Error;
use crate::oci::handover::{DockerMetadata, HandoverError, Plan, Source, descriptor, digest_name, env};
use crate::oci::{Repository, Tag};

/// The most files of a folder.
const MAX_FILES: usize = 1000;

const DOCKER_METADATA: &str = "DOCKER_METADATA_OUTPUT_JSON";

/// The images of a folder of empty files, each named by the 64 hex digits of a digest.
///
/// # Errors
/// When the folder is empty, or holds anything else.
pub fn digests(folder: &Path, repository: &Repository) -> Result<Vec<Source>, Error> {
    let hint = "each file must be empty and named by the 64 hex digits of a digest; `merge-multiple: true` \
                makes actions/download-artifact put all of them into one folder";
    entries(folder)?
        .iter()
        .map(|entry| {
            let wrong = |why: String| {
                Error::request(format!("`{}` stands for no image", entry.path().display()))
                    .because(why)
                    .hint(hint)
            };
            let metadata = entry.metadata().map_err(|error| wrong(error.to_string()))?;
            if !metadata.is_file() {
                return Err(wrong("it is not a file".to_owned()));
            }
            digest_name(&entry.file_name().to_string_lossy(), metadata.len(), repository)
                .map_err(|error| wrong(error.to_string()))
        })
        .collect()
}

/// The images that a JSON or `.env` file names, or all such files of a folder. `.env` files about
/// other images are passed over.
///
/// # Errors
/// When there is no image in `repository`, or a file is neither of the two, or malformed.
pub fn descriptors(path: &Path, repository: &Repository) -> Result<Vec<Source>, Error> {
    let paths: Vec<PathBuf> = if path.is_dir() {
        entries(path)?.iter().map(DirEntry::path).collect()
    } else {
        vec![path.to_owned()]
    };
    let mut sources = Vec::new();
    for path in &paths {
        let bytes = read(path)?;
        match path.extension().and_then(|extension| extension.to_str()) {
            Some("json") => {
                sources.push(descriptor(&bytes, repository).map_err(|error| malformed(path, error))?);
            }
            Some("env") => {
                let file = env(&bytes).map_err(|error| malformed(path, error))?;
                if file.is_for(repository) {
                    sources.push(file.source(repository).map_err(|error| malformed(path, error))?);
                }
            }
            _ => {
                return Err(Error::request(format!("`{}` is neither `.json` nor `.env`", path.display()))
                    .hint("give the file of a descriptor, or a folder of nothing else"));
            }
        }
    }
    if sources.is_empty() {
        return Err(Error::request(format!("`{}` names no image of `{repository}`", path.display()))
            .hint("IMAGE_NAME of an `.env` file must be the last part of the repository's name"));
    }
    Ok(sources)
}

/// The plan of an index in `repository`, under `tag`.
///
/// # Errors
/// When it cannot be read, or is malformed or for another repository.
pub fn plan(path: &Path, repository: &Repository, tag: Option<&Tag>) -> Result<Plan, Error> {
    Plan::parse(&read(path)?, repository, tag).map_err(|error| malformed(path, error))
}

/// What `docker/metadata-action` left in the environment.
///
/// # Errors
/// When it is not there, malformed, or has nothing for `repository`.
pub fn docker_metadata(repository: &Repository) -> Result<DockerMetadata, Error> {
    let hint = "docker/metadata-action sets it for the steps after it; give its output `json` to other jobs";
    let text = std::env::var(DOCKER_METADATA).map_err(|error| {
        Error::request(format!("cannot read {DOCKER_METADATA}")).because(error).hint(hint)
    })?;
    DockerMetadata::parse(text.as_bytes(), repository).map_err(|error| {
        Error::request(format!("{DOCKER_METADATA} cannot be used")).because(error).hint(hint)
    })
}

fn read(path: &Path) -> Result<Vec<u8>, Error> {
    files::read(path)
        .map_err(|error| Error::request(format!("cannot read `{}`", path.display())).because(error))
}

fn malformed(path: &Path, error: HandoverError) -> Error {
    Error::request(format!("`{}` cannot be used", path.display()))
        .because(error)
        .hint("`quorate assemble --help` says what such files hold")
}

/// The entries of a folder that has some, by name.
fn entries(folder: &Path) -> Result<Vec<DirEntry>, Error> {
    let shown = folder.display();
    let mut entries = fs::read_dir(folder)
        .and_then(|entries| entries.take(MAX_FILES + 1).collect::<Result<Vec<_>, _>>())
        .map_err(|error| Error::request(format!("cannot read the folder `{shown}`")).because(error))?;
    if entries.is_empty() {
        return Err(Error::request(format!("the folder `{shown}` is empty"))
            .hint("did the build jobs hand anything over?"));
    }
    if entries.len() > MAX_FILES {
        return Err(Error::request(format!("the folder `{shown}` has more than {MAX_FILES} files"))
            .hint("give a folder that holds the files of one release alone"));
    }
    entries.sort_by_key(DirEntry::file_name);
    Ok(entries)
}
