//! The schedule against a model that looks at everything each time.

use std::collections::{BTreeMap, BTreeSet};

use postroad_config::{Action, Delivery};
use proptest::prelude::*;

use super::tables::{change, overriding, routing};
use super::*;
use crate::room::Account;

const DOMAINS: [&str; 3] = ["a.example", "b.example", "c.example"];

#[derive(Clone, Debug)]
enum Step {
    /// A message to recipients at these domains, due after so long.
    Insert(Vec<usize>, u64),
    /// Takes something.
    Take,
    /// Settles some recipients of what was taken, and gives it back for so long; the numbers choose.
    Release(usize, u8, u64),
    /// Forgets the message of what was taken.
    Finish(usize),
    /// Puts a table in force.
    Change(usize),
    /// Puts a table in force without a review.
    Switch(usize),
    /// Lets time go by.
    Wait(u64),
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        4 => (prop::collection::vec(0..3_usize, 1..5), 0..300_u64).prop_map(|(domains, due)| Step::Insert(domains, due)),
        6 => Just(Step::Take),
        4 => (any::<usize>(), any::<u8>(), 0..300_u64).prop_map(|(which, settled, due)| Step::Release(which, settled, due)),
        1 => any::<usize>().prop_map(Step::Finish),
        1 => (0..4_usize).prop_map(Step::Change),
        1 => (0..4_usize).prop_map(Step::Switch),
        3 => (0..400_u64).prop_map(Step::Wait),
    ]
}

/// What the model knows of a message.
#[derive(Debug)]
struct Known {
    open: BTreeSet<u32>,
    taken: BTreeSet<u32>,
    recipients: u32,
}

struct Bench {
    mail: Mail,
    schedule: Schedule,
    known: BTreeMap<MessageId, Known>,
    taken: Vec<Taken>,
    now_ms: u64,
}

fn table(number: usize) -> Arc<Table> {
    match number {
        0 => Arc::new(Table::new(&Delivery::default())),
        1 => direct(),
        2 => routing("b.example"),
        _ => overriding("a.example", Action::Hold),
    }
}

impl Bench {
    fn new() -> Self {
        Self {
            mail: Mail::new(),
            schedule: Schedule::new(direct()),
            known: BTreeMap::new(),
            taken: Vec::new(),
            now_ms: 1_000,
        }
    }

    fn insert(&mut self, domains: &[usize], pause_ms: u64) {
        let runs: Vec<_> = domains.iter().map(|domain| (DOMAINS[*domain], 1)).collect();
        let queued = Queued {
            next_attempt_ms: self.now_ms + pause_ms,
            ..self.mail.to(&runs, self.now_ms)
        };
        self.schedule.insert(&queued, self.now_ms);
        let recipients = queued.recipients;
        let known = Known {
            open: (0..recipients).collect(),
            taken: BTreeSet::new(),
            recipients,
        };
        self.known.insert(queued.id, known);
    }

    fn take(&mut self) -> bool {
        let Some(taken) = self.schedule.take_any(self.now_ms) else {
            return false;
        };
        let known = self.known.get_mut(&taken.ticket.id).unwrap();
        assert!(!taken.entry.open.is_empty());
        for index in &taken.entry.open {
            assert!(known.open.contains(index), "a recipient that is settled");
            assert!(known.taken.insert(*index), "a recipient that another has");
        }
        self.taken.push(taken);
        true
    }

    /// Settles the recipients whose bit is set.
    fn release(&mut self, which: usize, bits: u8, pause_ms: u64) {
        if self.taken.is_empty() {
            return;
        }
        let Taken { ticket, entry } = self.taken.swap_remove(which % self.taken.len());
        let Some(known) = self.known.get_mut(&ticket.id) else {
            return;
        };
        let is_settled = |index: &&u32| bits >> (**index % 8) & 1 == 1;
        let settled: Vec<_> = entry.open.iter().filter(is_settled).copied().collect();
        let is_last = self.schedule.is_last(ticket, &settled);
        known.open.retain(|index| !settled.contains(index));
        known.taken.retain(|index| !entry.open.contains(index));
        assert_eq!(is_last, known.open.is_empty());
        match self
            .schedule
            .settle(ticket, &settled, entry.attempts + 1, false)
        {
            Left::Open => {
                let due_ms = self.now_ms + pause_ms;
                self.schedule
                    .release(ticket, due_ms, Reading::Fine, self.now_ms);
            }
            Left::Nothing => {
                assert!(known.open.is_empty());
                self.known.remove(&ticket.id);
                self.schedule.finish(ticket, self.now_ms);
            }
        }
    }

    fn finish(&mut self, which: usize) {
        if self.taken.is_empty() {
            return;
        }
        let Taken { ticket, .. } = self.taken.swap_remove(which % self.taken.len());
        self.known.remove(&ticket.id);
        self.schedule.finish(ticket, self.now_ms);
    }

    fn step(&mut self, step: Step) {
        match step {
            Step::Insert(domains, pause_ms) => self.insert(&domains, pause_ms),
            Step::Take => {
                self.take();
            }
            Step::Release(which, bits, pause_ms) => self.release(which, bits, pause_ms),
            Step::Finish(which) => self.finish(which),
            Step::Change(number) => change(&mut self.schedule, table(number), self.now_ms),
            Step::Switch(number) => self.schedule.set_table(table(number)),
            Step::Wait(pause_ms) => self.now_ms += pause_ms,
        }
        let totals = self.schedule.totals();
        assert_eq!(totals.messages, self.known.len() as u64);
        let weights = self
            .known
            .values()
            .map(|known| Weight::of(known.recipients, known.open.len() as u64));
        assert_eq!(
            totals.weight,
            weights.fold(Weight::default(), |sum, one| sum + one)
        );
        // All of it is the network's.
        let held = self.schedule.held(&Account::Network);
        assert_eq!((held.weight, held.owed), (totals.weight, totals.owed));
        assert_eq!(held.bytes, totals.bytes);
    }

    /// Everything can be taken and settled in the end, and nothing is left.
    fn drain(&mut self) {
        while !self.taken.is_empty() {
            self.release(0, 0, 0);
        }
        change(&mut self.schedule, direct(), self.now_ms);
        for _ in 0..20 {
            self.now_ms += 10_000;
            while self.take() {
                self.release(0, 0xff, 0);
            }
        }
        assert!(self.known.is_empty(), "{:?}", self.known);
        assert_eq!(self.schedule.totals(), Totals::default());
        assert_eq!(self.schedule.held.count(), 0);
        assert_eq!(
            (
                self.schedule.messages.count(),
                self.schedule.pieces.count(),
                self.schedule.places.all.count()
            ),
            (0, 0, 0)
        );
        assert_eq!(self.schedule.next_due_ms(), None);
    }
}

proptest! {
    #[test]
    fn no_recipient_is_lost_or_in_two_hands(steps in prop::collection::vec(step(), 1..120)) {
        let mut bench = Bench::new();
        steps.into_iter().for_each(|step| bench.step(step));
        bench.drain();
    }
}
