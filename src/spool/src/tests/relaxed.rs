//! What the relaxed mode promises, and what it does not.

use super::*;
use crate::sim::Fault;

/// The interval is the test's: it flushes when it likes.
pub(super) const RELAXED: Mode = Mode::Relaxed {
    sync_interval: Duration::MAX,
};

impl Rig {
    fn relaxed(disk: &SimDisk) -> Self {
        let (spool, recovery, writer) = open_in(disk, SEGMENT, RELAXED);
        Self {
            disk: disk.clone(),
            spool,
            writer,
            recovery,
        }
    }
}

#[test]
fn what_is_answered_is_flushed_when_the_interval_is_over() {
    let disk = SimDisk::default();
    let mut rig = Rig::relaxed(&disk);
    assert!(rig.store(vec![put(1)]));
    let begun = disk.syncs();
    for number in 2..=5 {
        assert!(rig.store(vec![put(number)]));
    }
    assert_eq!(disk.syncs(), begun, "nobody waits for a flush");
    let health = rig.spool.health();
    assert!(health.mode == RELAXED && health.unsynced.is_some());
    rig.writer.flush();
    assert_eq!(disk.syncs(), begun + 1);
    assert_eq!(rig.spool.health().unsynced, None);
    assert!(rig.store(vec![put(6)]));
    assert_eq!(rig.power_cut().queued(), [1, 2, 3, 4, 5], "6 had to wait");
}

#[test]
fn a_report_is_flushed_before_it_is_answered() {
    let disk = SimDisk::default();
    let mut rig = Rig::relaxed(&disk);
    assert!(rig.store(vec![put(1)]));
    let Record::Message(mut report) = put(2) else {
        unreachable!("a message");
    };
    report.envelope.author = Author::Relay;
    let outcome = attempt(id(1), vec![(0, RecipientResult::Failed)]);
    assert!(rig.store(vec![Record::Message(report), Record::Attempt(outcome)]));
    assert_eq!(rig.spool.health().unsynced, None);
    assert!(rig.store(vec![Record::Done(id(1))]));
    assert_eq!(
        rig.power_cut().queued(),
        [1, 2],
        "nobody waits for the end of what it is on"
    );
}

#[test]
fn the_end_of_the_process_takes_nothing() {
    let disk = SimDisk::default();
    let mut rig = Rig::relaxed(&disk);
    for number in 1..=30 {
        assert!(rig.store(vec![put(number)]));
    }
    let rig = rig.restart();
    assert_eq!(rig.queued(), (1..=30).collect::<Vec<_>>());
    assert_eq!(rig.power_cut().queued(), (1..=30).collect::<Vec<_>>());
}

#[test]
fn an_orderly_end_flushes() {
    let disk = SimDisk::default();
    let mut rig = Rig::relaxed(&disk);
    assert!(rig.store(vec![put(1)]));
    rig.spool.close();
    rig.writer.run();
    drop(rig.spool);
    crash(&disk);
    assert_eq!(Rig::on(&disk).queued(), [1]);
}

#[test]
fn an_orderly_end_on_a_failing_disk_takes_nothing_that_was_answered() {
    let disk = SimDisk::default();
    let mut rig = Rig::relaxed(&disk);
    assert!(rig.store(vec![put(1)]));
    rig.writer.flush();
    assert!(rig.store(vec![put(2)]));
    rig.spool.close();
    // The flush, and whatever is tried instead: that of the header of a fresh segment.
    disk.fail(Fault::Sync, 2);
    rig.writer.run();
    drop(rig.spool);
    disk.mend();
    assert_eq!(Rig::on(&disk).queued(), [1, 2]);
}

#[test]
fn a_late_flush_that_fails_is_told_and_what_it_was_about_is_written_anew() {
    let disk = SimDisk::default();
    let mut rig = Rig::relaxed(&disk);
    for number in 1..=3 {
        assert!(rig.store(vec![put(number)]));
    }
    assert!(rig.store(vec![Record::Done(id(2))]));
    // The flush, and that of the header of the segment after it.
    disk.fail(Fault::Sync, 2);
    rig.writer.flush();
    assert!(matches!(
        rig.spool.health().failure,
        Some(Failure::Write(_))
    ));
    assert!(rig.spool.health().unsynced.is_some());
    assert!(
        rig.spool.read(id(1)).is_ok(),
        "it can be delivered meanwhile"
    );
    rig.writer.flush();
    assert_eq!(rig.spool.health().failure, None);
    assert_eq!(rig.spool.health().unsynced, None);
    assert!(
        !disk.files().contains_key(&first()),
        "nothing is alive there"
    );
    assert_eq!(
        vec![Record::Message(rig.spool.read(id(1)).unwrap())],
        vec![put(1)]
    );
    assert_eq!(rig.power_cut().queued(), [1, 3]);
}

#[test]
fn nothing_new_is_taken_before_what_was_answered_is_safe() {
    let disk = SimDisk::default();
    let mut rig = Rig::relaxed(&disk);
    assert!(rig.store(vec![put(1)]));
    disk.fail(Fault::Sync, 3);
    rig.writer.flush();
    assert!(!rig.store(vec![put(2)]), "the third flush fails too");
    assert!(rig.store(vec![put(3)]));
    assert_eq!(rig.spool.health().unsynced, None, "both were flushed");
    assert_eq!(rig.power_cut().queued(), [1, 3]);
}

/// A copy that is not flushed is none: the segment that the message was moved from must stay.
#[test]
fn no_segment_goes_on_the_strength_of_what_is_not_flushed() {
    let disk = SimDisk::default();
    let mut rig = Rig::relaxed(&disk);
    assert!(rig.store(vec![put(1)]));
    rig.writer.flush();
    let mut rig = rig.restart_relaxed();
    assert!(rig.store(vec![put(2), Record::Done(id(1))]));
    rig.settle();
    assert!(disk.files().contains_key(&first()));
    assert_eq!(
        rig.power_cut().queued(),
        [1],
        "what replaced it was not flushed"
    );
    let mut rig = Rig::relaxed(&disk);
    assert!(rig.store(vec![put(2), Record::Done(id(1))]));
    rig.writer.flush();
    assert!(!disk.files().contains_key(&first()));
    assert_eq!(rig.power_cut().queued(), [2]);
}

impl Rig {
    fn restart_relaxed(self) -> Self {
        let disk = self.disk.clone();
        drop(self);
        Self::relaxed(&disk)
    }
}

#[test]
fn a_real_disk_is_flushed_within_the_interval() {
    let folder = tempfile::tempdir().unwrap();
    let config = Config {
        directory: folder.path().join("queue"),
        segment_bytes: 1 << 20,
        bytes_max: None,
        mode: Mode::Relaxed {
            sync_interval: Duration::from_millis(20),
        },
    };
    let (spool, _, writer) = Spool::open(config).unwrap();
    let thread = std::thread::spawn(move || writer.run());
    let (sender, receiver) = std::sync::mpsc::channel();
    let done = move |result: Result<(), CommitError>| sender.send(result).unwrap();
    spool.submit(vec![put(1)], done).unwrap();
    assert_eq!(receiver.recv().unwrap(), Ok(()));
    // Nothing else is stored, so that nothing but time can flush it.
    while spool.health().unsynced.is_some() {
        std::thread::yield_now();
    }
    assert_eq!(spool.health().syncs, 1);
    spool.close();
    thread.join().unwrap();
}

#[test]
fn an_orderly_end_on_a_disk_that_fails_at_any_step_takes_nothing() {
    let mut lost = Vec::new();
    for at in 0..14 {
        let (disk, rig) = one_flushed_one_answered();
        rig.spool.close();
        disk.fail(Fault::Sync, 1);
        disk.fail_in(at);
        rig.writer.run();
        drop(rig.spool);
        disk.mend();
        let queued = Rig::on(&disk).queued();
        if queued != [1, 2] {
            lost.push((at, queued));
        }
    }
    assert!(lost.is_empty(), "{lost:?}");
}

#[test]
fn the_end_of_the_process_takes_nothing_at_any_step_of_writing_anew() {
    let mut lost = Vec::new();
    for at in 0..14 {
        let (disk, mut rig) = one_flushed_one_answered();
        disk.fail(Fault::Sync, 1);
        disk.fail_in(at);
        rig.writer.flush();
        disk.mend();
        let queued = rig.restart().queued();
        if queued != [1, 2] {
            lost.push((at, queued));
        }
    }
    assert!(lost.is_empty(), "{lost:?}");
}

/// Where a flush fails and nothing more fits, what was answered goes to the room that was set aside for outcomes, before them.
#[test]
fn the_end_of_the_process_takes_nothing_at_any_step_of_writing_anew_on_a_full_disk() {
    let mut found = Vec::new();
    for at in 0..14 {
        let (disk, mut rig) = one_flushed_one_answered();
        disk.fill();
        disk.fail(Fault::Sync, 1);
        rig.writer.flush();
        assert_eq!(rig.spool.health().failure, Some(Failure::DiskFull));
        disk.fail_in(at);
        let is_done = rig.store(vec![Record::Done(id(1))]);
        disk.mend();
        disk.unbound();
        found.push((is_done, rig.restart().queued()));
    }
    // What was refused may be there all the same.
    let is_kept = |(is_done, queued): &(bool, Vec<u128>)| match is_done {
        true => queued == &[2],
        false => queued == &[1, 2] || queued == &[2],
    };
    assert!(found.iter().all(is_kept), "{found:?}");
    let is_refused = |(is_done, _): &(bool, Vec<u128>)| !is_done;
    assert!(is_refused(&found[0]) && !is_refused(&found[13]));
}

#[test]
fn a_disk_that_fails_for_long_is_not_filled_and_works_again_when_it_is_mended() {
    let disk = SimDisk::preallocating();
    disk.resize(64 * SEGMENT);
    let mut rig = Rig::relaxed(&disk);
    assert!(rig.store(vec![put(1)]));
    disk.fail(Fault::Sync, 1);
    disk.fail_in(4);
    rig.writer.flush();
    let before = disk.files().len();
    for _ in 0..70 {
        // The header of the fresh segment goes through, the content does not.
        disk.fail_in(4);
        rig.writer.turn(Duration::from_secs(1));
    }
    let after = disk.files().len();
    disk.mend();
    for _ in 0..5 {
        rig.writer.turn(Duration::from_secs(1));
        rig.writer.flush();
    }
    let health = rig.spool.health();
    let queued = rig.restart().queued();
    assert!(
        after <= before + 1 && queued == [1],
        "{before} files, {after} files, {health:?} {queued:?}"
    );
}

/// The first message is on stable storage, the second was only answered.
fn one_flushed_one_answered() -> (SimDisk, Rig) {
    let disk = SimDisk::default();
    let mut rig = Rig::relaxed(&disk);
    assert!(rig.store(vec![put(1)]));
    rig.writer.flush();
    assert!(rig.store(vec![put(2)]));
    (disk, rig)
}
