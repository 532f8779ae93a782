use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::sync::mpsc;

use bytes::Bytes;
use proptest::prelude::*;

use super::*;
use crate::sim::{Fault, SimDisk};

mod faults;

type Told = Arc<Mutex<Option<Result<(), CommitError>>>>;

fn directory() -> PathBuf {
    PathBuf::from("/spool")
}

fn open(disk: &SimDisk, segment_bytes: u64) -> (Spool, Recovery, Writer) {
    let config = Config {
        directory: directory(),
        segment_bytes,
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

#[test]
fn what_was_committed_is_found_again_and_reads_back_equal() {
    let (disk, ids) = (SimDisk::default(), IdGenerator::new([1; 10]));
    let (spool, _, mut writer) = open(&disk, SEGMENT_BYTES);
    let (first, second) = (message(&ids, b"one\r\n"), message(&ids, b""));
    commit(
        &spool,
        &mut writer,
        vec![
            Record::Message(first.clone()),
            Record::Message(second.clone()),
        ],
    );
    let failed = (1, RecipientResult::Failed("550 no".into()));
    commit(
        &spool,
        &mut writer,
        vec![Record::Attempt(attempt(first.id, vec![failed.clone()]))],
    );
    assert_eq!(spool.read(first.id).unwrap(), first);
    crash(&disk);
    let (spool, recovery, _) = open(&disk, SEGMENT_BYTES);
    assert_eq!(spool.read(first.id).unwrap(), first);
    assert_eq!(spool.read(second.id).unwrap(), second);
    let expected = Queued {
        id: first.id,
        arrival_ms: 1_000,
        bytes: 18,
        recipients: 2,
        next_attempt_ms: 9_000,
        attempts: 1,
        results: vec![failed],
    };
    assert_eq!(recovery.queued[0], expected);
    assert_eq!(
        (recovery.queued[1].next_attempt_ms, recovery.corrupt),
        (1_000, 0)
    );
}

#[test]
fn what_is_done_is_gone() {
    let (disk, ids) = (SimDisk::default(), IdGenerator::new([1; 10]));
    let (spool, _, mut writer) = open(&disk, SEGMENT_BYTES);
    let message = message(&ids, b"x");
    commit(&spool, &mut writer, vec![Record::Message(message.clone())]);
    commit(&spool, &mut writer, vec![Record::Done(message.id)]);
    assert!(matches!(spool.read(message.id), Err(ReadError::Unknown)));
    crash(&disk);
    assert!(open(&disk, SEGMENT_BYTES).1.queued.is_empty());
}

#[test]
fn all_that_waits_is_committed_with_one_flush() {
    let (disk, ids) = (SimDisk::default(), IdGenerator::new([1; 10]));
    let (spool, _, mut writer) = open(&disk, SEGMENT_BYTES);
    let told: Vec<_> = (0..100)
        .map(|_| submit(&spool, vec![Record::Message(message(&ids, b"x"))]))
        .collect();
    assert!(
        told.iter().all(|told| told.lock().unwrap().is_none()),
        "nobody is told early"
    );
    writer.step();
    assert!(told.iter().all(is_ok));
    assert_eq!(disk.syncs(), 1);
    assert_eq!((spool.health().syncs, spool.health().commits), (1, 100));
}

#[test]
fn a_tail_torn_at_any_byte_costs_only_what_nobody_was_promised() {
    let (disk, ids) = (SimDisk::default(), IdGenerator::new([1; 10]));
    let (spool, _, mut writer) = open(&disk, SEGMENT_BYTES);
    let path = recover::segment_path(&directory(), 1);
    let (kept, torn) = (message(&ids, b"kept"), message(&ids, b"torn"));
    commit(&spool, &mut writer, vec![Record::Message(kept.clone())]);
    let begin = disk.files()[&path].len();
    commit(
        &spool,
        &mut writer,
        vec![
            Record::Message(torn.clone()),
            Record::Message(message(&ids, b"too")),
        ],
    );
    let end = disk.files()[&path].len();
    crash(&disk);
    for length in begin..end {
        let disk = disk.copy();
        disk.cut(&path, length);
        let (spool, recovery, _) = open(&disk, SEGMENT_BYTES);
        assert_eq!(
            queued_ids(&recovery),
            BTreeSet::from([kept.id]),
            "cut at {length}"
        );
        assert_eq!(
            (recovery.corrupt, recovery.truncated_bytes),
            (0, (length - begin) as u64)
        );
        assert_eq!(spool.read(kept.id).unwrap(), kept);
    }
}

#[test]
fn damage_anywhere_costs_one_group_and_is_kept_aside() {
    let (disk, ids) = (SimDisk::default(), IdGenerator::new([1; 10]));
    let (spool, _, mut writer) = open(&disk, SEGMENT_BYTES);
    let path = recover::segment_path(&directory(), 1);
    let messages: Vec<_> = (0..3).map(|_| message(&ids, b"body")).collect();
    let mut ends = Vec::new();
    for message in &messages {
        commit(&spool, &mut writer, vec![Record::Message(message.clone())]);
        ends.push(disk.files()[&path].len());
    }
    crash(&disk);
    for offset in ends[0]..ends[1] {
        let disk = disk.copy();
        disk.damage(&path, offset);
        let (_, recovery, _) = open(&disk, SEGMENT_BYTES);
        assert_eq!(
            queued_ids(&recovery),
            BTreeSet::from([messages[0].id, messages[2].id]),
            "{offset}"
        );
        assert_eq!(recovery.corrupt, 1);
        let aside = disk
            .files()
            .keys()
            .any(|path| path.starts_with("/spool/corrupt"));
        assert!(aside, "kept for whoever wants to look");
    }
}

#[test]
fn a_message_damaged_while_running_is_not_handed_out() {
    let (disk, ids) = (SimDisk::default(), IdGenerator::new([1; 10]));
    let (spool, _, mut writer) = open(&disk, SEGMENT_BYTES);
    let message = message(&ids, b"body");
    commit(&spool, &mut writer, vec![Record::Message(message.clone())]);
    let path = recover::segment_path(&directory(), 1);
    disk.damage(&path, disk.files()[&path].len() - 8);
    assert!(matches!(spool.read(message.id), Err(ReadError::Damaged(_))));
}

#[test]
fn a_failed_write_or_flush_is_reported_and_the_next_batch_goes_elsewhere() {
    // The operations of a first batch: create, header, directory, write, flush.
    for operation in 0..5 {
        let (disk, ids) = (SimDisk::default(), IdGenerator::new([1; 10]));
        let (spool, _, mut writer) = open(&disk, SEGMENT_BYTES);
        disk.fail_in(operation);
        let refused = submit(&spool, vec![Record::Message(message(&ids, b"refused"))]);
        writer.step();
        assert!(
            matches!(*refused.lock().unwrap(), Some(Err(_))),
            "operation {operation}"
        );
        assert!(spool.health().failure.unwrap().contains("simulated"));
        let kept = message(&ids, b"kept");
        commit(&spool, &mut writer, vec![Record::Message(kept.clone())]);
        assert_eq!(spool.health().failure, None);
        crash(&disk);
        let (_, recovery, _) = open(&disk, SEGMENT_BYTES);
        assert_eq!(
            queued_ids(&recovery),
            BTreeSet::from([kept.id]),
            "operation {operation}"
        );
    }
}

#[test]
fn what_was_durable_in_a_poisoned_segment_stays() {
    let (disk, ids) = (SimDisk::default(), IdGenerator::new([1; 10]));
    let (spool, _, mut writer) = open(&disk, SEGMENT_BYTES);
    let first = message(&ids, b"first");
    commit(&spool, &mut writer, vec![Record::Message(first.clone())]);
    disk.fail_in(1);
    submit(&spool, vec![Record::Message(message(&ids, b"refused"))]);
    writer.step();
    assert_eq!(spool.read(first.id).unwrap(), first);
    let second = message(&ids, b"second");
    commit(&spool, &mut writer, vec![Record::Message(second.clone())]);
    crash(&disk);
    let (_, recovery, _) = open(&disk, SEGMENT_BYTES);
    assert_eq!(queued_ids(&recovery), BTreeSet::from([first.id, second.id]));
}

#[test]
fn a_done_outlives_the_message_it_is_about() {
    let (disk, ids) = (SimDisk::default(), IdGenerator::new([1; 10]));
    // Every batch fills a segment.
    let (spool, _, mut writer) = open(&disk, 1);
    let (old, finished) = (message(&ids, b"old"), message(&ids, b"finished"));
    commit(
        &spool,
        &mut writer,
        vec![
            Record::Message(old.clone()),
            Record::Message(finished.clone()),
        ],
    );
    commit(&spool, &mut writer, vec![Record::Done(finished.id)]);
    commit(
        &spool,
        &mut writer,
        vec![Record::Message(message(&ids, b"new"))],
    );
    assert_eq!(
        spool.health().segments,
        3,
        "the one with only the Done is still needed"
    );
    crash(&disk);
    let (_, recovery, _) = open(&disk, 1);
    assert!(!queued_ids(&recovery).contains(&finished.id));
    assert!(queued_ids(&recovery).contains(&old.id));
}

#[test]
fn segments_go_when_nothing_in_them_is_alive() {
    let (disk, ids) = (SimDisk::default(), IdGenerator::new([1; 10]));
    let (spool, _, mut writer) = open(&disk, 1);
    for _ in 0..20 {
        let message = message(&ids, b"x");
        commit(&spool, &mut writer, vec![Record::Message(message.clone())]);
        commit(&spool, &mut writer, vec![Record::Done(message.id)]);
    }
    assert!(spool.health().segments <= 2, "{:?}", spool.health());
    assert_eq!(spool.health().live_bytes, 0);
}

#[test]
fn compaction_moves_a_long_lived_message_with_its_state_and_frees_the_rest() {
    let (disk, ids) = (SimDisk::default(), IdGenerator::new([1; 10]));
    let (spool, _, mut writer) = open(&disk, 2_000);
    let old = message(&ids, b"waits for days");
    commit(&spool, &mut writer, vec![Record::Message(old.clone())]);
    let deferred = (0, RecipientResult::Deferred("450 busy".into()));
    commit(
        &spool,
        &mut writer,
        vec![Record::Attempt(attempt(old.id, vec![deferred.clone()]))],
    );
    for _ in 0..40 {
        let passing = message(&ids, &[b'x'; 800]);
        commit(&spool, &mut writer, vec![Record::Message(passing.clone())]);
        commit(&spool, &mut writer, vec![Record::Done(passing.id)]);
    }
    while writer.step() {}
    assert!(spool.health().segments <= 4, "{:?}", spool.health());
    let path = recover::segment_path(&directory(), 1);
    assert!(!disk.files().contains_key(&path), "the message was in it");
    assert_eq!(spool.read(old.id).unwrap(), old);
    assert!(!writer.step(), "nothing is left to do");
    crash(&disk);
    let (_, recovery, _) = open(&disk, 2_000);
    assert_eq!(recovery.queued.len(), 1);
    assert_eq!(
        (recovery.queued[0].attempts, &recovery.queued[0].results),
        (1, &vec![deferred])
    );
}

#[test]
fn only_one_process_has_the_spool() {
    let disk = SimDisk::default();
    let _held = open(&disk, SEGMENT_BYTES);
    let config = Config {
        directory: directory(),
        segment_bytes: SEGMENT_BYTES,
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
    let mut header = disk.files()[&path][..format::SEGMENT_HEADER].to_vec();
    header[8] = 2;
    let crc = crc32fast::hash(&header[..44]);
    header[44..].copy_from_slice(&crc.to_le_bytes());
    file.write_at(&header, 0).unwrap();
    let before = disk.files();
    let config = Config {
        directory: directory(),
        segment_bytes: SEGMENT_BYTES,
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

/// A change of the format must be noticed: other releases read these bytes.
#[test]
fn the_bytes_on_disk_are_these() {
    let (disk, ids) = (SimDisk::default(), IdGenerator::new([2; 10]));
    let (spool, _, mut writer) = open(&disk, SEGMENT_BYTES);
    let message = message(&ids, b"Hi\r\n");
    let delivered = (0, RecipientResult::Delivered("250 ok".into()));
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
    assert_eq!(
        lines.join("\n"),
        include_str!("tests/format-1.hex").trim_end()
    );
}

#[test]
fn a_real_disk_keeps_it_when_the_process_goes_away() {
    let folder = tempfile::tempdir().unwrap();
    let ids = IdGenerator::new([1; 10]);
    let config = || Config {
        directory: folder.path().join("queue"),
        segment_bytes: 1 << 20,
    };
    let (spool, _, writer) = Spool::open(config()).unwrap();
    assert!(matches!(Spool::open(config()), Err(Error::Locked { .. })));
    let thread = std::thread::spawn(move || writer.run());
    let (sender, receiver) = mpsc::channel();
    let messages: Vec<_> = (0..200).map(|_| message(&ids, &[b'x'; 20_000])).collect();
    for message in &messages {
        let sender = sender.clone();
        let done = move |result: Result<(), CommitError>| sender.send(result.is_ok()).unwrap();
        spool
            .submit(vec![Record::Message(message.clone())], done)
            .unwrap();
        assert!(receiver.recv().unwrap());
    }
    assert!(spool.health().segments > 3);
    assert!(spool.free_bytes().unwrap() > 0);
    // The process would be gone now; here its writer must let go of the lock.
    spool.close();
    thread.join().unwrap();
    drop(spool);
    let (spool, recovery, _) = Spool::open(config()).unwrap();
    assert_eq!(recovery.queued.len(), messages.len());
    assert_eq!(spool.read(messages[7].id).unwrap(), messages[7]);
    assert!(!Path::new(&folder.path().join("queue/corrupt")).exists());
}

#[derive(Clone, Debug)]
enum Move {
    /// A new message of so many bytes.
    Message(usize),
    /// The nth unfinished message is finished, with a bounce in the same group.
    DoneWithBounce(usize),
    Attempt(usize),
    Step,
    FailIn(u64),
    /// With a seed for what survives.
    Crash(u64),
    /// The process dies, the machine does not.
    Restart,
    Fail(Fault),
}

const FAULTS: &[Fault] = &[
    Fault::Create,
    Fault::Remove,
    Fault::Sync,
    Fault::SyncDirectory,
    Fault::Truncate,
    Fault::Write,
];

fn moves() -> impl Strategy<Value = Vec<Move>> {
    let one = prop_oneof![
        4 => (0..600_usize).prop_map(Move::Message),
        3 => any::<usize>().prop_map(Move::DoneWithBounce),
        2 => any::<usize>().prop_map(Move::Attempt),
        6 => Just(Move::Step),
        1 => (0..6_u64).prop_map(Move::FailIn),
        1 => any::<u64>().prop_map(Move::Crash),
        1 => Just(Move::Restart),
        2 => proptest::sample::select(FAULTS).prop_map(Move::Fail),
    ];
    proptest::collection::vec(one, 1..80)
}

/// What the world was told: message -> whether it is finished.
#[derive(Default)]
struct Ledger {
    waiting: Vec<(Told, Vec<MessageId>, Option<MessageId>)>,
    promised: BTreeMap<MessageId, Message>,
    finished: BTreeSet<MessageId>,
    /// Finished or new in a group of which nothing was heard: either is right, but all of a group or none.
    open: Vec<(Vec<MessageId>, Option<MessageId>)>,
    known: BTreeMap<MessageId, Message>,
}

impl Ledger {
    fn settle(&mut self) {
        for (told, new, done) in std::mem::take(&mut self.waiting) {
            let heard = told.lock().unwrap().clone();
            match heard {
                Some(Ok(())) => {
                    for id in new {
                        self.promised.insert(id, self.known[&id].clone());
                    }
                    self.finished.extend(done);
                }
                Some(Err(_)) => self.open.push((new, done)),
                None => self.waiting.push((told, new, done)),
            }
        }
    }

    fn check(&mut self, spool: &Spool, recovery: &Recovery) {
        let found = queued_ids(recovery);
        let open = std::mem::take(&mut self.open);
        for (new, _) in &open {
            let here = new.iter().filter(|id| found.contains(id)).count();
            assert!(here == 0 || here == new.len(), "a group came back in part");
        }
        // A message whose end was tried more than once may have come to it by any of the tries.
        let ended: BTreeSet<MessageId> = open.iter().filter_map(|(_, done)| *done).collect();
        for id in ended.difference(&self.finished) {
            let mut tries = open.iter().filter(|(_, done)| done.as_ref() == Some(id));
            let bounced = tries.any(|(new, _)| new.iter().any(|id| found.contains(id)));
            let gone = !found.contains(id);
            assert_eq!(bounced, gone, "a bounce and its Done belong together");
        }
        self.finished
            .extend(ended.into_iter().filter(|id| !found.contains(id)));
        let back = open.into_iter().flat_map(|(new, _)| new);
        for id in back.filter(|id| found.contains(id)) {
            self.promised.insert(id, self.known[&id].clone());
        }
        for (id, message) in &self.promised {
            if self.finished.contains(id) {
                assert!(!found.contains(id), "{id} was finished and came back");
            } else {
                assert!(found.contains(id), "{id} was promised and is lost");
                assert_eq!(&spool.read(*id).unwrap(), message);
            }
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, ..ProptestConfig::default() })]

    #[test]
    fn whatever_happens_no_promise_is_broken(moves in moves()) {
        let (disk, ids) = (SimDisk::default(), IdGenerator::new([1; 10]));
        let mut ledger = Ledger::default();
        let mut open_now = open(&disk, 1_500);
        for one in moves.into_iter().chain([Move::Step, Move::Step, Move::Crash(1)]) {
            let (spool, _, writer) = &mut open_now;
            let alive: Vec<MessageId> = ledger.promised.keys().filter(|id| !ledger.finished.contains(id)).copied().collect();
            let busy = |id: &MessageId| ledger.waiting.iter().any(|(_, _, done)| done.as_ref() == Some(id));
            match one {
                Move::Message(bytes) => {
                    let message = message(&ids, &vec![b'm'; bytes]);
                    ledger.known.insert(message.id, message.clone());
                    let told = submit(spool, vec![Record::Message(message.clone())]);
                    ledger.waiting.push((told, vec![message.id], None));
                }
                Move::DoneWithBounce(which) if !alive.is_empty() => {
                    let id = alive[which % alive.len()];
                    if !busy(&id) {
                        let bounce = message(&ids, b"bounce");
                        ledger.known.insert(bounce.id, bounce.clone());
                        let told = submit(spool, vec![Record::Message(bounce.clone()), Record::Done(id)]);
                        ledger.waiting.push((told, vec![bounce.id], Some(id)));
                    }
                }
                Move::Attempt(which) if !alive.is_empty() => {
                    let id = alive[which % alive.len()];
                    submit(spool, vec![Record::Attempt(attempt(id, vec![]))]);
                }
                Move::DoneWithBounce(_) | Move::Attempt(_) => {}
                Move::Step => { writer.step(); }
                Move::FailIn(operations) => disk.fail_in(operations),
                Move::Fail(fault) => disk.fail(fault, 1),
                Move::Restart => {
                    ledger.settle();
                    ledger.open.extend(ledger.waiting.drain(..).map(|(_, new, done)| (new, done)));
                    disk.mend();
                    drop(open_now);
                    open_now = open(&disk, 1_500);
                    ledger.check(&open_now.0, &open_now.1);
                }
                Move::Crash(seed) => {
                    ledger.settle();
                    ledger.open.extend(ledger.waiting.drain(..).map(|(_, new, done)| (new, done)));
                    let mut state = seed | 1;
                    disk.crash(move || {
                        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
                        f64::from(u32::try_from(state >> 33).unwrap()) / f64::from(u32::MAX >> 1)
                    });
                    open_now = open(&disk, 1_500);
                    ledger.check(&open_now.0, &open_now.1);
                }
            }
            ledger.settle();
        }
    }
}
