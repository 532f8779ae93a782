//! Room for what is delivered, shared by tenants: large mail, on its way to servers that take it slowly, leaves room for everybody else's mail and for
//! its own tenant's small mail.
//!
//! A delivery gets its room at the first place where that is fair by the rule of [`shares`](super::shares):
//! 1. in the part for delivery, but for an eighth of that;
//! 2. in half of the part for receiving, as long as clients leave that half free;
//! 3. in the eighth, if it is small.
//!
//! One tenant alone has half of each, or a single message that needs more; all of each where nobody else may send ([`Sharing::Alone`]).
//! Who finds no room stands in a line until it goes away ([`lines`]); when something is given back, lines are served by who has waited for
//! longest. Each tenant has its own, and of what is small and what is large neither waits for the other. Some are delivered in the end although
//! that is not fair: see [`demand`].

mod demand;
mod lines;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use tokio::sync::Notify;
use tokio::time::{Instant, sleep, timeout};

use demand::{Demands, Queued, Turn};
use lines::{Kind, Line, Lines};

use super::part::Part;
use super::shares::{Claim, Room, Shares};
use super::{Memory, Reservation, of_message};
use crate::room::{Account, Sharing};

/// Pause between two looks of one that waits. What deliveries give back is announced; what clients do, of whom there are many more, is not.
const LOOK_PAUSE: Duration = Duration::from_secs(1);

/// How long a small conversion waits for room: several times as long as small mail takes. It has a connection meanwhile, perhaps the only one.
const LITTLE_PATIENCE: Duration = Duration::from_secs(10);

/// One of so many parts of the part for delivery is for what is small.
const SMALL_PARTS: u32 = 8;

/// So many of what is small fit in there: each is 1.6 MiB at most in the default pod.
const SMALL_MESSAGES: u32 = 4;

/// What there is for deliveries.
#[derive(Debug)]
pub(super) struct Lending {
    /// For delivery alone.
    own: Part,
    own_shares: Shares<Account>,
    /// For what is small.
    small: Part,
    small_shares: Shares<Account>,
    /// Of what is borrowed of receiving.
    borrowed_shares: Shares<Account>,
    /// Small mail in memory, wherever.
    held_small: Shares<Account>,
    held_large: Shares<Account>,
    /// Whether there is nobody to leave room for.
    is_alone: AtomicBool,
    lines: Lines,
    demands: Demands,
    /// A delivery has given something back.
    released: Arc<Notify>,
}

/// What a delivery holds of its tenant's share.
#[derive(Debug)]
pub(super) struct Lease {
    claim: Claim<Account>,
    held: Claim<Account>,
    _turn: Option<Turn>,
    released: Released,
}

/// Announces that something was given back, when dropped.
#[derive(Debug)]
struct Released(Arc<Notify>);

/// Where room is found.
struct Place<'a> {
    shares: &'a Shares<Account>,
    room: Room,
    /// `None`: it is borrowed.
    part: Option<&'a Part>,
}

/// What a delivery needs.
#[derive(Clone, Debug)]
struct Want {
    line: Line,
    units: u32,
    /// What it has already.
    has: u32,
}

impl Lending {
    /// Of so many units for delivery.
    pub(super) fn new(units: u32) -> Self {
        let small = units / SMALL_PARTS;
        Self {
            own: Part::new(units - small),
            own_shares: Shares::default(),
            small: Part::new(small),
            small_shares: Shares::default(),
            borrowed_shares: Shares::default(),
            held_small: Shares::default(),
            held_large: Shares::default(),
            is_alone: AtomicBool::new(Sharing::default() == Sharing::Alone),
            lines: Lines::default(),
            demands: Demands::default(),
            released: Arc::default(),
        }
    }

    fn lease(&self, line: &Line, claim: Claim<Account>, turn: Option<Turn>) -> Lease {
        let shares = self.held(line.kind);
        let mut held = shares.claim(line.tenant.clone(), 0);
        held.add(&mut shares.lock(), claim.units());
        Lease {
            claim,
            held,
            _turn: turn,
            released: Released(Arc::clone(&self.released)),
        }
    }

    fn ask(&self, tenant: &Account, bytes: u64, has: u32) -> Want {
        let units = of_message(bytes);
        let is_small = units <= self.small.units / SMALL_MESSAGES;
        let kind = match (is_small, has > 0) {
            (true, true) => Kind::LittleMore,
            (true, false) => Kind::Small,
            (false, true) => Kind::More,
            (false, false) => Kind::Large,
        };
        let tenant = tenant.clone();
        Want {
            line: Line { kind, tenant },
            units,
            has,
        }
    }

    /// What is in memory of the mail that counts as this.
    fn held(&self, kind: Kind) -> &Shares<Account> {
        match kind.is_small() {
            true => &self.held_small,
            false => &self.held_large,
        }
    }

    fn is_alone(&self) -> bool {
        self.is_alone.load(Ordering::SeqCst)
    }

    /// A claim of nothing yet for a message of so many units.
    fn claim(&self, place: &Place<'_>, tenant: &Account, units: u32) -> Claim<Account> {
        let most = match self.is_alone() {
            true => place.room.total,
            false => units,
        };
        place.shares.claim(tenant.clone(), most)
    }
}

impl Memory {
    /// Room to deliver a message of so many bytes of a tenant, waiting for it; `None` only when the process is ending.
    pub async fn reserve(&self, tenant: &Account, bytes: u64) -> Option<Reservation> {
        self.lend(self.lending.ask(tenant, bytes, 0)).await
    }

    /// Room for so many bytes more, for a delivery that already holds room for a message of `held` bytes; waits for it, for little no longer than
    /// [`LITTLE_PATIENCE`]. Never for more than there can be beside that. `None` if there is none and another delivery of the tenant waits so, if
    /// that time is over, or if the process is ending.
    ///
    /// Whoever waits keeps what it holds, and others may wait for that: put a bound on the time.
    pub async fn reserve_beside(
        &self,
        tenant: &Account,
        held: u64,
        bytes: u64,
    ) -> Option<Reservation> {
        let want = self.lending.ask(tenant, bytes, of_message(held));
        let is_small = want.line.kind.is_small();
        if !self.lending.lines.is_open(&want.line) {
            // Each would keep its room for nothing. A little may fit all the same.
            return is_small
                .then(|| self.try_lend(&want.line, want.units))
                .flatten();
        }
        match is_small {
            true => timeout(LITTLE_PATIENCE, self.lend(want)).await.ok()?,
            false => self.lend(want).await,
        }
    }

    /// Whether a message of so many bytes of a tenant would get its room now.
    #[must_use]
    pub fn has_room(&self, tenant: &Account, bytes: u64) -> bool {
        let Want { line, units, .. } = self.lending.ask(tenant, bytes, 0);
        let is_fair = |place: Place<'_>| {
            let claim = self.lending.claim(&place, tenant, units);
            let held = place.shares.lock();
            claim.is_fair(&held, units, place.room)
        };
        let is_next = match line.kind.is_small() {
            // What fits passes those that wait.
            true => !self.lending.lines.is_stopped(&line),
            false => self.lending.lines.is_open(&line),
        };
        is_next && self.places(line.kind).any(is_fair)
    }

    /// Whether a message of so many bytes of a tenant would wait behind others of it.
    #[must_use]
    pub fn has_line(&self, tenant: &Account, bytes: u64) -> bool {
        let want = self.lending.ask(tenant, bytes, 0);
        !self.lending.lines.is_open(&want.line)
    }

    /// Whether other mail of a tenant is being delivered that is small, or large, as a message of so many bytes is.
    #[must_use]
    pub fn has_any_like(&self, tenant: &Account, bytes: u64) -> bool {
        let want = self.lending.ask(tenant, bytes, 0);
        self.lending.held(want.line.kind).of(tenant) > 0
    }

    /// From now on what there is for deliveries is shared by one or by many.
    pub fn share(&self, sharing: Sharing) {
        let is_alone = sharing == Sharing::Alone;
        self.lending.is_alone.store(is_alone, Ordering::SeqCst);
    }

    /// Whether a delivery waits for what clients hold.
    #[must_use]
    pub fn is_wanted(&self) -> bool {
        self.lending.demands.any_waits()
    }

    async fn lend(&self, want: Want) -> Option<Reservation> {
        // Not before those in the line that have come earlier.
        if self.lending.lines.is_open(&want.line)
            && let Some(room) = self.try_lend(&want.line, want.units)
        {
            return Some(room);
        }
        self.wait(want).await
    }

    async fn wait(&self, want: Want) -> Option<Reservation> {
        let since = Instant::now();
        let (standing, mut answer) = self.lending.lines.join(&want.line, want.units);
        let mut queued = Queued::default();
        loop {
            self.lending
                .lines
                .serve(|line, units| self.try_lend(line, units));
            if let Ok(room) = answer.try_recv() {
                return Some(room);
            }
            match standing.is_front() && self.may_demand(&want, since.elapsed()) {
                true if self.lending.demands.has_turn(&want) && self.is_with_clients(&want) => {
                    drop((answer, standing));
                    return self.demand(&want, None).await;
                }
                true if self.lending.demands.has_turn(&want) => {}
                true => self.lending.demands.queue(&mut queued),
                false => queued = Queued::default(),
            }
            tokio::select! {
                biased;
                room = &mut answer => return room.ok(),
                turn = queued.turn() => {
                    queued = Queued::default();
                    // What is small may have passed it since the last look.
                    if self.may_demand(&want, since.elapsed()) {
                        drop((answer, standing));
                        return self.demand(&want, Some(turn?)).await;
                    }
                }
                () = self.lending.released.notified() => {}
                () = sleep(LOOK_PAUSE) => {}
            }
        }
    }

    fn try_lend(&self, line: &Line, units: u32) -> Option<Reservation> {
        self.places(line.kind)
            .find_map(|place| self.try_lend_at(&place, line, units))
    }

    fn try_lend_at(&self, place: &Place<'_>, line: &Line, units: u32) -> Option<Reservation> {
        let mut claim = self.lending.claim(place, &line.tenant, units);
        let mut held = place.shares.lock();
        if !claim.is_fair(&held, units, place.room) {
            return None;
        }
        let permit = match place.part {
            Some(part) => part.try_take(units)?,
            None => self.take_or_give_up(units)?,
        };
        claim.add(&mut held, units);
        drop(held);
        Some(Reservation {
            permit,
            claim: None,
            lease: Some(self.lending.lease(line, claim, None)),
        })
    }

    /// Where there is room for such mail, and how much.
    fn places(&self, kind: Kind) -> impl Iterator<Item = Place<'_>> {
        let lending = &self.lending;
        let own = [
            (&lending.own_shares, &lending.own),
            (&lending.small_shares, &lending.small),
        ];
        let [own, small] = own.map(|(shares, part)| Place {
            shares,
            room: part.room(),
            part: Some(part),
        });
        let borrowed = Place {
            shares: &lending.borrowed_shares,
            room: self.borrowable(),
            part: None,
        };
        let small = kind.is_small().then_some(small);
        [own, borrowed].into_iter().chain(small)
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
}

impl Lease {
    /// So many units fewer are needed.
    pub(super) fn give_back(&mut self, units: u32) {
        self.claim.give_back(units);
        self.held.give_back(units);
        self.released.0.notify_one();
    }
}

impl Drop for Released {
    fn drop(&mut self) {
        self.0.notify_one();
    }
}

#[cfg(test)]
mod tests;
