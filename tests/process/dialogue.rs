//! What strangers and clumsy clients get.

use harness::client::Client;
use harness::eventually;
use harness::free_port;
use harness::relay::{HOSTNAME, PASSWORD, Relay, USERNAME};
use postroad_config::ListenerName;

const PLAINTEXT_PORTS: [ListenerName; 3] = [
    ListenerName::Smtp,
    ListenerName::Submission,
    ListenerName::Alternate,
];

/// Nothing listens at the other end: these tests send nothing on.
async fn relay() -> Relay {
    let mut relay = Relay::for_port(free_port());
    relay.start().await;
    relay
}

/// With 530 at MAIL where a login is required, else with 550 at RCPT.
async fn stranger_is_refused(client: &mut Client, name: ListenerName) {
    let needs_login = matches!(name, ListenerName::Submission | ListenerName::Submissions);
    client.command("EHLO stranger.example.net").await.unwrap();
    let mail = client.command("MAIL FROM:<s@example.net>").await.unwrap();
    let expected = if needs_login { 530 } else { 250 };
    assert_eq!(mail.code, expected, "{name:?}: {mail:?}");
    for victim in [
        "v@example.org",
        "v@mail.example.com",
        "\"v@example.org\"@mail.example.com",
        "v%example.org@mail.example.com",
    ] {
        let reply = client
            .command(&format!("RCPT TO:<{victim}>"))
            .await
            .unwrap();
        let expected = if needs_login {
            (503, "5.5.1")
        } else {
            (550, "5.7.1")
        };
        assert_eq!(reply.code, expected.0, "{victim}: {reply:?}");
        assert!(reply.text.contains(expected.1), "{reply:?}");
    }
    let reply = client.command("DATA").await.unwrap();
    assert!(reply.code >= 500, "{reply:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stranger_is_refused_on_every_port_with_and_without_tls() {
    let relay = relay().await;
    for name in PLAINTEXT_PORTS {
        let (mut client, _) = Client::connect(relay.port(name)).await.unwrap();
        stranger_is_refused(&mut client, name).await;
        let (client, _) = Client::connect(relay.port(name)).await.unwrap();
        let mut client = client.starttls(&relay.tls(), HOSTNAME).await.unwrap();
        stranger_is_refused(&mut client, name).await;
    }
    let name = ListenerName::Submissions;
    let port = relay.port(name);
    let mut client = Client::connect_tls(port, &relay.tls(), HOSTNAME)
        .await
        .unwrap();
    stranger_is_refused(&mut client, name).await;
    assert_eq!(relay.status().await.totals.accepted, 0);
    // One MAIL on each connection where a login is required, four RCPT elsewhere.
    let metrics = relay.page("/metrics").await;
    let denied = 3 + 4 * 4;
    let line = format!("postroad_relay_relaying_denied_total {denied}\n");
    assert!(metrics.contains(&line), "{metrics}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_plaintext_client_of_465_is_closed_without_a_word() {
    let relay = relay().await;
    let mut client = Client::silent(relay.port(ListenerName::Submissions))
        .await
        .unwrap();
    client.send(b"EHLO client.example.net\r\n").await.unwrap();
    let reply = client.reply().await;
    assert!(reply.is_err(), "{reply:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn auth_is_neither_offered_nor_taken_before_tls() {
    let relay = relay().await;
    for name in PLAINTEXT_PORTS {
        let (mut client, _) = Client::connect(relay.port(name)).await.unwrap();
        let offer = client.command("EHLO client.example.net").await.unwrap();
        assert!(
            offer.text.contains("STARTTLS") && !offer.text.contains("AUTH"),
            "{offer:?}"
        );
        let reply = client.login(USERNAME, PASSWORD).await.unwrap();
        assert!((500..600).contains(&reply.code), "{reply:?}");
        stranger_is_refused(&mut client, name).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_wrong_password_gets_535_and_opens_nothing() {
    let relay = relay().await;
    let (client, _) = Client::connect(relay.port(ListenerName::Submission))
        .await
        .unwrap();
    let mut client = client.starttls(&relay.tls(), HOSTNAME).await.unwrap();
    for (username, password) in [(USERNAME, "wrong"), ("nobody", PASSWORD)] {
        assert_eq!(client.login(username, password).await.unwrap().code, 535);
    }
    stranger_is_refused(&mut client, ListenerName::Submission).await;
    let log = std::fs::read_to_string(relay.path("log")).unwrap();
    assert!(log.contains("login refused") && !log.contains("wrong") && !log.contains(PASSWORD));
}

#[tokio::test(flavor = "multi_thread")]
async fn the_login_of_one_session_opens_no_door_for_another() {
    let relay = relay().await;
    let _friend = relay.login(ListenerName::Smtp).await.unwrap();
    let (mut client, _) = Client::connect(relay.port(ListenerName::Smtp))
        .await
        .unwrap();
    stranger_is_refused(&mut client, ListenerName::Smtp).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_trusted_network_relays_without_login_where_login_is_optional() {
    let mut relay = Relay::for_port(free_port());
    relay.config.access.trusted_networks = vec!["127.0.0.0/8".parse().unwrap()];
    relay.start().await;
    let (mut client, _) = Client::connect(relay.port(ListenerName::Smtp))
        .await
        .unwrap();
    client.command("EHLO client.example.net").await.unwrap();
    let reply = client
        .message("a@example.com", &["b@example.org"], b"X: y\r\n\r\n")
        .await
        .unwrap();
    assert_eq!(reply.code, 250, "{reply:?}");
    let (mut client, _) = Client::connect(relay.port(ListenerName::Submission))
        .await
        .unwrap();
    stranger_is_refused(&mut client, ListenerName::Submission).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn credentials_and_limits_change_while_it_runs() {
    let mut relay = relay().await;
    let mut before = relay.login(ListenerName::Submission).await.unwrap();
    relay.write_credentials(&[(USERNAME, "changed")]);
    eventually("the old password to stop working", async || {
        relay
            .login(ListenerName::Submission)
            .await
            .err()
            .map(|_| ())
    })
    .await;
    before.command("MAIL FROM:<a@example.com>").await.unwrap();
    let reply = before.command("RCPT TO:<b@example.org>").await.unwrap();
    assert_eq!(
        reply.code, 421,
        "a session does not outlive its login: {reply:?}"
    );
    relay.write_credentials(&[(USERNAME, PASSWORD)]);
    eventually("the password to work again", async || {
        relay.login(ListenerName::Submission).await.ok()
    })
    .await;
    relay.config.limits.message_bytes = 1000;
    relay.write_config();
    eventually("the new limit", async || {
        let (mut client, _) = Client::connect(relay.port(ListenerName::Smtp))
            .await
            .unwrap();
        let offer = client.command("EHLO client.example.net").await.unwrap();
        offer.text.contains("SIZE 1000\r\n").then_some(())
    })
    .await;
    let mut client = relay.login(ListenerName::Submission).await.unwrap();
    let large = vec![b'x'; 2000];
    let reply = client
        .message(
            "a@example.com",
            &["b@example.org"],
            &[&large[..], b"\r\n"].concat(),
        )
        .await
        .unwrap();
    assert_eq!(reply.code, 552, "{reply:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_bad_configuration_is_refused_and_the_former_stays_in_force() {
    let relay = relay().await;
    std::fs::write(relay.path("relay.yaml"), "version: 1\nhostname: nonsense\n").unwrap();
    let refused = eventually("the refusal in the status", async || {
        relay.status().await.config.refused
    })
    .await;
    assert!(refused.contains("listeners"), "{refused}");
    assert!(relay.login(ListenerName::Submission).await.is_ok());
    relay.write_config();
    eventually("the refusal to go away", async || {
        relay.status().await.config.refused.is_none().then_some(())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_needs_a_restart_is_said_and_keeps_nothing_else_out() {
    let mut relay = relay().await;
    relay.config.limits.memory_bytes *= 2;
    relay.config.limits.recipients = 1;
    relay.write_config();
    let config = eventually("the field in the status", async || {
        let config = relay.status().await.config;
        (!config.awaits_restart.is_empty()).then_some(config)
    })
    .await;
    assert_eq!(config.awaits_restart, ["limits.memoryBytes"]);
    assert_eq!(config.refused, None);
    let mut client = relay.login(ListenerName::Submission).await.unwrap();
    client.command("MAIL FROM:<s@example.com>").await.unwrap();
    for (recipient, code) in [("a@example.org", 250), ("b@example.org", 452)] {
        let reply = client.command(&format!("RCPT TO:<{recipient}>")).await;
        assert_eq!(reply.unwrap().code, code, "the new limit is in force");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn mail_that_goes_in_circles_is_refused() {
    let relay = relay().await;
    let mut client = relay.login(ListenerName::Submission).await.unwrap();
    // RFC 5321 §6.3: a hundred is the least that must be let through.
    for (hops, expected) in [(100, 250), (101, 554)] {
        let content = format!("{}\r\nx\r\n", "Received: x\r\n".repeat(hops));
        let reply = client
            .message("s@example.com", &["a@example.org"], content.as_bytes())
            .await
            .unwrap();
        assert_eq!(reply.code, expected, "{hops} hops: {reply:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn connections_over_a_limit_get_421() {
    let mut relay = Relay::for_port(free_port());
    relay.config.limits.connections_per_source = 2;
    // Whoever may relay keeps its connection.
    relay.config.access.trusted_networks = vec!["127.0.0.0/8".parse().unwrap()];
    relay.start().await;
    let port = relay.port(ListenerName::Smtp);
    let (_first, _) = Client::connect(port).await.unwrap();
    let (second, _) = Client::connect(port).await.unwrap();
    let (_third, banner) = Client::connect(port).await.unwrap();
    assert_eq!(banner.code, 421, "{banner:?}");
    drop(second);
    eventually("room for another", async || {
        let (_, banner) = Client::connect(port).await.ok()?;
        (banner.code == 220).then_some(())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn strangers_cannot_hold_every_connection() {
    let mut relay = Relay::for_port(free_port());
    relay.config.limits.connections = 3;
    relay.start().await;
    let port = relay.port(ListenerName::Smtp);
    let mut strangers = Vec::new();
    for _ in 0..3 {
        strangers.push(Client::connect(port).await.unwrap());
    }
    assert!(relay.login(ListenerName::Submission).await.is_ok());
}

#[tokio::test(flavor = "multi_thread")]
async fn the_admin_api_talks_to_the_operator_alone() {
    let relay = relay().await;
    let stranger = relay.tls();
    let path = postroad_config::status::STATUS_PATH;
    assert!(relay.admin(&stranger, "GET", path).await.is_err());
    let other = harness::pki::Authority::default();
    assert!(relay.admin(&other.client(true), "GET", path).await.is_err());
    assert!(!relay.status().await.draining);
}
