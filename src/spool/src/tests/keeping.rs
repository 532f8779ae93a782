//! What was promised is kept, what is finished is gone.

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
        id: first.id,
        arrival_ms: 1_000,
        bytes: 18,
        recipients: 2,
        next_attempt_ms: 9_000,
        attempts: 1,
        settled: Box::new([1]),
    };
    assert_eq!(recovery.queued[0], expected);
    assert_eq!(
        (recovery.queued[1].next_attempt_ms, recovery.corrupt),
        (1_000, 0)
    );
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
