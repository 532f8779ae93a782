//! The way to the mail exchangers of a domain (RFC 5321 §5): finds them, and opens a connection to the first that lets us in.
//!
//! # Order
//! Host after host as [`crate::mx`] orders them, of each one address after another, all within three minutes ([`PATIENCE`]). A host that
//! answers and refuses us is not asked at its other addresses: it is the same host. What an attempt fails with is the most
//! telling thing that happened ([`tally`]).
//!
//! # TLS
//! STARTTLS where it is offered. No certificate is verified: whose name would it be, when the DNS that gave the name is
//! not protected? A handshake that fails is followed by another connection without TLS, unless the configuration
//! demands it. A message with REQUIRETLS (RFC 8689 §4.2.1) goes to a verified host that offers REQUIRETLS, or to none; a host that
//! only an MX record names is none, as long as neither DNSSEC nor MTA-STS vouches for the record.
//!
//! # Loops
//! Mail must not come back to us. We know ourselves by name, by address and port, and by what a server calls itself after EHLO:
//! behind a Service, all replicas of a relay are one host with one name and an address that none of them has.
//!
//! # What an attempt is kept from
//! Anybody can have any address in the DNS. Private ones are dialled only where the configuration allows it ([`mx::reach`]), and one
//! address has a bounded number of connections, whoever leads there ([`dials`]).
//!
//! # What each failure means
//! [`DirectFailure::Hold`] is a statement about the domain's servers, or the name servers: its mail waits. [`DirectFailure::Final`]
//! is one about the recipients.

mod dials;
mod own;
mod tally;
#[cfg(test)]
mod tests;

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use futures::future::join_all;
use postroad_config::status::{FailureReason, UpstreamFailure};
use postroad_config::{Direct, DirectTls, RelayConfig, UpstreamTls};
use postroad_smtp::client::ClientTls;
use postroad_smtp::{Extension, Reply};
use postroad_spool::TlsDemand;
use rustls::ClientConfig;
use tokio::time::{Instant, timeout_at};

use super::connect::{Connection, Protection, Terms, TlsTerms, dial};
use crate::clock;
use crate::dns::{self, Dns, Exchange, Resolver};
use crate::mx::reach::Reach;
use crate::mx::{self, Host, Plan, Source, Target, Verdict};
use crate::tls;
use crate::upstreams::failure;

use dials::{Closed, Dial, Dials};
use own::Own;
use tally::{Lack, Tally};

/// Hosts that are asked for at the same time in one attempt. Most domains have no more, and a name server that is slow about one
/// must not be asked about eight by every attempt there is.
const HOSTS_AT_ONCE: usize = 2;

/// How long an attempt waits for a connection to an address that has as many as it may, when nothing else is left to be tried. Most
/// are done within a second or two.
const BUSY_PATIENCE: Duration = Duration::from_secs(10);

/// How long things may take.
#[derive(Clone, Copy, Debug)]
struct Patience {
    /// For everything before MAIL together: names, hosts and addresses.
    attempt: Duration,
    /// For one address, from the first packet to the reply to EHLO under TLS.
    target: Duration,
}

/// An attempt takes as long as with an upstream. Some servers let strangers wait for the greeting, by half a minute at most;
/// whoever takes longer than a minute keeps mail from the next host.
const PATIENCE: Patience = Patience {
    attempt: Duration::from_secs(180),
    target: Duration::from_secs(60),
};

/// Opens connections to mail exchangers. Immutable: a new configuration makes a new one.
pub(crate) struct Opener {
    hostname: String,
    config: Direct,
    own: Own,
    reach: Reach,
    dials: Arc<Dials>,
    means: Result<Means, UpstreamFailure>,
    patience: Patience,
}

/// What every attempt needs.
#[derive(Clone)]
struct Means {
    dns: Arc<dyn Dns>,
    /// Takes any certificate.
    anybody: Arc<ClientConfig>,
    /// Takes a certificate that a public authority has signed for the name.
    proven: Arc<ClientConfig>,
}

/// Why there is no connection.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) enum DirectFailure {
    /// The domain cannot be reached now; no message is to blame.
    Hold(UpstreamFailure),
    /// Its recipients never will be reached, with [`TlsDemand::Required`] by this message.
    Final(Reply),
}

/// Why a target does not do.
enum Setback {
    Failed(UpstreamFailure),
    Lacking(Lack),
    /// It is this relay.
    Own,
    /// There are as many connections to its address as there may be.
    Busy,
}

impl Opener {
    /// For a configuration. Keeps what `before` has learned from its name servers if they are the same.
    pub(crate) fn new(config: &RelayConfig, before: Option<&Self>) -> Self {
        let Direct {
            nameservers,
            limits,
            ..
        } = &config.delivery.direct;
        let dials = before
            .map(|before| &before.dials)
            .filter(|dials| dials.is_for(limits.connections))
            .map(Arc::clone);
        let before = before
            .filter(|before| before.config.nameservers == *nameservers)
            .and_then(|before| before.means.as_ref().ok());
        let means = match before {
            Some(means) => Ok(means.clone()),
            None if config.delivery.uses_direct() => match Resolver::new(nameservers) {
                Ok(resolver) => Means::new(Arc::new(resolver)),
                Err(error) => Err(dns_failure(error.to_string())),
            },
            None => Err(dns_failure("nothing is configured to go direct".into())),
        };
        Self::assemble(config, means, dials)
    }

    /// With answers of a test's own.
    #[cfg(test)]
    pub(crate) fn with_dns(config: &RelayConfig, dns: Arc<dyn Dns>) -> Self {
        Self::assemble(config, Means::new(dns), None)
    }

    fn assemble(
        config: &RelayConfig,
        means: Result<Means, UpstreamFailure>,
        dials: Option<Arc<Dials>>,
    ) -> Self {
        let direct = &config.delivery.direct;
        Self {
            hostname: config.hostname.clone(),
            config: direct.clone(),
            own: Own::new(config),
            reach: Reach::new(&direct.allowed_networks),
            dials: dials.unwrap_or_else(|| Arc::new(Dials::new(direct.limits.connections))),
            means,
            patience: PATIENCE,
        }
    }

    /// Opens a connection over which a message with this demand may go to a domain: a name, or an address literal.
    ///
    /// # Errors
    /// [`DirectFailure`] as the module says.
    pub(crate) async fn open(
        &self,
        domain: &str,
        demand: TlsDemand,
    ) -> Result<Connection, DirectFailure> {
        let means = self.means.as_ref().map_err(|failed| {
            // Said anew each time: it lasts until the configuration changes or the pod is replaced.
            DirectFailure::Hold(failed.clone())
        })?;
        let deadline = Instant::now() + self.patience.attempt;
        let found = timeout_at(deadline, self.find(&*means.dns, domain)).await;
        let (source, targets) = found.map_err(|_| {
            DirectFailure::Hold(dns_failure("the name servers did not answer".into()))
        })??;
        if demand == TlsDemand::Required && source == Source::Exchange {
            return Err(DirectFailure::Final(tally::lacking(&Lack::Authenticity)));
        }
        self.try_all(means, domain, &targets, demand, deadline)
            .await
    }

    async fn try_all(
        &self,
        means: &Means,
        domain: &str,
        targets: &[Target],
        demand: TlsDemand,
        deadline: Instant,
    ) -> Result<Connection, DirectFailure> {
        let mut tally = Tally::default();
        let mut busy = None;
        let best = targets.iter().map(|target| target.preference).min();
        let connected = |target: &Target, mut connection: Connection| {
            if Some(target.preference) > best {
                connection.substitute();
            }
            connected(domain, target, connection)
        };
        for target in targets {
            if !tally.is_worth_a_try(target) || Instant::now() >= deadline {
                continue;
            }
            match self.enter_one(means, target, demand, deadline).await {
                Ok(connection) => return Ok(connected(target, connection)),
                Err(Setback::Busy) => busy = busy.or(Some(target)),
                Err(setback) => tally.note(target, setback),
            }
        }
        if let Some(target) = busy.filter(|target| tally.is_worth_a_try(target)) {
            match self.wait_for_one(means, target, demand, deadline).await {
                Ok(connection) => return Ok(connected(target, connection)),
                Err(setback) => tally.note(target, setback),
            }
        }
        Err(tally.verdict(domain))
    }

    /// Tries a target if its address is free and not known to be dead.
    async fn enter_one(
        &self,
        means: &Means,
        target: &Target,
        demand: TlsDemand,
        deadline: Instant,
    ) -> Result<Connection, Setback> {
        match self.dials.enter(target.address, Instant::now()) {
            Ok(dial) => self.try_one(means, target, dial, demand, deadline).await,
            Err(Closed::Dead(failed)) => Err(Setback::Failed(failed)),
            Err(Closed::Busy) => Err(Setback::Busy),
        }
    }

    async fn wait_for_one(
        &self,
        means: &Means,
        target: &Target,
        demand: TlsDemand,
        deadline: Instant,
    ) -> Result<Connection, Setback> {
        let patience = deadline.min(Instant::now() + BUSY_PATIENCE);
        match self.dials.wait(target.address, patience).await {
            Some(dial) => self.try_one(means, target, dial, demand, deadline).await,
            None => Err(Setback::Busy),
        }
    }

    async fn try_one(
        &self,
        means: &Means,
        target: &Target,
        dial: Dial,
        demand: TlsDemand,
        deadline: Instant,
    ) -> Result<Connection, Setback> {
        let strict = demand == TlsDemand::Required;
        let reached = self.reach(means, target, demand, deadline).await;
        let mut connection = reached.map_err(|failed| match strict && is_tls(&failed) {
            true => Setback::Lacking(Lack::Tls(failed.message)),
            false => Setback::Failed(failed),
        })?;
        connection.hold(dial);
        let peer = connection.peer();
        let setback = if peer.name().is_some_and(|name| self.own.is_named(name)) {
            Setback::Own
        } else if strict && !peer.offers(Extension::RequireTls) {
            Setback::Lacking(Lack::RequireTls(target.host.clone()))
        } else {
            return Ok(connection);
        };
        connection.quit().await;
        Err(setback)
    }

    /// Connects with TLS as it is wanted, and once more without if that may be.
    async fn reach(
        &self,
        means: &Means,
        target: &Target,
        demand: TlsDemand,
        deadline: Instant,
    ) -> Result<Connection, UpstreamFailure> {
        let tls = self.tls(means, demand);
        let reached = self.greet(target, tls, deadline).await;
        match reached {
            Err(failed) if is_tls(&failed) && tls.mode == ClientTls::Opportunistic => {
                tracing::info!(host = target.host, address = %target.address, error = failed.message,
                    "TLS does not work; trying without");
                let mode = ClientTls::None;
                self.greet(target, TlsTerms { mode, ..tls }, deadline).await
            }
            reached => reached,
        }
    }

    async fn greet(
        &self,
        target: &Target,
        tls: TlsTerms<'_>,
        deadline: Instant,
    ) -> Result<Connection, UpstreamFailure> {
        let Target { host, address, .. } = target;
        let terms = Terms {
            remote: host,
            hostname: &self.hostname,
            tls,
            login: None,
        };
        let deadline = deadline.min(Instant::now() + self.patience.target);
        let mut dialled = false;
        let reached = timeout_at(deadline, async {
            let stream = dial(SocketAddr::new(*address, self.config.port)).await?;
            dialled = true;
            Connection::begin(stream, terms).await
        });
        let reached = reached.await.unwrap_or_else(|_| {
            let text = "the server did not get as far as MAIL in time";
            Err(failure(FailureReason::ConnectionTimedOut, text))
        });
        reached.map_err(|failed| {
            let text = format!("{host} ({address}): {}", failed.message);
            let failed = failure(failed.reason, text);
            // What a server says to one domain's mail is about that; silence is not.
            if !dialled || failed.reason == FailureReason::ConnectionTimedOut {
                self.dials.died(*address, failed.clone(), Instant::now());
            }
            failed
        })
    }

    fn tls<'a>(&self, means: &'a Means, demand: TlsDemand) -> TlsTerms<'a> {
        if demand == TlsDemand::Required {
            return TlsTerms {
                mode: ClientTls::Required,
                config: &means.proven,
                worth: Protection::Verified,
            };
        }
        TlsTerms {
            mode: match self.config.tls {
                DirectTls::Opportunistic => ClientTls::Opportunistic,
                DirectTls::Disabled => ClientTls::None,
                DirectTls::Required => ClientTls::Required,
            },
            config: &means.anybody,
            worth: Protection::Unverified,
        }
    }

    /// Where a domain's mail goes.
    async fn find(
        &self,
        dns: &dyn Dns,
        domain: &str,
    ) -> Result<(Source, Vec<Target>), DirectFailure> {
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
        let targets = mx::targets(domain, source, hosts, is_own, &self.reach, &mut chance)?;
        Ok((source, targets))
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

impl Means {
    fn new(dns: Arc<dyn Dns>) -> Result<Self, UpstreamFailure> {
        let configure = |mode| {
            tls::upstream(mode, None)
                .map_err(|error| failure(FailureReason::TlsFailed, error.to_string()))
        };
        Ok(Self {
            dns,
            anybody: configure(UpstreamTls::Opportunistic)?,
            proven: configure(UpstreamTls::Required)?,
        })
    }
}

impl From<Verdict> for DirectFailure {
    fn from(verdict: Verdict) -> Self {
        match verdict {
            Verdict::Never(reply) => Self::Final(reply),
            Verdict::Later(why) => Self::Hold(dns_failure(why)),
            Verdict::Barred(why) => Self::Hold(failure(FailureReason::NetworkNotAllowed, why)),
        }
    }
}

fn connected(domain: &str, target: &Target, connection: Connection) -> Connection {
    tracing::debug!(domain, host = connection.remote(), address = %target.address,
        protection = ?connection.protection(), "connected");
    connection
}

fn is_tls(failed: &UpstreamFailure) -> bool {
    failed.reason == FailureReason::TlsFailed
}

fn dns_failure(why: String) -> UpstreamFailure {
    failure(FailureReason::NameServerFailed, why)
}
