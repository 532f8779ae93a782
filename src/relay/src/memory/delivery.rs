//! Room for what is delivered, shared by tenants: large mail of one of them, on its way to servers that take it slowly, leaves room for
//! everybody else's.
//!
//! A delivery gets its room at the first place where that is fair by the rule of [`shares`](super::shares):
//! 1. in the part for delivery;
//! 2. in half of the part for receiving, as long as clients leave that half free.
//!
//! One tenant alone has half of each, or a single message that needs more; all of each where nobody else may send ([`Sharing::Alone`]). Who finds no room waits in the line of its tenant; when
//! something is given back, lines are served by who has waited for longest. Nobody waits for what another tenant may not have.
//!
//! A message that waits for half a minute although its tenant has nothing else in memory, or that is too large for either place, is
//! delivered all the same, one such at a time: it takes what it needs of the part for receiving. While it waits for that, receiving
//! gets nothing more, and content that is coming in is dropped with 452 at its client's next word ([`Memory::is_wanted`]): so the wait ends
//! when the slowest of them times out.

use std::collections::{HashMap, VecDeque};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::{Notify, OwnedSemaphorePermit, Semaphore, oneshot};
use tokio::time::{Instant, sleep};

use super::part::Part;
use super::shares::{Claim, Room, Shares};
use super::{Memory, Reservation, of_message};
use crate::room::Sharing;

/// Whose mail it is: a login, or empty for all who have none ([`crate::room::account`]).
type Tenant = Arc<str>;

/// How long a tenant that has nothing in memory waits for a fair place. Others end theirs in that time, unless they hang.
const DEMAND_AFTER: Duration = Duration::from_secs(30);

/// Pause between two looks of one that waits. What deliveries give back is announced; what clients do, of whom there are many more, is not.
const LOOK_PAUSE: Duration = Duration::from_secs(1);

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
    lines: Mutex<Lines>,
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
    _turn: Option<OwnedSemaphorePermit>,
    released: Released,
}

/// Announces that something was given back, when dropped.
#[derive(Debug)]
struct Released(Arc<Notify>);

/// Who waits, by tenant, in the order of arrival. No line is empty.
#[derive(Debug, Default)]
struct Lines {
    waiting: HashMap<Tenant, VecDeque<Waiter>>,
    /// How many have come.
    arrivals: u64,
}

#[derive(Debug)]
struct Waiter {
    arrival: u64,
    units: u32,
    answer: oneshot::Sender<Reservation>,
}

/// What a delivery needs.
#[derive(Clone, Debug)]
struct Want {
    tenant: Tenant,
    units: u32,
    /// What it has already.
    has: u32,
}

impl Lending {
    pub(super) fn new(units: u32) -> Self {
        Self {
            own: Part::new(units),
            own_shares: Shares::default(),
            borrowed_shares: Shares::default(),
            is_alone: AtomicBool::new(Sharing::default() == Sharing::Alone),
            lines: Mutex::default(),
            released: Arc::default(),
            turn: Arc::new(Semaphore::new(1)),
            wanting: AtomicUsize::new(0),
        }
    }

    fn lease(&self, claim: Claim<Tenant>, turn: Option<OwnedSemaphorePermit>) -> Lease {
        Lease {
            claim,
            _turn: turn,
            released: Released(Arc::clone(&self.released)),
        }
    }

    /// What one tenant may have of a place where nobody else has anything, for a message of so many units.
    fn most(&self, place: Room, units: u32) -> u32 {
        match self.is_alone.load(Ordering::SeqCst) {
            true => place.total,
            false => units,
        }
    }

    /// What a tenant has, in units.
    fn held(&self, tenant: &Tenant) -> u32 {
        self.own_shares.of(tenant) + self.borrowed_shares.of(tenant)
    }

    fn lines(&self) -> MutexGuard<'_, Lines> {
        // Each step leaves the lines whole.
        self.lines.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Memory {
    /// Room to deliver a message of so many bytes of a tenant, waiting for it; `None` only when the process is ending.
    pub async fn reserve(&self, tenant: &Arc<str>, bytes: u64) -> Option<Reservation> {
        self.lend(Want {
            tenant: Arc::clone(tenant),
            units: of_message(bytes),
            has: 0,
        })
        .await
    }

    /// Room for so many bytes more, for a delivery that already holds room for a message of `held` bytes; waits for it. Never for more than
    /// there can be beside that. `None` only when the process is ending.
    ///
    /// Whoever waits keeps what it holds, and others may wait for that: put a bound on the time.
    pub async fn reserve_beside(
        &self,
        tenant: &Arc<str>,
        held: u64,
        bytes: u64,
    ) -> Option<Reservation> {
        self.lend(Want {
            tenant: Arc::clone(tenant),
            units: of_message(bytes),
            has: of_message(held),
        })
        .await
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
        // Not before those of the same tenant that have come earlier.
        let waits = self.lending.lines().waiting.contains_key(&want.tenant);
        if !waits && let Some(room) = self.try_lend(&want.tenant, want.units) {
            return Some(room);
        }
        self.wait(want).await
    }

    async fn wait(&self, want: Want) -> Option<Reservation> {
        let since = Instant::now();
        let mut answer = self.lending.lines().join(&want);
        loop {
            self.serve();
            if let Ok(room) = answer.try_recv() {
                return Some(room);
            }
            if self.may_demand(&want, since.elapsed())
                && let Ok(turn) = Arc::clone(&self.lending.turn).try_acquire_owned()
            {
                drop(answer);
                return self.demand(want, turn).await;
            }
            tokio::select! {
                biased;
                room = &mut answer => return room.ok(),
                () = self.lending.released.notified() => {}
                () = sleep(LOOK_PAUSE) => {}
            }
        }
    }

    /// Gives room to those that wait, as far as it goes.
    fn serve(&self) {
        let mut lines = self.lending.lines();
        for tenant in lines.by_arrival() {
            let Some(line) = lines.waiting.get_mut(&tenant) else {
                continue;
            };
            while let Some(first) = line.front() {
                if first.answer.is_closed() {
                    line.pop_front();
                    continue;
                }
                let Some(room) = self.try_lend(&tenant, first.units) else {
                    break;
                };
                if let Some(first) = line.pop_front() {
                    // If it has gone away in this moment, the room is free again.
                    drop(first.answer.send(room));
                }
            }
            if line.is_empty() {
                lines.waiting.remove(&tenant);
            }
        }
    }

    fn try_lend(&self, tenant: &Tenant, units: u32) -> Option<Reservation> {
        let own = &self.lending.own;
        let all = Room {
            total: own.units,
            free: own.free(),
        };
        let shares = &self.lending.own_shares;
        self.try_lend_of(shares, all, tenant, units, || own.try_take(units))
            .or_else(|| {
                let shares = &self.lending.borrowed_shares;
                let take = || self.take_or_give_up(units);
                self.try_lend_of(shares, self.borrowable(), tenant, units, take)
            })
    }

    fn try_lend_of(
        &self,
        shares: &Shares<Tenant>,
        room: Room,
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
            lease: Some(self.lending.lease(claim, None)),
        })
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
        let places = [self.lending.own.units, self.receiving.units / 2];
        let fits = places.iter().any(|units| want.units <= *units);
        (!fits || waited >= DEMAND_AFTER) && self.lending.held(&want.tenant) <= want.has
    }

    async fn demand(&self, want: Want, turn: OwnedSemaphorePermit) -> Option<Reservation> {
        let Want { tenant, units, has } = want;
        let units = units.min(self.receiving.units.saturating_sub(has));
        let shares = &self.lending.borrowed_shares;
        let mut claim = shares.claim(tenant, units);
        claim.add(&mut shares.lock(), units);
        let permit = match self.take_or_give_up(units) {
            Some(permit) => permit,
            None => self.take_from_clients(units).await?,
        };
        Some(Reservation {
            permit,
            claim: None,
            lease: Some(self.lending.lease(claim, Some(turn))),
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
        self.released.0.notify_one();
    }
}

impl Drop for Released {
    fn drop(&mut self) {
        self.0.notify_one();
    }
}

impl Lines {
    fn join(&mut self, want: &Want) -> oneshot::Receiver<Reservation> {
        let (answer, room) = oneshot::channel();
        self.arrivals += 1;
        let tenant = Arc::clone(&want.tenant);
        self.waiting.entry(tenant).or_default().push_back(Waiter {
            arrival: self.arrivals,
            units: want.units,
            answer,
        });
        room
    }

    /// Those who wait, by who has done so for longest.
    fn by_arrival(&self) -> Vec<Tenant> {
        let heads = self.waiting.iter().filter_map(|(tenant, line)| {
            let first = line.front()?;
            Some((first.arrival, Arc::clone(tenant)))
        });
        let mut heads: Vec<_> = heads.collect();
        heads.sort_unstable();
        heads.into_iter().map(|(_, tenant)| tenant).collect()
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
