//! The queue for the delivery manager and for the status.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use postroad_config::status::{DirectStatus, UpstreamFailure};
use postroad_spool::MessageId;

use super::{Door, Queue};
use crate::clock::{self, Moment};
use crate::room::Account;
use crate::route::{Key, Table};
use crate::schedule::{
    Destination, OverdueLimits, Place, SiteLimits, Standing, Swept, Taken, Ticket, Totals, Untold,
    Verdict, Wake,
};
use crate::window::Answer;

impl Queue {
    /// Puts another table in force, and the limits of domains, and a bound on what is queued. [`Self::review`] is to follow.
    pub fn configure(&self, table: Arc<Table>, limits: SiteLimits, bytes_max: u64) -> Arc<Table> {
        self.shared.bytes_max.store(bytes_max, Ordering::SeqCst);
        self.change(|schedule, _| {
            schedule.set_limits(limits);
            let before = Arc::clone(schedule.table());
            if *table != *before {
                schedule.set_table(table);
            }
            before
        })
    }

    /// Files everything anew after [`Self::configure`], bit by bit, so that nobody waits for it. `before` is the table until then.
    pub async fn review(&self, before: &Table, wake: Wake) {
        let mut from = Some(0);
        while let Some(at) = from {
            from = self.change(|schedule, now_ms| schedule.review(at, before, wake, now_ms));
            tokio::task::yield_now().await;
        }
        let mut from = (wake == Wake::All).then_some(0);
        while let Some(at) = from {
            from = self.change(|schedule, now_ms| schedule.expect_anew(at, now_ms));
            tokio::task::yield_now().await;
        }
        self.nudge();
    }

    /// At most so many connections to other servers at once.
    pub fn limit_connections(&self, most: u32) {
        self.state().schedule.set_connections_max(most);
    }

    /// Makes ready what is due. Says when the next is due, or a domain may be tried again.
    #[must_use]
    pub fn advance(&self) -> Option<u64> {
        self.change(|schedule, now_ms| {
            schedule.advance(now_ms);
            schedule.next_due_ms()
        })
    }

    /// Opens a door for each domain to which a connection is to be opened now. Says too for whose mail; `None` for reports.
    pub fn open_domains(&self) -> impl Iterator<Item = (Door, Arc<str>, Option<Account>)> + '_ {
        std::iter::from_fn(|| {
            let mut state = self.state();
            let (place, Key::Domain(domain)) = state.schedule.open_domain(clock::now_ms())? else {
                return None;
            };
            let owner = state.schedule.owner(place);
            drop(state);
            Some((self.door(place), domain, owner))
        })
    }

    /// The destinations that are no domains and that want another connection.
    #[must_use]
    pub fn wanting(&self) -> Vec<(Place, Key)> {
        let mut state = self.state();
        state.blocked.clear();
        state.schedule.special().collect()
    }

    /// A door for a connection to a destination that is no domain, if it still wants one and one may be opened at all.
    #[must_use]
    pub fn open(&self, place: Place) -> Option<Door> {
        let mut state = self.state();
        if !state.schedule.is_waiting(place) || !state.schedule.allows_connection() {
            return None;
        }
        state.schedule.opened(place, clock::now_ms());
        drop(state);
        Some(self.door(place))
    }

    /// As [`Self::open`], if there is none yet.
    #[must_use]
    pub fn open_alone(&self, place: Place) -> Option<Door> {
        let is_alone = !self.state().doors.contains_key(&place);
        is_alone.then(|| self.open(place))?
    }

    /// No connection can be opened for a destination for now: the manager will know when that changes.
    pub fn block(&self, place: Place) {
        self.state().blocked.insert(place);
    }

    /// As [`crate::schedule::Schedule::take_overdue`].
    #[must_use]
    pub fn take_overdue(&self, limits: OverdueLimits) -> Swept {
        self.change(|schedule, now_ms| schedule.take_overdue(limits, now_ms))
    }

    /// As [`crate::schedule::Schedule::take_of`].
    #[must_use]
    pub fn take_of(&self, id: MessageId) -> Option<Taken> {
        self.change(|schedule, now_ms| schedule.take_of(id, now_ms))
    }

    /// As [`crate::schedule::Schedule::delay_told`].
    pub fn delay_told(&self, ticket: Ticket) {
        self.change(|schedule, _| schedule.delay_told(ticket));
    }

    /// As [`crate::schedule::Schedule::nothing_to_tell`].
    pub fn nothing_to_tell(&self, ticket: Ticket, untold: Untold) {
        self.change(|schedule, _| schedule.nothing_to_tell(ticket, untold));
    }

    /// As [`crate::schedule::Schedule::claim_delay_notice`].
    #[must_use]
    pub fn claim_delay_notice(&self, ticket: Ticket) -> bool {
        self.change(|schedule, _| schedule.claim_delay_notice(ticket))
    }

    /// As [`crate::schedule::Schedule::all_open`].
    #[must_use]
    pub fn all_open(&self, ticket: Ticket) -> Box<[u32]> {
        self.state().schedule.all_open(ticket)
    }

    /// As [`crate::schedule::Schedule::orphans`].
    #[must_use]
    pub fn orphans(&self, ticket: Ticket) -> Box<[u32]> {
        self.change(|schedule, now_ms| schedule.orphans(ticket, now_ms))
    }

    /// As [`crate::schedule::Schedule::answered`].
    pub fn answered(&self, place: Place, answer: Answer) -> Standing {
        let before = self.change(|schedule, now_ms| schedule.answered(place, answer, now_ms));
        if self.state().schedule.wants_connection() {
            self.nudge();
        }
        before
    }

    /// As [`crate::schedule::Schedule::failed`].
    pub fn failed(&self, place: Place, failure: UpstreamFailure) -> (Verdict, Standing) {
        self.change(|schedule, _| schedule.failed(place, failure, Moment::now()))
    }

    /// As [`crate::schedule::Schedule::put_off`].
    pub fn put_off(&self, place: Place, answer: Arc<str>) {
        self.state().schedule.put_off(place, answer);
    }

    /// As [`crate::schedule::Schedule::turn`].
    ///
    /// # Errors
    /// When one may be had, in milliseconds since the epoch: later than now.
    pub fn turn(&self, place: Place) -> Result<(), u64> {
        self.change(|schedule, now_ms| schedule.turn(place, now_ms))
    }

    /// As [`crate::schedule::Schedule::go`].
    ///
    /// # Errors
    /// When one may, in milliseconds since the epoch: later than now.
    pub fn go(&self, place: Place) -> Result<(), u64> {
        self.change(|schedule, now_ms| schedule.go(place, now_ms))
    }

    /// As [`crate::schedule::Schedule::give_back`].
    pub fn give_back(&self, place: Place) {
        self.change(|schedule, _| schedule.give_back(place));
    }

    /// Notes why mail does not go to the upstreams of each destination; `why` says so of a destination.
    pub fn note_failures(&self, why: impl Fn(&Table, &Key) -> Option<UpstreamFailure>) {
        let mut state = self.state();
        let table = Arc::clone(state.schedule.table());
        let routes: Vec<_> = state.schedule.routes().collect();
        for (place, key) in routes {
            state.schedule.set_failure(place, why(&table, &key));
        }
    }

    /// The table in force.
    #[must_use]
    pub fn table(&self) -> Arc<Table> {
        Arc::clone(self.state().schedule.table())
    }

    /// Counts and the arrival of the oldest, for status and metrics.
    #[must_use]
    pub fn totals(&self) -> (Totals, Option<u64>) {
        let state = self.state();
        (state.schedule.totals(), state.schedule.oldest_arrival_ms())
    }

    /// The destinations with the most mail, most first.
    #[must_use]
    pub fn top(&self, most: usize) -> Vec<Destination> {
        let (mut top, mut from) = (Vec::new(), Some(0));
        while let Some(at) = from {
            let now_ms = clock::now_ms();
            from = self.state().schedule.top(at, most, &mut top, now_ms);
        }
        top
    }

    /// How direct delivery goes.
    #[must_use]
    pub fn direct_status(&self) -> DirectStatus {
        self.state().schedule.direct_status()
    }

    /// Connections to other servers, open or being opened.
    #[must_use]
    pub fn connections(&self) -> u32 {
        self.state().schedule.connections().total()
    }
}
