//! Where a domain's mail goes: the questions to the DNS, and what [`crate::mx`] makes of the answers.

use std::net::IpAddr;

use futures::future::join_all;

use super::{DirectFailure, Opener};
use crate::clock;
use crate::dns::{self, Dns, Exchange};
use crate::mx::{self, Host, Plan, Source, Target};

/// Hosts that are asked for at the same time in one attempt. Most domains have no more, and a name server that is slow about one
/// must not be asked about eight by every attempt there is.
const HOSTS_AT_ONCE: usize = 2;

/// Where a domain's mail goes.
pub(super) struct Found {
    pub(super) source: Source,
    /// In the order in which they are tried.
    pub(super) targets: Vec<Target>,
    /// The preference of the best host, which need not be among the targets: its address may not be known now.
    pub(super) best: Option<u16>,
}

impl Opener {
    /// Where a domain's mail goes.
    pub(super) async fn find(&self, dns: &dyn Dns, domain: &str) -> Result<Found, DirectFailure> {
        let mut chance = || u32::from_le_bytes(clock::random_bytes());
        let (source, hosts) = match mx::literal(domain) {
            Some(host) => (Source::Literal, vec![host]),
            None => {
                let name = dns::to_ascii(domain)
                    .ok_or_else(|| DirectFailure::from(mx::no_such_domain(domain)))?;
                let answer = dns.exchanges(&name).await;
                let plan = Plan::new(&name, answer, &mut chance)?;
                (plan.source, self.locate_all(dns, plan.exchanges).await)
            }
        };
        let is_own = |name: &str, addresses: &[IpAddr]| {
            let mut addresses = addresses.iter();
            self.own.is_named(name) || addresses.any(|address| self.own.is_at(*address))
        };
        let best = mx::best(&hosts, &self.reach);
        let targets = mx::targets(domain, source, hosts, is_own, &self.reach, &mut chance)?;
        Ok(Found {
            source,
            targets,
            best,
        })
    }

    async fn locate_all(&self, dns: &dyn Dns, exchanges: Vec<Exchange>) -> Vec<Host> {
        let mut hosts = Vec::with_capacity(exchanges.len());
        for some in exchanges.chunks(HOSTS_AT_ONCE) {
            let some = some.iter().cloned();
            hosts.extend(join_all(some.map(|exchange| self.locate(dns, exchange))).await);
        }
        hosts
    }

    async fn locate(&self, dns: &dyn Dns, exchange: Exchange) -> Host {
        let families = self.config.families.iter();
        let questions = families.map(|family| dns.addresses(&exchange.host, *family));
        let addresses = join_all(questions).await;
        Host {
            exchange,
            addresses,
        }
    }
}
