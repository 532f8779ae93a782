//! Room for what is delivered, shared by tenants: large mail of one of them, on its way to servers that take it slowly, leaves room for
//! everybody else's.
//!
//! A delivery gets its room at the first place where that is fair by the rule of [`shares`](super::shares):
//! 1. in the part for delivery;
//! 2. in half of the part for receiving, as long as clients leave that half free.
//!
//! One tenant alone has half of each, or a single message that needs more; all of each where nobody else may send ([`Sharing::Alone`]).
//! Who finds no room stands in a line until it goes away; when something is given back, lines are served by who has waited for longest. A
//! tenant has one line for what is small, one for what is large, and one for what has room already and wants more, which goes first
//! ([`lines`]): what is small does not wait behind what is large, and nobody waits for what another tenant may not have.
//!
//! Some messages are delivered although that is not fair, one such at a time: what its tenant may never have by the rule, and what has waited
//! for half a minute; both only if the tenant has nothing else in memory (what is small does not count beside what is large: it
//! never ends). Such a message takes what it needs of the part for receiving. While it waits for that, receiving gets nothing more, and content
//! that is coming in is dropped with 452 at its client's next word ([`Memory::is_wanted`]): so the wait ends when the slowest of them
//! times out.

mod lines;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use tokio::sync::{Notify, OwnedSemaphorePermit, Semaphore};
use tokio::time::{Instant, sleep};

use lines::{Kind, Line, Lines};

use super::part::Part;
use super::shares::{Claim, Room, Shares};
use super::{Memory, Reservation, of_message};
use crate::room::Sharing;

/// Whose mail it is: a login, or empty for all who have none ([`crate::room::Account`]).
type Tenant = Arc<str>;

/// How long a tenant that has nothing in memory waits for a fair place. Others end theirs in that time, unless they hang.
const DEMAND_AFTER: Duration = Duration::from_secs(30);

/// Pause between two looks of one that waits. What deliveries give back is announced; what clients do, of whom there are many more, is not.
const LOOK_PAUSE: Duration = Duration::from_secs(1);

/// What is small takes one of so many parts of what is lent, at most: of the default pod's some 10 MiB.
const SMALL_PARTS: u32 = 8;

/// What there is for deliveries.
#[derive(Debug)]
pub(super) struct Lending {
    /// For delivery alone.
    own: Part,
    own_shares: Shares<Tenant>,
    /// Of what is borrowed of receiving.
    borrowed_shares: Shares<Tenant>,
    /// Whether there is nobody to leave room for.
    is_alone: AtomicBool,
    /// Of both together, what is large.
    large_shares: Shares<Tenant>,
    /// The most that is small, in units.
    small_units: u32,
    lines: Lines,
    /// A delivery has given something back.
    released: Arc<Notify>,
    /// Whose turn it is to take of receiving what would not be fair.
    turn: Arc<Semaphore>,
    /// Deliveries that wait for what clients hold.
    wanting: AtomicUsize,
}

/// What a delivery holds of its tenant's share.
#[derive(Debug)]
pub(super) struct Lease {
    claim: Claim<Tenant>,
    large: Claim<Tenant>,
    _turn: Option<OwnedSemaphorePermit>,
    released: Released,
}

/// Announces that something was given back, when dropped.
#[derive(Debug)]
struct Released(Arc<Notify>);

/// What a delivery needs.
#[derive(Clone, Debug)]
struct Want {
    line: Line,
    units: u32,
    /// What it has already.
    has: u32,
}

impl Lending {
    /// Of so many units for delivery alone and for receiving.
    pub(super) fn new(units: u32, receiving: u32) -> Self {
        Self {
            own: Part::new(units),
            own_shares: Shares::default(),
            borrowed_shares: Shares::default(),
            is_alone: AtomicBool::new(Sharing::default() == Sharing::Alone),
            large_shares: Shares::default(),
            small_units: receiving / 2 / SMALL_PARTS,
            lines: Lines::default(),
            released: Arc::default(),
            turn: Arc::new(Semaphore::new(1)),
            wanting: AtomicUsize::new(0),
        }
    }

    fn lease(
        &self,
        tenant: &Tenant,
        claim: Claim<Tenant>,
        turn: Option<OwnedSemaphorePermit>,
    ) -> Lease {
        let mut large = self.large_shares.claim(Arc::clone(tenant), 0);
        if claim.units() > self.small_units {
            large.add(&mut self.large_shares.lock(), claim.units());
        }
        Lease {
            claim,
            large,
            _turn: turn,
            released: Released(Arc::clone(&self.released)),
        }
    }

    fn ask(&self, tenant: &Tenant, bytes: u64, has: u32) -> Want {
        let units = of_message(bytes);
        let kind = match units <= self.small_units {
            _ if has > 0 => Kind::More,
            true => Kind::Small,
            false => Kind::Large,
        };
        let tenant = Arc::clone(tenant);
        Want {
            line: Line { kind, tenant },
            units,
            has,
        }
    }

    /// What one tenant may have of a place where nobody else has anything, for a message of so many units.
    fn most(&self, place: Room, units: u32) -> u32 {
        match self.is_alone.load(Ordering::SeqCst) {
            true => place.total,
            false => units,
        }
    }

    fn is_fair(&self, shares: &Shares<Tenant>, room: Room, tenant: &Tenant, units: u32) -> bool {
        let claim = shares.claim(Arc::clone(tenant), self.most(room, units));
        let held = shares.lock();
        claim.is_fair(&held, units, room)
    }

    /// What a tenant has, in units.
    fn held(&self, tenant: &Tenant) -> u32 {
        self.own_shares.of(tenant) + self.borrowed_shares.of(tenant)
    }
}

impl Memory {
    /// Room to deliver a message of so many bytes of a tenant, waiting for it; `None` only when the process is ending.
    pub async fn reserve(&self, tenant: &Arc<str>, bytes: u64) -> Option<Reservation> {
        self.lend(self.lending.ask(tenant, bytes, 0)).await
    }

    /// Room for so many bytes more, for a delivery that already holds room for a message of `held` bytes; waits for it. Never for more than
    /// there can be beside that. `None` if another delivery of the tenant waits so, or the process is ending.
    ///
    /// Whoever waits keeps what it holds, and others may wait for that: put a bound on the time.
    pub async fn reserve_beside(
        &self,
        tenant: &Arc<str>,
        held: u64,
        bytes: u64,
    ) -> Option<Reservation> {
        let want = self.lending.ask(tenant, bytes, of_message(held));
        if self.lending.lines.has(&want.line) {
            return None;
        }
        self.lend(want).await
    }

    /// Whether a message of so many bytes of a tenant would get its room now.
    #[must_use]
    pub fn has_room(&self, tenant: &Arc<str>, bytes: u64) -> bool {
        let want = self.lending.ask(tenant, bytes, 0);
        let is_fair = |(shares, room)| self.lending.is_fair(shares, room, tenant, want.units);
        !self.lending.lines.has(&want.line) && self.places().into_iter().any(is_fair)
    }

    /// Whether a message of so many bytes of a tenant would wait behind others of it.
    #[must_use]
    pub fn has_line(&self, tenant: &Arc<str>, bytes: u64) -> bool {
        self.lending
            .lines
            .has(&self.lending.ask(tenant, bytes, 0).line)
    }

    /// Whether mail of a tenant is being delivered.
    #[must_use]
    pub fn has_any_of(&self, tenant: &Arc<str>) -> bool {
        self.lending.held(tenant) > 0
    }

    /// From now on what there is for deliveries is shared by one or by many.
    pub fn share(&self, sharing: Sharing) {
        let is_alone = sharing == Sharing::Alone;
        self.lending.is_alone.store(is_alone, Ordering::SeqCst);
    }

    /// Whether a delivery waits for what clients hold.
    #[must_use]
    pub fn is_wanted(&self) -> bool {
        self.lending.wanting.load(Ordering::SeqCst) > 0
    }

    async fn lend(&self, want: Want) -> Option<Reservation> {
        // Not before those in the line that have come earlier.
        if !self.lending.lines.has(&want.line)
            && let Some(room) = self.try_lend(&want.line.tenant, want.units)
        {
            return Some(room);
        }
        self.wait(want).await
    }

    async fn wait(&self, want: Want) -> Option<Reservation> {
        let since = Instant::now();
        let (standing, mut answer) = self.lending.lines.join(&want.line, want.units);
        loop {
            self.lending
                .lines
                .serve(|line, units| self.try_lend(&line.tenant, units));
            if let Ok(room) = answer.try_recv() {
                return Some(room);
            }
            if self.may_demand(&want, since.elapsed())
                && let Ok(turn) = Arc::clone(&self.lending.turn).try_acquire_owned()
            {
                drop((answer, standing));
                return self.demand(&want, turn).await;
            }
            tokio::select! {
                biased;
                room = &mut answer => return room.ok(),
                () = self.lending.released.notified() => {}
                () = sleep(LOOK_PAUSE) => {}
            }
        }
    }

    fn try_lend(&self, tenant: &Tenant, units: u32) -> Option<Reservation> {
        let [own, borrowed] = self.places();
        self.try_lend_of(own, tenant, units, || self.lending.own.try_take(units))
            .or_else(|| {
                let take = || self.take_or_give_up(units);
                self.try_lend_of(borrowed, tenant, units, take)
            })
    }

    fn try_lend_of(
        &self,
        (shares, room): (&Shares<Tenant>, Room),
        tenant: &Tenant,
        units: u32,
        take: impl FnOnce() -> Option<OwnedSemaphorePermit>,
    ) -> Option<Reservation> {
        let most = self.lending.most(room, units);
        let mut claim = shares.claim(Arc::clone(tenant), most);
        let mut held = shares.lock();
        if !claim.is_fair(&held, units, room) {
            return None;
        }
        let permit = take()?;
        claim.add(&mut held, units);
        drop(held);
        Some(Reservation {
            permit,
            claim: None,
            lease: Some(self.lending.lease(tenant, claim, None)),
        })
    }

    /// Where room is found, and how much there is.
    fn places(&self) -> [(&Shares<Tenant>, Room); 2] {
        let own = &self.lending.own;
        let room = Room {
            total: own.units,
            free: own.free(),
        };
        [
            (&self.lending.own_shares, room),
            (&self.lending.borrowed_shares, self.borrowable()),
        ]
    }

    /// The half of receiving that is lent.
    fn borrowable(&self) -> Room {
        let Room { total, free } = self.room();
        let lent = total / 2;
        Room {
            total: lent,
            free: free.saturating_sub(total - lent),
        }
    }

    /// Whether one that has waited for so long may take what it needs, fair or not.
    fn may_demand(&self, want: &Want, waited: Duration) -> bool {
        let lent = self.receiving.units / 2;
        let place = self.lending.own.units.max(lent);
        let most = match self.lending.is_alone.load(Ordering::SeqCst) {
            true => place,
            false => place / 2,
        };
        let tenant = &want.line.tenant;
        let held = match want.units > self.lending.small_units {
            true => self.lending.large_shares.of(tenant),
            false => self.lending.held(tenant),
        };
        (want.units > most || waited >= DEMAND_AFTER) && held <= want.has
    }

    async fn demand(&self, want: &Want, turn: OwnedSemaphorePermit) -> Option<Reservation> {
        let tenant = &want.line.tenant;
        let units = want
            .units
            .min(self.receiving.units.saturating_sub(want.has));
        let permit = match self.take_or_give_up(units) {
            Some(permit) => permit,
            None => self.take_from_clients(units).await?,
        };
        let shares = &self.lending.borrowed_shares;
        let mut claim = shares.claim(Arc::clone(tenant), units);
        claim.add(&mut shares.lock(), units);
        Some(Reservation {
            permit,
            claim: None,
            lease: Some(self.lending.lease(tenant, claim, Some(turn))),
        })
    }

    async fn take_from_clients(&self, units: u32) -> Option<OwnedSemaphorePermit> {
        let _wanting = Wanting::begin(&self.lending.wanting);
        // What was kept before would never be given up by one that only waits.
        while self.give_up_oldest() {}
        self.receiving.take(units).await
    }
}

impl Lease {
    /// So many units fewer are needed.
    pub(super) fn give_back(&mut self, units: u32) {
        self.claim.give_back(units);
        self.large.give_back(units);
        self.released.0.notify_one();
    }
}

impl Drop for Released {
    fn drop(&mut self) {
        self.0.notify_one();
    }
}

/// Counts a delivery that waits for what clients hold, until dropped.
pub(super) struct Wanting<'a>(&'a AtomicUsize);

impl<'a> Wanting<'a> {
    pub(super) fn begin(wanting: &'a AtomicUsize) -> Self {
        wanting.fetch_add(1, Ordering::SeqCst);
        Self(wanting)
    }
}

impl Drop for Wanting<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::SeqCst);
    }
}

#[cfg(test)]
mod tests;
