//! The ways that mail takes.

use postroad_config::{Delivery, Match, Route, Target};

/// The ways that mail takes.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub(crate) struct Ways {
    /// Names of upstreams that stand in for each other, in order of preference; each such list once.
    pub(crate) upstreams: Vec<Vec<String>>,
    /// Whether some goes to the mail exchangers of its recipients.
    pub(crate) direct: bool,
}

impl Ways {
    /// Those that any mail can take: what comes behind a route that takes all mail is none.
    pub(super) fn of(delivery: &Delivery) -> Self {
        let mut ways = Self::default();
        let takes_all = |route: &Route| route.matches == Match::default();
        let end = delivery.routes.iter().position(takes_all);
        let routes = delivery
            .routes
            .iter()
            .take(end.map_or(usize::MAX, |end| end + 1));
        let rest = end.is_none().then_some(&delivery.default_route);
        for target in routes.map(|route| &route.to).chain(rest) {
            let upstreams = delivery.upstreams_of(target).into_iter();
            let names: Vec<_> = upstreams.map(|upstream| upstream.name.clone()).collect();
            if *target == Target::Direct {
                ways.direct = true;
            } else if !ways.upstreams.contains(&names) {
                ways.upstreams.push(names);
            }
        }
        ways
    }
}
