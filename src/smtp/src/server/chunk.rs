//! BDAT (RFC 3030 §2): content in chunks of a length that is told before.
//!
//! Whatever the answer to BDAT is, it goes out behind the octets of the chunk, so that not one of them is ever read as a
//! command. The RFC leaves open what follows a chunk that was refused; here the transaction is over.

use std::mem;

use bytes::{Buf as _, BytesMut};

use super::body::{Body, DISCARD_MAX};
use super::envelope::Transaction;
use super::{Session, State, Step, replies};
use crate::command::{self, Chunk};
use crate::{Extension, Reply};

/// A chunk that is being received.
#[derive(Clone, Copy, Debug)]
pub(super) struct Arriving {
    octets: u64,
    left: u64,
    chunk: Chunk,
}

/// A chunk that is refused: the reply goes out behind it.
#[derive(Debug)]
pub(super) struct Dropped {
    left: u64,
    reply: Reply,
}

impl Session {
    pub(super) fn bdat(&mut self, octets: u64, chunk: Chunk) {
        if octets > DISCARD_MAX {
            self.close(&replies::chunk_too_big(self.config.message_bytes));
            return;
        }
        if !self
            .config
            .offered(&self.info)
            .contains(Extension::Chunking)
        {
            return self.refuse_chunk(octets, command::Error::NotOffered.reply());
        }
        let (transaction, mut body) = match mem::replace(&mut self.state, State::Idle) {
            State::Chunked(transaction, body) => (transaction, body),
            State::Envelope(transaction) if transaction.recipients.is_empty() => {
                return self.refuse_chunk(octets, replies::no_recipients());
            }
            State::Envelope(transaction) => {
                let kind = transaction.sender.parameters.body;
                let body = Body::chunked(kind, self.config.message_bytes);
                (transaction, body)
            }
            _ => return self.refuse_chunk(octets, replies::mail_first()),
        };
        body.expect(octets);
        let arriving = Arriving {
            octets,
            left: octets,
            chunk,
        };
        self.state = State::Chunk(transaction, body, arriving);
    }

    /// The transaction, if there is one, is over.
    pub(super) fn refuse_chunk(&mut self, octets: u64, reply: Reply) {
        match octets {
            ..=DISCARD_MAX => {
                self.state = State::Dropping(Dropped {
                    left: octets,
                    reply,
                });
            }
            _ => self.close(&replies::chunk_too_big(self.config.message_bytes)),
        }
    }

    pub(super) fn drop_chunk(&mut self, input: &mut BytesMut) -> Option<Step> {
        let State::Dropping(Dropped { left, .. }) = &mut self.state else {
            return None;
        };
        let octets = take(left, input);
        input.advance(octets);
        if *left > 0 {
            return Some(Step::NeedInput);
        }
        if let State::Dropping(Dropped { reply, .. }) = mem::replace(&mut self.state, State::Idle) {
            self.error(&reply);
        }
        None
    }

    pub(super) fn read_chunk(&mut self, input: &mut BytesMut) -> Option<Step> {
        let State::Chunk(_, body, arriving) = &mut self.state else {
            return None;
        };
        let octets = take(&mut arriving.left, input);
        body.add(&input[..octets]);
        input.advance(octets);
        if arriving.left > 0 {
            return Some(Step::NeedInput);
        }
        match mem::replace(&mut self.state, State::Idle) {
            State::Chunk(transaction, body, arriving) => {
                self.chunk_over(transaction, body, arriving)
            }
            other => {
                self.state = other;
                None
            }
        }
    }

    fn chunk_over(
        &mut self,
        transaction: Transaction,
        body: Body,
        arriving: Arriving,
    ) -> Option<Step> {
        if arriving.chunk == Chunk::Last {
            return self.content_over(transaction, body);
        }
        if let Some(refusal) = body.refusal() {
            let refusal = refusal.clone();
            self.refuse_as_junk(&refusal);
            return None;
        }
        self.state = State::Chunked(transaction, body);
        let reply = replies::chunk_ok(arriving.octets);
        match arriving.octets {
            // Nothing has come nearer to its end.
            0 => self.junk(&reply),
            _ => self.reply(&reply),
        }
        None
    }
}

/// How many octets of the input belong to a chunk of which so many are left.
fn take(left: &mut u64, input: &BytesMut) -> usize {
    let octets = usize::try_from(*left).map_or(input.len(), |left| left.min(input.len()));
    *left -= octets as u64;
    octets
}
