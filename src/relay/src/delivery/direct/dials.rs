//! What is open to each address, whatever the domains that lead there: the MX records of a thousand domains can name one host that
//! asked for nothing. At most [`DIALS_MAX`] connections to an address are open at once, from before the first packet to
//! the close; and an address that does not answer is left alone for a minute ([`DEAD_TIME`]).
//!
//! # Whose turn it is
//! A connection belongs to the [`Owner`] for whose mail it is opened. A place that becomes free goes to who waits and has the fewest of
//! them there, of those to who came first: one that is alone has them all, and however many domains of one lead to an address, the next one
//! gets the next place.
//!
//! Bounded: an entry is there for an address with open connections, of which there are as many as the schedule
//! allows, or for one of [`DEAD_MAX`] that did not answer. Who waits is a connection that is being opened.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use postroad_config::status::FailureReason;
use tokio::sync::oneshot;
use tokio::time::{Instant, timeout_at};

use crate::room::Account;
use crate::share::Holdings;

/// Connections to one address, unless each domain may have more. Large receivers take some twenty from one sender, and have several
/// addresses.
pub(super) const DIALS_MAX: usize = 20;

/// An address that did not answer one domain's mail will not answer the next one's at once. Shorter than the pauses of
/// a domain that does not work.
const DEAD_TIME: Duration = Duration::from_secs(60);

/// Addresses that did not answer and are remembered, with some 100 bytes each; what comes beyond is tried.
const DEAD_MAX: usize = 4096;

/// For whose mail a connection is opened; `None` for reports.
pub(crate) type Owner = Option<Account>;

/// All addresses there is something to know of.
#[derive(Debug)]
pub(super) struct Dials {
    most: usize,
    known: Mutex<Known>,
}

#[derive(Debug, Default)]
struct Known {
    open: HashMap<IpAddr, Places>,
    dead: HashMap<IpAddr, (Instant, FailureReason)>,
}

/// The places of one address.
#[derive(Debug, Default)]
struct Places {
    taken: usize,
    owners: Holdings<Owner, usize>,
    /// In the order in which they came. Nobody waits while a place is free.
    waiting: Vec<Waiting>,
}

#[derive(Debug)]
struct Waiting {
    owner: Owner,
    place: oneshot::Sender<Dial>,
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
#[derive(Debug)]
pub(super) struct Dial {
    dials: Arc<Dials>,
    address: IpAddr,
    owner: Owner,
}

impl Dials {
    /// For domains that may have so many connections each.
    pub(super) fn new(connections_per_domain: u32) -> Self {
        let each = usize::try_from(connections_per_domain).unwrap_or(usize::MAX);
        Self {
            most: each.max(DIALS_MAX),
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
    pub(super) fn enter(
        self: &Arc<Self>,
        address: IpAddr,
        owner: &Owner,
        now: Instant,
    ) -> Result<Dial, Closed> {
        let mut known = self.known();
        match known.dead.get(&address) {
            Some((until, reason)) if now < *until => return Err(Closed::Dead(*reason)),
            Some(_) => {
                known.dead.remove(&address);
            }
            None => {}
        }
        let places = known.open.entry(address).or_default();
        match places.taken < self.most {
            true => Ok(self.take(places, address, owner.clone())),
            false => Err(Closed::Busy),
        }
    }

    /// A connection to an address, as soon as there may be one; `None` if that takes too long.
    pub(super) async fn wait(
        self: &Arc<Self>,
        address: IpAddr,
        owner: &Owner,
        deadline: Instant,
    ) -> Option<Dial> {
        let place = {
            let mut known = self.known();
            let places = known.open.entry(address).or_default();
            if places.taken < self.most {
                return Some(self.take(places, address, owner.clone()));
            }
            places.wait(owner.clone())
        };
        timeout_at(deadline, place).await.ok()?.ok()
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

    fn take(self: &Arc<Self>, places: &mut Places, address: IpAddr, owner: Owner) -> Dial {
        places.taken += 1;
        places.owners.change(owner.clone(), |held| *held += 1);
        Dial {
            dials: Arc::clone(self),
            address,
            owner,
        }
    }

    /// A place is free again: takes it for who is next.
    fn give_back(self: &Arc<Self>, address: IpAddr, owner: &Owner) -> Option<(Waiting, Dial)> {
        let mut known = self.known();
        let places = known.open.get_mut(&address)?;
        places.taken -= 1;
        places.owners.change(owner.clone(), |held| *held -= 1);
        if let Some(next) = places.next() {
            let dial = self.take(places, address, next.owner.clone());
            return Some((next, dial));
        }
        if places.taken == 0 {
            known.open.remove(&address);
        }
        None
    }

    fn known(&self) -> MutexGuard<'_, Known> {
        // Each change is whole: a panic leaves nothing half done.
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Places {
    fn wait(&mut self, owner: Owner) -> oneshot::Receiver<Dial> {
        self.forget_gone();
        let (place, waiting) = oneshot::channel();
        self.waiting.push(Waiting { owner, place });
        waiting
    }

    fn next(&mut self) -> Option<Waiting> {
        self.forget_gone();
        let waiting = self.waiting.iter().enumerate();
        let next = waiting.min_by_key(|(_, one)| self.owners.of(&one.owner))?.0;
        Some(self.waiting.remove(next))
    }

    fn forget_gone(&mut self) {
        self.waiting.retain(|one| !one.place.is_closed());
    }
}

impl Drop for Dial {
    fn drop(&mut self) {
        if let Some((next, dial)) = self.dials.give_back(self.address, &self.owner) {
            // Who has gone at this very moment gives it to the next one, by dropping it.
            let _ = next.place.send(dial);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const REASON: FailureReason = FailureReason::ConnectionTimedOut;

    fn address(number: u32) -> IpAddr {
        IpAddr::from(number.to_be_bytes())
    }

    fn dials(connections_per_domain: u32) -> Arc<Dials> {
        Arc::new(Dials::new(connections_per_domain))
    }

    fn login(name: &str) -> Owner {
        Some(Account::Login(name.into()))
    }

    /// As many as one gets at an address, of so many that it wants.
    fn fill(dials: &Arc<Dials>, owner: &Owner, count: usize) -> Vec<Dial> {
        let now = Instant::now();
        (0..count)
            .filter_map(|_| dials.enter(address(1), owner, now).ok())
            .collect()
    }

    #[test]
    fn an_address_has_so_many_connections_and_others_have_their_own() {
        let (dials, now) = (self::dials(1), Instant::now());
        let held = fill(&dials, &None, 30);
        assert_eq!(held.len(), DIALS_MAX);
        let busy = dials.enter(address(1), &login("a"), now);
        assert!(matches!(busy, Err(Closed::Busy)));
        assert!(dials.enter(address(2), &None, now).is_ok());
        drop(held);
        assert!(dials.enter(address(1), &None, now).is_ok());
        let more = self::dials(50);
        assert_eq!(fill(&more, &None, 60).len(), 50);
        assert!(dials.is_for(20) && !dials.is_for(21) && more.is_for(50));
    }

    #[test]
    fn an_address_that_does_not_answer_is_left_alone_for_a_minute() {
        let (dials, now) = (dials(1), Instant::now());
        dials.died(address(1), REASON, now);
        let enter = |number, at| dials.enter(address(number), &None, at);
        let second = Duration::from_secs(1);
        let later = enter(1, now + DEAD_TIME - second);
        assert!(matches!(later, Err(Closed::Dead(REASON))));
        assert!(enter(2, now).is_ok());
        assert!(enter(1, now + DEAD_TIME).is_ok());
    }

    #[test]
    fn what_is_known_is_bounded() {
        let (dials, now) = (dials(1), Instant::now());
        let held = dials.enter(address(0), &None, now).unwrap();
        let all = 2 * u32::try_from(DEAD_MAX).unwrap();
        for number in 0..all {
            drop(dials.enter(address(number), &None, now));
            dials.died(address(number), REASON, now);
        }
        assert_eq!(dials.known().open.len(), 1);
        assert_eq!(dials.known().dead.len(), DEAD_MAX);
        drop(held);
        assert_eq!(dials.known().open.len(), 0);
        let later = now + DEAD_TIME;
        dials.died(address(all), REASON, later);
        assert_eq!(dials.known().dead.len(), 1);
    }

    #[tokio::test(start_paused = true)]
    async fn whoever_waits_gets_the_place_of_one_that_closes() {
        let (dials, now) = (dials(1), Instant::now());
        let mut held = fill(&dials, &None, DIALS_MAX);
        let soon = now + Duration::from_secs(1);
        let waited = dials.wait(address(1), &None, soon).await;
        assert!(waited.is_none() && Instant::now() == soon);
        let later = soon + Duration::from_secs(1);
        let waiting = dials.wait(address(1), &None, later);
        let (waited, ()) = tokio::join!(waiting, async { drop(held.pop()) });
        assert!(waited.is_some() && Instant::now() == soon);
        let busy = dials.enter(address(1), &None, soon);
        assert!(
            matches!(busy, Err(Closed::Busy)),
            "it has passed from one to the other"
        );
        drop((held, waited));
        assert_eq!(dials.known().open.len(), 0);
    }

    #[tokio::test(start_paused = true)]
    async fn a_place_goes_to_who_has_the_fewest_and_then_to_who_came_first() {
        let dials = dials(1);
        let mut held = fill(&dials, &login("a"), DIALS_MAX);
        let deadline = Instant::now() + Duration::from_secs(1);
        let got = Mutex::new(Vec::new());
        let wait = async |name: &str, number: usize| {
            let dial = dials.wait(address(1), &login(name), deadline).await;
            got.lock().unwrap().push(format!("{name}{number}"));
            // For as long as the test.
            std::mem::forget(dial);
        };
        let release = async {
            for _ in 0..6 {
                drop(held.pop());
                tokio::task::yield_now().await;
            }
        };
        tokio::join!(
            biased;
            wait("a", 1), wait("a", 2), wait("b", 1), wait("b", 2), wait("c", 1), wait("c", 2), release
        );
        // As those of one that has most go, others get as many each as there are.
        let expected = ["b1", "c1", "b2", "c2", "a1", "a2"];
        assert_eq!(*got.lock().unwrap(), expected);
    }

    #[tokio::test(start_paused = true)]
    async fn who_has_gone_gets_no_place_and_leaves_nothing() {
        let dials = dials(1);
        let mut held = fill(&dials, &None, DIALS_MAX);
        let soon = Instant::now() + Duration::from_secs(1);
        let (gone, stays) = (login("gone"), login("stays"));
        for _ in 0..1_000 {
            let gone = dials.wait(address(1), &gone, soon);
            assert!(futures::poll!(Box::pin(gone)).is_pending());
        }
        let stays = dials.wait(address(1), &stays, soon);
        let check = async {
            assert_eq!(dials.known().open[&address(1)].waiting.len(), 1);
            drop(held.pop());
        };
        let (waited, ()) = tokio::join!(biased; stays, check);
        assert!(waited.is_some());
    }
}
