//! Harness shared by the test surfaces: real programs, started and stopped; a client that says exactly what it is
//! told to; certificates.
//!
//! Nothing sleeps for a fixed time: [`eventually`] waits on conditions. What a test needs and cannot have is a failure,
//! never a skip.

#![expect(
    clippy::unwrap_used,
    clippy::panic,
    clippy::print_stderr,
    reason = "test code: a panic is how it says no"
)]

pub mod client;
pub mod dns;
pub mod exchanger;
pub mod kubernetes;
pub mod pki;
pub mod provider;
pub mod relay;

use std::path::PathBuf;
use std::sync::atomic::{AtomicU16, Ordering};
use std::time::{Duration, Instant};

/// How long anything may take before it counts as broken; generous, because two cores run everything.
pub const PATIENCE: Duration = Duration::from_secs(120);

/// The top of the repository.
#[must_use]
pub fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("..")
}

/// Waits until `check` gives a value.
///
/// # Panics
/// After [`PATIENCE`], saying what it waited for.
pub async fn eventually<T>(what: &str, mut check: impl AsyncFnMut() -> Option<T>) -> T {
    let begin = Instant::now();
    loop {
        if let Some(value) = check().await {
            return value;
        }
        assert!(begin.elapsed() < PATIENCE, "gave up waiting for {what}");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

/// A port of the loopback interface that is free and that no other test of this process gets.
///
/// Below the range that the kernel hands out for outgoing connections, so that none of those takes it meanwhile.
///
/// # Panics
/// If there is none left.
#[must_use]
pub fn free_port() -> u16 {
    static NEXT: AtomicU16 = AtomicU16::new(0);
    const FIRST: u16 = 11_000;
    const COUNT: u16 = 20_000;
    // Test programs may run side by side: each begins elsewhere.
    let own = u16::try_from(std::process::id() % 97).unwrap() * 200;
    for _ in 0..COUNT {
        let offset = own.wrapping_add(NEXT.fetch_add(1, Ordering::Relaxed)) % COUNT;
        let port = FIRST + offset;
        if std::net::TcpListener::bind(("127.0.0.1", port)).is_ok() {
            return port;
        }
    }
    panic!("no free port")
}
