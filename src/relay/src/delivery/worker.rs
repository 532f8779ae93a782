//! Serves one connection: takes due pieces, sends them, records what came of it.
//!
//! A connection to an upstream is opened for whatever comes. One to a domain is opened for the message that is taken first, because a
//! message may demand more of it than the next ([`TlsDemand`]). What is decided before a message is read is in [`plan`](super::plan).

mod last;
mod passed;

use std::time::Duration;

use postroad_smtp::Reply;
use postroad_spool::{Message, TlsDemand};
use tokio::time::Instant;

use super::SharedUpstreams;
use super::connect::Connection;
use super::course::{Course, Progress};
use super::direct::DirectFailure;
use super::hop::{Hop, Turn, UpstreamHop};
use super::plan::{NO_ROOM_PAUSE, Plan};
use super::transmit::{Judged, Rest};
use crate::clock;
use crate::context::{Context, Phase};
use crate::queue::{Door, LoadedRoom, ReclaimOnPanic};
use crate::schedule::Taken;
use crate::unreadable;
use crate::upstreams::FailedStage;

use last::Last;
use passed::Passed;

/// How long an idle connection is kept for the next message. Postfix keeps one for 2 seconds too.
const IDLE_TIMEOUT: Duration = Duration::from_secs(2);

/// A connection that has been left alone for so long is looked at before it is used. The shortest time-outs of servers are some seconds.
pub(super) const REST_MAX: Duration = Duration::from_secs(1);

/// Pieces among which one is looked for that no upstream has turned away, so that no try takes long to begin: less than a millisecond.
pub(super) const LOOKED_AT_MAX: usize = 100;

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
    /// It has not been used.
    Again,
    Stop,
}

/// Whether the connection had nothing to do before a piece came.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Pause {
    None,
    Rested,
}

/// Why there is no connection.
pub(super) enum Closed {
    /// It is known and reported.
    Failed,
    /// None of these recipients will ever be reached.
    Never(Reply),
    /// There may be none for the time being, and nobody has failed.
    Busy,
    /// The process is ending, or the configuration has changed meanwhile.
    Stopping,
}

impl Worker {
    /// Opens the connection and uses it for as long as there is work.
    pub(super) async fn run(mut self) {
        let connection = match self.hop {
            Hop::Domain(_) => None,
            Hop::Upstream { .. } if !self.has_mail().await => return,
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
            Err(DirectFailure::Busy) => Err(Closed::Busy),
            Err(DirectFailure::Outdated) => Err(Closed::Stopping),
        }
    }

    /// What a piece came to is recorded while the next one is sent, and before that one's outcome is: a crash repeats no more than the
    /// transaction under way and the one before it.
    async fn serve(&self, mut connection: Option<Connection>) {
        let mut last = Last::default();
        let (mut sent, mut pause) = (0, Pause::None);
        while let Some((unfinished, then)) =
            last.beside(self.step(&mut connection, sent, pause)).await
        {
            last.finish(&self.context.queue).await;
            last = unfinished.map_or_else(Last::default, |unfinished| {
                Last::new(self.finish(unfinished))
            });
            match then {
                Then::GoOn => sent += 1,
                Then::Again => pause = Pause::Rested,
                Then::Stop => {
                    connection = None;
                    break;
                }
            }
        }
        last.finish(&self.context.queue).await;
        if let Some(connection) = connection {
            connection.quit().await;
        }
    }

    /// Sends the next piece; `None` if there is none, or none more for this connection.
    async fn step(
        &self,
        connection: &mut Option<Connection>,
        sent: u32,
        before: Pause,
    ) -> Option<(Option<Unfinished>, Then)> {
        if sent >= self.messages_max(connection.as_ref()) {
            return None;
        }
        let (taken, pause, turn) = self.next_piece().await?;
        let reclaim = self.context.queue.reclaim_on_panic(taken.ticket);
        // What it says between two messages would be taken for the answer to what is sent next.
        let was_used = sent > 0 || [before, pause].contains(&Pause::Rested);
        if was_used
            && let Some(open) = connection
            && open.is_stale().await
        {
            self.context.queue.release(taken.ticket, clock::now_ms());
            return Some((None, Then::Stop));
        }
        Some(self.deliver(connection, taken, reclaim, turn).await)
    }

    /// What we allow, and what the peer does (RFC 9422 §4.1).
    fn messages_max(&self, connection: Option<&Connection>) -> u32 {
        let theirs = connection.and_then(|connection| connection.peer().messages_max());
        self.hop.messages_max().min(theirs.unwrap_or(u32::MAX))
    }

    async fn next_piece(&self) -> Option<(Taken, Pause, Turn<'_>)> {
        if self.context.phase() >= Phase::Stopping {
            return None;
        }
        // What is there is not worth the waiting for two things.
        if self.hop.is_current()
            && let Ok(turn) = self.hop.turn()
            && let Some(taken) = self.take()
        {
            return Some((taken, Pause::None, turn));
        }
        tokio::select! {
            biased;
            () = self.context.reached(Phase::Stopping) => None,
            taken = self.wait_for_piece() => taken,
        }
    }

    /// The next piece, once it is its turn by the rate; `None` if none has come for so long that the connection is not worth keeping.
    async fn wait_for_piece(&self) -> Option<(Taken, Pause, Turn<'_>)> {
        let mut pause = Pause::None;
        while self.hop.is_current() {
            match self.hop.turn() {
                Ok(turn) => {
                    if let Some(taken) = self.take() {
                        return Some((taken, pause, turn));
                    }
                    drop(turn);
                    if !self.door.wait(IDLE_TIMEOUT).await {
                        return None;
                    }
                }
                Err(at_ms) => {
                    let wait = Duration::from_millis(at_ms.saturating_sub(clock::now_ms()));
                    if wait > IDLE_TIMEOUT {
                        return None;
                    }
                    tokio::time::sleep(wait).await;
                }
            }
            pause = Pause::Rested;
        }
        None
    }

    /// The piece whose turn it is. An upstream that fails is tried with what none has turned away yet, if there is any not far behind: mail of one
    /// sender whom it has had enough of, for example, would otherwise keep waiting what comes after it, a try for each. If there is none, with what
    /// had its turn the longest ago.
    fn take(&self) -> Option<Taken> {
        if !self.hop.upstream().is_some_and(UpstreamHop::fails) {
            return self.door.take();
        }
        let mut passed = Passed::new(&self.context.queue);
        while passed.count() < LOOKED_AT_MAX
            && let Some(taken) = self.door.take()
        {
            if !self.upstreams.lock_holds().has(taken.ticket.id) {
                return Some(taken);
            }
            passed.push(taken);
        }
        let next = self.upstreams.lock_holds().next(passed.ids())?;
        passed.keep(next)
    }

    async fn deliver(
        &self,
        connection: &mut Option<Connection>,
        taken: Taken,
        reclaim: ReclaimOnPanic,
        turn: Turn<'_>,
    ) -> (Option<Unfinished>, Then) {
        let plan = match self.plan(connection, &taken).await {
            Ok(plan) => plan,
            Err(then) => return (None, then),
        };
        // What is not sent may wait for its room: others may go meanwhile.
        let turn = Some(turn).filter(|_| matches!(plan, Plan::Send));
        self.carry_out(plan, connection, taken, reclaim, turn).await
    }

    /// Does what was decided about a piece. The turn is for the first transaction, if there is any.
    pub(super) async fn carry_out(
        &self,
        plan: Plan,
        connection: &mut Option<Connection>,
        taken: Taken,
        reclaim: ReclaimOnPanic,
        turn: Option<Turn<'_>>,
    ) -> (Option<Unfinished>, Then) {
        let (id, begun) = (taken.ticket.id, Instant::now());
        let lifetime = self.context.live().config.delivery.retry.lifetime();
        let others = self.door.others_are_ready(&taken, lifetime);
        let (message, room) = match self.context.queue.load_unless(&taken, others).await {
            Ok(Some(loaded)) => loaded,
            Ok(None) => {
                self.give_way(&taken);
                return (None, Then::Again);
            }
            Err(error) => {
                unreadable::settle(&self.context, taken, error).await;
                return (None, Then::GoOn);
            }
        };
        let course = Course::new(&self.context, &message, taken).under(&room);
        let (rest, then) = match plan {
            Plan::Send => self.attempt(connection, course, begun, turn).await,
            Plan::PutOff(waits) => (self.put_off(course, waits), Then::Again),
            Plan::Settle(outcome) => (self.judge_all(course, &outcome), Then::Again),
            Plan::Reject => (self.reject(course), Then::Again),
        };
        let unfinished = match rest {
            Rest::Nothing => {
                self.upstreams.lock_holds().forget(id);
                None
            }
            Rest::Judged(progress, judged) => Some(Unfinished {
                message,
                _room: room,
                _reclaim: reclaim,
                progress,
                judged,
            }),
        };
        (unfinished, then)
    }

    /// Lets others go first: the tenant of the piece has as much mail in memory as it may, and others have mail for the connection, and
    /// room for it.
    fn give_way(&self, taken: &Taken) {
        let due_ms = clock::after(clock::now_ms(), NO_ROOM_PAUSE);
        self.context.queue.release(taken.ticket, due_ms);
    }

    /// Records what the last transaction of a piece came to, and gives back what is left of it.
    pub(super) async fn finish(&self, unfinished: Unfinished) {
        let Unfinished {
            message,
            _room,
            _reclaim,
            progress,
            judged,
        } = unfinished;
        let course = Course::resume(&self.context, &message, *progress);
        match judged.record(course).await {
            Some(left) => left.release(),
            None => self.upstreams.lock_holds().forget(message.id),
        }
    }

    /// The connection, opened if there is none over which a message with this demand may go.
    pub(super) async fn connect<'a>(
        &self,
        connection: &'a mut Option<Connection>,
        demand: TlsDemand,
    ) -> Result<&'a mut Connection, Closed> {
        if let Some(unfit) = connection.take_if(|open| !self.hop.suits(open, demand)) {
            unfit.quit().await;
        }
        match connection {
            Some(open) => Ok(open),
            none => Ok(none.insert(self.open(demand).await?)),
        }
    }
}

/// A piece after its last transaction, with all that it holds until that is recorded.
pub(super) struct Unfinished {
    message: Message,
    _room: LoadedRoom,
    _reclaim: ReclaimOnPanic,
    progress: Box<Progress>,
    judged: Judged,
}
