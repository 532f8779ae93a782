//! Any sequence of moves on a disk that forgets.

use std::collections::BTreeMap;

use proptest::prelude::*;

use super::*;
use crate::sim::Fault;

#[derive(Clone, Debug)]
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
    attempts: Vec<(Told, MessageId)>,
    /// Messages whose second recipient was told to be settled, and those of which nothing was heard.
    settled: BTreeSet<MessageId>,
    perhaps_settled: BTreeSet<MessageId>,
}

impl Ledger {
    fn settle(&mut self) {
        for (told, id) in &self.attempts {
            if is_ok(told) {
                self.settled.insert(*id);
            }
        }
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
        assert_eq!(recovery.corrupt, 0, "nothing is damaged");
        let found = queued_ids(recovery);
        for queued in &recovery.queued {
            match *queued.settled {
                [] => assert!(!self.settled.contains(&queued.id)),
                _ => assert!(self.perhaps_settled.contains(&queued.id)),
            }
        }
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
                Move::Attempt(which, result) if !alive.is_empty() => {
                    let id = alive[which % alive.len()];
                    let settles = result.is_final();
                    let told = submit(spool, vec![Record::Attempt(attempt(id, vec![(1, result)]))]);
                    if settles {
                        ledger.attempts.push((told, id));
                        ledger.perhaps_settled.insert(id);
                    }
                }
                Move::DoneWithBounce(_) | Move::Attempt(..) => {}
                Move::Step => { writer.step(); }
                Move::Tick => writer.tick(),
                Move::Fill => disk.fill(),
                Move::FillIn(operations) => disk.fill_in(operations),
                Move::Unbound => disk.unbound(),
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
