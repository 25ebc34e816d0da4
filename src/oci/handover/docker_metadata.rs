//! `DOCKER_METADATA_OUTPUT_JSON`, the output of `docker/metadata-action`.

use serde::Deserialize;

use super::HandoverError;
use crate::oci::annotations::AnnotationError;
use crate::oci::json::{self, Shape};
use crate::oci::reference::ReferenceError;
use crate::oci::{Annotations, Reference, Repository, Tag, Target};

/// The action writes the time of its own run there, and an index would differ every time.
const CREATED: &str = "org.opencontainers.image.created=";

const SHAPE: Shape =
    Shape::Open(&[("tags", Shape::Any), ("labels", Shape::Any), ("annotations", Shape::Any)]);

/// Tags and annotations for an index.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct DockerMetadata {
    /// The tags in the repository that was asked for.
    pub tags: Vec<Tag>,
    /// Annotations of the index and its descriptors.
    pub annotations: Annotations,
    /// What was left out, and why: for people.
    pub notes: Vec<String>,
}

#[derive(Deserialize)]
struct Output {
    #[serde(default)]
    tags: Vec<String>,
    /// Each as `LEVEL:KEY=VALUE`.
    #[serde(default)]
    annotations: Vec<String>,
}

impl DockerMetadata {
    /// Reads what is there for `repository`. Other repositories' tags are left out, with a note;
    /// so are annotations of the images' own manifests, which are pushed already, and the time
    /// of creation.
    ///
    /// # Errors
    /// When it is malformed, or has no tag in `repository`.
    pub fn parse(bytes: &[u8], repository: &Repository) -> Result<Self, HandoverError> {
        let value = json::parse(bytes, &SHAPE).map_err(HandoverError::new)?;
        let output: Output = serde_json::from_value(value).map_err(HandoverError::new)?;
        let mut read = Self::default();
        let (mut elsewhere, mut out_of_reach, mut created) = (0, 0, 0);
        for name in &output.tags {
            match reference(name).map_err(HandoverError::new)? {
                Reference { repository: named, target: Target::Tag(tag) } if named == *repository => {
                    if !read.tags.contains(&tag) {
                        read.tags.push(tag);
                    }
                }
                _ => elsewhere += 1,
            }
        }
        if read.tags.is_empty() {
            return Err(HandoverError::new(format!("it has no tag in `{repository}`")));
        }
        for annotation in &output.annotations {
            if annotation.split_once(':').is_some_and(|(_, pair)| pair.starts_with(CREATED)) {
                created += 1;
                continue;
            }
            match read.annotations.add(annotation) {
                Ok(()) => {}
                Err(AnnotationError::OutOfReach(_)) => out_of_reach += 1,
                Err(error) => return Err(HandoverError::new(error)),
            }
        }
        if elsewhere > 0 {
            read.notes
                .push(format!("tags of other repositories than `{repository}` are left out ({elsewhere})"));
        }
        if out_of_reach > 0 {
            read.notes.push(format!(
                "annotations of manifests, which are pushed already, are left out ({out_of_reach}); \
                 DOCKER_METADATA_ANNOTATIONS_LEVELS=index makes docker/metadata-action write them for the index"
            ));
        }
        if created > 0 {
            read.notes.push(
                "`org.opencontainers.image.created` of docker/metadata-action is the time of its run, and is \
                 left out; `--commit-time` sets it"
                    .to_owned(),
            );
        }
        Ok(read)
    }
}

/// A name as the action writes it: without a host it is one of Docker Hub.
fn reference(name: &str) -> Result<Reference, ReferenceError> {
    match name.parse() {
        Err(ReferenceError::NoHost(_)) => format!("docker.io/{name}").parse(),
        read => read,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const OUTPUT: &str = r#"{"tags":["r.example/acme/app:sha-1","acme/app:sha-1","r.example/acme/app:sha-1"],"tag-names":["sha-1"],"labels":{"org.opencontainers.image.created":"2026-01-01T00:00:00.000Z"},"annotations":["index:org.opencontainers.image.created=2026-01-01T00:00:00.000Z","index:org.opencontainers.image.title=app","manifest:org.opencontainers.image.title=app"]}"#;

    fn read(text: &str, repository: &str) -> Result<DockerMetadata, HandoverError> {
        DockerMetadata::parse(text.as_bytes(), &repository.parse().unwrap())
    }

    #[test]
    fn tags_and_annotations_of_one_repository() {
        for repository in ["r.example/acme/app", "docker.io/acme/app"] {
            let read = read(OUTPUT, repository).unwrap();
            assert_eq!(read.tags, ["sha-1".parse().unwrap()]);
            let keys: Vec<&String> = read.annotations.index().keys().collect();
            assert_eq!(keys, ["org.opencontainers.image.title"]);
            assert_eq!(read.notes.len(), 3, "{:?}", read.notes);
        }
        assert!(read(OUTPUT, "r.example/acme/other").unwrap_err().to_string().contains("no tag in"));
    }

    #[test]
    fn malformed_output_is_refused() {
        for bad in [
            "",
            "{}",
            r#"{"tags":"r.example/acme/app:1"}"#,
            r#"{"Tags":["r.example/acme/app:1"]}"#,
            r#"{"tags":["r.example/acme/app:a b"]}"#,
            r#"{"tags":["r.example/acme/app"]}"#,
            r#"{"tags":["r.example/acme/app:1"],"annotations":["title"]}"#,
            r#"{"tags":["r.example/acme/app:1"],"annotations":["other:a=b"]}"#,
        ] {
            assert!(read(bad, "r.example/acme/app").is_err(), "{bad}");
        }
        assert!(read(r#"{"tags":["r.example/acme/app:1"]}"#, "r.example/acme/app").is_ok());
    }
}
