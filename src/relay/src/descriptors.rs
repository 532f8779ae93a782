//! How many files and sockets the process may have open, and whether that is enough.
//!
//! What is too few is no reason not to start: the clients that cannot be accepted wait in the kernel's queue, as for any other pause.

use postroad_config::RelayConfig;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

use crate::dns;
use crate::schedule;

/// Of so many parts of what may be open one is for connections to other servers: clients have as many, and each question to a name server has a
/// socket too.
const OUTGOING_PARTS: u64 = 4;

/// Segments of the spool, of which 1,000 are 64 GiB; the listeners; connections of the kubelet, of Prometheus and of the operator.
const OTHERS: u64 = 1_500;

/// What the configuration allows to be open at once.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
struct Demand {
    clients: u64,
    outgoing: u64,
    questions: u64,
}

/// Raises the limit of the process as far as it may, warns if it is too low for what the configuration allows, and says how many
/// connections to other servers there is room for.
#[must_use]
pub fn raise(config: &RelayConfig) -> u32 {
    let limit = getrlimit(Resource::Nofile);
    let raised = Rlimit {
        current: limit.maximum,
        maximum: limit.maximum,
    };
    let current = match setrlimit(Resource::Nofile, raised) {
        Ok(()) => limit.maximum,
        Err(error) => {
            tracing::warn!(%error, "the limit on open files stays as it is");
            limit.current
        }
    };
    // There is no limit.
    let Some(limit) = current else {
        return u32::MAX;
    };
    let demand = Demand::of(config);
    if limit < demand.sum() {
        warn(limit, demand);
    }
    outgoing(limit)
}

fn warn(limit: u64, demand: Demand) {
    let Demand {
        clients,
        outgoing,
        questions,
    } = demand;
    tracing::warn!(
        limit,
        needed = demand.sum(),
        clients,
        outgoing,
        questions,
        others = OTHERS,
        "the limit on open files (RLIMIT_NOFILE) is too low for what the configuration allows: clients may have to wait to be accepted"
    );
}

fn outgoing(open_max: u64) -> u32 {
    u32::try_from(open_max / OUTGOING_PARTS).unwrap_or(u32::MAX)
}

impl Demand {
    fn of(config: &RelayConfig) -> Self {
        let delivery = &config.delivery;
        let most = u64::from(schedule::CONNECTIONS_MAX);
        let upstreams = delivery.upstreams.iter();
        let upstreams = upstreams.map(|upstream| u64::from(upstream.limits.connections));
        let (outgoing, questions) = match delivery.uses_direct() {
            true => (most, dns::QUESTIONS_MAX as u64),
            false => (upstreams.sum::<u64>().min(most), 0),
        };
        Self {
            clients: u64::from(config.limits.connections),
            outgoing,
            questions,
        }
    }

    fn sum(self) -> u64 {
        self.clients + self.outgoing + self.questions + OTHERS
    }
}

#[cfg(test)]
mod tests {
    use postroad_config::Target;

    use super::*;
    use crate::rig::Rig;

    #[test]
    fn a_part_of_what_may_be_open_is_for_connections_to_other_servers() {
        assert_eq!(
            [0, 1024, 1 << 20, 1 << 40].map(outgoing),
            [0, 256, 1 << 18, u32::MAX]
        );
    }

    #[tokio::test]
    async fn the_limit_is_as_high_as_it_may_be() {
        let live = Rig::new(1 << 20).context.live();
        assert!(raise(&live.config) > 0);
        let Rlimit { current, maximum } = getrlimit(Resource::Nofile);
        assert_eq!(current, maximum);
    }

    #[tokio::test]
    async fn what_is_needed_follows_from_the_limits_and_from_where_mail_goes() {
        let mut config = Rig::new(1 << 20).context.live().config.clone();
        let upstreams = Demand {
            clients: 10,
            outgoing: 1,
            questions: 0,
        };
        assert_eq!(Demand::of(&config), upstreams);
        config.delivery.default_route = Target::Direct;
        config.limits.connections = 2_000;
        let direct = Demand {
            clients: 2_000,
            outgoing: 2_000,
            questions: 1_024,
        };
        assert_eq!(Demand::of(&config), direct);
        assert_eq!(direct.sum(), 6_524);
    }
}
