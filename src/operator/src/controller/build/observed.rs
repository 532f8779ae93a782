//! The replicas as the rollout wants to see them.

use std::collections::BTreeMap;
use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::core::v1::PersistentVolumeClaim;

use crate::controller::dereference::{Found, FoundPod};
use crate::names::{ANNOTATION_DRAINING, ANNOTATION_TEMPLATE};
use crate::rollout::{Claim, Replica, Report, Workload};

/// Every replica of which there is a Deployment, a claim or a pod.
///
/// A pod that has outlived its Deployment still writes to the queue, so its replica terminates: a
/// second pod beside it would share the queue.
pub(super) fn replicas(found: &Found, now: Timestamp) -> BTreeMap<u32, Replica> {
    let ordinals = found.deployments.keys().chain(found.claims.keys());
    let ordinals = ordinals.chain(&found.lingering);
    ordinals
        .map(|&ordinal| {
            let deployment = found.deployments.get(&ordinal).map(AsRef::as_ref);
            let claim = found.claims.get(&ordinal).map(AsRef::as_ref);
            let replica = Replica {
                workload: match workload(deployment) {
                    Workload::Absent if found.lingering.contains(&ordinal) => Workload::Terminating,
                    workload => workload,
                },
                claim: claim_state(claim),
                report: report(found, ordinal, deployment, now),
            };
            (ordinal, replica)
        })
        .collect()
}

fn workload(deployment: Option<&Deployment>) -> Workload {
    let Some(deployment) = deployment else {
        return Workload::Absent;
    };
    if deployment.metadata.deletion_timestamp.is_some() {
        return Workload::Terminating;
    }
    let annotations = deployment.metadata.annotations.as_ref();
    Workload::Present {
        template: annotations
            .and_then(|annotations| annotations.get(ANNOTATION_TEMPLATE).cloned())
            .unwrap_or_default(),
        serves: serves(deployment),
    }
}

/// Whether the Deployment's controller has caught up and its one pod is available.
fn serves(deployment: &Deployment) -> bool {
    deployment.status.as_ref().is_some_and(|status| {
        status.observed_generation >= deployment.metadata.generation
            && status.updated_replicas == Some(1)
            && status.available_replicas == Some(1)
            && status.replicas == Some(1)
    })
}

fn claim_state(claim: Option<&PersistentVolumeClaim>) -> Claim {
    let Some(claim) = claim else {
        return Claim::Absent;
    };
    if claim.metadata.deletion_timestamp.is_some() {
        return Claim::Terminating;
    }
    match claim
        .spec
        .as_ref()
        .and_then(|spec| spec.volume_name.as_ref())
    {
        None => Claim::Unbound,
        Some(_) => Claim::Present,
    }
}

/// What the pods of a replica say. Two at once (one is being replaced) say nothing that could be relied on.
fn report(found: &Found, ordinal: u32, deployment: Option<&Deployment>, now: Timestamp) -> Report {
    let mut pods = found.pods.iter().filter(|pod| pod.ordinal == ordinal);
    let (Some(pod), None) = (pods.next(), pods.next()) else {
        return Report::Unknown;
    };
    let FoundPod {
        status: Some(status),
        ..
    } = pod
    else {
        return Report::Unknown;
    };
    let queued = status.queue.messages;
    match draining_since(deployment) {
        // Without the annotation the drain was not the operator's.
        Some(since) if status.draining => {
            let seconds = now.as_second().saturating_sub(since.as_second());
            let since = Duration::from_secs(u64::try_from(seconds).unwrap_or(0));
            Report::Draining { queued, since }
        }
        _ => Report::Serving { queued },
    }
}

fn draining_since(deployment: Option<&Deployment>) -> Option<Timestamp> {
    let annotations = deployment?.metadata.annotations.as_ref()?;
    annotations.get(ANNOTATION_DRAINING)?.parse().ok()
}
