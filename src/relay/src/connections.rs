//! Which connections are open, and which of them gives way when there are too many.
//!
//! Pure but for the lock. A client that may relay (it has authenticated, or its address is trusted) is *known* and keeps
//! its connection; any other is a *stranger*. Over a limit, a new connection takes the place of the oldest stranger
//! among those that count for that limit, in all from the source that has the most strangers, so that whoever fills the
//! relay with connections mostly displaces himself. Without a stranger to displace the new one is turned away.

use std::collections::{HashMap, VecDeque};
use std::net::{IpAddr, Ipv6Addr};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use postroad_config::Limits;
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;

use crate::refusal::Refusal;

/// How long a displaced session has to say why it goes.
const FAREWELL: Duration = Duration::from_secs(1);

/// Displaced sessions that may say so at a time. They no longer count as connections, so that a flood must not
/// gather more; beyond this they are closed without a word.
const FAREWELLS_MAX: usize = 64;

/// Whether a client has shown that it may relay.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Standing {
    /// Not yet.
    Stranger,
    /// It has logged in, or its address is trusted.
    Known,
}

/// The connection was given to someone else.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
#[error("the connection was given to someone else")]
pub struct Displaced;

/// Counts open connections, in all and by source.
#[derive(Debug)]
pub struct Connections {
    open: Mutex<Open>,
    farewells: Semaphore,
}

#[derive(Debug, Default)]
struct Open {
    total: u32,
    next: u64,
    /// Holds only sources with open connections, so it is bounded by `total`.
    by_source: HashMap<IpAddr, Source>,
}

#[derive(Debug, Default)]
struct Source {
    /// Strangers and known.
    open: u32,
    /// Oldest first.
    strangers: VecDeque<Stranger>,
}

#[derive(Debug)]
struct Stranger {
    number: u64,
    displaced: CancellationToken,
}

/// One admitted connection; counts until dropped or displaced.
#[derive(Debug)]
pub struct Admitted {
    /// As it was admitted.
    pub standing: Standing,
    connections: Arc<Connections>,
    source: IpAddr,
    number: u64,
    /// Cancelled under the lock, when the connection has ceased to count.
    displaced: CancellationToken,
}

impl Default for Connections {
    fn default() -> Self {
        Self {
            open: Mutex::default(),
            farewells: Semaphore::new(FAREWELLS_MAX),
        }
    }
}

impl Connections {
    /// Counts a new connection, if need be in the place of a stranger's.
    ///
    /// # Errors
    /// The refusal to answer with, when a limit is reached and all who count for it are known.
    pub fn admit(
        self: &Arc<Self>,
        peer: IpAddr,
        standing: Standing,
        limits: &Limits,
    ) -> Result<Admitted, Refusal> {
        let source = source_of(peer);
        let mut open = self.lock();
        let of_source = open.by_source.get(&source).map_or(0, |source| source.open);
        if of_source >= limits.connections_per_source {
            open.displace(source)
                .ok_or(Refusal::SourceConnectionsFull)?;
        } else if open.total >= limits.connections {
            let victim = open.most_strangers().ok_or(Refusal::ConnectionsFull)?;
            open.displace(victim).ok_or(Refusal::ConnectionsFull)?;
        }
        let (number, displaced) = open.add(source, standing);
        drop(open);
        Ok(Admitted {
            standing,
            connections: Arc::clone(self),
            source,
            number,
            displaced,
        })
    }

    fn lock(&self) -> MutexGuard<'_, Open> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Open {
    fn add(&mut self, source: IpAddr, standing: Standing) -> (u64, CancellationToken) {
        let (number, displaced) = (self.next, CancellationToken::new());
        self.next += 1;
        self.total += 1;
        let of_source = self.by_source.entry(source).or_default();
        of_source.open += 1;
        if standing == Standing::Stranger {
            of_source.strangers.push_back(Stranger {
                number,
                displaced: displaced.clone(),
            });
        }
        (number, displaced)
    }

    /// Where the most strangers come from; among equals, where the oldest comes from.
    fn most_strangers(&self) -> Option<IpAddr> {
        let sources = self.by_source.iter();
        let with_strangers = sources.filter_map(|(address, source)| {
            let oldest = source.strangers.front()?.number;
            Some((source.strangers.len(), std::cmp::Reverse(oldest), *address))
        });
        with_strangers.max().map(|(_, _, address)| address)
    }

    /// Takes the place of the oldest stranger of a source.
    fn displace(&mut self, source: IpAddr) -> Option<()> {
        let strangers = &mut self.by_source.get_mut(&source)?.strangers;
        let oldest = strangers.pop_front()?;
        oldest.displaced.cancel();
        self.remove(source);
        Some(())
    }

    fn remove(&mut self, source: IpAddr) {
        self.total = self.total.saturating_sub(1);
        if let Some(of_source) = self.by_source.get_mut(&source) {
            of_source.open = of_source.open.saturating_sub(1);
            if of_source.open == 0 {
                self.by_source.remove(&source);
            }
        }
    }

    fn forget_stranger(&mut self, source: IpAddr, number: u64) {
        if let Some(of_source) = self.by_source.get_mut(&source) {
            let strangers = &mut of_source.strangers;
            if let Ok(at) = strangers.binary_search_by_key(&number, |stranger| stranger.number) {
                strangers.remove(at);
            }
        }
    }
}

impl Admitted {
    /// The client has shown that it may relay: from now on it keeps its connection.
    ///
    /// # Errors
    /// [`Displaced`] if it came too late.
    pub fn vouch(&self) -> Result<(), Displaced> {
        let mut open = self.connections.lock();
        if self.displaced.is_cancelled() {
            return Err(Displaced);
        }
        open.forget_stranger(self.source, self.number);
        Ok(())
    }

    /// Whether the connection has been given to someone else.
    #[must_use]
    pub fn is_displaced(&self) -> bool {
        self.displaced.is_cancelled()
    }

    /// Waits until the connection has been given to someone else: it must close.
    pub async fn displaced(&self) {
        self.displaced.cancelled().await;
    }

    /// Waits until the connection has been given to someone else and there was time to say so.
    pub async fn displaced_and_told(&self) {
        self.displaced().await;
        if let Ok(_turn) = self.connections.farewells.try_acquire() {
            tokio::time::sleep(FAREWELL).await;
        }
    }
}

impl Drop for Admitted {
    fn drop(&mut self) {
        let mut open = self.connections.lock();
        if !self.displaced.is_cancelled() {
            open.forget_stranger(self.source, self.number);
            open.remove(self.source);
        }
    }
}

/// What counts as one source: a v4 address, or the /64 that one v6 host commands.
#[must_use]
pub fn source_of(peer: IpAddr) -> IpAddr {
    match peer.to_canonical() {
        IpAddr::V4(address) => IpAddr::V4(address),
        IpAddr::V6(address) => {
            let network = u128::from(address) & !u128::from(u64::MAX);
            IpAddr::V6(Ipv6Addr::from(network))
        }
    }
}

#[cfg(test)]
mod tests;
