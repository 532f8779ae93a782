//! The extensions that a server can offer in EHLO and a client can make use of, as a set.
//!
//! STARTTLS and AUTH are not among them: they are the connection's business, not the message's. Nor is
//! FUTURERELEASE: a message is held by the relay that was asked to, and never passed on with it.

/// One extension, named as in the registry of EHLO keywords.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Extension {
    /// PIPELINING (RFC 2920).
    Pipelining,
    /// SIZE (RFC 1870).
    Size,
    /// 8BITMIME (RFC 6152).
    EightBitMime,
    /// SMTPUTF8 (RFC 6531).
    SmtpUtf8,
    /// CHUNKING (RFC 3030 §2).
    Chunking,
    /// BINARYMIME (RFC 3030 §3); nothing without CHUNKING.
    BinaryMime,
    /// DSN (RFC 3461).
    Dsn,
    /// LIMITS (RFC 9422).
    Limits,
    /// REQUIRETLS (RFC 8689), under TLS only.
    RequireTls,
    /// DELIVERBY (RFC 2852).
    DeliverBy,
    /// MT-PRIORITY (RFC 6710).
    MtPriority,
}

impl Extension {
    /// All of them.
    pub const ALL: [Self; 11] = [
        Self::Pipelining,
        Self::Size,
        Self::EightBitMime,
        Self::SmtpUtf8,
        Self::Chunking,
        Self::BinaryMime,
        Self::Dsn,
        Self::Limits,
        Self::RequireTls,
        Self::DeliverBy,
        Self::MtPriority,
    ];

    /// The keyword in EHLO.
    #[must_use]
    pub const fn keyword(self) -> &'static str {
        match self {
            Self::Pipelining => "PIPELINING",
            Self::Size => "SIZE",
            Self::EightBitMime => "8BITMIME",
            Self::SmtpUtf8 => "SMTPUTF8",
            Self::Chunking => "CHUNKING",
            Self::BinaryMime => "BINARYMIME",
            Self::Dsn => "DSN",
            Self::Limits => "LIMITS",
            Self::RequireTls => "REQUIRETLS",
            Self::DeliverBy => "DELIVERBY",
            Self::MtPriority => "MT-PRIORITY",
        }
    }

    /// The extension of a keyword, in any case.
    pub(crate) fn find(keyword: &str) -> Option<Self> {
        let mut all = Self::ALL.into_iter();
        all.find(|extension| extension.keyword().eq_ignore_ascii_case(keyword))
    }
}

/// A set of extensions.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Extensions(u16);

impl Extensions {
    /// The empty set.
    pub const NONE: Self = Self(0);
    /// The whole set.
    pub const ALL: Self = Self((1 << Extension::ALL.len()) - 1);

    /// The set with one more.
    #[must_use]
    pub const fn with(self, extension: Extension) -> Self {
        Self(self.0 | 1 << extension as u16)
    }

    /// The set with one less.
    #[must_use]
    pub const fn without(self, extension: Extension) -> Self {
        Self(self.0 & !(1 << extension as u16))
    }

    /// Whether the extension is in the set.
    #[must_use]
    pub const fn contains(self, extension: Extension) -> bool {
        self.0 & (1 << extension as u16) != 0
    }

    /// What is in this set and not in the other.
    #[must_use]
    pub const fn less(self, other: Self) -> Self {
        Self(self.0 & !other.0)
    }

    /// Whether nothing is in the set.
    #[must_use]
    pub const fn is_empty(self) -> bool {
        self.0 == 0
    }

    /// What is in the set, in the order of [`Extension::ALL`].
    pub fn iter(self) -> impl Iterator<Item = Extension> {
        let all = Extension::ALL.into_iter();
        all.filter(move |extension| self.contains(*extension))
    }
}

impl FromIterator<Extension> for Extensions {
    fn from_iter<I: IntoIterator<Item = Extension>>(extensions: I) -> Self {
        extensions.into_iter().fold(Self::NONE, Self::with)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_keyword_finds_its_extension_in_any_case() {
        for extension in Extension::ALL {
            let keyword = extension.keyword().to_ascii_lowercase();
            assert_eq!(Extension::find(&keyword), Some(extension));
        }
        assert_eq!(Extension::find("STARTTLS"), None);
    }

    #[test]
    fn a_set_holds_what_was_put_in() {
        for extension in Extension::ALL {
            let one = Extensions::NONE.with(extension);
            assert_eq!(one.iter().collect::<Vec<_>>(), [extension]);
            assert!(!Extensions::ALL.without(extension).contains(extension));
            assert_eq!(
                Extensions::ALL.less(one),
                Extensions::ALL.without(extension)
            );
            assert!(one.less(one).is_empty());
        }
        let all: Extensions = Extension::ALL.into_iter().collect();
        assert_eq!(all, Extensions::ALL);
    }
}
