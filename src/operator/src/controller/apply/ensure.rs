//! One object as it should be.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::api::{DeleteParams, Patch, PatchParams, Preconditions};
use kube::core::Status;
use kube::{Api, Resource};
use serde::Serialize;
use serde_json::{Value, json};

use super::Error;
use crate::context::Context;
use crate::digest;
use crate::kind::Namespaced;
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

    pub(crate) fn is_ours(&self, meta: &ObjectMeta) -> bool {
        let has = |key: &str, value: &str| {
            meta.labels
                .as_ref()
                .and_then(|labels| labels.get(key))
                .is_some_and(|found| found == value)
        };
        has(self.label.0, &self.label.1) && has(LABEL_MANAGED_BY, OPERATOR)
    }
}

/// Whether something could be done on what was seen.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Outcome {
    Done,
    /// The object is not what was seen: it is left alone, and the next visit decides anew.
    Behind,
}

/// No object has this version: with it an apply makes a new object, and writes over none.
const NO_VERSION: &str = "1";

/// What may be written over.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Over {
    /// Any version of the object that was found to be ours, or nothing if there was none.
    AnyVersion,
    /// The very object and version that was seen, or nothing if none was.
    Seen,
}

/// Makes an object what it should be, unless it already is. One that somebody has made since it was looked for is
/// [`Error::Meanwhile`]: it is not written over before it is known whose it is.
pub(crate) async fn ensure<K>(context: &Context, desired: &K, seen: Seen) -> Result<(), Error>
where
    K: Namespaced + Serialize,
{
    let meta = desired.meta();
    let name = meta.name.as_deref().unwrap_or_default();
    let namespace = meta.namespace.as_deref().unwrap_or_default();
    let desired = serde_json::to_value(desired).map_err(|source| Error::Encode {
        kind: K::kind(&()).into_owned(),
        name: name.to_owned(),
        source,
    })?;
    let target = Target::<K>::new(context, namespace, name);
    match target.apply(desired, seen, Over::AnyVersion).await? {
        Outcome::Done => Ok(()),
        Outcome::Behind => Err(Error::Meanwhile {
            kind: K::kind(&()).into_owned(),
            name: name.to_owned(),
        }),
    }
}

/// Makes an object what it should be, if it still is what was seen: for objects of which an older
/// state, written by mistake, would do harm.
pub(super) async fn ensure_seen<K: Namespaced>(
    context: &Context,
    (namespace, name): (&str, &str),
    desired: Value,
    seen: Seen,
) -> Result<Outcome, Error> {
    let target = Target::<K>::new(context, namespace, name);
    target.apply(desired, seen, Over::Seen).await
}

/// An object to write to.
struct Target<'a, K> {
    context: &'a Context,
    api: Api<K>,
    namespace: &'a str,
    name: &'a str,
}

impl<'a, K: Namespaced> Target<'a, K> {
    fn new(context: &'a Context, namespace: &'a str, name: &'a str) -> Self {
        Self {
            context,
            api: Api::namespaced(context.client.clone(), namespace),
            namespace,
            name,
        }
    }

    async fn apply(&self, mut desired: Value, seen: Seen, over: Over) -> Result<Outcome, Error> {
        let Self {
            context,
            api,
            namespace,
            name,
        } = self;
        let kind = K::kind(&());
        let digest = digest::of(desired.to_string().as_bytes());
        let object = format!("{kind}/{namespace}/{name}");
        let live = self.live(&seen).await?;
        if let Some(live) = &live {
            if !seen.is_ours(live) {
                return Err(Error::Taken {
                    kind: kind.into_owned(),
                    name: (*name).to_owned(),
                });
            }
            let version = live.resource_version.as_deref().unwrap_or_default();
            if context.applied.is_current(&object, &digest, version) {
                return Ok(Outcome::Done);
            }
        }
        match (over, &seen.meta, &live) {
            (Over::Seen, None, Some(_)) => return Ok(Outcome::Behind),
            // The API server refuses with 409 if there is one by now.
            (Over::Seen | Over::AnyVersion, None, None) => {
                desired["metadata"]["resourceVersion"] = json!(NO_VERSION);
            }
            // As above, also if it is gone.
            (Over::Seen, Some(meta), _) => {
                desired["metadata"]["uid"] = json!(meta.uid);
                desired["metadata"]["resourceVersion"] = json!(meta.resource_version);
            }
            // 409 if the object is gone by now, and see `is_another`.
            (Over::AnyVersion, _, Some(meta)) | (Over::AnyVersion, Some(meta), None) => {
                desired["metadata"]["uid"] = json!(meta.uid);
            }
        }
        let params = PatchParams::apply(seen.manager).force();
        let applied = match api.patch(name, &params, &Patch::Apply(desired)).await {
            Ok(applied) => applied,
            Err(kube::Error::Api(status)) if status.is_conflict() || is_another(&status) => {
                tracing::debug!(%kind, namespace, name, "put off: the cache is behind");
                return Ok(Outcome::Behind);
            }
            Err(source) => return Err(failed::<K>("apply", name, source)),
        };
        let version = applied.meta().resource_version.clone().unwrap_or_default();
        if live.and_then(|live| live.resource_version).as_deref() != Some(version.as_str()) {
            tracing::info!(%kind, namespace, name, "applied");
            context.metrics.wrote(&kind);
        }
        context.applied.record(object, digest, version);
        Ok(Outcome::Done)
    }

    /// What is there: as it was seen, or else as the API server says.
    async fn live(&self, seen: &Seen) -> Result<Option<ObjectMeta>, Error> {
        if let Some(meta) = &seen.meta {
            return Ok(Some(meta.clone()));
        }
        match self.api.get_metadata_opt(self.name).await {
            Ok(live) => Ok(live.map(|live| live.metadata)),
            Err(source) => Err(failed::<K>("get", self.name, source)),
        }
    }
}

/// Whether the API server has refused because the object is not the one whose uid was named. Where no version is named it
/// takes that for an attempt to change the uid (422), not for a conflict.
fn is_another(status: &Status) -> bool {
    let causes = status.details.iter().flat_map(|details| &details.causes);
    causes
        .into_iter()
        .any(|cause| cause.field == "metadata.uid")
}

/// Deletes an object if it still is what was seen. Gone or changed since: the cache is behind.
pub(super) async fn delete<K>(
    context: &Context,
    api: &Api<K>,
    seen: &ObjectMeta,
) -> Result<Outcome, Error>
where
    K: Namespaced,
{
    let name = seen.name.as_deref().unwrap_or_default();
    match api.delete(name, &only(seen)).await {
        Ok(_) => {
            tracing::info!(kind = %K::kind(&()), name, "deleted");
            context.metrics.wrote(&K::kind(&()));
            Ok(Outcome::Done)
        }
        Err(kube::Error::Api(status)) if status.is_not_found() || status.is_conflict() => {
            tracing::debug!(kind = %K::kind(&()), name, "put off: the cache is behind");
            Ok(Outcome::Behind)
        }
        Err(source) => Err(failed::<K>("delete", name, source)),
    }
}

/// Deletes this version of this object and no other.
fn only(seen: &ObjectMeta) -> DeleteParams {
    DeleteParams::background().preconditions(Preconditions {
        uid: seen.uid.clone(),
        resource_version: seen.resource_version.clone(),
    })
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
