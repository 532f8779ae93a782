//! Harness shared by the test surfaces: real programs, started and stopped; a client that says exactly what it is
//! told to; certificates.
//!
//! Nothing sleeps for a fixed time: [`eventually`] waits on conditions. What a test needs and cannot have is a failure,
//! never a skip.

pub mod client;
pub mod pki;
pub mod provider;
pub mod relay;

use std::path::PathBuf;
use std::time::{Duration, Instant};

/// How long anything may take before it counts as broken; generous, because two cores run everything.
pub const PATIENCE: Duration = Duration::from_secs(60);

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

/// A port of the loopback interface that was free a moment ago.
///
/// # Panics
/// If there is none.
#[must_use]
pub fn free_port() -> u16 {
    std::net::TcpListener::bind("127.0.0.1:0")
        .unwrap()
        .local_addr()
        .unwrap()
        .port()
}
