//! Routes, overrides and rates of upstreams.

use postroad_config::status::RateOf;
use postroad_config::{Action, Match, Override, Rate, Route, Target};
use postroad_spool::{ByMode, DeliverBy};

use super::*;
use crate::rig::LIFETIME_SECONDS;

fn yes(_: &str, _: usize) -> Answer {
    Answer::Yes
}

fn to(recipient: &str) -> Match {
    Match {
        recipients: vec![recipient.parse().unwrap()],
        ..Match::default()
    }
}

pub(super) fn overriding(recipient: &str, action: Action) -> Vec<Override> {
    vec![Override {
        name: "one".into(),
        matches: to(recipient),
        arrived_before: None,
        action,
    }]
}

/// Runs a manager until the condition holds, or says what it waits for.
async fn run_until(delivery: Delivery, condition: impl FnMut() -> bool) {
    tokio::select! {
        () = delivery.run() => panic!("nothing stops it"),
        () = until(condition) => {}
    }
}

#[tokio::test]
async fn mail_goes_over_the_upstreams_of_its_route_one_copy_each() {
    let (first, second) = (Sink::start(yes).await, Sink::start(yes).await);
    let rig = Rig::new(MEMORY);
    let delivery = manager(&rig, &first).await;
    rig.change_delivery(|delivery| {
        delivery.upstreams[0].limits.recipients_per_message = 10;
        let mut other = delivery.upstreams[0].clone();
        (other.name, other.port) = ("other".into(), second.port);
        delivery.upstreams.push(other);
        delivery.default_route = Target::Upstreams(vec!["provider".into()]);
        delivery.routes = vec![Route {
            name: "apart".into(),
            matches: to("*.example.org"),
            to: Target::Upstreams(vec!["other".into()]),
        }];
    });
    let mut message = rig.message(4, 0);
    for index in [1, 3] {
        message.envelope.recipients[index].address = "r@in.example.org".into();
    }
    rig.accept(&message).await.unwrap();
    let metrics = Arc::clone(&rig.context.metrics);
    run_until(delivery, || metrics.delivered.get() == 4).await;
    assert_eq!((first.mails(), second.mails()), (1, 1));
}

#[tokio::test]
async fn what_is_held_waits_until_the_override_is_gone() {
    let sink = Sink::start(yes).await;
    let rig = Rig::new(MEMORY);
    let delivery = manager(&rig, &sink).await;
    rig.change_delivery(|delivery| delivery.overrides = overriding("example.org", Action::Hold));
    rig.accept(&rig.message(1, 0)).await.unwrap();
    let mut free = rig.message(1, 0);
    free.envelope.recipients[0].address = "r@example.net".into();
    rig.accept(&free).await.unwrap();
    let queue = rig.context.queue.clone();
    let (mut released, context) = (false, &rig);
    run_until(delivery, || {
        let totals = queue.totals().0;
        if !released && (totals.held, totals.messages, sink.mails()) == (1, 1, 1) {
            released = true;
            context.change_delivery(|delivery| delivery.overrides.clear());
        }
        released && totals.messages == 0
    })
    .await;
    assert_eq!(sink.mails(), 2);
}

#[tokio::test]
async fn what_an_override_returns_is_reported_to_its_sender() {
    let sink = Sink::start(yes).await;
    let rig = Rig::new(MEMORY);
    let delivery = manager(&rig, &sink).await;
    for _ in 0..3 {
        rig.accept(&rig.message(1, 0)).await.unwrap();
    }
    let reason = "sent by mistake".to_owned();
    let action = Action::Bounce { reason };
    rig.change_delivery(|delivery| {
        delivery.overrides = overriding("example.org", action);
    });
    let (queue, metrics) = (rig.context.queue.clone(), Arc::clone(&rig.context.metrics));
    run_until(delivery, || queue.totals().0.messages == 0).await;
    assert_eq!((metrics.bounced.get(), metrics.failed.get()), (3, 3));
    assert_eq!(sink.mails(), 3, "the reports");
}

#[tokio::test]
async fn the_rate_of_an_upstream_holds_whatever_waits() {
    let sink = Sink::start(yes).await;
    let rig = Rig::new(MEMORY);
    let delivery = manager(&rig, &sink).await;
    rig.change_upstream(|upstream| {
        upstream.limits.rate = Some(Rate {
            messages: 1,
            per_seconds: 3600,
        });
    });
    // One transaction for each recipient: the second has to wait too.
    rig.accept(&rig.message(2, 0)).await.unwrap();
    rig.accept(&rig.message(1, 0)).await.unwrap();
    let queue = rig.context.queue.clone();
    let upstreams = delivery.upstreams.clone();
    run_until(delivery, || {
        sink.mails() == 1
            && queue.connections() == 0
            && queue.totals().0.weight == Weight::of(2, 1) + Weight::of(1, 1)
    })
    .await;
    let chosen = upstreams
        .lock()
        .choose(&Target::default(), clock::now_ms())
        .map(str::to_owned);
    assert_eq!(chosen, None);
    let status = upstreams.destinations(&queue);
    assert_eq!(
        (status[0].destination.as_str(), status[0].messages),
        ("default", 2)
    );
    let rate = Some(RateOf::Upstream("provider".into()));
    assert_eq!((&status[0].rate, &status[0].answer), (&rate, &None));
}

#[tokio::test]
async fn what_waits_behind_a_rate_is_told_of_and_returned_at_its_time() {
    let sink = Sink::start(yes).await;
    let rig = Rig::new(MEMORY);
    let delivery = manager(&rig, &sink).await;
    rig.change_delivery(|delivery| {
        delivery.retry.delay_warning_seconds = Some(300);
        delivery.upstreams[0].limits.rate = Some(Rate {
            messages: 1,
            per_seconds: 3600,
        });
    });
    rig.accept(&rig.message(1, 0)).await.unwrap();
    let (queue, upstreams) = (rig.context.queue.clone(), delivery.upstreams.clone());
    run_until(delivery, || {
        queue.totals().0.messages == 0 && queue.connections() == 0
    })
    .await;
    let accept = async |age_seconds: u64, mode: Option<ByMode>| {
        let mut message = rig.message(1, age_seconds);
        message.envelope.deliver_by = mode.map(|on_expiry| DeliverBy {
            deadline_ms: message.arrival_ms,
            on_expiry,
            trace: false,
        });
        rig.accept(&message).await.unwrap();
        message.id
    };
    // It is tried once more: it may have been held until now.
    let expired = accept(LIFETIME_SECONDS + 60, None).await;
    let returned = accept(60, Some(ByMode::Return)).await;
    for (age_seconds, mode) in [(400, None), (60, Some(ByMode::Notify)), (60, None)] {
        accept(age_seconds, mode).await;
    }
    for _ in 0..2 {
        expiry::expire(rig.context.clone(), upstreams.clone()).await;
        assert_eq!(queue.totals().0.messages, 7, "four, and three reports");
    }
    let metrics = &rig.context.metrics;
    assert_eq!(
        (metrics.bounced.get(), metrics.failed.get(), sink.mails()),
        (3, 1, 1)
    );
    assert!(queue.spool().read(returned).is_err() && queue.spool().read(expired).is_ok());
    while let Some(taken) = queue.take() {
        let (message, _room) = queue.load(&taken).await.unwrap();
        let text = String::from_utf8_lossy(&message.body);
        let is_report = message.envelope.sender.is_empty();
        assert_eq!(
            text.contains("its turn has not come yet"),
            is_report,
            "{text}"
        );
    }
}
