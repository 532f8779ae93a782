//! What a transaction writes, and when.

use std::fmt::Write as _;
use std::mem;

use bytes::BytesMut;

use super::transfer::Transfer;
use super::{Awaited, Exchange, Mail, Next};
use crate::client::judge::Posture;
use crate::client::peer::Peer;
use crate::client::recipient::Standing;
use crate::content::{Encoder, Framing, Written};
use crate::envelope::Charset;
use crate::{BodyKind, Extension};

/// Commands sent ahead of their replies. Their replies (about 100 octets each) fit into any socket
/// buffer, so a driver that writes everything before it reads cannot block for good (RFC 2920 §3.1).
const WINDOW: usize = 100;
/// Octets of content put into the output at a time.
const PIECE: usize = 64 << 10;

/// Commands that may be unanswered at a time.
pub(super) fn window(peer: &Peer) -> usize {
    match peer.offers(Extension::Pipelining) {
        true => WINDOW,
        false => 1,
    }
}

impl Exchange {
    /// Writes what may be written before the next reply. Buffers take whatever is written to them.
    pub(in crate::client) fn write_commands(&mut self, peer: &Peer, output: &mut BytesMut) {
        while self.awaiting.len() < self.window {
            let awaited = match self.next {
                Next::Nothing => return,
                Next::Reset => {
                    self.next = Next::Mail;
                    output.extend_from_slice(b"RSET");
                    Awaited::Reset
                }
                Next::Mail => {
                    self.next = self.recipient_from(0);
                    let _ = write!(output, "MAIL FROM:<{}>", self.sender);
                    peer.write_mail(&self.parameters, self.size, output);
                    // RFC 4954 §5: the login is ours, and not that of whoever wrote the message.
                    if self.judge.posture() == Posture::LoggedIn {
                        output.extend_from_slice(b" AUTH=<>");
                    }
                    Awaited::Mail
                }
                Next::Recipient(index) => {
                    self.next = self.recipient_from(index + 1);
                    let recipient = &self.recipients[index].named;
                    let _ = write!(output, "RCPT TO:<{}>", recipient.path);
                    peer.write_rcpt(recipient, self.charset(), output);
                    Awaited::Recipient(index)
                }
                Next::Content => return self.write_content_command(output),
            };
            output.extend_from_slice(b"\r\n");
            self.awaiting.push_back(awaited);
        }
    }

    /// DATA; or BDAT, and all of the content if its time has come.
    fn write_content_command(&mut self, output: &mut BytesMut) {
        if !self.data_is_worthwhile() {
            self.next = Next::Nothing;
            return;
        }
        if self.transfer == Transfer::ChunkAfterReplies && !self.awaiting.is_empty() {
            return;
        }
        self.next = Next::Nothing;
        let framing = match (self.transfer, self.parameters.body) {
            (Transfer::Data, _) => {
                output.extend_from_slice(b"DATA\r\n");
                self.awaiting.push_back(Awaited::Data);
                return;
            }
            (_, BodyKind::Binary) => Framing::Octets,
            (_, BodyKind::SevenBit | BodyKind::EightBit) => Framing::Lines,
        };
        let _ = write!(output, "BDAT {} LAST\r\n", self.size);
        self.encoder = Some(Encoder::new(mem::take(&mut self.content), framing));
        if self.transfer == Transfer::ChunkAtOnce {
            while self.write_piece(output) == Written::Part {}
        }
    }

    /// In a transaction with SMTPUTF8 addresses need no escapes.
    fn charset(&self) -> Charset {
        match self.parameters.smtputf8 && !self.dropped.contains(Extension::SmtpUtf8) {
            true => Charset::Utf8,
            false => Charset::Ascii,
        }
    }

    /// The next recipient that is not settled, or the content behind the last.
    fn recipient_from(&self, index: usize) -> Next {
        let rest = self.recipients.iter().enumerate().skip(index);
        rest.filter(|(_, recipient)| matches!(recipient.standing, Standing::Open))
            .map(|(index, _)| Next::Recipient(index))
            .next()
            .unwrap_or(Next::Content)
    }

    /// Whether somebody is accepted, or may still be by a reply that is on its way.
    pub(super) fn data_is_worthwhile(&self) -> bool {
        self.mail != Mail::Refused && !self.is_settled()
    }

    /// Puts the next piece of content into the output.
    pub(in crate::client) fn write_piece(&mut self, output: &mut BytesMut) -> Written {
        let written = match &mut self.encoder {
            Some(encoder) => encoder.write(output, PIECE),
            None => Written::All,
        };
        if written == Written::All {
            self.encoder = None;
            self.awaiting.push_back(Awaited::Final);
        }
        written
    }
}
