//! Who was turned away for a share of the queue that is used up: for the status, and so that the log says so without a line for each
//! message.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use super::Queue;
use crate::room::Account;

/// For so long after a refusal a share counts as used up, in milliseconds: several looks of the operator. There is one line in the
/// log for each tenant in this time.
const RECENT_MS: u64 = 60_000;

/// Most tenants that are remembered; beyond them refusals are counted only.
const TENANTS_MAX: usize = 256;

/// The tenants that were refused lately.
#[derive(Debug, Default)]
pub(super) struct Refused {
    tenants: Mutex<BTreeMap<Account, Mark>>,
}

#[derive(Clone, Copy, Debug)]
struct Mark {
    last_ms: u64,
    logged_ms: u64,
    unlogged: u64,
}

impl Queue {
    /// Remembers that a tenant was refused at this time. Gives how many refusals a line in the log is to tell of, if there is to be one.
    pub fn refused_share(&self, account: &Account, now_ms: u64) -> Option<u64> {
        self.shared.refused.note(account, now_ms)
    }

    /// Whose mail is turned away because of their share, or was within the last minute: `most` of them at most.
    #[must_use]
    pub fn full_shares(&self, most: usize, now_ms: u64) -> Vec<Account> {
        self.shared.refused.recent(most, now_ms)
    }
}

impl Refused {
    fn note(&self, account: &Account, now_ms: u64) -> Option<u64> {
        let mut tenants = self.lock();
        if tenants.len() >= TENANTS_MAX {
            tenants.retain(|_, mark| is_recent(mark.last_ms, now_ms));
        }
        if let Some(mark) = tenants.get_mut(account) {
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
            tenants.insert(account.clone(), mark);
            1
        })
    }

    fn recent(&self, most: usize, now_ms: u64) -> Vec<Account> {
        let tenants = self.lock();
        let recent = tenants
            .iter()
            .filter(|(_, mark)| is_recent(mark.last_ms, now_ms));
        recent
            .take(most)
            .map(|(account, _)| account.clone())
            .collect()
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<Account, Mark>> {
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
            let line = refused.note(&tenant.into(), at(seconds));
            assert_eq!(line, expected, "{tenant} {seconds}");
        }
        let recent = |most, seconds| refused.recent(most, at(seconds));
        assert_eq!(recent(9, 100), [Account::Network, "a".into()]);
        assert_eq!(recent(1, 100), [Account::Network]);
        assert_eq!(recent(9, 121), [Account::Network]);
        assert!(recent(9, 260).is_empty());
    }

    #[test]
    fn so_many_are_remembered_and_no_more() {
        let refused = Refused::default();
        for number in 0..TENANTS_MAX {
            let account = Account::from(&*format!("t{number}"));
            assert_eq!(refused.note(&account, NOW_MS), Some(1));
        }
        let late = Account::from("late");
        assert_eq!(refused.note(&late, NOW_MS), None);
        assert_eq!(refused.note(&late, NOW_MS + RECENT_MS), Some(1));
        assert_eq!(refused.recent(9, NOW_MS + RECENT_MS), [late]);
    }
}
