//! Annotations of an index and of its descriptors, as buildx writes them on a command line.

use std::collections::BTreeMap;

use super::Platform;
use super::platform::PlatformError;

/// Annotations that an index shall get.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Annotations {
    index: BTreeMap<String, String>,
    /// By platform; those without one are for every descriptor.
    descriptors: BTreeMap<(Option<Platform>, String), String>,
}

/// Why a text is not an annotation that an index can get.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum AnnotationError {
    /// There is no `=`, or nothing before it.
    #[error("write KEY=VALUE, `index:KEY=VALUE`, or `manifest-descriptor[os/architecture]:KEY=VALUE`")]
    Form,
    /// Before the colon stands something else than a level.
    #[error(
        "`{0}` is not a level that annotations have; a key with a colon in it is written `index:KEY=VALUE`"
    )]
    Level(String),
    /// A level that exists, and that `assemble` does not write.
    #[error("annotations of the level `{0}` cannot be set here: only `index` and `manifest-descriptor`")]
    OutOfReach(String),
    /// A platform stands beside the index, which has none.
    #[error("an index has no platform: write `index:KEY=VALUE`")]
    IndexPlatform,
    /// The platform is not one.
    #[error(transparent)]
    Platform(#[from] PlatformError),
    /// The same annotation is there already.
    #[error("the annotation `{0}` is given twice")]
    Twice(String),
}

impl Annotations {
    /// Adds `KEY=VALUE`, which is the index's, or `LEVEL[,LEVEL…]:KEY=VALUE`.
    ///
    /// # Errors
    /// See [`AnnotationError`]; then nothing is added that was not whole.
    pub fn add(&mut self, text: &str) -> Result<(), AnnotationError> {
        let (name, value) = text.split_once('=').ok_or(AnnotationError::Form)?;
        let (levels, key) = name.split_once(':').unwrap_or(("index", name));
        if key.is_empty() {
            return Err(AnnotationError::Form);
        }
        for level in levels.split(',') {
            let (level, platform) = match level.strip_suffix(']').and_then(|level| level.split_once('[')) {
                Some((level, platform)) => (level, Some(platform.parse::<Platform>()?)),
                None => (level, None),
            };
            let before = match (level, platform) {
                ("index", None) => self.index.insert(key.to_owned(), value.to_owned()),
                ("index", Some(_)) => return Err(AnnotationError::IndexPlatform),
                ("manifest-descriptor", platform) => {
                    self.descriptors.insert((platform, key.to_owned()), value.to_owned())
                }
                ("manifest" | "index-descriptor", _) => {
                    return Err(AnnotationError::OutOfReach(level.to_owned()));
                }
                _ => return Err(AnnotationError::Level(level.chars().take(100).collect())),
            };
            if before.is_some() {
                return Err(AnnotationError::Twice(key.to_owned()));
            }
        }
        Ok(())
    }

    /// Adds an annotation of the index.
    ///
    /// # Errors
    /// [`AnnotationError::Twice`].
    pub fn add_to_index(&mut self, key: &str, value: String) -> Result<(), AnnotationError> {
        match self.index.insert(key.to_owned(), value) {
            None => Ok(()),
            Some(_) => Err(AnnotationError::Twice(key.to_owned())),
        }
    }

    /// Takes over what `other` has and this one has not.
    pub fn fill(&mut self, other: Self) {
        for (key, value) in other.index {
            self.index.entry(key).or_insert(value);
        }
        for (key, value) in other.descriptors {
            self.descriptors.entry(key).or_insert(value);
        }
    }

    /// Those of the index.
    pub fn index(&self) -> &BTreeMap<String, String> {
        &self.index
    }

    /// Those of the descriptor of `platform`; one that names the platform goes before one that
    /// names none.
    pub fn descriptor(&self, platform: &Platform) -> BTreeMap<String, String> {
        let of = |wanted: Option<&Platform>| {
            self.descriptors
                .iter()
                .filter(move |((platform, _), _)| platform.as_ref() == wanted)
                .map(|((_, key), value)| (key.clone(), value.clone()))
                .collect::<Vec<_>>()
        };
        of(None).into_iter().chain(of(Some(platform))).collect()
    }

    /// The platforms that are named.
    pub fn platforms(&self) -> impl Iterator<Item = &Platform> {
        self.descriptors.keys().filter_map(|(platform, _)| platform.as_ref())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(texts: &[&str]) -> Result<Annotations, AnnotationError> {
        let mut annotations = Annotations::default();
        texts.iter().try_for_each(|text| annotations.add(text))?;
        Ok(annotations)
    }

    fn map(pairs: &[(&str, &str)]) -> BTreeMap<String, String> {
        pairs.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect()
    }

    #[test]
    fn levels_are_those_of_buildx() {
        let all = read(&[
            "a=1=1",
            "index:b:c=",
            "manifest-descriptor:d=all",
            "manifest-descriptor[linux/arm64/v8]:d=arm",
            "index,manifest-descriptor:e=both",
        ])
        .unwrap();
        assert_eq!(*all.index(), map(&[("a", "1=1"), ("b:c", ""), ("e", "both")]));
        let of = |platform: &str| all.descriptor(&platform.parse().unwrap());
        assert_eq!(of("linux/amd64"), map(&[("d", "all"), ("e", "both")]));
        assert_eq!(of("linux/arm64"), map(&[("d", "arm"), ("e", "both")]));
        assert_eq!(all.platforms().count(), 1);
    }

    #[test]
    fn what_cannot_be_set_is_refused() {
        let error = |texts: &[&str]| read(texts).unwrap_err();
        for text in ["", "a", "=a", "index:=a"] {
            assert_eq!(error(&[text]), AnnotationError::Form, "{text}");
        }
        assert_eq!(error(&["com:key=a"]), AnnotationError::Level("com".to_owned()));
        assert_eq!(error(&["manifest:a=b"]), AnnotationError::OutOfReach("manifest".to_owned()));
        assert_eq!(error(&["index[linux/amd64]:a=b"]), AnnotationError::IndexPlatform);
        assert!(matches!(error(&["manifest-descriptor[amd64]:a=b"]), AnnotationError::Platform(_)));
        assert_eq!(error(&["a=1", "index:a=2"]), AnnotationError::Twice("a".to_owned()));
        let twice = ["manifest-descriptor[linux/arm64]:a=1", "manifest-descriptor[linux/arm64/v8]:a=2"];
        assert_eq!(error(&twice), AnnotationError::Twice("a".to_owned()));
    }

    #[test]
    fn what_is_there_is_not_filled() {
        let mut mine = read(&["a=mine"]).unwrap();
        mine.fill(read(&["a=theirs", "b=theirs", "manifest-descriptor:c=theirs"]).unwrap());
        assert_eq!(*mine.index(), map(&[("a", "mine"), ("b", "theirs")]));
        assert_eq!(mine.descriptor(&"linux/amd64".parse().unwrap()), map(&[("c", "theirs")]));
    }
}
