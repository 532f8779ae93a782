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
//! address has a bounded number of connections, whoever leads there, which those share whose mail it is ([`dials`]).
//!
//! # What each failure means
//! [`DirectFailure::Hold`] is a statement about the domain's servers, or the name servers: its mail waits. [`DirectFailure::Final`]
//! is one about the recipients. [`DirectFailure::Busy`] and [`DirectFailure::Outdated`] are about nobody but us.

mod dials;
mod find;
mod own;
mod tally;
mod targets;
#[cfg(test)]
mod tests;

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use postroad_config::status::{FailureReason, UpstreamFailure};
use postroad_config::{Direct, DirectTls, RelayConfig, UpstreamTls};
use postroad_smtp::Reply;
use postroad_smtp::client::ClientTls;
use postroad_spool::TlsDemand;
use rustls::ClientConfig;
use tokio::time::{Instant, timeout_at};

use super::connect::{Connection, Protection, Terms, TlsTerms, Unopened, dial};
use crate::dns::{self, Dns};
use crate::mx::reach::Reach;
use crate::mx::{Source, Target, Verdict};
use crate::tls;
use crate::upstreams::failure;

use dials::Dials;
pub(crate) use dials::Owner;
use own::Own;
use tally::Lack;
use targets::Attempt;

/// How long things may take.
#[derive(Clone, Copy, Debug)]
struct Patience {
    /// For everything before MAIL together: names, hosts and addresses.
    attempt: Duration,
    /// For one address, from the first packet to the reply to EHLO under TLS.
    target: Duration,
    /// With less than that left of the attempt, no other address is begun.
    least: Duration,
    /// For a connection to an address that has as many as it may, when nothing else is left to be tried.
    busy: Duration,
}

/// An attempt takes as long as with an upstream. Some servers let strangers wait for the greeting, by half a minute at most;
/// whoever takes longer than a minute keeps mail from the next host. An address that gets less than ten seconds shows
/// nothing. Most that wait for an address are let in within a second or two.
const PATIENCE: Patience = Patience {
    attempt: Duration::from_secs(180),
    target: Duration::from_secs(60),
    least: Duration::from_secs(10),
    busy: Duration::from_secs(10),
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
    /// We have as many connections to its servers as we allow ourselves: what is known of the domain stands.
    Busy,
    /// The connection was opened under a configuration that is no longer in force.
    Outdated,
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
            None if config.delivery.uses_direct() => match dns::open(nameservers) {
                Ok(dns) => Means::new(dns),
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

    /// Waits for no longer than that for an address that has as many connections as it may.
    #[cfg(test)]
    pub(crate) fn busy_for(mut self, patience: Duration) -> Self {
        self.patience.busy = patience;
        self
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

    /// Opens a connection for somebody's mail over which a message with this demand may go to a domain: a name, or an address literal.
    ///
    /// # Errors
    /// [`DirectFailure`] as the module says.
    pub(crate) async fn open(
        &self,
        domain: &str,
        owner: &Owner,
        demand: TlsDemand,
    ) -> Result<Connection, DirectFailure> {
        let means = self.means.as_ref().map_err(|failed| {
            // Said anew each time: it lasts until the configuration changes or the pod is replaced.
            DirectFailure::Hold(failed.clone())
        })?;
        let deadline = Instant::now() + self.patience.attempt;
        let found = timeout_at(deadline, self.find(&*means.dns, domain)).await;
        let found = found.map_err(|_| {
            DirectFailure::Hold(dns_failure("the name servers did not answer".into()))
        })??;
        if demand == TlsDemand::Required && found.source == Source::Exchange {
            return Err(DirectFailure::Final(tally::lacking(&Lack::Authenticity)));
        }
        let attempt = Attempt {
            opener: self,
            means,
            domain,
            owner,
            demand,
            deadline,
        };
        attempt.try_all(&found).await
    }

    /// Whether connections are opened as this configuration has it.
    pub(crate) fn is_for(&self, config: &RelayConfig) -> bool {
        self.config == config.delivery.direct && self.hostname == config.hostname
    }

    /// Connects with TLS as it is wanted, and once more without if that may be.
    async fn reach(
        &self,
        means: &Means,
        target: &Target,
        demand: TlsDemand,
        deadline: Instant,
    ) -> Result<Connection, Unopened> {
        let tls = self.tls(means, demand);
        let reached = self.greet(target, tls, deadline).await;
        match reached {
            Err(unopened) if is_tls(unopened.failure()) && tls.mode == ClientTls::Opportunistic => {
                let error = &unopened.failure().message;
                tracing::info!(host = target.host, address = %target.address, error,
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
        attempt: Instant,
    ) -> Result<Connection, Unopened> {
        let Target { host, address, .. } = target;
        let terms = Terms {
            remote: host,
            hostname: &self.hostname,
            tls,
            login: None,
        };
        let whole = Instant::now() + self.patience.target;
        let mut dialled = false;
        let reached = timeout_at(whole.min(attempt), async {
            let stream = dial(SocketAddr::new(*address, self.config.port)).await?;
            dialled = true;
            Connection::begin(stream, terms).await
        });
        let reached = reached.await;
        // Others may have had the rest of the time: that says nothing of this address.
        let is_cut_short = reached.is_err() && attempt < whole;
        let reached = reached.unwrap_or_else(|_| {
            let text = "the server did not get as far as MAIL in time";
            Err(failure(FailureReason::ConnectionTimedOut, text).into())
        });
        reached.map_err(|mut unopened| {
            let failed = unopened.failure_mut();
            failed.message = format!("{host} ({address}): {}", failed.message);
            // What a server says to one domain's mail is about that; silence is not.
            let is_silent = !dialled || failed.reason == FailureReason::ConnectionTimedOut;
            if is_silent && !is_cut_short {
                self.dials.died(*address, failed.reason, Instant::now());
            }
            unopened
        })
    }

    fn tls<'a>(&self, means: &'a Means, demand: TlsDemand) -> TlsTerms<'a> {
        if demand == TlsDemand::Required {
            return TlsTerms {
                mode: ClientTls::Required,
                config: &means.proven,
                worth: Protection::Verified,
                advice: "",
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
            advice: "",
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

fn is_tls(failed: &UpstreamFailure) -> bool {
    failed.reason == FailureReason::TlsFailed
}

fn dns_failure(why: String) -> UpstreamFailure {
    failure(FailureReason::NameServerFailed, why)
}
