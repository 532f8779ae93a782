//! What the offline tool finds is what a start would find, and more.

use std::path::Path;

use super::*;
use crate::format::{encode_group, mark_group};
use crate::offline::{Damaged, Error, Fault, Report, Segment, Volume};

/// Two segments: in the first messages 1 to 3, of which 2 is done and 1 was tried; 4 in the second.
fn spool() -> SimDisk {
    let disk = SimDisk::default();
    let mut rig = Rig::filled(&disk, 1..=3);
    let results = vec![(1, RecipientResult::Delivered)];
    assert!(rig.store(vec![Record::Attempt(attempt(id(1), results))]));
    assert!(rig.store(vec![Record::Done(id(2))]));
    let mut rig = rig.restart();
    assert!(rig.store(vec![put(4)]));
    drop(rig);
    disk
}

fn look(disk: &SimDisk) -> Volume {
    let before = disk.files();
    let volume = Volume::open_on(disk, &directory()).unwrap();
    assert_eq!(disk.files(), before, "nothing is written");
    volume
}

fn expected(disk: &SimDisk) -> Report {
    let length = |sequence| {
        let files = disk.files();
        files[&recover::segment_path(&directory(), sequence)].len() as u64
    };
    let segments = vec![
        Segment {
            sequence: 1,
            bytes: length(1),
            groups: 5,
            messages: 3,
            attempts: 1,
            done: 1,
            ..Segment::default()
        },
        Segment {
            sequence: 2,
            bytes: length(2),
            groups: 1,
            messages: 1,
            ..Segment::default()
        },
    ];
    Report {
        segments,
        ..Report::default()
    }
}

#[test]
fn an_intact_spool_is_found_as_a_start_would_find_it() {
    let disk = spool();
    let volume = look(&disk);
    assert_eq!(volume.report(), &expected(&disk));
    assert!(volume.report().is_intact());
    let rig = Rig::on(&disk.copy());
    let (found, started) = (volume.queue().iter(), rig.recovery.queued.iter());
    assert!(found.eq(started));
    for number in [1, 3, 4] {
        let whole = rig.spool.read(id(number)).unwrap();
        assert_eq!(volume.read(id(number)).unwrap(), whole);
        let alone = rig.spool.read_envelope(id(number)).unwrap();
        assert_eq!(volume.read_envelope(id(number)).unwrap(), alone);
    }
    assert!(matches!(volume.read(id(2)), Err(ReadError::Unknown)));
}

#[test]
fn a_spool_in_use_can_be_looked_at() {
    let disk = spool();
    let rig = Rig::on(&disk);
    assert_eq!(look(&disk).queue().len(), 3);
    drop(rig);
}

/// Hints hide it from a start; a crash does not explain it.
#[test]
fn damage_is_told_by_segment_and_place() {
    type Harm<'a> = (&'a dyn Fn(&SimDisk), &'a [Damaged], usize);
    let whole = spool();
    let end = whole.files()[&first()].len();
    let record = whole.files()[&first()]
        .windows(4)
        .skip(60)
        .position(|four| four == b"GRP1");
    let second = (record.unwrap() + 60) as u64;
    let damaged = |start, end, fault| [Damaged { start, end, fault }];
    let header = damaged(0, 48, Fault::Header);
    let unreadable = damaged(48, second, Fault::Unreadable);
    let missing = damaged(second, end as u64, Fault::Missing);
    let harms: [Harm<'_>; 3] = [
        (&|disk| disk.damage(&first(), 20), &header, 3),
        (&|disk| disk.damage(&first(), 150), &unreadable, 2),
        (
            &|disk| disk.cut(&first(), usize::try_from(second).unwrap()),
            &missing,
            2,
        ),
    ];
    for (harm, damage, left) in harms {
        let disk = whole.copy();
        harm(&disk);
        let volume = look(&disk);
        assert_eq!(volume.report().segments[0].damage, damage);
        assert!(volume.report().segments[1].damage.is_empty());
        assert!(!volume.report().is_intact());
        assert_eq!(volume.queue().len(), left);
    }
}

#[test]
fn a_segment_that_is_gone_is_told() {
    let disk = spool();
    let mut rig = Rig::on(&disk);
    assert!(rig.store(vec![put(5)]));
    drop(rig);
    disk.remove(&recover::segment_path(&directory(), 2))
        .unwrap();
    let volume = look(&disk);
    assert_eq!(volume.report().gone, [2]);
    assert!(!volume.report().is_intact());
}

#[test]
fn what_a_crash_left_and_what_was_refused_is_no_damage() {
    let disk = spool();
    let path = recover::segment_path(&directory(), 2);
    let end = disk.files()[&path].len() as u64;
    disk.open(&path)
        .unwrap()
        .write_at(b"GRP1 and no more", end)
        .unwrap();
    let first_end = disk.files()[&first()].len() as u64;
    let mut refused = Vec::new();
    encode_group(&[put(9)], &mut refused);
    let mark: [u8; 8] = disk.files()[&first()][20..28].try_into().unwrap();
    mark_group(&mut refused, mark);
    let file = disk.open(&first()).unwrap();
    file.write_at(&refused, first_end).unwrap();
    let volume = look(&disk);
    assert!(volume.report().is_intact());
    let unfinished = |number: usize| volume.report().segments[number].unfinished_bytes;
    assert_eq!((unfinished(0), unfinished(1)), (refused.len() as u64, 16));
    assert_eq!(volume.queue().len(), 3);
}

#[test]
fn what_is_no_spool_is_refused() {
    let disk = SimDisk::default();
    disk.create_dir(&directory()).unwrap();
    let error = Volume::open_on(&disk, &directory()).unwrap_err();
    assert!(matches!(error, Error::NoSpool(_)), "{error}");
    let nowhere = Volume::open(Path::new("/nowhere")).unwrap_err();
    assert!(matches!(nowhere, Error::Read { .. }), "{nowhere}");
}

#[test]
fn a_spool_in_which_nothing_was_stored_is_empty() {
    let volume = tempfile::tempdir().unwrap();
    let queue = volume.path().join("queue");
    let config = Config {
        directory: queue.clone(),
        segment_bytes: SEGMENT,
        bytes_max: None,
        mode: Mode::default(),
    };
    let (spool, _, writer) = Spool::open(config).unwrap();
    let look = || {
        let found = Volume::open(&queue).unwrap();
        assert_eq!(*found.report(), Report::default());
        assert_eq!(found.queue().len(), 0);
    };
    look();
    spool.close();
    writer.run();
    look();
    let above = Volume::open(volume.path()).unwrap_err();
    assert!(matches!(above, Error::NoSpool(_)), "{above}");
}

/// On a real file system, where the directory cannot be written.
#[test]
fn a_read_only_copy_of_the_first_release_can_be_looked_at() {
    use std::os::unix::fs::PermissionsExt as _;

    let copy = tempfile::tempdir().unwrap();
    let old = Path::new(env!("CARGO_MANIFEST_DIR")).join("testdata/v1");
    for sequence in 1..=2 {
        let to = recover::segment_path(copy.path(), sequence);
        std::fs::copy(recover::segment_path(&old, sequence), &to).unwrap();
        std::fs::set_permissions(to, std::fs::Permissions::from_mode(0o400)).unwrap();
    }
    std::fs::set_permissions(copy.path(), std::fs::Permissions::from_mode(0o500)).unwrap();
    let volume = Volume::open(copy.path()).unwrap();
    assert!(volume.report().is_intact());
    let ids: Vec<MessageId> = volume.queue().iter().map(|queued| queued.id).collect();
    assert_eq!(ids, [id(1), id(2), id(5)]);
    assert_eq!(&volume.read(id(2)).unwrap().body[..], b"Second\r\n");
    std::fs::set_permissions(copy.path(), std::fs::Permissions::from_mode(0o700)).unwrap();
}
