//! Content on its way in.

use std::mem;

use bytes::{Buf, Bytes, BytesMut};
use memchr::memchr;

use super::envelope::Transaction;
use super::{Pending, ReceivedMessage, Request, Session, State, Step, Verdict, replies};
use crate::content::{Canonicalizer, Decoded, Decoder};
use crate::{BodyKind, EnhancedStatus, Reply};

/// Octets of refused content that are read and dropped before the connection is closed. A client that
/// ignores SIZE still gets its 552; one that never ends does not hold the connection for ever.
pub(super) const DISCARD_MAX: u64 = 1 << 30;

/// A buffer of more octets than these grows by a quarter at a time, not to its double: it is only read, and its unused end is memory that
/// other messages could have. A smaller one gives its unused end back once it is complete.
const DOUBLING_MAX: usize = 1 << 20;

/// The content of one message, while it arrives.
#[derive(Debug)]
pub(super) struct Body {
    coding: Coding,
    limit: u64,
    fate: Fate,
}

/// How the content comes.
#[derive(Debug)]
enum Coding {
    /// Behind DATA.
    Dotted(Decoder),
    /// In chunks, made of lines.
    Lines(Canonicalizer),
    /// In chunks, to be kept as it is.
    Binary,
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

/// What a read behind DATA brought.
enum Received {
    Part,
    /// Discarded content goes on past [`DISCARD_MAX`].
    Endless,
    End,
}

impl Body {
    /// Content behind DATA.
    pub(super) fn dotted(limit: u64) -> Self {
        Self::new(Coding::Dotted(Decoder::default()), limit)
    }

    /// Content in chunks.
    pub(super) fn chunked(kind: BodyKind, limit: u64) -> Self {
        let coding = match kind {
            BodyKind::SevenBit | BodyKind::EightBit => Coding::Lines(Canonicalizer::default()),
            BodyKind::Binary => Coding::Binary,
        };
        Self::new(coding, limit)
    }

    fn new(coding: Coding, limit: u64) -> Self {
        Self {
            coding,
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
            self.fate = Fate::discarded(reply);
        }
    }

    /// Announces a chunk: one that is too big is dropped as it comes.
    pub(super) fn expect(&mut self, octets: u64) {
        let limit = self.limit;
        if let Fate::Kept(content) = &self.fate
            && octets > limit.saturating_sub(content.len() as u64)
        {
            self.discard(replies::too_big(limit));
        }
    }

    /// Takes octets of a chunk.
    pub(super) fn add(&mut self, octets: &[u8]) {
        let Self {
            coding,
            limit,
            fate,
        } = self;
        match coding {
            Coding::Binary => fate.add(octets, *limit),
            Coding::Lines(canonicalizer) => {
                canonicalizer.convert(octets, &mut |run| fate.add_text(run, *limit));
            }
            Coding::Dotted(_) => {}
        }
    }

    /// What refuses the content, if it is.
    pub(super) fn refusal(&self) -> Option<&Reply> {
        match &self.fate {
            Fate::Kept(_) => None,
            Fate::Discarded { reply, .. } => Some(reply),
        }
    }

    /// The content is all there, or why it is not kept.
    pub(super) fn finish(self) -> Result<Bytes, Reply> {
        let Self {
            coding,
            limit,
            mut fate,
        } = self;
        if let Coding::Lines(canonicalizer) = coding {
            canonicalizer.finish(&mut |run| fate.add_text(run, limit));
        }
        match fate {
            Fate::Kept(mut content) => {
                if content.capacity() <= DOUBLING_MAX {
                    content.shrink_to_fit();
                }
                Ok(content.into())
            }
            Fate::Discarded { reply, .. } => Err(reply),
        }
    }

    fn receive(&mut self, input: &mut BytesMut) -> Received {
        let Self {
            coding,
            limit,
            fate,
        } = self;
        let Coding::Dotted(decoder) = coding else {
            return Received::Part;
        };
        match decoder.decode(input, &mut |run| fate.add_text(run, *limit)) {
            Decoded::More => {
                input.clear();
                match &self.fate {
                    Fate::Discarded { octets, .. } if *octets > DISCARD_MAX => Received::Endless,
                    _ => Received::Part,
                }
            }
            Decoded::End(octets) => {
                input.advance(octets);
                Received::End
            }
        }
    }
}

impl Fate {
    /// Adds octets that may hold no NUL.
    fn add_text(&mut self, run: &[u8], limit: u64) {
        if matches!(self, Self::Kept(_)) && memchr(0, run).is_some() {
            *self = Self::discarded(replies::nul_in_content());
        }
        self.add(run, limit);
    }

    fn add(&mut self, run: &[u8], limit: u64) {
        match self {
            Self::Discarded { octets, .. } => *octets = octets.saturating_add(run.len() as u64),
            Self::Kept(content) if (content.len() + run.len()) as u64 > limit => {
                *self = Self::discarded(replies::too_big(limit));
            }
            Self::Kept(content) => {
                make_room(content, run.len(), limit);
                content.extend_from_slice(run);
            }
        }
    }

    fn discarded(reply: Reply) -> Self {
        Self::Discarded { reply, octets: 0 }
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
            Received::End => match mem::replace(&mut self.state, State::Idle) {
                State::Receiving(transaction, body) => self.content_over(transaction, body),
                other => {
                    self.state = other;
                    None
                }
            },
        }
    }

    /// All of the content has come: the driver decides, unless it is refused already.
    pub(super) fn content_over(&mut self, transaction: Transaction, body: Body) -> Option<Step> {
        match body.finish() {
            Ok(content) => {
                self.state = State::Deciding(Pending::Message);
                let Transaction { sender, recipients } = transaction;
                Some(Step::Request(Request::Message(ReceivedMessage {
                    sender,
                    recipients,
                    content,
                })))
            }
            Err(reply) => {
                self.state = State::Idle;
                self.refuse_as_junk(&reply);
                None
            }
        }
    }

    pub(super) fn message_decided(&mut self, verdict: Verdict) {
        match verdict {
            Verdict::Refuse(reply) => self.refuse_as_junk(&reply),
            Verdict::Accept => self.message_kept("Ok"),
            Verdict::Reprioritized(_) => self.refuse_as_junk(&replies::misfit()),
            Verdict::Queued(text) => self.message_kept(&text),
        }
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
