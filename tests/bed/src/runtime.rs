//! The one runtime that drives every server.
//!
//! Tests are plain functions and block on their own I/O, so the servers must be driven by
//! threads of their own.

use std::sync::OnceLock;

use tokio::runtime::{Builder, Handle, Runtime};

pub(crate) fn handle() -> &'static Handle {
    static RUNTIME: OnceLock<Runtime> = OnceLock::new();
    RUNTIME
        .get_or_init(|| {
            Builder::new_multi_thread()
                .worker_threads(2)
                .thread_name("bed")
                .enable_all()
                .build()
                .expect("the operating system grants two threads")
        })
        .handle()
}
