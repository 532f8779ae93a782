//! Notices between two visits that a relay at rest has something else to say.
//!
//! A visit reads half a dozen Secrets, so a relay at rest is visited twice a minute only. Its pods are asked
//! more often than that: mail that begins to wait shows within seconds. A relay is visited when one of
//! its pods answers anything else than at the last visit, as far as a status would show it, or answers
//! no more. Nothing here reads or writes at the API server, and nothing here matters after a restart.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::Mutex;
use std::time::Duration;

use futures::StreamExt as _;
use postroad_config::status::RelayStatus;
use tokio::time::Instant;

use super::dereference::FoundPod;
use super::status::shown;
use crate::context::{Context, lock};
use crate::names::RelayId;
use crate::watch::{Target, Triggers};

/// Between two questions to the same pod, at the least.
const INTERVAL_MIN: Duration = Duration::from_secs(5);
/// Pods asked in a second, at the most. A question is a TLS handshake, some milliseconds of CPU on both sides
/// together: 250 pods are asked every 5 seconds, and from 1,500 on the visits come as often as the questions.
const PODS_PER_SECOND: u32 = 50;
/// Relays whose pods are being asked at once: a pod that does not answer holds up its neighbours for seconds.
const CONCURRENCY: usize = 16;

/// What the pods of each relay at rest have said, by the uid of the relay.
#[derive(Default)]
pub(crate) struct Resting(Mutex<BTreeMap<String, Rest>>);

#[derive(Clone)]
struct Rest {
    namespace: String,
    name: String,
    said: Vec<(IpAddr, RelayStatus)>,
}

/// What comes of a question.
enum Answer {
    Said(Box<RelayStatus>),
    Silence,
    /// There is no certificate to ask with; the next visit makes one.
    NotAsked,
}

impl Resting {
    /// Has the pods of a relay asked from now on. One that did not answer is not asked: the watch on pods
    /// tells when it becomes ready.
    pub(super) fn begin(&self, id: &RelayId, pods: &[FoundPod]) {
        let said: Vec<_> = pods
            .iter()
            .filter_map(|pod| Some((pod.address?, shown(pod.status.as_ref()?))))
            .collect();
        if said.is_empty() {
            return;
        }
        let rest = Rest {
            namespace: id.namespace.clone(),
            name: id.name.clone(),
            said,
        };
        lock(&self.0).insert(id.uid.clone(), rest);
    }

    pub(super) fn end(&self, uid: &str) {
        lock(&self.0).remove(uid);
    }

    /// Asks every pod once and says which relays are to be visited; they rest no more. One round takes
    /// [`interval`], evenly spread, and no less where many relays are to be visited: the others are not asked more often for it.
    async fn round<F, A>(&self, ask: F, mut wake: impl AsyncFnMut(Target))
    where
        F: Fn(String, IpAddr) -> A,
        A: Future<Output = Answer>,
    {
        let relays = lock(&self.0).clone();
        let pods = relays.values().map(|rest| rest.said.len()).sum();
        let end = Instant::now() + interval(pods);
        let pause = share(interval(pods), relays.len());
        let ask = &ask;
        let asked = relays.into_iter().map(|(uid, rest)| async move {
            let stirred = rest.has_stirred(&uid, ask).await;
            if !stirred {
                tokio::time::sleep(pause).await;
            }
            stirred.then_some((uid, rest))
        });
        let mut asked = std::pin::pin!(futures::stream::iter(asked).buffer_unordered(CONCURRENCY));
        while let Some(stirred) = asked.next().await {
            let Some((
                uid,
                Rest {
                    namespace, name, ..
                },
            )) = stirred
            else {
                continue;
            };
            self.end(&uid);
            wake(Target::Relay { namespace, name }).await;
        }
        tokio::time::sleep_until(end).await;
    }
}

impl Rest {
    /// Whether any pod says something else than before.
    async fn has_stirred<F, A>(&self, uid: &str, ask: &F) -> bool
    where
        F: Fn(String, IpAddr) -> A,
        A: Future<Output = Answer>,
    {
        for (address, before) in &self.said {
            match ask(uid.to_owned(), *address).await {
                Answer::Said(now) if shown(&now) == *before => {}
                Answer::NotAsked => {}
                Answer::Said(_) | Answer::Silence => return true,
            }
        }
        false
    }
}

/// Asks the pods of relays at rest until dropped.
pub(crate) async fn watch(context: &Context, triggers: &Triggers) {
    loop {
        let ask = |uid, address| ask(context, uid, address);
        let wake = async |target| triggers.wake(vec![target]).await;
        context.resting.round(ask, wake).await;
    }
}

async fn ask(context: &Context, uid: String, address: IpAddr) -> Answer {
    // One lost packet is no silence.
    for _ in 0..2 {
        match context.admin.status_again(&uid, address).await {
            None => return Answer::NotAsked,
            Some(Ok(status)) => return Answer::Said(Box::new(status)),
            Some(Err(_)) => {}
        }
    }
    Answer::Silence
}

/// How often each pod is asked if there are so many.
fn interval(pods: usize) -> Duration {
    let pods = u32::try_from(pods).unwrap_or(u32::MAX);
    (Duration::from_secs(1) * pods / PODS_PER_SECOND).max(INTERVAL_MIN)
}

/// What each relay has of the interval, so many being asked at once.
fn share(interval: Duration, relays: usize) -> Duration {
    let lanes = u32::try_from(relays.clamp(1, CONCURRENCY)).unwrap_or(1);
    let relays = u32::try_from(relays.max(1)).unwrap_or(u32::MAX);
    interval * lanes / relays
}

#[cfg(test)]
mod tests;
