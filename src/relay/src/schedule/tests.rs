mod cost;
mod fairness;
mod hanging;
mod model;
mod overdue;
mod pieces;
mod report;
mod steps;
mod tables;

use std::borrow::Cow;

use postroad_config::{Delivery, Target};
use postroad_spool::{Author, DomainRun, IdGenerator, Queued};

use super::*;
use crate::room::load::REPORT_BYTES;
use crate::route::Key;
use crate::window::Answer;

impl Schedule {
    /// Takes from whatever destination has something.
    pub(crate) fn take_any(&mut self, now_ms: u64) -> Option<Taken> {
        self.advance(now_ms);
        let places = 0..self.places.all.end();
        let is_held = |schedule: &Self, place| {
            let place = schedule.places.all.get(place);
            place.is_none_or(|place| place.id.0 == destination::Kind::Hold)
        };
        let mut places = places
            .filter(|place| !is_held(self, *place))
            .collect::<Vec<_>>()
            .into_iter();
        places.find_map(|place| self.take(Place(place), now_ms))
    }

    /// Whether a worker holds a piece of anything.
    pub(crate) fn is_at_work(&self) -> bool {
        let mut pieces = (0..self.pieces.end()).filter_map(|piece| self.pieces.get(piece));
        pieces.any(|piece| piece.state == State::Active)
    }

    /// When what waits is due, to the millisecond: [`Self::next_due_ms`] may be minutes before that. Ascending.
    pub(crate) fn due_ms(&self) -> Vec<u64> {
        let pieces = (0..self.pieces.end()).filter_map(|piece| self.pieces.get(piece));
        let waiting = pieces.filter(|piece| piece.state == State::Waiting);
        let mut due: Vec<_> = waiting.map(|piece| piece.due_ms).collect();
        due.sort_unstable();
        due
    }

    /// The destination of this key.
    pub(crate) fn place(&self, key: &Key) -> Option<Place> {
        let mut places =
            (0..self.places.all.end()).filter(|place| self.places.all.get(*place).is_some());
        let found = places.find(|place| self.places.key(&self.names, *place) == *key);
        found.map(Place)
    }
}

/// Messages to file.
pub(super) struct Mail {
    ids: IdGenerator,
}

impl Mail {
    pub(super) fn new() -> Self {
        Self {
            ids: IdGenerator::new([0; 10]),
        }
    }

    /// From a sender at `from.example` to so many recipients at each of these domains, arrived and due at this time.
    pub(super) fn to(&self, domains: &[(&str, u32)], arrival_ms: u64) -> Queued<'static> {
        let run = |(domain, recipients): &(&str, u32)| DomainRun {
            domain: Cow::Owned((*domain).to_owned()),
            recipients: *recipients,
        };
        Queued {
            id: self.ids.next(arrival_ms),
            arrival_ms,
            bytes: 10,
            recipients: domains.iter().map(|(_, recipients)| recipients).sum(),
            reportable: true,
            next_attempt_ms: arrival_ms,
            attempts: 0,
            delay_notified: false,
            settled: Cow::default(),
            sender_domain: "from.example".into(),
            credential: Cow::default(),
            author: Author::Submitter,
            priority: 0,
            not_before_ms: 0,
            deliver_by_ms: None,
            domains: domains.iter().map(run).collect(),
        }
    }

    pub(super) fn from(&self, credential: &str, domain: &str) -> Queued<'static> {
        Queued {
            credential: credential.to_owned().into(),
            ..self.to(&[(domain, 1)], 0)
        }
    }
}

/// All mail goes to the mail exchangers of its domain.
pub(super) fn direct() -> Arc<Table> {
    Arc::new(Table::new(&Delivery {
        default_route: Target::Direct,
        ..Delivery::default()
    }))
}

#[test]
fn takes_what_has_been_due_longest_and_nothing_early() {
    let (mail, mut schedule) = (Mail::new(), Schedule::default());
    let all = [30, 10, 20].map(|due_ms| Queued {
        next_attempt_ms: due_ms,
        ..mail.to(&[("a.example", 1)], 1)
    });
    for queued in &all {
        assert_eq!(schedule.insert(queued, 5), Filed::Queued);
    }
    assert_eq!(
        (schedule.take_any(9), schedule.next_due_ms()),
        (None, Some(10))
    );
    let order: Vec<_> = std::iter::from_fn(|| schedule.take_any(30)).collect();
    let order: Vec<_> = order.iter().map(|taken| taken.ticket.id).collect();
    assert_eq!(order, [all[1].id, all[2].id, all[0].id]);
    assert_eq!(
        schedule.take_any(99),
        None,
        "what is active is not handed out twice"
    );
    assert_eq!(schedule.totals().messages, 3);
}

#[test]
fn counts_follow_every_move() {
    let (mail, mut schedule) = (Mail::new(), Schedule::default());
    let one = mail.to(&[("a.example", 2)], 1);
    let other = Queued {
        attempts: 3,
        settled: Cow::Owned(vec![0]),
        ..mail.to(&[("a.example", 2)], 2)
    };
    let empty = schedule.shared_bytes();
    let added = schedule.shared_bytes_of(&one);
    schedule.insert(&one, 5);
    assert_eq!(
        (schedule.shared_bytes(), schedule.shared_bytes_of(&other)),
        (empty + added, 0)
    );
    schedule.insert(&other, 5);
    let expected = Totals {
        messages: 2,
        bytes: 20,
        deferred: 1,
        unreadable: 0,
        held: 0,
        weight: Weight::of(2, 2) + Weight::of(2, 1),
        owed: 2 * (REPORT_BYTES + 10) - 10 + REPORT_BYTES,
    };
    assert_eq!(schedule.totals(), expected);
    let Taken { ticket, entry } = schedule.take_any(5).unwrap();
    assert_eq!(
        (ticket.id, &*entry.open, entry.attempts),
        (one.id, &[0, 1][..], 0)
    );
    assert!(!schedule.is_last(ticket, &[1]) && schedule.is_last(ticket, &[0, 1]));
    assert_eq!(schedule.settle(ticket, &[1], 1, false), Left::Open);
    schedule.release(ticket, 50, Reading::Fine, 5);
    let expected = Totals {
        deferred: 2,
        weight: Weight::of(2, 1) + Weight::of(2, 1),
        owed: 2 * REPORT_BYTES,
        ..expected
    };
    assert_eq!(
        (schedule.totals(), schedule.oldest_arrival_ms()),
        (expected, Some(1))
    );
    let Taken { ticket, entry } = schedule.take_any(5).unwrap();
    assert_eq!(
        (ticket.id, &*entry.open, entry.attempts),
        (other.id, &[1][..], 3)
    );
    assert_eq!(schedule.settle(ticket, &[1], 3, false), Left::Nothing);
    schedule.finish(ticket, 5);
    let Taken { ticket, entry } = schedule.take_any(50).unwrap();
    assert_eq!((&*entry.open, entry.attempts), (&[0][..], 1));
    schedule.finish(ticket, 50);
    schedule.finish(ticket, 50);
    assert_eq!(schedule.totals(), Totals::default());
    assert_eq!(
        (schedule.oldest_arrival_ms(), schedule.next_due_ms()),
        (None, None)
    );
    assert_eq!(schedule.shared_bytes(), empty);
}

#[test]
fn nothing_is_sent_before_its_time_not_even_when_all_is_woken() {
    let (mail, mut schedule) = (Mail::new(), Schedule::default());
    let later = Queued {
        not_before_ms: 900,
        next_attempt_ms: 900,
        ..mail.to(&[("a.example", 1)], 1)
    };
    let failed = Queued {
        next_attempt_ms: 800,
        attempts: 1,
        ..mail.to(&[("a.example", 1)], 1)
    };
    schedule.insert(&later, 1);
    schedule.insert(&failed, 1);
    let table = Arc::clone(schedule.table());
    assert_eq!(schedule.review(0, &table, Wake::Flushed, 100), None);
    assert_eq!(
        schedule.next_due_ms(),
        Some(768),
        "the begin of the slot that holds it"
    );
    assert_eq!(schedule.review(0, &table, Wake::All, 100), None);
    assert_eq!(
        schedule.take_any(100).map(|taken| taken.ticket.id),
        Some(failed.id)
    );
    assert_eq!(schedule.take_any(899), None);
    assert_eq!(
        schedule.take_any(900).map(|taken| taken.ticket.id),
        Some(later.id)
    );
}

#[test]
fn a_time_to_deliver_by_makes_a_message_due() {
    let (mail, mut schedule) = (Mail::new(), Schedule::default());
    let urgent = Queued {
        deliver_by_ms: Some(400),
        next_attempt_ms: 900,
        ..mail.to(&[("a.example", 1)], 1)
    };
    schedule.insert(&urgent, 1);
    assert_eq!(schedule.take_any(399), None);
    let taken = schedule.take_any(400).unwrap();
    schedule.release(taken.ticket, 900, Reading::Fine, 400);
    assert_eq!(schedule.take_any(899), None, "once");
}

#[test]
fn what_must_not_be_sent_yet_is_not_whoever_gives_it_back_and_however_soon() {
    let (mail, mut schedule) = (Mail::new(), Schedule::default());
    let held = Queued {
        not_before_ms: 900,
        next_attempt_ms: 900,
        deliver_by_ms: Some(400),
        ..mail.to(&[("a.example", 1)], 1)
    };
    schedule.insert(&held, 1);
    assert_eq!(schedule.take_any(899), None, "nor for its deadline");
    let taken = schedule.take_any(900).unwrap();
    // The clock has stepped back meanwhile.
    schedule.release(taken.ticket, 500, Reading::Fine, 500);
    assert_eq!(schedule.take_any(899), None);
    assert!(schedule.take_any(900).is_some());
}

#[test]
fn what_cannot_be_read_is_counted_until_it_has_been() {
    let (mail, mut schedule) = (Mail::new(), Schedule::default());
    schedule.insert(&mail.to(&[("a.example", 1)], 1), 1);
    for (reading, count) in [
        (Reading::Failed, 1),
        (Reading::Failed, 1),
        (Reading::Fine, 0),
    ] {
        let ticket = schedule.take_any(5).unwrap().ticket;
        schedule.release(ticket, 5, reading, 5);
        assert_eq!(schedule.totals().unreadable, count);
    }
    let ticket = schedule.take_any(5).unwrap().ticket;
    schedule.release(ticket, 5, Reading::Failed, 5);
    let ticket = schedule.take_any(5).unwrap().ticket;
    schedule.finish(ticket, 5);
    assert_eq!(schedule.totals(), Totals::default());
}

#[test]
fn what_a_start_finds_settled_is_not_filed() {
    let (mail, mut schedule) = (Mail::new(), Schedule::default());
    let settled = Queued {
        settled: Cow::Owned(vec![0, 1]),
        ..mail.to(&[("a.example", 1), ("b.example", 1)], 1)
    };
    let empty = schedule.shared_bytes();
    assert_eq!(schedule.insert(&settled, 1), Filed::Settled);
    assert_eq!(
        (schedule.totals(), schedule.shared_bytes()),
        (Totals::default(), empty)
    );
}
