//! Who was promised what, and what arrived: one counter per message id on each side.

use std::sync::atomic::{AtomicU8, AtomicU64, Ordering};
use std::time::{Duration, Instant};

/// Promises made and kept for the ids below a bound.
#[derive(Debug)]
pub(crate) struct Ledger {
    begin: Instant,
    acknowledged: Box<[AtomicU8]>,
    arrived: Box<[AtomicU8]>,
    arrivals: AtomicU64,
    /// Microseconds from `begin` to the latest promise.
    promised_us: AtomicU64,
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
            promised_us: AtomicU64::new(0),
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
    pub(crate) fn arrive(&self, id: usize) {
        let Some(counter) = self.arrived.get(id) else {
            return;
        };
        if counter.fetch_add(1, Ordering::Relaxed) == 0 {
            self.arrived_us.fetch_max(self.now_us(), Ordering::Relaxed);
            self.arrivals.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Different ids that have arrived.
    #[must_use]
    pub(crate) fn arrivals(&self) -> u64 {
        self.arrivals.load(Ordering::Relaxed)
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

    /// The balance now.
    #[must_use]
    pub(crate) fn balance(&self) -> Balance {
        let mut balance = Balance::default();
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_balance_names_what_is_missing_and_what_came_twice() {
        let ledger = Ledger::new(4);
        ledger.acknowledge(0);
        ledger.acknowledge(1);
        ledger.arrive(1);
        ledger.arrive(1);
        // Its 250 was lost on the way: no promise, no fault.
        ledger.arrive(2);
        ledger.arrive(99);
        let expected = Balance {
            acknowledged: 2,
            arrived: 2,
            missing: 1,
            duplicates: 1,
        };
        assert_eq!(ledger.balance(), expected);
        assert_eq!(ledger.arrivals(), 2);
    }
}
