//! What is over a bound is refused.

use super::*;
use crate::format::{ENVELOPE_MAX, envelope_bytes};

#[test]
fn only_one_process_has_the_spool() {
    let disk = SimDisk::default();
    let _held = open(&disk, SEGMENT_BYTES);
    let config = Config {
        directory: directory(),
        segment_bytes: SEGMENT_BYTES,
        bytes_max: None,
        mode: Mode::default(),
    };
    let second = Spool::open_on(Arc::new(disk), config);
    assert!(matches!(second, Err(Error::Locked { .. })));
}

#[test]
fn refuses_what_exceeds_its_bound_and_what_comes_after_the_end() {
    let (disk, ids) = (SimDisk::default(), IdGenerator::new([1; 10]));
    let (spool, _, mut writer) = open(&disk, SEGMENT_BYTES);
    let id = message(&ids, b"").id;
    for _ in 0..WAITING_GROUPS_MAX {
        spool.submit(vec![Record::Done(id)], drop).unwrap();
    }
    assert_eq!(
        spool.submit(vec![Record::Done(id)], drop),
        Err(SubmitError::Full)
    );
    while writer.step() {}
    spool.submit(vec![Record::Done(id)], drop).unwrap();
    spool.close();
    assert_eq!(
        spool.submit(vec![Record::Done(id)], drop),
        Err(SubmitError::Closed)
    );
    writer.run();
}

#[test]
fn what_could_not_be_read_back_is_not_taken() {
    let disk = SimDisk::default();
    let mut rig = Rig::on(&disk);
    let mut longest = numbered(1, b"x");
    longest.envelope.credential = String::new();
    let rest = envelope_bytes(&longest);
    longest.envelope.credential = "u".repeat(ENVELOPE_MAX - rest);
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
fn a_group_of_two_gigabytes_is_not_taken() {
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
    assert_eq!(rig.spool.submit(records(31), drop), Ok(()));
    assert_eq!(
        rig.spool.submit(records(32), drop),
        Err(SubmitError::TooLarge)
    );
}
