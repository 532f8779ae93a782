//! Everything the server says of its own accord, in one place.
//!
//! Texts say what to do where the client's people can do something. Nothing a client sent is repeated.

use crate::Priority;
use crate::command::{self, Command};
use crate::reply::{EnhancedStatus, Reply};

fn success(code: u16, subject: u16, detail: u16, text: &str) -> Reply {
    Reply::new(code, EnhancedStatus::new(2, subject, detail), text)
}

fn transient(code: u16, subject: u16, detail: u16, text: &str) -> Reply {
    Reply::new(code, EnhancedStatus::new(4, subject, detail), text)
}

fn permanent(code: u16, subject: u16, detail: u16, text: &str) -> Reply {
    Reply::new(code, EnhancedStatus::new(5, subject, detail), text)
}

pub(super) fn banner(hostname: &str) -> Reply {
    Reply::new(220, None, format!("{hostname} ESMTP ready"))
}

pub(super) fn helo(hostname: &str) -> Reply {
    Reply::new(250, None, hostname)
}

pub(super) fn ok() -> Reply {
    success(250, 0, 0, "Ok")
}

pub(super) fn sender_ok() -> Reply {
    success(250, 1, 0, "Ok")
}

/// RFC 6710 §4.1.
pub(super) fn reprioritized(priority: Priority) -> Reply {
    let text = format!("{priority} is the new priority assigned to the message");
    success(250, 3, 6, &text)
}

pub(super) fn recipient_ok() -> Reply {
    success(250, 1, 5, "Ok")
}

pub(super) fn go_ahead() -> Reply {
    Reply::new(354, None, "End data with <CR><LF>.<CR><LF>")
}

pub(super) fn chunk_ok(octets: u64) -> Reply {
    success(250, 0, 0, &format!("{octets} octets received"))
}

pub(super) fn chunk_too_big(limit: u64) -> Reply {
    let text = format!("Chunk too big, the limit is {limit} bytes; closing");
    permanent(552, 3, 4, &text)
}

pub(super) fn chunks_have_begun() -> Reply {
    permanent(
        503,
        5,
        1,
        "The message has begun with BDAT; only BDAT can go on with it",
    )
}

/// RFC 3030 §3: binary content has no lines that could end with a lone dot.
pub(super) fn binary_needs_chunks() -> Reply {
    permanent(503, 5, 1, "BODY=BINARYMIME needs BDAT")
}

pub(super) fn hold_too_long() -> Reply {
    permanent(
        501,
        5,
        4,
        "The message cannot be held that long; EHLO says how long",
    )
}

pub(super) fn held_past_delivery() -> Reply {
    permanent(
        501,
        5,
        4,
        "The message cannot be held past the time by which it is to be delivered",
    )
}

pub(super) fn deliver_by_too_soon(seconds: u32) -> Reply {
    let text = format!("Delivery is not promised within less than {seconds} seconds");
    permanent(550, 4, 7, &text)
}

/// The same for every name, so that nobody learns which exist (RFC 5321 §7.3).
pub(super) fn vrfy() -> Reply {
    success(252, 0, 0, "Cannot verify, will take the message and try")
}

pub(super) fn help() -> Reply {
    success(
        214,
        0,
        0,
        "EHLO STARTTLS AUTH MAIL RCPT DATA BDAT RSET NOOP QUIT",
    )
}

pub(super) fn bye() -> Reply {
    success(221, 0, 0, "Bye")
}

pub(super) fn ready_for_tls() -> Reply {
    success(220, 0, 0, "Ready to start TLS")
}

pub(super) fn challenge(text: &str) -> Reply {
    Reply::new(334, None, text)
}

pub(super) fn authenticated() -> Reply {
    success(235, 7, 0, "Authentication succeeded")
}

pub(super) fn shutting_down(hostname: &str) -> Reply {
    transient(
        421,
        3,
        2,
        &format!("{hostname} is shutting down, try again"),
    )
}

pub(super) fn timed_out(hostname: &str) -> Reply {
    transient(421, 4, 2, &format!("{hostname} waited too long, closing"))
}

pub(super) fn too_many_errors(hostname: &str) -> Reply {
    transient(
        421,
        7,
        0,
        &format!("{hostname} saw too many errors, closing"),
    )
}

pub(super) fn too_many_failures(hostname: &str) -> Reply {
    transient(
        421,
        7,
        0,
        &format!("{hostname} saw too many failed logins, closing"),
    )
}

pub(super) fn too_much_junk(hostname: &str) -> Reply {
    transient(
        421,
        7,
        0,
        &format!("{hostname} saw too many commands without mail, closing"),
    )
}

pub(super) fn endless_content(hostname: &str) -> Reply {
    transient(
        421,
        7,
        0,
        &format!("{hostname} saw no end of the message, closing"),
    )
}

pub(super) fn tls_on_plaintext() -> Reply {
    permanent(
        554,
        5,
        1,
        "TLS without STARTTLS on a plaintext port: use STARTTLS, or the port for implicit TLS",
    )
}

pub(super) fn bare_newline() -> Reply {
    permanent(
        500,
        5,
        2,
        "Syntax error: lines must end with CRLF, a bare CR or LF is not allowed",
    )
}

pub(super) fn line_too_long(authenticating: bool) -> Reply {
    match authenticating {
        // RFC 4954 §6.
        true => permanent(500, 5, 6, "Authentication line too long"),
        false => permanent(500, 5, 2, "Syntax error: line too long"),
    }
}

/// What is refused before TLS where it is required. RFC 3207 §4 would have HELO, RSET and HELP refused too: they tell nothing.
pub(super) fn needs_tls(command: &Command<'_>) -> bool {
    match command {
        Command::Mail(..)
        | Command::Rcpt(_)
        | Command::Data
        | Command::Bdat(..)
        | Command::Auth(..)
        | Command::Vrfy => true,
        Command::Ehlo(_)
        | Command::Helo(_)
        | Command::Rset
        | Command::Noop
        | Command::Help
        | Command::Quit
        | Command::StartTls => false,
    }
}

pub(super) fn tls_required() -> Reply {
    permanent(530, 7, 0, "Must issue a STARTTLS command first")
}

pub(super) fn tls_unready() -> Reply {
    transient(454, 7, 0, "TLS is not available now, try again later")
}

pub(super) fn tls_unavailable() -> Reply {
    permanent(502, 5, 1, "TLS is not available here")
}

pub(super) fn tls_active() -> Reply {
    permanent(503, 5, 1, "TLS is already active")
}

pub(super) fn injected() -> Reply {
    permanent(554, 5, 1, "Commands behind STARTTLS in plaintext; closing")
}

pub(super) fn in_transaction() -> Reply {
    permanent(503, 5, 1, "A mail transaction is open; RSET ends it")
}

pub(super) fn greeting_first() -> Reply {
    permanent(503, 5, 1, "Send EHLO first")
}

pub(super) fn mail_first() -> Reply {
    permanent(503, 5, 1, "Send MAIL first")
}

pub(super) fn no_recipients() -> Reply {
    permanent(554, 5, 1, "No valid recipients")
}

pub(super) fn content_too_early() -> Reply {
    permanent(503, 5, 0, "Content sent before the 354 reply; closing")
}

pub(super) fn too_many_recipients() -> Reply {
    transient(
        452,
        5,
        3,
        "Too many recipients; send to the rest in another message",
    )
}

/// As for a parameter that nobody knows.
pub(super) fn parameter_not_offered() -> Reply {
    command::Error::UnknownParameter.reply()
}

pub(super) fn parameters_need_ehlo() -> Reply {
    permanent(555, 5, 4, "Parameters need EHLO instead of HELO")
}

pub(super) fn needs_smtputf8() -> Reply {
    permanent(
        553,
        6,
        7,
        "Non-ASCII addresses need the SMTPUTF8 parameter of MAIL",
    )
}

pub(super) fn too_big(limit: u64) -> Reply {
    permanent(
        552,
        3,
        4,
        &format!("Message too big, the limit is {limit} bytes"),
    )
}

pub(super) fn nul_in_content() -> Reply {
    permanent(
        554,
        6,
        0,
        "The message holds a NUL byte; send binary data with a base64 transfer encoding",
    )
}

/// The driver has answered something else than it was asked: nothing is granted for a fault of ours.
pub(super) fn misfit() -> Reply {
    transient(451, 3, 0, "Local error, try again")
}

pub(super) fn auth_required() -> Reply {
    permanent(
        530,
        7,
        0,
        "Authentication required: use AUTH first, under TLS",
    )
}

pub(super) fn auth_unavailable() -> Reply {
    permanent(502, 5, 1, "Authentication is not offered here")
}

pub(super) fn auth_needs_tls() -> Reply {
    permanent(538, 7, 11, "Authentication needs TLS: issue STARTTLS first")
}

pub(super) fn auth_twice() -> Reply {
    permanent(503, 5, 1, "Already authenticated")
}

pub(super) fn unknown_mechanism() -> Reply {
    permanent(504, 5, 4, "Unknown mechanism; PLAIN and LOGIN are offered")
}

pub(super) fn auth_cancelled() -> Reply {
    permanent(501, 5, 0, "Authentication cancelled")
}

pub(super) fn auth_malformed() -> Reply {
    permanent(501, 5, 2, "Malformed authentication response")
}

pub(super) fn auth_refused() -> Reply {
    permanent(535, 7, 8, "Authentication credentials invalid")
}
