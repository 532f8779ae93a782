//! The caches that the watches fill.

use std::sync::Arc;

use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::core::v1::{ConfigMap, PersistentVolumeClaim, Pod, Service, ServiceAccount};
use k8s_openapi::api::policy::v1::PodDisruptionBudget;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::Resource;
use kube::core::{DeserializeGuard, PartialObjectMeta};
use kube::runtime::reflector::{ObjectRef, Store};
use postroad_api::{SmtpCredential, SmtpRelay};

use super::Scope;
use crate::names;

/// A relay, or what is left of one that cannot be decoded.
pub(crate) type Relay = DeserializeGuard<SmtpRelay>;
/// A credential, or what is left of one that cannot be decoded.
pub(crate) type Credential = DeserializeGuard<SmtpCredential>;

/// The objects of one kind, over all scopes.
#[derive(Clone)]
pub(crate) struct Cache<K>(Arc<Vec<(Scope, Store<K>)>>)
where
    K: Resource<DynamicType = ()> + Clone + 'static;

impl<K> Cache<K>
where
    K: Resource<DynamicType = ()> + Clone + 'static,
{
    pub(crate) fn new(stores: Vec<(Scope, Store<K>)>) -> Self {
        Self(Arc::new(stores))
    }

    pub(crate) fn get(&self, namespace: &str, name: &str) -> Option<Arc<K>> {
        let store = self.store(namespace)?;
        store.get(&ObjectRef::new(name).within(namespace))
    }

    pub(crate) fn select(&self, wanted: impl Fn(&K) -> bool) -> Vec<Arc<K>> {
        let stores = self.0.iter();
        stores
            .flat_map(|(_, store)| store.state_filter(|object| wanted(object)))
            .collect()
    }

    /// The objects that belong to a relay, by their labels.
    pub(crate) fn of_relay(&self, namespace: &str, relay: &str) -> Vec<Arc<K>> {
        let belongs = |meta: &ObjectMeta| {
            meta.namespace.as_deref() == Some(namespace) && names::relay_of(meta) == Some(relay)
        };
        let Some(store) = self.store(namespace) else {
            return Vec::new();
        };
        store.state_filter(|object| belongs(object.meta()))
    }

    /// Returns when all scopes have been listed once.
    pub(crate) async fn wait_until_ready(&self) {
        for (_, store) in self.0.iter() {
            // The writer is dropped only when everything stops.
            let _ = store.wait_until_ready().await;
        }
    }

    /// The cache of one scope.
    pub(crate) fn store_of(&self, wanted: &Scope) -> Option<Store<K>> {
        let mut scopes = self.0.iter();
        scopes.find_map(|(scope, store)| (scope == wanted).then(|| store.clone()))
    }

    fn store(&self, namespace: &str) -> Option<&Store<K>> {
        let mut scopes = self.0.iter();
        scopes.find_map(|(scope, store)| scope.holds(namespace).then_some(store))
    }
}

/// All caches.
#[derive(Clone)]
pub(crate) struct Caches {
    pub(crate) relays: Cache<Relay>,
    pub(crate) credentials: Cache<Credential>,
    pub(crate) deployments: Cache<Deployment>,
    pub(crate) claims: Cache<PersistentVolumeClaim>,
    /// Of their specs only the volumes.
    pub(crate) pods: Cache<Pod>,
    pub(crate) services: Cache<PartialObjectMeta<Service>>,
    pub(crate) config_maps: Cache<PartialObjectMeta<ConfigMap>>,
    pub(crate) service_accounts: Cache<PartialObjectMeta<ServiceAccount>>,
    pub(crate) budgets: Cache<PartialObjectMeta<PodDisruptionBudget>>,
}

impl Caches {
    pub(crate) async fn wait_until_ready(&self) {
        let Self {
            relays,
            credentials,
            deployments,
            claims,
            pods,
            services,
            config_maps,
            service_accounts,
            budgets,
        } = self;
        relays.wait_until_ready().await;
        credentials.wait_until_ready().await;
        deployments.wait_until_ready().await;
        claims.wait_until_ready().await;
        pods.wait_until_ready().await;
        services.wait_until_ready().await;
        config_maps.wait_until_ready().await;
        service_accounts.wait_until_ready().await;
        budgets.wait_until_ready().await;
    }
}
