//! What whoever runs the relay does to mail that waits: overrides, and a route that leads elsewhere for a while.

use std::time::Duration;

use postroad_config::{Action, Match, Override, Pattern, Route, Target};

use crate::plan::Hop;

/// Whose mail goes to [`REROUTED_HOP`] while it is rerouted, and nowhere else then.
pub(crate) const REROUTED_DOMAIN: &str = "b.example";
pub(crate) const REROUTED_HOP: Hop = 0;

/// Domains whose mail is meant. To none of them does a report go.
pub(crate) const DOMAINS: [&str; 3] = ["a.example", REROUTED_DOMAIN, "c.example"];

/// What a report says of mail that was returned by hand.
pub(crate) const REASON: &str = "returned by hand";

/// Mail that was under way when something began or ended comes within this time: longer than a trouble of the network lasts.
const UNDER_WAY: Duration = Duration::from_secs(6);

/// What is done to the mail for a domain, for as long as it stands.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Intervention {
    /// It waits.
    Hold(&'static str),
    /// It is tried at once.
    Flush(&'static str),
    /// It is returned.
    Bounce(&'static str),
    /// That for [`REROUTED_DOMAIN`] takes another way.
    Reroute,
}

impl Intervention {
    /// As the configuration has it, unless it is a route.
    pub(crate) fn to_override(self, name: String) -> Option<Override> {
        let (domain, action) = match self {
            Self::Hold(domain) => (domain, Action::Hold),
            Self::Flush(domain) => (domain, Action::Flush),
            Self::Bounce(domain) => {
                let reason = REASON.to_owned();
                (domain, Action::Bounce { reason })
            }
            Self::Reroute => return None,
        };
        Some(Override {
            name,
            matches: to(domain),
            arrived_before: None,
            action,
        })
    }

    /// As the configuration has it, unless it is an override.
    pub(crate) fn to_route(self, name: String) -> Option<Route> {
        (self == Self::Reroute).then(|| Route {
            name,
            matches: to(REROUTED_DOMAIN),
            to: Target::Upstreams(vec!["first".to_owned()]),
        })
    }
}

/// Whether something stands, as far as can be told from outside.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub(crate) enum Stands {
    No,
    /// It has just begun, or ended.
    Perhaps,
    Surely,
}

#[derive(Clone, Copy, Debug)]
struct Standing {
    what: Intervention,
    from: Duration,
    until: Option<Duration>,
}

impl Standing {
    fn stands(&self, at: Duration) -> Stands {
        let Self { from, until, .. } = *self;
        let is_over = until.is_some_and(|until| until <= at);
        let is_long_over = until.is_some_and(|until| until + UNDER_WAY < at);
        match () {
            () if at < from || is_long_over => Stands::No,
            () if at < from + UNDER_WAY || is_over => Stands::Perhaps,
            () => Stands::Surely,
        }
    }
}

/// What was done, and while it stood.
#[derive(Debug, Default)]
pub(crate) struct Interventions(Vec<Standing>);

impl Interventions {
    pub(crate) fn begin(&mut self, what: Intervention, from: Duration) {
        self.0.push(Standing {
            what,
            from,
            until: None,
        });
    }

    /// One of those that are the same is over.
    pub(crate) fn end(&mut self, what: Intervention, at: Duration) {
        let mut standing = self.0.iter_mut();
        let standing = standing.find(|one| one.what == what && one.until.is_none());
        standing.unwrap().until = Some(at);
    }

    pub(crate) fn stands(&self, what: Intervention, at: Duration) -> Stands {
        let same = self.0.iter().filter(|one| one.what == what);
        let stands = same.map(|one| one.stands(at));
        stands.max().unwrap_or(Stands::No)
    }

    /// Whether it has stood by then, or does.
    pub(crate) fn has_begun(&self, what: Intervention, by: Duration) -> bool {
        self.0.iter().any(|one| one.what == what && one.from <= by)
    }

    /// Whether mail that came then may have met it.
    pub(crate) fn meets(&self, what: Intervention, since: Duration) -> bool {
        let may_meet = |one: &Standing| {
            let until = one.until.map(|until| until + UNDER_WAY);
            one.what == what && until.is_none_or(|until| since <= until)
        };
        self.0.iter().any(may_meet)
    }
}

/// The domain of a recipient, if it is one of [`DOMAINS`].
pub(crate) fn domain(recipient: &str) -> Option<&'static str> {
    let (_, domain) = recipient.split_once('@')?;
    DOMAINS.into_iter().find(|one| *one == domain)
}

fn to(domain: &str) -> Match {
    Match {
        recipients: vec![Pattern::Domain(domain.into())],
        ..Match::default()
    }
}
