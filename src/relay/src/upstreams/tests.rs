mod checks;

use postroad_config::status::UpstreamState;
use postroad_config::{Rate, UpstreamLimits, UpstreamTls};

use super::*;

const MINUTE_MS: u64 = 60_000;

fn upstream(name: &str) -> Upstream {
    Upstream {
        name: name.into(),
        host: "smtp.example.com".into(),
        port: 587,
        tls: UpstreamTls::Required,
        ca: None,
        auth: None,
        limits: UpstreamLimits {
            connections: 2,
            ..UpstreamLimits::default()
        },
    }
}

fn configured(names: &[&str]) -> Upstreams {
    let mut upstreams = Upstreams::default();
    let all: Vec<_> = names.iter().map(|name| upstream(name)).collect();
    upstreams.configure(all.iter().map(|one| (one, "1")), &[&Target::default()], 0);
    upstreams
}

fn two() -> Upstreams {
    configured(&["a", "b"])
}

/// In the middle of all jitter.
fn at(now_ms: u64) -> Moment {
    Moment {
        now_ms,
        random: 0.5,
    }
}

fn refused() -> UpstreamFailure {
    failure(FailureReason::ConnectionRefused, "connection refused")
}

fn goodbye() -> UpstreamFailure {
    failure(FailureReason::Throttled, "421 enough")
}

impl Upstreams {
    fn connects(&mut self, name: &str, now_ms: u64) -> Change {
        self.connected(name, "1", Backlog::Waiting, at(now_ms))
    }

    fn cannot_connect(&mut self, name: &str, now_ms: u64) -> Change {
        self.failed(name, "1", FailedStage::Connecting, refused(), at(now_ms))
    }

    fn says_goodbye(&mut self, name: &str, now_ms: u64) -> Change {
        self.failed(name, "1", FailedStage::Sending, goodbye(), at(now_ms))
    }

    fn pick(&self, now_ms: u64) -> Option<&str> {
        let all = Target::default();
        let found = self.choose(&all, now_ms).map(str::to_owned)?;
        let mut tracked = self.tracked.iter().map(|one| one.name.as_str());
        tracked.find(|name| *name == found)
    }

    fn may_use(&self, name: &str) -> bool {
        self.is_preferred(&Target::default(), name)
    }

    fn all_fail(&self) -> Option<UpstreamFailure> {
        self.all_failing(&Target::default()).cloned()
    }

    fn state(&self, index: usize) -> UpstreamState {
        self.status()[index].state
    }

    /// A connection that ends at once: opened, reported, closed.
    fn visit(&mut self, name: &str, report: impl FnOnce(&mut Self) -> Change) -> Change {
        self.opened(name);
        let change = report(self);
        self.closed(name);
        change
    }
}

#[test]
fn an_unknown_upstream_is_tried_with_one_connection() {
    let mut upstreams = two();
    assert_eq!(upstreams.pick(0), Some("a"));
    upstreams.opened("a");
    assert_eq!(upstreams.pick(0), None);
    assert_eq!(upstreams.connects("a", 5), Change::Recovered);
    assert_eq!(upstreams.connects("a", 6), Change::None);
    assert_eq!(upstreams.pick(0), Some("a"));
    upstreams.opened("a");
    assert_eq!(
        upstreams.pick(0),
        None,
        "never more connections than its limit"
    );
    upstreams.closed("a");
    assert_eq!(upstreams.pick(0), Some("a"));
}

#[test]
fn the_next_upstream_serves_while_the_first_fails_and_the_first_is_probed() {
    let mut upstreams = two();
    let change = upstreams.visit("a", |all| all.cannot_connect("a", 1000));
    assert_eq!(change, Change::Failed);
    assert_eq!(upstreams.pick(1000), Some("b"));
    upstreams.opened("b");
    upstreams.connects("b", 1000);
    assert_eq!(upstreams.next_ms(1000), Some(2000));
    assert_eq!(upstreams.pick(1999), Some("b"));
    assert_eq!(
        upstreams.pick(2000),
        Some("a"),
        "probe of the preferred one"
    );
    upstreams.opened("a");
    assert_eq!(upstreams.pick(2000), Some("b"), "one probe at a time");
    assert_eq!(upstreams.cannot_connect("a", 2000), Change::None);
    upstreams.closed("a");
    assert_eq!(upstreams.next_ms(2000), Some(4000), "the pause doubles");
}

#[test]
fn what_hangs_since_before_a_failure_keeps_nobody_from_trying_again() {
    let mut upstreams = two();
    upstreams.opened("a");
    upstreams.connects("a", 5);
    assert_eq!(
        upstreams.visit("a", |all| all.cannot_connect("a", 1000)),
        Change::Failed
    );
    assert_eq!(upstreams.pick(1999), Some("b"));
    assert_eq!(upstreams.pick(2000), Some("a"), "one of two hangs");
    upstreams.opened("a");
    assert_eq!(upstreams.pick(2000), Some("b"), "one probe at a time");
    upstreams.closed("a");
    assert_eq!(upstreams.pick(2000), Some("a"), "it had nothing to send");
    upstreams.opened("a");
    upstreams.cannot_connect("a", 2000);
    upstreams.closed("a");
    assert_eq!(upstreams.pick(4000), Some("a"));
    upstreams.opened("a");
    upstreams.cannot_connect("a", 4000);
    assert_eq!(upstreams.pick(MINUTE_MS), Some("b"), "both hang");
    upstreams.closed("a");
    upstreams.closed("a");
    assert_eq!(upstreams.pick(MINUTE_MS), Some("a"));
    upstreams.opened("a");
    assert_eq!(upstreams.pick(MINUTE_MS), Some("b"), "one probe at a time");
}

#[test]
fn all_failing_names_the_first_reason_and_keeps_the_time_it_began() {
    let mut upstreams = two();
    assert_eq!(upstreams.all_fail(), None);
    upstreams.cannot_connect("a", 7000);
    assert_eq!(upstreams.all_fail(), None);
    let bad = failure(FailureReason::TlsFailed, "bad");
    upstreams.failed("b", "1", FailedStage::Connecting, bad, at(8000));
    assert_eq!(upstreams.all_fail(), Some(refused()));
    upstreams.cannot_connect("a", 9000);
    assert_eq!(upstreams.status()[0].since, 7);
    assert_eq!(upstreams.status()[0].failure, Some(refused()));
}

#[test]
fn a_changed_login_is_tried_at_once_and_late_reports_of_the_old_one_do_not_count() {
    let mut upstreams = two();
    upstreams.cannot_connect("a", 1000);
    let (a, b) = (upstream("a"), upstream("b"));
    let changed = [(&a, "2"), (&b, "1")];
    assert_eq!(
        upstreams.configure(changed.into_iter(), &[&Target::default()], 1001),
        Reconfigured::Known
    );
    assert_eq!(upstreams.pick(1001), Some("a"));
    assert_eq!(upstreams.choose_check(1001), Some("a"));
    assert_eq!(upstreams.cannot_connect("a", 1002), Change::None);
    assert_eq!(upstreams.pick(1002), Some("a"));
    assert_eq!(
        upstreams.state(0),
        UpstreamState::Failing,
        "not mended until seen"
    );
    assert_eq!(
        upstreams.configure(changed.into_iter(), &[&Target::default()], 1003),
        Reconfigured::NothingKnown
    );
}

#[test]
fn only_a_known_upstream_that_changed_is_what_mail_waited_for() {
    let mut upstreams = Upstreams::default();
    let (a, b) = (upstream("a"), upstream("b"));
    let fewer = Upstream {
        limits: UpstreamLimits {
            connections: 1,
            ..a.limits
        },
        ..a.clone()
    };
    let steps = [
        (vec![(&a, "1")], Reconfigured::NothingKnown),
        (vec![(&fewer, "1")], Reconfigured::NothingKnown),
        (vec![(&a, "1"), (&b, "1")], Reconfigured::NothingKnown),
        (vec![(&a, "1"), (&b, "2")], Reconfigured::Known),
        (vec![(&a, "1")], Reconfigured::NothingKnown),
        (vec![(&b, "2")], Reconfigured::NothingKnown),
    ];
    for (number, (configured, expected)) in steps.into_iter().enumerate() {
        let reconfigured = upstreams.configure(configured.into_iter(), &[&Target::default()], 0);
        assert_eq!(reconfigured, expected, "step {number}");
    }
}

#[test]
fn a_later_upstream_is_preferred_only_while_all_before_it_fail() {
    let mut upstreams = two();
    assert!(upstreams.may_use("a"));
    assert!(!upstreams.may_use("b"));
    upstreams.cannot_connect("a", 0);
    assert!(upstreams.may_use("a") && upstreams.may_use("b"));
    upstreams.connects("a", 1000);
    assert!(!upstreams.may_use("b"), "the first is back");
}

#[test]
fn an_upstream_that_is_gone_is_forgotten() {
    let mut upstreams = two();
    upstreams.configure(
        [(&upstream("b"), "1")].into_iter(),
        &[&Target::default()],
        1,
    );
    assert_eq!(upstreams.status().len(), 1);
    assert_eq!(upstreams.connects("a", 1), Change::None);
}

#[test]
fn connecting_does_not_reset_the_backoff() {
    let mut upstreams = configured(&["a"]);
    upstreams.cannot_connect("a", 0);
    upstreams.cannot_connect("a", 1000);
    upstreams.connects("a", 3000);
    assert_eq!(upstreams.state(0), UpstreamState::Ready);
    upstreams.cannot_connect("a", 3000);
    assert_eq!(upstreams.next_ms(3000), Some(7000));
}

#[test]
fn connections_that_fail_together_are_one_failure() {
    let mut upstreams = configured(&["a"]);
    for _ in 0..20 {
        upstreams.cannot_connect("a", 0);
    }
    assert_eq!(upstreams.next_ms(0), Some(1000));
}

#[test]
fn a_connection_too_many_is_no_failure_of_the_upstream() {
    let mut upstreams = two();
    upstreams.opened("a");
    upstreams.connects("a", 0);
    upstreams.opened("a");
    assert_eq!(upstreams.says_goodbye("a", 0), Change::Crowded);
    upstreams.closed("a");
    assert_eq!(upstreams.state(0), UpstreamState::Ready);
    assert_eq!(
        upstreams.pick(999),
        None,
        "no more for now, and no fallback"
    );
    assert_eq!(upstreams.next_ms(0), Some(1000));
    assert_eq!(upstreams.pick(1000), None, "half of two is one");
    assert_eq!(
        upstreams.answered("a", "1", Answer::Final, at(1000)),
        Change::Grown
    );
    assert_eq!(upstreams.pick(1000), Some("a"));
    assert_eq!(
        upstreams.says_goodbye("a", 1000),
        Change::Failed,
        "the only connection speaks for the upstream"
    );
}

#[test]
fn a_further_connection_that_is_hung_up_on_is_one_too_many() {
    let mut upstreams = configured(&["a"]);
    let mut hangs_up = |connections, stage| {
        upstreams.answered("a", "1", Answer::Final, at(0));
        for _ in 0..connections {
            upstreams.opened("a");
        }
        let failure = failure(FailureReason::ProtocolError, "closed");
        let change = upstreams.failed("a", "1", stage, failure, at(0));
        for _ in 0..connections {
            upstreams.closed("a");
        }
        change
    };
    assert_eq!(hangs_up(2, FailedStage::Sending), Change::Crowded);
    assert_eq!(hangs_up(1, FailedStage::Sending), Change::Failed);
    assert_eq!(hangs_up(2, FailedStage::Connecting), Change::Failed);
}

#[test]
fn the_rate_that_holds_mail_up_is_that_of_the_first_upstream_that_works() {
    let rate = Some(Rate {
        messages: 1,
        per_seconds: 3600,
    });
    let (a, mut b) = (upstream("a"), upstream("b"));
    b.limits.rate = rate;
    let (mut upstreams, target) = (Upstreams::default(), Target::default());
    upstreams.configure([(&a, "1"), (&b, "1")].into_iter(), &[&target], 0);
    let now_ms = 100 * MINUTE_MS;
    upstreams.turn("b", now_ms).unwrap();
    let held_up_by = |upstreams: &Upstreams| {
        let name = upstreams.held_up_by(&target, 1, now_ms);
        name.map(str::to_owned)
    };
    upstreams.connects("a", now_ms);
    assert_eq!(held_up_by(&upstreams), None, "the first has no rate");
    upstreams.cannot_connect("a", now_ms);
    assert_eq!(held_up_by(&upstreams).as_deref(), Some("b"));
    upstreams.cannot_connect("b", now_ms);
    assert_eq!(held_up_by(&upstreams), None, "it is no rate that keeps it");
}

#[test]
fn failure_texts_are_bounded() {
    assert_eq!(
        failure(FailureReason::Refused, "x".repeat(9999))
            .message
            .len(),
        400
    );
}
