//! The BY parameter (RFC 2852 §4).

use std::fmt;

/// Most digits of the time (RFC 2852 §4).
const DIGITS_MAX: usize = 9;
/// The largest time either way, in seconds: what [`DIGITS_MAX`] digits can say, some 31 years.
const SECONDS_MAX: i64 = 999_999_999;

/// By when a message is to be delivered, counted from the command that says so. `Display` is the value of the parameter.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub struct DeliverBy {
    seconds: i64,
    on_expiry: OnExpiry,
    trace: bool,
}

/// What becomes of a message that is not delivered in time.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub enum OnExpiry {
    /// It is returned as undeliverable (by-mode `R`).
    Return,
    /// The sender is told, and delivery goes on (by-mode `N`).
    Notify,
}

impl DeliverBy {
    /// `trace` asks each relay to report that it has passed the message on.
    ///
    /// `None` for a time beyond what can be written, and for one that is up if the message is to be returned:
    /// that is no request that could be met (RFC 2852 §4).
    #[must_use]
    pub fn new(seconds: i64, on_expiry: OnExpiry, trace: bool) -> Option<Self> {
        let earliest = match on_expiry {
            OnExpiry::Return => 1,
            OnExpiry::Notify => -SECONDS_MAX,
        };
        (earliest..=SECONDS_MAX).contains(&seconds).then_some(Self {
            seconds,
            on_expiry,
            trace,
        })
    }

    /// Seconds from now on; zero or less if the time is up.
    #[must_use]
    pub const fn seconds(self) -> i64 {
        self.seconds
    }

    /// What becomes of the message then.
    #[must_use]
    pub const fn on_expiry(self) -> OnExpiry {
        self.on_expiry
    }

    /// Whether each relay is to report.
    #[must_use]
    pub const fn trace(self) -> bool {
        self.trace
    }

    /// `by-time ";" by-mode [by-trace]`.
    pub(crate) fn parse(value: &str) -> Option<Self> {
        let (time, mode) = value.split_once(';')?;
        let (sign, digits) = match time.strip_prefix('-') {
            Some(digits) => (-1, digits),
            None => (1, time.strip_prefix('+').unwrap_or(time)),
        };
        let well_formed = (1..=DIGITS_MAX).contains(&digits.len())
            && digits.bytes().all(|octet| octet.is_ascii_digit());
        let seconds: i64 = digits.parse().ok().filter(|_| well_formed)?;
        let (on_expiry, trace) = match mode.to_ascii_uppercase().as_str() {
            "R" => (OnExpiry::Return, false),
            "RT" => (OnExpiry::Return, true),
            "N" => (OnExpiry::Notify, false),
            "NT" => (OnExpiry::Notify, true),
            _ => return None,
        };
        Self::new(sign * seconds, on_expiry, trace)
    }
}

impl fmt::Display for DeliverBy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mode = match self.on_expiry {
            OnExpiry::Return => "R",
            OnExpiry::Notify => "N",
        };
        let trace = if self.trace { "T" } else { "" };
        write!(f, "{};{mode}{trace}", self.seconds)
    }
}
