//! What next hops do, and what is to come of it.

use harness::hop::{Act, CONNECT, CONTENT, END};
use postroad_config::status::FailureReason;

use Act::{Cut, Hang, Say};
use Expected::{Bounced, Deferred, Delivered, Held, SenderRejected};

/// Two lines each, of content that is sent for a while: 12 MB.
const BULK_LINES: usize = 270_000;

/// What Amazon SES says of a sender that it does not know.
const UNVERIFIED: &str = "554 Message rejected: Email address is not verified.";

/// What Amazon SES says to whom sends too much. It does so behind the content as well, where it counts as said to an account: after a
/// login, which these hops do not ask for.
const THROTTLING: &str = "454 Throttling failure: Maximum sending rate exceeded.";

/// Yes, said twice.
const TWICE: &str = "250 2.0.0 ok\r\n250 2.0.0 ok";

/// One script, and what comes of it.
#[derive(Clone, Copy, Debug)]
pub(super) struct Case {
    /// The beginning of what the hop hears.
    pub(super) step: &'static str,
    pub(super) act: Act,
    pub(super) expected: Expected,
    /// How many copies have reached the hop after it was mended. More than one only where the hop had the message and its
    /// reply was lost (RFC 1047).
    pub(super) copies: usize,
}

/// What becomes of a message while the hop does this.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Expected {
    /// The hop has taken it.
    Delivered,
    /// It has failed once and is tried again later.
    Deferred,
    /// The sender has been told.
    Bounced,
    /// It has failed once and is tried again later, because the hop does not take its sender's mail; the status says so.
    SenderRejected,
    /// It waits, uncharged, because the hop does not work.
    Held(FailureReason),
}

pub(super) const fn case(step: &'static str, act: Act, expected: Expected, copies: usize) -> Case {
    Case {
        step,
        act,
        expected,
        copies,
    }
}

const THROTTLED: Expected = Held(FailureReason::Throttled);
const REFUSED: Expected = Held(FailureReason::Refused);
const UNWELCOME: Expected = Held(FailureReason::AuthenticationFailed);
const UNREACHABLE: Expected = Held(FailureReason::ConnectionRefused);
const BROKEN: Expected = Held(FailureReason::ProtocolError);
pub(super) const SILENT: Expected = Held(FailureReason::ConnectionTimedOut);

/// Replies that say no. A real server gives them too.
pub(super) const REFUSALS: &[Case] = &[
    case("MAIL", Say("450 4.7.1 later"), Deferred, 1),
    // What a provider says of a sender somebody can mend: nothing is returned for that on the first day.
    case("MAIL", Say("550 5.7.1 never"), SenderRejected, 1),
    case("MAIL", Say(UNVERIFIED), SenderRejected, 1),
    case("MAIL", Say("552 5.3.4 too big"), Bounced, 0),
    case("RCPT", Say("450 4.2.1 later"), Deferred, 1),
    case("RCPT", Say("550 5.1.1 nobody"), Bounced, 0),
    case("RCPT", Say("552 5.2.2 full"), Bounced, 0),
    case("DATA", Say("451 4.3.0 later"), Deferred, 1),
    case("DATA", Say("554 5.5.1 never"), Bounced, 0),
    case(END, Say("451 4.3.0 later"), Deferred, 1),
    case(END, Say("452 4.3.1 full"), Deferred, 1),
    case(END, Say("554 5.6.0 never"), Bounced, 0),
    case(END, Say(TWICE), Delivered, 1),
];

/// What is about the hop and not about the message.
pub(super) const GOODBYES: &[Case] = &[
    case(CONNECT, Say("421 4.3.2 busy"), THROTTLED, 1),
    case(CONNECT, Say("554 5.7.1 go away"), REFUSED, 1),
    case("EHLO", Say("421 4.3.2 busy"), THROTTLED, 1),
    case("EHLO", Say("502 5.5.1 what"), Delivered, 1),
    case("MAIL", Say("421 4.7.0 enough"), THROTTLED, 1),
    case("MAIL", Say("530 5.7.0 log in"), UNWELCOME, 1),
    case("RCPT", Say("421 4.7.0 enough"), THROTTLED, 1),
    case("DATA", Say("421 4.7.0 enough"), THROTTLED, 1),
    case(CONTENT, Say("421 4.7.0 enough"), THROTTLED, 1),
    case(END, Say("421 4.3.0 ouch"), Deferred, 1),
    case("MAIL", Say(THROTTLING), THROTTLED, 1),
    case("RCPT", Say("450 4.3.2 not now"), Deferred, 1),
    case("RCPT", Say("454 4.7.1 relay access denied"), Deferred, 1),
    case(END, Say(THROTTLING), Deferred, 1),
    case(END, Say("451 4.3.2 not now"), Deferred, 1),
    case(END, Say("421 4.7.28 an unusual rate"), Deferred, 1),
];

/// Connections that end.
pub(super) const ENDS: &[Case] = &[
    case(CONNECT, Cut(""), UNREACHABLE, 1),
    case(CONNECT, Cut("22"), UNREACHABLE, 1),
    case("EHLO", Cut("250-hop\r\n250-SIZE"), UNREACHABLE, 1),
    case("MAIL", Cut(""), BROKEN, 1),
    case("RCPT", Cut("250 2.1."), BROKEN, 1),
    case("DATA", Cut("354"), BROKEN, 1),
    case(CONTENT, Cut(""), BROKEN, 1),
    // The hop has the message, and nobody knows: better twice than never.
    case(END, Cut(""), Deferred, 2),
    case(END, Cut("2"), Deferred, 2),
    case(END, Cut("250"), Deferred, 2),
    case(END, Cut("250 2.0.0 taken"), Deferred, 2),
    case(END, Cut("250-2.0.0 taken\r\n"), Deferred, 2),
    case(END, Cut("250 2.0.0 taken\r\n"), Delivered, 1),
];

/// Replies that are none.
pub(super) const NONSENSE: &[Case] = &[
    case(CONNECT, Say("SSH-2.0-OpenSSH_9.2"), BROKEN, 1),
    case("EHLO", Say("250-hop\r\n220 SIZE"), BROKEN, 1),
    case("MAIL", Say("hello"), Deferred, 1),
    case("MAIL", Cut("250-one\r\n251 two\r\n"), Deferred, 1),
    case("RCPT", Cut("25O 2.1.5 ok\r\n"), Deferred, 1),
    case("DATA", Say("250 2.0.0 ok"), Deferred, 1),
    case(END, Say("hello"), Deferred, 1),
    case(END, Cut("250-2.0.0 one\r\n550 5.0.0 two\r\n"), Deferred, 2),
    case(END, Cut("354 go\r\n"), Deferred, 2),
];

/// Silence: whoever waits for a reply waits for minutes.
pub(super) const SILENCE: &[&str] = &["MAIL", "RCPT", "DATA", CONTENT, END];

/// What hops offer.
pub(super) const MANNERS: [(&str, &[&str]); 3] = [
    ("plain", &[]),
    (
        "pipelining",
        &["PIPELINING", "8BITMIME", "ENHANCEDSTATUSCODES"],
    ),
    (
        "chunking",
        // With PIPELINING the first message of a connection goes behind DATA.
        &["CHUNKING", "8BITMIME", "SIZE 1000000"],
    ),
];

impl Case {
    /// The same with a hop that takes content in chunks, where there is such a step.
    pub(super) fn chunked(self) -> Option<Self> {
        match self.step {
            "DATA" | CONTENT => None,
            // Which of two replies is the answer to the chunk nobody knows: better twice than never.
            END if self.act == Say(TWICE) => Some(case("BDAT", self.act, Deferred, 2)),
            END => Some(Self {
                step: "BDAT",
                ..self
            }),
            _ => Some(self),
        }
    }

    /// What is sent. For a hop that breaks off in the middle of content it does not fit into the buffers of a socket: otherwise it would be there
    /// as a whole.
    pub(super) fn content(&self) -> Vec<u8> {
        let lines = if self.step == CONTENT { BULK_LINES } else { 1 };
        let body = b".\r\n0123456789012345678901234567890123456789\r\n".repeat(lines);
        [b"Subject: x\r\n\r\n".to_vec(), body].concat()
    }

    /// Whether aiosmtpd can be made to do it.
    pub(super) fn is_for_aiosmtpd(&self) -> bool {
        match self.act {
            Say(reply) => {
                ["MAIL", "RCPT", END].contains(&self.step)
                    && !reply.contains('\n')
                    && !reply.starts_with("421")
            }
            Cut(octets) => self.step == END && octets.is_empty(),
            Hang(_) => false,
        }
    }
}
