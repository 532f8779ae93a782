//! The attempt at one message: the connection that it goes over, and its content as the server there takes it.
//!
//! Both may have to be waited for, for minutes, and servers say goodbye to who is idle meanwhile. What has its room, or is converted, does not
//! give that back then: another connection is opened. Whether the rate lets it go is asked last.

use std::time::Duration;

use postroad_smtp::client::RecipientOutcome;
use postroad_spool::TlsDemand;
use tokio::time::Instant;

use super::connect::{Connection, Rank};
use super::content::{self, Takes, Unready};
use super::course::Course;
use super::hop::Turn;
use super::plan::Waits;
use super::senders::Admission;
use super::transmit::{Judged, Rest, unsendable};
use super::worker::{Closed, REST_MAX, Then, Worker};
use crate::adapt::Adapted;
use crate::clock;
use crate::context::Phase;
use crate::envelope;
use crate::upstreams::Intent;

/// For how long a message that is ready waits for the rate, with its room and its connection: it has had its turn, and others that had theirs
/// earlier may have got ready at the same time.
const RATE_PATIENCE: Duration = Duration::from_secs(60);

/// A message that is ready, with its turn if there is a rate.
struct Ready<'a> {
    content: Adapted,
    rank: Rank,
    turn: Option<Turn<'a>>,
}

/// How a wait ends.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Wait {
    Over,
    TooLong,
}

impl Worker {
    /// Sends a message over the connection that has been left alone since `begun`, or another.
    pub(super) async fn attempt(
        &self,
        connection: &mut Option<Connection>,
        course: Course<'_>,
        begun: Instant,
        turn: Option<Turn<'_>>,
    ) -> (Rest, Then) {
        let message = course.message();
        if let Some(outcome) = self.objection(message, course.entry()) {
            return (self.judge_all(course, &outcome), Then::Again);
        }
        let demand = envelope::demand(&message.envelope);
        let (takes, rank) = match self.connect_again(connection, demand, begun).await {
            Ok(open) => (Takes::of(open.peer()), self.hop.rank(Some(open))),
            Err(closed) => return self.give_up_connecting(course, closed),
        };
        let begun = Instant::now();
        let (content, _room) = match content::prepare(&self.context, message, takes).await {
            Ok(prepared) => prepared,
            Err(unready) => return self.give_up_converting(course, unready, rank),
        };
        let _trial = match self.admit(message, Intent::Try) {
            Ok(Admission::Go(trial)) => trial,
            Ok(Admission::Rejected(reply)) => {
                let outcome = RecipientOutcome::Failed(reply);
                return (self.judge_all(course, &outcome), Then::Again);
            }
            Err(waits) => return (self.put_off(course, waits), Then::Again),
        };
        let ready = Ready {
            content,
            rank,
            turn,
        };
        self.go(connection, course, begun, ready).await
    }

    /// Sends what is ready as soon as the rate lets it go.
    async fn go(
        &self,
        connection: &mut Option<Connection>,
        course: Course<'_>,
        begun: Instant,
        ready: Ready<'_>,
    ) -> (Rest, Then) {
        let Ready {
            content,
            rank,
            turn,
        } = ready;
        let demand = envelope::demand(&course.message().envelope);
        let latest = Instant::now() + RATE_PATIENCE;
        loop {
            let open = match self.connect_again(connection, demand, begun).await {
                Ok(open) if open.peer().takes(content.body) => open,
                Ok(_) => {
                    let unready = Unready::NoRoom(content::other_server());
                    return self.give_up_converting(course, unready, rank);
                }
                Err(closed) => return self.give_up_connecting(course, closed),
            };
            let at_ms = match self.hop.go() {
                Ok(going) => {
                    turn.into_iter().for_each(Turn::spend);
                    return self.transmit(open, course, &content, going).await;
                }
                Err(at_ms) => at_ms,
            };
            if self.wait_for_rate(at_ms, latest).await == Wait::TooLong {
                // It had its turn: what comes after it is not to be ready at once for the same place.
                turn.into_iter().for_each(Turn::spend);
                return (self.put_off(course, Waits::for_rate(at_ms)), Then::Again);
            }
        }
    }

    /// Waits until another message may go, if that is not too late.
    async fn wait_for_rate(&self, at_ms: u64, latest: Instant) -> Wait {
        let wait = Duration::from_millis(at_ms.saturating_sub(clock::now_ms()));
        if Instant::now() + wait > latest {
            return Wait::TooLong;
        }
        tokio::select! {
            biased;
            () = self.context.reached(Phase::Stopping) => Wait::TooLong,
            () = tokio::time::sleep(wait) => Wait::Over,
        }
    }

    fn give_up_connecting(&self, course: Course<'_>, closed: Closed) -> (Rest, Then) {
        match closed {
            Closed::Failed | Closed::Stopping => {
                (Rest::Judged(course.pause(), Judged::nothing()), Then::Stop)
            }
            Closed::Busy => (self.put_off(course, Waits::busy()), Then::Stop),
            Closed::Never(reply) => {
                let outcome = RecipientOutcome::Failed(reply);
                (self.judge_all(course, &outcome), Then::GoOn)
            }
        }
    }

    fn give_up_converting(&self, course: Course<'_>, unready: Unready, rank: Rank) -> (Rest, Then) {
        match unready {
            Unready::Unfit(reply) => {
                let outcome = unsendable(rank, reply);
                (self.judge_all(course, &outcome), Then::Again)
            }
            Unready::NoRoom(reply) => {
                let waits = Waits::for_room(course.message(), reply);
                (self.put_off(course, waits), Then::Again)
            }
            Unready::Stopping => (Rest::Judged(course.pause(), Judged::nothing()), Then::Stop),
        }
    }

    /// As [`Self::connect`], with a connection that has been left alone since then: what a server that has hung up has said would be taken for the
    /// answer to what is sent next.
    async fn connect_again<'a>(
        &self,
        connection: &'a mut Option<Connection>,
        demand: TlsDemand,
        begun: Instant,
    ) -> Result<&'a mut Connection, Closed> {
        if let Some(open) = connection
            && begun.elapsed() >= REST_MAX
        {
            if !self.hop.is_current() {
                return Err(Closed::Stopping);
            }
            if open.is_stale().await {
                *connection = None;
            }
        }
        self.connect(connection, demand).await
    }
}
