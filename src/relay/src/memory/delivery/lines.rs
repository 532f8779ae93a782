//! Who waits for room. A tenant has four lines: one for what is small, one for what is large, and beside each one for a conversion, which holds
//! room already. They go by arrival, with two exceptions:
//! - what is small passes those before it if it fits and they do not;
//! - when a conversion begins to wait, nothing of its tenant that is small, or large, as it is gets any room for a while ([`Kind::stops_for`]), or
//!   there would always be something in its way. Not for longer: what it needs may be held by what hangs.

use std::collections::{HashMap, VecDeque};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::oneshot;
use tokio::time::Instant;

use super::Reservation;
use crate::room::Account;

/// Whose line it is, and which.
#[derive(Clone, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub(super) struct Line {
    pub(super) kind: Kind,
    pub(super) tenant: Account,
}

/// What those in a line wait for.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub(super) enum Kind {
    /// Much, beside what they have. Others wait for that: they go first.
    More,
    /// The same for a little.
    LittleMore,
    /// A little.
    Small,
    /// Much.
    Large,
}

impl Kind {
    pub(super) fn is_small(self) -> bool {
        matches!(self, Self::LittleMore | Self::Small)
    }

    fn is_conversion(self) -> bool {
        matches!(self, Self::More | Self::LittleMore)
    }

    /// The conversions that it waits for.
    fn conversion(self) -> Option<Self> {
        match self {
            Self::More | Self::LittleMore => None,
            Self::Small => Some(Self::LittleMore),
            Self::Large => Some(Self::More),
        }
    }

    /// For how long a conversion keeps others waiting: what takes its time has gone by then, and it is the lesser part of the time for which
    /// one waits after the other.
    fn stops_for(self) -> Duration {
        match self.is_small() {
            true => Duration::from_secs(3),
            false => Duration::from_secs(60),
        }
    }
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
    since: Instant,
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
    /// Whether whoever comes to it waits for nobody.
    pub(super) fn is_open(&self, line: &Line) -> bool {
        let inner = self.lock();
        !inner.waiting.contains_key(line) && !inner.is_stopped(line)
    }

    /// Whether those that come to it wait for a conversion of their tenant.
    pub(super) fn is_stopped(&self, line: &Line) -> bool {
        self.lock().is_stopped(line)
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
            since: Instant::now(),
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
            if inner.is_stopped(&line) {
                continue;
            }
            let Some(waiting) = inner.waiting.get_mut(&line) else {
                continue;
            };
            serve_line(&line, waiting, &lend);
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
    /// Whether those in it wait for a conversion of their tenant.
    fn is_stopped(&self, line: &Line) -> bool {
        let Some(kind) = line.kind.conversion() else {
            return false;
        };
        let tenant = line.tenant.clone();
        let waiting = self.waiting.get(&Line { kind, tenant });
        let first = waiting.and_then(VecDeque::front);
        first.is_some_and(|first| first.since.elapsed() < kind.stops_for())
    }

    /// By who has waited for longest, those first that want more.
    fn in_turn(&self) -> Vec<Line> {
        let fronts = self.waiting.iter().filter_map(|(line, waiting)| {
            let first = waiting.front()?;
            Some((!line.kind.is_conversion(), first.arrival, line.clone()))
        });
        let mut fronts: Vec<_> = fronts.collect();
        fronts.sort_unstable();
        fronts.into_iter().map(|(_, _, line)| line).collect()
    }
}

fn serve_line(
    line: &Line,
    waiting: &mut VecDeque<Waiter>,
    lend: impl Fn(&Line, u32) -> Option<Reservation>,
) {
    // What does not fit; what needs as much does not either.
    let mut too_much = u32::MAX;
    let mut place = 0;
    while let Some(units) = waiting.get(place).map(|waiter| waiter.units) {
        let room = match units < too_much {
            true => lend(line, units),
            false => None,
        };
        match room {
            Some(room) => {
                if let Some(waiter) = waiting.remove(place) {
                    // If it has gone away in this moment, the room is free again.
                    drop(waiter.answer.send(room));
                }
            }
            None if line.kind == Kind::Small => {
                too_much = too_much.min(units);
                place += 1;
            }
            None => return,
        }
    }
}

impl Standing<'_> {
    /// Whether nobody stands before it.
    pub(super) fn is_front(&self) -> bool {
        let inner = self.lines.lock();
        let front = inner.waiting.get(self.line).and_then(VecDeque::front);
        front.is_some_and(|front| front.arrival == self.arrival)
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
