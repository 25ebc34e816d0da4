//! A plan: which images a release is put together of, written down beforehand.

use std::collections::BTreeMap;

use serde::Deserialize;

use super::{HandoverError, Source, Stated};
use crate::oci::json::{self, Shape};
use crate::oci::reference::ReferenceError;
use crate::oci::{Digest, Place, Repository, System, Tag};

const SHAPE: Shape = Shape::Closed(&[
    ("version", Shape::Any),
    ("repository", Shape::Any),
    (
        "images",
        Shape::List(&Shape::Closed(&[
            ("system", Shape::Any),
            ("suffix", Shape::Any),
            ("tag", Shape::Any),
            ("digest", Shape::Any),
        ])),
    ),
    ("annotations", Shape::Any),
]);

/// The images of a release and the annotations of its index.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Plan {
    /// The images, each with the platform it must have.
    pub sources: Vec<Source>,
    /// Annotations of the index.
    pub annotations: BTreeMap<String, String>,
}

#[derive(Deserialize)]
struct File {
    version: u64,
    repository: String,
    images: Vec<Image>,
    #[serde(default)]
    annotations: BTreeMap<String, String>,
}

#[derive(Deserialize)]
struct Image {
    system: String,
    suffix: Option<String>,
    tag: Option<String>,
    digest: Option<Digest>,
}

impl Plan {
    /// Reads a plan for an index in `repository`, under `tag` if it has one. An image's `suffix`
    /// is put after that tag and a dash.
    ///
    /// # Errors
    /// When the plan is malformed, is for another repository, or an image is not named in exactly
    /// one way.
    pub fn parse(bytes: &[u8], repository: &Repository, tag: Option<&Tag>) -> Result<Self, HandoverError> {
        let value = json::parse(bytes, &SHAPE).map_err(HandoverError::new)?;
        let file: File = serde_json::from_value(value).map_err(HandoverError::new)?;
        if file.version != 1 {
            return Err(HandoverError::new(format!("version {} is not known; known is 1", file.version)));
        }
        let of: Repository = file.repository.parse().map_err(HandoverError::new)?;
        if of != *repository {
            return Err(HandoverError::new(format!("it is for `{of}`, not for `{repository}`")));
        }
        let named = |tag: &str| -> Result<_, HandoverError> {
            Ok(repository.at_tag(tag.parse().map_err(|error: ReferenceError| HandoverError::new(error))?))
        };
        let place = |image: &Image| match (&image.suffix, &image.tag, image.digest) {
            (Some(suffix), None, None) => {
                let tag = tag.ok_or_else(|| {
                    HandoverError::new(format!("the suffix `{suffix}` needs a TARGET with a tag"))
                })?;
                named(&format!("{tag}-{suffix}"))
            }
            (None, Some(tag), None) => named(tag),
            (None, None, Some(digest)) => Ok(repository.at_digest(digest)),
            _ => Err(HandoverError::new(format!(
                "the image for {} needs one of `suffix`, `tag` and `digest`",
                image.system
            ))),
        };
        let sources = file
            .images
            .iter()
            .map(|image| {
                let system: System = image.system.parse().map_err(HandoverError::new)?;
                let stated = Stated { platform: Some(system.platform()), ..Stated::default() };
                Ok(Source { place: Place::Registry(place(image)?), stated })
            })
            .collect::<Result<Vec<_>, HandoverError>>()?;
        if sources.is_empty() {
            return Err(HandoverError::new("it has no images"));
        }
        Ok(Self { sources, annotations: file.annotations })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PLAN: &str = r#"{"version":1,"repository":"r.example/app","images":[{"system":"x86_64-linux","suffix":"amd64"},{"system":"aarch64-linux","tag":"arm"}],"annotations":{"a":"b"}}"#;

    fn read(text: &str, tag: Option<&str>) -> Result<Plan, HandoverError> {
        let tag = tag.map(|tag| tag.parse::<Tag>().unwrap());
        Plan::parse(text.as_bytes(), &"r.example/app".parse().unwrap(), tag.as_ref())
    }

    #[test]
    fn a_plan_names_images_and_their_systems() {
        let plan = read(PLAN, Some("git-1")).unwrap();
        let shown: Vec<String> = plan
            .sources
            .iter()
            .map(|s| format!("{} {}", s.place, s.stated.platform.as_ref().unwrap()))
            .collect();
        assert_eq!(shown, ["r.example/app:git-1-amd64 linux/amd64", "r.example/app:arm linux/arm64"]);
        assert_eq!(plan.annotations.len(), 1);
    }

    #[test]
    fn a_plan_that_leaves_something_open_is_refused() {
        assert!(read(PLAN, None).unwrap_err().to_string().contains("TARGET with a tag"));
        for (from, to) in [
            ("\"version\":1", "\"version\":2"),
            ("\"version\":1,", ""),
            ("r.example/app", "r.example/other"),
            ("x86_64-linux", "x86_64-darwin"),
            ("\"suffix\":\"amd64\"", "\"suffix\":\"a b\""),
            ("\"suffix\":\"amd64\"", "\"suffix\":\"amd64\",\"tag\":\"x\""),
            (",\"tag\":\"arm\"", ""),
            ("\"tag\":\"arm\"", "\"tag\":\"-arm\""),
            ("\"tag\":\"arm\"", "\"digest\":\"sha256:aa\""),
            ("\"images\"", "\"Images\""),
            ("\"annotations\":{\"a\":\"b\"}", "\"annotations\":{\"a\":1}"),
            ("\"annotations\"", "\"extra\""),
        ] {
            let bad = PLAN.replacen(from, to, 1);
            assert_ne!(bad, PLAN, "{from}");
            assert!(read(&bad, Some("git-1")).is_err(), "{bad}");
        }
        let none = r#"{"version":1,"repository":"r.example/app","images":[]}"#;
        assert!(read(none, Some("git-1")).is_err());
    }
}
