//! Upstreams are checked without mail, and what that says.

use super::*;

#[test]
fn every_new_or_changed_upstream_is_due_for_one_check_at_once() {
    let mut upstreams = two();
    assert_eq!(upstreams.choose_check(0), Some("a"));
    upstreams.opened("a");
    assert_eq!(
        upstreams.choose_check(0),
        Some("b"),
        "one connection each, and a fallback is worth knowing"
    );
    upstreams.opened("b");
    assert_eq!(upstreams.choose_check(0), None);
    for name in ["a", "b"] {
        upstreams.connects(name, 0);
        upstreams.closed(name);
    }
    assert_eq!(upstreams.choose_check(1), None);
    let (a, b) = (upstream("a"), upstream("b"));
    upstreams.configure(
        [(&a, "1"), (&b, "2")].into_iter(),
        &[&Target::default()],
        9000,
    );
    assert_eq!(upstreams.choose_check(9000), Some("b"));
    assert_eq!(upstreams.state(1), UpstreamState::Unknown);
    assert_eq!(upstreams.status()[1].since, 9);
}

#[test]
fn a_check_is_due_when_nothing_was_tried_for_five_minutes() {
    let mut upstreams = configured(&["a"]);
    upstreams.visit("a", |all| all.connects("a", 0));
    assert_eq!(upstreams.next_ms(0), Some(5 * MINUTE_MS));
    upstreams.visit("a", |all| {
        all.answered("a", "1", Answer::Final, at(MINUTE_MS))
    });
    assert_eq!(upstreams.choose_check(6 * MINUTE_MS - 1), None);
    assert_eq!(upstreams.choose_check(6 * MINUTE_MS), Some("a"));
    upstreams.opened("a");
    assert_eq!(
        upstreams.choose_check(6 * MINUTE_MS),
        None,
        "a connection for mail makes it unnecessary"
    );
}

#[test]
fn a_failing_first_choice_is_checked_with_the_backoff_and_a_fallback_slowly() {
    let mut upstreams = two();
    for name in ["a", "b"] {
        upstreams.visit(name, |all| all.cannot_connect(name, 0));
    }
    assert_eq!(upstreams.choose_check(999), None);
    assert_eq!(upstreams.choose_check(1000), Some("a"));
    upstreams.visit("a", |all| all.connects("a", 1000));
    assert_eq!(upstreams.state(0), UpstreamState::Ready);
    assert_eq!(upstreams.choose_check(5 * MINUTE_MS - 1), None);
    assert_eq!(upstreams.choose_check(5 * MINUTE_MS), Some("b"));
}

#[test]
fn a_failure_while_sending_is_not_mended_by_connecting_while_mail_waits() {
    let mut upstreams = configured(&["a"]);
    upstreams.visit("a", |all| all.connects("a", 0));
    let (mut now_ms, mut pauses) = (0, Vec::new());
    for _ in 0..8 {
        upstreams.visit("a", |all| {
            all.connects("a", now_ms);
            all.says_goodbye("a", now_ms)
        });
        assert_eq!(upstreams.pick(now_ms), None);
        assert_eq!(upstreams.choose_check(now_ms + MINUTE_MS), None);
        let next_ms = upstreams.next_ms(now_ms).unwrap();
        assert_eq!(upstreams.pick(next_ms), Some("a"));
        assert_eq!(upstreams.connects("a", next_ms), Change::None);
        assert_eq!(upstreams.state(0), UpstreamState::Failing);
        pauses.push((next_ms - now_ms) / 1000);
        now_ms = next_ms;
    }
    assert_eq!(pauses, [1, 2, 4, 8, 16, 32, 60, 60]);
    assert_eq!(
        upstreams.answered("a", "1", Answer::Final, at(now_ms)),
        Change::Recovered
    );
    upstreams.says_goodbye("a", now_ms);
    assert_eq!(upstreams.next_ms(now_ms), Some(now_ms + 1000));
}

#[test]
fn a_failure_while_sending_stays_when_it_cannot_even_be_connected_to() {
    let mut upstreams = configured(&["a"]);
    upstreams.says_goodbye("a", 0);
    assert_eq!(upstreams.cannot_connect("a", 1000), Change::Failed);
    assert_eq!(upstreams.connects("a", 3000), Change::None);
    assert_eq!(upstreams.state(0), UpstreamState::Failing);
}

#[test]
fn a_failure_while_sending_is_mended_by_a_check_when_nothing_waits() {
    let mut upstreams = configured(&["a"]);
    upstreams.says_goodbye("a", 0);
    upstreams.says_goodbye("a", 1000);
    let idle_ms = 1000 + 5 * MINUTE_MS;
    assert_eq!(upstreams.choose_check(idle_ms - 1), None);
    assert_eq!(upstreams.choose_check(idle_ms), Some("a"));
    let change = upstreams.connected("a", "1", Backlog::Empty, at(idle_ms));
    assert_eq!(change, Change::Recovered);
    upstreams.says_goodbye("a", idle_ms);
    assert_eq!(
        upstreams.next_ms(idle_ms),
        Some(idle_ms + 1000),
        "the backoff begins anew"
    );
}

#[test]
fn a_failure_while_sending_is_mended_by_a_check_of_the_changed_upstream() {
    let mut upstreams = configured(&["a"]);
    upstreams.says_goodbye("a", 0);
    upstreams.configure(
        [(&upstream("a"), "2")].into_iter(),
        &[&Target::default()],
        1,
    );
    assert_eq!(upstreams.choose_check(1), Some("a"));
    let change = upstreams.connected("a", "2", Backlog::Waiting, at(1));
    assert_eq!(change, Change::Recovered);
}
