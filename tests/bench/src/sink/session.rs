//! One session of the sink, without IO.
//!
//! It believes what a client says and checks nothing, except that content needs a recipient. A message has arrived once its 250
//! stands in the output: what was dropped or refused before that is the client's to bring again.

use std::time::Duration;

use bytes::{Buf as _, BytesMut};

use crate::faults::{Action, Faults, Step};
use crate::ledger::Ledger;
use crate::message::label_in;

/// The label stands in the first octets, behind the trace headers that relays add.
const HEAD: usize = 4096;
/// What ends a message after DATA.
const END: &[u8] = b"\r\n.\r\n";

/// What is to be done next, after the output has been written.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Turn {
    /// Read more.
    More,
    /// Wait before the output is written; then feed again.
    Pause(Duration),
    /// A TLS handshake.
    Handshake,
    /// The end.
    Close,
}

/// Where a session stands.
#[derive(Debug)]
pub(super) struct Session<'a> {
    faults: &'a Faults,
    ledger: &'a Ledger,
    chunking: bool,
    /// Recipients that were taken since MAIL.
    recipients: u32,
    content: Content,
}

/// What of a message has come.
#[derive(Debug, Default)]
struct Content {
    state: State,
    head: Vec<u8>,
    begun: bool,
}

/// Whether commands or content come.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
enum State {
    #[default]
    Commands,
    Data,
    Chunk {
        left: usize,
        last: bool,
    },
}

impl<'a> Session<'a> {
    pub(super) fn new(faults: &'a Faults, ledger: &'a Ledger, chunking: bool) -> Self {
        Self {
            faults,
            ledger,
            chunking,
            recipients: 0,
            content: Content::default(),
        }
    }

    /// The greeting.
    pub(super) fn greet(&self, output: &mut Vec<u8>) -> Turn {
        self.answer(Step::Connect, b"220 sink.example.org ESMTP\r\n", output)
            .0
    }

    /// Takes what it can.
    pub(super) fn feed(
        &mut self,
        input: &mut BytesMut,
        output: &mut Vec<u8>,
        offers_tls: bool,
    ) -> Turn {
        loop {
            let turn = match self.content.state {
                State::Data => self.data(input, output),
                State::Chunk { left, last } => self.chunk(left, last, input, output),
                State::Commands => {
                    let Some(end) = memchr::memchr(b'\n', input) else {
                        return Turn::More;
                    };
                    let line = input.split_to(end + 1);
                    Some(self.command(&line, output, offers_tls))
                }
            };
            match turn {
                Some(Turn::More) => {}
                Some(turn) => return turn,
                None => return Turn::More,
            }
        }
    }

    fn command(&mut self, line: &[u8], output: &mut Vec<u8>, offers_tls: bool) -> Turn {
        let is = |verb: &[u8]| {
            line.get(..verb.len())
                .is_some_and(|start| start.eq_ignore_ascii_case(verb))
        };
        if is(b"MAIL") {
            self.recipients = 0;
            self.content = Content::default();
            return self.answer(Step::Mail, b"250 2.1.0 ok\r\n", output).0;
        }
        if is(b"RCPT") {
            let (turn, taken) = self.answer(Step::Rcpt, b"250 2.1.5 ok\r\n", output);
            self.recipients += u32::from(taken);
            return turn;
        }
        if is(b"BDAT") {
            return self.bdat(line, output);
        }
        if is(b"DATA") {
            if self.recipients == 0 {
                return say(b"554 5.5.1 no valid recipients\r\n", output, Turn::More);
            }
            let (turn, taken) = self.answer(Step::Data, b"354 go\r\n", output);
            if taken {
                self.content.state = State::Data;
            }
            return turn;
        }
        if is(b"EHLO") || is(b"HELO") {
            return self.hello(output, offers_tls);
        }
        if offers_tls && is(b"STARTTLS") {
            return say(b"220 2.0.0 go\r\n", output, Turn::Handshake);
        }
        if is(b"QUIT") {
            return say(b"221 2.0.0 bye\r\n", output, Turn::Close);
        }
        self.recipients = 0;
        say(b"250 2.0.0 ok\r\n", output, Turn::More)
    }

    fn hello(&self, output: &mut Vec<u8>, offers_tls: bool) -> Turn {
        let mut reply = b"250-sink.example.org\r\n250-PIPELINING\r\n".to_vec();
        if self.chunking {
            reply.extend_from_slice(b"250-CHUNKING\r\n");
        }
        if offers_tls {
            reply.extend_from_slice(b"250-STARTTLS\r\n");
        }
        reply.extend_from_slice(b"250-ENHANCEDSTATUSCODES\r\n250 8BITMIME\r\n");
        self.answer(Step::Hello, &reply, output).0
    }

    fn bdat(&mut self, line: &[u8], output: &mut Vec<u8>) -> Turn {
        let mut words = line.split(u8::is_ascii_whitespace).skip(1);
        let octets = words.next().and_then(|word| std::str::from_utf8(word).ok());
        let Some(left) = octets.and_then(|word| word.parse().ok()) else {
            // Where the next command begins is not known.
            return say(b"501 5.5.4 how many?\r\n", output, Turn::Close);
        };
        let last = words
            .next()
            .is_some_and(|word| word.eq_ignore_ascii_case(b"LAST"));
        self.content.state = State::Chunk { left, last };
        Turn::More
    }

    /// None if it needs more.
    fn data(&mut self, input: &mut BytesMut, output: &mut Vec<u8>) -> Option<Turn> {
        // An empty message is a dot and nothing before it.
        let (end, length) = match memchr::memmem::find(input, END) {
            _ if !self.content.begun && input.starts_with(&END[2..]) => (Some(0), END.len() - 2),
            found => (found, END.len()),
        };
        let taken = end.unwrap_or_else(|| input.len().saturating_sub(END.len() - 1));
        self.content.take(input, taken);
        end?;
        input.advance(length);
        Some(self.arrived(output))
    }

    /// None if it needs more.
    fn chunk(
        &mut self,
        left: usize,
        last: bool,
        input: &mut BytesMut,
        output: &mut Vec<u8>,
    ) -> Option<Turn> {
        let taken = left.min(input.len());
        self.content.take(input, taken);
        let left = left - taken;
        self.content.state = State::Chunk { left, last };
        if left > 0 {
            return None;
        }
        self.content.state = State::Commands;
        if self.recipients == 0 {
            let turn = say(b"554 5.5.1 no valid recipients\r\n", output, Turn::More);
            return Some(turn);
        }
        if last {
            return Some(self.arrived(output));
        }
        Some(say(b"250 2.0.0 ok\r\n", output, Turn::More))
    }

    fn arrived(&mut self, output: &mut Vec<u8>) -> Turn {
        let content = std::mem::take(&mut self.content);
        self.recipients = 0;
        let (turn, taken) = self.answer(Step::End, b"250 2.0.0 ok\r\n", output);
        if let (true, Some(label)) = (taken, label_in(&content.head)) {
            self.ledger.arrive(label);
        }
        turn
    }

    /// The usual reply, or the fault that is due; and whether it is the usual one.
    fn answer(&self, step: Step, usual: &[u8], output: &mut Vec<u8>) -> (Turn, bool) {
        match self.faults.draw(step) {
            None => (say(usual, output, Turn::More), true),
            Some(Action::Delay(pause)) => (say(usual, output, Turn::Pause(pause)), true),
            Some(Action::Drop) => {
                output.clear();
                (Turn::Close, false)
            }
            Some(Action::Reply(code)) => {
                let text = format!("{code} {}.3.0 a fault on purpose\r\n", code / 100);
                // 421 closes (RFC 5321 §3.8), and so does a refusal to greet.
                let turn = if code == 421 || step == Step::Connect {
                    Turn::Close
                } else {
                    Turn::More
                };
                (say(text.as_bytes(), output, turn), false)
            }
        }
    }
}

impl Content {
    fn take(&mut self, input: &mut BytesMut, octets: usize) {
        let wanted = HEAD.saturating_sub(self.head.len()).min(octets);
        self.head.extend_from_slice(&input[..wanted]);
        self.begun |= octets > 0;
        input.advance(octets);
    }
}

fn say(reply: &[u8], output: &mut Vec<u8>, turn: Turn) -> Turn {
    output.extend_from_slice(reply);
    turn
}

#[cfg(test)]
mod tests;
