//! What delivery asks the DNS: which hosts take a domain's mail, and where they are.
//!
//! [`Dns`] is the question; [`Resolver`] asks real name servers. What the answers mean for mail is [`crate::mx`]'s.
//!
//! # Contract
//! Names are asked as they are: the search list and `ndots` of a pod's `/etc/resolv.conf` are not applied, nor is
//! `/etc/hosts`. A mail domain is always a full name, and with the five dots of Kubernetes every question would be asked five
//! times. Aliases (CNAME) are followed. Questions that are asked at the same time are asked once.
//!
//! # What each failure means
//! [`LookupError::NoSuchName`] and [`LookupError::NoRecords`] are answers: somebody who knows has said no. Everything else (no answer,
//! SERVFAIL, REFUSED, a server that points elsewhere) is [`LookupError::Temporary`]: it says nothing about the name.

#[cfg(test)]
pub(crate) mod fake;
#[cfg(test)]
mod tests;

use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::pin::Pin;
use std::time::Duration;

use hickory_resolver::TokioResolver;
use hickory_resolver::config::{
    ConnectionConfig, NameServerConfig, ResolveHosts, ResolverConfig, ResolverOpts,
};
use hickory_resolver::lookup::Lookup;
use hickory_resolver::net::runtime::TokioRuntimeProvider;
use hickory_resolver::net::{DnsError, NetError};
use hickory_resolver::proto::op::ResponseCode;
use hickory_resolver::proto::rr::{Name, RData, RecordType};
use postroad_config::IpFamily;
use tokio::sync::Semaphore;

/// For one try of a question. Resolvers have asked a domain's own servers by then, or will have the answer for the next try.
const TRY_TIMEOUT: Duration = Duration::from_secs(5);

/// How often a question is asked anew when no answer comes. UDP loses packets, and clusters lose some more.
const RETRIES: usize = 2;

/// Answers kept. With about 1 KiB each this is 4 MiB; a relay that sends to more domains at a time asks again.
const CACHE_ANSWERS: u64 = 4096;

/// Questions under way at once; each has a socket for every server that is asked. More than there are attempts (see
/// [`crate::schedule`]), so that domains whose own servers are silent keep no other domain's question waiting.
const QUESTIONS_MAX: usize = 2048;

/// A record may live for days. An hour is soon enough to notice that it was mended, and rare enough to ask.
const TTL_MAX: Duration = Duration::from_secs(3600);

/// That something does not exist makes mail bounce: what was forgotten and is added should count soon.
const NEGATIVE_TTL_MAX: Duration = Duration::from_secs(60);

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

/// Asks name servers over UDP, and TCP where an answer is too long for it. Remembers answers for as long as they may be, within
/// bounds.
pub struct Resolver {
    inner: TokioResolver,
    questions: Semaphore,
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
            questions: Semaphore::new(QUESTIONS_MAX),
        })
    }

    async fn ask(&self, name: &str, kind: RecordType) -> Result<Lookup, LookupError> {
        let Ok(mut name) = Name::from_ascii(name) else {
            return Err(LookupError::NoSuchName);
        };
        // Absolute: nothing is searched.
        name.set_fqdn(true);
        // An error means that the semaphore is closed, which it never is.
        let _permit = self.questions.acquire().await;
        self.inner
            .lookup(name, kind)
            .await
            .map_err(|error| judge(&error))
    }
}

impl Dns for Resolver {
    fn exchanges<'a>(&'a self, domain: &'a str) -> Answer<'a, Exchange> {
        Box::pin(async move {
            let lookup = self.ask(domain, RecordType::MX).await?;
            some(
                lookup
                    .answers()
                    .iter()
                    .filter_map(|record| match &record.data {
                        RData::MX(mx) => Some(Exchange {
                            preference: mx.preference,
                            host: host(&mx.exchange),
                        }),
                        _ => None,
                    }),
            )
        })
    }

    fn addresses<'a>(&'a self, host: &'a str, family: IpFamily) -> Answer<'a, IpAddr> {
        let kind = match family {
            IpFamily::Ipv4 => RecordType::A,
            IpFamily::Ipv6 => RecordType::AAAA,
        };
        Box::pin(async move {
            let lookup = self.ask(host, kind).await?;
            let answers = lookup.answers().iter();
            some(answers.filter_map(|record| record.data.ip_addr()))
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
    options.cache_size = CACHE_ANSWERS;
    options.positive_max_ttl = Some(TTL_MAX);
    options.negative_max_ttl = Some(NEGATIVE_TTL_MAX);
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
