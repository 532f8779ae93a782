//! What a failing disk, a dying process or a hostile body may not do.

use super::*;
use crate::format::{encode_group, mark_group};

/// Small enough that a dozen messages fill one.
const SEGMENT: u64 = 4096;

/// A spool on a simulated disk, with its writer in hand.
struct Rig {
    disk: SimDisk,
    spool: Spool,
    writer: Writer,
    recovery: Recovery,
}

impl Rig {
    fn on(disk: &SimDisk) -> Self {
        Self::try_on(disk).unwrap()
    }

    fn try_on(disk: &SimDisk) -> Result<Self, Error> {
        let config = Config {
            directory: directory(),
            segment_bytes: SEGMENT,
        };
        let (spool, recovery, writer) = Spool::open_on(Arc::new(disk.clone()), config)?;
        Ok(Self {
            disk: disk.clone(),
            spool,
            writer,
            recovery,
        })
    }

    /// Holds these messages, each in a batch of its own.
    fn filled(disk: &SimDisk, numbers: std::ops::RangeInclusive<u128>) -> Self {
        let mut rig = Self::on(disk);
        for number in numbers {
            assert!(rig.store(vec![put(number)]));
        }
        rig
    }

    /// Submits and does one step; whether it was stored.
    fn store(&mut self, records: Vec<Record>) -> bool {
        let told = submit(&self.spool, records);
        self.writer.step();
        assert!(told.lock().unwrap().is_some(), "nobody answered");
        is_ok(&told)
    }

    /// Steps until nothing is left to do.
    fn settle(&mut self) {
        for _ in 0..1000 {
            if !self.writer.step() {
                return;
            }
        }
        panic!("the writer never comes to rest");
    }

    /// The process dies, the machine does not: what was written is still seen.
    fn restart(self) -> Self {
        let disk = self.disk.clone();
        drop(self);
        Self::on(&disk)
    }

    /// The power goes, and nothing that was not flushed survives.
    fn power_cut(self) -> Self {
        let disk = self.disk.clone();
        drop(self);
        crash(&disk);
        Self::on(&disk)
    }

    fn queued(&self) -> Vec<u128> {
        let queued = self.recovery.queued.iter();
        queued
            .map(|queued| u128::from_be_bytes(queued.id.to_bytes()))
            .collect()
    }
}

fn id(number: u128) -> MessageId {
    MessageId::from_bytes(number.to_be_bytes())
}

fn numbered(number: u128, body: &[u8]) -> Message {
    Message {
        id: id(number),
        ..message(&IdGenerator::new([1; 10]), body)
    }
}

fn put(number: u128) -> Record {
    Record::Message(numbered(number, &[b'x'; 300]))
}

fn first() -> PathBuf {
    recover::segment_path(&directory(), 1)
}

fn aside(disk: &SimDisk) -> Vec<Vec<u8>> {
    let files = disk.files().into_iter();
    files
        .filter(|(path, _)| path.starts_with("/spool/corrupt"))
        .map(|(_, content)| content)
        .collect()
}

/// Message 1 alone in the first segment, message 2 in the second.
fn two_segments(disk: &SimDisk) -> Rig {
    let mut rig = Rig::filled(disk, 1..=1).restart();
    assert!(rig.store(vec![put(2)]));
    rig
}

#[test]
fn a_body_cannot_smuggle_records_in_through_damage() {
    let disk = SimDisk::default();
    let mut rig = Rig::filled(&disk, 1..=1);
    let mut forged = b"hello ".to_vec();
    encode_group(&[Record::Done(id(1)), put(666)], &mut forged);
    // All is right but for the mark, which nobody outside knows.
    mark_group(&mut forged[6..], [0; 8]);
    assert!(rig.store(vec![Record::Message(numbered(2, &forged))]));
    assert!(rig.store(vec![put(3)]));
    drop(rig);
    let content = disk.files()[&first()].clone();
    let body = content.windows(6).position(|six| six == b"hello ");
    disk.damage(&first(), body.unwrap() - 20);
    let rig = Rig::on(&disk);
    assert_eq!((rig.queued(), rig.recovery.corrupt), (vec![1, 3], 1));
}

#[test]
fn damage_that_cannot_be_kept_aside_is_not_deleted() {
    let disk = SimDisk::default();
    drop(two_segments(&disk));
    disk.damage(&first(), 150);
    let before = disk.files()[&first()].clone();
    // A full disk, and one that fills while the copy is written: the start fails, and is tried again.
    for fault in [
        Fault::Create,
        Fault::Write,
        Fault::Sync,
        Fault::SyncDirectory,
    ] {
        disk.fail(fault, 1);
        assert!(Rig::try_on(&disk).is_err(), "{fault:?}");
        assert_eq!(disk.files()[&first()], before, "{fault:?}");
    }
    disk.mend();
    let rig = Rig::on(&disk);
    assert_eq!((rig.queued(), rig.recovery.corrupt), (vec![2], 1));
    assert!(aside(&disk).iter().any(|copy| before.ends_with(copy)));
}

#[test]
fn a_bounce_found_by_a_start_is_durable_before_the_original_goes() {
    let disk = SimDisk::default();
    let mut rig = Rig::filled(&disk, 1..=1).restart();
    // As if the process had died between the write and the flush.
    disk.fail(Fault::Sync, 1);
    disk.fail(Fault::Truncate, 1);
    disk.fail(Fault::Remove, 1);
    assert!(!rig.store(vec![put(2), Record::Done(id(1))]));
    disk.mend();
    rig = rig.restart();
    assert_eq!(rig.queued(), [2]);
    rig.store(vec![put(3)]);
    assert!(!disk.files().contains_key(&first()));
    assert_eq!(rig.power_cut().queued(), [2, 3]);
}

#[test]
fn what_was_refused_stays_away_once_something_later_was_stored() {
    let disk = SimDisk::default();
    let mut rig = two_segments(&disk);
    disk.fail(Fault::Sync, 1);
    disk.fail(Fault::Truncate, 1);
    assert!(!rig.store(vec![put(4), Record::Done(id(1))]));
    assert!(rig.store(vec![put(5)]));
    rig = rig.restart();
    assert_eq!(rig.queued(), [1, 2, 5]);
    assert_eq!(rig.power_cut().queued(), [1, 2, 5]);
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
fn a_disk_that_fails_for_long_does_not_fill_with_empty_segments() {
    for fault in [Fault::Write, Fault::Sync, Fault::SyncDirectory] {
        let disk = SimDisk::default();
        let mut rig = Rig::filled(&disk, 1..=1).restart();
        disk.fail(fault, 100);
        for number in 2..=50 {
            assert!(!rig.store(vec![put(number)]));
        }
        assert!(disk.files().len() < 4, "{fault:?}");
        assert_eq!(rig.spool.health().segments, disk.files().len());
    }
}

#[test]
fn whoever_waits_is_told_when_the_writer_goes_away() {
    let rig = Rig::on(&SimDisk::default());
    let told = submit(&rig.spool, vec![put(1)]);
    drop(rig.writer);
    assert!(matches!(*told.lock().unwrap(), Some(Err(_))));
    assert_eq!(
        rig.spool.submit(vec![put(2)], drop),
        Err(SubmitError::Closed)
    );
}

#[test]
fn whoever_is_in_the_batch_is_told_when_the_writer_panics() {
    let rig = Rig::on(&SimDisk::default());
    let told = Told::default();
    rig.spool
        .submit(vec![put(1)], |_| panic!("the caller's fault"))
        .unwrap();
    let answer = Arc::clone(&told);
    let done = move |result| *answer.lock().unwrap() = Some(result);
    rig.spool.submit(vec![put(2)], done).unwrap();
    let writer = rig.writer;
    assert!(std::thread::spawn(move || writer.run()).join().is_err());
    assert!(told.lock().unwrap().is_some());
}

#[test]
fn what_could_not_be_read_back_is_not_taken() {
    let disk = SimDisk::default();
    let mut rig = Rig::on(&disk);
    let mut longest = numbered(1, b"x");
    longest.envelope.credential = String::new();
    let rest = format::envelope_bytes(&longest);
    longest.envelope.credential = "u".repeat(format::ENVELOPE_MAX - rest);
    assert!(rig.store(vec![Record::Message(longest.clone())]));
    let mut longer = longest.clone();
    longer.envelope.credential.push('u');
    let refused = rig
        .spool
        .submit(vec![put(2), Record::Message(longer)], |_| {
            panic!("must not be called")
        });
    assert_eq!(refused, Err(SubmitError::TooLarge));
    rig = rig.power_cut();
    assert_eq!(rig.queued(), [1]);
    assert_eq!(rig.spool.read(id(1)).unwrap(), longest);
}

#[test]
fn a_group_beyond_four_gigabytes_is_not_taken() {
    let rig = Rig::on(&SimDisk::default());
    // The content is shared: only its length counts.
    let body = Bytes::from(vec![0; 64 << 20]);
    let records = |count: u128| {
        let one = |number| {
            let body = body.clone();
            Record::Message(Message {
                body,
                ..numbered(number, b"")
            })
        };
        (0..count).map(one).collect()
    };
    assert_eq!(rig.spool.submit(records(63), drop), Ok(()));
    assert_eq!(
        rig.spool.submit(records(64), drop),
        Err(SubmitError::TooLarge)
    );
}

#[test]
fn a_damaged_segment_header_costs_no_message() {
    let disk = SimDisk::default();
    drop(two_segments(&disk));
    for offset in 0..format::SEGMENT_HEADER {
        for segment in 1..=2 {
            let disk = disk.copy();
            disk.damage(&recover::segment_path(&directory(), segment), offset);
            let rig = Rig::on(&disk).restart();
            assert_eq!(rig.queued(), [1, 2], "byte {offset} of segment {segment}");
        }
    }
}
