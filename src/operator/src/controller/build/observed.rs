//! The replicas as the rollout wants to see them.

use std::collections::BTreeMap;
use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::core::v1::PersistentVolumeClaim;

use super::deployment::Made;
use super::mount;
use crate::controller::dereference::{Found, FoundPod};
use crate::names::{ANNOTATION_DRAINING, ANNOTATION_DRAINING_POD};
use crate::rollout::{Claim, Disk, Mount, Replica, Report, Shape, Workload};

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
                workload: match workload(deployment, mount(found, ordinal), made.get(&ordinal)) {
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

fn workload(
    deployment: Option<&Deployment>,
    mount: Option<Mount>,
    wanted: Option<&Made>,
) -> Workload {
    let (Some(deployment), Some(mount)) = (deployment, mount) else {
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
        mount,
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

/// What is known of a claim.
pub(in crate::controller) fn claim_state(claim: Option<&PersistentVolumeClaim>) -> Claim {
    let Some(claim) = claim else {
        return Claim::Absent;
    };
    if claim.metadata.deletion_timestamp.is_some() {
        return Claim::Terminating;
    }
    let phase = claim
        .status
        .as_ref()
        .and_then(|status| status.phase.as_deref());
    match claim
        .spec
        .as_ref()
        .and_then(|spec| spec.volume_name.as_ref())
    {
        None => Claim::Unbound,
        Some(_) if phase == Some("Lost") => Claim::Lost,
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
    match draining_since(deployment, pod) {
        // Without the annotations, or with those of an earlier pod, the drain was not the operator's.
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

/// When the operator has told this very pod to drain.
fn draining_since(deployment: Option<&Deployment>, pod: &FoundPod) -> Option<Timestamp> {
    let annotations = deployment?.metadata.annotations.as_ref()?;
    let told = annotations.get(ANNOTATION_DRAINING_POD)?;
    (pod.pod.metadata.uid.as_ref() == Some(told)).then_some(())?;
    annotations.get(ANNOTATION_DRAINING)?.parse().ok()
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use k8s_openapi::api::core::v1::Pod;
    use serde_json::json;

    use super::*;
    use crate::controller::tests::now;

    /// A pod that says that it drains.
    fn draining(uid: &str) -> FoundPod {
        let status = json!({
            "version": "1", "draining": true,
            "config": {"hash": "", "credentialsHash": "", "refused": null},
            "queue": {"messages": 3, "bytes": 0, "deferred": 0, "oldestArrival": null},
            "totals": {"accepted": 0, "delivered": 0, "deferred": 0, "failed": 0},
            "upstreams": [], "certificate": null,
            "spool": {"persistent": true, "failure": null, "corrupt": 0},
        });
        let mut pod = Pod::default();
        pod.metadata.uid = Some(uid.into());
        FoundPod {
            pod: Arc::new(pod),
            ordinal: 0,
            address: None,
            ready: false,
            status: Some(serde_json::from_value(status).unwrap()),
        }
    }

    #[test]
    fn a_drain_is_the_operators_only_if_it_told_this_very_pod() {
        let began = (ANNOTATION_DRAINING, "2027-01-15T07:59:00Z");
        let told = |uid| (ANNOTATION_DRAINING_POD, uid);
        let counts = Report::Draining {
            queued: 3,
            since: Duration::from_secs(60),
        };
        let does_not = Report::Serving { queued: 3 };
        for (annotations, expected) in [
            (vec![began, told("this")], counts),
            // Left by the pod before, of the same Deployment.
            (vec![began, told("earlier")], does_not),
            (vec![began], does_not),
            (vec![told("this")], does_not),
            (vec![], does_not),
        ] {
            let text = format!("{annotations:?}");
            let mut deployment = Deployment::default();
            let annotations = annotations.into_iter();
            let annotations = annotations.map(|(key, value)| (key.to_owned(), value.to_owned()));
            deployment.metadata.annotations = Some(annotations.collect());
            let mut found = crate::controller::tests::nothing();
            found.pods.push(draining("this"));
            assert_eq!(
                report(&found, 0, Some(&deployment), now()),
                expected,
                "{text}"
            );
        }
    }
}
