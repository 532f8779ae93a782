//! Where mail waits, and why, all replicas together.
//!
//! Mail that goes at once is on its way to somewhere at any moment, and nobody wants to read where: a destination is of interest when
//! mail for it had to wait. Of several causes the one is told that keeps all of it: what is wrong, then a rate; what was put off is told with either.

use std::collections::BTreeMap;

use postroad_api::{DestinationSummary, Rate};
use postroad_config::status::{DESTINATIONS_MAX, DestinationStatus, RateOf, UpstreamFailure};

use super::figures;
use super::voices::Voices;

/// Mail waits for a rate.
const RATE_LIMITED: &str = "RateLimited";

/// Mail was put off, and nothing else keeps it.
const DEFERRED: &str = "Deferred";

/// Whether people want to know of it.
pub(super) const fn is_of_interest(destination: &DestinationStatus) -> bool {
    destination.deferred > 0 || destination.failing.is_some() || destination.rate.is_some()
}

/// Those with the most mail, as coarse as it takes to be written seldom.
pub(super) fn top(voices: &Voices<'_>, rates: &BTreeMap<RateOf, Rate>) -> Vec<DestinationSummary> {
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
        .map(|(name, sum)| sum.summary(name, rates))
        .collect();
    // Equal ones stay in the order of their names.
    top.sort_by_key(|summary| std::cmp::Reverse(summary.messages));
    top.truncate(DESTINATIONS_MAX);
    top
}

/// Of what differs between replicas, the first that says anything counts.
#[derive(Default)]
struct Sum<'a> {
    messages: u64,
    oldest: Option<i64>,
    failing: Option<&'a UpstreamFailure>,
    rate: Option<&'a RateOf>,
    answer: Option<&'a str>,
}

impl<'a> Sum<'a> {
    fn add(&mut self, found: &'a DestinationStatus) {
        self.messages = self.messages.saturating_add(found.messages);
        self.oldest = match (self.oldest, found.oldest_arrival) {
            (Some(earlier), Some(this)) => Some(earlier.min(this)),
            (one, other) => one.or(other),
        };
        self.failing = self.failing.or(found.failing.as_ref());
        self.rate = self.rate.or(found.rate.as_ref());
        self.answer = self.answer.or(found.answer.as_deref());
    }

    fn summary(self, destination: &str, rates: &BTreeMap<RateOf, Rate>) -> DestinationSummary {
        let (reason, message) = self.why(rates);
        DestinationSummary {
            destination: destination.to_owned(),
            messages: figures::rough(self.messages),
            oldest: self.oldest.map(figures::coarse_time),
            reason: Some(reason.to_owned()),
            message: Some(message),
        }
    }

    fn why(&self, rates: &BTreeMap<RateOf, Rate>) -> (&'static str, String) {
        match (self.failing, self.rate, self.answer) {
            (Some(failure), ..) => (failure.reason.as_str(), failure.message.clone()),
            (None, Some(of), None) => (RATE_LIMITED, limited(of, rates)),
            (None, Some(of), Some(answer)) => (
                RATE_LIMITED,
                format!("{}; some was put off: {answer}", limited(of, rates)),
            ),
            (None, None, Some(answer)) => (DEFERRED, answer.to_owned()),
            // Before the program started, or before the server there failed.
            (None, None, None) => (DEFERRED, "put off by the server there".to_owned()),
        }
    }
}

fn limited(of: &RateOf, rates: &BTreeMap<RateOf, Rate>) -> String {
    let whose = match of {
        RateOf::Upstream(name) => format!("of upstream {name}"),
        RateOf::Domain => "of each domain".to_owned(),
    };
    match rates.get(of) {
        Some(rate) => format!("waits for the rate {whose}: {rate}"),
        // It has just been taken out.
        None => format!("waits for the rate {whose}"),
    }
}
