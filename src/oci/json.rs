//! Strict JSON: what two parsers could read in two ways is refused.
//!
//! No duplicate key at any depth; no key that equals a known one only after case folding (Go's
//! `encoding/json` would read it as the known one); no unknown key where the document is closed.
//! What a document may hold is written down as a [`Shape`].

use std::fmt;

use serde::de::{DeserializeSeed, MapAccess, SeqAccess, Visitor};
use serde_json::map::Entry;
use serde_json::{Map, Number, Value};

/// What a JSON value may look like, as far as its keys go. Types are checked by whoever reads
/// the value into a struct.
#[derive(Debug, Clone, Copy)]
pub enum Shape {
    /// Anything, with free keys (annotations, labels, payloads that are read elsewhere).
    Any,
    /// A list whose members all have one shape.
    List(&'static Shape),
    /// An object with known keys; others are refused.
    Closed(&'static [(&'static str, Shape)]),
    /// An object with known keys; others are allowed, if they are no look-alikes.
    Open(&'static [(&'static str, Shape)]),
}

/// The most values a document may hold: far more than any has, and few enough that a document of
/// a few MiB, such as `[[],[],…`, does not take many times its size in memory.
const MAX_VALUES: usize = 250_000;

/// Why bytes are not the strict JSON document that was expected.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum JsonError {
    /// Not JSON, not UTF-8, nested too deep, followed by more, or with a duplicate key.
    #[error("not strict JSON: {0}")]
    Syntax(String),
    /// A key that some parsers read as another.
    #[error("the key `{found}` {} differs from `{known}` only in case, and parsers disagree on it", at(path))]
    LookAlike {
        /// The key as written.
        found: String,
        /// The key it resembles.
        known: &'static str,
        /// Where: keys and indexes divided by dots; empty at the top.
        path: String,
    },
    /// A key that the document's specification does not have.
    #[error("unknown key `{found}` {}", at(path))]
    Unknown {
        /// The key as written.
        found: String,
        /// Where, as above.
        path: String,
    },
    /// A list in the place of an object, which some parsers read by position.
    #[error("a list in the place of an object, {}", at(path))]
    List {
        /// Where, as above.
        path: String,
    },
}

fn at(path: &str) -> String {
    if path.is_empty() { "at the top".to_owned() } else { format!("in `{path}`") }
}

/// Reads `bytes` as one strict JSON document of the given shape.
///
/// # Errors
/// See [`JsonError`]. Numbers keep their written form as far as `serde_json` does: an integer
/// that does not fit 64 bits becomes a float, and is refused where an integer is wanted.
pub fn parse(bytes: &[u8], shape: &Shape) -> Result<Value, JsonError> {
    if bytes.iter().filter(|b| matches!(b, b',' | b'[' | b'{')).nth(MAX_VALUES).is_some() {
        return Err(JsonError::Syntax(format!("more than {MAX_VALUES} values")));
    }
    let mut deserializer = serde_json::Deserializer::from_slice(bytes);
    let value = Strict
        .deserialize(&mut deserializer)
        .and_then(|value| deserializer.end().map(|()| value))
        .map_err(|error| JsonError::Syntax(error.to_string()))?;
    check(&value, shape)?;
    Ok(value)
}

/// Holds a part of a document that [`parse`] read to the shape of its own type.
///
/// # Errors
/// All of [`JsonError`] but [`JsonError::Syntax`].
pub fn check(value: &Value, shape: &Shape) -> Result<(), JsonError> {
    match (shape, value) {
        (Shape::List(member), Value::Array(items)) => items
            .iter()
            .enumerate()
            .try_for_each(|(i, item)| check(item, member).map_err(|error| error.below(&i.to_string()))),
        (Shape::Closed(keys) | Shape::Open(keys), Value::Object(object)) => {
            for (key, member) in object {
                let path = String::new();
                if let Some((known, shape)) = keys.iter().find(|(known, _)| known == key) {
                    check(member, shape).map_err(|error| error.below(known))?;
                } else if let Some((known, _)) = keys.iter().find(|(known, _)| fold(known) == fold(key)) {
                    return Err(JsonError::LookAlike { found: shown(key), known, path });
                } else if matches!(shape, Shape::Closed(_)) {
                    return Err(JsonError::Unknown { found: shown(key), path });
                }
            }
            Ok(())
        }
        (Shape::Closed(_) | Shape::Open(_), Value::Array(_)) => Err(JsonError::List { path: String::new() }),
        _ => Ok(()),
    }
}

impl JsonError {
    /// The same, seen from one step further up.
    fn below(mut self, key: &str) -> Self {
        if let Self::LookAlike { path, .. } | Self::Unknown { path, .. } | Self::List { path } = &mut self {
            let dot = if path.is_empty() { "" } else { "." };
            path.insert_str(0, &format!("{key}{dot}"));
        }
        self
    }
}

/// Folds as Go's parser does: by way of upper case, so that `ſ` meets `s`, and `K` (Kelvin) `k`.
fn fold(key: &str) -> String {
    key.chars().flat_map(char::to_uppercase).flat_map(char::to_lowercase).collect()
}

/// A key in one line, whatever is in it.
fn shown(key: &str) -> String {
    key.chars().take(100).flat_map(char::escape_debug).collect()
}

/// Builds a `Value`, refusing duplicate keys.
struct Strict;

impl<'de> DeserializeSeed<'de> for Strict {
    type Value = Value;

    fn deserialize<D: serde::Deserializer<'de>>(self, deserializer: D) -> Result<Value, D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Strict {
    type Value = Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a JSON value")
    }

    fn visit_bool<E>(self, v: bool) -> Result<Value, E> {
        Ok(Value::Bool(v))
    }
    fn visit_i64<E>(self, v: i64) -> Result<Value, E> {
        Ok(Value::Number(v.into()))
    }
    fn visit_u64<E>(self, v: u64) -> Result<Value, E> {
        Ok(Value::Number(v.into()))
    }
    fn visit_f64<E>(self, v: f64) -> Result<Value, E> {
        Ok(Number::from_f64(v).map_or(Value::Null, Value::Number))
    }
    fn visit_str<E>(self, v: &str) -> Result<Value, E> {
        Ok(Value::String(v.to_owned()))
    }
    fn visit_string<E>(self, v: String) -> Result<Value, E> {
        Ok(Value::String(v))
    }
    fn visit_unit<E>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Value, A::Error> {
        let mut list = Vec::new();
        while let Some(item) = items.next_element_seed(Strict)? {
            list.push(item);
        }
        Ok(Value::Array(list))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut entries: A) -> Result<Value, A::Error> {
        let mut object = Map::new();
        while let Some(key) = entries.next_key::<String>()? {
            match object.entry(key) {
                Entry::Vacant(free) => free.insert(entries.next_value_seed(Strict)?),
                Entry::Occupied(taken) => {
                    return Err(serde::de::Error::custom(format!("duplicate key `{}`", shown(taken.key()))));
                }
            };
        }
        Ok(Value::Object(object))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SHAPE: Shape = Shape::Closed(&[
        ("digest", Shape::Any),
        ("os", Shape::Any),
        ("keys", Shape::List(&Shape::Open(&[("name", Shape::Any)]))),
    ]);

    #[test]
    fn plain_documents_pass() {
        for good in [r#"{"digest":"a"}"#, r#"{"keys":[{"name":1,"more":2}],"os":{"X":1,"x":2}}"#] {
            assert!(parse(good.as_bytes(), &SHAPE).is_ok(), "{good}");
        }
    }

    #[test]
    fn duplicate_keys_are_refused_at_any_depth() {
        for bad in
            [r#"{"digest":1,"digest":1}"#, r#"{"os":{"a":[{"b":1,"b":2}]}}"#, r#"{"os":{"a":1,"\u0061":1}}"#]
        {
            let error = parse(bad.as_bytes(), &SHAPE).unwrap_err();
            assert!(matches!(&error, JsonError::Syntax(e) if e.contains("duplicate key")), "{bad}: {error}");
        }
    }

    #[test]
    fn look_alike_keys_are_refused_where_keys_are_known() {
        for bad in [
            r#"{"Digest":1}"#,
            r#"{"DIGEST":1}"#,
            r#"{"oſ":1}"#,
            r#"{"\u212Aeys":1}"#,
            r#"{"keys":[{"Name":1}]}"#,
        ] {
            let error = parse(bad.as_bytes(), &SHAPE).unwrap_err();
            assert!(matches!(error, JsonError::LookAlike { .. }), "{bad}: {error}");
        }
    }

    #[test]
    fn a_key_is_told_in_one_line() {
        let told = |key: &str| parse(format!("{{\"{key}\":1}}").as_bytes(), &SHAPE).unwrap_err().to_string();
        assert_eq!(told("a\\n\\u202eb"), "unknown key `a\\n\\u{202e}b` at the top");
        assert_eq!(told("aé"), "unknown key `aé` at the top");
    }

    #[test]
    fn unknown_keys_are_refused_in_closed_objects_only() {
        assert!(matches!(parse(br#"{"extra":1}"#, &SHAPE), Err(JsonError::Unknown { .. })));
        assert!(parse(br#"{"keys":[{"extra":1}]}"#, &SHAPE).is_ok());
    }

    #[test]
    fn lists_are_refused_in_the_place_of_objects() {
        for bad in ["[1]", r#"{"keys":[["a"]]}"#] {
            assert!(matches!(parse(bad.as_bytes(), &SHAPE), Err(JsonError::List { .. })), "{bad}");
        }
        assert!(parse(br#"{"os":["a"]}"#, &SHAPE).is_ok());
    }

    #[test]
    fn what_is_not_one_document_is_refused() {
        let deep = "[".repeat(100_000);
        let dense = format!("[{}[]]", "[],".repeat(MAX_VALUES));
        assert!(
            matches!(parse(dense.as_bytes(), &Shape::Any), Err(JsonError::Syntax(e)) if e.contains("values"))
        );
        for bad in ["", "{}{}", "{} x", "\u{feff}{}", "{\"a\":}", "{\"os\":\"\\ud800\"}", deep.as_str()] {
            assert!(matches!(parse(bad.as_bytes(), &SHAPE), Err(JsonError::Syntax(_))), "{bad:.20}");
        }
        assert!(matches!(parse(b"{\"os\":\"\xff\"}", &SHAPE), Err(JsonError::Syntax(_))));
    }
}
