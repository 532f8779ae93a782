//! A volume that is small, or full, takes mail for as long as there is room, and again when there is.

use super::*;

const VOLUME: u64 = 16 << 20;
const BODY: usize = 100 << 10;

impl Rig {
    /// On a volume, with segments of the usual size or what fits.
    fn on_volume(disk: &SimDisk, bytes_max: Option<u64>) -> Self {
        let config = Config {
            directory: directory(),
            segment_bytes: SEGMENT_BYTES,
            bytes_max,
            mode: Mode::default(),
        };
        let opened = Spool::open_on(Arc::new(disk.clone()), config).unwrap();
        let (spool, recovery, writer) = opened;
        Self {
            disk: disk.clone(),
            spool,
            writer,
            recovery,
        }
    }

    /// Stores messages for as long as there is room; returns their numbers.
    fn fill(&mut self, from: u128) -> std::ops::Range<u128> {
        let mut number = from;
        while self.spool.has_room(BODY as u64) {
            let message = numbered(number, &[b'x'; BODY]);
            assert!(self.store(vec![Record::Message(message)]));
            number += 1;
        }
        from..number
    }
}

#[test]
fn segments_are_a_small_part_of_the_volume() {
    for (volume, bytes_max, expected) in [
        (u64::MAX, None, SEGMENT_BYTES),
        (1 << 30, None, 32 << 20),
        (64 << 20, None, 2 << 20),
        (1 << 20, None, 1 << 20),
        (u64::MAX, Some(64 << 20), 2 << 20),
    ] {
        let rig = Rig::on_volume(&SimDisk::of_size(volume), bytes_max);
        assert_eq!(rig.spool.shared.room.segment_bytes, expected);
    }
}

#[test]
fn a_small_volume_is_filled_and_emptied_again_and_again() {
    let disk = SimDisk::of_size(VOLUME);
    let mut rig = Rig::on_volume(&disk, None);
    let mut next = 1;
    for _ in 0..3 {
        let stored = rig.fill(next);
        next = stored.end;
        let bytes = (stored.end - stored.start) * BODY as u128;
        assert!(bytes > u128::from(VOLUME) / 2, "{bytes} bytes fit");
        assert!(rig.spool.health().disk_full);
        for number in stored {
            assert!(rig.store(vec![Record::Done(id(number))]));
        }
        rig.settle();
        assert!(!rig.spool.health().disk_full);
    }
}

/// Each attempt is waste as soon as the next one is recorded: without compaction they would fill the reserve, and no
/// outcome could be stored any more.
#[test]
fn what_becomes_of_mail_always_fits_on_a_disk_that_is_full_of_it() {
    let disk = SimDisk::of_size(VOLUME);
    let mut rig = Rig::on_volume(&disk, None);
    let stored = rig.fill(1);
    for round in 0..400 {
        for number in stored.clone() {
            let attempt = attempt(id(number), vec![(0, RecipientResult::Deferred)]);
            assert!(rig.store(vec![Record::Attempt(attempt)]), "{round}");
        }
    }
    rig.settle();
    let mut rig = rig.restart();
    assert_eq!(rig.queued(), stored.clone().collect::<Vec<_>>());
    for number in stored {
        assert!(rig.store(vec![Record::Done(id(number))]));
    }
}

#[test]
fn a_spool_with_a_bound_of_its_own_stays_below_it() {
    let disk = SimDisk::default();
    let mut rig = Rig::on_volume(&disk, Some(VOLUME));
    let stored = rig.fill(1);
    let used = || disk.files().values().map(Vec::len).sum::<usize>() as u64;
    assert!((VOLUME / 2..VOLUME).contains(&used()), "{}", used());
    assert!(rig.spool.health().disk_full);
    for number in stored {
        assert!(rig.store(vec![Record::Done(id(number))]));
        assert!(used() < VOLUME);
    }
    rig.settle();
    assert!(rig.spool.has_room(BODY as u64));
}

#[test]
fn a_volume_that_others_fill_takes_mail_again_once_it_is_larger() {
    let disk = SimDisk::of_size(VOLUME);
    let rig = Rig::on_volume(&disk, None);
    assert!(rig.spool.has_room(0));
    disk.resize(1 << 20);
    rig.spool.measure();
    assert!(rig.spool.health().disk_full);
    disk.resize(VOLUME);
    rig.spool.measure();
    assert!(rig.spool.has_room(0));
}

#[test]
fn what_waits_for_the_writer_counts() {
    let disk = SimDisk::of_size(VOLUME);
    let rig = Rig::on_volume(&disk, None);
    let large = numbered(1, &vec![b'x'; 14 << 20]);
    let _told = submit(&rig.spool, vec![Record::Message(large)]);
    assert!(!rig.spool.has_room(0) && rig.spool.is_full());
}
