//! The spool: framing of records, commit, index, and the scan of a start.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use anyhow::{Context as _, ensure};
use bytes::Bytes;
use postroad_spool::{
    Config, Envelope, IdGenerator, Message, MessageId, Recipient, Record, SEGMENT_BYTES, Spool,
    Writer,
};

use crate::HotPath;
use crate::disk::Disk;

/// Milliseconds since the epoch; any will do.
const NOW_MS: u64 = 1_700_000_000_000;

/// Messages that are committed together, as with 50 sessions.
const GROUP: usize = 50;

pub(crate) fn hot_paths() -> Vec<HotPath> {
    vec![
        HotPath {
            name: "commit",
            unit: "message of 4 KiB in and out",
            times: 1_000,
            repeat: commit,
        },
        HotPath {
            name: "recover",
            unit: "start with 1000 of 4 KiB",
            times: 3,
            repeat: recover,
        },
    ]
}

fn open(disk: &Arc<Disk>) -> anyhow::Result<(Spool, usize, Writer)> {
    let config = Config {
        directory: "/spool".into(),
        segment_bytes: SEGMENT_BYTES,
        bytes_max: None,
        mode: postroad_spool::Mode::default(),
    };
    let (spool, recovery, writer) = Spool::open_on(Arc::clone(disk) as _, config)?;
    Ok((spool, recovery.queued.len(), writer))
}

fn message(ids: &IdGenerator, body: &Bytes) -> Message {
    let recipient = Recipient {
        address: "recipient@example.net".to_owned(),
        ..Recipient::default()
    };
    Message {
        id: ids.next(NOW_MS),
        arrival_ms: NOW_MS,
        envelope: Envelope {
            sender: "sender@example.com".to_owned(),
            recipients: vec![recipient],
            ..Envelope::default()
        },
        headers: Bytes::from_static(b"Received: from client.example.com by mail.example.com\r\n"),
        body: body.clone(),
    }
}

/// Submits a group and has it written; fails unless every record was stored.
fn store(spool: &Spool, writer: &mut Writer, records: Vec<Record>) -> anyhow::Result<()> {
    let count = records.len();
    let stored = Arc::new(AtomicUsize::new(0));
    for record in records {
        let stored = Arc::clone(&stored);
        spool.submit(vec![record], move |result| {
            stored.fetch_add(usize::from(result.is_ok()), Ordering::Relaxed);
        })?;
    }
    while stored.load(Ordering::Relaxed) < count && writer.step() {}
    ensure!(stored.load(Ordering::Relaxed) == count, "not stored");
    Ok(())
}

/// Messages come and, one group later, go.
fn commit(times: usize) -> anyhow::Result<()> {
    let disk = Arc::<Disk>::default();
    let (spool, _, mut writer) = open(&disk)?;
    let (ids, body) = (IdGenerator::new([7; 10]), Bytes::from(vec![b'x'; 4096]));
    let mut left = times;
    while left > 0 {
        let count = left.min(GROUP);
        left -= count;
        let messages: Vec<_> = (0..count).map(|_| message(&ids, &body)).collect();
        let done: Vec<MessageId> = messages.iter().map(|message| message.id).collect();
        let records = messages.into_iter().map(Record::Message).collect();
        store(&spool, &mut writer, records)?;
        store(
            &spool,
            &mut writer,
            done.into_iter().map(Record::Done).collect(),
        )?;
    }
    Ok(())
}

/// Starts that find the same messages again and again, as after a crash.
fn recover(times: usize) -> anyhow::Result<()> {
    const WAITING: usize = 1000;
    let disk = Arc::<Disk>::default();
    let (ids, body) = (IdGenerator::new([7; 10]), Bytes::from(vec![b'x'; 4096]));
    {
        let (spool, _, mut writer) = open(&disk)?;
        let records = (0..WAITING).map(|_| Record::Message(message(&ids, &body)));
        store(&spool, &mut writer, records.collect())?;
    }
    for _ in 0..times {
        let found = open(&disk).context("the start")?.1;
        ensure!(found == WAITING, "{found} of {WAITING} messages were found");
    }
    Ok(())
}
