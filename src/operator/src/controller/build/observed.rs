//! The replicas as the rollout wants to see them.

use std::collections::BTreeMap;
use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::core::v1::PersistentVolumeClaim;

use super::deployment::Made;
use crate::controller::dereference::{Found, FoundPod};
use crate::names::ANNOTATION_DRAINING;
use crate::rollout::{Claim, Disk, Replica, Report, Shape, Workload};

/// The ordinals of everything there is.
pub(super) fn ordinals(found: &Found) -> impl Iterator<Item = u32> {
    let ordinals = found.deployments.keys().chain(found.claims.keys()).copied();
    ordinals.chain(found.lingering())
}

/// Every replica of which there is a Deployment, a claim or a pod.
///
/// A pod that has outlived its Deployment still writes to the queue, so its replica terminates: a
/// second pod beside it would share the queue.
pub(super) fn replicas(
    found: &Found,
    made: &BTreeMap<u32, Made>,
    now: Timestamp,
) -> BTreeMap<u32, Replica> {
    ordinals(found)
        .map(|ordinal| {
            let deployment = found.deployments.get(&ordinal).map(AsRef::as_ref);
            let claim = found.claims.get(&ordinal).map(AsRef::as_ref);
            let replica = Replica {
                workload: match workload(deployment, made.get(&ordinal)) {
                    Workload::Absent if found.lingering().any(|other| other == ordinal) => {
                        Workload::Terminating
                    }
                    workload => workload,
                },
                claim: claim_state(claim),
                report: report(found, ordinal, deployment, now),
                disk: disk(found, ordinal),
            };
            (ordinal, replica)
        })
        .collect()
}

fn workload(deployment: Option<&Deployment>, wanted: Option<&Made>) -> Workload {
    let Some(deployment) = deployment else {
        return Workload::Absent;
    };
    if deployment.metadata.deletion_timestamp.is_some() {
        return Workload::Terminating;
    }
    let made = Made::of(deployment);
    let is_of_today = match (&made, wanted) {
        (Some(made), Some(wanted)) => made.template == wanted.template,
        _ => false,
    };
    Workload::Present {
        // Nothing that could be wanted has an empty digest.
        inputs: made.map(|made| made.inputs).unwrap_or_default(),
        shape: if is_of_today {
            Shape::Current
        } else {
            Shape::Earlier
        },
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

/// The worst that any pod of a replica says of its disk.
fn disk(found: &Found, ordinal: u32) -> Disk {
    let pods = found.pods.iter().filter(|pod| pod.ordinal == ordinal);
    let spools = pods.filter_map(|pod| Some(&pod.status.as_ref()?.spool));
    spools.fold(Disk::Sound, |disk, spool| {
        if spool.corrupt > 0 {
            Disk::Damaged
        } else if disk == Disk::Sound && spool.failure.is_some() {
            Disk::Failing
        } else {
            disk
        }
    })
}

fn draining_since(deployment: Option<&Deployment>) -> Option<Timestamp> {
    let annotations = deployment?.metadata.annotations.as_ref()?;
    annotations.get(ANNOTATION_DRAINING)?.parse().ok()
}
