//! Lines and the commands in them, as far as they are not about the envelope or AUTH.

use bytes::BytesMut;

use super::{AUTH_LINE_MAX, COMMAND_LINE_MAX, Session, State, Step, TlsOffer, offer, replies};
use crate::Reply;
use crate::command::{self, Command};
use crate::line::Line;

/// First octet of a TLS record that carries a handshake (RFC 8446 §5.1).
const TLS_HANDSHAKE: u8 = 0x16;

impl Session {
    pub(super) fn read_line(&mut self, input: &mut BytesMut) -> Option<Step> {
        if self.lines.at_start(input) && input.first() == Some(&TLS_HANDSHAKE) {
            self.close(&replies::tls_on_plaintext());
            return None;
        }
        let authenticating = matches!(self.state, State::Authenticating(_));
        let max = if authenticating {
            AUTH_LINE_MAX
        } else {
            COMMAND_LINE_MAX
        };
        match self.lines.next(input, max) {
            None => Some(Step::NeedInput),
            Some(Line::Complete(line)) if authenticating => self.auth_line(&line),
            Some(Line::Complete(line)) => match command::parse(&line) {
                Ok(command) => self.command(command, input),
                Err(error) => self.bad_command(&line, &error),
            },
            Some(Line::TooLong(line)) => {
                self.bad_line(&line, &replies::line_too_long(authenticating))
            }
            Some(Line::BareNewline(line)) => self.bad_line(&line, &replies::bare_newline()),
        }
    }

    /// A line that was not even read also ends an AUTH exchange.
    fn bad_line(&mut self, line: &[u8], reply: &Reply) -> Option<Step> {
        if matches!(self.state, State::Authenticating(_)) {
            self.state = State::Idle;
        } else if command::announces_chunk(line) {
            self.close(&command::Error::Chunk.reply());
            return None;
        }
        self.error(reply);
        None
    }

    /// How many octets a chunk has is unknown if its line cannot be read: none of them may be taken for a command.
    fn bad_command(&mut self, line: &[u8], error: &command::Error) -> Option<Step> {
        match error {
            command::Error::Foreign => self.close(&error.reply()),
            _ if command::announces_chunk(line) => self.close(&command::Error::Chunk.reply()),
            _ => self.error(&error.reply()),
        }
        None
    }

    fn command(&mut self, command: Command<'_>, input: &mut BytesMut) -> Option<Step> {
        // Whatever the answer to DATA is, content that is there already may not be read as commands.
        if command == Command::Data && !input.is_empty() {
            self.close(&replies::content_too_early());
            return None;
        }
        let is_required = matches!(self.config.tls, TlsOffer::Required | TlsOffer::Unready);
        if is_required && replies::needs_tls(&command) {
            match command {
                Command::Bdat(octets, _) => self.refuse_chunk(octets, replies::tls_required()),
                _ => self.error(&replies::tls_required()),
            }
            return None;
        }
        match command {
            Command::Ehlo(name) => self.greet(name, true),
            Command::Helo(name) => self.greet(name, false),
            Command::Mail(path, parameters) => return self.mail(path, parameters),
            Command::Rcpt(recipient) => return self.rcpt(recipient),
            Command::Data => self.data(),
            Command::Bdat(octets, chunk) => self.bdat(octets, chunk),
            Command::Auth(mechanism, initial) => return self.auth(mechanism, initial),
            Command::StartTls => self.start_tls(input),
            Command::Rset => {
                self.state = State::Idle;
                self.junk(&replies::ok());
            }
            Command::Noop => self.junk(&replies::ok()),
            Command::Vrfy => self.junk(&replies::vrfy()),
            Command::Help => self.junk(&replies::help()),
            Command::Quit => self.close(&replies::bye()),
        }
        None
    }

    fn greet(&mut self, name: &str, esmtp: bool) {
        self.state = State::Idle;
        name.clone_into(&mut self.info.helo);
        self.info.esmtp = esmtp;
        let reply = if esmtp {
            offer::ehlo(&self.config, &self.info)
        } else {
            replies::helo(&self.config.hostname)
        };
        self.junk(&reply);
    }

    fn start_tls(&mut self, input: &mut BytesMut) {
        match (&self.state, self.config.tls) {
            (_, TlsOffer::Unavailable) => self.error(&replies::tls_unavailable()),
            (_, TlsOffer::Unready) => self.error(&replies::tls_unready()),
            (_, TlsOffer::Active) => self.error(&replies::tls_active()),
            (State::Envelope(_) | State::Chunked(..), _) => self.error(&replies::in_transaction()),
            (_, TlsOffer::Offered | TlsOffer::Required) => {
                if input.is_empty() {
                    self.reply(&replies::ready_for_tls());
                    self.state = State::Handshake;
                } else {
                    self.close(&replies::injected());
                }
            }
        }
    }
}
