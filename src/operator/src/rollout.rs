//! Which replica is created, replaced, drained or removed next: a pure function of what is seen.
//!
//! Invariants, each with a row in the tests:
//! - A replica that serves is replaced only because its user has written something else (the inputs
//!   differ), never because a newer operator would make it otherwise (its shape is an earlier one).
//! - A replica that serves is replaced only while every other wanted one serves, one at a time.
//!   One that does not serve is replaced at once: it costs nothing, and a mistake that broke them all
//!   (an image that does not exist) can be mended. Where its mail is safe it takes a newer shape too.
//! - A claim is deleted only after its pod has said that nothing waits, [`SETTLE`] after its drain
//!   began: by then every session that was open at that time has ended. What a pod says counts for the
//!   claim that it has mounted ([`Mount`]) and for no other. One that it has not mounted gets a pod of
//!   its own.
//! - A claim is not deleted while its pod reports damaged records or a failing disk: what is kept aside
//!   may be mail, and somebody has to look. Deleting the claim by hand is how they say that they have;
//!   the same gives a wanted replica a new volume, after it has delivered what it holds.
//! - A claim beyond the wanted number with no pod may hold mail (the relay was deleted and applied
//!   again, smaller): it gets a pod, which is drained like any other.
//! - Where pods should keep mail in themselves there are no claims: such a relay is refused while any is
//!   left, since nobody would mount them.
//! - The mail of an emptyDir goes with its pod, so such a pod is drained before it is replaced, also
//!   where claims are wanted by now. The same holds where the volume of a claim has been deleted.
//! - A pod that was told to drain and is wanted again has to start anew: a drain cannot be taken back.
//!
//! There is no memory: the operator may be killed between any two steps.

mod replica;

use std::collections::BTreeMap;
use std::time::Duration;

pub(crate) use replica::{Claim, Disk, Mount, Replica, Report, Shape, Workload};

/// The relay ends the sessions that are open when a drain begins within 30 seconds; twice that.
pub(crate) const SETTLE: Duration = Duration::from_secs(60);

/// What is wanted.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Wanted<'a> {
    /// The name of the relay: claims are called by it and their ordinal.
    pub(crate) relay: &'a str,
    pub(crate) replicas: u32,
    /// Digest of what the user has written that shapes a pod.
    pub(crate) inputs: &'a str,
}

/// One thing to do, to the replica of this ordinal.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub(crate) enum Step {
    /// Make its claim and its Deployment.
    Create(u32),
    /// Give it a new pod, made as of today.
    Roll(u32),
    /// Tell it to take no more mail.
    Drain(u32),
    /// Delete its Deployment and not its claim, so that it starts anew.
    Restart(u32),
    /// Delete its Deployment, then its claim: the one that its pod has mounted, or that nothing has.
    Remove(u32),
}

/// What to do now, and what is waited for.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub(crate) struct Plan {
    pub(crate) steps: Vec<Step>,
    /// One line for people, if something has yet to happen before the relay is as wanted.
    pub(crate) waiting: Option<String>,
}

impl Step {
    pub(crate) const fn ordinal(self) -> u32 {
        match self {
            Self::Create(ordinal)
            | Self::Roll(ordinal)
            | Self::Drain(ordinal)
            | Self::Restart(ordinal)
            | Self::Remove(ordinal) => ordinal,
        }
    }
}

impl Plan {
    /// Whether something is done to this replica now.
    pub(crate) fn touches(&self, ordinal: u32) -> bool {
        self.steps.iter().any(|step| step.ordinal() == ordinal)
    }

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
    replace(&mut plan, wanted, replicas);
    for (&ordinal, replica) in replicas.range(wanted.replicas..) {
        retire(&mut plan, wanted, ordinal, replica);
    }
    plan
}

/// The wanted replicas that this plan leaves with an earlier shape.
pub(crate) fn outdated(
    wanted: Wanted<'_>,
    replicas: &BTreeMap<u32, Replica>,
    plan: &Plan,
) -> Vec<u32> {
    let kept = replicas.range(..wanted.replicas).filter(|(ordinal, replica)| {
        let workload = &replica.workload;
        matches!(workload, Workload::Present { inputs, shape: Shape::Earlier, .. } if inputs == wanted.inputs)
            && !plan.touches(**ordinal)
    });
    kept.map(|(&ordinal, _)| ordinal).collect()
}

/// A wanted replica, apart from the orderly replacement of those that serve.
fn keep(plan: &mut Plan, wanted: Wanted<'_>, ordinal: u32, replica: &Replica) {
    let Workload::Present {
        inputs,
        shape,
        serves,
        ..
    } = &replica.workload
    else {
        return create(plan, ordinal, replica);
    };
    if replica.claim == Claim::Terminating {
        return;
    }
    let is_wanted = inputs == wanted.inputs;
    if replica.has_lost_its_claim() {
        plan.steps.push(Step::Create(ordinal));
    } else if !is_wanted && !serves && replica.may_lose_pod() {
        plan.steps.push(Step::Roll(ordinal));
    } else if is_wanted && replica.report.is_draining() {
        revive(plan, ordinal, replica);
    } else if is_wanted && *shape == Shape::Earlier && replica.is_idle() {
        plan.steps.push(Step::Roll(ordinal));
    } else if is_wanted && !serves {
        plan.wait(match replica.claim {
            Claim::Lost => lost(wanted, ordinal),
            _ => format!("replica {ordinal} to become ready"),
        });
    }
}

fn create(plan: &mut Plan, ordinal: u32, replica: &Replica) {
    if replica.claim == Claim::Terminating {
        plan.wait(format!("the old volume of replica {ordinal} to be gone"));
    } else if replica.workload == Workload::Terminating {
        plan.wait(format!(
            "the old Deployment of replica {ordinal} to be gone"
        ));
    } else {
        plan.steps.push(Step::Create(ordinal));
    }
}

fn revive(plan: &mut Plan, ordinal: u32, replica: &Replica) {
    if replica.may_lose_pod() {
        plan.steps.push(Step::Restart(ordinal));
    } else {
        plan.wait(format!("replica {ordinal} to deliver what it holds"));
    }
}

/// Replaces the first replica that has to be and serves, or is being emptied for it, if all others serve.
fn replace(plan: &mut Plan, wanted: Wanted<'_>, replicas: &BTreeMap<u32, Replica>) {
    let kept = || replicas.range(..wanted.replicas);
    let Some((&ordinal, replica)) = kept()
        .filter(|(ordinal, replica)| {
            replacement(wanted, **ordinal, replica).is_some() && !plan.touches(**ordinal)
        })
        // One whose drain has begun comes first: otherwise two would be out of service.
        .max_by_key(|(ordinal, replica)| {
            (replica.report.is_draining(), std::cmp::Reverse(**ordinal))
        })
    else {
        return;
    };
    let others_serve = (0..wanted.replicas)
        .all(|other| other == ordinal || replicas.get(&other).is_some_and(Replica::serves));
    if !others_serve {
        plan.wait(format!(
            "the other replicas to be ready before replica {ordinal} is replaced"
        ));
    } else if replica.may_lose_pod() {
        plan.steps.extend(replacement(wanted, ordinal, replica));
    } else {
        drain(plan, wanted, ordinal, replica);
    }
}

/// The step that replaces the pod of a replica, if it has to be.
fn replacement(wanted: Wanted<'_>, ordinal: u32, replica: &Replica) -> Option<Step> {
    match (&replica.workload, replica.claim) {
        // Nothing else lets go of the volume that somebody has deleted.
        (Workload::Present { .. }, Claim::Terminating) => Some(Step::Restart(ordinal)),
        (Workload::Present { inputs, .. }, _) if inputs != wanted.inputs => {
            Some(Step::Roll(ordinal))
        }
        _ => None,
    }
}

/// A replica that is not wanted any more.
fn retire(plan: &mut Plan, wanted: Wanted<'_>, ordinal: u32, replica: &Replica) {
    match (&replica.workload, replica.claim) {
        // Claims are seen later than pods: one that serves or answers has a volume, whatever was last heard of its claim.
        (Workload::Absent, Claim::Unbound) => plan.steps.push(Step::Remove(ordinal)),
        (Workload::Present { .. }, Claim::Unbound | Claim::Absent) if replica.is_idle() => {
            plan.steps.push(Step::Remove(ordinal));
        }
        (Workload::Absent, Claim::Present) => plan.steps.push(Step::Create(ordinal)),
        (Workload::Absent, Claim::Absent) => {}
        (Workload::Absent, Claim::Lost) => plan.wait(lost(wanted, ordinal)),
        (Workload::Absent, Claim::Terminating) | (Workload::Terminating, _) => {
            plan.wait(format!("replica {ordinal} to be gone"));
        }
        (Workload::Present { .. }, _) if replica.report.is_empty() => {
            remove(plan, wanted, ordinal, replica);
        }
        // Broken, and what would mend it is there: it cannot be emptied before.
        (Workload::Present { inputs, shape, .. }, _)
            if replica.report == Report::Unknown
                && replica.may_lose_pod()
                && (inputs != wanted.inputs || *shape == Shape::Earlier && replica.is_idle()) =>
        {
            plan.steps.push(Step::Roll(ordinal));
        }
        (Workload::Present { .. }, _) => drain(plan, wanted, ordinal, replica),
    }
}

/// An empty replica goes, unless its volume holds what somebody should see, or what its pod has not.
fn remove(plan: &mut Plan, wanted: Wanted<'_>, ordinal: u32, replica: &Replica) {
    let claim = format!("{}-{ordinal}", wanted.relay);
    match (replica.claim, replica.disk) {
        (Claim::Present | Claim::Lost | Claim::Unbound, _) if !replica.speaks_for_its_claim() => {
            plan.steps.push(Step::Restart(ordinal));
        }
        (Claim::Present | Claim::Lost | Claim::Unbound, Disk::Damaged) => plan.wait(format!(
            "somebody to look at the damaged records of replica {ordinal} (corrupt/ on claim {claim}) and to delete \
             that claim when done with them"
        )),
        (Claim::Present | Claim::Lost | Claim::Unbound, Disk::Failing) => plan.wait(format!(
            "the disk of replica {ordinal} to work again (claim {claim} may hold mail; delete it if it is of no use)"
        )),
        (Claim::Absent | Claim::Terminating, _) | (_, Disk::Sound) => {
            plan.steps.push(Step::Remove(ordinal));
        }
    }
}

fn drain(plan: &mut Plan, wanted: Wanted<'_>, ordinal: u32, replica: &Replica) {
    if matches!(replica.report, Report::Serving { .. }) {
        plan.steps.push(Step::Drain(ordinal));
    }
    plan.wait(match replica.report.queued() {
        None if replica.claim == Claim::Lost => lost(wanted, ordinal),
        None if replica.claim == Claim::Terminating => format!(
            "replica {ordinal} to answer, so that it can be drained: its volume is deleted with its pod (if what it \
             holds is of no use, delete its Deployment too)"
        ),
        None => format!("replica {ordinal} to answer, so that it can be drained"),
        Some(0) => format!("replica {ordinal} to end its sessions"),
        Some(_) => format!("replica {ordinal} to deliver what it holds"),
    });
}

fn lost(wanted: Wanted<'_>, ordinal: u32) -> String {
    let claim = format!("{}-{ordinal}", wanted.relay);
    format!(
        "somebody to bring back the volume of claim {claim}, which was deleted, or to delete that claim"
    )
}

#[cfg(test)]
mod tests;
