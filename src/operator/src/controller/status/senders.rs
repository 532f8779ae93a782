//! Senders that an upstream rejects.
//!
//! The upstream works and everybody else's mail flows: what waits is the mail of those senders, and nobody but a person ends that.

use std::time::Duration;

use postroad_config::status::SenderRejected;

use super::voices::Voices;
use crate::controller::validate::Validated;

/// What the first replica says that holds mail of such a sender, and what to do. Nothing waits where such mail is returned at once.
pub(super) fn rejected(voices: &Voices<'_>, validated: &Validated) -> Option<String> {
    let hold = Some(validated.sender_hold).filter(|hold| !hold.is_zero())?;
    let (ordinal, upstream, rejected) = voices.heard.iter().find_map(|(pod, status)| {
        status.upstreams.iter().find_map(|upstream| {
            let rejected = upstream.sender_rejected.as_ref()?;
            Some((pod.ordinal, &upstream.name, rejected))
        })
    })?;
    let SenderRejected {
        sender,
        reply,
        senders,
    } = rejected;
    let who = match sender.as_str() {
        "" => "<> (of reports)",
        sender => sender,
    };
    let others = match senders.saturating_sub(1) {
        0 => String::new(),
        others => format!(" and {others} more"),
    };
    let hold = in_words(hold);
    Some(format!(
        "replica {ordinal}: upstream {upstream} rejects sender {who}{others}: {reply}. Verify the sender at the provider, or send from another \
         address; such mail waits for up to {hold} and is then returned"
    ))
}

/// A time in the largest unit that it is a whole number of.
fn in_words(time: Duration) -> String {
    const UNITS: [(u64, &str); 3] = [(24 * 3600, "day"), (3600, "hour"), (60, "minute")];
    let seconds = time.as_secs();
    let whole = UNITS
        .into_iter()
        .find(|(unit, _)| seconds.is_multiple_of(*unit));
    let (unit, name) = whole.unwrap_or((1, "second"));
    let number = seconds / unit;
    let plural = if number == 1 { "" } else { "s" };
    format!("{number} {name}{plural}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_whole_numbers_of_their_unit() {
        for (seconds, expected) in [
            (86_400, "1 day"),
            (432_000, "5 days"),
            (90_000, "25 hours"),
            (3600, "1 hour"),
            (5400, "90 minutes"),
            (61, "61 seconds"),
        ] {
            assert_eq!(in_words(Duration::from_secs(seconds)), expected);
        }
    }
}
