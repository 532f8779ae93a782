//! A clock that steps back.

use postroad_config::Rate;

use super::hanging::failure;
use super::*;
use crate::clock::Moment;

const START_MS: u64 = 1_763_000_000_123;

/// Far enough for every pause to end before the time from which it stepped.
const BACK_MS: u64 = START_MS - 3_600_000;

#[test]
fn what_is_put_off_after_the_clock_stepped_back_has_its_pause() {
    for step_ms in [1, 71, 5_000, 59_999, 3_600_000] {
        let (mail, mut schedule) = (Mail::new(), Schedule::default());
        let later = Queued {
            next_attempt_ms: START_MS + 10,
            ..mail.to(&[("a.example", 1)], START_MS)
        };
        schedule.insert(&mail.to(&[("a.example", 1)], START_MS), START_MS);
        schedule.insert(&later, START_MS);
        let taken = schedule.take_any(START_MS).unwrap();
        let now_ms = START_MS - step_ms;
        let due_ms = now_ms + 60_000;
        schedule.release(taken.ticket, due_ms, Reading::Fine, now_ms);
        let mut order = vec![(START_MS + 10, later.id), (due_ms, taken.ticket.id)];
        order.sort_unstable();
        for (due_ms, id) in order {
            assert_eq!(schedule.take_any(due_ms - 1), None, "{step_ms}");
            assert_eq!(schedule.take_any(due_ms).unwrap().ticket.id, id);
        }
    }
}

#[test]
fn a_rate_and_a_failure_are_kept_after_the_clock_stepped_back() {
    let (mail, mut schedule) = (Mail::new(), Schedule::new(direct()));
    schedule.set_limits(SiteLimits {
        rate: Some(Rate {
            messages: 2,
            per_seconds: 1,
        }),
        ..SiteLimits::default()
    });
    for domain in ["rated.example", "rated.example", "fails.example"] {
        schedule.insert(&mail.to(&[(domain, 1)], START_MS), START_MS);
    }
    let (rated, _) = schedule.open_domain(START_MS).unwrap();
    let (fails, _) = schedule.open_domain(START_MS).unwrap();
    schedule.connected(rated, BACK_MS);
    assert_eq!(schedule.turn(rated, BACK_MS), Ok(()));
    let taken = schedule.take(rated, BACK_MS).unwrap();
    schedule.answered(rated, Answer::Final, BACK_MS);
    schedule.finish(taken.ticket, BACK_MS);
    schedule.closed(rated, Opening::Done, BACK_MS);
    let at = Moment {
        now_ms: BACK_MS,
        random: 0.5,
    };
    schedule.failed(fails, failure(), at);
    schedule.closed(fails, Opening::GaveUp, BACK_MS);
    for (place, pause_ms) in [(rated, 500), (fails, 60_000)] {
        let due_ms = BACK_MS + pause_ms;
        assert_eq!(schedule.open_domain(due_ms - 1), None);
        let opened = schedule.open_domain(due_ms).map(|(place, _)| place);
        assert_eq!(opened, Some(place));
    }
}
