//! The AUTH exchange (RFC 4954).

use super::{
    AUTH_FAILURES_MAX, AuthOffer, Pending, Request, Session, State, Step, Verdict, replies,
};
use crate::sasl::{self, Claim};

/// What the next line of the client is.
#[derive(Debug)]
pub(super) enum Exchange {
    Plain,
    LoginUsername,
    LoginPassword { username: String },
}

impl Session {
    pub(super) fn auth(&mut self, mechanism: &str, initial: Option<&str>) -> Option<Step> {
        if let Some(refusal) = self.auth_refusal() {
            self.error(&refusal);
            return None;
        }
        let exchange = match mechanism.to_ascii_uppercase().as_str() {
            "PLAIN" => Exchange::Plain,
            "LOGIN" => Exchange::LoginUsername,
            _ => {
                self.error(&replies::unknown_mechanism());
                return None;
            }
        };
        match initial {
            None => {
                self.prompt(exchange);
                None
            }
            // `=` stands for an initial response of no octets (RFC 4954 §4).
            Some("=") => self.respond(exchange, b""),
            Some(response) => self.respond(exchange, response.as_bytes()),
        }
    }

    /// A line of the client within the exchange.
    pub(super) fn auth_line(&mut self, line: &[u8]) -> Option<Step> {
        let State::Authenticating(exchange) = std::mem::replace(&mut self.state, State::Idle)
        else {
            return None;
        };
        if line == b"*" {
            self.error(&replies::auth_cancelled());
            return None;
        }
        self.respond(exchange, line)
    }

    pub(super) fn user_decided(&mut self, username: String, verdict: Verdict) {
        match verdict {
            Verdict::Accept => {
                self.info.user = Some(username);
                self.reply(&replies::authenticated());
            }
            Verdict::Reprioritized(_) | Verdict::Queued(_) => self.refuse(&replies::misfit()),
            // 454 and its like say nothing about the password.
            Verdict::Refuse(reply) if !reply.is_permanent() => self.refuse(&reply),
            Verdict::Refuse(reply) => {
                self.refuse(&reply);
                self.auth_failed();
            }
        }
    }

    fn auth_refusal(&self) -> Option<crate::Reply> {
        if self.config.auth == AuthOffer::Disabled {
            Some(replies::auth_unavailable())
        } else if !self.info.tls {
            Some(replies::auth_needs_tls())
        } else if !self.info.esmtp {
            Some(replies::greeting_first())
        } else if self.info.user.is_some() {
            Some(replies::auth_twice())
        } else if matches!(self.state, State::Envelope(_) | State::Chunked(..)) {
            Some(replies::in_transaction())
        } else {
            None
        }
    }

    fn prompt(&mut self, exchange: Exchange) {
        self.reply(&match exchange {
            Exchange::Plain => replies::challenge(""),
            Exchange::LoginUsername => replies::challenge(sasl::LOGIN_USERNAME),
            Exchange::LoginPassword { .. } => replies::challenge(sasl::LOGIN_PASSWORD),
        });
        self.state = State::Authenticating(exchange);
    }

    fn respond(&mut self, exchange: Exchange, response: &[u8]) -> Option<Step> {
        let claim = match exchange {
            Exchange::Plain => sasl::decode_plain(response),
            Exchange::LoginPassword { username } => sasl::decode_login(&username, response),
            Exchange::LoginUsername => match sasl::decode_login_username(response) {
                Ok(username) => {
                    self.prompt(Exchange::LoginPassword { username });
                    return None;
                }
                Err(error) => Err(error),
            },
        };
        match claim {
            Ok(Claim { username, password }) => {
                self.state = State::Deciding(Pending::User(username.clone()));
                Some(Step::Request(Request::Authenticate { username, password }))
            }
            Err(sasl::Error::Malformed) => {
                self.error(&replies::auth_malformed());
                None
            }
            Err(sasl::Error::ActsForAnother) => {
                self.reply(&replies::auth_refused());
                self.auth_failed();
                None
            }
        }
    }

    fn auth_failed(&mut self) {
        self.auth_failures += 1;
        if self.auth_failures >= AUTH_FAILURES_MAX {
            self.close(&replies::too_many_failures(&self.config.hostname));
        }
    }
}
