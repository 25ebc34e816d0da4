//! A promotion under fire, on the embedded registry: see [`range`].

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test ends where it fails")]

mod range;
mod shop;

use range::embedded;

#[test]
fn every_request_fails_in_every_way() {
    range::every_request_fails_in_every_way(&embedded);
}

#[test]
fn requests_fail_in_pairs() {
    range::requests_fail_in_pairs(&embedded);
}

#[test]
fn the_process_is_killed_at_every_request() {
    range::the_process_is_killed_at_every_request(&embedded);
}
