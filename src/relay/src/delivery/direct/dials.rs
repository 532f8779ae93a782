//! What is open to each address, whatever the domains that lead there: the MX records of a thousand domains can name one host that
//! asked for nothing. At most [`DIALS_MAX`] connections to an address are open at once, from before the first packet to
//! the close; and an address that does not answer is left alone for a minute ([`DEAD_TIME`]).
//!
//! Bounded: an entry is there for an address with open connections, of which there are as many as the schedule
//! allows, or for one of [`DEAD_MAX`] that did not answer.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use postroad_config::status::FailureReason;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::Instant;

/// Connections to one address, unless each domain may have more. Large receivers take some twenty from one sender, and have several
/// addresses.
pub(super) const DIALS_MAX: usize = 20;

/// An address that did not answer one domain's mail will not answer the next one's at once. Shorter than the pauses of
/// a domain that does not work.
const DEAD_TIME: Duration = Duration::from_secs(60);

/// Addresses that did not answer and are remembered, with some 100 bytes each; what comes beyond is tried.
const DEAD_MAX: usize = 4096;

/// All addresses there is something to know of.
#[derive(Debug)]
pub(super) struct Dials {
    most: usize,
    known: Mutex<Known>,
}

#[derive(Debug, Default)]
struct Known {
    open: HashMap<IpAddr, Arc<Semaphore>>,
    dead: HashMap<IpAddr, (Instant, FailureReason)>,
    /// At this many, what nobody uses any more is forgotten.
    sweep_at: usize,
}

/// Why an address is not to be dialled now.
#[derive(Debug)]
pub(super) enum Closed {
    /// It has not answered lately, for this reason. Nothing more is kept: it was another domain's mail, and a host by the name of its choice.
    Dead(FailureReason),
    /// As many connections are open as may be.
    Busy,
}

/// The right to one connection, as long as it is held.
pub(super) type Dial = OwnedSemaphorePermit;

impl Dials {
    /// For domains that may have so many connections each.
    pub(super) fn new(connections_per_domain: u32) -> Self {
        let each = usize::try_from(connections_per_domain).unwrap_or(usize::MAX);
        Self {
            most: each.clamp(DIALS_MAX, Semaphore::MAX_PERMITS),
            known: Mutex::default(),
        }
    }

    /// What is known so far, if the bound is the same for this many connections.
    pub(super) fn is_for(&self, connections_per_domain: u32) -> bool {
        self.most == Self::new(connections_per_domain).most
    }

    /// A connection to an address.
    ///
    /// # Errors
    /// [`Closed`].
    pub(super) fn enter(&self, address: IpAddr, now: Instant) -> Result<Dial, Closed> {
        let mut known = self.known();
        match known.dead.get(&address) {
            Some((until, reason)) if now < *until => return Err(Closed::Dead(*reason)),
            Some(_) => {
                known.dead.remove(&address);
            }
            None => {}
        }
        let semaphore = known.semaphore(address, self.most);
        semaphore.try_acquire_owned().map_err(|_| Closed::Busy)
    }

    /// A connection to an address, as soon as there may be one; `None` if that takes too long.
    pub(super) async fn wait(&self, address: IpAddr, deadline: Instant) -> Option<Dial> {
        let semaphore = self.known().semaphore(address, self.most);
        let acquired = tokio::time::timeout_at(deadline, semaphore.acquire_owned()).await;
        acquired.ok()?.ok()
    }

    /// An address has not answered.
    pub(super) fn died(&self, address: IpAddr, reason: FailureReason, now: Instant) {
        let dead = &mut self.known().dead;
        if dead.len() >= DEAD_MAX {
            dead.retain(|_, (until, _)| now < *until);
        }
        if dead.len() < DEAD_MAX {
            dead.insert(address, (now + DEAD_TIME, reason));
        }
    }

    fn known(&self) -> MutexGuard<'_, Known> {
        // Each change is whole: a panic leaves nothing half done.
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Known {
    fn semaphore(&mut self, address: IpAddr, most: usize) -> Arc<Semaphore> {
        if self.open.len() >= self.sweep_at {
            // Every permit holds its semaphore, as does who waits for one.
            self.open
                .retain(|_, semaphore| Arc::strong_count(semaphore) > 1);
            self.sweep_at = 2 * self.open.len() + DIALS_MAX;
        }
        let semaphore = self.open.entry(address);
        Arc::clone(semaphore.or_insert_with(|| Arc::new(Semaphore::new(most))))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const REASON: FailureReason = FailureReason::ConnectionTimedOut;

    fn address(number: u32) -> IpAddr {
        IpAddr::from(number.to_be_bytes())
    }

    #[test]
    fn an_address_has_so_many_connections_and_others_have_their_own() {
        let (dials, now) = (Dials::new(1), Instant::now());
        let held: Vec<_> = (0..DIALS_MAX)
            .map(|_| dials.enter(address(1), now).unwrap())
            .collect();
        assert!(matches!(dials.enter(address(1), now), Err(Closed::Busy)));
        assert!(dials.enter(address(2), now).is_ok());
        drop(held);
        assert!(dials.enter(address(1), now).is_ok());
        let more = Dials::new(50);
        let held: Vec<_> = (0..60).map(|_| more.enter(address(1), now).ok()).collect();
        assert_eq!(held.iter().flatten().count(), 50);
        assert!(dials.is_for(20) && !dials.is_for(21) && more.is_for(50));
    }

    #[test]
    fn an_address_that_does_not_answer_is_left_alone_for_a_minute() {
        let (dials, now) = (Dials::new(1), Instant::now());
        dials.died(address(1), REASON, now);
        let second = Duration::from_secs(1);
        let later = dials.enter(address(1), now + DEAD_TIME - second);
        assert!(matches!(later, Err(Closed::Dead(REASON))));
        assert!(dials.enter(address(2), now).is_ok());
        assert!(dials.enter(address(1), now + DEAD_TIME).is_ok());
    }

    #[test]
    fn what_is_known_is_bounded() {
        let (dials, now) = (Dials::new(1), Instant::now());
        let held = dials.enter(address(0), now).unwrap();
        let all = 2 * u32::try_from(DEAD_MAX).unwrap();
        for number in 0..all {
            drop(dials.enter(address(number), now));
            dials.died(address(number), REASON, now);
        }
        assert!(dials.known().open.len() < 100);
        assert_eq!(dials.known().dead.len(), DEAD_MAX);
        drop(held);
        let later = now + DEAD_TIME;
        dials.died(address(all), REASON, later);
        assert_eq!(dials.known().dead.len(), 1);
    }

    #[tokio::test(start_paused = true)]
    async fn whoever_waits_gets_the_place_of_one_that_closes() {
        let (dials, now) = (Dials::new(1), Instant::now());
        let mut held: Vec<_> = (0..DIALS_MAX)
            .map(|_| dials.enter(address(1), now).unwrap())
            .collect();
        let soon = now + Duration::from_secs(1);
        assert!(dials.wait(address(1), soon).await.is_none());
        held.pop();
        assert!(dials.wait(address(1), soon).await.is_some());
    }
}
