//! Where a connection leads: to an upstream, or to the mail exchangers of a domain. What a worker learns there is reported here.

mod upstream;

use std::sync::Arc;

use postroad_config::status::UpstreamFailure;
use postroad_config::{DirectLimits, Target};
use postroad_spool::TlsDemand;

use super::connect::{Connection, Rank};
use super::direct::{DirectFailure, Opener, Owner};
use crate::clock;
use crate::context::Context;
use crate::route::Key;
use crate::schedule::{Place, Standing, Verdict};
use crate::upstreams::FailedStage;
use crate::window::Answer;

pub(super) use upstream::UpstreamHop;

/// Where a connection leads.
pub(super) enum Hop {
    Upstream {
        upstream: UpstreamHop,
        /// Whose mail it is, and over which upstreams that goes.
        key: Key,
        target: Target,
    },
    Domain(DomainHop),
}

/// The mail exchangers of a domain.
pub(super) struct DomainHop {
    pub(super) context: Context,
    pub(super) domain: Arc<str>,
    pub(super) place: Place,
    pub(super) opener: Arc<Opener>,
    /// For whose mail the connection is opened.
    pub(super) owner: Owner,
    pub(super) limits: DirectLimits,
}

impl Hop {
    /// As logs call it.
    pub(super) fn label(&self) -> &str {
        match self {
            Self::Upstream { upstream, .. } => upstream.name(),
            Self::Domain(domain) => &domain.domain,
        }
    }

    /// Most messages over one connection.
    pub(super) fn messages_max(&self) -> u32 {
        match self {
            Self::Upstream { upstream, .. } => {
                upstream.upstream.config.limits.messages_per_connection
            }
            Self::Domain(domain) => domain.limits.messages_per_connection,
        }
    }

    /// Most recipients in one transaction.
    pub(super) fn recipients_max(&self) -> u32 {
        match self {
            Self::Upstream { upstream, .. } => {
                upstream.upstream.config.limits.recipients_per_message
            }
            Self::Domain(domain) => domain.limits.recipients_per_message,
        }
    }

    /// Largest message in bytes.
    pub(super) fn bytes_max(&self) -> u64 {
        match self {
            Self::Upstream { upstream, .. } => {
                let limits = &upstream.upstream.config.limits;
                limits.message_bytes.unwrap_or(u64::MAX)
            }
            Self::Domain(_) => u64::MAX,
        }
    }

    /// Whether mail goes here only as long as what is preferred does not work. What cannot be sent here may go there.
    pub(super) fn rank(&self, connection: Option<&Connection>) -> Rank {
        match self {
            Self::Upstream {
                upstream, target, ..
            } => upstream.rank(target),
            Self::Domain(_) => connection.map_or(Rank::First, Connection::rank),
        }
    }

    /// Whether mail may go on over a connection that was opened earlier.
    pub(super) fn is_current(&self) -> bool {
        match self {
            Self::Upstream {
                upstream,
                key,
                target,
            } => upstream.is_current(key, target),
            Self::Domain(domain) => domain.is_current(),
        }
    }

    /// Whether the next message may be made ready, as far as the rate goes.
    ///
    /// # Errors
    /// When it may, in milliseconds since the epoch.
    pub(super) fn turn(&self) -> Result<Turn<'_>, u64> {
        match self {
            Self::Upstream { upstream, .. } => {
                let mut upstreams = upstream.upstreams.lock();
                upstreams.turn(upstream.name(), clock::now_ms())?;
            }
            Self::Domain(domain) => domain.context.queue.turn(domain.place)?,
        }
        Ok(Turn(Some(self)))
    }

    /// Whether a message that is ready may go. To be asked right before MAIL FROM.
    ///
    /// # Errors
    /// When it may, in milliseconds since the epoch.
    pub(super) fn go(&self) -> Result<Going, u64> {
        match self {
            Self::Upstream { upstream, .. } => {
                let mut upstreams = upstream.upstreams.lock();
                upstreams.go(upstream.name(), clock::now_ms())?;
            }
            Self::Domain(domain) => domain.context.queue.go(domain.place)?,
        }
        Ok(Going(()))
    }

    fn give_back(&self) {
        match self {
            Self::Upstream { upstream, .. } => {
                upstream.upstreams.lock().give_back(upstream.name());
            }
            Self::Domain(domain) => domain.context.queue.give_back(domain.place),
        }
    }

    /// Opens a connection over which a message with this demand may go, if there is any.
    ///
    /// # Errors
    /// [`DirectFailure`].
    pub(super) async fn open(&self, demand: TlsDemand) -> Result<Connection, DirectFailure> {
        match self {
            Self::Upstream { upstream, .. } => upstream.open().await.map_err(DirectFailure::Hold),
            Self::Domain(domain) => domain.open(demand).await,
        }
    }

    /// Whether another connection might do for a message for which this one does not.
    pub(super) fn suits(&self, connection: &Connection, demand: TlsDemand) -> bool {
        match self {
            Self::Upstream { .. } => true,
            Self::Domain(_) => connection.satisfies(demand),
        }
    }

    /// Whether a connection may end up where another message needs another: recipients at one domain are all the same to it.
    pub(super) fn limits_domains(&self, connection: &Connection) -> bool {
        match self {
            Self::Upstream { .. } => connection.peer().domains_max().is_some(),
            Self::Domain(_) => false,
        }
    }

    /// A connection is ready for MAIL FROM.
    pub(super) fn report_connected(&self) {
        match self {
            Self::Upstream { upstream, .. } => upstream.report_connected(),
            // It has shown nothing yet.
            Self::Domain(_) => {}
        }
    }

    /// A transaction was answered, whatever the answer.
    pub(super) fn report_answered(&self, answer: Answer) {
        match self {
            Self::Upstream { upstream, .. } => upstream.report_answered(answer),
            Self::Domain(domain) => {
                let before = domain.context.queue.answered(domain.place, answer);
                if before == Standing::Failing {
                    tracing::info!(domain = &*domain.domain, "domain works");
                }
            }
        }
    }

    /// The upstream that it leads to. What a server says of a sender is a word of our account there, or, where mail goes to domains, the
    /// recipient's.
    pub(super) fn upstream(&self) -> Option<&UpstreamHop> {
        match self {
            Self::Upstream { upstream, .. } => Some(upstream),
            Self::Domain(_) => None,
        }
    }

    /// Whether any sender is rejected there, so that whose a message is may decide about it.
    pub(super) fn rejects_senders(&self) -> bool {
        self.upstream().is_some_and(|upstream| {
            let upstreams = upstream.upstreams.lock();
            upstreams.rejects_senders(upstream.name())
        })
    }

    /// It failed, for a reason that is not one message's.
    pub(super) fn report_failed(&self, stage: FailedStage, failure: &UpstreamFailure) {
        match self {
            Self::Upstream { upstream, .. } => upstream.report_failed(stage, failure),
            Self::Domain(domain) => domain.report_failed(failure),
        }
    }
}

/// One message goes now: it counts for the rate.
pub(super) struct Going(());

/// One message may be made ready. Given back to the rate when dropped, unless it was.
pub(super) struct Turn<'a>(Option<&'a Hop>);

impl Turn<'_> {
    /// It is ready.
    pub(super) fn spend(mut self) {
        self.0 = None;
    }
}

impl Drop for Turn<'_> {
    fn drop(&mut self) {
        if let Some(hop) = self.0 {
            hop.give_back();
        }
    }
}

impl DomainHop {
    /// Whether a connection would be opened today as it was: protected as much, to a host that may be reached, under our name, with these
    /// limits.
    fn is_current(&self) -> bool {
        self.opener.is_for(&self.context.live().config)
    }

    async fn open(&self, demand: TlsDemand) -> Result<Connection, DirectFailure> {
        let connection = self.opener.open(&self.domain, &self.owner, demand).await?;
        // That may have taken minutes.
        if self.is_current() {
            return Ok(connection);
        }
        connection.quit().await;
        Err(DirectFailure::Outdated)
    }

    fn report_failed(&self, failure: &UpstreamFailure) {
        let (verdict, before) = self.context.queue.failed(self.place, failure.clone());
        match (verdict, before) {
            (Verdict::Crowded, _) => tracing::info!(
                domain = &*self.domain,
                error = failure.message,
                "domain takes no further connection for now"
            ),
            (Verdict::Fails, Standing::Failing) => {}
            (Verdict::Fails, Standing::Proven | Standing::Fresh) => tracing::warn!(
                domain = &*self.domain,
                reason = failure.reason.as_str(),
                error = failure.message,
                "domain does not work; its mail is held"
            ),
        }
    }
}
