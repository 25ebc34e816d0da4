//! Why builders got different images.

use std::fmt::Write as _;

use serde_json::{Value, json};

use crate::oci::difference::{Cause, Difference};
use crate::oci::{Digest, Platform};
use crate::text::in_line;

/// One platform, and builders that got the same other image.
#[derive(Debug, Clone)]
pub struct Split {
    /// The platform.
    pub platform: Platform,
    /// The builders.
    pub builders: Vec<String>,
    /// The configuration of the image.
    pub ours: Digest,
    /// The configuration that the builders got.
    pub theirs: Digest,
    /// What differs, as far as it could be read.
    pub differences: Vec<Difference>,
}

impl Split {
    /// What it comes to: the gravest of all that differs.
    pub fn cause(&self) -> Cause {
        self.differences.iter().map(|difference| difference.cause).min().unwrap_or(Cause::Unknown)
    }

    /// Who got the other image.
    pub fn who(&self) -> String {
        self.builders.join(", ")
    }
}

/// All splits, each with what differs.
pub fn text(splits: &[Split]) -> String {
    let mut text = String::new();
    for split in splits {
        let cause = split.cause();
        let who = in_line(&split.who());
        let _ = writeln!(text, "split {} {who}: {}: {}", split.platform, cause.code(), cause.text());
        for Difference { at, ours, theirs, cause } in &split.differences {
            let at = if at.is_empty() { cause.code() } else { at };
            let line = [at, ours, theirs].map(in_line);
            let [at, ours, theirs] = line;
            let _ = writeln!(text, "    {at}\n      image  {ours}\n      theirs {theirs}");
        }
    }
    text
}

/// The same for programs.
pub fn json(splits: &[Split]) -> Value {
    let one = |split: &Split| {
        json!({
            "platform": split.platform.to_string(),
            "builders": split.builders,
            "cause": split.cause().code(),
            "detail": split.cause().text(),
            "configDigest": { "ours": split.ours, "theirs": split.theirs },
            "differences": split.differences.iter().map(|difference| json!({
                "cause": difference.cause.code(),
                "at": difference.at,
                "ours": difference.ours,
                "theirs": difference.theirs,
            })).collect::<Vec<_>>(),
        })
    };
    splits.iter().map(one).collect()
}
