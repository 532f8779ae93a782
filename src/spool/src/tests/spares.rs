//! Files of segments that are gone are segments again, and nothing that they held comes back.

use super::*;
use crate::format::{GROUP_HEADER, SEGMENT_HEADER};
use crate::sim::Fault;

fn spares(disk: &SimDisk) -> Vec<PathBuf> {
    let files = disk.files().into_keys();
    files
        .filter(|path| path.extension().is_some_and(|ext| ext == "spare"))
        .collect()
}

/// Message 1000 is alive, and there is a spare file with finished ones.
fn with_spare(disk: &SimDisk) -> Rig {
    let mut rig = Rig::on(disk);
    for number in 1..=12 {
        assert!(rig.store(vec![put(number)]));
    }
    assert!(rig.store(vec![put(1000)]));
    for number in 1..=12 {
        assert!(rig.store(vec![Record::Done(id(number))]));
    }
    rig.settle();
    assert_eq!(spares(disk).len(), 1, "{:?}", disk.files().keys());
    rig
}

#[test]
fn a_segment_that_is_gone_is_one_again() {
    let disk = SimDisk::preallocating();
    let mut rig = with_spare(&disk);
    let held = disk.files()[&spares(&disk)[0]].clone();
    let mut number = 1001;
    while !spares(&disk).is_empty() {
        assert!(rig.store(vec![put(number)]));
        number += 1;
    }
    let (_, newest) = disk
        .files()
        .into_iter()
        .rfind(|(path, _)| path.extension().is_some_and(|ext| ext == "seg"))
        .unwrap();
    assert_eq!(
        newest[2000..3000],
        held[2000..3000],
        "what it held is there still"
    );
    let expected: Vec<u128> = (1000..number).collect();
    let rig = rig.restart();
    assert_eq!((rig.queued(), rig.recovery.corrupt), (expected.clone(), 0));
    assert_eq!(
        rig.recovery.truncated_bytes, 0,
        "what it held was never promised here"
    );
    let rig = rig.power_cut();
    assert_eq!((rig.queued(), rig.recovery.corrupt), (expected, 0));
}

/// With the header damaged a start relies on the first group, which must not be one of before.
#[test]
fn damage_to_the_header_brings_nothing_back() {
    let disk = SimDisk::preallocating();
    let mut rig = with_spare(&disk);
    let mut number = 1001;
    while !spares(&disk).is_empty() {
        assert!(rig.store(vec![put(number)]));
        number += 1;
    }
    drop(rig);
    let files = disk.files();
    let newest = files
        .keys()
        .rfind(|path| path.extension().is_some_and(|ext| ext == "seg"));
    for offset in 0..SEGMENT_HEADER {
        let disk = disk.copy();
        disk.damage(newest.unwrap(), offset);
        let rig = Rig::on(&disk);
        let expected: Vec<u128> = (1000..number).collect();
        assert_eq!(
            (rig.queued(), rig.recovery.corrupt),
            (expected, 0),
            "{offset}"
        );
    }
}

/// The power goes at any moment while a file becomes a segment again, and whatever is on the disk by then.
#[test]
fn a_crash_while_a_file_becomes_a_segment_again_loses_and_revives_nothing() {
    for operation in 0..12 {
        for kept in [0.0, 0.3, 0.6, 1.0] {
            let disk = SimDisk::preallocating();
            let mut rig = with_spare(&disk);
            let (mut stored, mut tried) = (vec![1000], 1000);
            disk.fail_in(operation);
            for number in 1001..1020 {
                tried = number;
                if rig.store(vec![put(number)]) {
                    stored.push(number);
                }
                if spares(&disk).is_empty() {
                    break;
                }
            }
            drop(rig);
            disk.crash(|| kept);
            let rig = Rig::on(&disk);
            assert_eq!(rig.recovery.corrupt, 0, "{operation}, {kept}");
            let mut queued = rig.queued();
            // What was refused may be found all the same: nothing was stored after it.
            queued.retain(|number| stored.contains(number) || *number != tried);
            assert_eq!(queued, stored, "{operation}, {kept}");
        }
    }
}

/// Whatever of the header gets there: it is written over the one of before.
#[test]
fn a_header_torn_at_any_byte_is_no_damage() {
    let disk = SimDisk::preallocating();
    let rig = with_spare(&disk);
    drop(rig);
    let spare = spares(&disk).remove(0);
    let next = recover::segment_path(&directory(), 900);
    let file = disk.open(&spare).unwrap();
    file.write_at(&[0; SEGMENT_HEADER + GROUP_HEADER], 0)
        .unwrap();
    file.sync_data().unwrap();
    disk.rename(&spare, &next).unwrap();
    let header = disk.files()[&first_of(&disk)][..SEGMENT_HEADER].to_vec();
    for length in 0..SEGMENT_HEADER {
        let disk = disk.copy();
        let file = disk.open(&next).unwrap();
        file.write_at(&header[..length], 0).unwrap();
        let rig = Rig::on(&disk);
        assert_eq!(
            (rig.queued(), rig.recovery.corrupt),
            (vec![1000], 0),
            "{length}"
        );
        assert_eq!(rig.recovery.truncated_bytes, 0, "{length}");
    }
}

fn first_of(disk: &SimDisk) -> PathBuf {
    let mut files = disk.files().into_keys();
    files
        .find(|path| path.extension().is_some_and(|ext| ext == "seg"))
        .unwrap()
}

#[test]
fn a_file_that_somebody_reads_is_not_written_over() {
    let disk = SimDisk::preallocating();
    let mut rig = Rig::on(&disk);
    for number in 1..=13 {
        assert!(rig.store(vec![put(number)]));
    }
    let reader = Arc::clone(&rig.spool.shared.state().segments[&1].file);
    for number in 1..=13 {
        assert!(rig.store(vec![Record::Done(id(number))]));
    }
    rig.settle();
    assert!(!disk.files().contains_key(&first()) && spares(&disk).is_empty());
    drop(reader);
}

#[test]
fn few_files_are_kept_and_none_when_the_disk_is_tight() {
    let disk = SimDisk::preallocating();
    let mut rig = Rig::on(&disk);
    for number in 1..=200 {
        assert!(rig.store(vec![put(number)]));
    }
    for number in 1..=200 {
        assert!(rig.store(vec![Record::Done(id(number))]));
    }
    rig.settle();
    assert_eq!(spares(&disk).len(), 2);
    let health = rig.spool.health();
    let kept: usize = spares(&disk)
        .iter()
        .map(|path| disk.files()[path].len())
        .sum();
    assert!(health.disk_bytes >= kept as u64, "they count as taken");
    rig = rig.restart();
    assert_eq!(spares(&disk).len(), 2, "the next life has them too");
    disk.fill();
    rig.writer.tick();
    assert!(spares(&disk).is_empty());
}

#[test]
fn a_spare_file_that_cannot_be_used_is_no_failure() {
    for fault in [Fault::Write, Fault::Sync, Fault::Create] {
        let disk = SimDisk::preallocating();
        let mut rig = with_spare(&disk);
        let mut number = 1001;
        while !spares(&disk).is_empty() {
            // It hits what is done to the spare file first when a segment is begun.
            rig.writer.seal();
            disk.fail(fault, 1);
            assert!(rig.store(vec![put(number)]), "{fault:?}");
            number += 1;
        }
        assert_eq!(rig.spool.health().failure, None, "{fault:?}");
        assert_eq!(rig.power_cut().queued(), (1000..number).collect::<Vec<_>>());
    }
}
