//! Who holds how much of some room, so that nobody takes all of it.
//!
//! A holder may have as much as is free beside it ([`crate::share`]): one alone gets half; with two that want all they can get each has a
//! third, and a third is free for whoever comes. Where one message needs more than half, one alone gets that.

use std::net::IpAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::connections::source_of;
use crate::share::{Holdings, Share};

/// Whose share of the room for what comes in it is.
#[derive(Clone, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub enum Holder {
    /// A login, from wherever it is used.
    Login(Arc<str>),
    /// A source without login.
    Source(IpAddr),
}

impl Holder {
    /// Of a session with this login, from this address.
    #[must_use]
    pub fn new(login: Option<&str>, peer: IpAddr) -> Self {
        match login {
            Some(login) => Self::Login(login.into()),
            None => Self::Source(source_of(peer)),
        }
    }
}

/// What each holder has, in units.
#[derive(Debug)]
pub(super) struct Shares<H> {
    held: Arc<Mutex<Holdings<H, u32>>>,
}

/// A part of its holder's share; given back when dropped.
#[derive(Debug)]
pub(super) struct Claim<H: Clone + Ord> {
    shares: Shares<H>,
    holder: H,
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

impl<H> Default for Shares<H> {
    fn default() -> Self {
        Self {
            held: Arc::default(),
        }
    }
}

impl<H: Clone + Ord> Shares<H> {
    pub(super) fn claim(&self, holder: H, message_units: u32) -> Claim<H> {
        Claim {
            shares: Self {
                held: Arc::clone(&self.held),
            },
            holder,
            message_units,
            units: 0,
        }
    }

    /// Makes looking and taking one step. No claim may be dropped meanwhile.
    pub(super) fn lock(&self) -> MutexGuard<'_, Holdings<H, u32>> {
        // Entries change by one addition at a time: no panic leaves one half done.
        self.held.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What a holder has, in units.
    pub(super) fn of(&self, holder: &H) -> u32 {
        self.lock().of(holder)
    }

    #[cfg(test)]
    pub(super) fn holders(&self) -> usize {
        self.lock().count()
    }
}

impl<H: Clone + Ord> Claim<H> {
    /// Whether the holder may have so many units more.
    pub(super) fn is_fair(&self, held: &Holdings<H, u32>, more: u32, room: Room) -> bool {
        let Some(free) = room.free.checked_sub(more) else {
            return false;
        };
        let after = u64::from(held.of(&self.holder)) + u64::from(more);
        // One alone gets half, or as much as the largest message needs.
        let alone = self.message_units.max(room.total / 2).min(room.total);
        Share::of_all(alone, room.total).fits(after, free.into())
    }

    pub(super) fn add(&mut self, held: &mut Holdings<H, u32>, units: u32) {
        held.change(self.holder.clone(), |held| *held += units);
        self.units += units;
    }

    pub(super) fn units(&self) -> u32 {
        self.units
    }

    pub(super) fn give_back(&mut self, units: u32) {
        let mut held = self.shares.lock();
        let units = units.min(self.units);
        self.units -= units;
        held.change(self.holder.clone(), |held| {
            *held = held.saturating_sub(units);
        });
    }
}

impl<H: Clone + Ord> Drop for Claim<H> {
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
        let mut held = Holdings::default();
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
            assert!(claim.is_fair(&Holdings::default(), most, room));
            assert!(!claim.is_fair(&Holdings::default(), most + 1, room));
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
