//! What must hold when all is mended and the queue is drained.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Add;
use std::time::Duration;

use crate::ledger::{Acceptance, Answer, Arrival, Fate, Kept, Ledger, Reports, Trouble};
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
    pub(crate) counts: Counts,
}

/// How often what happened: to recipients, but for the last two.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Counts {
    pub(crate) accepted: usize,
    /// Of those, what came with a login.
    pub(crate) with_login: usize,
    /// Of those, what had not been stored.
    pub(crate) passed_on: usize,
    /// Of those, what a power cut took that may.
    pub(crate) taken: usize,
    pub(crate) bounced: usize,
    /// Reports that mail was passed on to where nobody else says so.
    pub(crate) relayed: usize,
    /// Reports that mail is late.
    pub(crate) delayed: usize,
    /// What came once its client wanted it to.
    pub(crate) awaited: usize,
    /// What was returned by hand.
    pub(crate) returned: usize,
    /// What took another way for a while.
    pub(crate) rerouted: usize,
    /// What came converted.
    pub(crate) converted: usize,
    pub(crate) duplicates: usize,
    /// Senders of whom a next hop took nothing for a while.
    pub(crate) rejected: usize,
    pub(crate) power_cuts: usize,
}

impl Add for Counts {
    type Output = Self;

    fn add(self, other: Self) -> Self {
        Self {
            accepted: self.accepted + other.accepted,
            with_login: self.with_login + other.with_login,
            passed_on: self.passed_on + other.passed_on,
            taken: self.taken + other.taken,
            bounced: self.bounced + other.bounced,
            relayed: self.relayed + other.relayed,
            delayed: self.delayed + other.delayed,
            awaited: self.awaited + other.awaited,
            returned: self.returned + other.returned,
            rerouted: self.rerouted + other.rerouted,
            converted: self.converted + other.converted,
            duplicates: self.duplicates + other.duplicates,
            rejected: self.rejected + other.rejected,
            power_cuts: self.power_cuts + other.power_cuts,
        }
    }
}

/// Accepted is a subset of delivered, bounced and queued, but for what a relaxed spool may lose; what was passed on was there before; nothing
/// comes twice without a reason.
pub(crate) fn check(ledger: &Ledger, queued: &BTreeSet<String>, storage: Storage) -> Balance {
    let (accepted, arrivals) = (ledger.accepted_recipients(), ledger.arrivals());
    let passed_on = accepted.values().filter(|one| one.kept == Kept::PassedOn);
    let mut counts = Counts {
        accepted: accepted.len(),
        with_login: accepted.keys().filter(|one| ledger.has_login(one)).count(),
        relayed: ledger.relayed_recipients(),
        delayed: ledger.delayed_recipients(),
        awaited: ledger.awaited_recipients(),
        returned: ledger.returned_recipients(),
        rerouted: ledger.rerouted_recipients(),
        converted: ledger.converted_recipients(),
        passed_on: passed_on.count(),
        rejected: ledger.rejected_senders(),
        power_cuts: ledger.power_cuts().len(),
        ..Counts::default()
    };
    let mut errors = Vec::new();
    let spans = spans(ledger, storage);
    for (recipient, acceptance) in &accepted {
        let is_known = arrivals.contains_key(recipient)
            || queued.contains(recipient)
            || ledger.is_given_up(recipient);
        if !is_known && may_be_taken(*acceptance, &spans) {
            counts.taken += 1;
        } else if !is_known {
            let error = format!("{recipient} was accepted and is lost");
            errors.push(error);
        } else if is_premature(*acceptance, recipient, &arrivals) && !ledger.is_given_up(recipient)
        {
            let error = format!("{recipient} was passed on before a next hop had it");
            errors.push(error);
        }
        let arrivals = arrivals.get(recipient).map_or(&[][..], Vec::as_slice);
        if ends_here(arrivals)
            && ledger.owes_relayed(recipient)
            && !may_be_taken(*acceptance, &spans)
        {
            let error = format!("nobody was told that {recipient} was passed on");
            errors.push(error);
        }
    }
    errors.extend(ledger.wrong());
    let troubles = ledger.troubles();
    for (recipient, arrivals) in &arrivals {
        let bounced = arrivals
            .iter()
            .filter(|arrival| arrival.fate == Fate::Bounced);
        counts.bounced += bounced.count();
        for pair in arrivals.windows(2) {
            counts.duplicates += 1;
            if !is_excused(&pair[0], &troubles) {
                let (first, second) = (pair[0].at, pair[1].at);
                let error =
                    format!("{recipient} came at {first:?}, and at {second:?} for no reason");
                errors.push(error);
            }
        }
    }
    Balance { errors, counts }
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

/// Whether a recipient has got the message where nobody reports on that, and nothing else became of it.
fn ends_here(arrivals: &[Arrival]) -> bool {
    let ends = |one: &Arrival| one.fate == Fate::Delivered && one.reports == Reports::Nobody;
    !arrivals.is_empty() && arrivals.iter().all(ends)
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
mod tests;
