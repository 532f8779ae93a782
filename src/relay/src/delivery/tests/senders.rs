//! Senders that an upstream rejects.

mod crowded;
mod room;

use postroad_config::Retry;
use postroad_config::status::SenderRejected;
use postroad_spool::{ByMode, DeliverBy, Message, TlsDemand};

use super::direct::{Domains, Script};
use super::*;
use crate::queue::Passed;
use crate::schedule::{self, SiteLimits, Wake};

/// What Amazon SES says.
const UNVERIFIED: &str = "554 Message rejected: Email address is not verified.";

/// An upstream that does not know `s@example.com`, of whom all messages of a rig are.
struct Provider {
    rig: Rig,
    delivery: Delivery,
    sink: Sink,
    /// To its MAIL.
    answer: Arc<Mutex<Answer>>,
    connections: Arc<AtomicUsize>,
}

impl Provider {
    async fn new(change: impl FnOnce(&mut Retry)) -> Self {
        Self::offering("250-sink\r\n250 DELIVERBY", change).await
    }

    /// One that says this to EHLO.
    async fn offering(ehlo: &'static str, change: impl FnOnce(&mut Retry)) -> Self {
        let answer = Arc::new(Mutex::new(Answer::Say(UNVERIFIED)));
        let connections = Arc::new(AtomicUsize::new(0));
        let (says, counts) = (Arc::clone(&answer), Arc::clone(&connections));
        let sink = Sink::start(move |line, _| match line {
            _ if line.starts_with("EHLO") => {
                counts.fetch_add(1, Ordering::SeqCst);
                Answer::Say(ehlo)
            }
            _ if line.starts_with("MAIL FROM:<s@example.com>") => *says.lock().unwrap(),
            _ => Answer::Yes,
        })
        .await;
        let rig = Rig::new(MEMORY);
        rig.change_delivery(|delivery| change(&mut delivery.retry));
        let delivery = manager(&rig, &sink).await;
        Self {
            rig,
            delivery,
            sink,
            answer,
            connections,
        }
    }

    /// What it says to MAIL of the sender from now on.
    fn says(&self, answer: Answer) {
        *self.answer.lock().unwrap() = answer;
    }

    /// Connections so far, and MAIL so far.
    fn heard(&self) -> (usize, usize) {
        let connections = self.connections.load(Ordering::SeqCst);
        (connections, self.sink.mails())
    }

    /// One message of the sender may be tried at once, and all mail is due.
    async fn flush(&self) {
        self.delivery.upstreams.lock().try_senders();
        self.review().await;
    }

    fn rejected(&self) -> Option<SenderRejected> {
        let status = self.delivery.upstreams.status().remove(0);
        status.sender_rejected
    }

    fn pauses_ms(&self) -> Vec<u64> {
        self.rig.context.queue.pauses_ms()
    }

    /// Accepts a message that arrived so many seconds ago.
    async fn accept(&self, age_seconds: u64) {
        self.send(&self.rig.message(1, age_seconds)).await;
    }

    async fn send(&self, message: &Message) {
        self.rig.accept(message).await.unwrap();
    }

    async fn visit(&self) {
        visit(&self.delivery).await;
    }

    /// All mail is due.
    async fn review(&self) {
        let queue = &self.rig.context.queue;
        queue.review(&queue.table(), Wake::All).await;
        let _ = queue.advance();
    }

    /// So many messages wait because of their sender.
    async fn hold(&self, messages: u64) {
        for _ in 0..messages {
            self.accept(0).await;
        }
        self.visit().await;
        assert_eq!((self.counts(), self.heard()), ((messages, 0, 0), (1, 1)));
    }

    /// The queue may hold so many from now on.
    fn bound(&self, messages: u64) {
        let queue = &self.rig.context.queue;
        let bytes = messages * schedule::bytes(Weight::of(1, 1));
        let _ = queue.configure(queue.table(), SiteLimits::default(), bytes);
    }

    /// Messages that wait, recipients returned, reports written.
    fn counts(&self) -> (u64, u64, u64) {
        let (metrics, queue) = (&self.rig.context.metrics, &self.rig.context.queue);
        let messages = queue.totals().0.messages;
        (messages, metrics.failed.get(), metrics.bounced.get())
    }

    /// The attempts that were charged to the messages that wait. They are due at once afterwards.
    async fn attempts(&self) -> Vec<u32> {
        self.review().await;
        let queue = &self.rig.context.queue;
        let taken: Vec<_> = std::iter::from_fn(|| queue.take()).collect();
        let mut attempts: Vec<_> = taken.iter().map(|one| one.entry.attempts).collect();
        attempts.sort_unstable();
        for one in taken {
            queue.release(one.ticket, clock::now_ms());
        }
        attempts
    }
}

#[tokio::test]
async fn a_rejected_senders_mail_waits_and_nobody_elses_and_goes_when_it_is_accepted() {
    let provider = Provider::new(|_| {}).await;
    provider.accept(0).await;
    provider.accept(0).await;
    let mut other = provider.rig.message(1, 0);
    other.envelope.sender = "other@example.com".into();
    provider.send(&other).await;
    provider.visit().await;
    assert_eq!(provider.sink.mails(), 2, "the second of them is not tried");
    assert_eq!(provider.counts(), (2, 0, 0));
    let pauses = provider.pauses_ms();
    assert_eq!(pauses.len(), 2);
    assert!(
        pauses[0] > 14 * 60_000,
        "at least a quarter of an hour: {pauses:?}"
    );
    let status = provider.delivery.upstreams.status().remove(0);
    let rejected = status.sender_rejected.unwrap();
    assert_eq!(
        (rejected.sender.as_str(), rejected.senders),
        ("s@example.com", 1)
    );
    assert_eq!(
        (rejected.reply.as_str(), status.state),
        (UNVERIFIED, UpstreamState::Ready)
    );
    assert_eq!(provider.rig.context.metrics.sender_rejections.get(), 1);
    let queue = &provider.rig.context.queue;
    let waiting = &provider.delivery.upstreams.destinations(queue)[0];
    assert_eq!(waiting.answer.as_deref(), Some(UNVERIFIED));
    assert_eq!(provider.attempts().await, [0, 1]);
    provider.visit().await;
    assert_eq!(provider.sink.mails(), 2, "not before the pause is over");
    provider.says(Answer::Yes);
    provider.flush().await;
    provider.visit().await;
    assert_eq!((provider.sink.mails(), provider.counts()), (4, (0, 0, 0)));
    assert_eq!(provider.rejected(), None);
}

#[tokio::test]
async fn one_message_shows_that_a_sender_is_still_rejected() {
    let provider = Provider::new(|_| {}).await;
    for _ in 0..3 {
        provider.accept(0).await;
    }
    provider.visit().await;
    provider.flush().await;
    provider.visit().await;
    assert_eq!(provider.sink.mails(), 2);
    assert_eq!(provider.attempts().await.iter().sum::<u32>(), 2);
}

#[tokio::test]
async fn a_changed_upstream_is_asked_anew() {
    let provider = Provider::new(|_| {}).await;
    provider.accept(0).await;
    provider.visit().await;
    provider.says(Answer::Yes);
    provider
        .rig
        .change_upstream(|upstream| upstream.host = "localhost".into());
    provider
        .delivery
        .configure(&provider.rig.context.live())
        .await;
    assert_eq!(provider.rejected(), None);
    provider.visit().await;
    assert_eq!(provider.counts(), (0, 0, 0));
}

#[tokio::test]
async fn what_has_waited_for_long_enough_is_asked_for_once_more_and_returned_with_the_reply() {
    let provider = Provider::new(|retry| retry.sender_hold_seconds = Some(600)).await;
    provider.accept(599).await;
    provider.visit().await;
    assert_eq!(provider.counts(), (1, 0, 0));
    provider.accept(600).await;
    provider.visit().await;
    assert_eq!(
        provider.sink.mails(),
        2,
        "its report: it was asked just now"
    );
    assert_eq!(provider.counts(), (1, 1, 1));
    provider.delivery.upstreams.lock().try_senders();
    provider.accept(600).await;
    provider.visit().await;
    assert_eq!(provider.sink.mails(), 4, "the message and its report");
    assert_eq!(provider.counts(), (1, 2, 2));
}

#[tokio::test]
async fn without_a_hold_mail_is_returned_at_once_and_each_message_is_tried() {
    let provider = Provider::new(|retry| retry.sender_hold_seconds = Some(0)).await;
    provider.accept(0).await;
    provider.accept(0).await;
    provider.visit().await;
    assert_eq!((provider.sink.mails(), provider.counts()), (4, (0, 2, 2)));
    assert_eq!(provider.rejected(), None);
}

#[tokio::test]
async fn the_sender_is_told_of_the_delay_although_the_message_is_not_tried() {
    let provider = Provider::new(|retry| retry.delay_warning_seconds = Some(300)).await;
    provider.accept(0).await;
    provider.accept(400).await;
    provider.visit().await;
    assert_eq!(provider.sink.mails(), 2, "a message and a report");
    assert_eq!(provider.counts(), (2, 0, 1));
    assert_eq!(provider.attempts().await, [0, 1]);
}

#[tokio::test]
async fn what_the_sender_wants_back_by_some_time_does_not_wait_longer() {
    let provider = Provider::new(|_| {}).await;
    for minutes in [5, 6] {
        let mut message = provider.rig.message(1, 0);
        message.envelope.deliver_by = Some(DeliverBy {
            deadline_ms: message.arrival_ms + minutes * 60_000,
            on_expiry: ByMode::Return,
            trace: false,
        });
        provider.send(&message).await;
    }
    provider.visit().await;
    assert_eq!(provider.sink.mails(), 1);
    let pauses = provider.pauses_ms();
    assert_eq!(pauses.len(), 2);
    assert!(
        pauses[0] <= 5 * 60_000 && pauses[1] <= 6 * 60_000,
        "{pauses:?}"
    );
}

#[tokio::test]
async fn what_waits_because_of_its_sender_brings_no_connection_and_is_not_charged() {
    let provider = Provider::new(|_| {}).await;
    provider.accept(0).await;
    provider.visit().await;
    assert_eq!(provider.heard(), (1, 1));
    for _ in 0..20 {
        provider.accept(0).await;
        provider.visit().await;
    }
    assert_eq!(provider.heard(), (1, 1));
    let pauses = provider.pauses_ms();
    let (first, last) = (pauses[0], pauses[20]);
    assert!(
        last - first > 30_000 && last < 23 * 60_000,
        "spread over a quarter of the wait: {pauses:?}"
    );
    assert_eq!(provider.rig.context.metrics.deferred.get(), 1);
    provider.flush().await;
    provider.visit().await;
    assert_eq!(provider.heard(), (2, 2), "one connection for one trial");
    assert_eq!(provider.attempts().await.iter().sum::<u32>(), 2);
}

#[tokio::test]
async fn of_what_becomes_due_together_one_message_is_tried() {
    const HELD: usize = 200;
    const CONNECTIONS: u32 = 5;
    let provider = Provider::new(|_| {}).await;
    provider
        .rig
        .change_upstream(|upstream| upstream.limits.connections = CONNECTIONS);
    for _ in 0..HELD {
        provider.accept(0).await;
    }
    provider.visit().await;
    assert_eq!(provider.heard(), (1, 1));
    provider.flush().await;
    let queue = provider.rig.context.queue.clone();
    let (sink, connections) = (provider.sink, provider.connections);
    tokio::select! {
        () = provider.delivery.run() => panic!("nothing stops it"),
        () = until(|| queue.pauses_ms().len() == HELD) => {}
    }
    assert_eq!(sink.mails(), 2);
    assert!(connections.load(Ordering::SeqCst) <= 1 + CONNECTIONS as usize);
}

#[tokio::test]
async fn an_upstream_that_puts_mail_off_rejects_nobody() {
    let provider = Provider::new(|_| {}).await;
    for _ in 0..3 {
        provider.accept(0).await;
    }
    provider.visit().await;
    provider.says(Answer::Say("451 4.1.8 no answer from the DNS"));
    provider.flush().await;
    provider.visit().await;
    assert_eq!(provider.rejected(), None);
    assert_eq!(provider.sink.mails(), 1 + 3);
    assert_eq!(provider.attempts().await, [1, 1, 2]);
}

#[tokio::test]
async fn a_message_that_is_refused_for_its_own_sake_says_nothing_of_its_sender() {
    let limited = "250-sink\r\n250 LIMITS RCPTDOMAINMAX=1";
    let provider = Provider::offering(limited, |_| {}).await;
    provider.hold(1).await;
    let mut message = provider.rig.message(2, 0);
    // Our own word puts it off: nobody else may be named.
    message.envelope.recipients[1].address = "r@other.example".into();
    message.envelope.priority = 9;
    provider.send(&message).await;
    provider
        .rig
        .change_upstream(|upstream| upstream.limits.recipients_per_message = 10);
    provider.says(Answer::Say("552 5.3.4 too big"));
    provider.flush().await;
    provider.visit().await;
    assert!(provider.rejected().is_some());
}

#[tokio::test]
async fn a_senders_mail_that_can_never_be_sent_keeps_none_waiting_that_can() {
    const UNSENDABLE: u64 = 20;
    let provider = Provider::new(|_| {}).await;
    provider
        .rig
        .change_upstream(|upstream| upstream.limits.messages_per_connection = 1000);
    provider.hold(1).await;
    for number in 0..UNSENDABLE {
        let mut unsendable = provider.rig.message(1, 0);
        unsendable.envelope.priority = 9;
        match number % 2 {
            0 => unsendable.envelope.tls = TlsDemand::Required,
            _ => unsendable.body = "\r\nNUL: \0\r\n".into(),
        }
        provider.send(&unsendable).await;
    }
    provider.says(Answer::Yes);
    provider.flush().await;
    provider.visit().await;
    assert_eq!(provider.counts(), (0, UNSENDABLE, UNSENDABLE));
    assert_eq!(provider.sink.mails() as u64, 2 + UNSENDABLE, "and reports");
}

#[tokio::test]
async fn the_sender_hears_of_the_delay_when_it_is_due_and_not_at_the_end_of_the_pause() {
    let provider = Provider::new(|retry| retry.delay_warning_seconds = Some(300)).await;
    provider.accept(0).await;
    provider.accept(0).await;
    provider.visit().await;
    let pauses = provider.pauses_ms();
    assert_eq!(pauses.len(), 2);
    assert!(pauses[1] <= 300_000, "{pauses:?}");
}

#[tokio::test]
async fn who_waits_for_the_answer_or_could_not_be_told_is_not_made_to_wait() {
    let sink = Sink::start(|line, _| match line.starts_with("MAIL") {
        true => Answer::Say(UNVERIFIED),
        false => Answer::Yes,
    })
    .await;
    let rig = Rig::new(MEMORY);
    let delivery = manager(&rig, &sink).await;
    let queue = &rig.context.queue;
    let room = queue.memory().try_reserve(0).unwrap();
    let never = std::future::pending();
    let client = queue.pass(rig.message(1, 0), room, PATIENCE, never, |_, _| None);
    let filed = async {
        until(|| queue.totals().0.messages == 1).await;
        visit(&delivery).await;
    };
    let (passed, ()) = tokio::join!(client, filed);
    let Passed::Refused(reply) = passed.unwrap() else {
        panic!("its client waits")
    };
    assert_eq!(reply.code(), 554);
    let mut report = rig.message(1, 0);
    report.envelope.sender.clear();
    rig.accept(&report).await.unwrap();
    visit(&delivery).await;
    assert_eq!(queue.totals().0.messages, 0);
    let status = delivery.upstreams.status().remove(0);
    assert_eq!(status.sender_rejected, None);
}

#[tokio::test]
async fn nobody_is_rejected_any_more_where_nothing_is_to_wait() {
    let provider = Provider::new(|_| {}).await;
    provider.accept(0).await;
    provider.visit().await;
    assert!(provider.rejected().is_some());
    let rig = &provider.rig;
    rig.change_delivery(|delivery| delivery.retry.sender_hold_seconds = Some(0));
    provider.delivery.configure(&rig.context.live()).await;
    assert_eq!(provider.rejected(), None);
}

#[tokio::test]
async fn where_mail_goes_to_domains_it_is_the_recipients_server_that_says_no() {
    fn refuse(line: &str, _: usize) -> Answer {
        match line.starts_with("MAIL") {
            true => Answer::Say(UNVERIFIED),
            false => Answer::Yes,
        }
    }
    let domains = Domains::new(43, &[refuse as Script]).await;
    domains.accept([0].into_iter()).await;
    let rig = domains
        .run_until(|_, rig| rig.context.metrics.failed.get() == 1)
        .await;
    assert_eq!(rig.context.metrics.bounced.get(), 1);
}
