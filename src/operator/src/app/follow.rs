//! The watches: which kinds, and who is looked at when one of their objects changes.

use std::collections::HashMap;
use std::sync::Arc;

use k8s_openapi::api::core::v1::{Pod, PodSpec};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::runtime::reflector;
use kube::runtime::reflector::store::Writer;
use kube::{Api, Client, Resource};
use postroad_api::ANNOTATION_RESTARTED_AT;
use tokio::task::JoinSet;

use crate::health::Metrics;
use crate::kind::Namespaced;
use crate::names::{self, LABEL_MANAGED_BY, LABEL_RELAY, OPERATOR};
use crate::watch::{
    self, Cache, Caches, Change, Credential, Follower, Relay, Scope, Target, Triggers, WatchHealth,
};

/// An API for one scope.
pub(super) fn api<K: Namespaced>(client: &Client, scope: &Scope) -> Api<K> {
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
        pods: starter.start_trimmed("Pod", ours, trim_pod, || child_targets),
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
        K: Namespaced + Send + Sync + 'static,
        F: FnMut(Change, &K) -> Vec<Target> + Send + 'static,
    {
        self.start_trimmed(kind, labels, |_| (), targets)
    }

    fn start_trimmed<K, F>(
        &mut self,
        kind: &'static str,
        labels: Option<&str>,
        trim: fn(&mut K),
        targets: impl Fn() -> F,
    ) -> Cache<K>
    where
        K: Namespaced + Send + Sync + 'static,
        F: FnMut(Change, &K) -> Vec<Target> + Send + 'static,
    {
        let mut stores = Vec::new();
        for scope in self.scopes {
            let (store, writer): (_, Writer<K>) = reflector::store();
            let follower = Follower {
                kind,
                api: api(self.client, scope),
                config: watch::config(labels),
                trim,
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

/// Containers, probes and mounts are most of a pod, and the Deployments have them too.
fn trim_pod(pod: &mut Pod) {
    if let Some(spec) = &mut pod.spec {
        *spec = PodSpec {
            volumes: spec.volumes.take(),
            ..PodSpec::default()
        };
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

/// Relays whose wishes are remembered; past it all are looked at once more.
const REMEMBERED_MAX: usize = 100_000;

/// What matters of a relay: without a change of these, only its status has changed.
#[derive(Clone, Debug, Eq, PartialEq)]
struct Wish {
    generation: Option<i64>,
    is_leaving: bool,
    restarted_at: Option<String>,
}

impl Wish {
    fn of(meta: &ObjectMeta) -> Self {
        let annotations = meta.annotations.as_ref();
        Self {
            generation: meta.generation,
            is_leaving: meta.deletion_timestamp.is_some(),
            restarted_at: annotations
                .and_then(|annotations| annotations.get(ANNOTATION_RESTARTED_AT).cloned()),
        }
    }
}

/// A relay: itself and its credentials, unless only its status has changed.
fn relay_targets(
    credentials: Cache<Credential>,
) -> impl FnMut(Change, &Relay) -> Vec<Target> + Send {
    let mut wishes: HashMap<String, Wish> = HashMap::new();
    move |change, relay| {
        let meta = relay.meta();
        let (Some(namespace), Some(name), Some(uid)) = (&meta.namespace, &meta.name, &meta.uid)
        else {
            return Vec::new();
        };
        let known = wishes.remove(uid);
        let wish = Wish::of(meta);
        if wishes.len() >= REMEMBERED_MAX {
            wishes.clear();
        }
        if change == Change::Here {
            wishes.insert(uid.clone(), wish.clone());
            if known == Some(wish) {
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

#[cfg(test)]
mod tests {
    use kube::core::DeserializeGuard;
    use serde_json::json;

    use super::*;

    fn relay(generation: i64, annotation: (&str, &str)) -> Relay {
        let (key, value) = annotation;
        let relay = json!({
            "apiVersion": "postroad.dev/v1alpha1", "kind": "SmtpRelay",
            "metadata": {"name": "mail", "namespace": "infra", "uid": "1",
                "generation": generation, "annotations": {key: value}},
            "spec": {"delivery": {"upstreams": []}},
        });
        DeserializeGuard(Ok(serde_json::from_value(relay).unwrap()))
    }

    #[test]
    fn of_a_pod_stays_what_is_read() {
        let pod = |spec| -> Pod {
            let meta = json!({"name": "mail-0", "annotations": {"a": "b"}});
            let status = json!({"phase": "Running", "podIP": "10.0.0.1"});
            serde_json::from_value(json!({"metadata": meta, "spec": spec, "status": status}))
                .unwrap()
        };
        let volumes = json!([{"name": "queue", "persistentVolumeClaim": {"claimName": "mail-0"}}]);
        let mut trimmed =
            pod(json!({"containers": [{"name": "relay"}], "nodeName": "a", "volumes": volumes}));
        trim_pod(&mut trimmed);
        assert_eq!(trimmed, pod(json!({"containers": [], "volumes": volumes})));
    }

    #[test]
    fn a_relay_is_looked_at_when_its_user_wants_something_else() {
        let mut targets = relay_targets(Cache::new(Vec::new()));
        let restart = ANNOTATION_RESTARTED_AT;
        for (relay, looked_at) in [
            (relay(1, ("other", "1")), true),
            (relay(1, ("other", "1")), false),
            (relay(1, ("other", "2")), false),
            (relay(2, ("other", "2")), true),
            (relay(2, (restart, "1")), true),
            (relay(2, (restart, "1")), false),
            (relay(2, (restart, "2")), true),
        ] {
            assert_eq!(!targets(Change::Here, &relay).is_empty(), looked_at);
        }
    }
}
