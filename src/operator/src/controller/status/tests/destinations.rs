//! What is said of where mail waits, and of what a 250 promises.

use postroad_api::StorageMode;
use postroad_config::status::{DESTINATIONS_MAX, DestinationStatus};

use super::*;
use crate::controller::status::destinations::top;

fn waiting(destination: &str, messages: u64, deferred: u64) -> DestinationStatus {
    DestinationStatus {
        destination: destination.into(),
        messages,
        deferred,
        oldest_arrival: Some(NOW - 7),
        failing: None,
    }
}

fn holding(destinations: &[DestinationStatus]) -> RelayStatus {
    let mut status = says("+");
    status.queue.destinations = destinations.to_vec();
    status
}

#[test]
fn where_mail_had_to_wait_shows_for_all_replicas_together() {
    let failing = DestinationStatus {
        failing: Some(UpstreamFailure {
            reason: FailureReason::ConnectionTimedOut,
            message: "mx.b.example:25 does not answer".into(),
        }),
        ..waiting("b.example", 1, 0)
    };
    let first = holding(&[waiting("a.example", 15, 15), waiting("new.example", 900, 0)]);
    let second = holding(&[waiting("a.example", 17, 1), failing]);
    let found = found(vec![pod(0, Some(first)), pod(1, Some(second))]);
    let top = top(&Voices::of(&found));
    let shown: Vec<_> = top
        .iter()
        .map(|one| {
            (
                one.destination.as_str(),
                one.messages,
                one.reason.as_deref(),
            )
        })
        .collect();
    let expected = [
        ("a.example", 30, None),
        ("b.example", 1, Some("ConnectionTimedOut")),
    ];
    assert_eq!(shown, expected);
    assert_eq!(top[0].oldest.as_deref(), Some("2027-01-15T07:59:50Z"));
}

#[test]
fn few_destinations_show_those_with_the_most_mail() {
    let many: Vec<_> = (1..=30)
        .map(|number| waiting(&format!("{number:02}.example"), number, 1))
        .collect();
    let found = found(vec![pod(0, Some(holding(&many)))]);
    let top = top(&Voices::of(&found));
    assert_eq!(top.len(), DESTINATIONS_MAX);
    assert_eq!(top[0].destination, "30.example");
    // One digit; equal ones in the order of their names.
    assert_eq!(
        (top[1].destination.as_str(), top[1].messages),
        ("20.example", 20)
    );
}

#[test]
fn mail_that_flows_wakes_nobody() {
    let status = |destinations: &[DestinationStatus], held| {
        let mut status = holding(destinations);
        status.queue.held = held;
        shown(&status)
    };
    let rest = status(&[], 0);
    assert_eq!(status(&[waiting("a.example", 3, 0)], 0), rest);
    assert_ne!(status(&[waiting("a.example", 3, 1)], 0), rest);
    assert_ne!(status(&[], 1), rest);
    let some = status(&[waiting("a.example", 110, 110)], 0);
    assert_eq!(status(&[waiting("a.example", 190, 190)], 0), some);
}

#[test]
fn durable_says_what_a_250_promises_in_every_replica() {
    let relaxed = SpoolMode::Relaxed { sync_ms: 250 };
    for (wanted, running, sample_name, expected) in [
        (None, SpoolMode::Durable, "minimal", "True Persistent"),
        (None, SpoolMode::Durable, "ephemeral", "False Ephemeral"),
        // It has not taken up yet what is wanted.
        (None, relaxed, "minimal", "False Relaxed"),
        (
            Some(StorageMode::Relaxed),
            SpoolMode::Durable,
            "minimal",
            "False Relaxed",
        ),
        (
            Some(StorageMode::Passthrough),
            SpoolMode::Passthrough,
            "minimal",
            "True PassedThrough",
        ),
        // One replica has not taken up yet what is wanted.
        (
            Some(StorageMode::Passthrough),
            SpoolMode::Durable,
            "minimal",
            "True PassedThrough",
        ),
        (
            Some(StorageMode::Passthrough),
            relaxed,
            "minimal",
            "False Relaxed",
        ),
        (
            Some(StorageMode::Passthrough),
            SpoolMode::Passthrough,
            "ephemeral",
            "False Ephemeral",
        ),
        (
            Some(StorageMode::Relaxed),
            relaxed,
            "ephemeral",
            "False Ephemeral",
        ),
    ] {
        let mut relay = sample(sample_name);
        relay.spec.storage.mode = wanted;
        let (mut applied, mut pods) = settled();
        applied.validated = prepare(&relay, &nothing()).validated;
        pods[1].status.as_mut().unwrap().spool.mode = running;
        let status = summarize(&applied, &found(pods), None, now()).status;
        let durable = find(&status.conditions, "Durable").unwrap();
        assert_eq!(format!("{} {}", durable.status, durable.reason), expected);
    }
}

#[test]
fn the_status_names_what_is_held_and_where_mail_waits() {
    let (applied, mut pods) = settled();
    let status = pods[0].status.as_mut().unwrap();
    status.queue.held = 3;
    status.queue.destinations = vec![waiting("a.example", 3, 3)];
    let queue = summarize(&applied, &found(pods), None, now()).status.queue;
    let queue = queue.unwrap();
    assert_eq!((queue.held, queue.destinations.len()), (3, 1));
}
