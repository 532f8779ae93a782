//! Where mail goes: the routing table of a configuration. Pure.
//!
//! A recipient's destination follows from the domain of the sender, its own domain and the login. It is looked up when mail is filed, and
//! again by [`crate::schedule::Schedule::review`] after a change, so that what waits goes where the configuration in force says.

use std::sync::Arc;

use postroad_config::status::DEFAULT_ROUTE;
use postroad_config::{Action, Delivery, Match, Override, Subject, Target};

/// A place that mail waits for. What has the same key goes out in one copy.
#[derive(Clone, Debug, Eq, Hash, PartialEq)]
pub enum Key {
    /// The upstreams of the route of this name.
    Route(Arc<str>),
    /// The upstreams of what no route fits.
    Default,
    /// The mail exchangers of this domain.
    Domain(Arc<str>),
    /// Nowhere, as long as the override of this name stands.
    Hold(Arc<str>),
    /// Back to the sender, for the reason of the override of this name.
    Bounce(Arc<str>),
}

impl Key {
    /// As status and logs call it.
    pub fn label(&self) -> &str {
        match self {
            Self::Default => DEFAULT_ROUTE,
            Self::Route(name) | Self::Domain(name) | Self::Hold(name) | Self::Bounce(name) => name,
        }
    }
}

/// Where a recipient's mail goes: [`Key`], with routes and overrides by their index.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Way {
    /// As [`Key::Route`].
    Route(usize),
    /// As [`Key::Default`].
    Default,
    /// As [`Key::Domain`], with the recipient's.
    Domain,
    /// As [`Key::Hold`].
    Hold(usize),
    /// As [`Key::Bounce`].
    Bounce(usize),
}

/// Routes and overrides as they are in force. Immutable.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Table {
    routes: Vec<(Match, String, Target)>,
    default: Target,
    overrides: Vec<Override>,
}

impl Table {
    /// The table of a configuration.
    #[must_use]
    pub fn new(delivery: &Delivery) -> Self {
        let route = |route: &postroad_config::Route| {
            (route.matches.clone(), route.name.clone(), route.to.clone())
        };
        Self {
            routes: delivery.routes.iter().map(route).collect(),
            default: delivery.default_route.clone(),
            overrides: delivery.overrides.clone(),
        }
    }

    /// Where mail goes that arrived at this time.
    #[must_use]
    pub fn way(&self, subject: &Subject<'_>, arrival_ms: u64) -> Way {
        for (index, found) in self.fitting(subject, arrival_ms) {
            match found.action {
                Action::Hold => return Way::Hold(index),
                Action::Bounce { .. } => return Way::Bounce(index),
                Action::Flush => {}
            }
        }
        let fits = |(matches, ..): &(Match, String, Target)| matches.fits(subject);
        let index = self.routes.iter().position(fits);
        let target = index.map_or(&self.default, |index| &self.routes[index].2);
        match (target, index) {
            (Target::Direct, _) => Way::Domain,
            (Target::Upstreams(_), Some(index)) => Way::Route(index),
            (Target::Upstreams(_), None) => Way::Default,
        }
    }

    /// The names of the routes, by index.
    pub fn routes(&self) -> impl Iterator<Item = &str> {
        self.routes.iter().map(|(_, name, _)| name.as_str())
    }

    /// The names of the overrides, by index.
    pub fn overrides(&self) -> impl Iterator<Item = &str> {
        self.overrides.iter().map(|found| found.name.as_str())
    }

    /// Whether what waits for its next attempt is due at once, because of an override that `before` did not have.
    #[must_use]
    pub fn flushes(&self, before: &Self, subject: &Subject<'_>, arrival_ms: u64) -> bool {
        let mut fitting = self.fitting(subject, arrival_ms);
        fitting.any(|(_, found)| found.action == Action::Flush && !before.overrides.contains(found))
    }

    /// The upstreams of a destination; `None` if that is none.
    #[must_use]
    pub fn target(&self, key: &Key) -> Option<&Target> {
        match key {
            Key::Default => Some(&self.default),
            Key::Route(name) => {
                let mut routes = self.routes.iter();
                routes
                    .find(|(_, own, _)| **own == **name)
                    .map(|(.., target)| target)
            }
            Key::Domain(_) | Key::Hold(_) | Key::Bounce(_) => None,
        }
    }

    /// Why the override of this name returns mail; `None` if it does not any more.
    #[must_use]
    pub fn reason(&self, name: &str) -> Option<&str> {
        let found = self.overrides.iter().find(|found| found.name == name)?;
        match &found.action {
            Action::Bounce { reason } => Some(reason),
            Action::Hold | Action::Flush => None,
        }
    }

    fn fitting<'a>(
        &'a self,
        subject: &'a Subject<'_>,
        arrival_ms: u64,
    ) -> impl Iterator<Item = (usize, &'a Override)> {
        let arrival = i64::try_from(arrival_ms / 1000).unwrap_or(i64::MAX);
        self.overrides.iter().enumerate().filter(move |(_, found)| {
            found.arrived_before.is_none_or(|before| arrival < before)
                && found.matches.fits(subject)
        })
    }
}

#[cfg(test)]
mod tests;
