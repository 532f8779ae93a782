//! A spool that the first release wrote, in format 1, is read exactly.
//!
//! `testdata/v1` was written by it: two segments, as a process left them that was killed. Message 3 and 4 are done, 4 with a
//! bounce in the same group; 1 was tried once and is settled for its second recipient, 2 was tried three times.

use std::path::Path;

use super::*;

fn old_spool() -> SimDisk {
    let disk = SimDisk::default();
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("testdata/v1");
    for sequence in 1..=2 {
        let bytes = std::fs::read(recover::segment_path(&directory, sequence)).unwrap();
        let file = disk.create(&recover::segment_path(&super::directory(), sequence), 0);
        let file = file.unwrap();
        file.write_at(&bytes, 0).unwrap();
        file.sync_data().unwrap();
    }
    disk.sync_dir(&super::directory()).unwrap();
    disk
}

/// What was written then.
fn messages() -> [Message; 3] {
    let mut first = numbered(1, b"First\r\n");
    first.envelope.sender = "one@example.com".into();
    let second = Message {
        id: id(2),
        arrival_ms: 2_000,
        envelope: Envelope {
            recipients: vec![Recipient {
                address: "Only@Example.NET".into(),
                ..Recipient::default()
            }],
            ..Envelope::default()
        },
        headers: Bytes::new(),
        body: Bytes::from_static(b"Second\r\n"),
    };
    let mut bounce = numbered(5, b"Bounce\r\n");
    bounce.envelope.sender = String::new();
    bounce.envelope.ret = Some(Ret::Full);
    [first, second, bounce]
}

fn queued(messages: &[Message; 3]) -> [Queued<'_>; 3] {
    let [first, second, bounce] = messages;
    [
        Queued {
            next_attempt_ms: 9_000,
            attempts: 1,
            settled: vec![1].into(),
            ..first.queued()
        },
        Queued {
            next_attempt_ms: 77_000,
            attempts: 3,
            ..second.queued()
        },
        bounce.queued(),
    ]
}

fn check(rig: &Rig) {
    let messages = messages();
    let found: Vec<Queued<'_>> = rig.recovery.queued.iter().collect();
    assert_eq!(found, queued(&messages));
    let recovery = &rig.recovery;
    assert_eq!((recovery.corrupt, recovery.truncated_bytes), (0, 0));
    for message in messages {
        assert_eq!(rig.spool.read(message.id).unwrap(), message);
        let alone = Message {
            headers: Bytes::new(),
            body: Bytes::new(),
            ..message
        };
        assert_eq!(rig.spool.read_envelope(alone.id).unwrap(), alone);
    }
}

#[test]
fn a_spool_of_the_first_release_is_read_exactly() {
    check(&Rig::on(&old_spool()));
}

#[test]
fn what_is_moved_out_of_an_old_segment_is_the_same_in_the_new_format() {
    let disk = old_spool();
    let mut rig = Rig::on(&disk);
    for number in 100..160 {
        assert!(rig.store(vec![put(number)]));
    }
    for number in 100..160 {
        assert!(rig.store(vec![Record::Done(id(number))]));
    }
    rig.settle();
    assert!(!disk.files().contains_key(&first()), "it was moved");
    check(&rig.power_cut());
}

#[test]
fn the_first_release_would_refuse_what_is_written_now() {
    let mut rig = Rig::on(&old_spool());
    assert!(rig.store(vec![put(6)]));
    // It said so of every version but its own.
    for (path, bytes) in rig.disk.files() {
        if path.ends_with("0000000000000003.seg") {
            assert_eq!(bytes[8], 2);
            return;
        }
    }
    panic!("no new segment");
}
