//! How many connections there are and may be, by standing of the domain and by whose they are. Pure.
//!
//! Connections to domains count for the login whose mail they were opened for, for the network, or for reports ([`Turn`]): each of
//! these may have [three times](SHARE) what it leaves free, and one in any case, of all, of those to domains that have not shown that
//! they work, and of those to domains that failed. So one alone has three quarters, and however many domains of one hang, the next one's
//! mail finds a connection.

use super::lanes::Turn;
use super::site::Standing;
use crate::share::{Holdings, Share};

/// Most connections to other servers at once, all destinations together, where the system sets no lower bound: they cost some 40 MiB,
/// and keep a busy relay's links full.
pub const CONNECTIONS_MAX: u32 = 2_000;

/// Of so many parts of them one may be to domains that have not shown that they work: what hangs leaves the others half of all.
const UNPROVEN_PARTS: u32 = 2;

/// Of so many parts of them one may be to domains that failed when they were last tried: what is tried for the first time is not kept
/// waiting by them.
const FAILING_PARTS: u32 = 8;

/// What each may have of what it leaves free. Most relays have one: it should lose little.
const SHARE: Share = Share::times(3);

/// How many connections there are, and may be.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Connections {
    by_standing: Counts,
    most: u32,
}

/// By [`Standing`].
type Counts = [u32; 3];

impl Default for Connections {
    fn default() -> Self {
        Self {
            by_standing: [0; 3],
            most: CONNECTIONS_MAX,
        }
    }
}

impl Connections {
    /// All of them.
    #[must_use]
    pub fn total(&self) -> u32 {
        self.by_standing.iter().sum()
    }

    /// Those to domains that have not shown that they work.
    #[must_use]
    pub fn unproven(&self) -> u32 {
        unproven(self.by_standing)
    }

    /// Most of those to domains that have not shown that they work.
    #[must_use]
    pub fn unproven_max(&self) -> u32 {
        (self.most / UNPROVEN_PARTS).max(1)
    }

    /// Most of those to domains that failed when they were last tried.
    #[must_use]
    pub fn failing_max(&self) -> u32 {
        (self.most / FAILING_PARTS).max(1)
    }

    /// At most so many, and one at least.
    pub(super) fn set_most(&mut self, most: u32) {
        self.most = most.clamp(1, CONNECTIONS_MAX);
    }

    /// Whether one more may be opened to a destination of this standing.
    pub(super) fn allows(&self, standing: Standing) -> bool {
        self.bounds(standing, [0; 3])
            .into_iter()
            .flatten()
            .all(|bound| bound.free() > 0)
    }

    /// The same for one that has these.
    fn allows_one(&self, standing: Standing, held: Counts) -> bool {
        self.bounds(standing, held)
            .into_iter()
            .flatten()
            .all(Bound::is_fair)
    }

    /// The bounds that count for a destination of this standing.
    fn bounds(&self, standing: Standing, held: Counts) -> [Option<Bound>; 3] {
        let bound = |used, most, held| Some(Bound { used, most, held });
        let total = bound(self.total(), self.most, held.iter().sum());
        let unproven = bound(self.unproven(), self.unproven_max(), unproven(held));
        let failing = Standing::Failing as usize;
        let failing = bound(self.by_standing[failing], self.failing_max(), held[failing]);
        match standing {
            Standing::Proven => [total, None, None],
            Standing::Fresh => [total, unproven, None],
            Standing::Failing => [total, unproven, failing],
        }
    }
}

fn unproven(counts: Counts) -> u32 {
    counts[Standing::Fresh as usize] + counts[Standing::Failing as usize]
}

/// One of the bounds, and what one has of it.
#[derive(Clone, Copy)]
struct Bound {
    used: u32,
    most: u32,
    held: u32,
}

impl Bound {
    fn free(self) -> u32 {
        self.most.saturating_sub(self.used)
    }

    fn is_fair(self) -> bool {
        let Some(left) = self.free().checked_sub(1) else {
            return false;
        };
        self.held == 0 || SHARE.fits(u64::from(self.held) + 1, left.into())
    }
}

/// All connections, and whose they are.
#[derive(Debug, Default)]
pub(super) struct Ledger {
    pub(super) all: Connections,
    owners: Holdings<Turn, Counts>,
}

impl Ledger {
    /// Whether an owner may have one more to a domain of this standing.
    pub(super) fn allows(&self, standing: Standing, owner: Turn) -> bool {
        self.all.allows_one(standing, self.owners.of(&owner))
    }

    /// How many an owner has to domains of this standing.
    pub(super) fn held(&self, standing: Standing, owner: Turn) -> u32 {
        self.owners.of(&owner)[standing as usize]
    }

    /// So many, whosever they are, have another standing.
    pub(super) fn moved(&mut self, (from, before): (Standing, u32), (to, now): (Standing, u32)) {
        self.all.by_standing[from as usize] -= before;
        self.all.by_standing[to as usize] += now;
    }

    pub(super) fn add(&mut self, owner: Turn, standing: Standing) {
        self.owners
            .change(owner, |counts| counts[standing as usize] += 1);
    }

    pub(super) fn remove(&mut self, owner: Turn, standing: Standing) {
        self.owners
            .change(owner, |counts| counts[standing as usize] -= 1);
    }

    #[cfg(test)]
    pub(super) fn has_owners(&self) -> bool {
        self.owners.count() > 0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// How many each of these gets, one after the other, of so many in all.
    fn shares(standing: Standing, most: u32, owners: usize) -> Vec<u32> {
        let mut connections = Connections::default();
        connections.set_most(most);
        let gets = |_| {
            let mut held = [0; 3];
            while connections.allows_one(standing, held) {
                held[standing as usize] += 1;
                connections.by_standing[standing as usize] += 1;
            }
            held[standing as usize]
        };
        (0..owners).map(gets).collect()
    }

    #[test]
    fn one_has_three_times_what_it_leaves() {
        assert_eq!(shares(Standing::Proven, 2_000, 4), [1_500, 375, 93, 24]);
        assert_eq!(shares(Standing::Fresh, 2_000, 4), [750, 187, 47, 12]);
        assert_eq!(shares(Standing::Failing, 2_000, 4), [187, 47, 12, 3]);
    }

    #[test]
    fn each_has_one_as_long_as_there_is_any() {
        for (most, expected) in [
            (1, [1, 0, 0]),
            (2, [1, 1, 0]),
            (4, [3, 1, 0]),
            (8, [6, 1, 1]),
        ] {
            assert_eq!(shares(Standing::Proven, most, 3), expected, "{most}");
        }
        assert_eq!(shares(Standing::Failing, 8, 2), [1, 0]);
    }

    #[test]
    fn what_one_has_elsewhere_counts() {
        let connections = Connections {
            by_standing: [0, 700, 100],
            most: 2_000,
        };
        for (held, standing, expected) in [
            ([0, 0, 0], Standing::Failing, true),
            ([0, 500, 0], Standing::Failing, true),
            ([0, 700, 0], Standing::Failing, false),
            ([0, 700, 0], Standing::Fresh, false),
            ([0, 700, 0], Standing::Proven, true),
            ([0, 0, 100], Standing::Fresh, true),
        ] {
            let allowed = connections.allows_one(standing, held);
            assert_eq!(allowed, expected, "{held:?} {standing:?}");
        }
    }
}
