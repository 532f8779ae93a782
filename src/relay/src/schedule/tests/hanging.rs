//! Ten thousand destinations, most of which hang.

use std::collections::BTreeMap;

use postroad_config::status::{FailureReason, UpstreamFailure};

use super::*;
use crate::clock::Moment;

/// How long an attempt lasts at what hangs, in milliseconds.
const HANG_MS: u64 = 60_000;

/// How long a delivery lasts at what works.
const WORK_MS: u64 = 200;

pub(super) fn failure() -> UpstreamFailure {
    UpstreamFailure {
        reason: FailureReason::ConnectionTimedOut,
        message: "no answer".into(),
    }
}

/// Connections by the time at which they end.
struct World {
    schedule: Schedule,
    ends: BTreeMap<(u64, u64), (Place, bool)>,
    serial: u64,
    now_ms: u64,
    delivered: usize,
    most_unproven: u32,
}

impl World {
    /// Opens what may be opened.
    fn open(&mut self) {
        while let Some((place, key)) = self.schedule.open_domain(self.now_ms) {
            let works = key.label().starts_with("good");
            let lasts_ms = if works { WORK_MS } else { HANG_MS };
            self.serial += 1;
            self.ends
                .insert((self.now_ms + lasts_ms, self.serial), (place, works));
            let connections = self.schedule.connections();
            assert!(connections.total() <= CONNECTIONS_MAX);
            self.most_unproven = self.most_unproven.max(connections.unproven());
        }
    }

    /// Lets the next connection end.
    fn step(&mut self) {
        let ((end_ms, _), (place, works)) = self.ends.pop_first().unwrap();
        self.now_ms = end_ms;
        if works {
            self.schedule.connected(place, end_ms);
            while let Some(taken) = self.schedule.take(place, end_ms) {
                self.schedule.answered(place, Answer::Final, end_ms);
                self.schedule.finish(taken.ticket, end_ms);
                self.delivered += 1;
            }
            self.schedule.closed(place, Opening::Done, end_ms);
        } else {
            let at = Moment {
                now_ms: end_ms,
                random: 0.5,
            };
            self.schedule.failed(place, failure(), at);
            self.schedule.closed(place, Opening::GaveUp, end_ms);
        }
    }
}

fn world() -> World {
    let (mail, mut schedule) = (Mail::new(), Schedule::new(direct()));
    for number in 0..10_000 {
        // One in ten works.
        let kind = if number % 10 == 9 { "good" } else { "hangs" };
        let domain = format!("{kind}{number}.example");
        for _ in 0..3 {
            schedule.insert(&mail.to(&[(&domain, 1)], 1), 1);
        }
    }
    World {
        schedule,
        ends: BTreeMap::new(),
        serial: 0,
        now_ms: 1,
        delivered: 0,
        most_unproven: 0,
    }
}

#[test]
fn nine_thousand_destinations_that_hang_do_not_starve_a_thousand_that_work() {
    let mut world = world();
    while world.delivered < 3_000 {
        world.open();
        world.step();
    }
    let connections = world.schedule.connections();
    assert!(world.most_unproven <= connections.unproven_max());
    // Each is tried once, as many at a time as one tenant may have beside those that are tried again.
    let tried_first = u64::from(connections.unproven_max() - connections.failing_max()) / 4 * 3 - 1;
    let bound_ms = 9_000 / tried_first * HANG_MS + 2 * HANG_MS;
    assert!(world.now_ms <= bound_ms, "{} ms", world.now_ms);
    let status = world.schedule.direct_status();
    assert_eq!((status.working, status.failure), (1_000, Some(failure())));
}

#[test]
fn what_has_worked_does_not_wait_for_what_hangs() {
    let mut world = world();
    while world.delivered < 3_000 {
        world.open();
        world.step();
    }
    world.open();
    let mail = Mail::new();
    let begun_ms = world.now_ms;
    for number in 0..1_000 {
        let domain = format!("good{}.example", number * 10 + 9);
        world
            .schedule
            .insert(&mail.to(&[(&domain, 1)], begun_ms), begun_ms);
    }
    while world.delivered < 4_000 {
        world.open();
        world.step();
    }
    let took_ms = world.now_ms - begun_ms;
    assert!(took_ms <= 2 * WORK_MS, "{took_ms} ms");
}

#[test]
fn what_is_new_does_not_wait_for_what_has_failed() {
    let mut world = world();
    // An hour of failures.
    while world.now_ms < 3_600_000 {
        world.open();
        match world.ends.is_empty() {
            false => world.step(),
            true => world.now_ms = world.schedule.next_due_ms().unwrap().max(world.now_ms),
        }
    }
    world.open();
    let (mail, begun_ms) = (Mail::new(), world.now_ms);
    for number in 0..100 {
        let domain = format!("good-new{number}.example");
        world
            .schedule
            .insert(&mail.to(&[(&domain, 1)], begun_ms), begun_ms);
    }
    while world.delivered < 3_100 {
        world.open();
        world.step();
    }
    let took_ms = world.now_ms - begun_ms;
    assert!(took_ms <= 2 * WORK_MS, "{took_ms} ms");
}

#[test]
fn what_fails_is_tried_over_one_connection_with_growing_pauses() {
    let (mail, mut schedule) = (Mail::new(), Schedule::new(direct()));
    for _ in 0..100 {
        schedule.insert(&mail.to(&[("a.example", 1)], 1), 1);
    }
    let (mut now_ms, mut tries) = (1, Vec::new());
    while tries.len() < 5 {
        match schedule.open_domain(now_ms) {
            Some((place, _)) => {
                tries.push(now_ms / 1000);
                assert_eq!(schedule.open_domain(now_ms), None);
                let random = 0.5;
                schedule.failed(place, failure(), Moment { now_ms, random });
                schedule.closed(place, Opening::GaveUp, now_ms);
            }
            None => now_ms = schedule.next_due_ms().unwrap().max(now_ms + 1),
        }
    }
    assert_eq!(tries, [0, 60, 180, 420, 900]);
    assert_eq!(schedule.totals().deferred, 0, "no message is charged");
    // A change of the configuration is worth a try at once.
    assert_eq!(schedule.expect_anew(0, now_ms), None);
    assert!(schedule.open_domain(now_ms).is_some());
}

/// What hangs for tenant `greedy`: so many domains, each with mail of its own.
fn greedy(mail: &Mail, domains: usize) -> Schedule {
    let mut schedule = Schedule::new(direct());
    for number in 0..domains {
        let queued = mail.from("greedy", &format!("hangs{number}.example"));
        schedule.insert(&queued, 1);
    }
    schedule
}

/// Opens all that may be opened.
fn open_all(schedule: &mut Schedule, now_ms: u64) -> Vec<(Place, Key)> {
    std::iter::from_fn(|| schedule.open_domain(now_ms)).collect()
}

#[test]
fn domains_of_one_tenant_that_hang_leave_connections_for_another_tenant() {
    let mail = Mail::new();
    let mut schedule = greedy(&mail, 10_000);
    let hanging = open_all(&mut schedule, 1);
    assert_eq!(hanging.len(), 750);
    assert!(!schedule.wants_connection(), "it has its share");
    for number in 0..100 {
        schedule.insert(&mail.from("modest", &format!("d{number}.example")), 1);
    }
    assert!(schedule.wants_connection());
    let opened = open_all(&mut schedule, 1);
    assert_eq!(opened.len(), 100);
    let keys = opened.iter().map(|(_, key)| key.label());
    assert!(keys.into_iter().all(|label| label.starts_with('d')));
    // What others have is not free either: the greedy one has more than its share now, until it has given back a fourth of theirs thrice.
    for (number, (place, _)) in hanging.into_iter().enumerate().take(80) {
        schedule.closed(place, Opening::GaveUp, 2);
        let again = usize::from(number >= 75);
        assert_eq!(open_all(&mut schedule, 2).len(), again, "{number}");
    }
}

#[test]
fn the_same_for_what_was_found_at_a_start_and_for_a_domain_to_which_both_send() {
    let mail = Mail::new();
    let mut schedule = greedy(&mail, 10_000);
    for domain in ["hangs9000.example", "hangs5000.example", "d.example"] {
        schedule.insert(&mail.from("modest", domain), 1);
    }
    let opened = open_all(&mut schedule, 1);
    for domain in ["hangs9000.example", "hangs5000.example", "d.example"] {
        let place = opened.iter().position(|(_, key)| key.label() == domain);
        assert!(place.is_some_and(|place| place < 10), "{domain} {place:?}");
    }
}

#[test]
fn a_domain_does_not_stand_in_the_line_of_who_may_have_no_connection_to_it() {
    let mail = Mail::new();
    let mut schedule = greedy(&mail, 750);
    assert_eq!(open_all(&mut schedule, 1).len(), 750);
    // The other one has more connections, to domains that work.
    for number in 0..800 {
        let domain = format!("works{number}.example");
        schedule.insert(&mail.from("modest", &domain), 1);
        let (place, _) = schedule.open_domain(1).unwrap();
        schedule.answered(place, Answer::Final, 1);
    }
    for login in ["greedy", "modest"] {
        schedule.insert(&mail.from(login, "both.example"), 1);
    }
    assert_eq!(open_all(&mut schedule, 1).len(), 1);
}

#[test]
fn a_tenant_may_have_no_more_of_what_works_either() {
    let mail = Mail::new();
    let mut schedule = greedy(&mail, 3_000);
    let mut opened = Vec::new();
    // Each answers once, and hangs.
    loop {
        let some = open_all(&mut schedule, 1);
        if some.is_empty() {
            break;
        }
        for (place, _) in &some {
            schedule.answered(*place, Answer::Final, 1);
        }
        opened.extend(some);
    }
    assert_eq!(opened.len(), 1_500);
    schedule.insert(&mail.from("modest", "d.example"), 1);
    assert_eq!(open_all(&mut schedule, 1).len(), 1);
}

#[test]
fn whose_connections_there_are_is_forgotten_with_them() {
    let mail = Mail::new();
    let mut schedule = greedy(&mail, 10);
    schedule.insert(&mail.from("modest", "hangs1.example"), 1);
    let opened = open_all(&mut schedule, 1);
    for (number, (place, _)) in opened.into_iter().enumerate() {
        match number % 3 {
            0 => assert_eq!(schedule.answered(place, Answer::Final, 1), Standing::Fresh),
            1 => {
                let at = Moment {
                    now_ms: 1,
                    random: 0.5,
                };
                schedule.failed(place, failure(), at);
            }
            _ => {}
        }
        // The mail goes before the connection does.
        while let Some(taken) = schedule.take(place, 1) {
            schedule.finish(taken.ticket, 1);
        }
        assert!(schedule.names.find("greedy").is_some());
        schedule.closed(place, Opening::GaveUp, 1);
    }
    assert!(!schedule.places.ledger.has_owners());
    assert_eq!(schedule.names.find("greedy"), None);
    assert_eq!(schedule.connections().total(), 0);
}
