//! Results as text and as JSON, one file a result. Pure: every view is a string or a value.

pub mod assemble;
pub mod attest;
pub mod html;
pub mod inspect;
pub mod markdown;
pub mod pack;
pub mod policy;
pub mod promote;
pub mod push;
pub mod split;
pub mod style;
pub mod verdict;

use serde_json::{Value, json};

use crate::error::Error;

/// The JSON document of a run that came to no result: `verdict` is null, where there would be one.
pub fn undecided(media_type: &str, error: &Error) -> Value {
    let mut document = json!({ "mediaType": media_type, "error": error_fields(error) });
    if [verdict::MEDIA_TYPE, verdict::LIST_MEDIA_TYPE, promote::MEDIA_TYPE, pack::MEDIA_TYPE]
        .contains(&media_type)
    {
        merge(&mut document, json!({ "verdict": null }));
    }
    if media_type == promote::MEDIA_TYPE {
        merge(&mut document, json!({ "outcome": "undecided", "tags": [] }));
    }
    document
}

fn error_fields(error: &Error) -> Value {
    json!({ "message": error.to_string(), "causes": error.causes(), "hint": error.next() })
}

fn merge(document: &mut Value, more: Value) {
    if let (Value::Object(document), Value::Object(more)) = (document, more) {
        document.extend(more);
    }
}
