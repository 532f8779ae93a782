//! The watches: which kinds, and who is looked at when one of their objects changes.

use std::collections::HashMap;
use std::fmt::Debug;
use std::sync::Arc;

use k8s_openapi::NamespaceResourceScope;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::runtime::reflector;
use kube::runtime::reflector::store::Writer;
use kube::{Api, Client, Resource};
use serde::de::DeserializeOwned;
use tokio::task::JoinSet;

use crate::health::Metrics;
use crate::names::{self, LABEL_MANAGED_BY, LABEL_RELAY, OPERATOR};
use crate::watch::{
    self, Cache, Caches, Change, Credential, Follower, Relay, Scope, Target, Triggers, WatchHealth,
};

/// An API for one scope.
pub(super) fn api<K>(client: &Client, scope: &Scope) -> Api<K>
where
    K: Resource<DynamicType = (), Scope = NamespaceResourceScope>,
{
    match scope {
        Scope::All => Api::all(client.clone()),
        Scope::Namespace(namespace) => Api::namespaced(client.clone(), namespace),
    }
}

/// Starts all watches. They end when the set is dropped.
pub(super) fn follow(
    client: &Client,
    scopes: &[Scope],
    triggers: &Triggers,
    health: &Arc<WatchHealth>,
    metrics: &Metrics,
) -> (Caches, JoinSet<()>) {
    let mut starter = Starter {
        client,
        scopes,
        triggers,
        health,
        metrics,
        tasks: JoinSet::new(),
    };
    // Credentials first: a change of a relay looks up who refers to it.
    let credentials = starter.start("SmtpCredential", None, || credential_targets);
    let referring = credentials.clone();
    let relays = starter.start("SmtpRelay", None, move || relay_targets(referring.clone()));
    let ours = format!("{LABEL_MANAGED_BY}={OPERATOR},{LABEL_RELAY}");
    let ours = Some(ours.as_str());
    let caches = Caches {
        relays,
        credentials,
        deployments: starter.start("Deployment", ours, || child_targets),
        claims: starter.start("PersistentVolumeClaim", ours, || child_targets),
        pods: starter.start("Pod", ours, || child_targets),
        services: starter.start("Service", ours, || child_targets),
        config_maps: starter.start("ConfigMap", ours, || child_targets),
        service_accounts: starter.start("ServiceAccount", ours, || child_targets),
        budgets: starter.start("PodDisruptionBudget", ours, || child_targets),
    };
    (caches, starter.tasks)
}

struct Starter<'a> {
    client: &'a Client,
    scopes: &'a [Scope],
    triggers: &'a Triggers,
    health: &'a Arc<WatchHealth>,
    metrics: &'a Metrics,
    tasks: JoinSet<()>,
}

impl Starter<'_> {
    /// Watches a kind in every scope; `targets` makes the function that says who is looked at.
    fn start<K, F>(
        &mut self,
        kind: &'static str,
        labels: Option<&str>,
        targets: impl Fn() -> F,
    ) -> Cache<K>
    where
        K: Resource<DynamicType = (), Scope = NamespaceResourceScope>
            + Clone
            + Debug
            + DeserializeOwned
            + Send
            + Sync
            + 'static,
        F: FnMut(Change, &K) -> Vec<Target> + Send + 'static,
    {
        let mut stores = Vec::new();
        for scope in self.scopes {
            let (store, writer): (_, Writer<K>) = reflector::store();
            let follower = Follower {
                kind,
                api: api(self.client, scope),
                config: watch::config(labels),
                writer,
                triggers: self.triggers.clone(),
                health: Arc::clone(self.health),
                metrics: self.metrics.clone(),
            };
            self.tasks.spawn(follower.run(targets()));
            stores.push((scope.clone(), store));
        }
        Cache::new(stores)
    }
}

/// A part of a relay: the relay that its label names.
fn child_targets(_: Change, object: &impl Resource) -> Vec<Target> {
    relay_target(object.meta()).into_iter().collect()
}

fn relay_target(meta: &ObjectMeta) -> Option<Target> {
    Some(Target::Relay {
        namespace: meta.namespace.clone()?,
        name: names::relay_of(meta)?.to_owned(),
    })
}

/// A credential: itself, and the relay it refers to.
fn credential_targets(_: Change, credential: &Credential) -> Vec<Target> {
    let mut targets = Vec::new();
    let meta = credential.meta();
    if let (Some(namespace), Some(name)) = (meta.namespace.clone(), meta.name.clone()) {
        targets.push(Target::Credential { namespace, name });
    }
    if let Ok(credential) = &credential.0 {
        let (name, namespace) = credential.relay();
        targets.push(Target::Relay {
            namespace: namespace.to_owned(),
            name: name.to_owned(),
        });
    }
    targets
}

/// Relays whose generation is remembered; past it all are looked at once more.
const REMEMBERED_MAX: usize = 100_000;

/// A relay: itself and its credentials, unless only its status has changed.
fn relay_targets(
    credentials: Cache<Credential>,
) -> impl FnMut(Change, &Relay) -> Vec<Target> + Send {
    let mut generations: HashMap<String, (Option<i64>, bool)> = HashMap::new();
    move |change, relay| {
        let meta = relay.meta();
        let (Some(namespace), Some(name), Some(uid)) = (&meta.namespace, &meta.name, &meta.uid)
        else {
            return Vec::new();
        };
        let known = generations.remove(uid);
        let state = (meta.generation, meta.deletion_timestamp.is_some());
        if generations.len() >= REMEMBERED_MAX {
            generations.clear();
        }
        if change == Change::Here {
            generations.insert(uid.clone(), state);
            if known == Some(state) {
                return Vec::new();
            }
        }
        let referring = credentials.select(|credential| {
            let refers = |found: (&str, &str)| found == (name.as_str(), namespace.as_str());
            credential
                .0
                .as_ref()
                .is_ok_and(|credential| refers(credential.relay()))
        });
        let mut targets = vec![Target::Relay {
            namespace: namespace.clone(),
            name: name.clone(),
        }];
        targets.extend(referring.iter().filter_map(|credential| {
            let meta = credential.meta();
            Some(Target::Credential {
                namespace: meta.namespace.clone()?,
                name: meta.name.clone()?,
            })
        }));
        targets
    }
}
