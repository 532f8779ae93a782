//! Whether what a decision was made on is still so.
//!
//! The user still has to want the same: an operator that has not heard of it yet would undo what another one has done.
//! Deployments and claims have to be the very versions that were seen. Pods change all the time (probes,
//! annotations) and what matters of them was asked of themselves in this visit: they have to be the same ones.

use std::collections::BTreeSet;

use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::core::v1::{PersistentVolumeClaim, Pod};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::api::ListParams;
use kube::{Api, Client};
use postroad_api::SmtpRelay;

use super::Error;
use super::ensure::failed;
use crate::controller::dereference::Found;
use crate::controller::validate::{Validated, restarted_at};
use crate::kind::Namespaced;
use crate::names::{LABEL_MANAGED_BY, LABEL_RELAY, OPERATOR, RelayId};

/// An object as far as it has to be the same.
type Mark = (Option<String>, Option<String>, Option<String>);

/// Whether the API server has exactly what was found.
pub(super) async fn is_fresh(
    client: &Client,
    validated: &Validated,
    found: &Found,
) -> Result<bool, Error> {
    let id = &validated.id;
    let deployments = found.deployments.values().map(|found| &found.metadata);
    let claims = found.claims.values().map(|found| &found.metadata);
    let pods = found.all_pods.iter().map(|found| &found.metadata);
    let ours = |meta: &ObjectMeta| id.ordinal(meta).is_some();
    let live_claims = live::<PersistentVolumeClaim>(client, id, ours, version);
    Ok(is_wanted(client, validated).await?
        && marks(deployments, version) == live::<Deployment>(client, id, ours, version).await?
        && marks(claims, version) == live_claims.await?
        && marks(pods, presence) == live::<Pod>(client, id, |_| true, presence).await?)
}

async fn is_wanted(client: &Client, validated: &Validated) -> Result<bool, Error> {
    let RelayId {
        name,
        namespace,
        uid,
    } = &validated.id;
    let api: Api<SmtpRelay> = Api::namespaced(client.clone(), namespace);
    let live = api
        .get_metadata_opt(name)
        .await
        .map_err(|source| failed::<SmtpRelay>("get", name, source))?;
    Ok(live.is_some_and(|live| {
        let meta = &live.metadata;
        meta.uid.as_ref() == Some(uid)
            && meta.generation == Some(validated.generation)
            && meta.deletion_timestamp.is_none()
            && restarted_at(meta) == validated.restarted_at
    }))
}

async fn live<K: Namespaced>(
    client: &Client,
    id: &RelayId,
    counts: impl Fn(&ObjectMeta) -> bool,
    mark: fn(&ObjectMeta) -> Mark,
) -> Result<BTreeSet<Mark>, Error> {
    let api: Api<K> = Api::namespaced(client.clone(), &id.namespace);
    // As the caches select: what somebody else has labelled is in neither.
    let labels = format!("{LABEL_MANAGED_BY}={OPERATOR},{LABEL_RELAY}={}", id.name);
    let list = api
        .list_metadata(&ListParams::default().labels(&labels))
        .await
        .map_err(|source| failed::<K>("list", &id.name, source))?;
    let metas = list.items.iter().map(|item| &item.metadata);
    Ok(marks(metas.filter(|meta| counts(meta)), mark))
}

fn marks<'a>(
    objects: impl Iterator<Item = &'a ObjectMeta>,
    mark: fn(&ObjectMeta) -> Mark,
) -> BTreeSet<Mark> {
    objects.map(mark).collect()
}

fn version(meta: &ObjectMeta) -> Mark {
    let ObjectMeta {
        name,
        uid,
        resource_version,
        ..
    } = meta;
    (name.clone(), uid.clone(), resource_version.clone())
}

fn presence(meta: &ObjectMeta) -> Mark {
    let leaving = meta
        .deletion_timestamp
        .as_ref()
        .map(|_| "leaving".to_owned());
    (meta.name.clone(), meta.uid.clone(), leaving)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Name, uid, version, and `-` for one that is on its way out.
    fn metas(texts: &[&str]) -> Vec<ObjectMeta> {
        let meta = |text: &&str| {
            let words: Vec<_> = text.split(' ').collect();
            serde_json::from_value(serde_json::json!({
                "name": words[0], "uid": words[1], "resourceVersion": words[2],
                "deletionTimestamp": words.get(3).map(|_| "2026-01-01T00:00:00Z"),
            }))
            .unwrap()
        };
        texts.iter().map(meta).collect()
    }

    #[test]
    fn another_object_or_version_is_other_news() {
        for (seen, live, same_versions, same_pods) in [
            (&["a 1 5", "b 2 6"][..], &["b 2 6", "a 1 5"][..], true, true),
            (&["a 1 5"], &["a 1 7"], false, true),
            (&["a 1 5"], &["a 2 7"], false, false),
            (&["a 1 5"], &["a 1 7 -"], false, false),
            (&["a 1 5"], &[], false, false),
            (&[], &["a 1 5"], false, false),
            (&[], &[], true, true),
        ] {
            let (seen_metas, live_metas) = (metas(seen), metas(live));
            for (mark, same) in [
                (version as fn(&_) -> _, same_versions),
                (presence, same_pods),
            ] {
                let is_same = marks(seen_metas.iter(), mark) == marks(live_metas.iter(), mark);
                assert_eq!(is_same, same, "{seen:?} {live:?}");
            }
        }
    }
}
