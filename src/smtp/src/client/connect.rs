//! From the greeting to the first transaction.

use bytes::BytesMut;

use super::{
    Client, ClientStep, ClientTls, ConnectFailure, FailureKind, Peer, Stage, State, Turn,
    redact::redact,
};
use crate::{Reply, sasl};

/// Longest AUTH command line with an initial response, in octets with CRLF (RFC 4954 §4).
const INITIAL_RESPONSE_MAX: usize = 512;

/// What the server is to answer within AUTH.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Login {
    /// 334 to `AUTH PLAIN`, also from servers that overlook the initial response.
    PlainPrompt,
    /// 334 to `AUTH LOGIN`.
    UsernamePrompt,
    /// 334 to the name.
    PasswordPrompt,
    /// 235.
    Verdict,
}

impl Client {
    /// A login that an unverified or absent TLS would give away.
    pub(super) fn login_is_exposed(&self) -> bool {
        let protected = matches!(self.config.tls, ClientTls::Required | ClientTls::Active);
        self.config.login.is_some() && !protected
    }

    pub(super) fn greet(&mut self) {
        self.say(&format!("EHLO {}", self.config.ehlo_name));
        self.state = State::Ehlo;
    }

    pub(super) fn stage(&self) -> Stage {
        match &self.state {
            State::Greeting => Stage::Greeting,
            State::StartTls | State::Handshake => Stage::StartTls,
            State::Auth(_) => Stage::Auth,
            _ => Stage::Ehlo,
        }
    }

    pub(super) fn fail(&mut self, stage: Stage, kind: FailureKind, reply: Option<Reply>) -> Turn {
        self.state = State::Closed;
        let reply = match (&self.config.login, stage) {
            (Some(login), Stage::Auth) => reply.map(|reply| redact(&reply, login)),
            _ => reply,
        };
        Turn::Step(ClientStep::Failed(ConnectFailure { stage, kind, reply }))
    }

    pub(super) fn connect_reply(&mut self, reply: Reply, input: &BytesMut) -> Turn {
        // Bytes behind a reply that nothing was asked after: at best a confused server, at worst
        // somebody who writes into the plaintext before TLS.
        if !input.is_empty() {
            return self.fail(self.stage(), FailureKind::Protocol, Some(reply));
        }
        match &self.state {
            State::Greeting => match reply.code() {
                220 => self.go_on(Self::greet),
                _ => self.refused(reply),
            },
            State::Ehlo => self.ehlo_reply(reply),
            State::Helo => match reply.code() {
                250 => {
                    self.peer = Peer::named(&reply);
                    self.greeted()
                }
                _ => self.refused(reply),
            },
            State::StartTls => self.starttls_reply(reply),
            State::Auth(login) => {
                let login = *login;
                self.auth_reply(login, reply)
            }
            _ => self.refused(reply),
        }
    }

    fn ehlo_reply(&mut self, reply: Reply) -> Turn {
        match reply.code() {
            250 => {
                self.peer = Peer::parse(&reply);
                self.greeted()
            }
            // RFC 5321 §3.2: a server that does not know EHLO gets HELO.
            code if code >= 500 => {
                self.say(&format!("HELO {}", self.config.ehlo_name));
                self.state = State::Helo;
                Turn::Continue
            }
            _ => self.refused(reply),
        }
    }

    /// EHLO or HELO is done: TLS if it is wanted, then AUTH if there is a login.
    fn greeted(&mut self) -> Turn {
        match (self.config.tls, self.peer.starttls) {
            (ClientTls::Required | ClientTls::Opportunistic, true) => {
                self.say("STARTTLS");
                self.state = State::StartTls;
                Turn::Continue
            }
            (ClientTls::Required, false) => {
                self.fail(Stage::StartTls, FailureKind::TlsNotOffered, None)
            }
            (ClientTls::None | ClientTls::Opportunistic | ClientTls::Active, _) => self.log_in(),
        }
    }

    fn starttls_reply(&mut self, reply: Reply) -> Turn {
        match (reply.code(), self.config.tls) {
            (220, _) => {
                self.state = State::Handshake;
                Turn::Step(ClientStep::StartTls)
            }
            // Whoever can refuse could as well have hidden the offer.
            (code, ClientTls::Opportunistic) if code != 421 => self.log_in(),
            (_, _) => self.refused(reply),
        }
    }

    fn log_in(&mut self) -> Turn {
        let Some(login) = &self.config.login else {
            self.state = State::Ready;
            return Turn::Continue;
        };
        // The one place that speaks AUTH; the same condition already ended the first step.
        if self.config.tls != ClientTls::Active || is_unsendable(login) {
            return self.fail(Stage::Auth, FailureKind::AuthUnavailable, None);
        }
        let plain = sasl::encode_plain(&login.username, &login.password);
        let command = format!("AUTH PLAIN {plain}");
        let (command, next) = match (self.peer.auth_plain, self.peer.auth_login) {
            (true, _) if command.len() + 2 <= INITIAL_RESPONSE_MAX => (command, Login::PlainPrompt),
            (true, _) => ("AUTH PLAIN".to_owned(), Login::PlainPrompt),
            (false, true) => ("AUTH LOGIN".to_owned(), Login::UsernamePrompt),
            (false, false) => {
                return self.fail(Stage::Auth, FailureKind::AuthUnavailable, None);
            }
        };
        self.say(&command);
        self.state = State::Auth(next);
        Turn::Continue
    }

    fn auth_reply(&mut self, expected: Login, reply: Reply) -> Turn {
        let Some(login) = &self.config.login else {
            return self.refused(reply);
        };
        let (response, next) = match (reply.code(), expected) {
            (235, _) => {
                self.state = State::Ready;
                return Turn::Continue;
            }
            (334, Login::PlainPrompt) => (
                sasl::encode_plain(&login.username, &login.password),
                Login::Verdict,
            ),
            (334, Login::UsernamePrompt) => (sasl::encode(&login.username), Login::PasswordPrompt),
            (334, Login::PasswordPrompt) => (sasl::encode(login.password.as_str()), Login::Verdict),
            (421, _) => return self.refused(reply),
            (_, _) if reply.is_permanent() => {
                return self.fail(Stage::Auth, FailureKind::AuthenticationFailed, Some(reply));
            }
            (_, _) => return self.refused(reply),
        };
        self.say(&response);
        self.state = State::Auth(next);
        Turn::Continue
    }

    /// Fails with what the class of the reply says.
    fn refused(&mut self, reply: Reply) -> Turn {
        let kind = if reply.is_transient() {
            FailureKind::Throttled
        } else if reply.is_permanent() {
            FailureKind::Refused
        } else {
            FailureKind::Protocol
        };
        self.fail(self.stage(), kind, Some(reply))
    }

    fn go_on(&mut self, action: impl FnOnce(&mut Self)) -> Turn {
        action(self);
        Turn::Continue
    }

    /// Callers pass text without CR and LF: keywords, checked host names, base64.
    fn say(&mut self, command: &str) {
        self.output.extend_from_slice(command.as_bytes());
        self.output.extend_from_slice(b"\r\n");
    }
}

/// NUL separates the parts of PLAIN, and an empty part is none.
fn is_unsendable(login: &super::Login) -> bool {
    let unsendable = |text: &str| text.is_empty() || text.contains('\0');
    unsendable(&login.username) || unsendable(login.password.as_str())
}
