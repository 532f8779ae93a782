//! What delivery asks the DNS: which hosts take a domain's mail, and where they are.
//!
//! [`Dns`] is the question; [`Resolver`] asks real name servers. What the answers mean for mail is [`crate::mx`]'s.
//!
//! # Contract
//! Names are asked as they are: the search list and `ndots` of a pod's `/etc/resolv.conf` are not applied, nor is
//! `/etc/hosts`. A mail domain is always a full name, and with the five dots of Kubernetes every question would be asked five
//! times. Aliases (CNAME) are followed, eight at most: what leads no further, or in a circle, is a name without the record. Questions that are asked at the same time are asked once.
//!
//! # What each failure means
//! [`LookupError::NoSuchName`] and [`LookupError::NoRecords`] are answers: somebody who knows has said no. Everything else (no answer,
//! SERVFAIL, REFUSED, a server that points elsewhere) is [`LookupError::Temporary`]: it says nothing about the name.

mod cache;
#[cfg(test)]
pub(crate) mod fake;
#[cfg(test)]
mod tests;

use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::pin::{Pin, pin};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use hickory_resolver::TokioResolver;
use hickory_resolver::config::{
    ConnectionConfig, NameServerConfig, ResolveHosts, ResolverConfig, ResolverOpts,
};
use hickory_resolver::lookup::Lookup;
use hickory_resolver::net::runtime::TokioRuntimeProvider;
use hickory_resolver::net::{DnsError, NetError};
use hickory_resolver::proto::op::ResponseCode;
use hickory_resolver::proto::rr::{Name, RecordType};
use postroad_config::IpFamily;
use tokio::sync::Semaphore;
use tokio::time::{Instant, timeout};

use cache::{Cache, Found, Known};

/// For one try of a question. Resolvers have asked a domain's own servers by then, or will have the answer for the next try.
const TRY_TIMEOUT: Duration = Duration::from_secs(5);

/// How often a question is asked anew when no answer comes. UDP loses packets, and clusters lose some more.
const RETRIES: usize = 2;

/// Questions under way at once; each has a socket for every server that is asked.
pub(crate) const QUESTIONS_MAX: usize = 1024;

/// Questions under way at once that nobody has been slow about yet: an answer can be large (3 MiB as it is parsed), until what is used of
/// it is taken out.
const QUICK_MAX: usize = 16;

/// A question without an answer after this time is slow, and makes room for another: domains whose own servers are silent must not keep
/// other domains' questions waiting. A thousand of those are past in about a minute.
const QUICK_TIME: Duration = Duration::from_secs(1);

/// Why there is no answer to work with.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
pub enum LookupError {
    /// The name does not exist (NXDOMAIN), or cannot: it is longer than names are.
    #[error("there is no such name")]
    NoSuchName,
    /// The name exists and has no record of this kind.
    #[error("there is no such record")]
    NoRecords,
    /// Nobody who knows has answered; the text says what happened.
    #[error("{0}")]
    Temporary(String),
}

/// Why the name servers are not known.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// `/etc/resolv.conf` cannot be read or names no server.
    #[error("cannot use /etc/resolv.conf: {0}")]
    SystemConfiguration(#[source] NetError),
    /// The resolver cannot be built from its configuration.
    #[error("cannot set up the resolver: {0}")]
    Setup(#[source] NetError),
}

/// An MX record (RFC 1035 §3.3.9).
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Exchange {
    /// The lower, the sooner it is tried.
    pub preference: u16,
    /// Name of the host in lower case without the final dot; empty for the root, which means that there is none (RFC 7505).
    pub host: String,
}

/// What comes of a question: at least one record, or why not.
pub type Answer<'a, T> = Pin<Box<dyn Future<Output = Result<Vec<T>, LookupError>> + Send + 'a>>;

/// The questions. Names are ASCII ([`to_ascii`]) without a final dot.
pub trait Dns: fmt::Debug + Send + Sync {
    /// The MX records of a domain, in no order.
    fn exchanges<'a>(&'a self, domain: &'a str) -> Answer<'a, Exchange>;

    /// The addresses of a host, of one family.
    fn addresses<'a>(&'a self, host: &'a str, family: IpFamily) -> Answer<'a, IpAddr>;
}

/// Whoever is to be asked: [`Resolver`], or what stands in for name servers on a simulated host.
///
/// # Errors
/// As [`Resolver::new`].
pub(crate) fn open(nameservers: &[SocketAddr]) -> Result<Arc<dyn Dns>, Error> {
    #[cfg(feature = "simulation")]
    if let Some(dns) = crate::simulation::dns() {
        return Ok(dns);
    }
    Ok(Arc::new(Resolver::new(nameservers)?))
}

/// Asks name servers over UDP, and TCP where an answer is too long for it. Remembers of answers what is used, for as long as they may
/// be, within bounds.
pub struct Resolver {
    inner: TokioResolver,
    cache: Mutex<Cache>,
    questions: Semaphore,
    quick: Semaphore,
}

impl Resolver {
    /// A resolver that asks these servers, or those of `/etc/resolv.conf` if there are none. Reads that file, here and never
    /// again: Kubernetes does not change it while a pod lives.
    ///
    /// # Errors
    /// [`Error`] if no server is known.
    pub fn new(nameservers: &[SocketAddr]) -> Result<Self, Error> {
        let config = match nameservers {
            [] => {
                let (config, _) = hickory_resolver::system_conf::read_system_conf()
                    .map_err(Error::SystemConfiguration)?;
                config
            }
            some => ResolverConfig::from_name_servers(some.iter().map(name_server).collect()),
        };
        Self::assemble(config, TRY_TIMEOUT)
    }

    fn assemble(config: ResolverConfig, timeout: Duration) -> Result<Self, Error> {
        let mut builder =
            TokioResolver::builder_with_config(config, TokioRuntimeProvider::default());
        set_options(builder.options_mut(), timeout);
        let inner = builder.build().map_err(Error::Setup)?;
        Ok(Self {
            inner,
            cache: Mutex::default(),
            questions: Semaphore::new(QUESTIONS_MAX),
            quick: Semaphore::new(QUICK_MAX),
        })
    }

    async fn ask(&self, name: &str, kind: RecordType) -> Known {
        let Ok(mut parsed) = Name::from_ascii(name) else {
            return Err(LookupError::NoSuchName);
        };
        // Absolute: nothing is searched.
        parsed.set_fqdn(true);
        if let Some(known) = self.cache().get(name, kind, Instant::now()) {
            return known;
        }
        let (known, ttl) = match self.look_up(parsed, kind).await {
            Ok(lookup) => {
                let (known, ttl) = cache::trimmed(kind, &lookup);
                (known, Some(ttl))
            }
            Err(error) => (Err(judge(&error)), cache::nothing(&error)),
        };
        let lasts = !matches!(known, Err(LookupError::Temporary(_)));
        if let Some(ttl) = ttl.filter(|_| lasts) {
            let until = Instant::now() + ttl;
            self.cache().put(name, kind, &known, until);
        }
        known
    }

    /// Asks, when it is this question's turn.
    async fn look_up(&self, name: Name, kind: RecordType) -> Result<Lookup, NetError> {
        // An error means that a semaphore is closed, which neither ever is.
        let _permit = self.questions.acquire().await;
        let quick = self.quick.acquire().await;
        let mut lookup = pin!(self.inner.lookup(name, kind));
        match timeout(QUICK_TIME, &mut lookup).await {
            Ok(answered) => answered,
            Err(_) => {
                drop(quick);
                lookup.await
            }
        }
    }

    fn cache(&self) -> MutexGuard<'_, Cache> {
        // Of no consequence if a change was cut short by a panic: what counts is that it is bounded.
        self.cache.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Dns for Resolver {
    fn exchanges<'a>(&'a self, domain: &'a str) -> Answer<'a, Exchange> {
        Box::pin(async move {
            match self.ask(domain, RecordType::MX).await? {
                Found::Exchanges(exchanges) => Ok(exchanges),
                Found::Addresses(_) => Err(LookupError::NoRecords),
            }
        })
    }

    fn addresses<'a>(&'a self, host: &'a str, family: IpFamily) -> Answer<'a, IpAddr> {
        let kind = match family {
            IpFamily::Ipv4 => RecordType::A,
            IpFamily::Ipv6 => RecordType::AAAA,
        };
        Box::pin(async move {
            match self.ask(host, kind).await? {
                Found::Addresses(addresses) => Ok(addresses),
                Found::Exchanges(_) => Err(LookupError::NoRecords),
            }
        })
    }
}

impl fmt::Debug for Resolver {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("Resolver").finish_non_exhaustive()
    }
}

/// A domain as the DNS knows it: ASCII, lower case (RFC 5890 §2.3.2.1). `None` for what can be no name.
#[must_use]
pub fn to_ascii(domain: &str) -> Option<String> {
    let name = Name::from_utf8(domain).ok()?;
    Some(host(&name)).filter(|host| !host.is_empty())
}

fn host(name: &Name) -> String {
    let mut text = name.to_lowercase().to_ascii();
    if text.ends_with('.') {
        text.pop();
    }
    text
}

fn some<T>(records: impl Iterator<Item = T>) -> Result<Vec<T>, LookupError> {
    let records: Vec<T> = records.collect();
    match records.is_empty() {
        true => Err(LookupError::NoRecords),
        false => Ok(records),
    }
}

fn name_server(address: &SocketAddr) -> NameServerConfig {
    let connections = [ConnectionConfig::udp(), ConnectionConfig::tcp()].map(|mut connection| {
        connection.port = address.port();
        connection
    });
    let mut server = NameServerConfig::udp_and_tcp(address.ip());
    server.connections = connections.into();
    server
}

fn set_options(options: &mut ResolverOpts, timeout: Duration) {
    options.timeout = timeout;
    options.attempts = RETRIES;
    // It would keep answers whole, however large: see `cache`.
    options.cache_size = 0;
    options.use_hosts_file = ResolveHosts::Never;
    options.preserve_intermediates = false;
    // An answer with many exchanges need not come over TCP.
    options.edns0 = true;
}

fn judge(error: &NetError) -> LookupError {
    match error {
        NetError::Dns(DnsError::NoRecordsFound(none)) => match none.response_code {
            ResponseCode::NXDomain => LookupError::NoSuchName,
            // A server that does not look things up, and says who else might know.
            ResponseCode::NoError if none.ns.is_some() && none.soa.is_none() => {
                LookupError::Temporary("the name server refers to others".into())
            }
            ResponseCode::NoError => LookupError::NoRecords,
            code => LookupError::Temporary(format!("the name server answered {code}")),
        },
        NetError::Dns(DnsError::ResponseCode(code)) => {
            LookupError::Temporary(format!("the name server answered {code}"))
        }
        NetError::Timeout => LookupError::Temporary("the name servers did not answer".into()),
        other => LookupError::Temporary(other.to_string()),
    }
}
