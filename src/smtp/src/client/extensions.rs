//! What the server says it can (RFC 5321 §4.1.1.1).

use crate::{BodyKind, Reply};

/// The extensions that this client makes use of. Unknown ones are passed over.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub(super) struct Extensions {
    pub(super) pipelining: bool,
    pub(super) eight_bit_mime: bool,
    pub(super) smtputf8: bool,
    pub(super) starttls: bool,
    pub(super) auth_plain: bool,
    pub(super) auth_login: bool,
    pub(super) size: Size,
}

/// The SIZE extension (RFC 1870 §4).
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub(super) enum Size {
    /// MAIL must not have the parameter.
    #[default]
    NotOffered,
    /// Offered without a limit.
    Unlimited,
    /// Offered with the largest message in octets.
    Limit(u64),
}

impl Extensions {
    /// Reads the lines of an EHLO reply behind the first.
    pub(super) fn parse(reply: &Reply) -> Self {
        let mut extensions = Self::default();
        for line in reply.lines().iter().skip(1) {
            let mut words = line.split_ascii_whitespace();
            let keyword = words.next().unwrap_or_default().to_ascii_uppercase();
            match keyword.as_str() {
                "PIPELINING" => extensions.pipelining = true,
                "8BITMIME" => extensions.eight_bit_mime = true,
                "SMTPUTF8" => extensions.smtputf8 = true,
                "STARTTLS" => extensions.starttls = true,
                "SIZE" => extensions.size = Size::parse(words.next()),
                "AUTH" => words.for_each(|mechanism| extensions.add_mechanism(mechanism)),
                // The form of old servers that never left the standard's first draft: `AUTH=LOGIN`.
                keyword => {
                    if let Some(first) = keyword.strip_prefix("AUTH=") {
                        extensions.add_mechanism(first);
                        words.for_each(|mechanism| extensions.add_mechanism(mechanism));
                    }
                }
            }
        }
        extensions
    }

    /// The parameters of MAIL that the server understands, each behind a space.
    pub(super) fn mail_parameters(self, size: u64, body: BodyKind, smtputf8: bool) -> String {
        let mut text = String::new();
        if self.size != Size::NotOffered {
            text.push_str(&format!(" SIZE={size}"));
        }
        if self.eight_bit_mime && body == BodyKind::EightBit {
            text.push_str(" BODY=8BITMIME");
        }
        if self.smtputf8 && smtputf8 {
            text.push_str(" SMTPUTF8");
        }
        text
    }

    fn add_mechanism(&mut self, mechanism: &str) {
        self.auth_plain |= mechanism.eq_ignore_ascii_case("PLAIN");
        self.auth_login |= mechanism.eq_ignore_ascii_case("LOGIN");
    }
}

impl Size {
    /// Zero, nothing and nonsense all mean that no limit is known.
    fn parse(limit: Option<&str>) -> Self {
        match limit.and_then(|limit| limit.parse().ok()) {
            None | Some(0) => Self::Unlimited,
            Some(limit) => Self::Limit(limit),
        }
    }
}
