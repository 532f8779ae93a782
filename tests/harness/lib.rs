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
pub mod hop;
pub mod kubernetes;
pub mod peer;
pub mod pki;
pub mod provider;
pub mod relay;

use std::net::TcpListener;
use std::path::PathBuf;
use std::sync::{Mutex, PoisonError};
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

/// Ports below the range that the kernel hands out for outgoing connections, so that none of those takes one meanwhile.
const PORTS: std::ops::Range<u16> = 11_000..31_000;

/// Ports that a test program claims together. Several may run side by side; whoever has the first one bound owns all.
const BLOCK: usize = 500;

/// What a test program owns.
struct Ports {
    claims: Vec<TcpListener>,
    left: std::ops::Range<u16>,
}

/// A port of the loopback interface that is free and that no other test gets.
///
/// # Panics
/// If there is none left.
#[must_use]
pub fn free_port() -> u16 {
    static PORTS: Mutex<Ports> = Mutex::new(Ports {
        claims: Vec::new(),
        left: 0..0,
    });
    let is_free = |port: &u16| TcpListener::bind(("127.0.0.1", *port)).is_ok();
    let mut ports = PORTS.lock().unwrap_or_else(PoisonError::into_inner);
    loop {
        if let Some(port) = ports.left.find(is_free) {
            return port;
        }
        ports.claim();
    }
}

impl Ports {
    fn claim(&mut self) {
        for first in PORTS.step_by(BLOCK) {
            if let Ok(claim) = TcpListener::bind(("127.0.0.1", first)) {
                self.claims.push(claim);
                self.left = first + 1..first + u16::try_from(BLOCK).unwrap();
                return;
            }
        }
        panic!("no free port");
    }
}
