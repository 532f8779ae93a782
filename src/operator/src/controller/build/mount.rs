//! Where the pod of a replica keeps its queue.
//!
//! A pod that says that nothing waits says so of the volume that it has mounted. So before a claim is deleted,
//! all three have to agree: the Deployment names the claim, the one pod that there is names it, and the pod is
//! not older than the claim (it may have another volume of that name, if somebody has replaced the claim by
//! force). A pod that is older by the second in which both were made, or by clocks of API servers that differ,
//! is started once more for nothing.

use k8s_openapi::api::core::v1::{PersistentVolumeClaim, Pod, PodSpec};

use crate::controller::dereference::Found;
use crate::rollout::Mount;

/// `None` if there is no Deployment.
pub(in crate::controller) fn mount(found: &Found, ordinal: u32) -> Option<Mount> {
    let deployment = found.deployments.get(&ordinal)?;
    let template = deployment
        .spec
        .as_ref()
        .and_then(|spec| claim_name(spec.template.spec.as_ref()));
    let pods: Vec<_> = found
        .pods
        .iter()
        .filter(|found| found.ordinal == ordinal)
        .map(|found| found.pod.as_ref())
        .collect();
    let claim = found.claims.get(&ordinal);
    // What runs counts, not what will run next.
    Some(match pods.as_slice() {
        [] if template.is_none() => Mount::Pod,
        pods if pods
            .iter()
            .any(|pod| claim_name(pod.spec.as_ref()).is_none()) =>
        {
            Mount::Pod
        }
        [pod] if claim.is_some_and(|claim| has_mounted(pod, claim) && names(template, claim)) => {
            Mount::Claim
        }
        _ => Mount::Unproven,
    })
}

fn has_mounted(pod: &Pod, claim: &PersistentVolumeClaim) -> bool {
    let (pod_made, claim_made) = (
        &pod.metadata.creation_timestamp,
        &claim.metadata.creation_timestamp,
    );
    let is_younger = pod_made
        .as_ref()
        .zip(claim_made.as_ref())
        .is_some_and(|(pod, claim)| pod.0 >= claim.0);
    is_younger && names(claim_name(pod.spec.as_ref()), claim)
}

fn names(name: Option<&str>, claim: &PersistentVolumeClaim) -> bool {
    name.is_some() && name == claim.metadata.name.as_deref()
}

/// The one claim among the volumes of a pod.
fn claim_name(pod: Option<&PodSpec>) -> Option<&str> {
    let mut volumes = pod?.volumes.iter().flatten();
    volumes.find_map(|volume| {
        let source = volume.persistent_volume_claim.as_ref()?;
        Some(source.claim_name.as_str())
    })
}
