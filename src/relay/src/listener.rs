//! The SMTP listeners: bound, kept in step with the configuration, and bounded.
//!
//! A connection over a limit gets 421 and is closed at once, without a task of its own, so that a flood costs
//! the flooder more than the relay.

use std::collections::{BTreeMap, HashMap};
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use postroad_config::{Limits, Listener, ListenerName, ListenerTls};
use socket2::{Domain, Protocol, Socket, Type};
use tokio::net::{TcpListener, TcpStream};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::context::{Context, Phase};
use crate::metrics::{ListenerLabel, RefusalLabel};
use crate::refusal::Refusal;
use crate::session;

/// What waits to be accepted while the tasks are busy; the kernel caps it at `net.core.somaxconn`.
const BACKLOG: i32 = 1024;

/// Pause after an accept that failed for lack of descriptors: they come back when sessions end.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// The address could not be bound.
#[derive(Debug, thiserror::Error)]
#[error("cannot listen on {address}: {source}")]
pub struct BindError {
    address: SocketAddr,
    #[source]
    source: io::Error,
}

/// Listeners that could not be opened; the others are.
#[derive(Debug, thiserror::Error)]
#[error("{}", self.text())]
pub struct NotListening(Vec<(ListenerName, BindError)>);

impl NotListening {
    fn text(&self) -> String {
        let each = self.0.iter();
        let each = each.map(|(name, error)| format!("listener {}: {error}", name.as_str()));
        each.collect::<Vec<_>>().join("; ")
    }
}

/// All SMTP listeners of the relay.
pub struct Listeners {
    context: Context,
    sessions: TaskTracker,
    /// Ends every session wherever it is.
    abort: CancellationToken,
    connections: Arc<Connections>,
    running: BTreeMap<ListenerName, (SocketAddr, CancellationToken)>,
}

impl Listeners {
    /// No listeners yet.
    #[must_use]
    pub fn new(context: Context, abort: CancellationToken) -> Self {
        Self {
            context,
            sessions: TaskTracker::new(),
            abort,
            connections: Arc::default(),
            running: BTreeMap::new(),
        }
    }

    /// Binds what is configured and not bound, lets go of what is bound and not configured. Costs nothing when both are
    /// the same, so that it can be called until it succeeds: an address that was let go of a moment ago may not be
    /// free yet.
    ///
    /// # Errors
    /// [`NotListening`] with those that could not be bound; the others are.
    pub fn apply(&mut self, listeners: &[Listener]) -> Result<(), NotListening> {
        let wanted: BTreeMap<_, _> = listeners
            .iter()
            .map(|listener| (listener.name, listener.listen))
            .collect();
        self.running.retain(|name, (address, stop)| {
            let keep = wanted.get(name) == Some(address);
            if !keep {
                stop.cancel();
            }
            keep
        });
        let mut failed = Vec::new();
        for (name, address) in wanted {
            if !self.running.contains_key(&name)
                && let Err(error) = self.start(name, address)
            {
                failed.push((name, error));
            }
        }
        match failed.is_empty() {
            true => Ok(()),
            false => Err(NotListening(failed)),
        }
    }

    /// Stops accepting and waits until every session has ended, or ends them after `grace`.
    pub async fn stop(self, grace: Duration) {
        for (_, stop) in self.running.values() {
            stop.cancel();
        }
        self.sessions.close();
        if tokio::time::timeout(grace, self.sessions.wait())
            .await
            .is_err()
        {
            tracing::warn!("ending the sessions that have not finished in time");
            self.abort.cancel();
            self.sessions.wait().await;
        }
    }

    fn start(&mut self, name: ListenerName, address: SocketAddr) -> Result<(), BindError> {
        let socket = bind(address)?;
        let stop = CancellationToken::new();
        let acceptor = Acceptor {
            name,
            context: self.context.clone(),
            sessions: self.sessions.clone(),
            abort: self.abort.clone(),
            connections: Arc::clone(&self.connections),
        };
        tracing::info!(listener = name.as_str(), %address, "listening");
        self.sessions.spawn(acceptor.run(socket, stop.clone()));
        self.running.insert(name, (address, stop));
        Ok(())
    }
}

/// Binds a listening socket. `[::]` serves IPv4 too, and falls back to it where the node has no IPv6.
///
/// # Errors
/// [`BindError`] with what the system said.
pub fn bind(address: SocketAddr) -> Result<TcpListener, BindError> {
    let result = match bind_exactly(address) {
        Err(_) if address.ip() == IpAddr::V6(Ipv6Addr::UNSPECIFIED) && !has_ipv6() => bind_exactly(
            SocketAddr::new(Ipv4Addr::UNSPECIFIED.into(), address.port()),
        ),
        result => result,
    };
    result.map_err(|source| BindError { address, source })
}

fn has_ipv6() -> bool {
    Socket::new(Domain::IPV6, Type::STREAM, Some(Protocol::TCP)).is_ok()
}

fn bind_exactly(address: SocketAddr) -> io::Result<TcpListener> {
    let socket = Socket::new(
        Domain::for_address(address),
        Type::STREAM,
        Some(Protocol::TCP),
    )?;
    socket.set_reuse_address(true)?;
    if address.is_ipv6() {
        socket.set_only_v6(false)?;
    }
    socket.set_nonblocking(true)?;
    socket.bind(&address.into())?;
    socket.listen(BACKLOG)?;
    TcpListener::from_std(socket.into())
}

struct Acceptor {
    name: ListenerName,
    context: Context,
    sessions: TaskTracker,
    abort: CancellationToken,
    connections: Arc<Connections>,
}

impl Acceptor {
    async fn run(self, socket: TcpListener, stop: CancellationToken) {
        loop {
            let accepted = tokio::select! {
                biased;
                () = stop.cancelled() => return,
                () = self.context.reached(Phase::Draining) => return,
                accepted = socket.accept() => accepted,
            };
            match accepted {
                Ok((stream, peer)) => self.admit(stream, peer),
                Err(error) => {
                    tracing::warn!(%error, listener = self.name.as_str(), "cannot accept");
                    tokio::time::sleep(ACCEPT_PAUSE).await;
                }
            }
        }
    }

    fn admit(&self, stream: TcpStream, peer: SocketAddr) {
        let live = self.context.live();
        // A listener that has just been taken out of the configuration.
        let named = |listener: &&Listener| listener.name == self.name;
        let Some(listener) = live.config.listeners.iter().find(named).cloned() else {
            return;
        };
        let metrics = &self.context.metrics;
        let guard = match self.connections.admit(peer.ip(), &live.config.limits) {
            Ok(guard) => guard,
            Err(refusal) => {
                let reason = match refusal {
                    Refusal::SourceConnectionsFull => "source",
                    _ => "total",
                };
                metrics
                    .refused_connections
                    .get_or_create(&RefusalLabel { reason })
                    .inc();
                return turn_away(&stream, refusal, listener.tls);
            }
        };
        metrics
            .connections
            .get_or_create(&ListenerLabel {
                listener: self.name.as_str(),
            })
            .inc();
        metrics.open_connections.inc();
        let (context, abort) = (self.context.clone(), self.abort.clone());
        self.sessions.spawn(async move {
            let open = context.metrics.open_connections.clone();
            tokio::select! {
                () = session::serve(context, listener, stream, peer) => {}
                () = abort.cancelled() => {}
            }
            open.dec();
            drop(guard);
        });
    }
}

/// Says 421 if that is possible without waiting; under implicit TLS there is no way to say it.
fn turn_away(stream: &TcpStream, refusal: Refusal, tls: ListenerTls) {
    if tls != ListenerTls::Implicit {
        let line = format!("{}\r\n", refusal.reply());
        // A fresh socket's buffer is empty: either this fits or the peer is gone.
        let _ = stream.try_write(line.as_bytes());
    }
}

/// Counts open connections, in all and by source.
#[derive(Debug, Default)]
struct Connections {
    counts: Mutex<Counts>,
}

#[derive(Debug, Default)]
struct Counts {
    total: u32,
    /// Holds only sources with open connections, so it is bounded by `total`.
    by_source: HashMap<IpAddr, u32>,
}

/// One admitted connection; counts until dropped.
#[derive(Debug)]
struct Admitted {
    connections: Arc<Connections>,
    source: IpAddr,
}

impl Connections {
    fn admit(self: &Arc<Self>, peer: IpAddr, limits: &Limits) -> Result<Admitted, Refusal> {
        let source = source_of(peer);
        let mut counts = self.counts.lock().unwrap_or_else(PoisonError::into_inner);
        if counts.total >= limits.connections {
            return Err(Refusal::ConnectionsFull);
        }
        let of_source = counts.by_source.entry(source).or_default();
        if *of_source >= limits.connections_per_source {
            return Err(Refusal::SourceConnectionsFull);
        }
        *of_source += 1;
        counts.total += 1;
        Ok(Admitted {
            connections: Arc::clone(self),
            source,
        })
    }
}

impl Drop for Admitted {
    fn drop(&mut self) {
        let mut counts = self
            .connections
            .counts
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        counts.total = counts.total.saturating_sub(1);
        if let Some(of_source) = counts.by_source.get_mut(&self.source) {
            *of_source -= 1;
            if *of_source == 0 {
                counts.by_source.remove(&self.source);
            }
        }
    }
}

/// What counts as one source: a v4 address, or the /64 that one v6 host commands.
fn source_of(peer: IpAddr) -> IpAddr {
    match peer.to_canonical() {
        IpAddr::V4(address) => IpAddr::V4(address),
        IpAddr::V6(address) => {
            let network = u128::from(address) & !u128::from(u64::MAX);
            IpAddr::V6(Ipv6Addr::from(network))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn limits(connections: u32, connections_per_source: u32) -> Limits {
        Limits {
            connections,
            connections_per_source,
            ..Limits::default()
        }
    }

    #[test]
    fn turns_away_what_is_over_either_limit_until_room_is_given_back() {
        let connections = Arc::new(Connections::default());
        let limits = limits(3, 2);
        let (a, b): (IpAddr, IpAddr) = ("192.0.2.1".parse().unwrap(), "192.0.2.2".parse().unwrap());
        let first = connections.admit(a, &limits).unwrap();
        let _second = connections.admit(a, &limits).unwrap();
        let third = connections.admit(a, &limits).unwrap_err();
        assert_eq!(third, Refusal::SourceConnectionsFull);
        let _other = connections.admit(b, &limits).unwrap();
        assert_eq!(
            connections.admit(b, &limits).unwrap_err(),
            Refusal::ConnectionsFull
        );
        drop(first);
        assert!(connections.admit(a, &limits).is_ok());
        assert_eq!(connections.counts.lock().unwrap().total, 2);
    }

    #[test]
    fn a_v6_source_is_its_64_and_a_mapped_v4_is_its_address() {
        let same =
            |a: &str, b: &str| source_of(a.parse().unwrap()) == source_of(b.parse().unwrap());
        assert!(same("2001:db8::1", "2001:db8::ffff:1"));
        assert!(!same("2001:db8::1", "2001:db8:0:1::1"));
        assert!(same("::ffff:192.0.2.1", "192.0.2.1"));
        assert!(!same("::ffff:192.0.2.1", "192.0.2.2"));
    }
}
