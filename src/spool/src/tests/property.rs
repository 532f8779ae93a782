//! Any sequence of moves on a disk that forgets: in each durability mode, and with what shows that it would be noticed.

use std::collections::BTreeMap;

use proptest::prelude::*;
use proptest::test_runner::{RngAlgorithm, TestRng, TestRunner};

use super::*;
use crate::sim::Fault;

#[derive(Clone, Copy, Debug)]
enum Move {
    /// A new message of so many bytes.
    Message(usize),
    /// The nth unfinished message is finished, with a bounce in the same group.
    DoneWithBounce(usize),
    /// The nth unfinished message was tried; so it went with its second recipient.
    Attempt(usize, RecipientResult),
    Step,
    FailIn(u64),
    /// With a seed for what survives.
    Crash(u64),
    /// The process dies, the machine does not.
    Restart,
    Fail(Fault),
    /// The disk is full from now on, or from so many operations on.
    Fill,
    FillIn(u64),
    /// There is room again.
    Unbound,
    /// A second passes.
    Tick,
    /// The interval of the relaxed mode passes.
    Flush,
}

const FAULTS: &[Fault] = &[
    Fault::Create,
    Fault::Remove,
    Fault::Sync,
    Fault::SyncDirectory,
    Fault::Truncate,
    Fault::Write,
];

fn results() -> impl Strategy<Value = RecipientResult> {
    prop_oneof![
        Just(RecipientResult::Deferred),
        Just(RecipientResult::Delivered),
        Just(RecipientResult::Failed),
    ]
}

fn moves() -> impl Strategy<Value = Vec<Move>> {
    let one = prop_oneof![
        4 => (0..600_usize).prop_map(Move::Message),
        3 => any::<usize>().prop_map(Move::DoneWithBounce),
        2 => (any::<usize>(), results()).prop_map(|(which, result)| Move::Attempt(which, result)),
        6 => Just(Move::Step),
        1 => (0..6_u64).prop_map(Move::FailIn),
        1 => any::<u64>().prop_map(Move::Crash),
        1 => Just(Move::Restart),
        2 => proptest::sample::select(FAULTS).prop_map(Move::Fail),
        1 => Just(Move::Fill),
        1 => (0..12_u64).prop_map(Move::FillIn),
        1 => Just(Move::Unbound),
        1 => Just(Move::Tick),
        1 => Just(Move::Flush),
    ];
    proptest::collection::vec(one, 1..80)
}

/// New messages that belong together, and the one that they finish.
type Batch = (Vec<MessageId>, Option<MessageId>);

/// What the world was told.
#[derive(Default)]
struct Ledger {
    mode: Mode,
    waiting: Vec<(Told, Batch)>,
    /// Reported as stored, and perhaps not flushed: nothing in the durable mode.
    answered: Vec<Batch>,
    answered_attempts: Vec<MessageId>,
    promised: BTreeMap<MessageId, Message>,
    finished: BTreeSet<MessageId>,
    /// Finished or new in a group of which nothing was heard: either is right, but all of a group or none.
    open: Vec<Batch>,
    known: BTreeMap<MessageId, Message>,
    attempts: Vec<(Told, MessageId)>,
    /// Messages whose second recipient was told to be settled, and those of which nothing was heard.
    settled: BTreeSet<MessageId>,
    perhaps_settled: BTreeSet<MessageId>,
}

impl Ledger {
    /// Takes down what was heard.
    fn settle(&mut self, spool: &Spool) {
        self.attempts.retain(|(told, id)| {
            let heard = told.lock().unwrap().clone();
            if let Some(Ok(())) = heard {
                self.answered_attempts.push(*id);
            }
            heard.is_none()
        });
        for (told, batch) in std::mem::take(&mut self.waiting) {
            let heard = told.lock().unwrap().clone();
            match heard {
                Some(Ok(())) => self.answered.push(batch),
                Some(Err(_)) => self.open.push(batch),
                None => self.waiting.push((told, batch)),
            }
        }
        if self.mode == Mode::Durable || spool.health().unsynced.is_none() {
            self.promise();
        }
    }

    /// What was answered is durable.
    fn promise(&mut self) {
        self.settled.extend(self.answered_attempts.drain(..));
        for (new, done) in self.answered.drain(..) {
            for id in new {
                self.promised.insert(id, self.known[&id].clone());
            }
            self.finished.extend(done);
        }
    }

    /// The process ends: what was not heard never will be.
    fn end(&mut self, spool: &Spool) {
        self.settle(spool);
        let waiting = self.waiting.drain(..);
        self.open.extend(waiting.map(|(_, batch)| batch));
    }

    /// Whatever was not flushed may be gone.
    fn lose(&mut self) {
        self.open.append(&mut self.answered);
        self.answered_attempts.clear();
    }

    fn check(&mut self, spool: &Spool, recovery: &Recovery) {
        if self.mode == Mode::Durable {
            assert_eq!(recovery.corrupt, 0, "nothing is damaged");
        }
        let found = queued_ids(recovery);
        for queued in recovery.queued.iter() {
            match *queued.settled {
                [] => assert!(!self.settled.contains(&queued.id)),
                _ => assert!(self.perhaps_settled.contains(&queued.id)),
            }
        }
        self.check_open(&found);
        for (id, message) in &self.promised {
            if self.finished.contains(id) {
                assert!(!found.contains(id), "{id} was finished and came back");
            } else {
                assert!(found.contains(id), "{id} was promised and is lost");
                assert_eq!(&spool.read(*id).unwrap(), message);
            }
        }
    }

    fn check_open(&mut self, found: &BTreeSet<MessageId>) {
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
    }
}

/// A spool, its disk and what was heard of it.
struct World {
    disk: SimDisk,
    ids: IdGenerator,
    ledger: Ledger,
    spool: Spool,
    writer: Writer,
}

impl World {
    fn new(disk: &SimDisk, mode: Mode) -> Self {
        let (spool, _, writer) = open_in(disk, 1_500, mode);
        Self {
            disk: disk.clone(),
            ids: IdGenerator::new([1; 10]),
            ledger: Ledger {
                mode,
                ..Ledger::default()
            },
            spool,
            writer,
        }
    }

    fn play(mut self, moves: Vec<Move>) {
        let end = [Move::Step, Move::Step, Move::Crash(1)];
        for one in moves.into_iter().chain(end) {
            self = self.make(one);
        }
    }

    fn make(mut self, one: Move) -> Self {
        match one {
            Move::Message(bytes) => self.submit(&vec![b'm'; bytes], None),
            Move::DoneWithBounce(which) => {
                let waiting = &self.ledger.waiting;
                let busy = |id| waiting.iter().any(|(_, (_, done))| *done == Some(id));
                let answered = &self.ledger.answered;
                let over = |id| answered.iter().any(|(_, done)| *done == Some(id));
                if let Some(id) = self.alive(which).filter(|id| !busy(*id) && !over(*id)) {
                    self.submit(b"bounce", Some(id));
                }
            }
            Move::Attempt(which, result) => self.attempt(which, result),
            Move::Step => {
                self.writer.step();
            }
            Move::Tick => self.writer.tick(),
            Move::Flush => self.writer.flush(),
            Move::Fill => self.disk.fill(),
            Move::FillIn(operations) => self.disk.fill_in(operations),
            Move::Unbound => self.disk.unbound(),
            Move::FailIn(operations) => self.disk.fail_in(operations),
            Move::Fail(fault) => self.disk.fail(fault, 1),
            Move::Restart => return self.restart(),
            Move::Crash(seed) => return self.crash(seed),
        }
        self.ledger.settle(&self.spool);
        self
    }

    fn alive(&self, which: usize) -> Option<MessageId> {
        let promised = self.ledger.promised.keys().copied();
        let alive: Vec<MessageId> = promised
            .filter(|id| !self.ledger.finished.contains(id))
            .collect();
        alive.get(which.checked_rem(alive.len())?).copied()
    }

    /// A new message, and in the same group the end of another one.
    fn submit(&mut self, body: &[u8], done: Option<MessageId>) {
        let message = message(&self.ids, body);
        self.ledger.known.insert(message.id, message.clone());
        let batch = (vec![message.id], done);
        let mut records = vec![Record::Message(message)];
        records.extend(done.map(Record::Done));
        let told = submit(&self.spool, records);
        self.ledger.waiting.push((told, batch));
    }

    fn attempt(&mut self, which: usize, result: RecipientResult) {
        let Some(id) = self.alive(which) else {
            return;
        };
        let record = Record::Attempt(attempt(id, vec![(1, result)]));
        let told = submit(&self.spool, vec![record]);
        if result.is_final() {
            self.ledger.attempts.push((told, id));
            self.ledger.perhaps_settled.insert(id);
        }
    }

    /// The process dies, the machine does not.
    fn restart(mut self) -> Self {
        self.ledger.end(&self.spool);
        // It takes nothing, unless the disk has failed before.
        if self.spool.health().failure.is_none() {
            self.ledger.promise();
        } else {
            self.ledger.lose();
        }
        self.disk.mend();
        self.reopen()
    }

    /// The power goes.
    fn crash(mut self, seed: u64) -> Self {
        self.ledger.end(&self.spool);
        self.ledger.lose();
        if self.ledger.mode != Mode::Durable {
            // A hole in what was not flushed is damage, which is not cut before there is a copy.
            self.disk.unbound();
        }
        let mut state = seed | 1;
        self.disk.crash(move || {
            state = state
                .wrapping_mul(6_364_136_223_846_793_005)
                .wrapping_add(1_442_695_040_888_963_407);
            f64::from(u32::try_from(state >> 33).unwrap()) / f64::from(u32::MAX >> 1)
        });
        self.reopen()
    }

    fn reopen(self) -> Self {
        let Self {
            disk,
            ids,
            mut ledger,
            spool,
            writer,
        } = self;
        drop((spool, writer));
        let (spool, recovery, writer) = open_compared(&disk, ledger.mode);
        ledger.check(&spool, &recovery);
        Self {
            disk,
            ids,
            ledger,
            spool,
            writer,
        }
    }
}

/// The interval is the test's: it flushes when it likes.
const RELAXED: Mode = Mode::Relaxed {
    sync_interval: Duration::MAX,
};

/// Opens a spool, and sees to it that hints say nothing else than what is there.
fn open_compared(disk: &SimDisk, mode: Mode) -> (Spool, Recovery, Writer) {
    let bare = disk.copy();
    forget_hints(&bare);
    let (opened, bare) = (open_in(disk, 1_500, mode), open_in(&bare, 1_500, mode));
    let [queued, expected] = [&opened.1.queued, &bare.1.queued];
    let queued: Vec<Queued<'_>> = queued.iter().collect();
    assert_eq!(queued, expected.iter().collect::<Vec<_>>());
    opened
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, ..ProptestConfig::default() })]

    #[test]
    fn whatever_happens_no_promise_is_broken(moves in moves()) {
        World::new(&SimDisk::default(), Mode::Durable).play(moves);
    }

    #[test]
    fn whatever_happens_where_files_have_their_length_no_promise_is_broken(moves in moves()) {
        World::new(&SimDisk::preallocating(), Mode::Durable).play(moves);
    }

    #[test]
    fn whatever_happens_what_was_flushed_is_kept_in_the_relaxed_mode(moves in moves()) {
        World::new(&SimDisk::preallocating(), RELAXED).play(moves);
    }
}

/// A check that cannot fail would prove nothing: without flushes it does.
#[test]
fn a_disk_that_lies_about_flushes_is_found_out() {
    for mode in [Mode::Durable, RELAXED] {
        let config = ProptestConfig {
            cases: 300,
            failure_persistence: None,
            max_shrink_iters: 0,
            ..ProptestConfig::default()
        };
        let rng = TestRng::deterministic_rng(RngAlgorithm::ChaCha);
        let found = TestRunner::new_with_rng(config, rng).run(&moves(), |moves| {
            let disk = SimDisk::preallocating();
            disk.lie();
            World::new(&disk, mode).play(moves);
            Ok(())
        });
        assert!(found.is_err(), "{mode:?}");
    }
}
