//! What damage and torn writes cost, and that nothing of it is lost.

use super::*;
use crate::format::{
    END_MARK, GROUP_HEADER, RECORD_HEADER, SEGMENT_HEADER, encode_group, envelope_bytes, mark_group,
};
use crate::sim::Fault;

#[test]
fn a_tail_torn_at_any_byte_costs_only_what_nobody_was_promised() {
    let (disk, ids) = (SimDisk::default(), IdGenerator::new([1; 10]));
    let (spool, _, mut writer) = open(&disk, SEGMENT_BYTES);
    let path = recover::segment_path(&directory(), 1);
    let (kept, torn) = (message(&ids, b"kept"), message(&ids, b"torn"));
    commit(&spool, &mut writer, vec![Record::Message(kept.clone())]);
    let begin = disk.files()[&path].len();
    commit(
        &spool,
        &mut writer,
        vec![
            Record::Message(torn.clone()),
            Record::Message(message(&ids, b"too")),
        ],
    );
    let end = disk.files()[&path].len();
    crash(&disk);
    for length in begin..end {
        let disk = disk.copy();
        disk.cut(&path, length);
        let (spool, recovery, _) = open(&disk, SEGMENT_BYTES);
        assert_eq!(
            queued_ids(&recovery),
            BTreeSet::from([kept.id]),
            "cut at {length}"
        );
        assert_eq!(
            (recovery.corrupt, recovery.truncated_bytes),
            (0, (length - begin) as u64)
        );
        assert_eq!(spool.read(kept.id).unwrap(), kept);
    }
}

#[test]
fn damage_anywhere_costs_one_group_and_is_kept_aside() {
    let (disk, ids) = (SimDisk::default(), IdGenerator::new([1; 10]));
    let (spool, _, mut writer) = open(&disk, SEGMENT_BYTES);
    let path = recover::segment_path(&directory(), 1);
    let messages: Vec<_> = (0..3).map(|_| message(&ids, b"body")).collect();
    let mut ends = Vec::new();
    for message in &messages {
        commit(&spool, &mut writer, vec![Record::Message(message.clone())]);
        ends.push(disk.files()[&path].len());
    }
    crash(&disk);
    for offset in ends[0]..ends[1] {
        let disk = disk.copy();
        disk.damage(&path, offset);
        let (_, recovery, _) = open(&disk, SEGMENT_BYTES);
        assert_eq!(
            queued_ids(&recovery),
            BTreeSet::from([messages[0].id, messages[2].id]),
            "{offset}"
        );
        assert_eq!(recovery.corrupt, 1);
        let aside = disk
            .files()
            .keys()
            .any(|path| path.starts_with("/spool/corrupt"));
        assert!(aside, "kept for whoever wants to look");
    }
}

#[test]
fn a_message_damaged_while_running_is_not_handed_out() {
    let (disk, ids) = (SimDisk::default(), IdGenerator::new([1; 10]));
    let (spool, _, mut writer) = open(&disk, SEGMENT_BYTES);
    let message = message(&ids, b"body");
    commit(&spool, &mut writer, vec![Record::Message(message.clone())]);
    let path = recover::segment_path(&directory(), 1);
    disk.damage(&path, disk.files()[&path].len() - 8);
    assert!(matches!(spool.read(message.id), Err(ReadError::Damaged(_))));
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
fn a_damaged_segment_header_costs_no_message() {
    let disk = SimDisk::default();
    drop(two_segments(&disk));
    for offset in 0..SEGMENT_HEADER {
        for segment in 1..=2 {
            let disk = disk.copy();
            disk.damage(&recover::segment_path(&directory(), segment), offset);
            let rig = Rig::on(&disk).restart();
            assert_eq!(rig.queued(), [1, 2], "byte {offset} of segment {segment}");
        }
    }
}

#[test]
fn an_envelope_is_told_from_a_damaged_one_whatever_became_of_the_content() {
    let disk = SimDisk::default();
    let mut rig = Rig::on(&disk);
    let whole = numbered(1, b"body");
    assert!(rig.store(vec![Record::Message(whole.clone())]));
    let alone = Message {
        headers: Bytes::new(),
        body: Bytes::new(),
        ..whole.clone()
    };
    let record = SEGMENT_HEADER + GROUP_HEADER;
    let payload = record + RECORD_HEADER;
    let content = payload + 4 + envelope_bytes(&whole) + 4;
    let end = content + whole.headers.len() + whole.body.len();
    for offset in record..end {
        disk.damage(&first(), offset);
        let read = rig.spool.read(id(1));
        assert!(matches!(read, Err(ReadError::Damaged(_))), "{offset}");
        let envelope = rig.spool.read_envelope(id(1));
        if (payload..content).contains(&offset) {
            assert!(matches!(envelope, Err(ReadError::Damaged(_))), "{offset}");
        } else {
            assert_eq!(envelope.unwrap(), alone, "{offset}");
        }
        disk.damage(&first(), offset);
    }
    assert_eq!(rig.spool.read(id(1)).unwrap(), whole);
}

#[test]
fn the_envelope_of_a_message_that_was_moved_or_found_again_is_known_too() {
    let disk = SimDisk::default();
    let mut rig = Rig::filled(&disk, 1..=60);
    for number in 2..=60 {
        submit(&rig.spool, vec![Record::Done(id(number))]);
    }
    rig.settle();
    assert!(!disk.files().contains_key(&first()), "it was moved");
    let moved = rig.spool.read_envelope(id(1)).unwrap();
    let rig = rig.restart();
    assert_eq!(rig.spool.read_envelope(id(1)).unwrap(), moved);
}

#[test]
fn an_unreadable_message_is_kept_aside_and_counted_before_it_may_go() {
    let disk = SimDisk::default();
    let mut rig = two_segments(&disk);
    disk.damage(&first(), 150);
    for fault in [
        Fault::Create,
        Fault::Write,
        Fault::Sync,
        Fault::SyncDirectory,
    ] {
        disk.fail(fault, 1);
        assert!(rig.spool.set_aside(id(1)).is_err(), "{fault:?}");
        assert_eq!(rig.spool.health().corrupt, 0, "{fault:?}");
    }
    rig.spool.set_aside(id(1)).unwrap();
    assert_eq!(rig.spool.health().corrupt, 1);
    let segment = disk.files()[&first()].clone();
    let record = &segment[SEGMENT_HEADER + GROUP_HEADER..segment.len() - END_MARK];
    assert_eq!(aside(&disk), [record]);
    assert!(rig.store(vec![Record::Done(id(1))]));
    assert!(!disk.files().contains_key(&first()));
    let rig = rig.power_cut();
    assert_eq!(rig.queued(), vec![2]);
    assert_eq!(rig.recovery.corrupt, 1, "it still lies there");
    assert_eq!(aside(&disk).len(), 1);
}

#[test]
fn what_the_disk_does_not_give_back_is_zero_in_the_copy() {
    let disk = SimDisk::default();
    let mut rig = Rig::on(&disk);
    assert!(rig.store(vec![Record::Message(numbered(1, &[b'x'; 10_000]))]));
    disk.fail(Fault::Read, 1);
    assert!(matches!(rig.spool.read(id(1)), Err(ReadError::Io(_))));
    assert!(rig.spool.read(id(1)).is_ok(), "another time it may");
    disk.fail(Fault::Read, u32::MAX);
    rig.spool.set_aside(id(1)).unwrap();
    let copies = aside(&disk);
    assert_eq!(copies.len(), 1);
    assert!(copies[0].len() > 10_000 && copies[0].iter().all(|byte| *byte == 0));
}

/// The header of the next segment says how far one was durable: what is not there, was.
#[test]
fn durable_bytes_that_are_gone_are_counted_once() {
    type Loss<'a> = (&'a dyn Fn(&SimDisk), &'a [u128], &'a str);
    let full = SimDisk::default();
    let mut rig = Rig::filled(&full, 1..=1);
    let kept = full.files()[&first()].len();
    assert!(rig.store(vec![put(2)]));
    rig = rig.restart();
    assert!(rig.store(vec![put(3)]));
    rig = rig.restart();
    assert!(rig.store(vec![put(4)]));
    drop(rig);
    let middle = recover::segment_path(&directory(), 2);
    let losses: [Loss<'_>; 3] = [
        (
            &|disk| disk.cut(&first(), kept),
            &[1, 3, 4],
            "a shorter segment",
        ),
        (&|disk| disk.blank(&first(), kept), &[1, 3, 4], "zeros"),
        (
            &|disk| disk.remove(&middle).unwrap(),
            &[1, 2, 4],
            "no segment",
        ),
    ];
    for (lose, left, what) in losses {
        let disk = full.copy();
        forget_hints(&disk);
        lose(&disk);
        let mut rig = Rig::on(&disk);
        for _ in 0..3 {
            assert_eq!(
                (rig.queued(), rig.recovery.corrupt),
                (left.to_vec(), 1),
                "{what}"
            );
            let note = String::from_utf8(aside(&disk).remove(0)).unwrap();
            assert!(note.contains("missing"), "{what}: {note}");
            rig = rig.restart();
        }
    }
}

#[test]
fn a_damaged_end_that_was_cut_is_not_counted_again() {
    let disk = SimDisk::default();
    drop(two_segments(&disk));
    disk.damage(&first(), 150);
    let mut rig = Rig::on(&disk);
    for _ in 0..3 {
        assert_eq!((rig.queued(), rig.recovery.corrupt), (vec![2], 1));
        rig = rig.restart();
    }
}
