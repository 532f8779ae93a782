//! Sharing without dividing beforehand. Pure.
//!
//! The rule is that of a switch which shares one buffer among its ports: whoever has something may have so many times what stays free
//! beside it, and no more. There is always something left for whoever comes, and nobody has to be known before it comes. It is asked when
//! something is taken; what is had already is never taken away.
//!
//! With [`Share::times`] *n* one alone gets *n* parts of *n* + 1, and each of *k* that want all they can get one part of *k* + 1 / *n*.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;

/// How many times what stays free beside it one may have.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Share {
    /// So many times what stays free is as much as
    times: u64,
    /// so many times what it may have.
    per: u64,
}

impl Share {
    /// Everything: there is nobody to leave room for.
    pub const ALL: Self = Self { times: 1, per: 0 };

    /// So many times.
    #[must_use]
    pub const fn times(times: u64) -> Self {
        Self { times, per: 1 }
    }

    /// By which one alone gets so much of all.
    #[must_use]
    pub fn of_all(alone: u32, all: u32) -> Self {
        Self {
            times: alone.into(),
            per: all.saturating_sub(alone).into(),
        }
    }

    /// Whether one may have so much where so much stays free beside it, in the same unit.
    #[must_use]
    pub fn fits(self, held: u64, free: u64) -> bool {
        held.saturating_mul(self.per) <= free.saturating_mul(self.times)
    }

    /// The least that has to stay free beside one that has so much.
    #[must_use]
    pub fn kept_free(self, held: u64) -> u64 {
        held.saturating_mul(self.per).div_ceil(self.times.max(1))
    }
}

/// Who has how much. There is an entry for as long as somebody has anything.
#[derive(Debug)]
pub struct Holdings<K, V> {
    held: BTreeMap<K, V>,
}

impl<K, V> Default for Holdings<K, V> {
    fn default() -> Self {
        Self {
            held: BTreeMap::new(),
        }
    }
}

impl<K: Ord, V: Copy + Default + PartialEq> Holdings<K, V> {
    /// What one has.
    pub fn of(&self, holder: &K) -> V {
        self.held.get(holder).copied().unwrap_or_default()
    }

    /// Changes what one has.
    pub fn change(&mut self, holder: K, change: impl FnOnce(&mut V)) {
        match self.held.entry(holder) {
            Entry::Vacant(entry) => {
                let mut held = V::default();
                change(&mut held);
                if held != V::default() {
                    entry.insert(held);
                }
            }
            Entry::Occupied(mut entry) => {
                change(entry.get_mut());
                if *entry.get() == V::default() {
                    entry.remove();
                }
            }
        }
    }

    /// How many have anything.
    #[cfg(test)]
    pub(crate) fn count(&self) -> usize {
        self.held.len()
    }
}

impl<K: Ord> Holdings<K, u32> {
    /// What all but one have.
    pub fn of_others(&self, holder: &K) -> u32 {
        let others = self.held.iter().filter(|(other, _)| *other != holder);
        others.fold(0, |sum, (_, held)| sum.saturating_add(*held))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_may_have_so_many_times_what_stays_free() {
        for (share, held, free, expected) in [
            (Share::times(1), 60, 60, true),
            (Share::times(1), 61, 60, false),
            (Share::times(3), 1_500, 500, true),
            (Share::times(3), 1_501, 500, false),
            (Share::times(15), 1_501, 100, false),
            (Share::times(15), 1_501, 101, true),
            (Share::times(15), 0, 0, true),
            (Share::times(15), 1, 0, false),
            (Share::ALL, u64::MAX, 0, true),
            // One alone gets 40 of 120: half of what it leaves.
            (Share::of_all(40, 120), 40, 80, true),
            (Share::of_all(40, 120), 41, 80, false),
            (Share::of_all(60, 120), 60, 60, true),
            (Share::of_all(120, 120), 120, 0, true),
            (Share::of_all(500, 120), 120, 0, true),
        ] {
            assert_eq!(share.fits(held, free), expected, "{share:?} {held} {free}");
            let enough = share.kept_free(held) <= free;
            assert_eq!(enough, expected, "{share:?} {held} {free}");
        }
    }

    /// So much as each of these gets of 1,600 if they take turns, one unit at a time, for as long as they can.
    fn take_turns(share: Share, holders: usize) -> Vec<u64> {
        let mut held = vec![0; holders];
        loop {
            let before = held.clone();
            for one in 0..holders {
                let used: u64 = held.iter().sum::<u64>() + 1;
                if used <= 1600 && share.fits(held[one] + 1, 1600 - used) {
                    held[one] += 1;
                }
            }
            if held == before {
                return held;
            }
        }
    }

    #[test]
    fn one_alone_gets_nearly_all_and_others_always_find_something() {
        for (share, holders, expected) in [
            (Share::ALL, 1, &[1600][..]),
            (Share::times(1), 1, &[800]),
            (Share::times(1), 3, &[400, 400, 400]),
            (Share::times(3), 1, &[1200]),
            (Share::times(15), 1, &[1500]),
            (Share::times(15), 2, &[774, 774]),
            (Share::times(15), 3, &[522, 522, 521]),
        ] {
            assert_eq!(take_turns(share, holders), expected, "{share:?}");
        }
    }

    #[test]
    fn each_finds_something_after_those_who_have_all_that_they_can_get() {
        let (mut free, mut shares) = (1600, Vec::new());
        for _ in 0..3 {
            let mut held = 0;
            while free > 0 && Share::times(15).fits(held + 1, free - 1) {
                (free, held) = (free - 1, held + 1);
            }
            shares.push(held);
        }
        assert_eq!(shares, [1500, 93, 6]);
    }

    #[test]
    fn who_has_nothing_is_not_kept() {
        let mut holdings = Holdings::default();
        holdings.change("a", |held| *held += 2);
        holdings.change("b", |held| *held += 1);
        holdings.change("a", |held| *held -= 1);
        holdings.change("c", |held| *held += 0);
        assert_eq!(["a", "b", "c"].map(|one| holdings.of(&one)), [1, 1, 0]);
        assert_eq!(holdings.count(), 2);
        holdings.change("a", |held| *held -= 1);
        holdings.change("b", |held| *held -= 1);
        assert_eq!((holdings.of(&"a"), holdings.count()), (0, 0));
    }
}
