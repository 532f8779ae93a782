//! Why a pod does not start.
//!
//! The scheduler, the kubelet and the Deployment's controller say so in places that the user of a
//! relay does not look at, or may not. What passes by itself within seconds is not said: containers
//! that are being made, and a claim that the scheduler has not come to yet.

use std::collections::BTreeSet;

use jiff::Timestamp;
use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::core::v1::{
    ContainerState, ContainerStateTerminated, ContainerStatus, PersistentVolumeClaim, Pod,
};

use crate::controller::dereference::{Found, FoundPod};

/// A claim that is bound at once makes a pod unschedulable for a moment, and so does a node that comes up.
const UNSCHEDULED_SECONDS: i64 = 10;
/// Characters of what somebody else says: a reason and an address, or the end of a log.
const SAID_MAX: usize = 300;
/// What the kubelet says of a container while it goes on as it should.
const USUAL: [&str; 2] = ["ContainerCreating", "PodInitializing"];

/// What keeps each replica below `wanted` from starting, if anything is known to.
pub(super) fn troubles(found: &Found, wanted: u32, now: Timestamp) -> Option<String> {
    let troubles: Vec<_> = (0..wanted)
        .filter_map(|ordinal| {
            let trouble = trouble(found, ordinal, now)?;
            Some(format!("replica {ordinal}: {trouble}"))
        })
        .collect();
    (!troubles.is_empty()).then(|| troubles.join("; "))
}

fn trouble(found: &Found, ordinal: u32, now: Timestamp) -> Option<String> {
    let pods: Vec<&FoundPod> = found
        .pods
        .iter()
        .filter(|pod| pod.ordinal == ordinal)
        .collect();
    if pods.is_empty() {
        return not_created(found.deployments.get(&ordinal)?);
    }
    pods.into_iter().filter(|pod| !pod.ready).find_map(|pod| {
        let claim = found.claims.get(&ordinal).map(AsRef::as_ref);
        unscheduled(&pod.pod, claim, now).or_else(|| waiting(&pod.pod))
    })
}

/// A quota, Pod Security or an admission webhook in the way.
fn not_created(deployment: &Deployment) -> Option<String> {
    let conditions = deployment.status.as_ref()?.conditions.as_ref()?;
    let failure = conditions
        .iter()
        .find(|condition| condition.type_ == "ReplicaFailure" && condition.status == "True")?;
    Some(said(
        failure.reason.as_deref().unwrap_or("ReplicaFailure"),
        failure.message.as_deref(),
    ))
}

fn unscheduled(pod: &Pod, claim: Option<&PersistentVolumeClaim>, now: Timestamp) -> Option<String> {
    let conditions = pod.status.as_ref()?.conditions.as_ref()?;
    let condition = conditions
        .iter()
        .find(|condition| condition.type_ == "PodScheduled" && condition.status == "False")?;
    let since = condition.last_transition_time.as_ref()?.0;
    if now.as_second() - since.as_second() < UNSCHEDULED_SECONDS {
        return None;
    }
    let reason = condition.reason.as_deref().unwrap_or("Unschedulable");
    let scheduler = said(reason, condition.message.as_deref());
    Some(match claim.and_then(unbound) {
        Some(claim) => format!("{scheduler} ({claim})"),
        None => scheduler,
    })
}

fn unbound(claim: &PersistentVolumeClaim) -> Option<String> {
    let phase = claim.status.as_ref()?.phase.as_deref()?;
    let name = claim.metadata.name.as_deref()?;
    let class = claim.spec.as_ref()?.storage_class_name.as_deref();
    let class = match class {
        Some(class) => format!("storage class {class:?}"),
        None => "no storage class, for the cluster has no default".to_owned(),
    };
    (phase != "Bound").then(|| format!("claim {name} is {phase}: {class}"))
}

/// What the kubelet says of containers that do not run.
fn waiting(pod: &Pod) -> Option<String> {
    let containers = pod.status.as_ref()?.container_statuses.as_ref()?;
    let troubles: BTreeSet<String> = containers.iter().filter_map(stopped).collect();
    (!troubles.is_empty()).then(|| troubles.into_iter().collect::<Vec<_>>().join("; "))
}

fn stopped(container: &ContainerStatus) -> Option<String> {
    let ContainerState {
        running,
        terminated,
        waiting,
    } = container.state.as_ref()?;
    if let Some(terminated) = terminated {
        return Some(ended(terminated));
    }
    let last = container.last_state.as_ref();
    let last = last.and_then(|last| last.terminated.as_ref());
    if running.is_some() {
        // It has failed and tries again: without this, the reason would come and go with each try.
        let failed = last.filter(|terminated| terminated.exit_code != 0)?;
        return Some(format!("started again after {}", ended(failed)));
    }
    let waiting = waiting.as_ref()?;
    let reason = waiting.reason.as_deref()?;
    match last {
        _ if USUAL.contains(&reason) => None,
        // The kubelet's own message is the length of the pause, which changes all the time.
        Some(terminated) if reason == "CrashLoopBackOff" => {
            Some(format!("{reason} after {}", ended(terminated)))
        }
        _ => Some(said(reason, waiting.message.as_deref())),
    }
}

fn ended(terminated: &ContainerStateTerminated) -> String {
    let reason = terminated.reason.as_deref().unwrap_or("Error");
    let ended = format!("{reason} with exit code {}", terminated.exit_code);
    // The message is the end of the log, and its end says why.
    let message = one_line(terminated.message.as_deref());
    let skipped = message.chars().count().saturating_sub(SAID_MAX);
    joined(&ended, &message.chars().skip(skipped).collect::<String>())
}

/// A reason with the beginning of its message.
fn said(reason: &str, message: Option<&str>) -> String {
    let message = one_line(message).chars().take(SAID_MAX).collect::<String>();
    joined(reason, &message)
}

fn joined(reason: &str, message: &str) -> String {
    if message.is_empty() {
        reason.to_owned()
    } else {
        format!("{reason}: {message}")
    }
}

fn one_line(message: Option<&str>) -> String {
    let words: Vec<_> = message.unwrap_or_default().split_whitespace().collect();
    words.join(" ")
}
