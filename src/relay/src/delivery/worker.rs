//! Serves one connection: takes due pieces, sends them, records what came of it.
//!
//! A connection to an upstream is opened for whatever comes. One to a domain is opened for the message that is taken first, because a
//! message may demand more of it than the next ([`TlsDemand`]).

use std::time::Duration;

use postroad_smtp::client::RecipientOutcome;
use postroad_smtp::{EnhancedStatus, Reply};
use postroad_spool::{Message, TlsDemand};

use super::SharedUpstreams;
use super::connect::Connection;
use super::course::Course;
use super::direct::DirectFailure;
use super::hop::Hop;
use crate::clock;
use crate::context::{Context, Phase};
use crate::notify::NextHop;
use crate::outcome;
use crate::queue::Door;
use crate::schedule::Taken;
use crate::unreadable;
use crate::upstreams::FailedStage;

/// How long an idle connection is kept for the next message. Postfix keeps one for 2 seconds too.
const IDLE_TIMEOUT: Duration = Duration::from_secs(2);

/// Serves one connection.
pub(super) struct Worker {
    pub(super) context: Context,
    pub(super) upstreams: SharedUpstreams,
    pub(super) hop: Hop,
    pub(super) door: Door,
}

/// Whether the connection can take another message.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Then {
    GoOn,
    Stop,
}

/// Why there is no connection.
enum Closed {
    /// It is known and reported.
    Failed,
    /// None of these recipients will ever be reached.
    Never(Reply),
    /// The process is ending.
    Stopping,
}

impl Worker {
    /// Opens the connection and uses it for as long as there is work.
    pub(super) async fn run(mut self) {
        let connection = match self.hop {
            Hop::Domain(_) => None,
            Hop::Upstream { .. } => match self.open(TlsDemand::Default).await {
                Ok(connection) => Some(connection),
                Err(_) => return,
            },
        };
        self.door.connected();
        self.serve(connection).await;
    }

    async fn open(&self, demand: TlsDemand) -> Result<Connection, Closed> {
        let opened = tokio::select! {
            biased;
            () = self.context.reached(Phase::Stopping) => return Err(Closed::Stopping),
            opened = self.hop.open(demand) => opened,
        };
        match opened {
            Ok(connection) => {
                self.hop.report_connected();
                Ok(connection)
            }
            Err(DirectFailure::Hold(failure)) => {
                self.hop.report_failed(FailedStage::Connecting, &failure);
                Err(Closed::Failed)
            }
            Err(DirectFailure::Final(reply)) => Err(Closed::Never(reply)),
        }
    }

    async fn serve(&self, mut connection: Option<Connection>) {
        let mut sent = 0;
        while sent < self.messages_max(connection.as_ref()) {
            let Some(taken) = self.next_piece().await else {
                break;
            };
            let _reclaim = self.context.queue.reclaim_on_panic(taken.ticket);
            if sent > 0
                && let Some(used) = &mut connection
                && used.is_stale().await
            {
                let queue = &self.context.queue;
                return queue.release(taken.ticket, clock::now_ms());
            }
            if self.deliver(&mut connection, taken).await == Then::Stop {
                return;
            }
            sent += 1;
        }
        if let Some(connection) = connection {
            connection.quit().await;
        }
    }

    /// What we allow, and what the peer does (RFC 9422 §4.1).
    fn messages_max(&self, connection: Option<&Connection>) -> u32 {
        let theirs = connection.and_then(|connection| connection.peer().messages_max());
        self.hop.messages_max().min(theirs.unwrap_or(u32::MAX))
    }

    async fn next_piece(&self) -> Option<Taken> {
        tokio::select! {
            biased;
            () = self.context.reached(Phase::Stopping) => None,
            taken = self.wait_for_piece() => taken,
        }
    }

    /// The next piece, once the rate lets it go; `None` if none has come for so long that the connection is not worth keeping.
    async fn wait_for_piece(&self) -> Option<Taken> {
        while self.hop.is_current() {
            match self.hop.permit() {
                Ok(()) => {
                    let taken = self.door.take();
                    if taken.is_some() {
                        return taken;
                    }
                    self.hop.give_back();
                    if !self.door.wait(IDLE_TIMEOUT).await {
                        return None;
                    }
                }
                Err(at_ms) => {
                    let pause = Duration::from_millis(at_ms.saturating_sub(clock::now_ms()));
                    if pause > IDLE_TIMEOUT {
                        return None;
                    }
                    tokio::time::sleep(pause).await;
                }
            }
        }
        None
    }

    async fn deliver(&self, connection: &mut Option<Connection>, taken: Taken) -> Then {
        let ticket = taken.ticket;
        let (message, _room) = match self.context.queue.load(&taken).await {
            Ok(loaded) => loaded,
            Err(error) => {
                unreadable::settle(&self.context, taken, error).await;
                return Then::GoOn;
            }
        };
        let course = Course::new(&self.context, &message, taken);
        let (left, then) = self.attempt(connection, course).await;
        match left {
            Some(left) => left.release(),
            None => self.upstreams.lock_holds().forget(ticket.id),
        }
        then
    }

    async fn attempt<'a>(
        &self,
        connection: &mut Option<Connection>,
        course: Course<'a>,
    ) -> (Option<Course<'a>>, Then) {
        let message = course.message();
        if let Some(reply) = self.objection(message) {
            return (self.judge_all(course, &reply).await, Then::GoOn);
        }
        let demand = message.envelope.tls;
        if let Some(unfit) = connection.take_if(|open| !self.hop.suits(open, demand)) {
            unfit.quit().await;
        }
        if connection.is_none() {
            match self.open(demand).await {
                Ok(opened) => *connection = Some(opened),
                Err(Closed::Failed | Closed::Stopping) => return (Some(course), Then::Stop),
                Err(Closed::Never(reply)) => {
                    let outcome = RecipientOutcome::Failed(reply);
                    return (self.judge_all(course, &outcome).await, Then::GoOn);
                }
            }
        }
        match connection {
            Some(open) => self.transmit(open, course).await,
            None => (Some(course), Then::Stop),
        }
    }

    /// Why a message need not even be tried.
    fn objection(&self, message: &Message) -> Option<RecipientOutcome> {
        let bytes = message.headers.len() + message.body.len();
        if u64::try_from(bytes).unwrap_or(u64::MAX) > self.hop.bytes_max() {
            let status = EnhancedStatus {
                class: 5,
                subject: 3,
                detail: 4,
            };
            let text = "larger than the next server takes";
            return Some(RecipientOutcome::Failed(Reply::new(552, status, text)));
        }
        let is_late = outcome::return_by_ms(message).is_some_and(|by| by <= clock::now_ms());
        is_late.then(|| {
            let status = EnhancedStatus {
                class: 4,
                subject: 4,
                detail: 7,
            };
            // The last answer, as far as the report is concerned: there was none.
            RecipientOutcome::Deferred(Reply::new(451, status, "not tried any more"))
        })
    }

    /// Records the same outcome for every open recipient.
    pub(super) async fn judge_all<'a>(
        &self,
        course: Course<'a>,
        outcome: &RecipientOutcome,
    ) -> Option<Course<'a>> {
        let outcomes: Vec<_> = course
            .open_recipients()
            .map(|index| (index, outcome.clone()))
            .collect();
        self.log(course.message(), &outcomes);
        course.record(outcomes, NextHop::default(), None).await
    }
}
