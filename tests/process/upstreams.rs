//! What the relay finds out about its upstreams, and what they say that is not about one message.

use harness::hop::{Act, Hop};
use harness::provider::Provider;
use harness::relay::Relay;
use harness::{eventually, free_port};
use postroad_config::status::{FailureReason, RelayStatus, UpstreamState, UpstreamStatus};
use postroad_config::{ListenerName, Upstream, UpstreamTls};

async fn first(relay: &Relay) -> UpstreamStatus {
    relay.status().await.upstreams.remove(0)
}

async fn becomes(relay: &Relay, state: UpstreamState) -> RelayStatus {
    eventually(&format!("the upstream to be {state:?}"), async || {
        let status = relay.status().await;
        (status.upstreams[0].state == state).then_some(status)
    })
    .await
}

async fn send(relay: &Relay, recipients: &[&str]) {
    send_from(relay, "a@example.com", recipients).await;
}

async fn send_from(relay: &Relay, sender: &str, recipients: &[&str]) {
    let mut client = relay.login(ListenerName::Submission).await.unwrap();
    let reply = client
        .message(sender, recipients, b"Subject: x\r\n\r\n")
        .await
        .unwrap();
    assert_eq!(reply.code, 250, "{reply:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_wrong_password_and_its_mend_show_without_any_mail() {
    let provider = Provider::start().await;
    let mut relay = Relay::for_provider(&provider);
    relay.write_login("wrong");
    let fallback = Upstream {
        name: "fallback".into(),
        port: free_port(),
        ..relay.config.delivery.upstreams[0].clone()
    };
    relay.config.delivery.upstreams.push(fallback);
    relay.start().await;
    let failure = eventually("the refused login", async || first(&relay).await.failure).await;
    assert_eq!(failure.reason, FailureReason::AuthenticationFailed);
    assert!(failure.message.contains("535"), "{}", failure.message);
    let fallback = eventually("the check of the fallback", async || {
        relay.status().await.upstreams[1].failure.clone()
    })
    .await;
    assert_eq!(fallback.reason, FailureReason::ConnectionRefused);

    relay.write_login(harness::provider::PASSWORD);
    becomes(&relay, UpstreamState::Ready).await;
    assert!(provider.messages().is_empty());
    let log = eventually("the end of the check in the log", async || {
        let log = provider.run(&["log"]).await;
        log.contains(" auth=1 quit=1 ").then_some(log)
    })
    .await;
    assert!(!log.contains(" mail="), "no MAIL was sent\n{log}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_comes_back_shows_without_any_mail() {
    let provider = Provider::new();
    // The files of the certificate authority must exist for the relay to verify with.
    provider.run(&["start"]).await;
    provider.run(&["stop"]).await;
    let mut relay = Relay::for_provider(&provider);
    relay.start().await;
    becomes(&relay, UpstreamState::Failing).await;
    provider.run(&["start"]).await;
    becomes(&relay, UpstreamState::Ready).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_check_is_one_connection_without_mail_when_it_starts_and_when_something_changed() {
    let sink = Hop::start(&[], |_, _| None).await;
    let mut relay = Relay::for_port(sink.port);
    relay.start().await;
    becomes(&relay, UpstreamState::Ready).await;
    let check = ["EHLO mail.example.com", "QUIT"];
    eventually("the goodbye", async || {
        (sink.heard() == check).then_some(())
    })
    .await;

    relay.config.delivery.upstreams[0].tls = UpstreamTls::Opportunistic;
    relay.write_config();
    eventually("another check", async || {
        (sink.heard() == [check, check].concat()).then_some(())
    })
    .await;
    relay.drain().await;
    relay.config.delivery.upstreams[0].tls = UpstreamTls::Disabled;
    relay.write_config();
    eventually("the upstream to be new", async || {
        (first(&relay).await.state == UpstreamState::Unknown).then_some(())
    })
    .await;
    assert_eq!(
        sink.heard().len(),
        4,
        "a relay on its way out checks nothing"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn goodbye_before_the_message_was_judged_holds_the_mail_and_costs_no_attempt() {
    let sink = Hop::start(&[], |line, _| {
        line.starts_with("MAIL")
            .then_some(Act::Say("421 4.7.0 enough"))
    })
    .await;
    let mut relay = Relay::for_port(sink.port);
    relay.start().await;
    for _ in 0..5 {
        send(&relay, &["b@example.org"]).await;
    }
    let status = becomes(&relay, UpstreamState::Failing).await;
    let failure = status.upstreams[0].failure.clone().unwrap();
    assert_eq!(failure.reason, FailureReason::Throttled);
    assert!(failure.message.contains("421 4.7.0 enough"), "{failure:?}");
    let before = sink.heard().len();
    // It lets everybody in and refuses every mail: connecting proves nothing.
    eventually("another try", async || {
        assert_eq!(first(&relay).await.state, UpstreamState::Failing);
        (sink.heard().len() > before).then_some(())
    })
    .await;
    let status = relay.status().await;
    assert_eq!((status.queue.messages, status.queue.deferred), (5, 0));
    assert_eq!(status.totals.deferred, 0);
    sink.mend();
    relay.drained().await;
    assert_eq!(relay.status().await.totals.delivered, 5);
    becomes(&relay, UpstreamState::Ready).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_upstream_that_hangs_up_before_the_message_was_judged_holds_the_mail() {
    let sink = Hop::start(&[], |line, _| {
        line.starts_with("RCPT").then_some(Act::Cut(""))
    })
    .await;
    let mut relay = Relay::for_port(sink.port);
    relay.start().await;
    for _ in 0..5 {
        send(&relay, &["b@example.org"]).await;
    }
    let status = becomes(&relay, UpstreamState::Failing).await;
    let failure = status.upstreams[0].failure.clone().unwrap();
    assert_eq!(failure.reason, FailureReason::ProtocolError, "{failure:?}");
    let mails = || {
        let heard = sink.heard();
        heard.iter().filter(|line| line.starts_with("MAIL")).count()
    };
    // The pauses between the tries grow.
    eventually("another try", async || (mails() > 1).then_some(())).await;
    let status = relay.status().await;
    assert_eq!(status.upstreams[0].state, UpstreamState::Failing);
    assert_eq!((status.queue.messages, status.queue.deferred), (5, 0));
    sink.mend();
    relay.drained().await;
    assert_eq!(relay.status().await.totals.delivered, 5);
    becomes(&relay, UpstreamState::Ready).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn messages_that_bring_about_a_hold_are_put_off_and_the_others_go() {
    let sink = Hop::start(&[], |line, _| match line {
        "RCPT TO:<poison@example.org>" => Some(Act::Say("421 4.3.0 ouch")),
        "MAIL FROM:<stranger@example.com>" => Some(Act::Say("530 5.7.0 who are you")),
        _ => None,
    })
    .await;
    let mut relay = Relay::for_port(sink.port);
    relay.start().await;
    send(&relay, &["poison@example.org"]).await;
    send_from(&relay, "stranger@example.com", &["b@example.org"]).await;
    for _ in 0..5 {
        send(&relay, &["b@example.org"]).await;
    }
    let status = eventually("the deferrals", async || {
        let status = relay.status().await;
        (status.totals.deferred == 2 && status.totals.delivered == 5).then_some(status)
    })
    .await;
    assert_eq!((status.queue.messages, status.queue.deferred), (2, 2));
    let heard = sink.heard();
    for trigger in ["poison@", "stranger@"] {
        let tries = heard.iter().filter(|line| line.contains(trigger)).count();
        assert_eq!(tries, 3, "{trigger}: {heard:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn one_recipient_for_whom_a_login_is_demanded_stops_nobody_elses_mail() {
    let sink = Hop::start(&[], |line, _| {
        line.contains("private@")
            .then_some(Act::Say("530 5.7.0 log in"))
    })
    .await;
    let mut relay = Relay::for_port(sink.port);
    relay.start().await;
    send(&relay, &["private@example.org", "b@example.org"]).await;
    let status = eventually("both outcomes", async || {
        let status = relay.status().await;
        (status.totals.deferred == 1 && status.totals.delivered == 1).then_some(status)
    })
    .await;
    assert_eq!(status.upstreams[0].state, UpstreamState::Ready);
    send(&relay, &["b@example.org"]).await;
    eventually("the next mail", async || {
        (relay.status().await.totals.delivered == 2).then_some(())
    })
    .await;
}
