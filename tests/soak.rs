//! What takes minutes and gigabytes: `make soak`. Each test wants the machine for itself.

#![expect(
    clippy::unwrap_used,
    clippy::print_stderr,
    reason = "test code: a panic is how it says no"
)]

#[path = "soak/hanging.rs"]
mod hanging;
#[path = "soak/restart.rs"]
mod restart;
