use std::os::unix::fs::FileExt as _;
use std::sync::mpsc;

use bytes::Bytes;
use postroad_spool::{
    Attempt, Config, Envelope, Recipient, RecipientResult, Record, SEGMENT_BYTES, Spool,
};

use super::*;

/// Three messages; the second is settled for one of its recipients.
fn spool(directory: &Path) -> Vec<Message> {
    let messages = [1, 2, 3].map(message).to_vec();
    let attempt = Attempt {
        id: messages[1].id,
        next_attempt_ms: 60_000,
        attempts: 1,
        delay_notified: false,
        results: vec![(0, RecipientResult::Delivered)],
    };
    let records = messages.iter().cloned().map(Record::Message);
    store(
        directory,
        records.chain([Record::Attempt(attempt)]).collect(),
    );
    messages
}

fn store(directory: &Path, records: Vec<Record>) {
    let config = Config {
        directory: directory.to_owned(),
        segment_bytes: SEGMENT_BYTES,
        bytes_max: None,
        mode: postroad_spool::Mode::Durable,
    };
    let (spool, _, writer) = Spool::open(config).unwrap();
    let writer = std::thread::spawn(move || writer.run());
    let (told, heard) = mpsc::channel();
    for record in records {
        let told = told.clone();
        let done = move |result: Result<(), _>| told.send(result).unwrap();
        spool.submit(vec![record], done).unwrap();
        heard.recv().unwrap().unwrap();
    }
    spool.close();
    writer.join().unwrap();
}

fn message(number: u8) -> Message {
    let recipient = |address: &str| Recipient {
        address: address.to_owned(),
        ..Recipient::default()
    };
    Message {
        id: id(number),
        arrival_ms: 1_000,
        envelope: Envelope {
            sender: format!("s{number}@example.com"),
            recipients: vec![
                recipient("a@example.org"),
                recipient("\u{1b}[2J@example.org"),
            ],
            ..Envelope::default()
        },
        headers: Bytes::from_static(b"Received: x\r\n"),
        body: Bytes::from_static(b"Subject: Hi\r\n\r\nHi\r\n"),
    }
}

fn id(number: u8) -> MessageId {
    format!("{number:026}").parse().unwrap()
}

fn run(command: &Command) -> (String, Option<String>) {
    let mut out = Vec::new();
    let done = run_to(command, &mut out);
    let error = done.err().map(|error| format!("{error:#}"));
    (String::from_utf8(out).unwrap(), error)
}

fn directory(of: &tempfile::TempDir) -> PathBuf {
    of.path().join("spool")
}

/// Changes a byte in the body of the first message.
fn damage(directory: &Path) {
    let path = directory.join("0000000000000001.seg");
    let bytes = fs::read(&path).unwrap();
    let at = bytes.windows(2).position(|two| two == b"Hi").unwrap() as u64;
    let file = fs::File::options().write(true).open(&path).unwrap();
    file.write_all_at(b"!", at).unwrap();
}

#[test]
fn an_intact_spool_is_told_and_succeeds() {
    let temporary = tempfile::tempdir().unwrap();
    let directory = directory(&temporary);
    spool(&directory);
    let (out, error) = run(&Command::Check { directory });
    assert_eq!(error, None);
    assert!(
        out.contains("4 groups: 3 messages, 1 attempts, 0 done"),
        "{out}"
    );
    assert!(out.ends_with("3 messages are queued\n"), "{out}");
}

#[test]
fn damage_is_told_and_fails() {
    let temporary = tempfile::tempdir().unwrap();
    let directory = directory(&temporary);
    spool(&directory);
    damage(&directory);
    let (out, error) = run(&Command::Check { directory });
    assert_eq!(error.as_deref(), Some("the spool is damaged"));
    assert!(out.contains("  bytes 48 to "), "{out}");
    assert!(out.contains(": are damaged\n"), "{out}");
    assert!(out.ends_with("2 messages are queued\n"), "{out}");
}

#[test]
fn the_list_is_for_people_and_for_programs() {
    let temporary = tempfile::tempdir().unwrap();
    let directory = directory(&temporary);
    spool(&directory);
    let list = |json| {
        let directory = directory.clone();
        run(&Command::List { directory, json })
    };
    let (out, error) = list(false);
    assert_eq!(error, None);
    let second = "\
00000000000000000000000002  1970-01-01T00:00:01Z  32 bytes  1 attempts, next 1970-01-01T00:01:00Z
  from <s2@example.com>, open 1 of 2:
  to <\\u{1b}[2J@example.org>
";
    assert!(out.contains(second), "{out}");
    let (out, error) = list(true);
    assert_eq!(error, None);
    let lines: Vec<Value> = out
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    assert_eq!(lines.len(), 3);
    assert_eq!(lines[1]["recipients"][0]["open"], false);
    assert_eq!(lines[1]["recipients"][1]["open"], true);
    assert_eq!(lines[2]["sender"], "s3@example.com");
}

#[test]
fn what_is_exported_is_what_was_received() {
    let temporary = tempfile::tempdir().unwrap();
    let directory = directory(&temporary);
    let messages = spool(&directory);
    let output = temporary.path().join("out");
    let export = |id| {
        let (directory, output) = (directory.clone(), output.clone());
        run(&Command::Export {
            directory,
            id,
            output,
        })
    };
    assert_eq!(export(Some(id(2))).1, None);
    assert_eq!(fs::read_dir(&output).unwrap().count(), 2);
    let path = |extension: &str| output.join(format!("{}.{extension}", id(2)));
    let content = [&messages[1].headers[..], &messages[1].body[..]].concat();
    assert_eq!(fs::read(path("eml")).unwrap(), content);
    let json: Value = serde_json::from_slice(&fs::read(path("json")).unwrap()).unwrap();
    assert_eq!(json["sender"], "s2@example.com");
    let again = export(None).1.unwrap();
    assert!(
        again.contains("cannot write"),
        "nothing is written over: {again}"
    );
    let unknown = export(Some(id(9))).1.unwrap();
    assert!(unknown.contains("no message"), "{unknown}");
}

#[test]
fn an_empty_spool_is_no_mistake() {
    let temporary = tempfile::tempdir().unwrap();
    let directory = directory(&temporary);
    store(&directory, Vec::new());
    for (command, expected) in [
        (
            Command::Check {
                directory: directory.clone(),
            },
            "0 messages are queued\n",
        ),
        (
            Command::List {
                directory,
                json: false,
            },
            "",
        ),
    ] {
        assert_eq!(run(&command), (expected.to_owned(), None));
    }
}

#[test]
fn where_there_is_no_spool_that_is_said() {
    let temporary = tempfile::tempdir().unwrap();
    let directory = temporary.path().to_owned();
    let (out, error) = run(&Command::Check { directory });
    assert_eq!(out, "");
    assert!(error.unwrap().contains("is no spool"));
}
