//! One object as it should be.

use std::fmt::Debug;

use k8s_openapi::NamespaceResourceScope;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::api::{DeleteParams, Patch, PatchParams};
use kube::{Api, Resource};
use serde::Serialize;
use serde::de::DeserializeOwned;

use super::Error;
use crate::context::Context;
use crate::digest;
use crate::names::{LABEL_MANAGED_BY, LABEL_RELAY, MANAGER_RELAY, OPERATOR, RelayId};

/// What is known of an object before it is applied, and how one tells whose it is.
#[derive(Clone)]
pub(crate) struct Seen {
    label: (&'static str, String),
    manager: &'static str,
    meta: Option<ObjectMeta>,
}

impl Seen {
    /// An object that belongs to a relay carries its label.
    pub(crate) fn of_relay(id: &RelayId) -> Self {
        Self::labelled(LABEL_RELAY, id.name.clone(), MANAGER_RELAY)
    }

    pub(crate) const fn labelled(
        label: &'static str,
        value: String,
        manager: &'static str,
    ) -> Self {
        Self {
            label: (label, value),
            manager,
            meta: None,
        }
    }

    /// The object itself, if there is one.
    pub(crate) fn meta<K: Resource>(&self, object: Option<&K>) -> Self {
        Self {
            meta: object.map(|object| object.meta().clone()),
            ..self.clone()
        }
    }

    /// What was seen of it elsewhere.
    pub(crate) fn with(self, meta: Option<ObjectMeta>) -> Self {
        Self { meta, ..self }
    }

    fn is_ours(&self, meta: &ObjectMeta) -> bool {
        let has = |key: &str, value: &str| {
            meta.labels
                .as_ref()
                .and_then(|labels| labels.get(key))
                .is_some_and(|found| found == value)
        };
        has(self.label.0, &self.label.1) && has(LABEL_MANAGED_BY, OPERATOR)
    }
}

/// Makes an object what it should be, unless it already is.
pub(crate) async fn ensure<K>(context: &Context, desired: &K, seen: Seen) -> Result<(), Error>
where
    K: Resource<DynamicType = (), Scope = NamespaceResourceScope>
        + Clone
        + Debug
        + DeserializeOwned
        + Serialize,
{
    let name = desired.meta().name.as_deref().unwrap_or_default();
    let namespace = desired.meta().namespace.as_deref().unwrap_or_default();
    let kind = K::kind(&());
    let api: Api<K> = Api::namespaced(context.client.clone(), namespace);
    let digest = digest::of_json(desired).map_err(|source| Error::Encode {
        kind: kind.to_string(),
        name: name.to_owned(),
        source,
    })?;
    let object = format!("{kind}/{namespace}/{name}");
    let live = match &seen.meta {
        Some(meta) => Some(meta.clone()),
        None => match api.get_metadata_opt(name).await {
            Ok(live) => live.map(|live| live.metadata),
            Err(source) => return Err(failed::<K>("get", name, source)),
        },
    };
    if let Some(live) = &live {
        if !seen.is_ours(live) {
            return Err(Error::Taken {
                kind: kind.into_owned(),
                name: name.to_owned(),
            });
        }
        let version = live.resource_version.as_deref().unwrap_or_default();
        if context.applied.is_current(&object, &digest, version) {
            return Ok(());
        }
    }
    let params = PatchParams::apply(seen.manager).force();
    let applied = api
        .patch(name, &params, &Patch::Apply(desired))
        .await
        .map_err(|source| failed::<K>("apply", name, source))?;
    let version = applied.meta().resource_version.clone().unwrap_or_default();
    if live.and_then(|live| live.resource_version).as_deref() != Some(version.as_str()) {
        tracing::info!(%kind, namespace, name, "applied");
        context.metrics.wrote(&kind);
    }
    context.applied.record(object, digest, version);
    Ok(())
}

/// Deletes an object; one that is gone already is fine.
pub(super) async fn delete<K>(context: &Context, api: &Api<K>, name: &str) -> Result<(), Error>
where
    K: Resource<DynamicType = ()> + Clone + Debug + DeserializeOwned,
{
    match api.delete(name, &DeleteParams::background()).await {
        Ok(_) => {
            tracing::info!(kind = %K::kind(&()), name, "deleted");
            context.metrics.wrote(&K::kind(&()));
            Ok(())
        }
        Err(kube::Error::Api(status)) if status.is_not_found() => Ok(()),
        Err(source) => Err(failed::<K>("delete", name, source)),
    }
}

pub(super) fn failed<K: Resource<DynamicType = ()>>(
    verb: &'static str,
    name: &str,
    source: kube::Error,
) -> Error {
    Error::Api {
        verb,
        kind: K::kind(&()).into_owned(),
        name: name.to_owned(),
        source,
    }
}
