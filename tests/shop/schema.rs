//! The published schemas, and documents held to them.

use std::cell::RefCell;
use std::fs;
use std::path::Path;

use boon::{Compiler, SchemaIndex, Schemas};
use serde_json::Value;

/// What the `$id` of every schema begins with.
pub const BASE: &str = "https://quorate.dev/schemas/";

thread_local! {
    static KNOWN: RefCell<Known> = RefCell::new(Known::load());
}

struct Known {
    schemas: Schemas,
    compiler: Compiler,
}

impl Known {
    fn load() -> Self {
        let mut compiler = Compiler::new();
        for (name, schema) in files() {
            compiler.add_resource(&format!("{BASE}{name}"), schema).unwrap();
        }
        Self { schemas: Schemas::new(), compiler }
    }
}

/// Every schema, by file name.
pub fn files() -> Vec<(String, Value)> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("schemas");
    let read = |entry: fs::DirEntry| {
        let text = fs::read_to_string(entry.path()).unwrap();
        let name = entry.file_name().into_string().unwrap();
        let schema = serde_json::from_str(&text).unwrap_or_else(|error| panic!("{name}: {error}"));
        (name, schema)
    };
    let mut all: Vec<_> = fs::read_dir(folder).unwrap().map(|entry| read(entry.unwrap())).collect();
    all.sort_by(|(a, _), (b, _)| a.cmp(b));
    all
}

/// Holds a document to the schema in the file `name`.
pub fn check(name: &str, document: &Value) -> Result<(), String> {
    KNOWN.with_borrow_mut(|Known { schemas, compiler }| {
        let index: SchemaIndex =
            compiler.compile(&format!("{BASE}{name}"), schemas).map_err(|error| format!("{error:#}"))?;
        schemas.validate(document, index).map_err(|error| format!("{error:#}"))
    })
}

/// The file of the schema for a document that a command prints: its `mediaType` says which. A
/// predicate has none.
pub fn file_of(document: &Value) -> String {
    let Some(stated) = document["mediaType"].as_str() else { return "build-predicate.v1.json".to_owned() };
    let name = stated.strip_prefix("application/vnd.quorate.").and_then(|rest| rest.strip_suffix("+json"));
    format!("{}.json", name.unwrap_or_else(|| panic!("{stated} is no media type of ours")))
}
