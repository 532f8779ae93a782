//! What is said of where mail waits, and of what a 250 promises.

use std::collections::BTreeMap;

use postroad_api::StorageMode;
use postroad_config::status::{DESTINATIONS_MAX, DestinationStatus, RateOf};

use super::*;
use crate::controller::status::destinations::top;

fn waiting(destination: &str, messages: u64, deferred: u64) -> DestinationStatus {
    DestinationStatus {
        destination: destination.into(),
        messages,
        deferred,
        oldest_arrival: Some(NOW - 7),
        failing: None,
        rate: None,
        answer: None,
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
    let top = top(&Voices::of(&found), &BTreeMap::new());
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
        ("a.example", 30, Some("Deferred")),
        ("b.example", 1, Some("ConnectionTimedOut")),
    ];
    assert_eq!(shown, expected);
    assert_eq!(top[0].oldest.as_deref(), Some("2027-01-15T07:59:50Z"));
}

#[test]
fn a_destination_says_why_its_mail_waits() {
    let mut relay = sample("minimal");
    relay.spec.delivery = serde_json::from_value(json!({
        "upstreams": [{"name": "provider", "host": "smtp.example.com", "port": 587, "limits": {"rate": {"messages": 60, "per": "Minute"}}}],
        "direct": {"limits": {"rate": {"messages": 1, "per": "Second"}}},
    }))
    .unwrap();
    let (mut applied, _) = settled();
    applied.validated = prepare(&relay, &nothing()).validated;
    let provider = || Some(RateOf::Upstream("provider".into()));
    let gone = || Some(RateOf::Upstream("gone".into()));
    let busy = || Some("450 4.2.0 <...> Mailbox busy".to_owned());
    for (rate, answer, expected) in [
        (
            provider(),
            None,
            "RateLimited: waits for the rate of upstream provider: 60 per minute",
        ),
        (
            provider(),
            busy(),
            "RateLimited: waits for the rate of upstream provider: 60 per minute; some was put off: 450 4.2.0 <...> Mailbox busy",
        ),
        (
            Some(RateOf::Domain),
            None,
            "RateLimited: waits for the rate of each domain: 1 per second",
        ),
        (
            gone(),
            None,
            "RateLimited: waits for the rate of upstream gone",
        ),
        (None, busy(), "Deferred: 450 4.2.0 <...> Mailbox busy"),
        (None, None, "Deferred: put off by the server there"),
    ] {
        let deferred = u64::from(answer.is_some() || rate.is_none());
        // Of one replica nothing waits for the rate, or was put off.
        let first = holding(&[waiting("default", 1, 1)]);
        let second = holding(&[DestinationStatus {
            rate,
            answer,
            ..waiting("default", 2, deferred)
        }]);
        let found = found(vec![pod(0, Some(first)), pod(1, Some(second))]);
        let queue = summarize(&applied, &found, None, now()).status.queue;
        let told = &queue.unwrap().destinations[0];
        let said = [&told.reason, &told.message].map(|one| one.as_deref().unwrap());
        assert_eq!((told.messages, &*said.join(": ")), (3, expected));
    }
}

#[test]
fn few_destinations_show_those_with_the_most_mail() {
    let many: Vec<_> = (1..=30)
        .map(|number| waiting(&format!("{number:02}.example"), number, 1))
        .collect();
    let found = found(vec![pod(0, Some(holding(&many)))]);
    let top = top(&Voices::of(&found), &BTreeMap::new());
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
    let rated = DestinationStatus {
        rate: Some(RateOf::Domain),
        ..waiting("a.example", 3, 0)
    };
    assert_ne!(status(&[rated], 0), rest);
    let some = status(&[waiting("a.example", 110, 110)], 0);
    assert_eq!(status(&[waiting("a.example", 190, 190)], 0), some);
    // A server that says something else each time is no news.
    let answered = ["450 4.2.1 busy abc1", "450 4.2.1 busy abc2"].map(|answer| {
        let answer = Some(answer.to_owned());
        let waiting = waiting("a.example", 3, 3);
        status(&[DestinationStatus { answer, ..waiting }], 0)
    });
    assert_eq!(answered[0], answered[1]);
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
