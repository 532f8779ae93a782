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
                self.schedule.answered(place, end_ms);
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
    // Each is tried once, as many at a time as may be beside those that are tried again.
    let tried_first = u64::from(connections.unproven_max() - connections.failing_max());
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
