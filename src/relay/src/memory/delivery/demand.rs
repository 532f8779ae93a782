//! Room for what is delivered although that is not fair, one such message at a time: what its tenant may never have by the rule, and what has
//! waited for half a minute; both only if nothing else of the tenant is in memory. What is small does not count beside what is large, nor
//! the other way round: there might always be some.
//!
//! Only the front of a line may be such a message, and they go by who has been one for longest ([`Queued`]): of a tenant whose last one
//! has just ended, the next one comes after those of others. It has its turn until it is delivered, so that such messages do not take all that is
//! for receiving; its conversion needs no other, and demands only what clients can give up.
//!
//! Such a message takes what it needs of the part for receiving. While it waits for that, receiving gets nothing more, and content
//! that is coming in is dropped with 452 at its client's next word ([`Memory::is_wanted`]): so the wait ends when the slowest of them
//! times out.

use std::future::pending;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::{Memory, Reservation, Want};
use crate::memory::shares::{Claim, Shares};
use crate::room::Account;

/// How long a tenant that has nothing in memory waits for a fair place. Others end theirs in that time, unless they hang.
pub(super) const DEMAND_AFTER: Duration = Duration::from_secs(30);

/// Who takes of receiving what would not be fair.
#[derive(Debug)]
pub(super) struct Demands {
    turn: Arc<Semaphore>,
    /// Whose it is, with the units of the message.
    holder: Shares<Account>,
    /// Deliveries that wait for what clients hold.
    waiting: AtomicUsize,
}

/// Whose turn it is, until dropped.
#[derive(Debug)]
pub(super) struct Turn {
    _holder: Claim<Account>,
    _permit: OwnedSemaphorePermit,
}

/// Where somebody stands among those that wait for their turn; nowhere at first.
#[derive(Default)]
pub(super) struct Queued(
    Option<Pin<Box<dyn Future<Output = Option<OwnedSemaphorePermit>> + Send>>>,
);

impl Default for Demands {
    fn default() -> Self {
        Self {
            turn: Arc::new(Semaphore::new(1)),
            holder: Shares::default(),
            waiting: AtomicUsize::new(0),
        }
    }
}

impl Demands {
    /// Whether a delivery waits for what clients hold.
    pub(super) fn any_waits(&self) -> bool {
        self.waiting.load(Ordering::SeqCst) > 0
    }

    /// Stands behind the others, unless it does already.
    pub(super) fn queue(&self, queued: &mut Queued) {
        queued.0.get_or_insert_with(|| {
            let turn = Arc::clone(&self.turn).acquire_owned();
            Box::pin(async { turn.await.ok() })
        });
    }

    /// Whether it is the conversion of the message whose turn it is: nothing else of its kind of its tenant is in memory where that is asked.
    pub(super) fn has_turn(&self, want: &Want) -> bool {
        want.has > 0 && self.holder.of(&want.line.tenant) == want.has
    }

    fn begin_turn(&self, permit: OwnedSemaphorePermit, want: &Want) -> Turn {
        let mut holder = self.holder.claim(want.line.tenant.clone(), 0);
        holder.add(&mut self.holder.lock(), want.units);
        Turn {
            _holder: holder,
            _permit: permit,
        }
    }

    /// Counts one that waits, until dropped.
    pub(super) fn wait(&self) -> impl Drop + '_ {
        self.waiting.fetch_add(1, Ordering::SeqCst);
        Waiting(&self.waiting)
    }
}

impl Queued {
    /// The turn when it comes: never to one that stands nowhere.
    pub(super) async fn turn(&mut self) -> Option<OwnedSemaphorePermit> {
        match &mut self.0 {
            Some(turn) => turn.await,
            None => pending().await,
        }
    }
}

impl Memory {
    /// Whether one that has waited for so long may take what it needs in its turn, fair or not.
    pub(super) fn may_demand(&self, want: &Want, waited: Duration) -> bool {
        let place = self.lending.own.units.max(self.receiving.units / 2);
        let most = match self.lending.is_alone() {
            true => place,
            false => place / 2,
        };
        let held = self.lending.held(want.line.kind).of(&want.line.tenant);
        (want.units > most || waited >= DEMAND_AFTER) && held <= want.has
    }

    /// Whether clients can be waited for: what others have borrowed they do not give back.
    pub(super) fn is_with_clients(&self, want: &Want) -> bool {
        let borrowed = self.lending.borrowed_shares.lock();
        let lent = borrowed.of_others(&want.line.tenant);
        let gone = lent.saturating_add(want.has).saturating_add(want.units);
        gone <= self.receiving.units
    }

    /// Takes what is needed; with the turn for that, or in that of the message itself.
    pub(super) async fn demand(
        &self,
        want: &Want,
        turn: Option<OwnedSemaphorePermit>,
    ) -> Option<Reservation> {
        let units = want
            .units
            .min(self.receiving.units.saturating_sub(want.has));
        let permit = match self.take_or_give_up(units) {
            Some(permit) => permit,
            None => self.take_from_clients(units).await?,
        };
        let shares = &self.lending.borrowed_shares;
        let mut claim = shares.claim(want.line.tenant.clone(), units);
        claim.add(&mut shares.lock(), units);
        let turn = turn.map(|turn| self.lending.demands.begin_turn(turn, want));
        Some(Reservation {
            permit,
            claim: None,
            lease: Some(self.lending.lease(&want.line, claim, turn)),
        })
    }

    async fn take_from_clients(&self, units: u32) -> Option<OwnedSemaphorePermit> {
        let _waiting = self.lending.demands.wait();
        // What was kept before would never be given up by one that only waits.
        while self.give_up_oldest() {}
        self.receiving.take(units).await
    }
}

struct Waiting<'a>(&'a AtomicUsize);

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::SeqCst);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_turn_of_a_message_is_its_conversions_and_no_other_messages() {
        let memory = Memory::new(1 << 20);
        let tenant = "a".into();
        let want = |bytes, has| memory.lending.ask(&tenant, bytes, has);
        let (small, large) = (want(4 << 10, 0), want(90 << 10, 0));
        let demands = &memory.lending.demands;
        let permit = Arc::clone(&demands.turn).try_acquire_owned().unwrap();
        let turn = demands.begin_turn(permit, &small);
        assert!(demands.has_turn(&want(9 << 10, small.units)));
        assert!(!demands.has_turn(&want(200 << 10, large.units)));
        drop(turn);
        assert!(!demands.has_turn(&want(9 << 10, small.units)));
    }
}
