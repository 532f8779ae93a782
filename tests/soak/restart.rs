//! A million messages wait, and the relay starts: how long it takes to know them all.

use std::fs;
use std::path::Path;
use std::sync::mpsc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use postroad_spool::{
    Attempt, Config, Envelope, IdGenerator, Message, Mode, Recipient, RecipientResult, Record,
    SEGMENT_BYTES, Spool,
};

const MESSAGES: u64 = 1_000_000;

/// Of a message, in bytes.
const CONTENT: usize = 4096;

/// Domains that the messages go to.
const DOMAINS: u64 = 10_000;

/// Groups on their way to the disk, at most.
const AHEAD: u64 = 10_000;

/// How long a start may take that goes by hints, with nothing in memory.
const RESTART_MAX: Duration = Duration::from_secs(10);

/// Every tenth message was tried once.
const TRIED: u64 = 10;

#[test]
fn a_start_with_a_million_waiting_messages_takes_ten_seconds_at_most() {
    let target = Path::new(env!("CARGO_TARGET_TMPDIR"));
    let directory = tempfile::tempdir_in(target).unwrap();
    fill(directory.path());
    // What is written and not on the disk yet cannot be dropped from memory.
    rustix::fs::sync();
    start(directory.path(), "memory, all read");
    let warm = start(directory.path(), "memory, by hints");
    // Its own pages, and those of everybody else, are given back: only root can.
    fs::write("/proc/sys/vm/drop_caches", "3").unwrap();
    let cold = start(directory.path(), "disk, by hints");
    forget_hints(directory.path());
    fs::write("/proc/sys/vm/drop_caches", "3").unwrap();
    start(directory.path(), "disk, all read");
    assert!(
        warm <= RESTART_MAX && cold <= RESTART_MAX,
        "{warm:?}, {cold:?}"
    );
}

/// Opens the spool and looks at each message; how long that took.
fn start(directory: &Path, from: &str) -> Duration {
    let begun = Instant::now();
    let (spool, recovery, writer) = Spool::open(config(directory)).unwrap();
    let queued = recovery.queued;
    let recipients: u64 = queued.iter().map(|one| u64::from(one.recipients)).sum();
    let took = begun.elapsed();
    assert_eq!((queued.len() as u64, recipients), (MESSAGES, MESSAGES));
    eprintln!("a start with {MESSAGES} messages waiting, from {from}: {took:.2?}");
    spool.close();
    writer.run();
    took
}

fn config(directory: &Path) -> Config {
    Config {
        directory: directory.to_owned(),
        segment_bytes: SEGMENT_BYTES,
        bytes_max: None,
        // The disk is not what is tested.
        mode: Mode::Relaxed {
            sync_interval: Duration::from_secs(1),
        },
    }
}

/// Writes the messages, as the relay would have; without hints.
fn fill(directory: &Path) {
    let (spool, _, writer) = Spool::open(config(directory)).unwrap();
    let writer = std::thread::spawn(move || writer.run());
    let ids = IdGenerator::new([7; 10]);
    let body = Bytes::from(vec![b'x'; CONTENT]);
    let (told, heard) = mpsc::channel();
    for number in 0..MESSAGES {
        let message = message(&ids, number, body.clone());
        let mut records = vec![];
        if number % TRIED == 0 {
            records.push(Record::Attempt(attempt(&message)));
        }
        records.insert(0, Record::Message(message));
        let told = told.clone();
        let done = move |result: Result<(), _>| told.send(result).unwrap();
        spool.submit(records, done).unwrap();
        if number >= AHEAD {
            heard.recv().unwrap().unwrap();
        }
    }
    spool.close();
    writer.join().unwrap();
    forget_hints(directory);
}

fn message(ids: &IdGenerator, number: u64, body: Bytes) -> Message {
    Message {
        id: ids.next(1_700_000_000_000 + number),
        arrival_ms: 1_700_000_000_000 + number,
        envelope: Envelope {
            sender: format!("sender{}@tenant{}.example", number % 7, number % 100),
            recipients: vec![Recipient {
                address: format!("recipient{number}@domain{}.example", number % DOMAINS),
                ..Recipient::default()
            }],
            credential: format!("tenant{}", number % 100),
            ..Envelope::default()
        },
        headers: Bytes::from_static(b"Received: from there by here\r\n"),
        body,
    }
}

fn attempt(message: &Message) -> Attempt {
    Attempt {
        id: message.id,
        next_attempt_ms: message.arrival_ms + 60_000,
        attempts: 1,
        delay_notified: false,
        results: vec![(0, RecipientResult::Deferred)],
    }
}

fn forget_hints(directory: &Path) {
    for entry in fs::read_dir(directory).unwrap() {
        let path = entry.unwrap().path();
        if path
            .extension()
            .is_some_and(|extension| extension == "hint")
        {
            fs::remove_file(path).unwrap();
        }
    }
}
