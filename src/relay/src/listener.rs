//! The SMTP listeners: bound, kept in step with the configuration, and bounded.
//!
//! A connection over a limit takes the place of a stranger's (see [`crate::connections`]), or gets 421 and is closed at
//! once, without a task of its own, so that a flood costs the flooder more than the relay.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use postroad_config::{Listener, ListenerName, ListenerTls};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::connections::{Admitted, Connections, Standing};
use crate::context::{Context, Phase};
use crate::metrics::ListenerLabel;
use crate::net::{self, BindError, TcpListener, TcpStream};
use crate::policy::{self, Relaying};
use crate::refusal::Refusal;
use crate::session;

/// Pause after an accept that failed for lack of descriptors: they come back when sessions end.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

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
    /// No listeners yet. The token ends every session; that sessions are ended does not touch it, because it ends more
    /// than them: a drain goes on delivering.
    #[must_use]
    pub fn new(context: Context, abort: &CancellationToken) -> Self {
        Self {
            context,
            sessions: TaskTracker::new(),
            abort: abort.child_token(),
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
        let socket = net::listen(address)?;
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
        let networks = &live.config.access.trusted_networks;
        let standing = match policy::relaying(false, peer.ip(), listener.auth, networks) {
            Relaying::Allowed => Standing::Known,
            Relaying::AuthenticationNeeded | Relaying::Denied => Standing::Stranger,
        };
        let limits = &live.config.limits;
        let admitted = match self.connections.admit(peer.ip(), standing, limits) {
            Ok(admitted) => admitted,
            Err(refusal) => {
                let reason = match refusal {
                    Refusal::SourceConnectionsFull => "source",
                    _ => "total",
                };
                metrics.refuse_connection(reason);
                return turn_away(&stream, refusal, listener.tls);
            }
        };
        metrics
            .connections
            .get_or_create(&ListenerLabel {
                listener: self.name.as_str(),
            })
            .inc();
        self.sessions.spawn(converse(
            self.context.clone(),
            listener,
            (stream, peer),
            admitted,
            self.abort.clone(),
        ));
    }
}

/// Serves a connection until it ends, everything ends, or it is displaced.
async fn converse(
    context: Context,
    listener: Listener,
    (stream, peer): (TcpStream, SocketAddr),
    admitted: Admitted,
    abort: CancellationToken,
) {
    let metrics = Arc::clone(&context.metrics);
    metrics.open_connections.inc();
    tokio::select! {
        biased;
        () = session::serve(context, listener, stream, peer, &admitted) => {}
        () = abort.cancelled() => {}
        () = admitted.displaced_and_told() => {}
    }
    metrics.open_connections.dec();
    if admitted.is_displaced() {
        metrics.refuse_connection("displaced");
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

#[cfg(test)]
mod tests {
    use postroad_config::{AuthMode, ListenerName, ListenerTls};
    use tokio::io::AsyncReadExt as _;

    use super::*;
    use crate::rig::Rig;

    #[tokio::test]
    async fn ending_sessions_that_take_too_long_ends_nothing_else() {
        let rig = Rig::new(1 << 20);
        let abort = CancellationToken::new();
        let mut listeners = Listeners::new(rig.context.clone(), &abort);
        let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let listen = free.local_addr().unwrap();
        drop(free);
        let smtp = Listener {
            name: ListenerName::Smtp,
            listen,
            tls: ListenerTls::Disabled,
            auth: AuthMode::Disabled,
        };
        listeners.apply(&[smtp]).unwrap();
        let mut client = tokio::net::TcpStream::connect(listen).await.unwrap();
        let mut greeting = [0; 3];
        client.read_exact(&mut greeting).await.unwrap();
        listeners.stop(Duration::ZERO).await;
        assert!(!abort.is_cancelled(), "delivery would end with it");
        let mut rest = Vec::new();
        // However it ends, it ends.
        let _ = client.read_to_end(&mut rest).await;
    }
}
