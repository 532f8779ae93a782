//! What a session offers in EHLO.

use super::SessionInfo;
use crate::envelope::{Hold, date_time};
use crate::{Extension, Extensions, Reply};

/// Largest limit that LIMITS can tell: six digits (RFC 9422 §4).
const LIMIT_MAX: u32 = 999_999;
/// Largest message unless the driver says otherwise: what the large providers take.
const MESSAGE_BYTES: u64 = 25 << 20;
/// Most recipients unless the driver says otherwise; RFC 5321 §4.5.3.1.8 asks for 100 at least.
const RECIPIENTS: u32 = 1000;

/// What a session offers and allows.
#[derive(Clone, Debug)]
pub struct ServerConfig {
    /// The name in the banner and in EHLO.
    pub hostname: String,
    /// How TLS is used.
    pub tls: TlsOffer,
    /// Whether clients may or must authenticate.
    pub auth: AuthOffer,
    /// Largest message in bytes, announced with SIZE.
    pub message_bytes: u64,
    /// Most recipients of one message, announced with LIMITS.
    pub recipients: u32,
    /// What is offered of the extensions of a message. BINARYMIME needs CHUNKING, and REQUIRETLS is
    /// offered under TLS only.
    pub extensions: Extensions,
    /// Shortest time in seconds in which a message is promised to be delivered or returned, announced with DELIVERBY
    /// (RFC 2852 §2); 0 for none.
    pub deliver_by_min: u32,
    /// FUTURERELEASE, for submission only (RFC 4865 §3).
    pub future_release: Option<FutureRelease>,
}

/// How a session uses TLS.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum TlsOffer {
    /// STARTTLS is not offered.
    Unavailable,
    /// STARTTLS is offered.
    Offered,
    /// STARTTLS is offered, and without it MAIL, RCPT, DATA, VRFY and AUTH are refused with 530 5.7.0.
    Required,
    /// The same as [`TlsOffer::Required`], but there is no TLS for now: STARTTLS is answered 454 4.7.0 (RFC 3207 §4).
    Unready,
    /// The connection is already under TLS.
    Active,
}

/// Whether clients authenticate.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum AuthOffer {
    /// AUTH is not offered.
    Disabled,
    /// AUTH is offered once TLS is active.
    UnderTls,
    /// AUTH is offered once TLS is active, and MAIL without it is refused with 530 5.7.0.
    Required,
}

/// How far ahead a message may be held (RFC 4865 §3).
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct FutureRelease {
    /// Longest time in seconds.
    pub seconds_max: u32,
    /// Latest time, in seconds since the epoch.
    pub until_max: u64,
}

impl FutureRelease {
    /// Whether it is within the bounds.
    pub(super) fn allows(self, hold: Hold) -> bool {
        match hold {
            Hold::For(seconds) => seconds <= self.seconds_max,
            Hold::Until(seconds) => seconds <= self.until_max,
        }
    }
}

impl ServerConfig {
    /// Everything offered that needs neither TLS nor a clock nor users: a start for a `..`.
    #[must_use]
    pub fn new(hostname: impl Into<String>) -> Self {
        Self {
            hostname: hostname.into(),
            tls: TlsOffer::Unavailable,
            auth: AuthOffer::Disabled,
            message_bytes: MESSAGE_BYTES,
            recipients: RECIPIENTS,
            extensions: Extensions::ALL,
            deliver_by_min: 0,
            future_release: None,
        }
    }

    /// What is offered to this client now.
    pub(super) fn offered(&self, info: &SessionInfo) -> Extensions {
        let mut offered = self.extensions;
        if !offered.contains(Extension::Chunking) {
            offered = offered.without(Extension::BinaryMime);
        }
        match info.tls {
            true => offered,
            // RFC 8689 §2: in plaintext there is nothing to require.
            false => offered.without(Extension::RequireTls),
        }
    }
}

/// The capabilities that hold now: STARTTLS until TLS is active, AUTH from then on.
pub(super) fn ehlo(config: &ServerConfig, info: &SessionInfo) -> Reply {
    let mut text = format!("{}\n", config.hostname);
    for extension in config.offered(info).iter() {
        text.push_str(extension.keyword());
        if let Some(parameters) = parameters(config, extension) {
            text.push(' ');
            text.push_str(&parameters);
        }
        text.push('\n');
    }
    if let Some(limits) = config.future_release {
        let until = date_time(limits.until_max);
        text.push_str(&format!("FUTURERELEASE {} {until}\n", limits.seconds_max));
    }
    if matches!(
        config.tls,
        TlsOffer::Offered | TlsOffer::Required | TlsOffer::Unready
    ) {
        text.push_str("STARTTLS\n");
    }
    if info.tls && config.auth != AuthOffer::Disabled {
        text.push_str("AUTH PLAIN LOGIN\n");
    }
    text.push_str("ENHANCEDSTATUSCODES");
    Reply::new(250, None, text)
}

fn parameters(config: &ServerConfig, extension: Extension) -> Option<String> {
    match extension {
        Extension::Size => Some(config.message_bytes.to_string()),
        Extension::Limits => Some(format!("RCPTMAX={}", config.recipients.clamp(1, LIMIT_MAX))),
        Extension::DeliverBy if config.deliver_by_min > 0 => {
            Some(config.deliver_by_min.to_string())
        }
        // RFC 6710 §9.2: the policy that counts where none is named.
        Extension::MtPriority => Some("MIXER".to_owned()),
        Extension::Pipelining
        | Extension::EightBitMime
        | Extension::SmtpUtf8
        | Extension::Chunking
        | Extension::BinaryMime
        | Extension::Dsn
        | Extension::RequireTls
        | Extension::DeliverBy => None,
    }
}
