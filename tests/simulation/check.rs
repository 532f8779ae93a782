//! What must hold when all is mended and the queue is drained.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use crate::ledger::{Acceptance, Answer, Arrival, Fate, Kept, Ledger, Trouble};
use crate::plan::Storage;

/// From the answer of a next hop to the record of it on disk, when nothing is in the way: the way of the answer, one group commit. It is the
/// one window in which the end of a process makes a duplicate.
const WINDOW: Duration = Duration::from_secs(1);

/// For what is on its way to a next hop, a packet that waits for one before it included.
const FLIGHT: Duration = Duration::from_millis(300);

/// By so much the simulation may be late with the flush of a relaxed spool: the pause of its writer, and the grain of time.
const LATE: Duration = Duration::from_millis(100);

/// What a run came to.
#[derive(Debug, Default)]
pub(crate) struct Balance {
    /// What must not be.
    pub(crate) errors: Vec<String>,
    pub(crate) accepted: usize,
    /// Of those, what had not been stored.
    pub(crate) passed_on: usize,
    /// Of those, what a power cut took that may.
    pub(crate) taken: usize,
    pub(crate) bounced: usize,
    pub(crate) duplicates: usize,
}

/// Accepted is a subset of delivered, bounced and queued, but for what a relaxed spool may lose; what was passed on was there before; nothing
/// comes twice without a reason.
pub(crate) fn check(ledger: &Ledger, queued: &BTreeSet<String>, storage: Storage) -> Balance {
    let (accepted, arrivals) = (ledger.accepted_recipients(), ledger.arrivals());
    let passed_on = accepted.values().filter(|one| one.kept == Kept::PassedOn);
    let mut balance = Balance {
        accepted: accepted.len(),
        passed_on: passed_on.count(),
        ..Balance::default()
    };
    let spans = spans(ledger, storage);
    for (recipient, acceptance) in &accepted {
        let is_known = arrivals.contains_key(recipient) || queued.contains(recipient);
        if !is_known && may_be_taken(*acceptance, &spans) {
            balance.taken += 1;
        } else if !is_known {
            let error = format!("{recipient} was accepted and is lost");
            balance.errors.push(error);
        } else if is_premature(*acceptance, recipient, &arrivals) {
            let error = format!("{recipient} was passed on before a next hop had it");
            balance.errors.push(error);
        }
    }
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

/// The times of acceptance from which a power cut may take something: none but for a relaxed spool.
fn spans(ledger: &Ledger, storage: Storage) -> Vec<Trouble> {
    let Storage::Relaxed { sync } = storage else {
        return Vec::new();
    };
    let unflushed = ledger.times_unflushed();
    let cuts = ledger.power_cuts().into_iter();
    cuts.map(|cut| Trouble {
        from: flushed_until(cut, sync + LATE, &unflushed),
        until: cut + FLIGHT,
    })
    .collect()
}

/// What was answered before this was flushed when the power went: in time, unless the disk failed or no process ran.
fn flushed_until(cut: Duration, within: Duration, unflushed: &[Trouble]) -> Duration {
    let mut until = cut.saturating_sub(within);
    loop {
        let in_the_way = unflushed
            .iter()
            .filter(|trouble| trouble.from <= cut && trouble.until >= until)
            .map(|trouble| trouble.from.saturating_sub(within));
        match in_the_way.min().filter(|earlier| *earlier < until) {
            Some(earlier) => until = earlier,
            None => return until,
        }
    }
}

fn may_be_taken(acceptance: Acceptance, spans: &[Trouble]) -> bool {
    let holds = |span: &Trouble| span.from <= acceptance.at && acceptance.at <= span.until;
    acceptance.kept == Kept::Queued && spans.iter().any(holds)
}

/// Whether the client was told that a message had been passed on before it had been. A recipient that was refused is the business of a report.
fn is_premature(
    acceptance: Acceptance,
    recipient: &str,
    arrivals: &BTreeMap<String, Vec<Arrival>>,
) -> bool {
    let arrivals = arrivals.get(recipient).map_or(&[][..], Vec::as_slice);
    let explains = |arrival: &Arrival| arrival.fate == Fate::Bounced || arrival.at <= acceptance.at;
    acceptance.kept == Kept::PassedOn && !arrivals.iter().any(explains)
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
    const QUEUED: Acceptance = Acceptance {
        at: SECOND,
        kept: Kept::Queued,
    };

    /// A ledger in which a recipient was delivered at these seconds, each with an answer.
    fn ledger(accepted: &[&str], deliveries: &[(&str, u32, Answer)]) -> Ledger {
        let ledger = Ledger::default();
        ledger.sent(1, b"content");
        for recipient in accepted {
            ledger.accepted(recipient, QUEUED);
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
        let balance = check(&ledger, &queued, Storage::Durable);
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
            let balance = check(&ledger, &BTreeSet::new(), Storage::Durable);
            let found = (balance.errors.len(), balance.duplicates);
            assert_eq!(found, (errors, 1), "{answer:?} {trouble:?}");
        }
    }

    #[test]
    fn what_is_not_what_was_sent_is_told() {
        let ledger = ledger(&[], &[("m2-0@x", 1, Answer::Given)]);
        let balance = check(&ledger, &BTreeSet::new(), Storage::Durable);
        assert_eq!(balance.errors, ["not what was sent to m2-0@x"]);
    }

    #[test]
    fn a_relaxed_spool_may_lose_what_came_shortly_before_the_power_went() {
        let storage = Storage::Relaxed {
            sync: Duration::from_millis(500),
        };
        for (accepted, cut, unflushed, lost) in [
            // Shortly before, long before, shortly after, when the answer was on its way, and long after.
            (10_000, 10_400, None, 0),
            (10_000, 11_000, None, 1),
            (10_000, 9_900, None, 0),
            (10_000, 9_000, None, 1),
            // The disk failed when the flush was due, and later; no process ran until the power went.
            (10_000, 12_000, Some((10_300, 11_900)), 0),
            (10_000, 12_000, Some((11_000, 11_900)), 1),
            (10_000, 12_000, Some((10_100, 12_000)), 0),
        ] {
            let ledger = Ledger::default();
            let ms = Duration::from_millis;
            let kept = Kept::Queued;
            let at = ms(accepted);
            ledger.accepted("m1-0@x", Acceptance { at, kept });
            ledger.power_cut(ms(cut));
            if let Some((from, until)) = unflushed {
                ledger.unflushed(ms(from), ms(until));
            }
            let balance = check(&ledger, &BTreeSet::new(), storage);
            let found = (balance.errors.len(), balance.taken);
            let case = (accepted, cut, unflushed);
            assert_eq!(found, (lost, 1 - lost), "{case:?}");
            let strict = check(&ledger, &BTreeSet::new(), Storage::Durable);
            assert_eq!(strict.errors.len(), 1, "{case:?}");
        }
    }

    #[test]
    fn what_is_passed_on_must_have_been_there_before() {
        for (delivered, told, errors) in [(3, 4, 0), (5, 4, 1)] {
            let ledger = ledger(&[], &[("m1-0@x", delivered, Answer::Given)]);
            let (at, kept) = (SECOND * told, Kept::PassedOn);
            ledger.accepted("m1-0@x", Acceptance { at, kept });
            let balance = check(&ledger, &BTreeSet::new(), Storage::Passthrough);
            let found = (balance.errors.len(), balance.passed_on);
            assert_eq!(found, (errors, 1), "{delivered} {told}");
        }
    }
}
