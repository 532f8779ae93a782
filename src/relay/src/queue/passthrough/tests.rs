use postroad_config::status::{FailureReason, UpstreamFailure};
use postroad_config::{Action, Match, Override, Target};
use postroad_smtp::EnhancedStatus;
use tokio::task::JoinHandle;

use super::*;
use crate::outcome::{Kind, Notice, Recorded};
use crate::queue::NoRoom;
use crate::rig::{BODY, Rig};
use crate::route::Table;
use crate::schedule::{SiteLimits, Taken};
use crate::unreadable;
use RecipientResult::{Deferred, Delivered, Failed};

const ENOUGH: u64 = 1 << 20;

/// Longer than a test may take, unless time is paused.
const PATIENCE: Duration = Duration::from_secs(600);

const STATUS: EnhancedStatus = EnhancedStatus::new(5, 1, 1);

type Passes = JoinHandle<Result<Passed, AcceptError>>;

impl Queue {
    fn has_passing(&self) -> bool {
        !self.state().transits.is_empty()
    }
}

/// A client whose message is handed on; returns once it is filed.
async fn send(rig: &Rig, message: Message) -> Passes {
    send_until(rig, message, std::future::pending()).await
}

async fn send_until(
    rig: &Rig,
    message: Message,
    until: impl Future<Output = ()> + Send + 'static,
) -> Passes {
    let queue = rig.context.queue.clone();
    let (before, template) = (queue.totals().0.messages, rig.message(1, 0));
    let client = {
        let queue = queue.clone();
        tokio::spawn(async move {
            let report = |_: &Message, owed: &Owed| {
                assert!(!owed.notices.is_empty());
                let id = queue.next_id(0);
                Some(Message {
                    id,
                    ..template.clone()
                })
            };
            let room = queue.memory().try_reserve(0).unwrap();
            queue.pass(message, room, PATIENCE, until, report).await
        })
    };
    while queue.totals().0.messages == before && !client.is_finished() {
        tokio::task::yield_now().await;
    }
    client
}

/// A worker that has the message in hand.
async fn take(rig: &Rig) -> (Taken, Passing) {
    let queue = &rig.context.queue;
    let taken = queue.take().unwrap();
    let (message, held) = queue.load(&taken).await.unwrap();
    assert_eq!(&message.body[..], BODY);
    (taken, held.passing().unwrap().clone())
}

/// What it says came of a transaction for all recipients of the piece, or for those that come first.
async fn say(rig: &Rig, (taken, passing): &(Taken, Passing), results: &[RecipientResult]) -> Heard {
    let open = taken.entry.open.iter().copied();
    let results: Vec<_> = open.zip(results.iter().copied()).collect();
    let failed = results.iter().filter(|(_, result)| *result == Failed);
    let notices = failed.map(|(index, _)| Notice {
        index: *index,
        kind: Kind::Failed,
        status: STATUS,
        expired: None,
        diagnostic: String::new(),
    });
    let owed = Owed {
        notices: notices.collect(),
        remote: None,
    };
    let told = Told {
        refusal: (!owed.notices.is_empty()).then(refusal),
        owed,
        recorded: &Recorded {
            attempts: u32::from(results.iter().any(|(_, result)| *result == Deferred)),
            results,
            ..Recorded::default()
        },
    };
    rig.context.queue.hear(passing, taken.ticket, told).await
}

fn refusal() -> Reply {
    Reply::new(550, STATUS, "nobody here")
}

/// Whether a message is on the disk.
fn stored(rig: &Rig, id: MessageId) -> bool {
    rig.context.queue.spool().read(id).is_ok()
}

fn commits(rig: &Rig) -> u64 {
    rig.context.queue.spool().health().commits
}

fn queued(rig: &Rig) -> u64 {
    rig.context.queue.totals().0.messages
}

/// Sends everything to where its domain says.
fn send_directly(rig: &Rig) {
    let table = Table::new(&postroad_config::Delivery {
        default_route: Target::Direct,
        ..postroad_config::Delivery::default()
    });
    let limits = SiteLimits::default();
    rig.context
        .queue
        .configure(Arc::new(table), limits, u64::MAX);
}

/// A message to so many recipients, each at a domain of its own.
fn scattered(rig: &Rig, recipients: usize) -> Message {
    let mut message = rig.message(recipients, 0);
    for (index, recipient) in message.envelope.recipients.iter_mut().enumerate() {
        recipient.address = format!("r@d{index}.example");
    }
    message
}

#[tokio::test]
async fn what_the_next_server_takes_is_never_written() {
    let rig = Rig::new(ENOUGH);
    let client = send(&rig, rig.message(2, 0)).await;
    let piece = take(&rig).await;
    assert!(!client.is_finished());
    assert_eq!(
        say(&rig, &piece, &[Delivered]).await,
        Heard::Noted(Left::Open)
    );
    assert!(rig.context.queue.has_passing());
    let last = (taken_of(&piece, 1), piece.1.clone());
    assert_eq!(
        say(&rig, &last, &[Delivered]).await,
        Heard::Noted(Left::Nothing)
    );
    assert_eq!(client.await.unwrap().unwrap(), Passed::On);
    assert_eq!((commits(&rig), queued(&rig)), (0, 0));
    assert!(!rig.context.queue.has_passing());
    drop((piece, last));
    assert_eq!(rig.context.queue.memory().held(), 0);
}

/// The same piece as seen when the recipients before this one have their outcome.
fn taken_of((taken, _): &(Taken, Passing), index: u32) -> Taken {
    let mut taken = taken.clone();
    taken.entry.open = [index].into();
    taken
}

#[tokio::test]
async fn a_refusal_by_all_is_the_clients_and_nobody_else_is_told() {
    let rig = Rig::new(ENOUGH);
    let client = send(&rig, rig.message(2, 0)).await;
    let piece = take(&rig).await;
    say(&rig, &piece, &[Failed, Failed]).await;
    assert_eq!(client.await.unwrap().unwrap(), Passed::Refused(refusal()));
    assert_eq!((commits(&rig), queued(&rig)), (0, 0));
}

#[tokio::test]
async fn a_refusal_by_some_is_reported_and_only_the_report_is_stored() {
    let rig = Rig::new(ENOUGH);
    let message = rig.message(2, 0);
    let client = send(&rig, message.clone()).await;
    let piece = take(&rig).await;
    say(&rig, &piece, &[Delivered, Failed]).await;
    assert_eq!(client.await.unwrap().unwrap(), Passed::On);
    assert!(!stored(&rig, message.id));
    let report = rig.context.queue.take().unwrap();
    assert!(stored(&rig, report.ticket.id));
    assert_eq!((commits(&rig), queued(&rig)), (1, 1));
}

#[tokio::test]
async fn what_is_put_off_is_stored_at_once_with_what_has_come_of_the_rest() {
    let rig = Rig::new(ENOUGH);
    let message = rig.message(3, 0);
    let client = send(&rig, message.clone()).await;
    let piece = take(&rig).await;
    say(&rig, &piece, &[Delivered, Failed, Deferred]).await;
    rig.context.queue.release(piece.0.ticket, 0);
    drop(piece);
    assert_eq!(client.await.unwrap().unwrap(), Passed::Stored);
    assert_eq!((commits(&rig), queued(&rig)), (1, 2));
    let first = rig.context.queue.take().unwrap();
    let second = rig.context.queue.take().unwrap();
    let (report, rest) = match first.ticket.id == message.id {
        true => (second, first),
        false => (first, second),
    };
    assert!(stored(&rig, report.ticket.id) && stored(&rig, message.id));
    assert_eq!((&*rest.entry.open, rest.entry.attempts), (&[2][..], 1));
    let (_, held) = rig.context.queue.load(&rest).await.unwrap();
    assert!(held.passing().is_none());
    rig.context
        .queue
        .settle(rest.ticket, vec![(2, Delivered)])
        .await;
    assert!(!stored(&rig, message.id), "it is an ordinary message");
}

#[tokio::test(start_paused = true)]
async fn patience_ends_and_an_outcome_that_comes_later_is_an_ordinary_one() {
    let rig = Rig::new(ENOUGH);
    let message = rig.message(1, 0);
    let begun = Instant::now();
    let client = send(&rig, message.clone()).await;
    let piece = take(&rig).await;
    assert_eq!(client.await.unwrap().unwrap(), Passed::Stored);
    assert_eq!(begun.elapsed(), PATIENCE);
    assert!(stored(&rig, message.id));
    assert_eq!(say(&rig, &piece, &[Delivered]).await, Heard::Stored);
    assert!(rig.context.queue.take().is_none(), "a worker has it");
    rig.context
        .queue
        .settle(piece.0.ticket, vec![(0, Delivered)])
        .await;
    assert!(!stored(&rig, message.id));
    assert_eq!(queued(&rig), 0);
}

#[tokio::test]
async fn an_outcome_waits_while_the_message_is_being_stored() {
    let rig = Rig::new(ENOUGH);
    for (is_stored, expected) in [(true, Heard::Stored), (false, Heard::Gone)] {
        let message = rig.message(1, 0);
        let client = send(&rig, message.clone()).await;
        let piece = take(&rig).await;
        let queue = &rig.context.queue;
        queue.begin_to_store(message.id).unwrap();
        client.abort();
        assert!(client.await.is_err());
        assert_eq!(queued(&rig), 1, "what is being stored is not forgotten");
        let mut said = std::pin::pin!(say(&rig, &piece, &[Delivered]));
        assert!(
            tokio::time::timeout(Duration::ZERO, &mut said)
                .await
                .is_err()
        );
        match is_stored {
            true => queue.stored(message.id, &[]),
            false => drop(queue.end(message.id)),
        }
        assert_eq!(said.await, expected);
        assert_eq!(queued(&rig), u64::from(is_stored));
        queue.forget(piece.0.ticket);
    }
}

#[tokio::test]
async fn a_message_whose_client_has_gone_is_forgotten_with_all_that_comes_of_it() {
    let rig = Rig::new(ENOUGH);
    let client = send(&rig, rig.message(1, 0)).await;
    let piece = take(&rig).await;
    client.abort();
    assert!(client.await.is_err());
    assert_eq!((queued(&rig), commits(&rig)), (0, 0));
    assert_eq!(say(&rig, &piece, &[Failed]).await, Heard::Gone);
    rig.context.queue.release(piece.0.ticket, 0);
    // Somebody who has taken a piece and not loaded it yet.
    let queue = &rig.context.queue;
    let error = queue.load(&piece.0).await.unwrap_err();
    unreadable::settle(&rig.context, piece.0, error).await;
    assert!(queue.take().is_none() && !queue.has_passing());
    assert!(queue.memory().held() > 0, "a worker has it in hand");
    drop(piece.1);
    assert_eq!(queue.memory().held(), 0);
}

#[tokio::test]
async fn what_cannot_go_out_soon_is_stored_at_once() {
    let (hold, fails, later) = (true, true, true);
    for (hold, fails, later) in [
        (hold, false, false),
        (false, fails, false),
        (false, false, later),
    ] {
        let rig = Rig::new(ENOUGH);
        let queue = &rig.context.queue;
        if hold {
            let table = Table::new(&postroad_config::Delivery {
                overrides: vec![Override {
                    name: "wait".into(),
                    matches: Match::default(),
                    arrived_before: None,
                    action: Action::Hold,
                }],
                ..postroad_config::Delivery::default()
            });
            queue.configure(Arc::new(table), SiteLimits::default(), u64::MAX);
        }
        let mut message = rig.message(1, 0);
        if later {
            message.envelope.not_before_ms = clock::now_ms() + 3_600_000;
        }
        if fails {
            let first = send(&rig, rig.message(1, 0)).await;
            let piece = take(&rig).await;
            queue.note_failures(|_, _| Some(failure()));
            queue.release(piece.0.ticket, 0);
            assert_eq!(first.await.unwrap().unwrap(), Passed::Stored);
        }
        let sent = send(&rig, message.clone()).await;
        let passed = tokio::time::timeout(PATIENCE / 10, sent).await.unwrap();
        assert_eq!(
            passed.unwrap().unwrap(),
            Passed::Stored,
            "{hold} {fails} {later}"
        );
        assert!(stored(&rig, message.id));
    }
}

fn failure() -> UpstreamFailure {
    UpstreamFailure {
        reason: FailureReason::ConnectionRefused,
        message: "no".into(),
    }
}

#[tokio::test]
async fn several_destinations_are_waited_for_and_each_may_have_another_fate() {
    for (second, expected) in [
        (Delivered, Some(Passed::On)),
        (Failed, Some(Passed::On)),
        (Deferred, Some(Passed::Stored)),
    ] {
        let rig = Rig::new(ENOUGH);
        send_directly(&rig);
        let message = scattered(&rig, 2);
        let client = send(&rig, message.clone()).await;
        let pieces = [take(&rig).await, take(&rig).await];
        say(&rig, &pieces[0], &[Delivered]).await;
        rig.context.queue.release(pieces[0].0.ticket, 0);
        assert!(!client.is_finished());
        say(&rig, &pieces[1], &[second]).await;
        assert_eq!(client.await.unwrap().ok(), expected);
        assert_eq!(stored(&rig, message.id), second == Deferred);
    }
}

#[tokio::test]
async fn a_full_disk_is_no_matter_while_the_next_server_takes_mail() {
    let rig = Rig::new(ENOUGH);
    rig.disk.set_free(0);
    rig.context.queue.spool().measure();
    for (result, expected) in [(Delivered, true), (Deferred, false)] {
        let client = send(&rig, rig.message(1, 0)).await;
        let piece = take(&rig).await;
        say(&rig, &piece, &[result]).await;
        let passed = client.await.unwrap();
        assert_eq!(matches!(passed, Ok(Passed::On)), expected, "{passed:?}");
        let is_full = matches!(passed, Err(AcceptError::Room(NoRoom::Disk)));
        assert_eq!(is_full, !expected, "{passed:?}");
        assert_eq!((commits(&rig), queued(&rig)), (0, 0));
    }
}

#[tokio::test]
async fn a_writer_that_is_dead_refuses_only_what_has_to_be_stored() {
    let mut rig = Rig::new(ENOUGH);
    rig.kill_writer();
    let client = send(&rig, rig.message(1, 0)).await;
    let piece = take(&rig).await;
    say(&rig, &piece, &[Deferred]).await;
    assert!(client.await.unwrap().is_err());
    assert_eq!(queued(&rig), 0);
    assert_eq!(say(&rig, &piece, &[Delivered]).await, Heard::Gone);
}

#[tokio::test]
async fn the_bound_on_the_queue_counts_what_is_handed_on() {
    let mut rig = Rig::new(ENOUGH);
    rig.context.queue = rig.context.queue.with_room_for(1);
    let first = send(&rig, rig.message(1, 0)).await;
    let second = send(&rig, rig.message(1, 0)).await;
    assert!(matches!(
        second.await.unwrap(),
        Err(AcceptError::Room(NoRoom::Queue))
    ));
    say(&rig, &take(&rig).await, &[Delivered]).await;
    assert_eq!(first.await.unwrap().unwrap(), Passed::On);
}

#[tokio::test]
async fn a_relay_that_drains_stores_what_its_clients_wait_for() {
    let rig = Rig::new(ENOUGH);
    let (drain, drains) = oneshot::channel();
    let until = async { drop(drains.await) };
    let message = rig.message(1, 0);
    let client = send_until(&rig, message.clone(), until).await;
    let piece = take(&rig).await;
    assert!(!client.is_finished());
    drain.send(()).unwrap();
    assert_eq!(client.await.unwrap().unwrap(), Passed::Stored);
    assert_eq!(say(&rig, &piece, &[Delivered]).await, Heard::Stored);
}

#[tokio::test]
async fn what_is_stored_stays_in_memory_for_the_next_attempt() {
    let rig = Rig::new(ENOUGH);
    let client = send(&rig, rig.message(1, 0)).await;
    let piece = take(&rig).await;
    say(&rig, &piece, &[Deferred]).await;
    rig.context.queue.release(piece.0.ticket, 0);
    drop(piece);
    client.await.unwrap().unwrap();
    rig.disk.fail_reads_beyond(0);
    let taken = rig.context.queue.take().unwrap();
    assert!(rig.context.queue.load(&taken).await.is_ok());
}
