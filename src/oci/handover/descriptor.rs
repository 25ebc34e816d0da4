//! JSON files that name one image: an OCI descriptor, as `docker buildx imagetools create --file`
//! takes, or what `--metadata-file` of buildx and of `quorate assemble` leaves.

use serde::Deserialize;
use serde_json::Value;

use super::{HandoverError, Source, Stated};
use crate::oci::descriptor::{SHAPE, Wire};
use crate::oci::json::{self, Shape};
use crate::oci::{Descriptor, Digest, Repository};

const METADATA: Shape =
    Shape::Open(&[("containerimage.digest", Shape::Any), ("containerimage.descriptor", SHAPE)]);

#[derive(Deserialize)]
struct Metadata {
    #[serde(rename = "containerimage.digest")]
    digest: Option<Digest>,
    #[serde(rename = "containerimage.descriptor")]
    descriptor: Option<Wire>,
}

/// The image of `repository` that the file names.
///
/// The annotations of a descriptor are kept: they stand in the file for the index. Those in a
/// metadata file are buildx's own, with the time of the build among them, and are not.
///
/// # Errors
/// When it is neither a whole descriptor (`mediaType`, `digest`, `size`) nor a metadata file.
pub fn descriptor(bytes: &[u8], repository: &Repository) -> Result<Source, HandoverError> {
    let value = json::parse(bytes, &Shape::Any).map_err(HandoverError::new)?;
    if value.get("containerimage.digest").is_some() || value.get("containerimage.descriptor").is_some() {
        return metadata(value, repository);
    }
    json::check(&value, &SHAPE).map_err(HandoverError::new)?;
    let wire: Wire = serde_json::from_value(value)
        .map_err(|error| HandoverError::new(format!("neither a descriptor nor a metadata file: {error}")))?;
    let descriptor = whole(wire)?;
    let stated = Stated { annotations: descriptor.annotations.clone(), ..Stated::from(&descriptor) };
    Ok(Source::in_repository(repository, descriptor.digest, stated))
}

fn metadata(value: Value, repository: &Repository) -> Result<Source, HandoverError> {
    json::check(&value, &METADATA).map_err(HandoverError::new)?;
    let Metadata { digest, descriptor } = serde_json::from_value(value).map_err(HandoverError::new)?;
    let descriptor = descriptor.map(whole).transpose()?;
    match (digest, descriptor) {
        (Some(digest), Some(descriptor)) if digest != descriptor.digest => Err(HandoverError::new(format!(
            "`containerimage.digest` is {digest}, and the descriptor names {}",
            descriptor.digest
        ))),
        (_, Some(descriptor)) => {
            Ok(Source::in_repository(repository, descriptor.digest, Stated::from(&descriptor)))
        }
        (Some(digest), None) => Ok(Source::in_repository(repository, digest, Stated::default())),
        (None, None) => Err(HandoverError::new("it names no digest")),
    }
}

fn whole(wire: Wire) -> Result<Descriptor, HandoverError> {
    let descriptor = Descriptor::try_from(wire).map_err(HandoverError::new)?;
    if descriptor.has_urls {
        return Err(HandoverError::new("the descriptor has `urls`: the image must be in the repository"));
    }
    Ok(descriptor)
}

#[cfg(test)]
mod tests {
    use super::*;

    const HEX: &str = "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef";

    fn read(text: &str) -> Result<Source, HandoverError> {
        descriptor(text.replace("HEX", HEX).as_bytes(), &"r.example/app".parse().unwrap())
    }

    const DESCRIPTOR: &str = r#"{"mediaType":"application/vnd.oci.image.manifest.v1+json","digest":"sha256:HEX","size":7,"platform":{"os":"linux","architecture":"arm64"},"annotations":{"a":"b"}}"#;

    #[test]
    fn a_descriptor_is_taken_whole() {
        let source = read(DESCRIPTOR).unwrap();
        assert_eq!(source.place.to_string(), format!("r.example/app@sha256:{HEX}"));
        assert_eq!(source.stated.platform, Some("linux/arm64".parse().unwrap()));
        assert_eq!(source.stated.size, Some(7));
        assert_eq!(source.stated.annotations.len(), 1);
        for (from, to) in [
            ("\"size\":7,", ""),
            ("\"mediaType\"", "\"MediaType\""),
            ("sha256:", "sha1:"),
            ("\"size\":7", "\"size\":7,\"size\":7"),
            ("\"size\":7", "\"size\":7,\"urls\":[\"https://x.example\"]"),
            ("\"size\":7", "\"size\":7,\"data\":\"YQ==\""),
            ("\"size\":7", "\"size\":7,\"extra\":1"),
        ] {
            let bad = DESCRIPTOR.replacen(from, to, 1);
            assert_ne!(bad, DESCRIPTOR);
            assert!(read(&bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn a_metadata_file_of_buildx_names_its_image() {
        let source = read(&format!(
            r#"{{"buildx.build.ref":"x","containerimage.digest":"sha256:HEX","image.name":"r.example/app","containerimage.descriptor":{DESCRIPTOR}}}"#
        ))
        .unwrap();
        assert_eq!(source.stated.size, Some(7));
        assert!(source.stated.annotations.is_empty());
        let bare = read(r#"{"containerimage.digest":"sha256:HEX"}"#).unwrap();
        assert_eq!((bare.place, bare.stated), (source.place, Stated::default()));
        let other = HEX.replace('0', "1");
        assert!(
            read(&format!(
                r#"{{"containerimage.digest":"sha256:{other}","containerimage.descriptor":{DESCRIPTOR}}}"#
            ))
            .is_err()
        );
        for bad in ["{}", "[]", "", r#"{"containerimage.digest":7}"#, r#"{"containerimage.digest":null}"#] {
            assert!(read(bad).is_err(), "{bad}");
        }
    }
}
