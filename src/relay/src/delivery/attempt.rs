//! The attempt at one message: the connection that it goes over, and its content as the server there takes it.
//!
//! Both may have to be waited for, for minutes, and servers say goodbye to who is idle meanwhile. What has its room, or is converted, does not
//! give that back then: another connection is opened.

use postroad_smtp::client::RecipientOutcome;
use postroad_spool::TlsDemand;
use tokio::time::Instant;

use super::connect::{Connection, Rank};
use super::content::{self, Takes, Unready};
use super::course::Course;
use super::hop::Permit;
use super::plan::Waits;
use super::transmit::{Judged, Rest, unsendable};
use super::worker::{Closed, REST_MAX, Then, Worker};
use crate::envelope;

impl Worker {
    /// Sends a message over the connection that has been left alone since `begun`, or another.
    pub(super) async fn attempt(
        &self,
        connection: &mut Option<Connection>,
        course: Course<'_>,
        begun: Instant,
        permit: Option<Permit<'_>>,
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
        match self.connect_again(connection, demand, begun).await {
            Ok(open) if open.peer().takes(content.body) => {
                self.transmit(open, course, &content, permit).await
            }
            Ok(_) => {
                let unready = Unready::NoRoom(content::other_server());
                self.give_up_converting(course, unready, rank)
            }
            Err(closed) => self.give_up_connecting(course, closed),
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
