//! From answers of the DNS to the hosts that are tried, in order (RFC 5321 §5.1). Pure: chance is a parameter.
//!
//! Two steps, with the questions for addresses between them: [`Plan::new`] says which hosts take a domain's mail, [`targets`] where
//! they are to be found.
//!
//! | the DNS says | what follows |
//! |---|---|
//! | MX records | the hosts by preference, equal ones in random order, [`HOSTS_MAX`] at most |
//! | one MX record without a host | "null MX" (RFC 7505): 556 5.1.10 |
//! | no MX record | the domain itself is the host (§5.1, the implicit MX) |
//! | no such domain | 550 5.1.2 |
//! | nothing (no answer, SERVFAIL) | [`Verdict::Later`]: nothing is known |
//! | a host is this relay | it and all that are not preferred to it are left out; 554 5.4.6 if none is left |
//! | hosts without addresses | others are tried; 550 5.4.4 if none has any (5.1.2 for the implicit one), [`Verdict::Later`] if one could not be asked for |
//! | only addresses in private networks that are not allowed | [`Verdict::Barred`] |
//!
//! An address literal names its host itself. Addresses that nobody can have (0.0.0.0, multicast), and the machine's own and its link's,
//! count as none: [`reach`].

pub mod reach;

#[cfg(test)]
mod tests;

use std::net::IpAddr;

use postroad_smtp::{EnhancedStatus, Reply};

use crate::dns::{Exchange, LookupError};

use reach::{Judgement, Reach};

/// Hosts of a domain that are asked for: large providers name five. What comes after was never meant to be tried.
pub const HOSTS_MAX: usize = 8;

/// Addresses of one host in one family that are tried. Providers hand out a dozen for one cluster; when two do not answer,
/// another host is the better try.
pub const ADDRESSES_PER_FAMILY: usize = 2;

/// Addresses that are tried in one attempt. Each may take its timeout, all of them less than an attempt may last.
pub const TARGETS_MAX: usize = 10;

/// Why there is nothing to connect to.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Verdict {
    /// There never will be: the answer for every recipient at the domain.
    Never(Reply),
    /// It is not known now. The text says why.
    Later(String),
    /// There is something, and the configuration keeps us from it. The text says what could be changed, and no address: strangers read it.
    Barred(String),
}

/// How a host came to take mail for a domain.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Source {
    /// An MX record says so. Without DNSSEC or MTA-STS it may be anybody's (RFC 8689 §4.2.1).
    Exchange,
    /// The domain has no MX record: it is the host.
    Domain,
    /// The address literal.
    Literal,
}

/// The hosts that take a domain's mail.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Plan {
    /// How they came to.
    pub source: Source,
    /// In the order in which they are tried; at least one.
    pub exchanges: Vec<Exchange>,
}

/// A host with what is known of its addresses.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Host {
    /// As the plan has it.
    pub exchange: Exchange,
    /// Per family in order of preference: addresses, or why there are none.
    pub addresses: Vec<Result<Vec<IpAddr>, LookupError>>,
}

/// What to connect to.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Target {
    /// The host's name, or the literal.
    pub host: String,
    /// The host's preference.
    pub preference: u16,
    /// One of its addresses.
    pub address: IpAddr,
}

/// Numbers that nobody foresees, uniform over their range.
pub trait Chance {
    /// The next one.
    fn next(&mut self) -> u32;
}

impl<F: FnMut() -> u32> Chance for F {
    fn next(&mut self) -> u32 {
        self()
    }
}

impl Plan {
    /// The hosts for a domain (ASCII, lower case) by the answer to the question for its MX records.
    ///
    /// # Errors
    /// [`Verdict`] as the module's table says.
    pub fn new(
        domain: &str,
        answer: Result<Vec<Exchange>, LookupError>,
        chance: &mut impl Chance,
    ) -> Result<Self, Verdict> {
        let records = match answer {
            Ok(records) => records,
            Err(LookupError::NoRecords) => return Ok(Self::implicit(domain)),
            Err(LookupError::NoSuchName) => return Err(no_such_domain(domain)),
            Err(LookupError::Temporary(why)) => {
                return Err(Verdict::Later(format!("MX of {domain}: {why}")));
            }
        };
        let mut exchanges: Vec<Exchange> = records
            .into_iter()
            .filter(|exchange| !exchange.host.is_empty())
            .collect();
        // Records beside a null MX are a mistake (RFC 7505 §3); somebody meant them to work.
        if exchanges.is_empty() {
            return Err(null_mx(domain));
        }
        shuffle(&mut exchanges, chance);
        exchanges.sort_by_key(|exchange| exchange.preference);
        forget_repeated(&mut exchanges);
        exchanges.truncate(HOSTS_MAX);
        Ok(Self {
            source: Source::Exchange,
            exchanges,
        })
    }

    fn implicit(domain: &str) -> Self {
        Self {
            source: Source::Domain,
            exchanges: vec![only(domain)],
        }
    }
}

/// The host that an address literal names (RFC 5321 §4.1.3); `None` if the domain is a name.
#[must_use]
pub fn literal(domain: &str) -> Option<Host> {
    let text = domain.strip_prefix('[')?.strip_suffix(']')?;
    let address = match text.split_once(':') {
        Some((tag, address)) if tag.eq_ignore_ascii_case("ipv6") => {
            IpAddr::V6(address.parse().ok()?)
        }
        _ => IpAddr::V4(text.parse().ok()?),
    };
    Some(Host {
        exchange: only(domain),
        addresses: vec![Ok(vec![address])],
    })
}

/// The one host there is.
fn only(host: &str) -> Exchange {
    Exchange {
        preference: 0,
        host: host.to_owned(),
    }
}

/// What to connect to, in order, as far as it is within reach. `is_own` says whether a host's name or one of its addresses is this relay's.
///
/// # Errors
/// [`Verdict`] as the module's table says.
pub fn targets(
    domain: &str,
    source: Source,
    mut hosts: Vec<Host>,
    is_own: impl Fn(&str, &[IpAddr]) -> bool,
    reach: &Reach,
    chance: &mut impl Chance,
) -> Result<Vec<Target>, Verdict> {
    let own = hosts
        .iter()
        .filter(|host| is_own(&host.exchange.host, &host.known()))
        .map(|host| host.exchange.preference)
        .min();
    if let Some(own) = own {
        hosts.retain(|host| host.exchange.preference < own);
    }
    if hosts.is_empty() {
        return Err(Verdict::Never(loops(domain)));
    }
    let mut found: Vec<Target> = Vec::new();
    for host in &hosts {
        found.extend(host.targets(reach, chance));
    }
    found.truncate(TARGETS_MAX);
    match found.is_empty() {
        true => Err(unreachable(domain, source, &hosts, reach)),
        false => Ok(found),
    }
}

/// The preference of the best host that takes mail, now or once its address is known or its network allowed: one that takes its place
/// stands in for it.
#[must_use]
pub fn best(hosts: &[Host], reach: &Reach) -> Option<u16> {
    let hosts = hosts.iter().filter(|host| {
        let mut known = host.known().into_iter();
        host.temporary().is_some() || known.any(|address| reach.judge(address) != Judgement::Nobody)
    });
    hosts.map(|host| host.exchange.preference).min()
}

impl Host {
    /// All addresses that could be had.
    fn known(&self) -> Vec<IpAddr> {
        let known = self.addresses.iter().flatten().flatten();
        known.copied().collect()
    }

    /// Some of the usable ones. Caches give addresses out in the same order every time, so that it is on us to spread the load.
    fn targets(&self, reach: &Reach, chance: &mut impl Chance) -> Vec<Target> {
        let mut targets = Vec::new();
        for family in self.addresses.iter().flatten() {
            let family = family.iter().copied();
            let mut usable: Vec<IpAddr> = family
                .filter(|address| reach.judge(*address) == Judgement::Open)
                .collect();
            shuffle(&mut usable, chance);
            let some = usable.into_iter().take(ADDRESSES_PER_FAMILY);
            targets.extend(some.map(|address| Target {
                host: self.exchange.host.clone(),
                preference: self.exchange.preference,
                address,
            }));
        }
        targets
    }

    fn is_barred(&self, reach: &Reach) -> bool {
        let mut known = self.addresses.iter().flatten().flatten();
        known.any(|address| reach.judge(*address) == Judgement::Barred)
    }

    fn temporary(&self) -> Option<String> {
        self.addresses.iter().find_map(|family| match family {
            Err(LookupError::Temporary(why)) => {
                Some(format!("address of {}: {why}", self.exchange.host))
            }
            _ => None,
        })
    }
}

/// The reply for mail that would come back to this relay.
#[must_use]
pub fn loops(domain: &str) -> Reply {
    let text = format!("mail for {domain} loops back to this relay: it is the best MX host itself");
    Reply::new(554, EnhancedStatus::new(5, 4, 6), text)
}

/// The verdict for a domain that does not exist, or cannot.
#[must_use]
pub fn no_such_domain(domain: &str) -> Verdict {
    let text = format!("the domain {domain} does not exist");
    Verdict::Never(Reply::new(550, EnhancedStatus::new(5, 1, 2), text))
}

/// RFC 7505 §4.1.
fn null_mx(domain: &str) -> Verdict {
    let text = format!("the domain {domain} takes no mail (null MX)");
    Verdict::Never(Reply::new(556, EnhancedStatus::new(5, 1, 10), text))
}

/// RFC 5321 §5.1: exchanges that cannot be used are an error, and the domain's own address is no way around them.
fn unreachable(domain: &str, source: Source, hosts: &[Host], reach: &Reach) -> Verdict {
    if let Some(why) = hosts.iter().find_map(Host::temporary) {
        return Verdict::Later(why);
    }
    if let Some(host) = hosts.iter().find(|host| host.is_barred(reach)) {
        let host = &host.exchange.host;
        return Verdict::Barred(format!(
            "{host} is in a private network, and no network of delivery.direct.allowedNetworks holds it"
        ));
    }
    let (status, text) = match source {
        Source::Exchange => (
            EnhancedStatus::new(5, 4, 4),
            format!("no MX host of {domain} has an address that could be used"),
        ),
        Source::Domain => (
            EnhancedStatus::new(5, 1, 2),
            format!("the domain {domain} has neither an MX host nor an address that could be used"),
        ),
        Source::Literal => (
            EnhancedStatus::new(5, 1, 2),
            format!("{domain} is no address that could be used"),
        ),
    };
    Verdict::Never(Reply::new(550, status, text))
}

/// Keeps the first record for each host, which is the most preferred one.
fn forget_repeated(exchanges: &mut Vec<Exchange>) {
    let mut seen: Vec<String> = Vec::new();
    exchanges.retain(|exchange| {
        let is_new = !seen.contains(&exchange.host);
        if is_new && seen.len() < HOSTS_MAX {
            seen.push(exchange.host.clone());
        }
        is_new
    });
}

/// Fisher and Yates. That the remainder favours small numbers is of no consequence for a handful of hosts.
fn shuffle<T>(items: &mut [T], chance: &mut impl Chance) {
    for last in (1..items.len()).rev() {
        let drawn = usize::try_from(chance.next()).unwrap_or(0);
        items.swap(last, drawn % (last + 1));
    }
}
