//! The bytes on disk.

use super::*;
use crate::format::SEGMENT_HEADER;

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
    header[8] = 2;
    let crc = crc32fast::hash(&header[..44]);
    header[44..].copy_from_slice(&crc.to_le_bytes());
    file.write_at(&header, 0).unwrap();
    let before = disk.files();
    let config = Config {
        directory: directory(),
        segment_bytes: SEGMENT_BYTES,
        bytes_max: None,
    };
    let error = Spool::open_on(Arc::new(disk.clone()), config).unwrap_err();
    assert!(
        std::error::Error::source(&error)
            .unwrap()
            .to_string()
            .contains("format 2")
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
    let message = message(&ids, b"Hi\r\n");
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
    assert_eq!(lines.join("\n"), include_str!("format-1.hex").trim_end());
}
