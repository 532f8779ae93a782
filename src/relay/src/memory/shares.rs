//! Who holds how much of the room for mail that comes in, so that nobody takes all of it.
//!
//! The rule is that of a switch which shares one buffer among its ports: a holder may have as much as is free afterwards, and no
//! more. One alone gets half; with two that want all they can get each has a third, and a third is free for whoever comes. Nothing has to
//! be divided beforehand, and no holder has to be known before it comes.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::connections::source_of;

/// Whose share it is.
#[derive(Clone, Debug, Eq, Hash, PartialEq)]
pub enum Holder {
    /// A login, from wherever it is used.
    Login(String),
    /// A source without login.
    Source(IpAddr),
}

impl Holder {
    /// Of a session with this login, from this address.
    #[must_use]
    pub fn new(login: Option<&str>, peer: IpAddr) -> Self {
        match login {
            Some(login) => Self::Login(login.to_owned()),
            None => Self::Source(source_of(peer)),
        }
    }
}

/// What each holder has. There is an entry for as long as a session of the holder receives, so that there are never more than
/// connections.
#[derive(Clone, Debug, Default)]
pub(super) struct Shares {
    held: Arc<Mutex<HashMap<Holder, u32>>>,
}

/// What one session has of its holder's share; given back when dropped.
#[derive(Debug)]
pub(super) struct Claim {
    shares: Shares,
    holder: Holder,
    /// The largest message that may come, in units.
    message_units: u32,
    units: u32,
}

/// How much room there is.
#[derive(Clone, Copy, Debug)]
pub(super) struct Room {
    /// All, in units.
    pub(super) total: u32,
    /// What can be had now, in units.
    pub(super) free: u32,
}

impl Shares {
    pub(super) fn claim(&self, holder: Holder, message_units: u32) -> Claim {
        Claim {
            shares: self.clone(),
            holder,
            message_units,
            units: 0,
        }
    }

    /// Makes looking and taking one step. No claim may be dropped meanwhile.
    pub(super) fn lock(&self) -> MutexGuard<'_, HashMap<Holder, u32>> {
        // Entries change by one addition at a time: no panic leaves one half done.
        self.held.lock().unwrap_or_else(PoisonError::into_inner)
    }

    #[cfg(test)]
    pub(super) fn holders(&self) -> usize {
        self.lock().len()
    }
}

impl Claim {
    /// Whether the holder may have so many units more.
    pub(super) fn is_fair(&self, held: &HashMap<Holder, u32>, more: u32, room: Room) -> bool {
        let Some(free) = room.free.checked_sub(more) else {
            return false;
        };
        let after = u64::from(held.get(&self.holder).copied().unwrap_or(0)) + u64::from(more);
        // One alone gets half, or as much as the largest message needs.
        let alone = self.message_units.max(room.total / 2).min(room.total);
        after * u64::from(room.total - alone) <= u64::from(free) * u64::from(alone)
    }

    pub(super) fn add(&mut self, held: &mut HashMap<Holder, u32>, units: u32) {
        *held.entry(self.holder.clone()).or_default() += units;
        self.units += units;
    }

    pub(super) fn give_back(&mut self, units: u32) {
        let mut held = self.shares.lock();
        let units = units.min(self.units);
        self.units -= units;
        if let Some(all) = held.get_mut(&self.holder) {
            *all = all.saturating_sub(units);
            if *all == 0 {
                held.remove(&self.holder);
            }
        }
    }
}

impl Drop for Claim {
    fn drop(&mut self) {
        self.give_back(self.units);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_holder_gets_half_two_get_a_third_each() {
        let shares = Shares::default();
        let mut held = HashMap::new();
        let mut taken = 0_u32;
        let peers = ["192.0.2.1", "192.0.2.2", "192.0.2.3"];
        for (peer, expected) in peers.into_iter().zip([60, 30, 15]) {
            let mut claim = shares.claim(Holder::new(None, peer.parse().unwrap()), 10);
            let room = |taken: u32| Room {
                total: 120,
                free: 120 - taken,
            };
            let mut got = 0;
            while claim.is_fair(&held, 1, room(taken)) {
                claim.add(&mut held, 1);
                (taken, got) = (taken + 1, got + 1);
            }
            assert_eq!(got, expected, "{peer}: there is always something left");
            std::mem::forget(claim);
        }
    }

    #[test]
    fn one_alone_always_gets_a_message_of_the_largest_size() {
        for message_units in [10, 60, 100, 120, 500] {
            let shares = Shares::default();
            let claim = shares.claim(Holder::Login("u".into()), message_units);
            let room = Room {
                total: 120,
                free: 120,
            };
            let most = message_units.clamp(60, 120);
            assert!(claim.is_fair(&HashMap::new(), most, room));
            assert!(!claim.is_fair(&HashMap::new(), most + 1, room));
        }
    }

    #[test]
    fn a_login_is_one_holder_wherever_it_comes_from_and_so_is_a_network_of_one_host() {
        let holder = |login, peer: &str| Holder::new(login, peer.parse().unwrap());
        assert_eq!(
            holder(Some("u"), "192.0.2.1"),
            holder(Some("u"), "192.0.2.2")
        );
        assert_ne!(holder(None, "192.0.2.1"), holder(None, "192.0.2.2"));
        assert_eq!(
            holder(None, "2001:db8::1"),
            holder(None, "2001:db8::ffff:1")
        );
        assert_eq!(holder(None, "::ffff:192.0.2.1"), holder(None, "192.0.2.1"));
    }
}
