mod extensions;
mod memory;
mod shares;

use super::*;

use std::future::Future;

use postroad_config::{AuthMode, Credential, ListenerName};
use postroad_spool::MessageId;
use rustls_pki_types::ServerName;
use tokio::io::{AsyncBufReadExt as _, AsyncRead, AsyncWrite, BufReader};
use tokio::sync::watch;

use crate::connections::Connections;
use crate::net::TcpListener;
use crate::patience::{COMMAND_TIME_MAX, CONTENT_TIME_MAX, STRANGER_TIME_MAX};
use crate::pki::{NAME, Pki};
use crate::rig::Rig;

/// A client of a session, line by line.
struct Client<S>(BufReader<S>);

impl<S: AsyncRead + AsyncWrite + Unpin> Client<S> {
    async fn say(&mut self, text: &str) {
        self.0.write_all(text.as_bytes()).await.unwrap();
        self.0.flush().await.unwrap();
    }

    /// The last line of the next reply; empty at the end.
    async fn hear(&mut self) -> String {
        loop {
            let mut line = String::new();
            self.0.read_line(&mut line).await.unwrap();
            if line.as_bytes().get(3) != Some(&b'-') {
                return line.trim_end().to_owned();
            }
        }
    }

    async fn ask(&mut self, command: &str, expected: &str) -> String {
        self.say(&format!("{command}\r\n")).await;
        let reply = self.hear().await;
        assert!(reply.starts_with(expected), "{command}: {reply}");
        reply
    }

    /// Says something each minute until there is a reply or the end.
    async fn drip(&mut self, text: &str) -> String {
        loop {
            let minute = Duration::from_secs(60);
            match tokio::time::timeout(minute, self.hear()).await {
                Ok(reply) => return reply,
                Err(_) => self.say(text).await,
            }
        }
    }
}

/// A client and its session, admitted with this standing and limit.
struct Talk {
    rig: Rig,
    connections: Arc<Connections>,
    limits: postroad_config::Limits,
    listener: ListenerName,
    auth: AuthMode,
}

impl Talk {
    fn new() -> Self {
        let mut rig = Rig::new(1 << 20);
        let mut live = (*rig.context.live()).clone();
        live.config.access.trusted_networks = vec!["127.0.0.1/32".parse().unwrap()];
        live.config.listeners[0].auth = AuthMode::Optional;
        live.credentials.credentials = vec![Credential {
            username: "app".into(),
            verifiers: vec![Verifier::derive("right", [1; postroad_config::SALT_BYTES])],
        }];
        let limits = postroad_config::Limits {
            connections: 1,
            ..live.config.limits
        };
        // Whoever reads the value of a channel needs no sender.
        (_, rig.context.live) = watch::channel(Arc::new(live));
        Self {
            rig,
            connections: Arc::default(),
            limits,
            listener: ListenerName::Smtp,
            auth: AuthMode::Optional,
        }
    }

    fn serve_tls(&mut self, pki: &Pki) {
        let mut live = (*self.rig.context.live()).clone();
        live.served = Some(pki.served());
        (_, self.rig.context.live) = watch::channel(Arc::new(live));
    }

    fn admit(&self, standing: Standing) -> Admitted {
        let peer = IpAddr::from([192, 0, 2, 1]);
        let admitted = self.connections.admit(peer, standing, &self.limits);
        admitted.unwrap()
    }

    async fn connect(
        &self,
        tls: ListenerTls,
        standing: Standing,
    ) -> (TcpStream, impl Future<Output = ()> + Send + use<>) {
        let socket = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = socket.local_addr().unwrap();
        let client = TcpStream::connect(address).await.unwrap();
        // The kernel's timers know nothing of paused time.
        client.set_nodelay(true).unwrap();
        let (stream, peer) = socket.accept().await.unwrap();
        let listener = Listener {
            name: self.listener,
            listen: address,
            tls,
            auth: self.auth,
        };
        let (mut context, admitted) = (self.rig.context.clone(), self.admit(standing));
        let mut live = (*context.live()).clone();
        let is_configured = |one: &Listener| {
            (one.name, one.tls, one.auth) == (listener.name, listener.tls, listener.auth)
        };
        if !live.config.listeners.iter().any(is_configured) {
            live.config.listeners = vec![listener.clone()];
            (_, context.live) = watch::channel(Arc::new(live));
        }
        let session = async move { serve(context, listener, stream, peer, &admitted).await };
        (client, session)
    }

    async fn greet(&self, standing: Standing) -> Client<TcpStream> {
        let (stream, session) = self.connect(ListenerTls::Disabled, standing).await;
        tokio::spawn(session);
        let mut client = Client(BufReader::new(stream));
        assert!(client.hear().await.starts_with("220 "));
        client
    }
}

#[tokio::test(start_paused = true)]
async fn a_command_that_drips_is_not_waited_for() {
    let talk = Talk::new();
    let begun = Instant::now();
    let mut client = talk.greet(Standing::Known).await;
    let reply = client.drip("N").await;
    assert!(reply.starts_with("421 4.4.2 "), "{reply}");
    let minute = Duration::from_secs(60);
    assert!(begun.elapsed() < COMMAND_TIME_MAX + minute);
}

#[tokio::test(start_paused = true)]
async fn a_stranger_cannot_stay_by_keeping_busy() {
    let talk = Talk::new();
    let begun = Instant::now();
    let mut client = talk.greet(Standing::Stranger).await;
    let last = loop {
        let reply = client.drip("NOOP\r\n").await;
        if !reply.starts_with("250 ") {
            break reply;
        }
    };
    assert!(last.starts_with("421 4.4.2 "), "{last}");
    let minute = Duration::from_secs(60);
    assert!(begun.elapsed() < STRANGER_TIME_MAX + minute);
}

#[tokio::test(start_paused = true)]
async fn content_that_drips_is_not_waited_for() {
    let talk = Talk::new();
    let begun = Instant::now();
    let mut client = talk.greet(Standing::Stranger).await;
    client.ask("EHLO client.example.org", "250 ").await;
    client.ask("MAIL FROM:<a@example.org>", "250 ").await;
    client.ask("RCPT TO:<b@example.net>", "250 ").await;
    client.ask("DATA", "354 ").await;
    let reply = client.drip("x").await;
    assert!(reply.starts_with("421 4.4.2 "), "{reply}");
    let minute = Duration::from_secs(60);
    assert!(begun.elapsed() > COMMAND_TIME_MAX + minute);
    assert!(begun.elapsed() < CONTENT_TIME_MAX + minute);
}

#[tokio::test]
async fn a_stranger_gives_way_to_the_next_client_and_a_known_one_does_not() {
    let talk = Talk::new();
    let mut stranger = talk.greet(Standing::Stranger).await;
    let mut client = talk.greet(Standing::Stranger).await;
    let farewell = stranger.hear().await;
    assert!(farewell.starts_with("421 4.7.0 "), "{farewell}");
    client.ask("EHLO client.example.org", "250 ").await;
    client.ask("MAIL FROM:<a@example.org>", "250 ").await;
    client.ask("RCPT TO:<b@example.net>", "250 ").await;
    let peer = IpAddr::from([192, 0, 2, 2]);
    let next = talk
        .connections
        .admit(peer, Standing::Stranger, &talk.limits);
    assert_eq!(next.unwrap_err(), Refusal::ConnectionsFull);
}

#[tokio::test]
async fn content_cannot_continue_our_trace_header() {
    let talk = Talk::new();
    let mut client = talk.greet(Standing::Known).await;
    client.ask("EHLO client.example.org", "250 ").await;
    client.ask("MAIL FROM:<a@example.org>", "250 ").await;
    client.ask("RCPT TO:<b@example.net>", "250 ").await;
    client.ask("DATA", "354 ").await;
    let reply = client.ask("\tfrom elsewhere\r\n.", "250 ").await;
    let id: MessageId = reply.rsplit(' ').next().unwrap().parse().unwrap();
    let message = talk.rig.context.queue.memory().take(id).unwrap();
    assert!(message.headers.ends_with(b"\r\n\r\n"), "{message:?}");
}

#[tokio::test(start_paused = true)]
async fn chunks_that_drip_are_not_waited_for() {
    let talk = Talk::new();
    let mut client = talk.greet(Standing::Known).await;
    client.ask("EHLO client.example.org", "250 ").await;
    client.ask("MAIL FROM:<a@example.org>", "250 ").await;
    client.ask("RCPT TO:<b@example.net>", "250 ").await;
    let begun = Instant::now();
    let last = loop {
        client.say("BDAT 1\r\nx").await;
        let reply = client.drip("").await;
        if !reply.starts_with("250 ") || begun.elapsed() > 2 * CONTENT_TIME_MAX {
            break reply;
        }
        tokio::time::sleep(Duration::from_secs(60)).await;
    };
    assert!(last.starts_with("421 4.4.2 "), "{last}");
    let minute = Duration::from_secs(60);
    assert!(begun.elapsed() < CONTENT_TIME_MAX + minute);
}

#[tokio::test(start_paused = true)]
async fn behind_the_last_chunk_a_command_has_its_own_time() {
    let talk = Talk::new();
    let mut client = talk.greet(Standing::Known).await;
    client.ask("EHLO client.example.org", "250 ").await;
    client.ask("MAIL FROM:<a@example.org>", "250 ").await;
    client.ask("RCPT TO:<b@example.net>", "250 ").await;
    client.ask("BDAT 3\r\nx", "250 ").await;
    client.ask("RSET", "250 ").await;
    for _ in 0..4 {
        tokio::time::sleep(COMMAND_TIME_MAX - Duration::from_secs(1)).await;
        client.ask("NOOP", "250 ").await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_wrong_password_is_answered_late_and_a_right_one_at_once() {
    let (mut talk, pki) = (Talk::new(), Pki::new());
    talk.serve_tls(&pki);
    let (stream, session) = talk
        .connect(ListenerTls::Implicit, Standing::Stranger)
        .await;
    tokio::spawn(session);
    let name = ServerName::try_from(NAME).unwrap();
    let stream = pki.client().connect(name, stream).await.unwrap();
    let mut client = Client(BufReader::new(stream));
    assert!(client.hear().await.starts_with("220 "));
    client.ask("EHLO client.example.org", "250 ").await;
    for seconds in [1, 2] {
        let begun = Instant::now();
        // The user app, the password wrong.
        client.ask("AUTH PLAIN AGFwcAB3cm9uZw==", "535 ").await;
        assert_eq!(begun.elapsed().as_secs(), seconds);
    }
    let begun = Instant::now();
    client.ask("AUTH PLAIN AGFwcAByaWdodA==", "235 ").await;
    assert_eq!(begun.elapsed().as_secs(), 0);
}

#[tokio::test]
async fn where_a_login_is_required_mail_without_one_is_refused_at_once() {
    for (auth, expected, denied) in [
        (AuthMode::Required, "530 5.7.0 ", 1),
        (AuthMode::Optional, "250 ", 0),
    ] {
        let mut talk = Talk::new();
        talk.auth = auth;
        let mut client = talk.greet(Standing::Known).await;
        client.ask("EHLO client.example.org", "250 ").await;
        client.ask("MAIL FROM:<a@example.org>", expected).await;
        assert_eq!(talk.rig.context.metrics.relaying_denied.get(), denied);
    }
}

#[tokio::test]
async fn without_a_certificate_where_tls_is_required_clients_are_told_to_come_back() {
    let talk = Talk::new();
    let (stream, session) = talk.connect(ListenerTls::Required, Standing::Known).await;
    tokio::spawn(session);
    let mut client = Client(BufReader::new(stream));
    assert!(client.hear().await.starts_with("220 "));
    client.ask("EHLO client.example.org", "250 ").await;
    client.ask("STARTTLS", "454 4.7.0 ").await;
    client.ask("MAIL FROM:<a@example.org>", "530 5.7.0 ").await;
}

/// Most that the task of a connection takes, in bytes; its buffers, those of TLS and the kernel's come on top. With 10,000 connections each KiB
/// is 10 MiB.
const TASK_BYTES_MAX: usize = 5 << 9;

#[tokio::test]
async fn the_task_of_a_connection_that_waits_is_small() {
    let talk = Talk::new();
    let (context, live) = (talk.rig.context.clone(), talk.rig.context.live());
    let listener = live.config.listeners[0].clone();
    let socket = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let peer = socket.local_addr().unwrap();
    let stream = TcpStream::connect(peer).await.unwrap();
    let admitted = talk
        .connections
        .admit(peer.ip(), Standing::Known, &talk.limits);
    let admitted = admitted.unwrap();
    let bytes = size_of_val(&serve(context, listener, stream, peer, &admitted));
    assert!(bytes <= TASK_BYTES_MAX, "{bytes} bytes");
}

#[tokio::test]
async fn a_listener_that_asks_for_more_does_so_of_open_sessions() {
    type Change = fn(&mut Listener);
    let tls = |listener: &mut Listener| listener.tls = ListenerTls::Required;
    let auth = |listener: &mut Listener| listener.auth = AuthMode::Required;
    let other = |listener: &mut Listener| listener.name = ListenerName::Submission;
    let elsewhere = |listener: &mut Listener| listener.listen.set_port(1);
    let cases: [(Change, &str); 4] = [
        (tls, "421 4.7.0 "),
        (auth, "421 4.7.0 "),
        (other, "421 4.7.0 "),
        (elsewhere, "250 "),
    ];
    for (change, expected) in cases {
        let mut talk = Talk::new();
        let (publish, live) = watch::channel(talk.rig.context.live());
        talk.rig.context.live = live;
        let mut client = talk.greet(Standing::Known).await;
        client.ask("EHLO client.example.org", "250 ").await;
        client.ask("MAIL FROM:<a@example.org>", "250 ").await;
        client.ask("RCPT TO:<b@example.net>", "250 ").await;
        let mut live = (*talk.rig.context.live()).clone();
        change(&mut live.config.listeners[0]);
        publish.send_replace(Arc::new(live));
        client.ask("RCPT TO:<c@example.net>", expected).await;
    }
}

#[tokio::test]
async fn who_may_not_relay_any_more_when_the_content_is_there_comes_again() {
    type Change = fn(&mut Live);
    let login: Change = |live| live.credentials.credentials.clear();
    let network: Change = |live| live.config.access.trusted_networks.clear();
    let nothing: Change = |_| {};
    let port: Change = |live| live.config.listeners[0].auth = AuthMode::Required;
    // Whether the client has logged in.
    for (logs_in, change, expected) in [
        (true, login, "421 4.7.0 "),
        (true, network, "250 "),
        (false, network, "421 4.7.0 "),
        (false, login, "250 "),
        (false, port, "421 4.7.0 "),
        (false, nothing, "250 "),
    ] {
        let (mut talk, pki) = (Talk::new(), Pki::new());
        talk.serve_tls(&pki);
        let mut live = (*talk.rig.context.live()).clone();
        live.config.listeners[0].tls = ListenerTls::Implicit;
        let (publish, live) = watch::channel(Arc::new(live));
        talk.rig.context.live = live;
        let mut client = shares::greet_tls(&talk, &pki).await;
        if logs_in {
            client.ask("AUTH PLAIN AGFwcAByaWdodA==", "235 ").await;
        }
        client.ask("MAIL FROM:<a@example.org>", "250 ").await;
        client.ask("RCPT TO:<b@example.net>", "250 ").await;
        client.ask("DATA", "354 ").await;
        publish.send_modify(|live| change(Arc::make_mut(live)));
        client.say("Subject: x\r\n\r\nx\r\n.\r\n").await;
        let reply = client.hear().await;
        assert!(reply.starts_with(expected), "{reply} {logs_in}");
        let messages = talk.rig.context.queue.totals().0.messages;
        assert_eq!(messages, u64::from(expected == "250 "));
    }
}
