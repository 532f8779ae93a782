//! Content on its way in.

use std::mem;

use bytes::{Buf, Bytes, BytesMut};
use memchr::memchr;

use super::{Pending, ReceivedMessage, Request, Session, State, Step, Verdict, replies};
use crate::content::{Decoded, Decoder};
use crate::{EnhancedStatus, Reply};

/// Octets of refused content that are read and dropped before the connection is closed. A client that
/// ignores SIZE still gets its 552; one that never ends does not hold the connection for ever.
pub(super) const DISCARD_MAX: u64 = 1 << 30;

/// A buffer of more octets than these grows by a quarter at a time, not to its double: it is only read, and its unused end is memory that
/// other messages could have. A smaller one gives its unused end back once it is complete.
const DOUBLING_MAX: usize = 1 << 20;

/// The content of one message, while it arrives.
#[derive(Debug)]
pub(super) struct Body {
    decoder: Decoder,
    limit: u64,
    fate: Fate,
}

/// What becomes of the content.
#[derive(Debug)]
enum Fate {
    Kept(Vec<u8>),
    /// Dropped as it comes; the reply goes out at the end.
    Discarded {
        reply: Reply,
        octets: u64,
    },
}

/// What a read brought.
enum Received {
    Part,
    /// Discarded content goes on past [`DISCARD_MAX`].
    Endless,
    Kept(Bytes),
    Discarded(Reply),
}

impl Body {
    pub(super) fn new(limit: u64) -> Self {
        Self {
            decoder: Decoder::default(),
            limit,
            fate: Fate::Kept(Vec::new()),
        }
    }

    /// Octets of memory held.
    pub(super) fn capacity(&self) -> usize {
        match &self.fate {
            Fate::Kept(content) => content.capacity(),
            Fate::Discarded { .. } => 0,
        }
    }

    /// Drops the content; the first reply counts.
    pub(super) fn discard(&mut self, reply: Reply) {
        if matches!(self.fate, Fate::Kept(_)) {
            self.fate = Fate::Discarded { reply, octets: 0 };
        }
    }

    fn receive(&mut self, input: &mut BytesMut) -> Received {
        let Self {
            decoder,
            limit,
            fate,
        } = self;
        let decoded = decoder.decode(input, &mut |octets| fate.add(octets, *limit));
        match decoded {
            Decoded::More => {
                input.clear();
                match &self.fate {
                    Fate::Discarded { octets, .. } if *octets > DISCARD_MAX => Received::Endless,
                    _ => Received::Part,
                }
            }
            Decoded::End(octets) => {
                input.advance(octets);
                match mem::replace(fate, Fate::Kept(Vec::new())) {
                    Fate::Kept(mut content) => {
                        if content.capacity() <= DOUBLING_MAX {
                            content.shrink_to_fit();
                        }
                        Received::Kept(content.into())
                    }
                    Fate::Discarded { reply, .. } => Received::Discarded(reply),
                }
            }
        }
    }
}

impl Fate {
    fn add(&mut self, run: &[u8], limit: u64) {
        let refusal = match self {
            Self::Discarded { octets, .. } => {
                *octets = octets.saturating_add(run.len() as u64);
                return;
            }
            Self::Kept(content) if (content.len() + run.len()) as u64 > limit => {
                replies::too_big(limit)
            }
            Self::Kept(_) if memchr(0, run).is_some() => replies::nul_in_content(),
            Self::Kept(content) => {
                make_room(content, run.len(), limit);
                content.extend_from_slice(run);
                return;
            }
        };
        *self = Self::Discarded {
            reply: refusal,
            octets: 0,
        };
    }
}

/// Never for more than may come.
fn make_room(content: &mut Vec<u8>, octets: usize, limit: u64) {
    let (length, capacity) = (content.len(), content.capacity());
    if length + octets > capacity && capacity >= DOUBLING_MAX / 2 {
        let grown = (capacity + capacity / 4).max(length + octets);
        let limit = usize::try_from(limit).unwrap_or(usize::MAX);
        content.reserve_exact(grown.min(limit) - length);
    }
}

impl Session {
    pub(super) fn read_content(&mut self, input: &mut BytesMut) -> Option<Step> {
        let State::Receiving(_, body) = &mut self.state else {
            return None;
        };
        match body.receive(input) {
            Received::Part => Some(Step::NeedInput),
            Received::Endless => {
                self.close(&replies::endless_content(&self.config.hostname));
                None
            }
            Received::Discarded(reply) => {
                self.state = State::Idle;
                self.refuse_as_junk(&reply);
                None
            }
            Received::Kept(content) => self.message(content),
        }
    }

    pub(super) fn message_decided(&mut self, verdict: Verdict) {
        match verdict {
            Verdict::Refuse(reply) => self.refuse_as_junk(&reply),
            Verdict::Accept => self.message_kept("Ok"),
            Verdict::Queued(text) => self.message_kept(&text),
        }
    }

    fn message(&mut self, content: Bytes) -> Option<Step> {
        let State::Receiving(transaction, _) =
            mem::replace(&mut self.state, State::Deciding(Pending::Message))
        else {
            return None;
        };
        Some(Step::Request(Request::Message(ReceivedMessage {
            sender: transaction.sender,
            recipients: transaction.recipients,
            body: transaction.body,
            smtputf8: transaction.smtputf8,
            declared_size: transaction.declared_size,
            content,
        })))
    }

    fn message_kept(&mut self, text: &str) {
        self.junk = 0;
        let (status, text) = match text
            .split_once(' ')
            .map(|(head, rest)| (head.parse(), rest))
        {
            Some((Ok(status), rest)) => (status, rest),
            _ => (EnhancedStatus::new(2, 0, 0), text),
        };
        self.reply(&Reply::new(250, status, text));
    }
}
