//! What is decided before content is read, and what is looked at again after it.

use futures::FutureExt as _;
use tokio::sync::Notify;

use super::direct::{Domains, Script, hang, yes};
use super::*;
use crate::memory::Reservation;

/// Larger than a sixth of the memory.
const LARGE: usize = 180 << 10;

fn take_memory(rig: &Rig) -> Vec<Reservation> {
    let memory = rig.context.queue.memory();
    let network = "".into();
    let rooms = std::iter::from_fn(|| memory.reserve(&network, 4 << 10).now_or_never().flatten());
    rooms.collect()
}

#[tokio::test]
async fn what_hangs_before_mail_has_no_room_in_memory() {
    let mut scripts = vec![hang as Script; 6];
    scripts.push(yes);
    let domains = Domains::within(MEMORY, 44, &scripts).await;
    for number in 0..scripts.len() {
        let mut message = domains.rig.message(1, 0);
        message.envelope.recipients[0].address = format!("r@d{number}.example");
        message.body = "0123456789abcd\r\n".repeat(LARGE / 16).into();
        domains.rig.accept(&message).await.unwrap();
    }
    domains
        .run_until(|_, rig| rig.context.queue.totals().0.messages == 6)
        .await;
}

/// Says goodbye to the first connection at a time, and that it has; takes mail over all others.
async fn impatient(
    listener: TcpListener,
    mails: Arc<AtomicUsize>,
    enough: Arc<Notify>,
    gone: Arc<Notify>,
) {
    let (stream, _) = listener.accept().await.unwrap();
    let mut stream = BufReader::new(stream);
    stream.write_all(b"220 sink\r\n").await.unwrap();
    stream.read_line(&mut String::new()).await.unwrap();
    stream.write_all(b"250 sink\r\n").await.unwrap();
    enough.notified().await;
    stream.write_all(b"421 4.4.2 idle\r\n").await.unwrap();
    drop(stream);
    gone.notify_one();
    let script = |_: &str, _| Answer::Yes;
    while let Ok((stream, _)) = listener.accept().await {
        serve(stream, &script, &mails).await.ok();
    }
}

impl Sink {
    /// One that says goodbye to the first connection when the first of these is notified, and then notifies the other.
    pub(super) async fn start_impatient() -> (Self, Arc<Notify>, Arc<Notify>) {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
        let (enough, gone) = (Arc::new(Notify::new()), Arc::new(Notify::new()));
        let mails = Arc::new(AtomicUsize::new(0));
        let sink = Self {
            port: listener.local_addr().unwrap().port(),
            mails: Arc::clone(&mails),
        };
        let served = impatient(listener, mails, Arc::clone(&enough), Arc::clone(&gone));
        tokio::spawn(served);
        (sink, enough, gone)
    }
}

#[tokio::test]
async fn a_server_that_does_not_wait_while_there_is_no_room_gets_another_connection() {
    let (sink, enough, gone) = Sink::start_impatient().await;
    let rig = Rig::new(MEMORY);
    let delivery = manager(&rig, &sink).await;
    let queue = &rig.context.queue;
    queue.share(crate::room::Sharing::Many);
    let rooms = take_memory(&rig);
    rig.accept(&rig.message(1, 0)).await.unwrap();
    let mut worker = Box::pin(visit(&delivery));
    tokio::select! {
        () = &mut worker => panic!("it waits for room"),
        () = until(|| queue.memory().has_waiting()) => {}
    }
    enough.notify_one();
    tokio::select! {
        () = &mut worker => panic!("it waits for room"),
        () = gone.notified() => {}
    }
    assert!(pass(Duration::from_secs(2), &mut worker).await.is_none());
    drop(rooms);
    worker.await;
    assert_eq!((sink.mails(), queue.totals().0.messages), (1, 0));
    let status = delivery.upstreams.status().remove(0);
    assert_eq!((status.state, status.failure), (UpstreamState::Ready, None));
}
