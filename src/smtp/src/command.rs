//! Commands of the client (RFC 5321 §4.1.1), parsed from one line without its CRLF.
//!
//! Every [`Error`] maps to exactly one reply, in one place ([`Error::reply`]).

mod parameters;
#[cfg(test)]
mod tests;

use crate::Recipient;
use crate::address::{self, ReversePath};
use crate::reply::{EnhancedStatus, Reply};

pub(crate) use parameters::{MailArguments, RcptArguments};

/// Longest name in EHLO or HELO, in octets: the longest domain or literal.
const HELO_MAX: usize = address::DOMAIN_MAX;

/// First words of other protocols. Who sends them is a browser or a proxy that was tricked into
/// talking to a mail server, and the lines that follow are under somebody else's control.
const FOREIGN_VERBS: [&str; 10] = [
    "CONNECT", "DELETE", "GET", "HEAD", "OPTIONS", "PATCH", "POST", "PRI", "PUT", "TRACE",
];

const BDAT: &[u8] = b"BDAT";

/// Commands of RFC 5321 and its extensions that this server knows of and does not offer.
const NOT_OFFERED: [&str; 7] = ["ETRN", "EXPN", "SAML", "SEND", "SOML", "TURN", "XCLIENT"];

/// One command line, understood.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) enum Command<'a> {
    Ehlo(&'a str),
    Helo(&'a str),
    Mail(ReversePath, MailArguments),
    Rcpt(Recipient),
    Data,
    /// So many octets of content follow the line.
    Bdat(u64, Chunk),
    Rset,
    Noop,
    Vrfy,
    Help,
    Quit,
    StartTls,
    /// Mechanism and what follows it. The rest is not looked at before AUTH is known to be allowed.
    Auth(&'a str, Option<&'a str>),
}

/// Whether a chunk is the last of its message (RFC 3030 §2).
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Chunk {
    More,
    Last,
}

/// Why a line is no command; all of it the peer's mistake.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
pub(crate) enum Error {
    #[error("another protocol is spoken")]
    Foreign,
    #[error("the command holds control characters")]
    Control,
    #[error("the command is not UTF-8")]
    NotUtf8,
    #[error("the command is unknown")]
    Unknown,
    #[error("the command is not offered")]
    NotOffered,
    #[error("the size of a chunk cannot be read")]
    Chunk,
    #[error("the greeting needs one host name")]
    Greeting,
    #[error("the command takes other arguments: {0}")]
    Syntax(&'static str),
    #[error("the sender is malformed: {0}")]
    Sender(address::Error),
    #[error("the recipient is malformed: {0}")]
    Recipient(address::Error),
    #[error("a parameter is unknown or not offered")]
    UnknownParameter,
    #[error("the value of {0} is malformed, or it is given twice")]
    Parameter(&'static str),
}

impl Error {
    /// What the client is told. Nothing of its line is repeated: it may be a password.
    pub(crate) fn reply(&self) -> Reply {
        let status = |subject, detail| EnhancedStatus::new(5, subject, detail);
        match self {
            Self::Foreign => Reply::new(554, status(5, 1), "This is a mail server; closing"),
            Self::Control => Reply::new(
                500,
                status(5, 2),
                "Syntax error: control characters in the command",
            ),
            Self::NotUtf8 => {
                Reply::new(500, status(5, 2), "Syntax error: the command is not UTF-8")
            }
            Self::Unknown => Reply::new(500, status(5, 2), "Command unrecognized"),
            Self::NotOffered => Reply::new(502, status(5, 1), "Command not implemented"),
            Self::Chunk => Reply::new(501, status(5, 4), "Syntax: BDAT octets [LAST]; closing"),
            // No status in a reply to EHLO or HELO (RFC 2034 §4).
            Self::Greeting => Reply::new(501, None, "Syntax: EHLO hostname"),
            Self::Syntax(usage) => Reply::new(501, status(5, 4), format!("Syntax: {usage}")),
            Self::Sender(error) => Reply::new(501, status(1, 7), format!("Bad sender: {error}")),
            Self::Recipient(error) => {
                Reply::new(501, status(1, 3), format!("Bad recipient: {error}"))
            }
            Self::UnknownParameter => Reply::new(555, status(5, 4), "Unsupported parameter"),
            Self::Parameter(name) => Reply::new(
                501,
                status(5, 4),
                format!("Bad or repeated parameter {name}"),
            ),
        }
    }
}

/// Parses a line. Verbs and keywords are taken in any case, spaces at the end are ignored.
pub(crate) fn parse(line: &[u8]) -> Result<Command<'_>, Error> {
    if line.iter().any(u8::is_ascii_control) {
        return Err(Error::Control);
    }
    let line = std::str::from_utf8(line).map_err(|_| Error::NotUtf8)?;
    let line = line.trim_end_matches(' ');
    let (verb, rest) = line.split_once(' ').unwrap_or((line, ""));
    let rest = rest.trim_start_matches(' ');
    let verb = verb.to_ascii_uppercase();
    match verb.as_str() {
        "EHLO" => greeting(rest).map(Command::Ehlo),
        "HELO" => greeting(rest).map(Command::Helo),
        "MAIL" => mail(rest),
        "RCPT" => rcpt(rest),
        "DATA" => bare(rest, "DATA", Command::Data),
        "BDAT" => bdat(rest),
        "RSET" => bare(rest, "RSET", Command::Rset),
        "QUIT" => bare(rest, "QUIT", Command::Quit),
        "STARTTLS" => bare(rest, "STARTTLS", Command::StartTls),
        "AUTH" => auth(rest),
        "NOOP" => Ok(Command::Noop),
        "VRFY" => Ok(Command::Vrfy),
        "HELP" => Ok(Command::Help),
        verb if NOT_OFFERED.contains(&verb) => Err(Error::NotOffered),
        verb if FOREIGN_VERBS.contains(&verb) => Err(Error::Foreign),
        _ => Err(Error::Unknown),
    }
}

/// Whether octets of content may follow a line, whatever else it says. `BDATX` counts too: taken for a chunk that cannot be read it ends the
/// connection, and taken for an unknown command what follows might be read as commands.
pub(crate) fn announces_chunk(line: &[u8]) -> bool {
    let verb = line.get(..BDAT.len());
    verb.is_some_and(|verb| verb.eq_ignore_ascii_case(BDAT))
}

fn bare<'a>(rest: &str, usage: &'static str, command: Command<'a>) -> Result<Command<'a>, Error> {
    match rest {
        "" => Ok(command),
        _ => Err(Error::Syntax(usage)),
    }
}

/// Any one printable word: hosts with underscores and the like must not lose their mail over a name
/// that nothing depends on (RFC 5321 §4.1.4: mail is not refused because of it).
fn greeting(rest: &str) -> Result<&str, Error> {
    let printable = rest.bytes().all(|octet| octet.is_ascii_graphic());
    match rest.len() {
        1..=HELO_MAX if printable => Ok(rest),
        _ => Err(Error::Greeting),
    }
}

fn mail(rest: &str) -> Result<Command<'static>, Error> {
    let path = keyword(rest, "FROM:").ok_or(Error::Syntax("MAIL FROM:<address>"))?;
    let (path, rest) = address::reverse_path(path).map_err(Error::Sender)?;
    let rest = separated(rest).ok_or(Error::Sender(address::Error::Trailing))?;
    Ok(Command::Mail(path, MailArguments::parse(rest)?))
}

fn rcpt(rest: &str) -> Result<Command<'static>, Error> {
    let path = keyword(rest, "TO:").ok_or(Error::Syntax("RCPT TO:<address>"))?;
    let (path, rest) = address::forward_path(path).map_err(Error::Recipient)?;
    let rest = separated(rest).ok_or(Error::Recipient(address::Error::Trailing))?;
    let RcptArguments { notify, orcpt } = RcptArguments::parse(rest)?;
    Ok(Command::Rcpt(Recipient {
        path,
        notify,
        orcpt,
    }))
}

/// `bdat-cmd = "BDAT" SP chunk-size [ SP end-marker ]` (RFC 3030 §2).
fn bdat(rest: &str) -> Result<Command<'static>, Error> {
    let (size, marker) = rest.split_once(' ').unwrap_or((rest, ""));
    let octets = parameters::octets(size).ok_or(Error::Chunk)?;
    match marker.trim_start_matches(' ') {
        "" => Ok(Command::Bdat(octets, Chunk::More)),
        last if last.eq_ignore_ascii_case("LAST") => Ok(Command::Bdat(octets, Chunk::Last)),
        _ => Err(Error::Chunk),
    }
}

/// What follows the keyword. A space behind the colon is wrong (RFC 5321 §3.3) and common.
fn keyword<'a>(rest: &'a str, keyword: &str) -> Option<&'a str> {
    let (head, tail) = rest.split_at_checked(keyword.len())?;
    head.eq_ignore_ascii_case(keyword)
        .then(|| tail.trim_start_matches(' '))
}

/// The parameters: either nothing, or something behind a space.
fn separated(rest: &str) -> Option<&str> {
    match rest.strip_prefix(' ') {
        Some(parameters) => Some(parameters.trim_start_matches(' ')),
        None => rest.is_empty().then_some(rest),
    }
}

fn auth(rest: &str) -> Result<Command<'_>, Error> {
    match rest.split_once(' ') {
        _ if rest.is_empty() => Err(Error::Syntax("AUTH mechanism [initial-response]")),
        None => Ok(Command::Auth(rest, None)),
        Some((mechanism, initial)) => Ok(Command::Auth(
            mechanism,
            Some(initial.trim_start_matches(' ')),
        )),
    }
}
