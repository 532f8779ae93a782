//! What the API server says: one watch, one task and one cache per kind.
//!
//! kube's `Controller` would merge all watches into one stream with one backoff, so that a single
//! failing watch starves the others. Here each has a backoff of its own, errors are logged, counted
//! and swallowed, and what reaches a controller are only references to look at.
//!
//! A cache may lag behind. Whoever is about to disrupt something asks the API server first.

mod caches;
mod health;
mod triggers;

use std::fmt::Debug;
use std::hash::Hash;

use futures::StreamExt as _;
use kube::Api;
use kube::Resource;
use kube::runtime::WatchStreamExt as _;
use kube::runtime::reflector::Lookup;
use kube::runtime::reflector::store::Writer;
use kube::runtime::watcher::{self, Event, watcher};
use serde::de::DeserializeOwned;

use crate::health::Metrics;

pub(crate) use caches::{Cache, Caches, Credential, Relay};
pub(crate) use health::WatchHealth;
pub(crate) use triggers::{Receivers, Scope, Target, Triggers, stream};

/// Below the 240 seconds after which the load balancers of some clouds drop an idle connection.
const WATCH_TIMEOUT_SECONDS: u32 = 200;

/// Everything with this label.
pub(crate) fn config(labels: Option<&str>) -> watcher::Config {
    let config = watcher::Config::default().timeout(WATCH_TIMEOUT_SECONDS);
    match labels {
        Some(labels) => config.labels(labels),
        None => config,
    }
}

/// What has become of an object.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Change {
    /// It is there, new or changed or as before.
    Here,
    /// It is gone, or may be: a list is about to say.
    Gone,
}

/// One kind in one scope.
pub(crate) struct Follower<K>
where
    K: Lookup + Clone + 'static,
    K::DynamicType: Eq + Hash + Clone,
{
    pub(crate) kind: &'static str,
    pub(crate) api: Api<K>,
    pub(crate) config: watcher::Config,
    /// Takes out of an object what nobody reads, before it is cached.
    pub(crate) trim: fn(&mut K),
    pub(crate) writer: Writer<K>,
    pub(crate) triggers: Triggers,
    pub(crate) health: std::sync::Arc<WatchHealth>,
    pub(crate) metrics: Metrics,
}

impl<K> Follower<K>
where
    K: Resource<DynamicType = ()> + Clone + Debug + DeserializeOwned + Send + Sync + 'static,
{
    /// Follows the kind until dropped. `targets` says what to look at when an object has changed.
    pub(crate) async fn run(mut self, mut targets: impl FnMut(Change, &K) -> Vec<Target>) {
        let events = watcher(self.api.clone(), self.config.clone()).default_backoff();
        let mut events = std::pin::pin!(events);
        let mut listed = Vec::new();
        while let Some(event) = events.next().await {
            let event = match event {
                Ok(event) => event,
                Err(error) => {
                    self.metrics.watch_failed(self.kind);
                    self.health.failed(self.kind, std::time::Instant::now());
                    tracing::warn!(kind = self.kind, %error, "cannot watch");
                    continue;
                }
            };
            self.health.progressed(self.kind);
            let event = event.modify(|object| {
                object.meta_mut().managed_fields = None;
                (self.trim)(object);
            });
            let changed = match &event {
                Event::Apply(object) => targets(Change::Here, object),
                Event::Delete(object) => targets(Change::Gone, object),
                Event::Init => {
                    // What is gone after the list was deleted while nobody watched.
                    listed = Vec::new();
                    let known = self.writer.as_reader().state();
                    listed.extend(
                        known
                            .iter()
                            .flat_map(|object| targets(Change::Gone, object)),
                    );
                    Vec::new()
                }
                Event::InitApply(object) => {
                    listed.extend(targets(Change::Here, object));
                    Vec::new()
                }
                Event::InitDone => std::mem::take(&mut listed),
            };
            // The cache first: whoever is woken looks there.
            self.writer.apply_watcher_event(&event);
            self.triggers.wake(changed).await;
        }
    }
}
