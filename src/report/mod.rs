//! Results as text and as JSON. Pure: every function returns a string or a value.

pub mod json;
pub mod text;
