//! The bytes on disk.

use proptest::option;
use proptest::prelude::*;
use proptest::sample::select;

use super::*;
use crate::format::{
    Durable, GROUP_HEADER, HintOf, RECORD_HEADER, SEGMENT_HEADER, SegmentHeader, Version,
    encode_group, encode_hint, mark_group, parse_attempt, parse_hint, parse_message, parse_queued,
    record_bytes, seal_hint,
};
use crate::scan::{Found, Piece, Scanner};

#[test]
fn a_spool_of_another_format_is_refused_and_left_alone() {
    let (disk, ids) = (SimDisk::default(), IdGenerator::new([1; 10]));
    let (spool, _, mut writer) = open(&disk, SEGMENT_BYTES);
    commit(
        &spool,
        &mut writer,
        vec![Record::Message(message(&ids, b"x"))],
    );
    crash(&disk);
    let path = recover::segment_path(&directory(), 1);
    let file = disk.open(&path).unwrap();
    let mut header = disk.files()[&path][..SEGMENT_HEADER].to_vec();
    header[8] = 3;
    let crc = crc32fast::hash(&header[..44]);
    header[44..].copy_from_slice(&crc.to_le_bytes());
    file.write_at(&header, 0).unwrap();
    let before = disk.files();
    let config = Config {
        directory: directory(),
        segment_bytes: SEGMENT_BYTES,
        bytes_max: None,
        mode: Mode::default(),
    };
    let error = Spool::open_on(Arc::new(disk.clone()), config)
        .err()
        .unwrap();
    assert!(
        std::error::Error::source(&error)
            .unwrap()
            .to_string()
            .contains("format 3")
    );
    assert_eq!(disk.files(), before);
}

/// Replies were written once: what they are about is what counts.
#[test]
fn attempts_with_replies_can_still_be_read() {
    let disk = SimDisk::default();
    let lines = include_str!("format-1-replies.hex").lines();
    let hex: String = lines.collect();
    let byte = |at| u8::from_str_radix(&hex[at..at + 2], 16).unwrap();
    let bytes: Vec<u8> = (0..hex.len()).step_by(2).map(byte).collect();
    let file = disk.create(&recover::segment_path(&directory(), 1), 0);
    file.unwrap().write_at(&bytes, 0).unwrap();
    let (_, recovery, _) = open(&disk, SEGMENT_BYTES);
    assert_eq!((recovery.corrupt, recovery.truncated_bytes), (0, 0));
    assert!(recovery.queued.is_empty(), "the same group finishes it");
}

/// A change of the format must be noticed: other releases read these bytes.
#[test]
fn the_bytes_on_disk_are_these() {
    let (disk, ids) = (SimDisk::default(), IdGenerator::new([2; 10]));
    let (spool, _, mut writer) = open(&disk, SEGMENT_BYTES);
    let message = Message {
        id: message(&ids, b"").id,
        ..everything(1)
    };
    let delivered = (0, RecipientResult::Delivered);
    let records = vec![
        Record::Message(message.clone()),
        Record::Attempt(attempt(message.id, vec![delivered])),
        Record::Done(message.id),
    ];
    commit(&spool, &mut writer, records);
    let bytes = &disk.files()[&recover::segment_path(&directory(), 1)];
    let hex: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
    let lines: Vec<&str> = hex
        .as_bytes()
        .chunks(64)
        .map(|line| std::str::from_utf8(line).unwrap())
        .collect();
    assert_eq!(lines.join("\n"), include_str!("format-2.hex").trim_end());
}

/// Bits that were free are the only way to tell more of a message in the same format.
#[test]
fn that_the_relay_has_written_a_message_is_bit_7_of_its_flags() {
    let bytes = |author| {
        let mut message = everything(1);
        message.envelope.author = author;
        let mut bytes = Vec::new();
        encode_group(&[Record::Message(message)], &mut bytes);
        bytes
    };
    let (submitted, report) = (bytes(Author::Submitter), bytes(Author::Relay));
    let record = GROUP_HEADER;
    let flags = record + RECORD_HEADER + 4 + 16 + 8;
    assert_eq!(submitted[flags] | 1 << 7, report[flags]);
    assert_eq!(submitted[flags] & 1 << 7, 0);
    let differ = submitted.iter().zip(&report);
    let differ = differ.filter(|(one, other)| one != other).count();
    // The checksums of the envelope and of the record too.
    assert!(differ > 1 && differ <= 1 + 4 + 4, "{differ}");
}

fn text() -> impl Strategy<Value = String> {
    "[a-zA-Z0-9@.é\u{0}]{0,20}"
}

prop_compose! {
    fn recipients()(
        addresses in proptest::collection::vec((text(), option::of(text()), option::of(text())), 0..5)
    ) -> Vec<Recipient> {
        let recipient = |(address, notify, orcpt)| Recipient { address, notify, orcpt };
        addresses.into_iter().map(recipient).collect()
    }
}

prop_compose! {
    fn terms()(
        body in select(&[BodyType::SevenBit, BodyType::EightBitMime, BodyType::BinaryMime]),
        author in select(&[Author::Submitter, Author::Relay]),
        tls in select(&[TlsDemand::Default, TlsDemand::Required, TlsDemand::Optional]),
        ret in select(&[None, Some(Ret::Full), Some(Ret::Headers)]),
        deadline in option::of((any::<u64>(), any::<bool>(), any::<bool>())),
        (smtputf8, not_before_ms, priority) in (any::<bool>(), any::<u64>(), any::<i8>()),
    ) -> Envelope {
        let deliver_by = deadline.map(|(deadline_ms, notify, trace)| DeliverBy {
            deadline_ms,
            on_expiry: if notify { ByMode::Notify } else { ByMode::Return },
            trace,
        });
        Envelope { body, author, tls, ret, deliver_by, smtputf8, not_before_ms, priority, ..Envelope::default() }
    }
}

prop_compose! {
    fn messages()(
        (number, arrival_ms) in (any::<u128>(), any::<u64>()),
        terms in terms(),
        (sender, credential, envid) in (text(), text(), option::of(text())),
        recipients in recipients(),
        (headers, body) in (any::<Vec<u8>>(), any::<Vec<u8>>()),
    ) -> Message {
        Message {
            id: id(number),
            arrival_ms,
            envelope: Envelope { sender, credential, envid, recipients, ..terms },
            headers: headers.into(),
            body: body.into(),
        }
    }
}

prop_compose! {
    fn attempts()(
        number in any::<u128>(),
        (next_attempt_ms, attempts, delay_notified) in (any::<u64>(), any::<u32>(), any::<bool>()),
        results in proptest::collection::vec((any::<u32>(), select(RESULTS)), 0..5),
    ) -> Attempt {
        Attempt { id: id(number), next_attempt_ms, attempts, delay_notified, results }
    }
}

const RESULTS: &[RecipientResult] = &[
    RecipientResult::Deferred,
    RecipientResult::Delivered,
    RecipientResult::Failed,
];

fn records() -> impl Strategy<Value = Vec<Record>> {
    let one = prop_oneof![
        messages().prop_map(Record::Message),
        attempts().prop_map(Record::Attempt),
        any::<u128>().prop_map(|number| Record::Done(id(number))),
    ];
    proptest::collection::vec(one, 1..6)
}

/// A segment of one group on a disk of its own.
fn segment(records: &[Record]) -> SimDisk {
    let disk = SimDisk::default();
    let header = SegmentHeader {
        sequence: 1,
        mark: [7; 8],
        before: Durable::default(),
    };
    let mut bytes = header.to_bytes().to_vec();
    let places = encode_group(records, &mut bytes);
    let lengths = places.iter().map(|place| u64::from(place.length));
    assert!(records.iter().map(record_bytes).eq(lengths));
    mark_group(&mut bytes[SEGMENT_HEADER..], [7; 8]);
    let file = disk.create(&first(), 0).unwrap();
    file.write_at(&bytes, 0).unwrap();
    disk
}

fn scan(disk: &SimDisk) -> Vec<Piece> {
    let file = disk.open(&first()).unwrap();
    let mut scanner = Scanner::new(file.as_ref(), 1, Some([7; 8])).unwrap();
    std::iter::from_fn(|| scanner.next().unwrap()).collect()
}

proptest! {
    #[test]
    fn what_is_written_is_read(records in records()) {
        let disk = segment(&records);
        let file = disk.open(&first()).unwrap();
        let [Piece::Group(found)] = &scan(&disk)[..] else { panic!("no group") };
        prop_assert_eq!(found.len(), records.len());
        for (found, record) in found.iter().zip(&records) {
            match (found, record) {
                (Found::Message(queued, place), Record::Message(message)) => {
                    prop_assert_eq!(queued, &message.queued());
                    prop_assert_eq!(&read::read_message(file.as_ref(), *place).unwrap(), message);
                    let alone = Message { headers: Bytes::new(), body: Bytes::new(), ..message.clone() };
                    prop_assert_eq!(read::read_envelope(file.as_ref(), *place).unwrap(), alone);
                }
                (Found::Attempt(found), Record::Attempt(attempt)) => prop_assert_eq!(found, attempt),
                (Found::Done(found), Record::Done(id)) => prop_assert_eq!(found, id),
                (found, record) => panic!("{record:?} became {found:?}"),
            }
        }
    }

    #[test]
    fn a_hint_says_what_was_written(records in records(), cut in any::<prop::sample::Index>()) {
        let [Piece::Group(found)] = &scan(&segment(&records))[..] else { panic!("no group") };
        let (of, mut bytes) = (HintOf { sequence: 1, mark: [7; 8], end: 99 }, Vec::new());
        for one in found {
            encode_hint(one, &mut bytes);
        }
        seal_hint(of, &mut bytes);
        prop_assert_eq!(&parse_hint(&bytes, of).unwrap(), found);
        prop_assert_eq!(parse_hint(&bytes, HintOf { end: 98, ..of }), None);
        prop_assert_eq!(parse_hint(&bytes[..cut.index(bytes.len())], of), None);
    }

    #[test]
    fn no_changed_byte_goes_unnoticed(records in records(), at in any::<prop::sample::Index>()) {
        let disk = segment(&records);
        let length = disk.files()[&first()].len();
        disk.damage(&first(), SEGMENT_HEADER + at.index(length - SEGMENT_HEADER));
        prop_assert!(!scan(&disk).iter().any(|piece| matches!(piece, Piece::Group(_))));
    }

    /// Whatever the checksums say: nothing read from a disk may end the program.
    #[test]
    fn no_bytes_are_too_strange(bytes in any::<Vec<u8>>(), version in select(&[Version::One, Version::Two])) {
        let _ = parse_queued(&bytes, version);
        let _ = parse_attempt(&bytes, version);
        let _ = parse_message(&Bytes::from(bytes.clone()), version);
        let _ = parse_hint(&bytes, HintOf { sequence: 0, mark: [0; 8], end: 0 });
    }
}
