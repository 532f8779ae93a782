mod answers;
mod busy;
mod conversions;
mod direct;
mod plan;
mod rates;
mod routes;
mod senders;
mod tenants;
mod throttles;

use std::pin::pin;
use std::sync::atomic::{AtomicUsize, Ordering};

use bytes::Bytes;
use postroad_config::status::{FailureReason, UpstreamState};
use postroad_smtp::ForwardPath;
use postroad_smtp::client::{End, RecipientOutcome, Transaction};
use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::{TcpListener, TcpStream};

use super::connect::{Connection, Sent};
use super::*;
use crate::rig::Rig;
use crate::room::Weight;
use crate::window;

const MEMORY: u64 = 1 << 20;

/// What has not come by then does not come.
const PATIENCE: Duration = Duration::from_secs(10);

/// Between two looks whether a connection has nothing more to do.
const LOOK_PAUSE: Duration = Duration::from_millis(1);

/// What a scripted upstream does with a command.
#[derive(Clone, Copy)]
enum Answer {
    Yes,
    Close,
    Hang,
    /// Yes, after so long.
    Late(Duration),
    /// This instead of 250 or 354.
    Say(&'static str),
}

/// An upstream in plaintext that does what the script says; it is given the command and how many MAIL it has heard over
/// the connection.
struct Sink {
    port: u16,
    mails: Arc<AtomicUsize>,
}

impl Sink {
    async fn start(script: impl Fn(&str, usize) -> Answer + Send + Sync + 'static) -> Self {
        Self::start_at("127.0.0.1", 0, script).await
    }

    async fn start_at(
        address: &str,
        port: u16,
        script: impl Fn(&str, usize) -> Answer + Send + Sync + 'static,
    ) -> Self {
        let listener = TcpListener::bind((address, port)).await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let mails = Arc::new(AtomicUsize::new(0));
        let (script, all) = (Arc::new(script), Arc::clone(&mails));
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let (script, all) = (Arc::clone(&script), Arc::clone(&all));
                // A connection that breaks is the worker's to judge.
                tokio::spawn(async move { serve(stream, &*script, &all).await.ok() });
            }
        });
        Self { port, mails }
    }

    /// How many MAIL it has heard.
    fn mails(&self) -> usize {
        self.mails.load(Ordering::SeqCst)
    }
}

async fn serve(
    stream: TcpStream,
    script: &(dyn Fn(&str, usize) -> Answer + Send + Sync),
    all: &AtomicUsize,
) -> std::io::Result<()> {
    let mut stream = BufReader::new(stream);
    stream.write_all(b"220 sink\r\n").await?;
    let (mut content, mut mails) = (false, 0);
    loop {
        let mut line = String::new();
        if stream.read_line(&mut line).await? == 0 {
            return Ok(());
        }
        let line = line.trim_end();
        if content && line != "." {
            continue;
        }
        if line.starts_with("MAIL") {
            mails += 1;
            all.fetch_add(1, Ordering::SeqCst);
        }
        match script(line, mails) {
            Answer::Yes => {}
            Answer::Close => return Ok(()),
            Answer::Hang => std::future::pending().await,
            Answer::Late(pause) => tokio::time::sleep(pause).await,
            Answer::Say(reply) => {
                content = false;
                stream.write_all(format!("{reply}\r\n").as_bytes()).await?;
                continue;
            }
        }
        content = line == "DATA";
        let reply = if content { "354 go" } else { "250 ok" };
        stream.write_all(format!("{reply}\r\n").as_bytes()).await?;
    }
}

/// A manager for a rig whose only upstream is this sink.
async fn manager(rig: &Rig, sink: &Sink) -> Delivery {
    rig.change_upstream(|upstream| {
        upstream.port = sink.port;
        upstream.limits.messages_per_connection = 10;
    });
    let upstreams = SharedUpstreams::default();
    let delivery = Delivery::new(rig.context.clone(), upstreams, CancellationToken::new());
    delivery.configure(&rig.context.live()).await;
    delivery
}

/// One connection, from the lookup to QUIT. That comes as soon as there is nothing more to do, not after the idle time.
async fn visit(delivery: &Delivery) {
    visit_over(delivery, 0).await;
}

/// As [`visit`], to the upstream of this index.
async fn visit_over(delivery: &Delivery, index: usize) {
    let upstream = Arc::clone(&delivery.context.live().upstreams[index]);
    let queue = &delivery.context.queue;
    let _ = queue.advance();
    let (place, _) = queue.wanting().pop().expect("nothing waits");
    let door = queue.open(place).expect("nothing waits");
    delivery.upstreams.lock().opened(&upstream.config.name);
    let hop = Hop::Upstream {
        upstream: delivery.upstream_hop(upstream),
        key: Key::Default,
        target: Target::default(),
    };
    let mut worker = delivery.worker(hop, door);
    let end = crate::context::Ending::default();
    worker.context.ending = end.clone();
    let mut worker = pin!(worker.run());
    let rest = async {
        while !queue.is_at_rest(place) {
            tokio::time::sleep(LOOK_PAUSE).await;
        }
    };
    tokio::select! {
        biased;
        () = delivery.context.reached(Phase::Stopping) => {}
        () = rest => {}
        () = &mut worker => return,
    }
    end.advance(Phase::Stopping);
    worker.await;
}

async fn until(mut condition: impl FnMut() -> bool) {
    let latest = Instant::now() + PATIENCE;
    while !condition() {
        assert!(Instant::now() < latest, "it does not come");
        tokio::task::yield_now().await;
    }
}

/// Goes on with something for so long, which passes at once: nothing may be on its way to a socket or to the disk. `None` if it has not
/// ended by then.
async fn pass<T>(time: Duration, work: impl Future<Output = T>) -> Option<T> {
    tokio::time::pause();
    let result = tokio::time::timeout(time, work).await;
    tokio::time::resume();
    result.ok()
}

#[tokio::test]
async fn what_a_transaction_came_to_is_recorded_before_the_next_begins() {
    let sink = Sink::start(|_, mails| match mails {
        2 => Answer::Hang,
        _ => Answer::Yes,
    })
    .await;
    let rig = Rig::new(MEMORY);
    rig.accept(&rig.message(2, 0)).await.unwrap();
    let before = rig.context.queue.spool().health().commits;
    let delivery = manager(&rig, &sink).await;
    let worker = visit(&delivery);
    tokio::select! {
        () = worker => panic!("the upstream hangs"),
        () = until(|| sink.mails() == 2) => {}
    }
    let queue = &rig.context.queue;
    assert_eq!(queue.spool().health().commits, before + 1);
    assert_eq!(queue.totals().0.weight, Weight::of(2, 1));
    assert_eq!(rig.context.metrics.delivered.get(), 1);
}

#[tokio::test]
async fn the_next_message_is_sent_while_the_outcome_of_the_last_is_stored_and_no_more() {
    let sink = Sink::start(|_, _| Answer::Yes).await;
    let rig = Rig::new(MEMORY);
    for _ in 0..3 {
        rig.accept(&rig.message(1, 0)).await.unwrap();
    }
    let delivery = manager(&rig, &sink).await;
    let commits = || rig.context.queue.spool().health().commits;
    let before = commits();
    rig.disk.hold(true);
    let mut worker = Box::pin(visit(&delivery));
    tokio::select! {
        () = &mut worker => panic!("the disk hangs"),
        () = until(|| sink.mails() == 2) => {}
    }
    for _ in 0..1000 {
        tokio::select! {
            biased;
            () = &mut worker => panic!("the disk hangs"),
            () = tokio::task::yield_now() => {}
        }
    }
    assert_eq!((sink.mails(), commits()), (2, before));
    assert_eq!(rig.context.queue.totals().0.messages, 3);
    rig.disk.hold(false);
    worker.await;
    assert_eq!((sink.mails(), commits()), (3, before + 3));
    assert_eq!(rig.context.queue.totals().0.messages, 0);
}

#[tokio::test]
async fn the_end_comes_between_transactions_and_costs_no_attempt() {
    let rig = Rig::new(MEMORY);
    let ending = rig.context.ending.clone();
    let sink = Sink::start(move |line, _| {
        if line == "." {
            ending.advance(Phase::Stopping);
        }
        Answer::Yes
    })
    .await;
    rig.accept(&rig.message(3, 0)).await.unwrap();
    visit(&manager(&rig, &sink).await).await;
    assert_eq!(sink.mails(), 1);
    let entry = rig.context.queue.take().unwrap().entry;
    assert_eq!((&*entry.open, entry.attempts), (&[1, 2][..], 0));
}

#[tokio::test]
async fn an_upstream_that_hangs_up_on_every_mail_is_held_and_costs_no_attempt() {
    let sink = Sink::start(|_, mails| match mails {
        1 => Answer::Close,
        _ => Answer::Yes,
    })
    .await;
    let rig = Rig::new(MEMORY);
    for _ in 0..20 {
        rig.accept(&rig.message(1, 0)).await.unwrap();
    }
    let delivery = manager(&rig, &sink).await;
    let upstreams = delivery.upstreams.clone();
    let failing = || upstreams.status()[0].state == UpstreamState::Failing;
    tokio::select! {
        () = delivery.run() => panic!("nothing stops it"),
        () = until(failing) => {}
    }
    assert_eq!(sink.mails(), 1);
    assert_eq!(
        upstreams.lock().choose(&Target::default(), clock::now_ms()),
        None
    );
    let failure = upstreams.status()[0].failure.clone().unwrap();
    assert_eq!(failure.reason, FailureReason::ProtocolError, "{failure:?}");
    assert_eq!(rig.context.queue.totals().0.deferred, 0);
}

#[tokio::test]
async fn a_message_on_which_the_upstream_always_hangs_up_is_put_off_the_third_time() {
    let sink = Sink::start(|line, _| match line.starts_with("RCPT") {
        true => Answer::Close,
        false => Answer::Yes,
    })
    .await;
    let rig = Rig::new(MEMORY);
    rig.accept(&rig.message(1, 0)).await.unwrap();
    let delivery = manager(&rig, &sink).await;
    let fingerprint = rig.context.live().upstreams[0].fingerprint.clone();
    let state = || delivery.upstreams.status()[0].state;
    for (deferred, blamed) in [
        (0, UpstreamState::Failing),
        (0, UpstreamState::Failing),
        (1, UpstreamState::Ready),
    ] {
        visit(&delivery).await;
        assert_eq!(rig.context.queue.totals().0.deferred, deferred);
        assert_eq!(state(), blamed);
        let now = clock::Moment::now();
        let mut upstreams = delivery.upstreams.lock();
        upstreams.answered("provider", &fingerprint, window::Answer::Final, now);
    }
}

#[tokio::test]
async fn an_upstream_that_has_enough_of_a_connection_does_not_fail() {
    let sink = Sink::start(|_, mails| match mails {
        2 => Answer::Close,
        _ => Answer::Yes,
    })
    .await;
    let rig = Rig::new(MEMORY);
    for _ in 0..3 {
        rig.accept(&rig.message(1, 0)).await.unwrap();
    }
    let delivery = manager(&rig, &sink).await;
    for left in [2, 1, 0] {
        visit(&delivery).await;
        let (totals, _) = rig.context.queue.totals();
        assert_eq!((totals.messages, totals.deferred), (left, 0));
        let status = delivery.upstreams.status();
        assert_eq!(status[0].state, UpstreamState::Ready);
    }
}

#[tokio::test]
async fn mail_that_was_put_off_waits_until_a_known_upstream_is_changed() {
    let rig = Rig::new(MEMORY);
    let queue = &rig.context.queue;
    rig.accept(&rig.message(1, 0)).await.unwrap();
    let ticket = queue.take().unwrap().ticket;
    let due_ms = clock::now_ms() + 60_000;
    queue.release(ticket, due_ms);
    let upstreams = SharedUpstreams::default();
    let delivery = Delivery::new(rig.context.clone(), upstreams, CancellationToken::new());
    delivery.configure(&rig.context.live()).await;
    assert!(queue.take().is_none(), "a start is no reason");
    rig.change_upstream(|upstream| upstream.limits.connections += 1);
    delivery.configure(&rig.context.live()).await;
    assert!(queue.take().is_none(), "limits are no reason");
    rig.change_upstream(|upstream| upstream.port += 1);
    delivery.configure(&rig.context.live()).await;
    assert!(queue.take().is_some());
}

/// Takes a megabyte of content, refuses it and closes with the rest unread.
async fn refuse_early(listener: TcpListener) -> std::io::Result<()> {
    let (stream, _) = listener.accept().await?;
    let mut stream = BufReader::new(stream);
    stream.write_all(b"220 sink\r\n").await?;
    for reply in ["250 sink\r\n", "250 ok\r\n", "250 ok\r\n", "354 go\r\n"] {
        stream.read_line(&mut String::new()).await?;
        stream.write_all(reply.as_bytes()).await?;
    }
    stream.read_exact(&mut vec![0; 1_000_000]).await?;
    stream.write_all(b"552 5.3.4 too big\r\n").await
}

#[tokio::test]
async fn a_refusal_in_the_middle_of_content_is_heard_although_writing_fails() {
    let listener = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let server = tokio::spawn(refuse_early(listener));
    let rig = Rig::new(MEMORY);
    rig.change_upstream(|upstream| upstream.port = port);
    let upstream = Arc::clone(&rig.context.live().upstreams[0]);
    let opened = Connection::open(&upstream, "mail.example.com").await;
    let mut connection = opened.map_err(|failure| failure.message).unwrap();
    let path: ForwardPath = "a@example.org".parse().unwrap();
    let sent = connection
        .send(Transaction {
            recipients: vec![path.into()],
            content: vec![Bytes::from("0123456789\r\n".repeat(2_000_000))],
            ..Transaction::default()
        })
        .await;
    server.await.unwrap().unwrap();
    let Sent::Finished(outcome) = sent else {
        panic!("not finished")
    };
    assert_eq!(outcome.end, End::Answered);
    let RecipientOutcome::Failed(reply) = &outcome.recipients[0] else {
        panic!("{outcome:?}")
    };
    assert_eq!(reply.code(), 552);
}

#[test]
fn the_work_of_a_connection_takes_its_room_once() {
    let work = async {
        let room = [0_u8; 20_000];
        std::future::pending::<()>().await;
        std::hint::black_box(&room);
    };
    let whole = or_aborted(work, CancellationToken::new());
    assert!(size_of_val(&whole) < 1_000, "{}", size_of_val(&whole));
}
