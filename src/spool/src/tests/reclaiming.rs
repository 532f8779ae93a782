//! Space comes back, and nothing that is needed goes with it.

use std::cell::Cell;
use std::time::Instant;

use super::*;
use crate::sim::Fault;

thread_local! {
    static BEGIN: Instant = Instant::now();
    static PASSED: Cell<Duration> = const { Cell::new(Duration::ZERO) };
}

/// Stands still until [`pass`].
fn clock() -> Instant {
    BEGIN.with(|begin| *begin + PASSED.get())
}

fn pass(time: Duration) {
    PASSED.set(PASSED.get() + time);
}

impl Rig {
    fn with_clock(mut self) -> Self {
        self.writer.clock = clock;
        self.writer.measured = clock();
        self
    }

    /// So much mail comes and is done.
    fn finish_mail(&mut self, numbers: std::ops::RangeInclusive<u128>) {
        for number in numbers {
            assert!(self.store(vec![put(number)]));
            assert!(self.store(vec![Record::Done(id(number))]));
            self.settle();
        }
    }
}

#[test]
fn a_done_outlives_the_message_it_is_about() {
    let (disk, ids) = (SimDisk::default(), IdGenerator::new([1; 10]));
    // Every batch fills a segment.
    let (spool, _, mut writer) = open(&disk, 1);
    let (old, finished) = (message(&ids, b"old"), message(&ids, b"finished"));
    commit(
        &spool,
        &mut writer,
        vec![
            Record::Message(old.clone()),
            Record::Message(finished.clone()),
        ],
    );
    commit(&spool, &mut writer, vec![Record::Done(finished.id)]);
    commit(
        &spool,
        &mut writer,
        vec![Record::Message(message(&ids, b"new"))],
    );
    assert_eq!(
        spool.health().segments,
        3,
        "the one with only the Done is still needed"
    );
    crash(&disk);
    let (_, recovery, _) = open(&disk, 1);
    assert!(!queued_ids(&recovery).contains(&finished.id));
    assert!(queued_ids(&recovery).contains(&old.id));
}

#[test]
fn segments_go_when_nothing_in_them_is_alive() {
    let (disk, ids) = (SimDisk::default(), IdGenerator::new([1; 10]));
    let (spool, _, mut writer) = open(&disk, 1);
    for _ in 0..20 {
        let message = message(&ids, b"x");
        commit(&spool, &mut writer, vec![Record::Message(message.clone())]);
        commit(&spool, &mut writer, vec![Record::Done(message.id)]);
    }
    assert!(spool.health().segments <= 2, "{:?}", spool.health());
    assert_eq!(spool.health().live_bytes, 0);
}

#[test]
fn compaction_moves_a_long_lived_message_with_its_state_and_frees_the_rest() {
    let (disk, ids) = (SimDisk::default(), IdGenerator::new([1; 10]));
    let (spool, _, mut writer) = open(&disk, 2_000);
    let old = message(&ids, b"waits for days");
    commit(&spool, &mut writer, vec![Record::Message(old.clone())]);
    let results = vec![(0, RecipientResult::Deferred), (1, RecipientResult::Failed)];
    commit(
        &spool,
        &mut writer,
        vec![Record::Attempt(attempt(old.id, results))],
    );
    for _ in 0..40 {
        let passing = message(&ids, &[b'x'; 800]);
        commit(&spool, &mut writer, vec![Record::Message(passing.clone())]);
        commit(&spool, &mut writer, vec![Record::Done(passing.id)]);
    }
    while writer.step() {}
    assert!(spool.health().segments <= 4, "{:?}", spool.health());
    let path = recover::segment_path(&directory(), 1);
    assert!(!disk.files().contains_key(&path), "the message was in it");
    assert_eq!(spool.read(old.id).unwrap(), old);
    assert!(!writer.step(), "nothing is left to do");
    crash(&disk);
    let (_, recovery, _) = open(&disk, 2_000);
    assert_eq!(recovery.queued.len(), 1);
    let queued = recovery.queued.iter().next().unwrap();
    assert_eq!(
        (queued.attempts, queued.next_attempt_ms, &*queued.settled),
        (1, 9_000, &[1][..])
    );
}

#[test]
fn an_oldest_segment_half_alive_does_not_keep_all_the_dead_behind_it() {
    let mut rig = Rig::filled(&SimDisk::default(), 1..=5);
    for number in 6..=1000 {
        rig.store(vec![put(number)]);
        rig.store(vec![Record::Done(id(number))]);
        rig.settle();
    }
    let health = rig.spool.health();
    assert!(health.disk_bytes < 20 * SEGMENT, "{health:?}");
    assert_eq!(rig.power_cut().queued(), [1, 2, 3, 4, 5]);
}

#[test]
fn space_comes_back_under_steady_load() {
    let mut rig = Rig::filled(&SimDisk::default(), 1..=2);
    for number in 3..=1000 {
        // There is always something waiting.
        submit(&rig.spool, vec![put(number), Record::Done(id(number - 1))]);
        rig.writer.step();
    }
    let health = rig.spool.health();
    assert!(health.disk_bytes < 20 * SEGMENT, "{health:?}");
    assert_eq!(rig.power_cut().queued(), [1, 1000]);
}

#[test]
fn a_message_finished_in_the_batch_that_moves_it_stays_finished() {
    // Whenever it is that message 1 is moved, one of these finishes it just then.
    for last in 2..=100 {
        let mut rig = Rig::filled(&SimDisk::default(), 1..=1);
        for number in 2..=last {
            rig.store(vec![put(number), Record::Done(id(number))]);
        }
        assert!(rig.store(vec![Record::Done(id(1))]));
        assert!(rig.power_cut().queued().is_empty(), "after {last}");
    }
}

#[test]
fn a_segment_that_is_gone_already_does_not_hold_up_the_others() {
    let disk = SimDisk::default();
    let mut rig = two_segments(&disk);
    disk.remove(&first()).unwrap();
    assert!(rig.store(vec![Record::Done(id(1))]));
    assert_eq!(rig.spool.health().segments, 1);
}

#[test]
fn compaction_resumes_where_its_commit_failed() {
    let disk = SimDisk::default();
    let mut rig = Rig::filled(&disk, 1..=60);
    for number in 2..=60 {
        submit(&rig.spool, vec![Record::Done(id(number))]);
    }
    rig.writer.step();
    disk.fail(Fault::Sync, 1);
    rig.settle();
    rig.store(vec![put(101)]);
    rig.settle();
    assert!(!disk.files().contains_key(&first()));
    assert_eq!(rig.power_cut().queued(), [1, 101]);
}

#[test]
fn removal_goes_on_after_a_failed_flush_of_the_directory() {
    let disk = SimDisk::default();
    let mut rig = two_segments(&disk);
    disk.fail(Fault::SyncDirectory, 1);
    assert!(rig.store(vec![Record::Done(id(1))]));
    assert!(rig.store(vec![put(3)]));
    rig.settle();
    assert_eq!(rig.spool.health().segments, 1);
    rig = rig.restart();
    assert!(rig.store(vec![Record::Done(id(2)), Record::Done(id(3))]));
    assert_eq!(rig.spool.health().segments, 1);
}

#[test]
fn a_segment_that_could_not_be_read_is_tried_again_when_some_of_it_is_finished() {
    let disk = SimDisk::default();
    let mut rig = Rig::filled(&disk, 1..=60);
    for number in 3..=60 {
        submit(&rig.spool, vec![Record::Done(id(number))]);
    }
    disk.fail(Fault::Read, 1);
    rig.settle();
    assert!(disk.files().contains_key(&first()), "compaction gave up");
    assert!(rig.store(vec![Record::Done(id(2))]));
    rig.settle();
    assert!(!disk.files().contains_key(&first()));
    assert_eq!(rig.power_cut().queued(), [1]);
}

#[test]
fn a_damaged_message_that_nobody_reads_keeps_no_segments_once_it_is_told_of_and_settled() {
    let disk = SimDisk::default();
    let mut rig = Rig::filled(&disk, 1..=3).with_clock();
    disk.damage(&first(), 150);
    rig.finish_mail(4..=100);
    assert_eq!(rig.spool.take_damaged(), [id(1)]);
    assert!(rig.spool.take_damaged().is_empty(), "told once");
    assert!(disk.files().contains_key(&first()), "nothing was lost");
    pass(Duration::from_secs(61));
    rig.settle();
    assert_eq!(rig.spool.take_damaged(), [id(1)], "and again, still there");
    assert!(rig.store(vec![Record::Done(id(1))]));
    rig.finish_mail(101..=300);
    let health = rig.spool.health();
    assert!(health.disk_bytes < 6 * SEGMENT, "{health:?}");
    assert_eq!(rig.power_cut().queued(), [2, 3]);
}

#[test]
fn an_intact_message_in_a_damaged_group_is_moved() {
    let disk = SimDisk::default();
    let mut rig = Rig::on(&disk).with_clock();
    let state = Record::Attempt(attempt(id(1), vec![(1, RecipientResult::Failed)]));
    assert!(rig.store(vec![put(1), state]));
    let end = disk.files()[&first()].len();
    disk.damage(&first(), end - 20);
    rig.finish_mail(2..=300);
    assert!(rig.spool.take_damaged().is_empty());
    let health = rig.spool.health();
    assert!(health.disk_bytes < 6 * SEGMENT, "{health:?}");
    let rig = rig.power_cut();
    let queued = rig.recovery.queued.iter().next().unwrap();
    assert_eq!((queued.id, &*queued.settled), (id(1), &[1][..]));
}

#[test]
fn a_read_that_fails_once_keeps_a_segment_for_a_minute_only() {
    let disk = SimDisk::default();
    let mut rig = Rig::filled(&disk, 1..=1).with_clock();
    for number in 2..=60 {
        submit(&rig.spool, vec![put(number), Record::Done(id(number))]);
    }
    disk.fail(Fault::Read, 1);
    rig.finish_mail(61..=120);
    assert!(disk.files().contains_key(&first()), "compaction gave up");
    pass(Duration::from_secs(61));
    rig.finish_mail(121..=300);
    let health = rig.spool.health();
    assert!(health.disk_bytes < 6 * SEGMENT, "{health:?}");
    assert_eq!(rig.power_cut().queued(), [1]);
}
