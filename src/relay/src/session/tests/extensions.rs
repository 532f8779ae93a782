//! What MAIL and RCPT ask for: who is granted it, and that it is kept.

use super::*;

use postroad_spool::{BodyType, ByMode, Message, Ret, TlsDemand};

use crate::clock;

impl Talk {
    /// Nobody is let in without a login.
    fn trust_nobody(&mut self) {
        let mut live = (*self.rig.context.live()).clone();
        live.config.access.trusted_networks.clear();
        (_, self.rig.context.live) = watch::channel(Arc::new(live));
    }

    fn kept(&self, reply: &str) -> Message {
        let id: MessageId = reply.rsplit(' ').next().unwrap().parse().unwrap();
        self.rig.context.queue.memory().take(id).unwrap()
    }
}

#[tokio::test]
async fn what_the_client_asks_for_is_kept_with_the_message() {
    let mut talk = Talk::new();
    talk.listener = ListenerName::Submission;
    let mut client = talk.greet(Standing::Known).await;
    let begun_ms = clock::now_ms();
    client.ask("EHLO client.example.org", "250 ").await;
    let mail = "MAIL FROM:<a@example.org> BODY=BINARYMIME RET=HDRS ENVID=x+20y BY=60;NT HOLDFOR=30 MT-PRIORITY=4";
    client.ask(mail, "250 2.1.0 ").await;
    let rcpt = "RCPT TO:<b@example.net> NOTIFY=delay,SUCCESS ORCPT=rfc822;B+2B@example.net";
    client.ask(rcpt, "250 ").await;
    let content = "TLS-Required: No\r\n\r\n\0\n";
    client
        .say(&format!("BDAT {}\r\n{content}", content.len()))
        .await;
    assert!(client.hear().await.starts_with("250 "));
    let reply = client.ask("BDAT 0 LAST", "250 ").await;
    let Message { envelope, body, .. } = talk.kept(&reply);
    let (earliest_ms, latest_ms) = (begun_ms, clock::now_ms());
    assert_eq!(body, content);
    assert_eq!(envelope.body, BodyType::BinaryMime);
    assert_eq!(envelope.ret, Some(Ret::Headers));
    assert_eq!(envelope.envid.as_deref(), Some("x y"));
    assert_eq!((envelope.tls, envelope.priority), (TlsDemand::Optional, 4));
    let by = envelope.deliver_by.unwrap();
    assert_eq!((by.on_expiry, by.trace), (ByMode::Notify, true));
    assert!((earliest_ms + 60_000..=latest_ms + 60_000).contains(&by.deadline_ms));
    assert!((earliest_ms + 30_000..=latest_ms + 30_000).contains(&envelope.not_before_ms));
    let recipient = &envelope.recipients[0];
    assert_eq!(recipient.notify.as_deref(), Some("SUCCESS,DELAY"));
    assert_eq!(recipient.orcpt.as_deref(), Some("rfc822;B+@example.net"));
}

#[tokio::test]
async fn strangers_are_granted_neither_priority_nor_delay() {
    let mut talk = Talk::new();
    talk.listener = ListenerName::Submission;
    talk.trust_nobody();
    let mut client = talk.greet(Standing::Known).await;
    client.ask("EHLO client.example.org", "250 ").await;
    for (parameters, expected) in [
        ("HOLDFOR=30", "530 5.7.0 "),
        ("MT-PRIORITY=1", "250 2.3.6 0 "),
        ("MT-PRIORITY=-1", "250 2.1.0 "),
        ("", "250 2.1.0 "),
    ] {
        let mail = format!("MAIL FROM:<a@example.org> {parameters}");
        client.ask(&mail, expected).await;
        client.ask("RSET", "250 ").await;
    }
}

#[tokio::test]
async fn mail_between_servers_is_not_held() {
    let talk = Talk::new();
    let mut client = talk.greet(Standing::Known).await;
    client.ask("EHLO client.example.org", "250 ").await;
    client
        .ask("MAIL FROM:<a@example.org> HOLDFOR=30", "555 5.5.4 ")
        .await;
}

#[tokio::test]
async fn mail_is_held_for_as_long_as_the_configuration_says() {
    for (hold_seconds, lifetime_seconds, offered, asked) in [
        (
            None,
            600,
            Some(600),
            [("600", "250 "), ("601", "501 5.5.4 ")],
        ),
        (
            Some(60),
            600,
            Some(60),
            [("60", "250 "), ("61", "501 5.5.4 ")],
        ),
        (
            Some(900),
            600,
            Some(600),
            [("600", "250 "), ("601", "501 5.5.4 ")],
        ),
        (
            Some(0),
            600,
            None,
            [("1", "555 5.5.4 "), ("60", "555 5.5.4 ")],
        ),
    ] {
        let mut talk = Talk::new();
        talk.listener = ListenerName::Submission;
        let mut live = (*talk.rig.context.live()).clone();
        live.config.limits.hold_seconds = hold_seconds;
        live.config.delivery.retry.lifetime_seconds = lifetime_seconds;
        let mut listener = live.config.listeners[0].clone();
        listener.name = talk.listener;
        let bounds = offer::server_config(&live, &listener).future_release;
        assert_eq!(bounds.map(|bounds| bounds.seconds_max), offered);
        (_, talk.rig.context.live) = watch::channel(Arc::new(live));
        let mut client = talk.greet(Standing::Known).await;
        client.ask("EHLO client.example.org", "250 ").await;
        for (seconds, expected) in asked {
            let mail = format!("MAIL FROM:<a@example.org> HOLDFOR={seconds}");
            client.ask(&mail, expected).await;
            client.ask("RSET", "250 ").await;
        }
    }
}
