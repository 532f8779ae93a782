//! What the server says it can (RFC 5321 §4.1.1.1).

use std::fmt::Write;

use super::limits::{Domains, Limits, Room};
use crate::envelope::Charset;
use crate::{BodyKind, Extension, Extensions, MailParameters, Recipient, Reply, RequireTls};

/// What the server has said of itself since the connection was secured. Unknown extensions are passed over.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Peer {
    name: Option<String>,
    extensions: Extensions,
    limits: Limits,
    pub(super) starttls: bool,
    pub(super) auth_plain: bool,
    pub(super) auth_login: bool,
    pub(super) size: Size,
    /// Shortest time in seconds in which the server promises to deliver a message or to return it (RFC 2852 §2); 0 for none.
    pub(super) deliver_by_min: u32,
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

impl Peer {
    /// The name that the server gives itself in its answer to EHLO or HELO, as it stands there; for logs
    /// and to recognize ourselves.
    #[must_use]
    pub fn name(&self) -> Option<&str> {
        self.name.as_deref()
    }

    /// Whether the server offers it. BINARYMIME counts only with CHUNKING.
    #[must_use]
    pub fn offers(&self, extension: Extension) -> bool {
        self.extensions.contains(extension)
    }

    /// Whether content of this kind can be sent as it is. What cannot has to be converted before.
    #[must_use]
    pub fn takes(&self, body: BodyKind) -> bool {
        match body {
            BodyKind::SevenBit => true,
            BodyKind::EightBit => self.offers(Extension::EightBitMime),
            BodyKind::Binary => self.offers(Extension::BinaryMime),
        }
    }

    /// Most recipients of one message, if the server says (RFC 9422 §4.2).
    #[must_use]
    pub fn recipients_max(&self) -> Option<u32> {
        self.limits.recipients
    }

    /// Of how many domains recipients may be over one connection, if the server says (RFC 9422 §4.3).
    #[must_use]
    pub fn domains_max(&self) -> Option<u32> {
        self.limits.domains
    }

    /// Most messages over one connection, if the server says (RFC 9422 §4.1).
    #[must_use]
    pub fn messages_max(&self) -> Option<u32> {
        self.limits.messages
    }

    /// Reads the answer to EHLO.
    pub(super) fn parse(reply: &Reply) -> Self {
        let mut peer = Self::named(reply);
        for line in reply.lines().iter().skip(1) {
            let mut words = line.split_ascii_whitespace();
            let keyword = words.next().unwrap_or_default().to_ascii_uppercase();
            match keyword.as_str() {
                "STARTTLS" => peer.starttls = true,
                "AUTH" => words.for_each(|mechanism| peer.add_mechanism(mechanism)),
                // The form of old servers that never left the standard's first draft: `AUTH=LOGIN`.
                keyword if keyword.starts_with("AUTH=") => {
                    peer.add_mechanism(&keyword["AUTH=".len()..]);
                    words.for_each(|mechanism| peer.add_mechanism(mechanism));
                }
                keyword => peer.add(keyword, words),
            }
        }
        if !peer.offers(Extension::Chunking) {
            peer.extensions = peer.extensions.without(Extension::BinaryMime);
        }
        peer
    }

    /// Reads the answer to HELO: a name and nothing else.
    pub(super) fn named(reply: &Reply) -> Self {
        let first = reply.lines().first().map(String::as_str);
        let name = first.and_then(|line| line.split_ascii_whitespace().next());
        Self {
            name: name.map(str::to_owned),
            ..Self::default()
        }
    }

    /// What fits into one transaction of a session in which these domains have been named.
    pub(super) fn room(&self, named: &Domains) -> Room {
        Room::new(self.limits, named)
    }

    /// Writes the parameters of MAIL that the server understands, each behind a space.
    pub(super) fn write_mail(&self, parameters: &MailParameters, size: u64, out: &mut impl Write) {
        let MailParameters {
            body,
            smtputf8,
            ret,
            envid,
            require_tls,
            deliver_by,
            priority,
        } = parameters;
        if self.size != Size::NotOffered {
            put(out, format_args!(" SIZE={size}"));
        }
        match body {
            BodyKind::EightBit if self.takes(*body) => put(out, format_args!(" BODY=8BITMIME")),
            BodyKind::Binary if self.takes(*body) => put(out, format_args!(" BODY=BINARYMIME")),
            _ => {}
        }
        if *smtputf8 && self.offers(Extension::SmtpUtf8) {
            put(out, format_args!(" SMTPUTF8"));
        }
        if *require_tls == RequireTls::Yes && self.offers(Extension::RequireTls) {
            put(out, format_args!(" REQUIRETLS"));
        }
        if self.offers(Extension::Dsn) {
            if let Some(ret) = ret {
                put(out, format_args!(" RET={ret}"));
            }
            if let Some(envid) = envid {
                put(out, format_args!(" ENVID={}", envid.to_xtext()));
            }
        }
        if let Some(by) = deliver_by
            && self.offers(Extension::DeliverBy)
        {
            put(out, format_args!(" BY={by}"));
        }
        if self.offers(Extension::MtPriority) {
            put(out, format_args!(" MT-PRIORITY={priority}"));
        }
    }

    /// Writes the parameters of RCPT that the server understands, each behind a space.
    pub(super) fn write_rcpt(&self, recipient: &Recipient, charset: Charset, out: &mut impl Write) {
        if !self.offers(Extension::Dsn) {
            return;
        }
        if let Some(notify) = recipient.notify {
            put(out, format_args!(" NOTIFY={notify}"));
        }
        let orcpt = recipient.orcpt.as_ref();
        if let Some(value) = orcpt.and_then(|orcpt| orcpt.to_parameter(charset)) {
            put(out, format_args!(" ORCPT={value}"));
        }
    }

    fn add<'a>(&mut self, keyword: &str, mut parameters: impl Iterator<Item = &'a str>) {
        let Some(extension) = Extension::find(keyword) else {
            return;
        };
        self.extensions = self.extensions.with(extension);
        match extension {
            Extension::Size => self.size = Size::parse(parameters.next()),
            Extension::Limits => parameters.for_each(|limit| self.limits.add(limit)),
            Extension::DeliverBy => self.deliver_by_min = deliver_by_min(parameters.next()),
            _ => {}
        }
    }

    fn add_mechanism(&mut self, mechanism: &str) {
        self.auth_plain |= mechanism.eq_ignore_ascii_case("PLAIN");
        self.auth_login |= mechanism.eq_ignore_ascii_case("LOGIN");
    }
}

/// Nothing and nonsense mean that no limit is known.
fn deliver_by_min(options: Option<&str>) -> u32 {
    let min = options.and_then(|options| options.split(',').next());
    min.and_then(|min| min.parse().ok()).unwrap_or_default()
}

/// Strings and buffers take whatever is written to them.
fn put(out: &mut impl Write, text: std::fmt::Arguments<'_>) {
    let _ = out.write_fmt(text);
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
