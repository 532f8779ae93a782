//! Who was turned away for a share of the queue that is used up: for the status, and so that the log says so without a line for each
//! message.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use super::Queue;

/// For so long after a refusal a share counts as used up, in milliseconds: several looks of the operator. There is one line in the
/// log for each tenant in this time.
const RECENT_MS: u64 = 60_000;

/// Most tenants that are remembered; beyond them refusals are counted only.
const TENANTS_MAX: usize = 256;

/// The tenants that were refused lately.
#[derive(Debug, Default)]
pub(super) struct Refused {
    tenants: Mutex<BTreeMap<String, Mark>>,
}

#[derive(Clone, Copy, Debug)]
struct Mark {
    last_ms: u64,
    logged_ms: u64,
    unlogged: u64,
}

impl Queue {
    /// Remembers that a tenant was refused at this time. Gives how many refusals a line in the log is to tell of, if there is to be one.
    pub fn refused_share(&self, tenant: &str, now_ms: u64) -> Option<u64> {
        self.shared.refused.note(tenant, now_ms)
    }

    /// Whose mail is turned away because of their share, or was within the last minute: `most` of them at most. The network's name is
    /// empty.
    #[must_use]
    pub fn full_shares(&self, most: usize, now_ms: u64) -> Vec<String> {
        self.shared.refused.recent(most, now_ms)
    }
}

impl Refused {
    fn note(&self, tenant: &str, now_ms: u64) -> Option<u64> {
        let mut tenants = self.lock();
        if tenants.len() >= TENANTS_MAX {
            tenants.retain(|_, mark| is_recent(mark.last_ms, now_ms));
        }
        if let Some(mark) = tenants.get_mut(tenant) {
            mark.last_ms = now_ms;
            mark.unlogged += 1;
            let is_due = !is_recent(mark.logged_ms, now_ms);
            return is_due.then(|| {
                mark.logged_ms = now_ms;
                std::mem::take(&mut mark.unlogged)
            });
        }
        (tenants.len() < TENANTS_MAX).then(|| {
            let mark = Mark {
                last_ms: now_ms,
                logged_ms: now_ms,
                unlogged: 0,
            };
            tenants.insert(tenant.to_owned(), mark);
            1
        })
    }

    fn recent(&self, most: usize, now_ms: u64) -> Vec<String> {
        let tenants = self.lock();
        let recent = tenants
            .iter()
            .filter(|(_, mark)| is_recent(mark.last_ms, now_ms));
        recent.take(most).map(|(name, _)| name.clone()).collect()
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<String, Mark>> {
        // Entries are whole at any time.
        self.tenants.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Also if the clock was set back since: then it is as if it had just been.
fn is_recent(then_ms: u64, now_ms: u64) -> bool {
    now_ms.saturating_sub(then_ms) < RECENT_MS
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW_MS: u64 = 1_700_000_000_000;

    #[test]
    fn there_is_a_line_a_minute_for_each_tenant_and_it_counts_what_came_since() {
        let refused = Refused::default();
        let at = |seconds: u64| NOW_MS + 1000 * seconds;
        for (tenant, seconds, expected) in [
            ("a", 0, Some(1)),
            ("a", 1, None),
            ("", 1, Some(1)),
            ("a", 59, None),
            ("a", 60, Some(3)),
            ("a", 61, None),
            ("", 200, Some(1)),
        ] {
            let line = refused.note(tenant, at(seconds));
            assert_eq!(line, expected, "{tenant} {seconds}");
        }
        assert_eq!(refused.recent(9, at(100)), ["", "a"]);
        assert_eq!(refused.recent(1, at(100)), [""]);
        assert_eq!(refused.recent(9, at(121)), [""]);
        assert!(refused.recent(9, at(260)).is_empty());
    }

    #[test]
    fn so_many_are_remembered_and_no_more() {
        let refused = Refused::default();
        for number in 0..TENANTS_MAX {
            assert_eq!(refused.note(&format!("t{number}"), NOW_MS), Some(1));
        }
        assert_eq!(refused.note("late", NOW_MS), None);
        assert_eq!(refused.note("late", NOW_MS + RECENT_MS), Some(1));
        assert_eq!(refused.recent(9, NOW_MS + RECENT_MS), ["late"]);
    }
}
