//! MT-PRIORITY (RFC 6710 §3, §7).

use std::fmt;

/// How urgent a message is: -9 to 9, 0 if nothing was said. `Display` is the value of the parameter.
#[derive(Clone, Copy, Debug, Default, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct Priority(i8);

impl Priority {
    /// Highest value; the negative of it is the lowest.
    pub const MAX: i8 = 9;

    /// From the number; `None` if it is beyond [`Priority::MAX`] either way.
    #[must_use]
    pub fn new(number: i8) -> Option<Self> {
        let range = -Self::MAX..=Self::MAX;
        range.contains(&number).then_some(Self(number))
    }

    /// The number.
    #[must_use]
    pub const fn get(self) -> i8 {
        self.0
    }

    /// `priority-value = (["-"] NZDIGIT) / "0"`.
    pub(crate) fn parse(value: &str) -> Option<Self> {
        match value.strip_prefix('-').unwrap_or(value).as_bytes() {
            [b'1'..=b'9'] => {}
            b"0" if value == "0" => {}
            _ => return None,
        }
        value.parse().ok().and_then(Self::new)
    }
}

impl fmt::Display for Priority {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}
