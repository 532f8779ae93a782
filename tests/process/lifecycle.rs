//! Start, drain, stop.

use harness::client::Client;
use harness::relay::{HOSTNAME, PASSWORD, Relay, USERNAME};
use harness::{PATIENCE, eventually, free_port};
use postroad_config::ListenerName;

#[tokio::test(flavor = "multi_thread")]
async fn sigterm_lets_data_in_flight_finish_and_sends_the_idle_away() {
    let mut relay = Relay::for_port(free_port());
    relay.start().await;
    let mut idle = relay.login(ListenerName::Submission).await.unwrap();
    let mut busy = relay.login(ListenerName::Submission).await.unwrap();
    busy.command("MAIL FROM:<a@example.com>").await.unwrap();
    busy.command("RCPT TO:<b@example.org>").await.unwrap();
    assert_eq!(busy.command("DATA").await.unwrap().code, 354);
    busy.send(b"Subject: in flight\r\n\r\n").await.unwrap();

    relay.terminate();
    eventually("readiness to end", async || {
        relay
            .page("/readyz")
            .await
            .starts_with("HTTP/1.1 503")
            .then_some(())
    })
    .await;
    let goodbye = idle.reply().await.unwrap();
    assert_eq!(goodbye.code, 421, "{goodbye:?}");
    assert!(idle.reply().await.is_err(), "and closed");
    busy.send(b"the end\r\n.\r\n").await.unwrap();
    let reply = busy.reply().await.unwrap();
    assert_eq!(reply.code, 250, "{reply:?}");
    assert_eq!(busy.reply().await.unwrap().code, 421);
    assert!(relay.ended().await, "an orderly end");

    relay.start().await;
    assert_eq!(relay.status().await.queue.messages, 1, "it was kept");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_drain_turns_clients_away_and_goes_on_delivering() {
    let provider = harness::provider::Provider::new();
    provider.run(&["start"]).await;
    provider.run(&["stop"]).await;
    let mut relay = Relay::for_provider(&provider);
    relay.start().await;
    let mut client = relay.login(ListenerName::Submission).await.unwrap();
    client
        .message("a@example.com", &["b@example.org"], b"Subject: x\r\n\r\n")
        .await
        .unwrap();
    relay.drain().await;
    assert_eq!(client.reply().await.unwrap().code, 421);
    assert!(relay.page("/readyz").await.starts_with("HTTP/1.1 503"));
    assert!(relay.page("/livez").await.starts_with("HTTP/1.1 200"));
    eventually("the listeners to close", async || {
        Client::connect(relay.port(ListenerName::Smtp)).await.err()
    })
    .await;
    let status = relay.status().await;
    assert!(status.draining);
    assert_eq!(status.queue.messages, 1);
    provider.run(&["start"]).await;
    relay.drained().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_second_process_cannot_open_the_same_queue() {
    let mut relay = Relay::for_port(free_port());
    relay.start().await;
    let first = relay.pid();
    let mut config = relay.config.clone();
    for listener in &mut config.listeners {
        listener.listen.set_port(free_port());
    }
    config.admin.listen.set_port(free_port());
    config.health.listen.set_port(free_port());
    std::fs::write(relay.path("second.yaml"), config.render().unwrap()).unwrap();
    let program = std::fs::read_link(format!("/proc/{first}/exe")).unwrap();
    let second = tokio::process::Command::new(program)
        .arg("--config")
        .arg(relay.path("second.yaml"))
        .output();
    let output = tokio::time::timeout(PATIENCE, second)
        .await
        .unwrap()
        .unwrap();
    assert!(!output.status.success());
    let error = String::from_utf8_lossy(&output.stderr);
    assert!(error.contains("in use by another process"), "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn metrics_show_the_queue() {
    let mut relay = Relay::for_port(free_port());
    relay.start().await;
    let mut client = relay.login(ListenerName::Submission).await.unwrap();
    client
        .message("a@example.com", &["b@example.org"], b"Subject: x\r\n\r\n")
        .await
        .unwrap();
    let page = relay.page("/metrics").await;
    for line in [
        "postroad_relay_messages_accepted_total 1",
        "postroad_relay_queue_messages 1",
        "postroad_relay_recipients_delivered_total 0",
        "postroad_relay_upstream_ready{upstream=\"sink\"} 0",
        "postroad_relay_queue_oldest_age_seconds",
    ] {
        assert!(page.contains(line), "{line} is missing in\n{page}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_listener_that_cannot_be_opened_shows_until_it_can() {
    let mut relay = Relay::for_port(free_port());
    relay.start().await;
    let taken = std::net::TcpListener::bind(("127.0.0.1", 0)).unwrap();
    let address = taken.local_addr().unwrap();
    let submission = relay
        .config
        .listeners
        .iter_mut()
        .find(|listener| listener.name == ListenerName::Submission);
    submission.unwrap().listen = address;
    relay.config.limits.message_bytes = 1000;
    relay.write_config();
    let refused = eventually("the refusal in the status", async || {
        relay.status().await.config.refused
    })
    .await;
    let expected =
        format!("listener submission: cannot listen on {address}: Address already in use");
    assert!(refused.starts_with(&expected), "{refused}");
    // Another change does not hide it.
    relay.config.limits.message_bytes = 2000;
    relay.write_config();
    eventually("the rest to be in force", async || {
        let (mut client, _) = Client::connect(relay.port(ListenerName::Smtp))
            .await
            .unwrap();
        let offer = client.command("EHLO client.example.net").await.unwrap();
        offer.text.contains("SIZE 2000\r\n").then_some(())
    })
    .await;
    assert_eq!(relay.status().await.config.refused, Some(refused));
    drop(taken);
    eventually("the refusal to go away", async || {
        relay.status().await.config.refused.is_none().then_some(())
    })
    .await;
    assert!(relay.login(ListenerName::Submission).await.is_ok());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_password_typed_where_the_name_belongs_is_not_logged() {
    let mut relay = Relay::for_port(free_port());
    relay.start().await;
    let (client, _) = Client::connect(relay.port(ListenerName::Submission))
        .await
        .unwrap();
    let mut client = client.starttls(&relay.tls(), HOSTNAME).await.unwrap();
    for (username, password) in [(PASSWORD, "x"), (USERNAME, "y")] {
        assert_eq!(client.login(username, password).await.unwrap().code, 535);
    }
    let log = std::fs::read_to_string(relay.path("log")).unwrap();
    assert!(!log.contains(PASSWORD), "{log}");
    let refused: Vec<_> = log
        .lines()
        .filter(|line| line.contains("login refused"))
        .collect();
    assert!(refused[0].contains("unknown"), "{log}");
    assert!(refused[1].contains(USERNAME), "{log}");
}
