//! Parameters of MAIL and RCPT, one keyword at a time.
//!
//! Each keyword that is known is parsed, whether the session offers its extension or not; what it needs to be
//! offered is collected in [`MailArguments::needs`], and the session refuses what it does not offer with the
//! reply of a keyword that nobody knows.

use super::Error;
use crate::envelope::{
    BodyKind, DeliverBy, Envid, Hold, MailParameters, Notify, OriginalRecipient, Priority,
    RequireTls, Ret,
};
use crate::{Extension, Extensions};

/// Most digits of SIZE (RFC 1870 §3).
const SIZE_DIGITS_MAX: usize = 20;

/// What MAIL says behind the path.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub(crate) struct MailArguments {
    /// What goes on with the message.
    pub(crate) parameters: MailParameters,
    /// `SIZE=`; a number beyond `u64` is taken as `u64::MAX`, it is too big anyway.
    pub(crate) size: Option<u64>,
    /// `HOLDFOR=` or `HOLDUNTIL=`.
    pub(crate) hold: Option<Hold>,
    /// The extensions that what was said belongs to.
    pub(crate) needs: Extensions,
    given: Given,
}

/// What RCPT says behind the path.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub(crate) struct RcptArguments {
    /// `NOTIFY=`.
    pub(crate) notify: Option<Notify>,
    /// `ORCPT=`.
    pub(crate) orcpt: Option<OriginalRecipient>,
}

/// Every keyword that MAIL may have.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Keyword {
    Size,
    Body,
    SmtpUtf8,
    /// Its value is checked for being one word and not trusted (RFC 4954 §5).
    Auth,
    Ret,
    Envid,
    RequireTls,
    By,
    HoldFor,
    HoldUntil,
    MtPriority,
}

/// The keywords that were given: none may be twice.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
struct Given(u16);

const KEYWORDS: [(&str, Keyword); 11] = [
    ("SIZE", Keyword::Size),
    ("BODY", Keyword::Body),
    ("SMTPUTF8", Keyword::SmtpUtf8),
    ("AUTH", Keyword::Auth),
    ("RET", Keyword::Ret),
    ("ENVID", Keyword::Envid),
    ("REQUIRETLS", Keyword::RequireTls),
    ("BY", Keyword::By),
    ("HOLDFOR", Keyword::HoldFor),
    ("HOLDUNTIL", Keyword::HoldUntil),
    ("MT-PRIORITY", Keyword::MtPriority),
];

impl MailArguments {
    /// Parses parameters separated by spaces.
    pub(super) fn parse(text: &str) -> Result<Self, Error> {
        let mut arguments = Self::default();
        for (name, value) in words(text) {
            let mut known = KEYWORDS.iter();
            let (name, keyword) = known
                .find(|(known, _)| name.eq_ignore_ascii_case(known))
                .ok_or(Error::UnknownParameter)?;
            let taken = arguments
                .given
                .add(*keyword)
                .and_then(|()| arguments.add(*keyword, value));
            taken.ok_or(Error::Parameter(name))?;
        }
        Ok(arguments)
    }

    /// Whether MAIL had any.
    pub(crate) fn is_empty(&self) -> bool {
        self.given == Given::default()
    }

    /// `None` if the value is not of the form that the keyword asks for.
    fn add(&mut self, keyword: Keyword, value: Option<&str>) -> Option<()> {
        let parameters = &mut self.parameters;
        let extension = match (keyword, value) {
            (Keyword::Size, Some(value)) => {
                self.size = Some(octets(value)?);
                Extension::Size
            }
            (Keyword::Body, Some(value)) => {
                let extension;
                (parameters.body, extension) = body(value)?;
                extension
            }
            (Keyword::SmtpUtf8, None) => {
                parameters.smtputf8 = true;
                Extension::SmtpUtf8
            }
            (Keyword::Auth, Some(value)) => return (!value.is_empty()).then_some(()),
            (Keyword::Ret, Some(value)) => {
                parameters.ret = Some(Ret::parse(value)?);
                Extension::Dsn
            }
            (Keyword::Envid, Some(value)) => {
                parameters.envid = Some(Envid::from_xtext(value)?);
                Extension::Dsn
            }
            (Keyword::RequireTls, None) => {
                parameters.require_tls = RequireTls::Yes;
                Extension::RequireTls
            }
            (Keyword::By, Some(value)) => {
                parameters.deliver_by = Some(DeliverBy::parse(value)?);
                Extension::DeliverBy
            }
            (Keyword::HoldFor, Some(value)) => return self.hold(Hold::parse_for(value)?),
            (Keyword::HoldUntil, Some(value)) => return self.hold(Hold::parse_until(value)?),
            (Keyword::MtPriority, Some(value)) => {
                parameters.priority = Priority::parse(value)?;
                Extension::MtPriority
            }
            (_, _) => return None,
        };
        self.needs = self.needs.with(extension);
        Some(())
    }

    /// One of the two ways to say it (RFC 4865 §3).
    fn hold(&mut self, hold: Hold) -> Option<()> {
        self.hold.replace(hold).is_none().then_some(())
    }
}

impl RcptArguments {
    /// Parses parameters separated by spaces.
    pub(super) fn parse(text: &str) -> Result<Self, Error> {
        let mut arguments = Self::default();
        for (name, value) in words(text) {
            let value = value.unwrap_or_default();
            if name.eq_ignore_ascii_case("NOTIFY") {
                let notify = value.parse().ok();
                set(&mut arguments.notify, notify).ok_or(Error::Parameter("NOTIFY"))?;
            } else if name.eq_ignore_ascii_case("ORCPT") {
                let orcpt = OriginalRecipient::from_parameter(value);
                set(&mut arguments.orcpt, orcpt).ok_or(Error::Parameter("ORCPT"))?;
            } else {
                return Err(Error::UnknownParameter);
            }
        }
        Ok(arguments)
    }
}

impl Given {
    /// `None` if it was given before.
    fn add(&mut self, keyword: Keyword) -> Option<()> {
        let bit = 1 << keyword as u16;
        let fresh = self.0 & bit == 0;
        self.0 |= bit;
        fresh.then_some(())
    }
}

/// Names, and values where there is a `=`.
fn words(text: &str) -> impl Iterator<Item = (&str, Option<&str>)> {
    let words = text.split(' ').filter(|word| !word.is_empty());
    words.map(|word| match word.split_once('=') {
        Some((name, value)) => (name, Some(value)),
        None => (word, None),
    })
}

/// `None` if there is no value, or one already.
fn set<T>(place: &mut Option<T>, value: Option<T>) -> Option<()> {
    place.replace(value?).is_none().then_some(())
}

/// A number of octets, as in SIZE and BDAT.
pub(super) fn octets(digits: &str) -> Option<u64> {
    let well_formed = (1..=SIZE_DIGITS_MAX).contains(&digits.len())
        && digits.bytes().all(|octet| octet.is_ascii_digit());
    well_formed.then(|| digits.parse().unwrap_or(u64::MAX))
}

fn body(value: &str) -> Option<(BodyKind, Extension)> {
    match value.to_ascii_uppercase().as_str() {
        "7BIT" => Some((BodyKind::SevenBit, Extension::EightBitMime)),
        "8BITMIME" => Some((BodyKind::EightBit, Extension::EightBitMime)),
        "BINARYMIME" => Some((BodyKind::Binary, Extension::BinaryMime)),
        _ => None,
    }
}
