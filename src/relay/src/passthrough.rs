//! Handing mail on while its client waits: for how long, and what the client hears. The machinery is in [`crate::queue`].
//!
//! The 250 then says that the next server has the message; nothing is written. Whatever does not go well within [`PATIENCE`] is stored, and
//! the 250 says what it always says. It is never weaker.

use std::time::Duration;

use postroad_smtp::{EnhancedStatus, Reply};
use postroad_spool::Message;

use crate::context::{Context, Phase};
use crate::delivery;
use crate::memory::Reservation;
use crate::queue::{AcceptError, Owed, Passed};

/// How long a client waits for the next servers. The standard gives them ten minutes to answer (RFC 5321 §4.5.3.2.6) and clients as long
/// to wait, but programs that send mail often give up after one, and would then send all of it again.
pub const PATIENCE: Duration = Duration::from_secs(30);

/// RFC 3463 §3.1: the status that says least.
const UNSAID: EnhancedStatus = EnhancedStatus::new(5, 0, 0);

/// Hands a message on, or stores it.
///
/// # Errors
/// [`AcceptError`]: nothing was kept.
pub async fn pass(
    context: &Context,
    message: Message,
    reservation: Reservation,
) -> Result<Passed, AcceptError> {
    let report = |message: &Message, owed: &Owed| {
        let live = context.live();
        delivery::report(
            context,
            &live,
            message,
            &owed.notices,
            owed.remote.as_deref(),
        )
    };
    let until = context.reached(Phase::Draining);
    let queue = &context.queue;
    queue
        .pass(message, reservation, PATIENCE, until, report)
        .await
}

/// The next server's refusal as the answer to a message. RFC 5321 §4.3.2 knows these three codes there; what else a server may have said,
/// and at which command, is in the text.
#[must_use]
pub fn answer(theirs: &Reply) -> Reply {
    let code = match theirs.code() {
        code @ (550 | 552 | 554) => code,
        _ => 554,
    };
    let status = theirs.status().filter(|status| status.class == 5);
    Reply::new(code, status.unwrap_or(UNSAID), theirs.lines().join("\n"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_refusal_is_passed_on_with_a_code_that_a_client_expects() {
        for (code, status, text, expected) in [
            (
                550,
                Some((5, 1, 1)),
                "no such user",
                "550 5.1.1 no such user",
            ),
            (552, None, "too large", "552 5.0.0 too large"),
            (553, Some((5, 1, 3)), "bad address", "554 5.1.3 bad address"),
            (530, Some((4, 7, 0)), "TLS first", "554 5.0.0 TLS first"),
        ] {
            let status =
                status.map(|(class, subject, detail)| EnhancedStatus::new(class, subject, detail));
            let reply = answer(&Reply::new(code, status, text));
            assert_eq!(reply.to_string(), expected);
        }
    }

    #[test]
    fn all_lines_of_a_refusal_are_passed_on() {
        let theirs = Reply::new(
            554,
            EnhancedStatus::new(5, 7, 1),
            "spam\nsee https://example.com",
        );
        assert_eq!(answer(&theirs), theirs);
    }
}
