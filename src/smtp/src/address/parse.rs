//! The grammar. Every function takes the text that is left and gives back what it left.

use std::net::{Ipv4Addr, Ipv6Addr};

use super::{
    DOMAIN_MAX, Error, ForwardPath, LABEL_MAX, LOCAL_PART_MAX, Mailbox, PATH_MAX, POSTMASTER,
    ReversePath,
};
use crate::reply::is_hostile;

/// `Reverse-path = Path / "<>"`.
pub(crate) fn reverse_path(text: &str) -> Result<(ReversePath, &str), Error> {
    if let Some(rest) = text.strip_prefix("<>") {
        return Ok((ReversePath::Null, rest));
    }
    let (mailbox, rest) = path(text)?;
    Ok((ReversePath::Mailbox(mailbox), rest))
}

/// `Path / "<Postmaster>"`.
pub(crate) fn forward_path(text: &str) -> Result<(ForwardPath, &str), Error> {
    let inner = text.strip_prefix('<').ok_or(Error::Brackets)?;
    if let Some((name, rest)) = inner.split_at_checked(POSTMASTER.len())
        && name.eq_ignore_ascii_case(POSTMASTER)
        && let Some(rest) = rest.strip_prefix('>')
    {
        return Ok((ForwardPath::Postmaster, rest));
    }
    let (mailbox, rest) = path(text)?;
    Ok((ForwardPath::Mailbox(mailbox), rest))
}

/// `Path = "<" [ A-d-l ":" ] Mailbox ">"`; the source route is checked and dropped.
fn path(text: &str) -> Result<(Mailbox, &str), Error> {
    let inner = text.strip_prefix('<').ok_or(Error::Brackets)?;
    let (mailbox, rest) = mailbox(source_route(inner)?)?;
    let rest = rest.strip_prefix('>').ok_or(Error::Brackets)?;
    if text.len() - rest.len() > PATH_MAX {
        return Err(Error::PathTooLong);
    }
    Ok((mailbox, rest))
}

/// `A-d-l = At-domain *( "," At-domain )`, then a colon; gives what follows.
fn source_route(text: &str) -> Result<&str, Error> {
    let Some(mut rest) = text.strip_prefix('@') else {
        return Ok(text);
    };
    loop {
        let (_, after) = domain(rest).map_err(|_| Error::SourceRoute)?;
        if let Some(after) = after.strip_prefix(':') {
            return Ok(after);
        }
        rest = after.strip_prefix(",@").ok_or(Error::SourceRoute)?;
    }
}

/// `Mailbox = Local-part "@" ( Domain / address-literal )`.
pub(super) fn mailbox(text: &str) -> Result<(Mailbox, &str), Error> {
    let (local, rest) = match text.strip_prefix('"') {
        Some(quoted) => quoted_string(quoted)?,
        None => dot_string(text)?,
    };
    if text.len() - rest.len() > LOCAL_PART_MAX {
        return Err(Error::LocalPartTooLong);
    }
    let host = rest.strip_prefix('@').ok_or(Error::MissingDomain)?;
    let (domain, rest) = match host.strip_prefix('[') {
        Some(literal) => address_literal(literal)?,
        None => domain(host).map(|(domain, rest)| (domain.to_owned(), rest))?,
    };
    // Room for the angle brackets: what parses here can always be sent on.
    if text.len() - rest.len() > PATH_MAX - "<>".len() {
        return Err(Error::PathTooLong);
    }
    Ok((Mailbox { local, domain }, rest))
}

/// Whether the text is a domain name or an address literal, as EHLO wants it (RFC 5321 §4.1.1.1).
#[must_use]
pub fn is_host(text: &str) -> bool {
    match text.strip_prefix('[') {
        Some(literal) => matches!(address_literal(literal), Ok((_, ""))),
        None => matches!(domain(text), Ok((_, ""))),
    }
}

/// `Dot-string = Atom *( "." Atom )`.
fn dot_string(text: &str) -> Result<(String, &str), Error> {
    let end = text
        .find(|c| !(is_atext(c) || c == '.'))
        .unwrap_or(text.len());
    let (local, rest) = text.split_at(end);
    if !is_dot_string(local) {
        return Err(Error::LocalPart);
    }
    Ok((local.to_owned(), rest))
}

/// Whether a local part can be written without quotes.
pub(super) fn is_dot_string(local: &str) -> bool {
    local
        .split('.')
        .all(|atom| !atom.is_empty() && atom.chars().all(is_atext))
}

/// `Quoted-string = DQUOTE *QcontentSMTP DQUOTE`, the opening quote already taken.
fn quoted_string(text: &str) -> Result<(String, &str), Error> {
    let mut local = String::new();
    let mut chars = text.char_indices();
    while let Some((at, c)) = chars.next() {
        match c {
            '"' => return Ok((local, &text[at + 1..])),
            '\\' => match chars.next() {
                Some((_, escaped @ ' '..='~')) => local.push(escaped),
                _ => return Err(Error::LocalPart),
            },
            ' '..='~' => local.push(c),
            c if is_non_ascii_text(c) => local.push(c),
            _ => return Err(Error::LocalPart),
        }
    }
    Err(Error::LocalPart)
}

/// `Domain = sub-domain *( "." sub-domain )` with U-labels (RFC 6531 §3.3).
fn domain(text: &str) -> Result<(&str, &str), Error> {
    let end = text
        .find(|c: char| !(c.is_ascii_alphanumeric() || "-.".contains(c) || is_label_non_ascii(c)))
        .unwrap_or(text.len());
    let (domain, rest) = text.split_at(end);
    if domain.len() > DOMAIN_MAX {
        return Err(Error::DomainTooLong);
    }
    if !domain.split('.').all(is_label) {
        return Err(Error::Domain);
    }
    Ok((domain, rest))
}

fn is_label(label: &str) -> bool {
    (1..=LABEL_MAX).contains(&label.len()) && !label.starts_with('-') && !label.ends_with('-')
}

/// `address-literal`, the opening bracket already taken; rewritten from the parsed address.
///
/// No tag but `IPv6` is registered, so `General-address-literal` is refused.
fn address_literal(text: &str) -> Result<(String, &str), Error> {
    let (inner, rest) = text.split_once(']').ok_or(Error::Literal)?;
    if let Ok(address) = inner.parse::<Ipv4Addr>() {
        return Ok((format!("[{address}]"), rest));
    }
    match inner.split_once(':') {
        Some((tag, address)) if tag.eq_ignore_ascii_case("IPv6") => address
            .parse::<Ipv6Addr>()
            .map(|address| (format!("[IPv6:{address}]"), rest))
            .map_err(|_| Error::Literal),
        _ => Err(Error::Literal),
    }
}

/// `atext` of RFC 5322 §3.2.3 with the characters of RFC 6531 §3.3.
fn is_atext(c: char) -> bool {
    c.is_ascii_alphanumeric() || "!#$%&'*+-/=?^_`{|}~".contains(c) || is_non_ascii_text(c)
}

/// `UTF8-non-ascii`, less the C1 controls and the separators, which are line breaks to some readers, and the marks that
/// make an address look like another one wherever it is shown.
fn is_non_ascii_text(c: char) -> bool {
    !c.is_ascii() && !is_hostile(c) && !c.is_whitespace()
}

/// Non-ASCII that may stand in a label. The three dots that IDNA maps to `.` are refused, because
/// the next hop could read another domain than we did.
fn is_label_non_ascii(c: char) -> bool {
    is_non_ascii_text(c) && !matches!(c, '\u{3002}' | '\u{ff0e}' | '\u{ff61}')
}
