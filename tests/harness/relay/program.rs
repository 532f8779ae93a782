//! The program under test.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

use crate::root;

/// The relay program, built once per test run.
pub(super) fn path() -> &'static Path {
    static PROGRAM: OnceLock<PathBuf> = OnceLock::new();
    PROGRAM.get_or_init(|| {
        let status = Command::new(env!("CARGO"))
            .args(["build", "--quiet", "--locked", "-p", "postroad-relay"])
            // As the tests themselves.
            .args((!cfg!(debug_assertions)).then_some("--release"))
            .current_dir(root())
            .status()
            .unwrap();
        assert!(status.success(), "the relay could not be built");
        // target/debug/deps/<test> -> target/debug/postroad-relay
        let own = std::env::current_exe().unwrap();
        own.parent()
            .unwrap()
            .parent()
            .unwrap()
            .join("postroad-relay")
    })
}
