//! Who waits for room, in the order of arrival.

use std::collections::{HashMap, VecDeque};
use std::sync::{Mutex, MutexGuard, PoisonError};

use tokio::sync::oneshot;

use super::{Reservation, Tenant};

/// A line: whoever stands in it waits for those who came to it before, and for nobody else.
#[derive(Clone, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub(super) struct Line {
    pub(super) kind: Kind,
    pub(super) tenant: Tenant,
}

/// What those in a line wait for.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub(super) enum Kind {
    /// More room than they have. Others wait for what they have: they go first.
    More,
    /// A little.
    Small,
    /// Much.
    Large,
}

/// All lines. None is empty.
#[derive(Debug, Default)]
pub(super) struct Lines(Mutex<Inner>);

#[derive(Debug, Default)]
pub(super) struct Inner {
    waiting: HashMap<Line, VecDeque<Waiter>>,
    /// How many have come.
    arrivals: u64,
}

#[derive(Debug)]
struct Waiter {
    arrival: u64,
    units: u32,
    answer: oneshot::Sender<Reservation>,
}

/// A place in a line, until dropped.
pub(super) struct Standing<'a> {
    lines: &'a Lines,
    line: &'a Line,
    arrival: u64,
}

impl Lines {
    /// Whether somebody stands in it.
    pub(super) fn has(&self, line: &Line) -> bool {
        self.lock().waiting.contains_key(line)
    }

    /// Whether nobody stands in any.
    #[cfg(test)]
    pub(super) fn is_empty(&self) -> bool {
        self.lock().waiting.is_empty()
    }

    /// How many stand in it.
    #[cfg(test)]
    pub(super) fn len(&self, line: &Line) -> usize {
        self.lock().waiting.get(line).map_or(0, VecDeque::len)
    }

    /// Stands at the end of a line.
    pub(super) fn join<'a>(
        &'a self,
        line: &'a Line,
        units: u32,
    ) -> (Standing<'a>, oneshot::Receiver<Reservation>) {
        let (answer, room) = oneshot::channel();
        let mut inner = self.lock();
        inner.arrivals += 1;
        let arrival = inner.arrivals;
        let waiting = inner.waiting.entry(line.clone()).or_default();
        waiting.push_back(Waiter {
            arrival,
            units,
            answer,
        });
        let standing = Standing {
            lines: self,
            line,
            arrival,
        };
        (standing, room)
    }

    /// Gives those in front of each line what they get, as far as it goes.
    pub(super) fn serve(&self, lend: impl Fn(&Line, u32) -> Option<Reservation>) {
        let mut inner = self.lock();
        for line in inner.in_turn() {
            let Some(waiting) = inner.waiting.get_mut(&line) else {
                continue;
            };
            while let Some(first) = waiting.front()
                && let Some(room) = lend(&line, first.units)
            {
                if let Some(first) = waiting.pop_front() {
                    // If it has gone away in this moment, the room is free again.
                    drop(first.answer.send(room));
                }
            }
            if waiting.is_empty() {
                inner.waiting.remove(&line);
            }
        }
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        // Each step leaves the lines whole.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Inner {
    /// By who has waited for longest, those first that want more.
    fn in_turn(&self) -> Vec<Line> {
        let fronts = self.waiting.iter().filter_map(|(line, waiting)| {
            let first = waiting.front()?;
            Some((line.kind != Kind::More, first.arrival, line.clone()))
        });
        let mut fronts: Vec<_> = fronts.collect();
        fronts.sort_unstable();
        fronts.into_iter().map(|(_, _, line)| line).collect()
    }
}

impl Drop for Standing<'_> {
    fn drop(&mut self) {
        let mut inner = self.lines.lock();
        let Some(waiting) = inner.waiting.get_mut(self.line) else {
            return;
        };
        if let Ok(place) = waiting.binary_search_by_key(&self.arrival, |waiter| waiter.arrival) {
            waiting.remove(place);
        }
        if waiting.is_empty() {
            inner.waiting.remove(self.line);
        }
    }
}
