//! What hints save, and that nothing rests on them.

use super::*;

/// Several segments with all kinds of records, each with a hint; nothing is to be copied by the next start.
fn hinted(disk: &SimDisk) -> Vec<PathBuf> {
    let mut rig = Rig::filled(disk, 1..=8);
    let mut report = everything(9);
    report.envelope.author = Author::Relay;
    for recipient in &mut report.envelope.recipients {
        recipient.notify = Some("NEVER".into());
    }
    assert!(rig.store(vec![Record::Message(report), put(10)]));
    assert!(rig.store(vec![Record::Attempt(Attempt {
        delay_notified: true,
        ..attempt(id(9), vec![(2, RecipientResult::Failed)])
    })]));
    for number in [2, 3] {
        assert!(rig.store(vec![Record::Done(id(number))]));
    }
    for number in 11..=24 {
        assert!(rig.store(vec![put(number)]));
    }
    rig.spool.close();
    rig.writer.run();
    hints(disk)
}

fn hints(disk: &SimDisk) -> Vec<PathBuf> {
    let files = disk.files().into_keys();
    files
        .filter(|path| path.extension().is_some_and(|one| one == "hint"))
        .collect()
}

fn found(rig: &Rig) -> Vec<Queued<'static>> {
    let queued = rig.recovery.queued.iter();
    queued.map(Queued::into_owned).collect()
}

#[test]
fn a_start_with_hints_finds_what_one_without_does() {
    let disk = SimDisk::default();
    assert!(hinted(&disk).len() >= 3);
    let bare = disk.copy();
    forget_hints(&bare);
    let (rig, bare) = (Rig::on(&disk), Rig::on(&bare));
    assert_eq!(rig.recovery.queued.len(), 22);
    assert_eq!(found(&rig), found(&bare));
    for queued in rig.recovery.queued.iter() {
        assert_eq!(
            rig.spool.read(queued.id).unwrap(),
            bare.spool.read(queued.id).unwrap()
        );
    }
    assert_eq!(rig.spool.health(), bare.spool.health());
    assert_eq!(hints(&rig.disk), hints(&bare.disk), "written anew");
}

#[test]
fn a_hint_that_is_damaged_or_cut_anywhere_is_ignored_and_written_anew() {
    let disk = SimDisk::default();
    let hint = hinted(&disk).remove(0);
    let expected = found(&Rig::on(&disk.copy()));
    let whole = disk.files()[&hint].clone();
    for offset in 0..whole.len() {
        let (damaged, cut) = (disk.copy(), disk.copy());
        damaged.damage(&hint, offset);
        cut.cut(&hint, offset);
        for disk in [damaged, cut] {
            assert_eq!(found(&Rig::on(&disk)), expected, "{offset}");
            assert_eq!(disk.files()[&hint], whole, "{offset}");
        }
    }
}

#[test]
fn a_hint_of_something_else_is_ignored() {
    let disk = SimDisk::default();
    let hints = hinted(&disk);
    let expected = found(&Rig::on(&disk.copy()));
    let files = disk.files();
    for other in &hints[1..] {
        let disk = disk.copy();
        disk.open(&hints[0])
            .unwrap()
            .write_at(&files[other], 0)
            .unwrap();
        assert_eq!(found(&Rig::on(&disk)), expected, "of another segment");
    }
    // The same segment, but shorter: the message that is gone must not be queued.
    disk.cut(&first(), files[&first()].len() - 10);
    let rig = Rig::on(&disk);
    assert!(found(&rig).len() < expected.len());
    assert_eq!(rig.recovery.corrupt, 1);
}

#[test]
fn what_a_hint_hides_is_noticed_when_it_is_read() {
    let disk = SimDisk::default();
    hinted(&disk);
    disk.damage(&first(), 200);
    let rig = Rig::on(&disk);
    assert_eq!(rig.recovery.corrupt, 0, "only the hint was read");
    assert!(matches!(rig.spool.read(id(1)), Err(ReadError::Damaged(_))));
    rig.spool.set_aside(id(1)).unwrap();
    assert_eq!(rig.spool.health().corrupt, 1);
}

#[test]
fn a_hint_goes_with_its_segment_and_one_without_a_segment_at_the_start() {
    let disk = SimDisk::default();
    hinted(&disk);
    let stray = directory().join("00000000000000ff.hint");
    disk.create(&stray, 0).unwrap();
    let mut rig = Rig::on(&disk);
    assert!(!disk.files().contains_key(&stray));
    for number in 1..=24 {
        rig.store(vec![Record::Done(id(number))]);
    }
    rig.settle();
    let rig = rig.power_cut();
    assert!(rig.queued().is_empty());
    assert!(hints(&disk).len() <= rig.recovery.segments);
}

#[test]
fn a_nearly_full_disk_has_no_room_for_hints() {
    let disk = SimDisk::default();
    hinted(&disk);
    forget_hints(&disk);
    disk.fill();
    drop(Rig::on(&disk));
    assert_eq!(hints(&disk), [] as [PathBuf; 0]);
}

#[test]
fn hints_count_as_bytes_on_disk() {
    let disk = SimDisk::default();
    let hints = hinted(&disk);
    let files = disk.files();
    let bytes: usize = hints.iter().map(|hint| files[hint].len()).sum();
    let with = Rig::on(&disk).spool.health().disk_bytes;
    disk.fill();
    forget_hints(&disk);
    disk.fill();
    let without = Rig::on(&disk).spool.health().disk_bytes;
    assert_eq!(with, without + bytes as u64);
}
