//! A rejected sender's mail that has no room in memory.

use super::super::tenants::{hoard, hoard_by, message};
use super::*;
use crate::room::Sharing;

#[tokio::test]
async fn a_report_on_held_mail_that_has_no_room_does_not_keep_others_from_the_only_connection() {
    let provider = Provider::new(|retry| retry.delay_warning_seconds = Some(300)).await;
    provider.hold(1).await;
    let mut late = message(&provider.rig, "a", "a.example", 150 << 10);
    late.arrival_ms -= 400_000;
    let mut other = message(&provider.rig, "d", "a.example", 1 << 10);
    other.envelope.sender = "other@example.com".into();
    for message in [late, other] {
        provider.send(&message).await;
    }
    provider.rig.context.queue.share(Sharing::Many);
    let _rooms = (
        hoard_by(&provider.rig, "b", 20 << 10),
        hoard(&provider.rig, "c"),
    );
    tokio::select! {
        () = provider.visit() => {}
        () = until(|| provider.sink.mails() == 2) => {}
    }
    assert_eq!((provider.heard(), provider.counts().2), ((2, 2), 0));
}

#[tokio::test]
async fn a_trial_does_not_begin_before_there_is_room() {
    let provider = Provider::new(|_| {}).await;
    let greedy = message(&provider.rig, "greedy", "a.example", 1 << 10);
    provider.send(&greedy).await;
    provider.visit().await;
    let queue = &provider.rig.context.queue;
    queue.share(Sharing::Many);
    let _rooms = hoard(&provider.rig, "greedy");
    provider.says(Answer::Yes);
    provider.flush().await;
    let mut waiting = Box::pin(provider.visit());
    tokio::select! {
        () = &mut waiting => panic!("it waits for room"),
        () = until(|| queue.memory().has_waiting()) => {}
    }
    let modest = message(&provider.rig, "modest", "a.example", 1 << 10);
    provider.send(&modest).await;
    tokio::select! {
        () = waiting => {}
        () = provider.visit() => {}
        () = until(|| provider.rejected().is_none()) => {}
    }
    assert_eq!((provider.sink.mails(), provider.rejected()), (2, None));
}

#[tokio::test]
async fn what_was_to_be_returned_is_tried_if_the_upstream_is_asked_anew_before_there_is_room() {
    let provider = Provider::new(|retry| retry.sender_hold_seconds = Some(600)).await;
    provider.hold(1).await;
    let mut old = message(&provider.rig, "greedy", "a.example", 1 << 10);
    old.arrival_ms -= 600_000;
    provider.send(&old).await;
    let queue = &provider.rig.context.queue;
    queue.share(Sharing::Many);
    let rooms = hoard(&provider.rig, "greedy");
    let mut waiting = Box::pin(provider.visit());
    tokio::select! {
        () = &mut waiting => panic!("it waits for room"),
        () = until(|| queue.memory().has_waiting()) => {}
    }
    provider.says(Answer::Yes);
    provider.flush().await;
    drop(rooms);
    waiting.await;
    let metrics = &provider.rig.context.metrics;
    assert_eq!((metrics.failed.get(), metrics.bounced.get()), (0, 0));
    assert_eq!(provider.rejected(), None);
}
