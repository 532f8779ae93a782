//! What the replies to a transaction lead to.

use std::mem;

use bytes::BytesMut;

use super::transfer::Transfer;
use super::{Awaited, Exchange, Mail, Next, Progress, Transport};
use crate::Reply;
use crate::client::RecipientOutcome;
use crate::client::peer::Peer;
use crate::client::recipient::{Standing, local};
use crate::content::{Encoder, Framing};

impl Exchange {
    pub(in crate::client) fn on_reply(
        &mut self,
        reply: Reply,
        nothing_behind: bool,
        peer: &Peer,
        output: &mut BytesMut,
    ) -> Progress {
        if reply.code() == 421 {
            self.goodbye(&reply);
            return Progress::Broken(reply);
        }
        // One of those in front may have been nobody's: then this one is not the answer to the chunk.
        let ends_chunk = self.transfer != Transfer::Data && self.is_at_final_reply();
        if ends_chunk && !nothing_behind {
            return Progress::Broken(one_too_many());
        }
        if !self.take(&reply, output) {
            return Progress::Broken(out_of_place(&reply));
        }
        // A reply too many would be taken for the answer to what is sent next.
        if !nothing_behind && self.awaiting.is_empty() && !self.is_over() {
            return Progress::Broken(one_too_many());
        }
        if self.has_content() {
            return Progress::Going;
        }
        self.write_commands(peer, output);
        if self.has_content() || !self.awaiting.is_empty() {
            return Progress::Going;
        }
        self.judge.answered();
        Progress::Over
    }

    /// RFC 5321 §3.8: with 421 the server closes, whatever it was asked. As the answer to the message, or when
    /// everyone has an answer, it ends the connection only; before that it is a word about the server.
    fn goodbye(&mut self, reply: &Reply) {
        match self.is_at_final_reply() || self.is_settled() {
            true => self.judge.answered(),
            false => self.judge.goodbye(reply),
        }
    }

    /// Takes a reply for what it answers; `false` if it cannot be an answer to that.
    fn take(&mut self, reply: &Reply, output: &mut BytesMut) -> bool {
        match self.awaiting.pop_front() {
            Some(Awaited::Reset) => reply.code() == 250,
            Some(Awaited::Mail) => self.mail_reply(reply),
            Some(Awaited::Recipient(index)) => self.recipient_reply(index, reply),
            Some(Awaited::Data) => self.data_reply(reply, output),
            Some(Awaited::Final) => self.final_reply(reply),
            Some(Awaited::Nothing) => {
                self.mail = Mail::Closed;
                true
            }
            None => false,
        }
    }

    /// Nothing is left to send once the replies that are awaited are in.
    fn is_over(&self) -> bool {
        match self.next {
            _ if self.has_content() => false,
            Next::Nothing => true,
            Next::Content => !self.data_is_worthwhile(),
            Next::Reset | Next::Mail | Next::Recipient(_) => false,
        }
    }

    fn mail_reply(&mut self, reply: &Reply) -> bool {
        match reply.code() {
            200..300 => {
                self.judge.mail_accepted();
                self.mail = Mail::Open;
            }
            400.. => {
                self.mail = Mail::Refused;
                self.next = Next::Nothing;
                let outcome = self.judge.mail(reply);
                self.settle_open(&outcome);
            }
            _ => return false,
        }
        true
    }

    fn recipient_reply(&mut self, index: usize, reply: &Reply) -> bool {
        if !matches!(self.recipients[index].standing, Standing::Open) {
            // MAIL was refused: that counts, and not what the server says to a RCPT that followed it.
            return true;
        }
        self.recipients[index].standing = match reply.code() {
            200..300 => {
                self.judge.recipient_answered();
                Standing::Accepted
            }
            552 if self.is_one_too_many(reply) => {
                Standing::Settled(RecipientOutcome::Deferred(reply.clone()))
            }
            400.. => Standing::Settled(self.judge.recipient(reply)),
            _ => return false,
        };
        true
    }

    /// RFC 5321 §4.5.3.1.10: 552 to RCPT may be an old way to say 452, too many recipients.
    fn is_one_too_many(&self, reply: &Reply) -> bool {
        let about_mailbox = reply.status().is_some_and(|status| status.subject == 2);
        let mut standings = self.recipients.iter().map(|recipient| &recipient.standing);
        !about_mailbox && standings.any(|standing| matches!(standing, Standing::Accepted))
    }

    fn data_reply(&mut self, reply: &Reply, output: &mut BytesMut) -> bool {
        match reply.code() {
            354 if self.is_settled() => {
                output.extend_from_slice(b".\r\n");
                self.awaiting.push_back(Awaited::Nothing);
            }
            354 => {
                let content = mem::take(&mut self.content);
                self.encoder = Some(Encoder::new(content, Framing::Dots));
            }
            400.. => {
                let outcome = self.judge.content(reply);
                self.settle_open(&outcome);
            }
            _ => return false,
        }
        true
    }

    fn final_reply(&mut self, reply: &Reply) -> bool {
        let outcome = match reply.code() {
            200..300 if self.transport == Transport::Whole => {
                self.mail = Mail::Closed;
                RecipientOutcome::Delivered(reply.clone())
            }
            400.. => {
                // RFC 3030 §2 leaves open what is left of a transaction whose chunk was refused.
                self.mail = match self.transfer {
                    Transfer::Data => Mail::Closed,
                    Transfer::ChunkAtOnce | Transfer::ChunkAfterReplies => Mail::Open,
                };
                if self.is_settled() {
                    // Content that went out for nobody: there is nothing to judge.
                    return true;
                }
                self.judge.content(reply)
            }
            _ => return false,
        };
        self.settle_open(&outcome);
        true
    }

    /// The server answered before the content was over.
    pub(in crate::client) fn interrupted(&mut self, reply: &Reply) {
        match reply.code() {
            421 => self.goodbye(reply),
            400.. => {
                let outcome = self.judge.content(reply);
                self.settle_open(&outcome);
                self.judge.answered();
            }
            // Nothing positive can be meant for content that is not over.
            _ => {}
        }
    }
}

fn one_too_many() -> Reply {
    let text = "The server broke the protocol: a reply too many";
    local(451, 4, 5, 0, text)
}

fn out_of_place(reply: &Reply) -> Reply {
    local(
        451,
        4,
        5,
        0,
        &format!("The server broke the protocol: {reply}"),
    )
}
