//! A sorted map from messages to something small, made for ids that mostly come in order. Pure.
//!
//! Entries lie in runs, vectors of a fixed capacity, one behind the other. What comes in order fills run after run, so that an
//! entry costs what it takes itself; a tree of the standard library is half empty then, and a hash table holds everything twice
//! while it grows. A run that overflows is halved, neighbours that are small together are joined: so however entries come and
//! go, runs are half full on average at least, and [`Runs::entry_bytes_max`] is a bound.

use std::collections::VecDeque;
use std::mem::size_of;

use crate::MessageId;
use crate::number::wide;

/// Entries in a run: few enough that moving half of them is nothing, many enough that the run itself is nothing.
const RUN: usize = 128;

/// The map.
#[derive(Clone, Debug)]
pub struct Runs<V> {
    /// Not empty, each; any two neighbours hold [`RUN`] entries or more.
    runs: VecDeque<Run<V>>,
    len: usize,
}

#[derive(Clone, Debug)]
struct Run<V> {
    /// No larger than the first id, and larger than all in the runs before.
    low: MessageId,
    entries: Vec<(MessageId, V)>,
}

impl<V> Default for Runs<V> {
    fn default() -> Self {
        Self {
            runs: VecDeque::new(),
            len: 0,
        }
    }
}

impl<V> Runs<V> {
    /// Most memory for one entry of a large map, in bytes: of runs half full, and the list of runs just grown.
    #[must_use]
    pub const fn entry_bytes_max() -> u64 {
        let entry = size_of::<(MessageId, V)>();
        let run = 2 * size_of::<Run<V>>();
        wide(2 * entry + run.div_ceil(RUN / 2))
    }

    /// How many entries.
    #[must_use]
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// What is kept for a message.
    #[must_use]
    pub fn get(&self, id: MessageId) -> Option<&V> {
        let run = self.runs.get(self.run(id))?;
        let at = run.find(id).ok()?;
        run.entries.get(at).map(|(_, value)| value)
    }

    /// What is kept for a message.
    pub fn get_mut(&mut self, id: MessageId) -> Option<&mut V> {
        let at = self.run(id);
        let run = self.runs.get_mut(at)?;
        let at = run.find(id).ok()?;
        run.entries.get_mut(at).map(|(_, value)| value)
    }

    /// Keeps a value; returns the one that it replaces.
    pub fn insert(&mut self, id: MessageId, value: V) -> Option<V> {
        let at = self.run(id);
        let Some(run) = self.runs.get_mut(at) else {
            self.begin(id, value);
            return None;
        };
        let place = match run.find(id) {
            Ok(place) => return Some(std::mem::replace(&mut run.entries[place].1, value)),
            Err(place) => place,
        };
        if run.entries.len() < RUN {
            run.low = run.low.min(id);
            run.entries.insert(place, (id, value));
            self.len += 1;
        } else if place == RUN && at + 1 == self.runs.len() {
            self.begin(id, value);
        } else {
            self.halve(at);
            return self.insert(id, value);
        }
        None
    }

    /// Forgets a message; returns what was kept.
    pub fn remove(&mut self, id: MessageId) -> Option<V> {
        let at = self.run(id);
        let run = self.runs.get_mut(at)?;
        let place = run.find(id).ok()?;
        let (_, value) = run.entries.remove(place);
        self.len -= 1;
        if run.entries.is_empty() {
            self.runs.remove(at);
        }
        self.join(at);
        self.join(at.saturating_sub(1));
        Some(value)
    }

    /// All entries in the order of their ids.
    pub fn iter(&self) -> impl Iterator<Item = (MessageId, &V)> {
        let runs = self.runs.iter();
        runs.flat_map(|run| run.entries.iter().map(|(id, value)| (*id, value)))
    }

    /// The run that an id belongs to; 0 if there is none yet.
    fn run(&self, id: MessageId) -> usize {
        let behind = self.runs.partition_point(|run| run.low <= id);
        behind.saturating_sub(1)
    }

    /// A new run at the end.
    fn begin(&mut self, id: MessageId, value: V) {
        let mut entries = Vec::with_capacity(RUN);
        entries.push((id, value));
        self.runs.push_back(Run { low: id, entries });
        self.len += 1;
    }

    fn halve(&mut self, at: usize) {
        let mut entries = Vec::with_capacity(RUN);
        entries.extend(self.runs[at].entries.drain(RUN / 2..));
        let low = entries[0].0;
        self.runs.insert(at + 1, Run { low, entries });
        // In this order: the first changes what the numbers mean.
        self.join(at + 1);
        self.join(at.saturating_sub(1));
    }

    /// Joins a run with the next one, if both are small.
    fn join(&mut self, at: usize) {
        let (Some(one), Some(next)) = (self.runs.get(at), self.runs.get(at + 1)) else {
            return;
        };
        if one.entries.len() + next.entries.len() < RUN
            && let Some(next) = self.runs.remove(at + 1)
        {
            self.runs[at].entries.extend(next.entries);
        }
    }
}

impl<V> Run<V> {
    /// Where an id is, or where it belongs.
    fn find(&self, id: MessageId) -> Result<usize, usize> {
        // What is new mostly comes last.
        match self.entries.last() {
            Some((last, _)) if *last < id => Err(self.entries.len()),
            _ => self.entries.binary_search_by_key(&id, |(id, _)| *id),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;

    use super::*;

    fn id(number: u16) -> MessageId {
        MessageId::from_bytes(u128::from(number).to_be_bytes())
    }

    fn check(runs: &Runs<u16>) {
        let sizes: Vec<usize> = runs.runs.iter().map(|run| run.entries.len()).collect();
        assert!(!sizes.contains(&0), "{sizes:?}");
        assert!(
            sizes.windows(2).all(|pair| pair[0] + pair[1] >= RUN),
            "{sizes:?}"
        );
        assert_eq!(sizes.iter().sum::<usize>(), runs.len());
        let capacities = runs.runs.iter().map(|run| run.entries.capacity());
        assert!(capacities.max().unwrap_or(0) <= RUN);
    }

    proptest! {
        #[test]
        fn holds_what_a_tree_holds(moves in proptest::collection::vec((0..4_u8, any::<u16>()), 1..3000)) {
            let (mut runs, mut tree) = (Runs::default(), BTreeMap::new());
            let mut last = 20_000;
            for (kind, number) in moves {
                match kind {
                    0 => {
                        last += 1;
                        prop_assert_eq!(runs.insert(id(last), number), tree.insert(id(last), number));
                    }
                    1 => prop_assert_eq!(runs.insert(id(number), number), tree.insert(id(number), number)),
                    2 => prop_assert_eq!(runs.remove(id(number % 512 + 20_000)), tree.remove(&id(number % 512 + 20_000))),
                    _ => prop_assert_eq!(runs.get(id(number)), tree.get(&id(number))),
                }
            }
            check(&runs);
            prop_assert!(runs.iter().eq(tree.iter().map(|(id, value)| (*id, value))));
            while let Some((id, value)) = tree.pop_first() {
                prop_assert_eq!(runs.remove(id), Some(value));
            }
            prop_assert!(runs.is_empty() && runs.runs.is_empty());
        }
    }

    #[test]
    fn what_comes_in_order_fills_its_runs() {
        let mut runs = Runs::default();
        for number in 0..10_000 {
            runs.insert(id(number), number);
        }
        check(&runs);
        assert_eq!(runs.runs.len(), 10_000_usize.div_ceil(RUN));
        for number in (0..10_000).filter(|number| number % 10 != 0) {
            runs.remove(id(number));
        }
        check(&runs);
        assert!(
            runs.runs.len() <= 2 * 1_000 / RUN + 1,
            "what is left is joined"
        );
    }
}
