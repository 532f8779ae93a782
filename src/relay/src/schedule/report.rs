//! Destinations for those who open connections, and for the status.

use std::sync::Arc;

use postroad_config::status::{DirectStatus, UpstreamFailure};

use super::destination::{self, Kind};
use super::lanes::Turn;
use super::site::{SiteLimits, Standing, Verdict};
use super::{Connections, Place, Schedule};
use crate::clock::Moment;
use crate::room::Account;
use crate::route::Key;
use crate::slab::NONE;
use crate::window::Answer;

/// Destinations that one step of a look passes by.
const STEP: u32 = 1_000;

/// A destination as the status shows it.
#[derive(Clone, Debug, PartialEq)]
pub struct Destination {
    /// Where.
    pub key: Key,
    /// Messages with an open recipient there.
    pub messages: u32,
    /// Those of them with a failed attempt.
    pub deferred: u32,
    /// When the oldest arrived since nothing waited for it; milliseconds since the epoch.
    pub oldest_ms: u64,
    /// Messages that may go there as far as the schedule knows, and that nobody has taken yet.
    pub ready: u32,
    /// Whether they wait for nothing but the rate of domains; as [`Pacer::holds_up`](crate::rate::Pacer::holds_up).
    pub is_held_up: bool,
    /// Why mail does not go there, if it does not.
    pub failure: Option<Arc<UpstreamFailure>>,
    /// What the last transaction came to that put mail off there.
    pub answer: Option<Arc<str>>,
}

impl Schedule {
    /// At most so many connections to other servers at once, and never more than [`CONNECTIONS_MAX`](super::CONNECTIONS_MAX).
    pub fn set_connections_max(&mut self, most: u32) {
        self.places.ledger.all.set_most(most);
    }

    /// What each domain is given from now on.
    pub fn set_limits(&mut self, limits: SiteLimits) {
        self.places.limits = limits;
    }

    /// The domain to which a connection is to be opened next; it counts as being opened. `None` if none should be.
    pub fn open_domain(&mut self, now_ms: u64) -> Option<(Place, Key)> {
        let place = self.places.choose(&mut self.names, &self.lanes, now_ms)?;
        Some((Place(place), self.places.key(&self.names, place)))
    }

    /// For whose mail the last connection to a domain was opened; `None` for reports.
    #[must_use]
    pub fn owner(&self, Place(place): Place) -> Option<Account> {
        match *self.places.all.get(place)?.owners.last()? {
            Turn::Login(name) => Some(Account::Login(Arc::clone(self.names.text(name)))),
            Turn::Network => Some(Account::Network),
            Turn::Reports => None,
        }
    }

    /// The destinations that are no domains and that want a connection.
    pub fn special(&self) -> impl Iterator<Item = (Place, Key)> + '_ {
        let wanting = self
            .places
            .special
            .iter()
            .filter(|place| self.places.all[**place].wants_connection());
        wanting.map(|place| (Place(*place), self.places.key(&self.names, *place)))
    }

    /// The destinations that are no domains.
    pub fn routes(&self) -> impl Iterator<Item = (Place, Key)> + '_ {
        let all = self.places.special.iter();
        all.map(|place| (Place(*place), self.places.key(&self.names, *place)))
    }

    /// Whether it is a domain.
    #[must_use]
    pub fn is_domain(&self, Place(place): Place) -> bool {
        let destination = self.places.all.get(place);
        destination.is_some_and(|found| found.id.0 == Kind::Domain)
    }

    /// Whether anything is ready for a destination.
    #[must_use]
    pub fn has_ready(&self, Place(place): Place) -> bool {
        let destination = self.places.all.get(place);
        destination.is_some_and(|found| found.ready.count() > 0)
    }

    /// Whether another connection may be opened at all.
    #[must_use]
    pub fn allows_connection(&self) -> bool {
        self.places.ledger.all.allows(Standing::Proven)
    }

    /// Whether a domain may have another connection.
    #[must_use]
    pub fn wants_connection(&self) -> bool {
        self.places.wants_connection()
    }

    /// Whether a destination has more work than connections that are about to take it.
    #[must_use]
    pub fn is_waiting(&self, Place(place): Place) -> bool {
        let destination = self.places.all.get(place);
        destination.is_some_and(destination::Destination::wants_connection)
    }

    /// A connection for a destination is being opened that [`Self::open_domain`] has not chosen.
    pub fn opened(&mut self, Place(place): Place, now_ms: u64) {
        if self.places.all.get(place).is_some() {
            self.places
                .opened(&mut self.names, &self.lanes, (place, None), now_ms);
        }
    }

    /// A connection that was being opened is about to take its first piece.
    pub fn connected(&mut self, place: Place, now_ms: u64) {
        self.change(place, now_ms, |site, _| {
            site.opening = site.opening.saturating_sub(1);
        });
    }

    /// A connection has ended that had been [connected](Self::connected), or else gave up.
    pub fn closed(&mut self, place: Place, opening: Opening, now_ms: u64) {
        self.change(place, now_ms, |site, _| {
            site.closed();
            if opening == Opening::GaveUp {
                site.opening = site.opening.saturating_sub(1);
            }
        });
    }

    /// How many connections to a destination wait for work changes by one.
    pub fn idle(&mut self, place: Place, idle: Idle, now_ms: u64) {
        self.change(place, now_ms, |site, _| {
            site.idle = match idle {
                Idle::Begins => site.idle + 1,
                Idle::Ends => site.idle.saturating_sub(1),
            };
        });
    }

    /// Whether a connection to a destination waits for work.
    #[must_use]
    pub fn has_idle(&self, Place(place): Place) -> bool {
        let destination = self.places.all.get(place);
        destination.is_some_and(|found| found.site.idle > 0)
    }

    /// A domain has answered a transaction, whatever the answer. Says whether it failed before.
    pub fn answered(&mut self, place: Place, answer: Answer, now_ms: u64) -> Standing {
        let before = self.change(place, now_ms, |site, limits| {
            let before = site.standing;
            site.answered(answer, limits);
            before
        });
        before.unwrap_or(Standing::Proven)
    }

    /// A domain failed, for a reason that is not one message's. Says what that was taken for, and how it stood before.
    pub fn failed(
        &mut self,
        place: Place,
        failure: UpstreamFailure,
        at: Moment,
    ) -> (Verdict, Standing) {
        let told = failure.clone();
        let judged = self.change(place, at.now_ms, |site, limits| {
            let before = site.standing;
            (site.failed(failure, limits, at), before)
        });
        let judged = judged.unwrap_or((Verdict::Fails, Standing::Failing));
        if judged.0 == Verdict::Fails {
            self.places.last_failure = Some(Arc::new(told));
        }
        judged
    }

    /// A transaction put mail off at a destination with this answer. While a domain fails that is what is told.
    pub fn put_off(&mut self, Place(place): Place, answer: Arc<str>) {
        if let Some(destination) = self.places.all.get_mut(place)
            && destination.site.standing != Standing::Failing
        {
            destination.site.answer = Some(answer);
        }
    }

    /// As [`Pacer::turn`](crate::rate::Pacer::turn), of the rate of a domain.
    ///
    /// # Errors
    /// When one may be had, in milliseconds since the epoch: later than now.
    pub fn turn(&mut self, Place(place): Place, now_ms: u64) -> Result<(), u64> {
        let limits = self.places.limits;
        let destination = self.places.all.get_mut(place);
        destination.map_or(Ok(()), |found| found.site.turn(&limits, now_ms))
    }

    /// As [`Pacer::go`](crate::rate::Pacer::go), of the rate of a domain.
    ///
    /// # Errors
    /// When one may go, in milliseconds since the epoch: later than now.
    pub fn go(&mut self, Place(place): Place, now_ms: u64) -> Result<(), u64> {
        let limits = self.places.limits;
        let destination = self.places.all.get_mut(place);
        destination.map_or(Ok(()), |found| found.site.go(&limits, now_ms))
    }

    /// Gives back a turn that was not needed.
    pub fn give_back(&mut self, Place(place): Place) {
        let limits = self.places.limits;
        if let Some(destination) = self.places.all.get_mut(place) {
            destination.site.give_back(&limits);
        }
    }

    /// All domains that fail are worth a try at once, a bit of them: as [`Self::review`].
    pub fn expect_anew(&mut self, from: u32, now_ms: u64) -> Option<u32> {
        let end = self.places.all.end().min(from.saturating_add(STEP));
        for place in from..end {
            if let Some(found) = self.places.all.get_mut(place)
                && found.id.0 == Kind::Domain
            {
                found.site.expect_anew();
                self.places
                    .update(&mut self.names, &self.lanes, place, now_ms);
            }
        }
        (end < self.places.all.end()).then_some(end)
    }

    /// Counts of connections.
    #[must_use]
    pub fn connections(&self) -> Connections {
        self.places.ledger.all
    }

    /// How the domains are doing.
    #[must_use]
    pub fn direct_status(&self) -> DirectStatus {
        let [working, _, failing] = self.places.domains;
        DirectStatus {
            working,
            failing,
            failure: match failing {
                0 => None,
                _ => self.places.last_failure.as_deref().cloned(),
            },
        }
    }

    /// Adds those of some destinations to `top` that have the most mail, at most `most` in all: as [`Self::review`].
    pub fn top(
        &self,
        from: u32,
        most: usize,
        top: &mut Vec<Destination>,
        now_ms: u64,
    ) -> Option<u32> {
        let end = self.places.all.end().min(from.saturating_add(STEP));
        for place in from..end {
            let Some(found) = self.places.all.get(place) else {
                continue;
            };
            let least = top.last().map_or(0, |last| last.messages);
            if found.pieces == 0 || (top.len() == most && found.pieces <= least) {
                continue;
            }
            let at = top.partition_point(|other| other.messages >= found.pieces);
            top.insert(at, self.describe(place, found, now_ms));
            top.truncate(most);
        }
        (end < self.places.all.end()).then_some(end)
    }

    fn describe(&self, place: u32, found: &destination::Destination, now_ms: u64) -> Destination {
        let (ready, site) = (found.ready.count(), &found.site);
        let is_domain = found.id.0 == Kind::Domain;
        Destination {
            key: self.places.key(&self.names, place),
            messages: found.pieces,
            deferred: found.deferred,
            oldest_ms: found.oldest_ms,
            ready,
            is_held_up: is_domain && site.is_held_up(&self.places.limits, ready, now_ms),
            failure: site.failure.clone(),
            answer: site.answer.clone(),
        }
    }

    fn change<T>(
        &mut self,
        Place(place): Place,
        now_ms: u64,
        change: impl FnOnce(&mut super::site::Site, &SiteLimits) -> T,
    ) -> Option<T> {
        debug_assert!(place != NONE, "no destination has this number");
        self.places.all.get(place)?;
        Some(
            self.places
                .change(&mut self.names, &self.lanes, place, now_ms, change),
        )
    }
}

/// How far a connection that ends had come.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Opening {
    /// It never got ready.
    GaveUp,
    /// It was ready.
    Done,
}

/// Whether a connection waits for work.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Idle {
    /// From now on.
    Begins,
    /// No longer.
    Ends,
}
