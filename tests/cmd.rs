//! The help pages, and what a wrong command line gets.
//!
//! `TRYCMD=overwrite cargo test --test cmd` writes the pages anew.

#[test]
fn help_pages_are_as_reviewed() {
    trycmd::TestCases::new().case("tests/cmd/*.md").env("COLUMNS", "100").env("GITHUB_ACTIONS", "");
}
