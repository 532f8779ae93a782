//! Time and chance of a simulation: with the feature `simulation`, which no build of the program has.
//!
//! Code that runs on a host of a simulated network ([`turmoil`]) has that network's sockets ([`crate::net`]) and clock, the answers of [`resolve_by`], chance that
//! follows from [`seed`], and no threads beside it ([`crate::blocking`]): what a seed does it does again. All other code has the system's, so that the feature
//! changes nothing for the relay's own tests.

use std::cell::{Cell, RefCell};
use std::sync::Arc;

use crate::clock;
use crate::dns::Dns;

thread_local! {
    static CHANCE: Cell<u64> = const { Cell::new(0) };
    static DNS: RefCell<Option<Arc<dyn Dns>>> = const { RefCell::new(None) };
}

/// Whether the caller runs on a simulated host.
#[must_use]
pub fn is_running() -> bool {
    turmoil::since_epoch().is_some()
}

/// Determines all chance on the simulated hosts of this thread from here on.
pub fn seed(seed: u64) {
    CHANCE.set(seed);
}

/// Answers all questions to the DNS on the simulated hosts of this thread from here on.
pub fn resolve_by(dns: Arc<dyn Dns>) {
    DNS.set(Some(dns));
}

/// What answers instead of name servers, if the caller runs on a simulated host and somebody does.
pub(crate) fn dns() -> Option<Arc<dyn Dns>> {
    DNS.with_borrow(|dns| dns.clone().filter(|_| is_running()))
}

/// Milliseconds since the epoch on the simulated host that the caller runs on.
pub(crate) fn now_ms() -> Option<u64> {
    let since = turmoil::since_epoch()?;
    Some(clock::millis(since))
}

/// Fills with what follows from the seed, if the caller runs on a simulated host; whether it did.
pub(crate) fn fill(bytes: &mut [u8]) -> bool {
    if !is_running() {
        return false;
    }
    for chunk in bytes.chunks_mut(8) {
        chunk.copy_from_slice(&next().to_le_bytes()[..chunk.len()]);
    }
    true
}

/// `SplitMix64`: every state is followed by another, none is bad.
fn next() -> u64 {
    let state = CHANCE.get().wrapping_add(0x9e37_79b9_7f4a_7c15);
    CHANCE.set(state);
    let mixed = (state ^ (state >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    mixed ^ (mixed >> 31)
}
