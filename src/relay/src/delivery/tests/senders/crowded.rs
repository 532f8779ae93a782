//! Rejected mail that is in the way: of a tenant that has half of its share of the queue, or at the end of its time.

use super::*;

/// So much that may not wait for a pause to end.
const CROWD: u64 = 200;

impl Provider {
    /// It has not been asked of late.
    fn asked_long_ago(&self) {
        self.delivery.upstreams.lock().try_senders();
    }
}

#[tokio::test]
async fn what_is_too_old_when_its_sender_is_first_rejected_is_no_refusal_each() {
    const CONNECTIONS: u32 = 5;
    let provider = Provider::new(|retry| retry.sender_hold_seconds = Some(600)).await;
    provider
        .rig
        .change_upstream(|upstream| upstream.limits.connections = CONNECTIONS);
    for _ in 0..CROWD {
        provider.accept(600).await;
    }
    let (queue, sink) = (provider.rig.context.queue.clone(), provider.sink);
    let metrics = Arc::clone(&provider.rig.context.metrics);
    tokio::select! {
        () = provider.delivery.run() => panic!("nothing stops it"),
        () = until(|| queue.totals().0.messages == 0) => {}
    }
    let (failed, bounced) = (metrics.failed.get(), metrics.bounced.get());
    assert_eq!((failed, bounced), (CROWD, CROWD));
    let asked = sink.mails() as u64 - bounced;
    assert!(asked <= 1 + u64::from(CONNECTIONS), "{asked}");
}

#[tokio::test]
async fn what_has_waited_for_long_enough_is_judged_by_one_verdict() {
    for (answer, reports, left) in [(Answer::Say(UNVERIFIED), CROWD, 1), (Answer::Yes, 0, 0)] {
        let provider = Provider::new(|retry| retry.sender_hold_seconds = Some(600)).await;
        provider
            .rig
            .change_upstream(|upstream| upstream.limits.messages_per_connection = 1000);
        provider.hold(1).await;
        provider.asked_long_ago();
        provider.says(answer);
        for _ in 0..CROWD {
            provider.accept(600).await;
        }
        provider.visit().await;
        provider.review().await;
        provider.visit().await;
        assert_eq!(provider.counts(), (left, reports, reports));
        let mails = match answer {
            Answer::Yes => 1 + 1 + CROWD,
            _ => 1 + 1 + reports,
        };
        assert_eq!(provider.sink.mails() as u64, mails);
    }
}

#[tokio::test]
async fn a_tenant_that_has_half_of_its_share_gets_back_what_it_sends() {
    let provider = Provider::new(|_| {}).await;
    provider.hold(50).await;
    provider.bound(80);
    for _ in 0..20 {
        provider.accept(0).await;
    }
    while provider.counts().1 < 20 {
        provider.visit().await;
    }
    assert_eq!(provider.counts(), (50, 20, 20));
    assert_eq!(provider.sink.mails(), 1 + 20, "the reports: it was asked");
    let pauses = provider.pauses_ms();
    assert!(pauses[49] < 23 * 60_000, "no longer by that: {pauses:?}");
    provider.bound(200);
    provider.accept(0).await;
    provider.visit().await;
    assert_eq!(provider.counts(), (51, 20, 20), "now it has less");
}

#[tokio::test]
async fn a_tenant_that_has_half_of_its_share_asks_with_one_message_at_a_time() {
    let provider = Provider::new(|_| {}).await;
    provider.hold(50).await;
    provider.bound(80);
    provider.asked_long_ago();
    provider.says(Answer::Hang);
    for _ in 0..20 {
        provider.accept(0).await;
    }
    let others = async {
        until(|| provider.heard() == (2, 2)).await;
        provider.visit().await;
    };
    tokio::select! {
        () = provider.visit() => panic!("the provider hangs"),
        () = others => {}
        () = until(|| provider.sink.mails() > 2) => panic!("two ask side by side"),
    }
    assert_eq!(provider.heard(), (2, 2), "no connection for who waits");
    let pauses = provider.pauses_ms();
    assert_eq!(pauses.len(), 50 + 19);
    let soon = pauses.iter().filter(|pause| **pause <= 75_000);
    assert_eq!(soon.count(), 19, "for its verdict: {pauses:?}");
}

#[tokio::test]
async fn what_has_waited_for_long_enough_is_asked_for_one_message_at_a_time() {
    let provider = Provider::new(|retry| retry.sender_hold_seconds = Some(600)).await;
    provider.hold(1).await;
    provider.asked_long_ago();
    provider.says(Answer::Hang);
    for _ in 0..20 {
        provider.accept(600).await;
    }
    let others = async {
        until(|| provider.heard() == (2, 2)).await;
        provider.visit().await;
    };
    tokio::select! {
        () = provider.visit() => panic!("the provider hangs"),
        () = others => {}
        () = until(|| provider.sink.mails() > 2) => panic!("two ask side by side"),
    }
    assert_eq!(provider.heard(), (2, 2), "no connection for who waits");
    let pauses = provider.pauses_ms();
    let soon = pauses
        .iter()
        .filter(|pause| (50_000..=75_000).contains(*pause));
    assert_eq!(
        (pauses.len(), soon.count()),
        (1 + 19, 19),
        "for its verdict: {pauses:?}"
    );
}
