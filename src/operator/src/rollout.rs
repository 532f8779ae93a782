//! Which replica is created, replaced, drained or removed next: a pure function of what is seen.
//!
//! Invariants, each with a row in the tests:
//! - A replica that serves is replaced only while every other wanted one serves, one at a time.
//!   One that does not serve is replaced at once: it costs nothing, and a mistake that broke them all
//!   (an image that does not exist) can be mended.
//! - A claim is deleted only after its pod has said that nothing waits, [`SETTLE`] after its drain
//!   began: by then every session that was open at that time has ended.
//! - A claim beyond the wanted number with no pod may hold mail (the relay was deleted and applied
//!   again, smaller): it gets a pod, which is drained like any other.
//! - The mail of an emptyDir goes with its pod, so such a pod is drained before it is replaced.
//! - A pod that was told to drain and is wanted again has to start anew: a drain cannot be taken back.
//!
//! There is no memory: the operator may be killed between any two steps.

use std::collections::BTreeMap;
use std::time::Duration;

/// The relay ends the sessions that are open when a drain begins within 30 seconds; twice that.
pub(crate) const SETTLE: Duration = Duration::from_secs(60);

/// What is seen of one replica.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) struct Replica {
    pub(crate) workload: Workload,
    pub(crate) claim: Claim,
    pub(crate) report: Report,
}

/// The Deployment of a replica.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) enum Workload {
    Absent,
    Present {
        /// Digest of the template it was made from.
        template: String,
        /// Whether its controller has caught up and its pod is available.
        serves: bool,
    },
    Terminating,
}

/// The PersistentVolumeClaim of a replica.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Claim {
    Absent,
    /// No volume yet, so it has never held mail.
    Unbound,
    Present,
    Terminating,
}

/// What the pod of a replica says.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Report {
    /// There is none, or it does not answer.
    Unknown,
    /// It takes mail.
    Serving { queued: u64 },
    /// It takes no more mail, since this long.
    Draining { queued: u64, since: Duration },
}

impl Report {
    /// Whether nothing waits and nothing can come.
    const fn is_empty(self) -> bool {
        match self {
            Self::Unknown | Self::Serving { .. } => false,
            Self::Draining { queued, since } => queued == 0 && since.as_secs() >= SETTLE.as_secs(),
        }
    }

    const fn is_draining(self) -> bool {
        matches!(self, Self::Draining { .. })
    }

    const fn queued(self) -> Option<u64> {
        match self {
            Self::Unknown => None,
            Self::Serving { queued } | Self::Draining { queued, .. } => Some(queued),
        }
    }
}

/// Whether mail that waits survives its pod.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Durability {
    Claim,
    Pod,
}

/// What is wanted.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Wanted<'a> {
    pub(crate) replicas: u32,
    /// Digest of the template.
    pub(crate) template: &'a str,
    pub(crate) durability: Durability,
}

/// One thing to do, to the replica of this ordinal.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub(crate) enum Step {
    /// Make its claim and its Deployment.
    Create(u32),
    /// Apply the changed template.
    Roll(u32),
    /// Tell it to take no more mail.
    Drain(u32),
    /// Delete its Deployment and not its claim, so that it starts anew.
    Restart(u32),
    /// Delete its Deployment, then its claim.
    Remove(u32),
}

/// What to do now, and what is waited for.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub(crate) struct Plan {
    pub(crate) steps: Vec<Step>,
    /// One line for people, if something has yet to happen before the relay is as wanted.
    pub(crate) waiting: Option<String>,
}

impl Plan {
    fn wait(&mut self, for_what: String) {
        self.waiting.get_or_insert(for_what);
    }
}

/// Decides.
pub(crate) fn plan(wanted: Wanted<'_>, replicas: &BTreeMap<u32, Replica>) -> Plan {
    let mut plan = Plan::default();
    for ordinal in 0..wanted.replicas {
        match replicas.get(&ordinal) {
            None => plan.steps.push(Step::Create(ordinal)),
            Some(replica) => keep(&mut plan, wanted, ordinal, replica),
        }
    }
    roll(&mut plan, wanted, replicas);
    for (&ordinal, replica) in replicas.range(wanted.replicas..) {
        retire(&mut plan, wanted, ordinal, replica);
    }
    plan
}

/// A wanted replica, apart from the orderly replacement of those that serve.
fn keep(plan: &mut Plan, wanted: Wanted<'_>, ordinal: u32, replica: &Replica) {
    match (&replica.workload, replica.claim) {
        (_, Claim::Terminating) => {
            plan.wait(format!("the old volume of replica {ordinal} to be gone"));
        }
        (Workload::Terminating, _) => {
            plan.wait(format!(
                "the old Deployment of replica {ordinal} to be gone"
            ));
        }
        (Workload::Absent, _) => plan.steps.push(Step::Create(ordinal)),
        (Workload::Present { template, serves }, _) => {
            let outdated = template != wanted.template;
            if outdated && !serves && may_lose_pod(wanted, replica) {
                plan.steps.push(Step::Roll(ordinal));
            } else if !outdated && replica.report.is_draining() {
                revive(plan, wanted, ordinal, replica);
            } else if !outdated && !serves {
                plan.wait(format!("replica {ordinal} to become ready"));
            }
        }
    }
}

fn revive(plan: &mut Plan, wanted: Wanted<'_>, ordinal: u32, replica: &Replica) {
    if may_lose_pod(wanted, replica) {
        plan.steps.push(Step::Restart(ordinal));
    } else {
        plan.wait(format!("replica {ordinal} to deliver what it holds"));
    }
}

/// Whether the pod can go without mail going with it.
fn may_lose_pod(wanted: Wanted<'_>, replica: &Replica) -> bool {
    match wanted.durability {
        Durability::Claim => true,
        // What neither answers nor serves cannot be emptied either; what serves and missed one question can.
        Durability::Pod => {
            replica.report.is_empty() || (replica.report == Report::Unknown && !serves(replica))
        }
    }
}

/// Replaces the first outdated replica that serves, or is being emptied for it, if all others serve.
fn roll(plan: &mut Plan, wanted: Wanted<'_>, replicas: &BTreeMap<u32, Replica>) {
    let kept = || replicas.range(..wanted.replicas);
    let Some((&ordinal, replica)) = kept()
        .filter(|(ordinal, replica)| {
            is_outdated(wanted, replica) && !plan.steps.contains(&Step::Roll(**ordinal))
        })
        // One whose drain has begun comes first: otherwise two would be out of service.
        .max_by_key(|(ordinal, replica)| {
            (replica.report.is_draining(), std::cmp::Reverse(**ordinal))
        })
    else {
        return;
    };
    let others_serve = (0..wanted.replicas)
        .all(|other| other == ordinal || replicas.get(&other).is_some_and(serves));
    if !others_serve {
        plan.wait(format!(
            "the other replicas to be ready before replica {ordinal} is replaced"
        ));
    } else if may_lose_pod(wanted, replica) {
        plan.steps.push(Step::Roll(ordinal));
    } else {
        drain(plan, ordinal, replica);
    }
}

fn is_outdated(wanted: Wanted<'_>, replica: &Replica) -> bool {
    matches!(&replica.workload, Workload::Present { template, .. } if template != wanted.template)
        && replica.claim != Claim::Terminating
}

const fn serves(replica: &Replica) -> bool {
    matches!(replica.workload, Workload::Present { serves: true, .. })
}

/// A replica that is not wanted any more.
fn retire(plan: &mut Plan, wanted: Wanted<'_>, ordinal: u32, replica: &Replica) {
    match (&replica.workload, replica.claim) {
        // Claims are seen later than pods: one that serves has a volume, whatever was last heard of its claim.
        (Workload::Absent, Claim::Unbound) => plan.steps.push(Step::Remove(ordinal)),
        (Workload::Present { serves: false, .. }, Claim::Unbound) => {
            plan.steps.push(Step::Remove(ordinal));
        }
        (Workload::Absent, Claim::Present) => plan.steps.push(Step::Create(ordinal)),
        (Workload::Absent, Claim::Absent) => {}
        (Workload::Absent, Claim::Terminating) | (Workload::Terminating, _) => {
            plan.wait(format!("replica {ordinal} to be gone"));
        }
        (Workload::Present { .. }, _) if replica.report.is_empty() => {
            plan.steps.push(Step::Remove(ordinal));
        }
        // Broken, and the template that would mend it is there: it cannot be emptied before.
        (Workload::Present { template, .. }, _)
            if template != wanted.template
                && replica.report == Report::Unknown
                && may_lose_pod(wanted, replica) =>
        {
            plan.steps.push(Step::Roll(ordinal));
        }
        (Workload::Present { .. }, _) => drain(plan, ordinal, replica),
    }
}

fn drain(plan: &mut Plan, ordinal: u32, replica: &Replica) {
    if matches!(replica.report, Report::Serving { .. }) {
        plan.steps.push(Step::Drain(ordinal));
    }
    plan.wait(match replica.report.queued() {
        None => format!("replica {ordinal} to answer, so that it can be drained"),
        Some(0) => format!("replica {ordinal} to end its sessions"),
        Some(_) => format!("replica {ordinal} to deliver what it holds"),
    });
}

#[cfg(test)]
mod tests;
