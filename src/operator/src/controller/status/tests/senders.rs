//! What is said of senders that an upstream rejects.

use postroad_config::status::SenderRejected;

use super::*;

fn rejected(sender: &str, senders: u64) -> SenderRejected {
    SenderRejected {
        sender: sender.into(),
        reply: "554 Email address is not verified".into(),
        senders,
    }
}

#[test]
fn whose_mail_an_upstream_rejects_is_said_with_what_to_do_and_until_when() {
    for (sender, senders, hold, expected) in [
        (
            "app@shop.example",
            1,
            None,
            "replica 0: upstream provider rejects sender app@shop.example: 554 Email address is not verified. Verify the sender at the \
             provider, or send from another address; such mail waits for up to 1 day and is then returned",
        ),
        (
            "",
            3,
            Some(7200),
            "replica 0: upstream provider rejects sender <> (of reports) and 2 more: 554 Email address is not verified. Verify the \
             sender at the provider, or send from another address; such mail waits for up to 2 hours and is then returned",
        ),
    ] {
        let mut relay = sample("minimal");
        relay.spec.delivery.retry.sender_hold_seconds = hold;
        let validated = prepare(&relay, &nothing()).validated;
        let found = with(|s| s.upstreams[0].sender_rejected = Some(rejected(sender, senders)));
        let message = Voices::of(&found).queue(&validated, now()).message;
        assert_eq!(message, expected);
    }
}

#[test]
fn a_sender_whose_mail_does_not_wait_is_of_no_concern() {
    let mut relay = sample("minimal");
    relay.spec.delivery.retry.sender_hold_seconds = Some(0);
    let validated = prepare(&relay, &nothing()).validated;
    let found = with(|s| s.upstreams[0].sender_rejected = Some(rejected("a@shop.example", 1)));
    let verdict = Voices::of(&found).queue(&validated, now());
    assert_eq!(verdict.reason, "Flowing");
}

#[test]
fn a_sender_that_is_rejected_makes_one_event_and_the_upstream_stays_ready() {
    let (applied, mut pods) = settled();
    let found_of = |pods: &[FoundPod]| found(pods.iter().map(again).collect());
    let before = summarize(&applied, &found_of(&pods), None, now()).status;
    let status = pods[0].status.as_mut().unwrap();
    status.upstreams[0].sender_rejected = Some(rejected("a@shop.example", 1));
    let first = summarize(&applied, &found_of(&pods), Some(&before), now());
    assert_eq!(holds(&first.status)[5], "UpstreamReady=True Delivering");
    assert_eq!(holds(&first.status)[6], "QueueHealthy=False SenderRejected");
    assert_eq!(holds(&first.status)[0], "Ready=False SenderRejected");
    let said: Vec<_> = first.notices.iter().map(|notice| notice.reason).collect();
    assert_eq!(said, ["QueueUnhealthy"]);
    let second = summarize(&applied, &found_of(&pods), Some(&first.status), now());
    assert_eq!(second.notices, []);
}

#[test]
fn many_rejected_senders_are_counted_roughly() {
    let shown_of = |senders| {
        let mut status = says("+");
        status.upstreams[0].sender_rejected = Some(rejected("a@shop.example", senders));
        shown(&status)
    };
    assert_eq!(shown_of(101), shown_of(109));
    assert_ne!(shown_of(2), shown_of(3));
}

/// The same pod, to be asked once more.
fn again(one: &FoundPod) -> FoundPod {
    pod(one.ordinal, one.status.clone())
}

#[test]
fn what_keeps_mail_from_coming_in_is_said_first_and_that_it_waits_last() {
    let validated = prepare(&sample("minimal"), &nothing()).validated;
    for (full, expected) in [(true, "QueueFull"), (false, "SenderRejected")] {
        let found = with(|s| {
            s.upstreams[0].sender_rejected = Some(rejected("a@shop.example", 1));
            s.queue.oldest_arrival = Some(NOW - 901);
            s.queue.full = full;
        });
        let verdict = Voices::of(&found).queue(&validated, now());
        assert_eq!(
            (verdict.holds, verdict.reason.as_str()),
            (Some(false), expected)
        );
    }
}
