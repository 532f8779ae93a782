//! Who was promised what, and what arrived: one counter per message id on each side.

use std::sync::atomic::{AtomicU8, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use crate::message::Label;

/// Promises made and kept for the ids below a bound.
#[derive(Debug)]
pub(crate) struct Ledger {
    begin: Instant,
    acknowledged: Box<[AtomicU8]>,
    arrived: Box<[AtomicU8]>,
    arrivals: AtomicU64,
    /// Arrivals that no relay has had in its hands.
    unrelayed: AtomicU64,
    /// Microseconds from `begin` to the latest promise.
    promised_us: AtomicU64,
    /// Microseconds from `begin` to the first arrival of all.
    first_us: AtomicU64,
    /// Microseconds from `begin` to the latest first arrival of an id.
    arrived_us: AtomicU64,
}

/// The balance at the end.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub(crate) struct Balance {
    /// Messages that got 250.
    pub(crate) acknowledged: u64,
    /// Ids that arrived at least once.
    pub(crate) arrived: u64,
    /// Acknowledged and not arrived.
    pub(crate) missing: u64,
    /// Arrivals beyond the first of each id.
    pub(crate) duplicates: u64,
    /// Arrivals without a trace of a relay: the load talked to the sink.
    pub(crate) unrelayed: u64,
}

impl Ledger {
    /// An empty ledger for the ids `0..ids`.
    #[must_use]
    pub(crate) fn new(ids: usize) -> Self {
        let counters = || (0..ids).map(|_| AtomicU8::new(0)).collect();
        Self {
            begin: Instant::now(),
            acknowledged: counters(),
            arrived: counters(),
            arrivals: AtomicU64::new(0),
            unrelayed: AtomicU64::new(0),
            promised_us: AtomicU64::new(0),
            first_us: AtomicU64::new(u64::MAX),
            arrived_us: AtomicU64::new(0),
        }
    }

    /// The server has answered the end of this message's content with 250.
    pub(crate) fn acknowledge(&self, id: usize) {
        if let Some(counter) = self.acknowledged.get(id) {
            counter.fetch_add(1, Ordering::Relaxed);
            self.promised_us.fetch_max(self.now_us(), Ordering::Relaxed);
        }
    }

    /// The message has reached the sink. Ids that were never given out are not counted.
    pub(crate) fn arrive(&self, label: Label) {
        let Some(counter) = self.arrived.get(label.id) else {
            return;
        };
        let unrelayed = u64::from(!label.relayed);
        self.unrelayed.fetch_add(unrelayed, Ordering::Relaxed);
        if counter.fetch_add(1, Ordering::Relaxed) == 0 {
            let now_us = self.now_us();
            self.first_us.fetch_min(now_us, Ordering::Relaxed);
            self.arrived_us.fetch_max(now_us, Ordering::Relaxed);
            self.arrivals.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Different ids that have arrived.
    #[must_use]
    pub(crate) fn arrivals(&self) -> u64 {
        self.arrivals.load(Ordering::Relaxed)
    }

    /// When the first of them arrived, if one did.
    #[must_use]
    pub(crate) fn first_arrival(&self) -> Option<Instant> {
        let first_us = self.first_us.load(Ordering::Relaxed);
        (first_us < u64::MAX).then(|| self.begin + Duration::from_micros(first_us))
    }

    /// When the latest of them arrived.
    #[must_use]
    pub(crate) fn last_arrival(&self) -> Instant {
        self.begin + Duration::from_micros(self.arrived_us.load(Ordering::Relaxed))
    }

    /// When the latest promise was made.
    #[must_use]
    pub(crate) fn last_promise(&self) -> Instant {
        self.begin + Duration::from_micros(self.promised_us.load(Ordering::Relaxed))
    }

    fn now_us(&self) -> u64 {
        u64::try_from(self.begin.elapsed().as_micros()).unwrap_or(u64::MAX)
    }

    /// The ids that got 250, ascending.
    pub(crate) fn acknowledged(&self) -> impl Iterator<Item = usize> {
        ids(&self.acknowledged)
    }

    /// The ids that arrived, ascending.
    pub(crate) fn arrived(&self) -> impl Iterator<Item = usize> {
        ids(&self.arrived)
    }

    /// The balance now.
    #[must_use]
    pub(crate) fn balance(&self) -> Balance {
        let mut balance = Balance {
            unrelayed: self.unrelayed.load(Ordering::Relaxed),
            ..Balance::default()
        };
        for (acknowledged, arrived) in self.acknowledged.iter().zip(&self.arrived) {
            let acknowledged = acknowledged.load(Ordering::Relaxed) > 0;
            let arrived = u64::from(arrived.load(Ordering::Relaxed));
            balance.acknowledged += u64::from(acknowledged);
            balance.arrived += u64::from(arrived > 0);
            balance.missing += u64::from(acknowledged && arrived == 0);
            balance.duplicates += arrived.saturating_sub(1);
        }
        balance
    }
}

fn ids(counters: &[AtomicU8]) -> impl Iterator<Item = usize> {
    let counted = |counter: &AtomicU8| counter.load(Ordering::Relaxed) > 0;
    (0..)
        .zip(counters)
        .filter(move |(_, counter)| counted(counter))
        .map(|(id, _)| id)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn arrive(ledger: &Ledger, id: usize, relayed: bool) {
        ledger.arrive(Label { id, relayed });
    }

    #[test]
    fn a_balance_names_what_is_missing_and_what_came_twice() {
        let ledger = Ledger::new(4);
        ledger.acknowledge(0);
        ledger.acknowledge(1);
        arrive(&ledger, 1, true);
        arrive(&ledger, 1, true);
        // Its 250 was lost on the way: no promise, no fault.
        arrive(&ledger, 2, false);
        arrive(&ledger, 99, true);
        let expected = Balance {
            acknowledged: 2,
            arrived: 2,
            missing: 1,
            duplicates: 1,
            unrelayed: 1,
        };
        assert_eq!(ledger.balance(), expected);
        assert_eq!(ledger.arrivals(), 2);
        assert_eq!(ledger.acknowledged().collect::<Vec<_>>(), [0, 1]);
        assert_eq!(ledger.arrived().collect::<Vec<_>>(), [1, 2]);
    }
}
