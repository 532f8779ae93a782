//! What a failing disk or a dying process may not do.

use super::*;
use crate::sim::Fault;

#[test]
fn a_failed_write_or_flush_is_reported_and_the_next_batch_goes_elsewhere() {
    // The operations of a first batch: create, header, flush, directory, write, flush.
    for operation in 0..6 {
        let (disk, ids) = (SimDisk::default(), IdGenerator::new([1; 10]));
        let (spool, _, mut writer) = open(&disk, SEGMENT_BYTES);
        disk.fail_in(operation);
        let refused = submit(&spool, vec![Record::Message(message(&ids, b"refused"))]);
        writer.step();
        assert!(
            matches!(*refused.lock().unwrap(), Some(Err(_))),
            "operation {operation}"
        );
        assert!(
            matches!(spool.health().failure, Some(Failure::Write(why)) if why.contains("simulated"))
        );
        let kept = message(&ids, b"kept");
        commit(&spool, &mut writer, vec![Record::Message(kept.clone())]);
        assert_eq!(spool.health().failure, None);
        crash(&disk);
        let (_, recovery, _) = open(&disk, SEGMENT_BYTES);
        assert_eq!(
            queued_ids(&recovery),
            BTreeSet::from([kept.id]),
            "operation {operation}"
        );
    }
}

#[test]
fn what_was_durable_in_a_poisoned_segment_stays() {
    let (disk, ids) = (SimDisk::default(), IdGenerator::new([1; 10]));
    let (spool, _, mut writer) = open(&disk, SEGMENT_BYTES);
    let first = message(&ids, b"first");
    commit(&spool, &mut writer, vec![Record::Message(first.clone())]);
    disk.fail_in(1);
    submit(&spool, vec![Record::Message(message(&ids, b"refused"))]);
    writer.step();
    assert_eq!(spool.read(first.id).unwrap(), first);
    let second = message(&ids, b"second");
    commit(&spool, &mut writer, vec![Record::Message(second.clone())]);
    crash(&disk);
    let (_, recovery, _) = open(&disk, SEGMENT_BYTES);
    assert_eq!(queued_ids(&recovery), BTreeSet::from([first.id, second.id]));
}

#[test]
fn a_bounce_found_by_a_start_is_durable_before_the_original_goes() {
    let disk = SimDisk::default();
    let mut rig = Rig::filled(&disk, 1..=1).restart();
    assert!(rig.store(vec![Record::Done(id(99))]));
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
fn a_disk_that_fails_for_long_does_not_fill_with_empty_segments() {
    for fault in [Fault::Write, Fault::Sync, Fault::SyncDirectory] {
        let disk = SimDisk::default();
        let mut rig = Rig::filled(&disk, 1..=1).restart();
        disk.fail(fault, 100);
        for number in 2..=50 {
            assert!(!rig.store(vec![put(number)]));
        }
        let files = disk.files().into_keys();
        let is_segment = |path: &PathBuf| path.extension().is_some_and(|one| one == "seg");
        let segments = files.filter(is_segment).count();
        assert!(segments < 4, "{fault:?}");
        assert_eq!(rig.spool.health().segments, segments);
    }
}

#[test]
fn whoever_waits_is_told_when_the_writer_goes_away() {
    let rig = Rig::on(&SimDisk::default());
    let told = submit(&rig.spool, vec![put(1)]);
    drop(rig.writer);
    assert!(matches!(*told.lock().unwrap(), Some(Err(_))));
    assert_eq!(rig.spool.health().failure, Some(Failure::WriterDied));
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
    assert_eq!(rig.spool.health().failure, Some(Failure::WriterDied));
}

#[test]
fn a_writer_that_was_told_to_end_has_not_died() {
    let rig = Rig::on(&SimDisk::default());
    rig.spool.close();
    rig.writer.run();
    assert_eq!(rig.spool.health().failure, None);
}
