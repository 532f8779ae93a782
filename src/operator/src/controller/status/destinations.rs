//! Where mail waits, all replicas together.
//!
//! Mail that goes at once is on its way to somewhere at any moment, and nobody wants to read where: a destination is of interest when
//! mail for it had to wait.

use std::collections::BTreeMap;

use postroad_api::DestinationSummary;
use postroad_config::status::{DESTINATIONS_MAX, DestinationStatus, UpstreamFailure};

use super::figures;
use super::voices::Voices;

/// Whether people want to know of it.
pub(super) fn is_of_interest(destination: &DestinationStatus) -> bool {
    destination.deferred > 0 || destination.failing.is_some()
}

/// Those with the most mail, as coarse as it takes to be written seldom.
pub(super) fn top(voices: &Voices<'_>) -> Vec<DestinationSummary> {
    let mut all: BTreeMap<&str, Sum<'_>> = BTreeMap::new();
    for (_, status) in &voices.heard {
        for found in status
            .queue
            .destinations
            .iter()
            .filter(|found| is_of_interest(found))
        {
            all.entry(&found.destination).or_default().add(found);
        }
    }
    let mut top: Vec<_> = all
        .into_iter()
        .map(|(name, sum)| sum.summary(name))
        .collect();
    // Equal ones stay in the order of their names.
    top.sort_by_key(|summary| std::cmp::Reverse(summary.messages));
    top.truncate(DESTINATIONS_MAX);
    top
}

#[derive(Default)]
struct Sum<'a> {
    messages: u64,
    oldest: Option<i64>,
    failing: Option<&'a UpstreamFailure>,
}

impl<'a> Sum<'a> {
    fn add(&mut self, found: &'a DestinationStatus) {
        self.messages = self.messages.saturating_add(found.messages);
        self.oldest = match (self.oldest, found.oldest_arrival) {
            (Some(earlier), Some(this)) => Some(earlier.min(this)),
            (one, other) => one.or(other),
        };
        self.failing = self.failing.or(found.failing.as_ref());
    }

    fn summary(self, destination: &str) -> DestinationSummary {
        let Self {
            messages,
            oldest,
            failing,
        } = self;
        DestinationSummary {
            destination: destination.to_owned(),
            messages: figures::rough(messages),
            oldest: oldest.map(figures::coarse_time),
            reason: failing.map(|failure| failure.reason.as_str().to_owned()),
            message: failing.map(|failure| failure.message.clone()),
        }
    }
}
