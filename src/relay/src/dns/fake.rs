//! A zone in memory that answers at once, for tests.

use std::collections::BTreeMap;
use std::net::IpAddr;

use postroad_config::IpFamily;

use super::{Answer, Dns, Exchange, LookupError};

/// Records by name. A name that is not in it does not exist.
#[derive(Debug, Default)]
pub(crate) struct Zone {
    names: BTreeMap<String, Records>,
}

#[derive(Debug, Default)]
struct Records {
    exchanges: Vec<Exchange>,
    addresses: Vec<IpAddr>,
    failure: Option<LookupError>,
}

impl Zone {
    /// Adds an MX record; the host is "" for the null MX.
    pub(crate) fn mx(mut self, domain: &str, preference: u16, host: &str) -> Self {
        let exchange = Exchange {
            preference,
            host: host.to_owned(),
        };
        self.entry(domain).exchanges.push(exchange);
        self
    }

    /// Adds an address record.
    pub(crate) fn address(mut self, host: &str, address: &str) -> Self {
        let address = address.parse().unwrap();
        self.entry(host).addresses.push(address);
        self
    }

    /// Every question about the name fails.
    pub(crate) fn failing(mut self, name: &str, failure: LookupError) -> Self {
        self.entry(name).failure = Some(failure);
        self
    }

    fn entry(&mut self, name: &str) -> &mut Records {
        self.names.entry(name.to_owned()).or_default()
    }

    fn find<T>(
        &self,
        name: &str,
        pick: impl Fn(&Records) -> Vec<T>,
    ) -> Result<Vec<T>, LookupError> {
        let records = self.names.get(name).ok_or(LookupError::NoSuchName)?;
        match &records.failure {
            Some(failure) => Err(failure.clone()),
            None => super::some(pick(records).into_iter()),
        }
    }
}

impl Dns for Zone {
    fn exchanges<'a>(&'a self, domain: &'a str) -> Answer<'a, Exchange> {
        let found = self.find(domain, |records| records.exchanges.clone());
        Box::pin(std::future::ready(found))
    }

    fn addresses<'a>(&'a self, host: &'a str, family: IpFamily) -> Answer<'a, IpAddr> {
        let fits = |address: &IpAddr| address.is_ipv4() == (family == IpFamily::Ipv4);
        let found = self.find(host, |records| {
            records.addresses.iter().copied().filter(fits).collect()
        });
        Box::pin(std::future::ready(found))
    }
}
