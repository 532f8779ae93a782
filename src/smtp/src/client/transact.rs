//! A transaction and the client around it.

use std::mem;

use bytes::BytesMut;

use super::exchange::{Exchange, Progress, Trust};
use super::judge::Posture;
use super::recipient::local;
use super::{
    Certificate, Client, ClientStep, ClientTls, Connection, End, RecipientOutcome, SenderVerdict,
    State, Transaction, TransactionOutcome, Turn,
};
use crate::content::Written;
use crate::reply::ReplyError;
use crate::{Extension, Extensions, Reply, RequireTls, ReversePath};

impl Client {
    /// Starts a transaction, or settles it if it cannot be sent at all.
    pub(super) fn begin(&mut self, mut transaction: Transaction) -> State {
        let posture = self.posture();
        if transaction.sender == ReversePath::Null && !self.may_require_tls() {
            // RFC 8689 §5: a report is not lost for what it asks for; there is nobody left to be told.
            transaction.parameters.require_tls = RequireTls::No;
        }
        let mut exchange = Exchange::new(
            transaction,
            &self.peer,
            self.certificate,
            posture,
            self.trust,
            &self.named,
        );
        if exchange.is_settled() {
            return State::Settled(exchange.unasked());
        }
        self.transactions = self.transactions.saturating_add(1);
        if mem::take(&mut self.needs_reset) {
            exchange.reset_first();
        }
        exchange.write_commands(&self.peer, &mut self.output);
        State::Exchange(Box::new(exchange))
    }

    fn may_require_tls(&self) -> bool {
        self.certificate == Certificate::Verified && self.peer.offers(Extension::RequireTls)
    }

    fn posture(&self) -> Posture {
        match self.config.login {
            // A client with a login gets here only after 235.
            Some(_) => Posture::LoggedIn,
            None if self.peer.starttls && self.config.tls != ClientTls::Active => {
                Posture::StarttlsUnused
            }
            None => Posture::Anonymous,
        }
    }

    pub(super) fn finish_settled(&mut self) -> Turn {
        match mem::replace(&mut self.state, State::Closed) {
            State::Settled(outcome) => {
                if outcome.connection == Connection::Reusable {
                    self.state = State::Ready;
                }
                Turn::Step(ClientStep::Finished(outcome))
            }
            other => {
                self.state = other;
                Turn::Continue
            }
        }
    }

    pub(super) fn exchange_reply(&mut self, reply: Reply, input: &BytesMut) -> Turn {
        let State::Exchange(exchange) = &mut self.state else {
            return Turn::Continue;
        };
        match exchange.on_reply(reply, input.is_empty(), &self.peer, &mut self.output) {
            Progress::Going => Turn::Continue,
            Progress::Broken(reply) => self.break_exchange(&reply),
            Progress::Over => {
                self.needs_reset = exchange.is_left_open();
                // Replies too many: none of them can be told from the next answer.
                let sound = input.is_empty() && !exchange.is_cut_short();
                let most = self.peer.messages_max();
                if sound {
                    self.trust = Trust::Counted;
                }
                let has_room = most.is_none_or(|most| self.transactions < most);
                if let Some(named) = exchange.named() {
                    self.named = named;
                }
                let connection = match sound && has_room {
                    true => Connection::Reusable,
                    false => Connection::Closing,
                };
                self.finish(connection)
            }
        }
    }

    /// Writes a piece of content. A server that speaks in the middle of it has given up on it.
    pub(super) fn write_content(&mut self, input: &mut BytesMut) -> Turn {
        let said = match input.is_empty() {
            true => Ok(None),
            false => self.replies.next(input),
        };
        let State::Exchange(exchange) = &mut self.state else {
            return Turn::Continue;
        };
        match said {
            Ok(None) if exchange.is_cut_short() => Turn::Step(ClientStep::NeedInput),
            Ok(None) if exchange.write_piece(&mut self.output) == Written::Part => {
                Turn::Step(ClientStep::Flush)
            }
            Ok(None) => Turn::Continue,
            Ok(Some(reply)) => {
                exchange.interrupted(&reply);
                self.break_exchange(&reply)
            }
            Err(error) => self.break_exchange(&malformed(error)),
        }
    }

    /// Defers whoever has no outcome yet, and gives up the connection.
    pub(super) fn break_exchange(&mut self, reply: &Reply) -> Turn {
        if let State::Exchange(exchange) = &mut self.state {
            exchange.settle_open(&RecipientOutcome::Deferred(reply.clone()));
        }
        self.finish(Connection::Closing)
    }

    fn finish(&mut self, connection: Connection) -> Turn {
        let next = match connection {
            Connection::Reusable => State::Ready,
            Connection::Closing => State::Closed,
        };
        match mem::replace(&mut self.state, next) {
            State::Exchange(mut exchange) => {
                Turn::Step(ClientStep::Finished(exchange.outcome(connection)))
            }
            other => {
                self.state = other;
                Turn::Continue
            }
        }
    }
}

/// Every recipient deferred: [`Client::send`] was called at the wrong time.
pub(super) fn out_of_turn(recipients: usize) -> TransactionOutcome {
    let reply = local(
        451,
        4,
        3,
        0,
        "The connection was not ready for a transaction",
    );
    TransactionOutcome {
        recipients: vec![RecipientOutcome::Deferred(reply); recipients],
        connection: Connection::Closing,
        end: End::Unasked,
        sender: SenderVerdict::Unknown,
        dropped: Extensions::NONE,
    }
}

/// The reply that stands for bytes that are none.
pub(super) fn malformed(error: ReplyError) -> Reply {
    local(
        451,
        4,
        5,
        0,
        &format!("The server broke the protocol: {error}"),
    )
}
