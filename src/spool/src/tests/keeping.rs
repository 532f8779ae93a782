//! What was promised is kept, what is finished is gone.

use std::borrow::Cow;
use std::path::Path;
use std::sync::mpsc;

use super::*;

#[test]
fn what_was_committed_is_found_again_and_reads_back_equal() {
    let (disk, ids) = (SimDisk::default(), IdGenerator::new([1; 10]));
    let (spool, _, mut writer) = open(&disk, SEGMENT_BYTES);
    let (first, second) = (message(&ids, b"one\r\n"), message(&ids, b""));
    commit(
        &spool,
        &mut writer,
        vec![
            Record::Message(first.clone()),
            Record::Message(second.clone()),
        ],
    );
    let failed = (1, RecipientResult::Failed);
    commit(
        &spool,
        &mut writer,
        vec![Record::Attempt(attempt(first.id, vec![failed]))],
    );
    assert_eq!(spool.read(first.id).unwrap(), first);
    crash(&disk);
    let (spool, recovery, _) = open(&disk, SEGMENT_BYTES);
    assert_eq!(spool.read(first.id).unwrap(), first);
    assert_eq!(spool.read(second.id).unwrap(), second);
    let expected = Queued {
        next_attempt_ms: 9_000,
        attempts: 1,
        settled: vec![1].into(),
        ..first.queued()
    };
    let queued: Vec<Queued<'_>> = recovery.queued.iter().collect();
    assert_eq!(queued, [expected, second.queued()]);
    assert_eq!(recovery.corrupt, 0);
}

/// What mail is filed by is the same after a restart as before.
#[test]
fn a_queued_message_says_what_its_envelope_says() {
    let mut message = everything(1);
    message.envelope.author = Author::Relay;
    for recipient in &mut message.envelope.recipients {
        recipient.notify = Some("NEVER".into());
    }
    let run = |domain: &'static str, recipients| DomainRun {
        domain: domain.into(),
        recipients,
    };
    let expected = Queued {
        id: id(1),
        arrival_ms: 1_000,
        bytes: 13 + 4,
        recipients: 4,
        reportable: false,
        next_attempt_ms: 5_000,
        attempts: 0,
        delay_notified: false,
        settled: Cow::default(),
        sender_domain: "example.com".into(),
        credential: "app".into(),
        author: Author::Relay,
        priority: -4,
        not_before_ms: 5_000,
        deliver_by_ms: Some(90_000),
        domains: vec![
            run("a.example", 2),
            run("b.example", 1),
            run("a.example", 1),
        ],
    };
    assert_eq!(message.queued(), expected);
    let mut rig = Rig::on(&SimDisk::default());
    assert!(rig.store(vec![Record::Message(message.clone())]));
    let rig = rig.power_cut();
    assert_eq!(rig.recovery.queued.iter().next(), Some(expected));
    assert_eq!(rig.spool.read(id(1)).unwrap(), message);
}

#[test]
fn that_the_sender_was_told_of_the_delay_outlives_a_move() {
    let disk = SimDisk::default();
    let mut rig = Rig::filled(&disk, 1..=60);
    let told = Attempt {
        delay_notified: true,
        ..attempt(id(1), Vec::new())
    };
    assert!(rig.store(vec![Record::Attempt(told)]));
    for number in 2..=60 {
        submit(&rig.spool, vec![Record::Done(id(number))]);
    }
    rig.settle();
    assert!(!disk.files().contains_key(&first()), "it was moved");
    let rig = rig.restart();
    let queued = rig.recovery.queued.iter().next().unwrap();
    assert!(queued.delay_notified && queued.settled.is_empty());
    assert_eq!((queued.attempts, queued.next_attempt_ms), (1, 9_000));
}

#[test]
fn what_is_done_is_gone() {
    let (disk, ids) = (SimDisk::default(), IdGenerator::new([1; 10]));
    let (spool, _, mut writer) = open(&disk, SEGMENT_BYTES);
    let message = message(&ids, b"x");
    commit(&spool, &mut writer, vec![Record::Message(message.clone())]);
    commit(&spool, &mut writer, vec![Record::Done(message.id)]);
    assert!(matches!(spool.read(message.id), Err(ReadError::Unknown)));
    crash(&disk);
    assert!(open(&disk, SEGMENT_BYTES).1.queued.is_empty());
}

#[test]
fn all_that_waits_is_committed_with_one_flush() {
    let (disk, ids) = (SimDisk::default(), IdGenerator::new([1; 10]));
    let (spool, _, mut writer) = open(&disk, SEGMENT_BYTES);
    let told: Vec<_> = (0..100)
        .map(|_| submit(&spool, vec![Record::Message(message(&ids, b"x"))]))
        .collect();
    assert!(
        told.iter().all(|told| told.lock().unwrap().is_none()),
        "nobody is told early"
    );
    writer.step();
    assert!(told.iter().all(is_ok));
    assert_eq!(disk.syncs(), 2, "and one for the header of the segment");
    assert_eq!((spool.health().syncs, spool.health().commits), (1, 100));
}

#[test]
fn a_real_disk_keeps_it_when_the_process_goes_away() {
    let folder = tempfile::tempdir().unwrap();
    let ids = IdGenerator::new([1; 10]);
    let config = || Config {
        directory: folder.path().join("queue"),
        segment_bytes: 1 << 20,
        bytes_max: None,
        mode: Mode::default(),
    };
    let (spool, _, writer) = Spool::open(config()).unwrap();
    assert!(matches!(Spool::open(config()), Err(Error::Locked { .. })));
    let thread = std::thread::spawn(move || writer.run());
    let (sender, receiver) = mpsc::channel();
    let messages: Vec<_> = (0..200).map(|_| message(&ids, &[b'x'; 20_000])).collect();
    for message in &messages {
        let sender = sender.clone();
        let done = move |result: Result<(), CommitError>| sender.send(result.is_ok()).unwrap();
        spool
            .submit(vec![Record::Message(message.clone())], done)
            .unwrap();
        assert!(receiver.recv().unwrap());
    }
    assert!(spool.health().segments > 3);
    assert!((1..u64::MAX).contains(&spool.health().free_bytes));
    // The process would be gone now; here its writer must let go of the lock.
    spool.close();
    thread.join().unwrap();
    drop(spool);
    let (spool, recovery, _) = Spool::open(config()).unwrap();
    assert_eq!(recovery.queued.len(), messages.len());
    assert_eq!(spool.read(messages[7].id).unwrap(), messages[7]);
    assert!(!Path::new(&folder.path().join("queue/corrupt")).exists());
}
