//! A secret that stays out of logs.

use std::fmt;

/// A password as the client sent it or as it is sent to the next hop.
///
/// `Debug` hides it and there is no `Display`: whoever wants the text says [`Password::as_str`].
#[derive(Clone, Eq, PartialEq)]
pub struct Password(String);

impl Password {
    /// Wraps a password.
    pub fn new(password: impl Into<String>) -> Self {
        Self(password.into())
    }

    /// The password itself. Never log it.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Password {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Password(hidden)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn debug_output_hides_the_password() {
        let shown = format!("{:?}", Some(Password::new("open sesame")));
        assert_eq!(shown, "Some(Password(hidden))");
    }
}
