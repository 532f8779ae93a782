//! Helpers of the tests, by theme in the files below.

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::sync::Mutex;

use bytes::Bytes;

use super::*;
use crate::sim::SimDisk;

mod bounds;
mod damage;
mod faults;
mod format;
mod full;
mod hints;
mod keeping;
mod offline;
mod property;
mod reclaiming;
mod relaxed;
mod space;
mod spares;
mod upgrade;
mod waiting;

type Told = Arc<Mutex<Option<Result<(), CommitError>>>>;

fn directory() -> PathBuf {
    PathBuf::from("/spool")
}

fn open(disk: &SimDisk, segment_bytes: u64) -> (Spool, Recovery, Writer) {
    open_in(disk, segment_bytes, Mode::default())
}

fn open_in(disk: &SimDisk, segment_bytes: u64, mode: Mode) -> (Spool, Recovery, Writer) {
    let config = Config {
        directory: directory(),
        segment_bytes,
        bytes_max: None,
        mode,
    };
    Spool::open_on(Arc::new(disk.clone()), config).unwrap()
}

fn message(ids: &IdGenerator, body: &[u8]) -> Message {
    Message {
        id: ids.next(1_000),
        arrival_ms: 1_000,
        envelope: Envelope {
            sender: "s@example.com".into(),
            recipients: vec![
                Recipient {
                    address: "a@example.org".into(),
                    notify: None,
                    orcpt: None,
                },
                Recipient {
                    address: "b@example.org".into(),
                    notify: Some("FAILURE".into()),
                    orcpt: Some("rfc822;b@example.org".into()),
                },
            ],
            body: BodyType::EightBitMime,
            smtputf8: true,
            credential: "app".into(),
            envid: Some("e".into()),
            ret: Some(Ret::Headers),
            ..Envelope::default()
        },
        headers: Bytes::from_static(b"Received: x\r\n"),
        body: Bytes::copy_from_slice(body),
    }
}

fn attempt(id: MessageId, results: Vec<(u32, RecipientResult)>) -> Attempt {
    Attempt {
        id,
        next_attempt_ms: 9_000,
        attempts: 1,
        delay_notified: false,
        results,
    }
}

fn submit(spool: &Spool, records: Vec<Record>) -> Told {
    let told = Told::default();
    let answer = Arc::clone(&told);
    spool
        .submit(records, move |result| {
            *answer.lock().unwrap() = Some(result)
        })
        .unwrap();
    told
}

fn is_ok(told: &Told) -> bool {
    matches!(*told.lock().unwrap(), Some(Ok(())))
}

/// Submits one group and commits it.
fn commit(spool: &Spool, writer: &mut Writer, records: Vec<Record>) {
    let told = submit(spool, records);
    writer.step();
    assert!(is_ok(&told));
}

fn queued_ids(recovery: &Recovery) -> BTreeSet<MessageId> {
    recovery.queued.iter().map(|queued| queued.id).collect()
}

/// Nothing that was not flushed survives.
fn crash(disk: &SimDisk) {
    disk.crash(|| 0.0);
}

/// Small enough that a dozen messages fill one.
const SEGMENT: u64 = 4096;

/// A spool on a simulated disk, with its writer in hand.
struct Rig {
    disk: SimDisk,
    spool: Spool,
    writer: Writer,
    recovery: Recovery,
}

impl Rig {
    fn on(disk: &SimDisk) -> Self {
        Self::try_on(disk).unwrap()
    }

    fn try_on(disk: &SimDisk) -> Result<Self, Error> {
        let config = Config {
            directory: directory(),
            segment_bytes: SEGMENT,
            bytes_max: None,
            mode: Mode::default(),
        };
        let (spool, recovery, writer) = Spool::open_on(Arc::new(disk.clone()), config)?;
        Ok(Self {
            disk: disk.clone(),
            spool,
            writer,
            recovery,
        })
    }

    /// Holds these messages, each in a batch of its own.
    fn filled(disk: &SimDisk, numbers: std::ops::RangeInclusive<u128>) -> Self {
        let mut rig = Self::on(disk);
        for number in numbers {
            assert!(rig.store(vec![put(number)]));
        }
        rig
    }

    /// Submits and does one step; whether it was stored.
    fn store(&mut self, records: Vec<Record>) -> bool {
        let told = submit(&self.spool, records);
        self.writer.step();
        assert!(told.lock().unwrap().is_some(), "nobody answered");
        is_ok(&told)
    }

    /// Steps until nothing is left to do.
    fn settle(&mut self) {
        for _ in 0..1000 {
            if !self.writer.step() {
                return;
            }
        }
        panic!("the writer never comes to rest");
    }

    /// The process dies, the machine does not: what was written is still seen.
    fn restart(self) -> Self {
        let disk = self.disk.clone();
        drop(self);
        Self::on(&disk)
    }

    /// The power goes, and nothing that was not flushed survives.
    fn power_cut(self) -> Self {
        let disk = self.disk.clone();
        drop(self);
        crash(&disk);
        Self::on(&disk)
    }

    fn queued(&self) -> Vec<u128> {
        let queued = self.recovery.queued.iter();
        queued
            .map(|queued| u128::from_be_bytes(queued.id.to_bytes()))
            .collect()
    }
}

fn id(number: u128) -> MessageId {
    MessageId::from_bytes(number.to_be_bytes())
}

fn numbered(number: u128, body: &[u8]) -> Message {
    Message {
        id: id(number),
        ..message(&IdGenerator::new([1; 10]), body)
    }
}

/// One that uses all that an envelope has.
fn everything(number: u128) -> Message {
    let recipient = |address: &str| Recipient {
        address: address.into(),
        ..Recipient::default()
    };
    let mut message = numbered(number, b"Hi\r\n");
    message.envelope = Envelope {
        sender: "s@EXAMPLE.com".into(),
        recipients: vec![
            recipient("1@a.example"),
            recipient("2@A.example"),
            recipient("3@b.example"),
            recipient("4@a.example"),
        ],
        body: BodyType::BinaryMime,
        tls: TlsDemand::Required,
        deliver_by: Some(DeliverBy {
            deadline_ms: 90_000,
            on_expiry: ByMode::Notify,
            trace: true,
        }),
        not_before_ms: 5_000,
        priority: -4,
        ..message.envelope
    };
    message
}

fn put(number: u128) -> Record {
    Record::Message(numbered(number, &[b'x'; 286]))
}

fn first() -> PathBuf {
    recover::segment_path(&directory(), 1)
}

fn aside(disk: &SimDisk) -> Vec<Vec<u8>> {
    let files = disk.files().into_iter();
    files
        .filter(|(path, _)| path.starts_with("/spool/corrupt"))
        .map(|(_, content)| content)
        .collect()
}

/// The next start reads the segments themselves.
fn forget_hints(disk: &SimDisk) {
    for path in disk.files().into_keys() {
        if path
            .extension()
            .is_some_and(|extension| extension == "hint")
        {
            disk.remove(&path).unwrap();
        }
    }
}

/// Message 1 alone in the first segment, message 2 in the second; without hints.
fn two_segments(disk: &SimDisk) -> Rig {
    let mut rig = Rig::filled(disk, 1..=1).restart();
    assert!(rig.store(vec![put(2)]));
    forget_hints(disk);
    rig
}
