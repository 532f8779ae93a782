//! What must hold when all is mended and the queue is drained.

use std::collections::BTreeSet;
use std::time::Duration;

use crate::ledger::{Answer, Arrival, Fate, Ledger, Trouble};

/// From the answer of a next hop to the record of it on disk, when nothing is in the way: the way of the answer, one group commit. It is the
/// one window in which the end of a process makes a duplicate.
const WINDOW: Duration = Duration::from_secs(1);

/// For what is on its way to a next hop, a packet that waits for one before it included.
const FLIGHT: Duration = Duration::from_millis(300);

/// What a run came to.
#[derive(Debug, Default)]
pub(crate) struct Balance {
    /// What must not be.
    pub(crate) errors: Vec<String>,
    pub(crate) accepted: usize,
    pub(crate) bounced: usize,
    pub(crate) duplicates: usize,
}

/// Accepted is a subset of delivered, bounced and queued; nothing comes twice without a reason.
pub(crate) fn check(ledger: &Ledger, queued: &BTreeSet<String>) -> Balance {
    let (accepted, arrivals) = (ledger.accepted_recipients(), ledger.arrivals());
    let lost = accepted
        .iter()
        .filter(|recipient| !arrivals.contains_key(*recipient) && !queued.contains(*recipient));
    let mut balance = Balance {
        errors: lost
            .map(|recipient| format!("{recipient} was accepted and is lost"))
            .collect(),
        accepted: accepted.len(),
        ..Balance::default()
    };
    balance.errors.extend(ledger.wrong());
    let troubles = ledger.troubles();
    for (recipient, arrivals) in &arrivals {
        let bounced = arrivals
            .iter()
            .filter(|arrival| arrival.fate == Fate::Bounced);
        balance.bounced += bounced.count();
        for pair in arrivals.windows(2) {
            balance.duplicates += 1;
            if !is_excused(&pair[0], &troubles) {
                let (first, second) = (pair[0].at, pair[1].at);
                let error =
                    format!("{recipient} came at {first:?}, and at {second:?} for no reason");
                balance.errors.push(error);
            }
        }
    }
    balance
}

/// Whether the relay may not know that this arrived.
fn is_excused(first: &Arrival, troubles: &[Trouble]) -> bool {
    // What is on its way when a process ends arrives nevertheless.
    let begin = first.at.saturating_sub(FLIGHT);
    let end = first.at + WINDOW;
    let touches = |trouble: &Trouble| trouble.from <= end && begin <= trouble.until;
    first.answer == Answer::Withheld || troubles.iter().any(touches)
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    /// A ledger in which a recipient was delivered at these seconds, each with an answer.
    fn ledger(accepted: &[&str], deliveries: &[(&str, u32, Answer)]) -> Ledger {
        let ledger = Ledger::default();
        ledger.sent(1, b"content");
        for recipient in accepted {
            ledger.accepted(recipient);
        }
        for (recipient, second, answer) in deliveries {
            let arrival = Arrival {
                at: SECOND * *second,
                fate: Fate::Delivered,
                answer: *answer,
            };
            ledger.arrived(recipient, b"Received: content", arrival);
        }
        ledger
    }

    #[test]
    fn what_was_accepted_and_is_nowhere_is_lost() {
        let delivered = [("m1-0@x", 1, Answer::Given)];
        let ledger = ledger(&["m1-0@x", "m1-1@x", "m1-2@x"], &delivered);
        let queued = BTreeSet::from(["m1-1@x".to_owned()]);
        let balance = check(&ledger, &queued);
        assert_eq!(balance.errors, ["m1-2@x was accepted and is lost"]);
    }

    #[test]
    fn what_comes_twice_needs_a_reason() {
        for (answer, trouble, errors) in [
            (Answer::Given, None, 1),
            (Answer::Withheld, None, 0),
            // While the record was written, and long before and after.
            (Answer::Given, Some((10, 10)), 0),
            (Answer::Given, Some((9, 12)), 0),
            (Answer::Given, Some((2, 9)), 1),
            (Answer::Given, Some((12, 13)), 1),
        ] {
            let ledger = ledger(
                &[],
                &[("m1-0@x", 10, answer), ("m1-0@x", 20, Answer::Given)],
            );
            if let Some((from, until)) = trouble {
                ledger.trouble(SECOND * from, SECOND * until);
            }
            let balance = check(&ledger, &BTreeSet::new());
            let found = (balance.errors.len(), balance.duplicates);
            assert_eq!(found, (errors, 1), "{answer:?} {trouble:?}");
        }
    }

    #[test]
    fn what_is_not_what_was_sent_is_told() {
        let ledger = ledger(&[], &[("m2-0@x", 1, Answer::Given)]);
        let balance = check(&ledger, &BTreeSet::new());
        assert_eq!(balance.errors, ["not what was sent to m2-0@x"]);
    }
}
