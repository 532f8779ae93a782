//! On a full disk the queue empties, nothing promised is lost, and all goes on by itself once there is room.

use super::*;

/// Finishes a message.
fn done(number: u128) -> Vec<Record> {
    vec![Record::Done(id(number))]
}

/// Finishes a message with a bounce of so many bytes, whose number is that of the message and 1000.
fn bounced(number: u128, bytes: usize) -> Vec<Record> {
    let bounce = numbered(number + 1000, &vec![b'b'; bytes]);
    vec![Record::Message(bounce), Record::Done(id(number))]
}

impl Rig {
    /// Ends in order, and starts again.
    fn end_and_start(self) -> Self {
        let Self {
            disk,
            spool,
            writer,
            ..
        } = self;
        spool.close();
        writer.run();
        drop(spool);
        Self::on(&disk)
    }

    fn segments(&self) -> usize {
        let files = self.disk.files().into_keys();
        let is_segment = |path: &PathBuf| path.extension().is_some_and(|one| one == "seg");
        files.filter(is_segment).count()
    }
}

#[test]
fn outcomes_are_stored_when_mail_finds_no_room() {
    let disk = SimDisk::default();
    let mut rig = Rig::filled(&disk, 1..=20);
    disk.fill();
    let mut number = 21;
    // What room the active segment has left is taken first.
    while rig.store(vec![put(number)]) {
        number += 1;
    }
    assert_eq!(rig.spool.health().failure, Some(Failure::DiskFull));
    for number in 1..=10 {
        assert!(rig.store(done(number)), "{number}");
    }
    let told = submit(&rig.spool, vec![put(900)]);
    assert!(rig.store(bounced(11, 100)), "with mail in its batch");
    let refused = told.lock().unwrap().clone();
    assert_eq!(refused, Some(Err(CommitError::DiskFull)));
    let expected: Vec<u128> = (12..number).chain([1011]).collect();
    rig = rig.power_cut();
    assert_eq!((rig.queued(), rig.recovery.corrupt), (expected, 0));
}

#[test]
fn a_start_on_a_full_disk_delivers_and_takes_mail_again_when_there_is_room() {
    let disk = SimDisk::default();
    let rig = Rig::filled(&disk, 1..=20);
    disk.fill();
    let mut rig = rig.restart();
    assert_eq!(rig.queued(), (1..=20).collect::<Vec<_>>());
    forget_hints(&disk);
    disk.fill();
    assert!(!rig.store(vec![Record::Message(numbered(21, &[b'x'; 9000]))]));
    for number in 1..=10 {
        assert!(rig.store(done(number)), "{number}");
    }
    assert_eq!(rig.spool.health().failure, Some(Failure::DiskFull));
    rig = rig.power_cut();
    assert_eq!(rig.queued(), (11..=20).collect::<Vec<_>>());
    disk.unbound();
    rig.writer.tick();
    assert!(rig.store(vec![put(21)]));
    assert_eq!(rig.spool.health().failure, None);
    disk.fill();
    assert!(!rig.store(vec![Record::Message(numbered(22, &[b'x'; 9000]))]));
    assert!(rig.store(done(11)), "another reserve was made");
    assert_eq!(rig.power_cut().queued(), (12..=21).collect::<Vec<_>>());
}

/// What is alive in the oldest segment is moved to what was set aside for outcomes, whoever else fills the disk meanwhile.
#[test]
fn a_full_disk_gives_back_what_is_waste_in_the_oldest_segment() {
    let disk = SimDisk::default();
    let mut rig = Rig::filled(&disk, 1..=30);
    rig.settle();
    forget_hints(&disk);
    disk.fill();
    assert!(!rig.store(vec![Record::Message(numbered(99, &[b'x'; 9000]))]));
    for number in 2..=30 {
        assert!(rig.store(done(number)), "{number}");
        // Somebody else takes whatever is given back, but for the bytes of one segment at the end.
        if number < 30 {
            disk.fill();
        }
    }
    rig.settle();
    assert!(!disk.files().contains_key(&first()), "message 1 was moved");
    assert_eq!(rig.power_cut().queued(), [1]);
}

/// Most of a disk that is full may be somebody else's: a start makes do with what it finds.
#[test]
fn less_is_set_aside_where_there_is_less_room() {
    let disk = SimDisk::default();
    drop(Rig::filled(&disk, 1..=20));
    let reserve = directory().join("reserve");
    let config = Config {
        directory: directory(),
        segment_bytes: 4 << 20,
        bytes_max: None,
        mode: Mode::default(),
    };
    let open = || Spool::open_on(Arc::new(disk.clone()), config.clone()).unwrap();
    let length = || disk.files().get(&reserve).map(Vec::len);
    disk.remove(&reserve).unwrap();
    disk.fill();
    disk.grow(200 << 10);
    let (spool, _, mut writer) = open();
    assert_eq!(length(), Some(128 << 10), "half of the usual");
    let told = submit(
        &spool,
        vec![Record::Message(numbered(99, &[b'x'; 400 << 10]))],
    );
    writer.step();
    assert!(!is_ok(&told));
    for number in 1..=20 {
        commit(&spool, &mut writer, done(number));
    }
    disk.unbound();
    writer.tick();
    drop((spool, writer));
    let _open = open();
    assert_eq!(length(), Some(1 << 20), "there is room again");
}

/// The segment is written over itself: what a failed flush had left in memory only is durable then.
#[test]
fn what_a_start_on_a_full_disk_relies_on_is_durable() {
    let disk = SimDisk::default();
    let mut rig = Rig::filled(&disk, 1..=1).restart();
    assert!(rig.store(done(99)));
    for fault in [
        crate::sim::Fault::Sync,
        crate::sim::Fault::Truncate,
        crate::sim::Fault::Remove,
    ] {
        disk.fail(fault, 1);
    }
    assert!(!rig.store(bounced(1, 100)));
    disk.mend();
    disk.fill();
    rig = rig.restart();
    assert_eq!(rig.queued(), [1001]);
    assert!(rig.store(done(77)));
    assert!(!disk.files().contains_key(&first()));
    assert_eq!(rig.power_cut().queued(), [1001]);
}

#[test]
fn after_an_orderly_end_nothing_is_copied() {
    let disk = SimDisk::default();
    let mut rig = Rig::filled(&disk, 1..=3);
    for _ in 0..3 {
        rig = rig.end_and_start();
        let segments = rig.segments();
        rig = rig.power_cut();
        // A copy would be written.
        disk.fail(crate::sim::Fault::Write, 1);
        rig = rig.restart();
        disk.mend();
        assert_eq!((rig.queued(), rig.segments()), (vec![1, 2, 3], segments));
    }
    assert!(rig.store(vec![put(4)]));
    assert_eq!(rig.power_cut().queued(), [1, 2, 3, 4]);
}

#[test]
fn mail_that_finds_no_room_leaves_no_files() {
    let disk = SimDisk::default();
    let mut rig = Rig::filled(&disk, 1..=20);
    disk.fill();
    let segments = rig.segments();
    for number in 1..=100 {
        let large = numbered(number + 100, &[b'x'; 9000]);
        assert!(!rig.store(vec![Record::Message(large)]));
        // Of a message that is gone already: no room comes back.
        assert!(rig.store(done(number + 1000)));
    }
    assert!(rig.segments() <= segments + 1, "one for outcomes");
}

#[test]
fn a_large_bounce_does_not_hold_up_the_others() {
    let disk = SimDisk::default();
    let mut rig = Rig::filled(&disk, 1..=3);
    disk.fill();
    let large = submit(&rig.spool, bounced(1, 100 << 10));
    let small = submit(&rig.spool, bounced(2, 100));
    assert!(rig.store(done(3)));
    assert!(is_ok(&small) && !is_ok(&large));
    let segments = rig.segments();
    for _ in 0..10 {
        rig.writer.tick();
        assert!(!rig.store(bounced(1, 100 << 10)));
    }
    assert_eq!(rig.segments(), segments, "no reserve is spent on it");
    disk.unbound();
    assert!(rig.power_cut().store(bounced(1, 100 << 10)));
}

#[test]
fn outcomes_beyond_the_reserve_wait_until_there_is_room() {
    let disk = SimDisk::default();
    let mut rig = Rig::filled(&disk, 1..=5);
    disk.fill();
    // One message stays, so that no segment goes.
    for round in 0.. {
        let attempt = attempt(id(1), vec![(1, RecipientResult::Deferred); 100]);
        if !rig.store(vec![Record::Attempt(attempt)]) {
            assert!(round > 60, "{round}");
            break;
        }
    }
    assert!(rig.store(done(2)), "a shorter one fits still");
    disk.unbound();
    rig.writer.tick();
    assert!(rig.store(done(3)));
    assert_eq!(rig.spool.health().failure, None);
    assert_eq!(rig.power_cut().queued(), [1, 4, 5]);
}

/// The disk fills at any moment of a life: mail may be refused, outcomes may not, and no promise is broken.
#[test]
fn wherever_the_disk_fills_outcomes_are_stored() {
    for operation in 0..60 {
        let disk = SimDisk::default();
        let mut rig = Rig::filled(&disk, 1..=15);
        disk.fill_in(operation);
        let mut expected = BTreeSet::from_iter(1..=15);
        for number in 1..=14 {
            let mail = submit(&rig.spool, vec![put(number + 100)]);
            // A full disk may take one flush to be known; whoever delivers offers an outcome again.
            assert!(
                rig.store(done(number)) || rig.store(done(number)),
                "{operation}, {number}"
            );
            expected.remove(&number);
            if is_ok(&mail) {
                expected.insert(number + 100);
            }
        }
        let rig = rig.power_cut();
        assert_eq!(BTreeSet::from_iter(rig.queued()), expected, "{operation}");
        assert_eq!(rig.recovery.corrupt, 0, "{operation}");
    }
}

/// The disk fills at any moment of a start: that start may fail, the next one does not.
#[test]
fn wherever_the_disk_fills_in_a_start_nothing_is_lost() {
    for operation in 0..12 {
        let disk = SimDisk::default();
        drop(Rig::filled(&disk, 1..=15));
        disk.fill_in(operation);
        drop(Rig::try_on(&disk));
        disk.mend();
        let mut rig = Rig::on(&disk);
        assert_eq!(rig.queued(), (1..=15).collect::<Vec<_>>());
        if operation > 0 {
            assert!(rig.store(done(1)) || operation < 6, "{operation}");
        }
        assert_eq!(rig.power_cut().recovery.corrupt, 0);
    }
}

/// Bytes are free, but no file can be made: a quota, or no inode. Mail is refused, and so the disk counts as full.
#[test]
fn room_of_which_no_reserve_can_be_made_is_shown_as_none() {
    let disk = SimDisk::default();
    let mut rig = Rig::filled(&disk, 1..=5);
    disk.fill();
    assert!(!rig.store(vec![Record::Message(numbered(6, &[b'x'; 9000]))]));
    assert!(rig.store(done(1)));
    disk.unbound();
    disk.fail(crate::sim::Fault::Create, 1000);
    rig.writer.tick();
    assert!(!rig.store(vec![put(7)]));
    assert_eq!(rig.spool.health().failure, Some(Failure::DiskFull));
    disk.mend();
    rig.writer.tick();
    assert_eq!(rig.spool.health().failure, None);
    assert!(rig.store(vec![put(8)]));
    assert_eq!(rig.power_cut().queued(), [2, 3, 4, 5, 8]);
}
