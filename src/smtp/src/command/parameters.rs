//! Parameters of MAIL: SIZE, BODY, SMTPUTF8 and AUTH.

use super::Error;
use crate::BodyKind;

/// Most digits of SIZE (RFC 1870 §4).
const SIZE_DIGITS_MAX: usize = 20;

/// What MAIL says about the message to come.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub(crate) struct MailParameters {
    /// `SIZE=`; a number beyond `u64` is taken as `u64::MAX`, it is too big anyway.
    pub(crate) size: Option<u64>,
    /// `BODY=`.
    pub(crate) body: Option<BodyKind>,
    /// `SMTPUTF8` (RFC 6531 §3.4).
    pub(crate) smtputf8: bool,
    /// `AUTH=` was given. Its value is checked for being one word and not trusted (RFC 4954 §5).
    auth: bool,
}

impl MailParameters {
    /// Parses parameters separated by spaces.
    pub(super) fn parse(text: &str) -> Result<Self, Error> {
        let mut parameters = Self::default();
        for parameter in text.split(' ').filter(|word| !word.is_empty()) {
            parameters.add(parameter)?;
        }
        Ok(parameters)
    }

    /// Whether MAIL had any.
    pub(crate) fn is_empty(self) -> bool {
        self == Self::default()
    }

    fn add(&mut self, parameter: &str) -> Result<(), Error> {
        let (name, value) = match parameter.split_once('=') {
            Some((name, value)) => (name, Some(value)),
            None => (parameter, None),
        };
        match (name.to_ascii_uppercase().as_str(), value) {
            ("SIZE", Some(value)) if self.size.is_none() => {
                self.size = Some(size(value).ok_or(Error::Parameter("SIZE"))?);
            }
            ("BODY", Some(value)) if self.body.is_none() => {
                self.body = Some(body(value).ok_or(Error::Parameter("BODY"))?);
            }
            ("SMTPUTF8", None) if !self.smtputf8 => self.smtputf8 = true,
            ("AUTH", Some(value)) if !self.auth && !value.is_empty() => self.auth = true,
            ("SIZE", _) => return Err(Error::Parameter("SIZE")),
            ("BODY", _) => return Err(Error::Parameter("BODY")),
            ("SMTPUTF8", _) => return Err(Error::Parameter("SMTPUTF8")),
            ("AUTH", _) => return Err(Error::Parameter("AUTH")),
            (_, _) => return Err(Error::UnknownParameter),
        }
        Ok(())
    }
}

fn size(digits: &str) -> Option<u64> {
    let well_formed = (1..=SIZE_DIGITS_MAX).contains(&digits.len())
        && digits.bytes().all(|octet| octet.is_ascii_digit());
    well_formed.then(|| digits.parse().unwrap_or(u64::MAX))
}

fn body(value: &str) -> Option<BodyKind> {
    if value.eq_ignore_ascii_case("7BIT") {
        Some(BodyKind::SevenBit)
    } else if value.eq_ignore_ascii_case("8BITMIME") {
        Some(BodyKind::EightBit)
    } else {
        None
    }
}
