//! What is seen of one replica, and what that means for its mail. Pure.

use std::time::Duration;

use super::SETTLE;

/// What is seen of one replica.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) struct Replica {
    pub(crate) workload: Workload,
    pub(crate) claim: Claim,
    pub(crate) report: Report,
    pub(crate) disk: Disk,
}

/// The Deployment of a replica.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) enum Workload {
    Absent,
    Present {
        /// Digest of what its user had written when it was made; empty if that is not known.
        inputs: String,
        shape: Shape,
        mount: Mount,
        /// Whether its controller has caught up and its pod is available.
        serves: bool,
    },
    Terminating,
}

/// How the pod of a replica is made.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Shape {
    /// As it would be made now.
    Current,
    /// As another operator has made it, of another version or with another default image.
    Earlier,
}

/// Where the pod of a replica keeps its queue, whatever is wanted now.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Mount {
    /// In the claim that there is: what it says of its queue is said of that claim.
    Claim,
    /// In a claim of that name. Whether it is the one that there is cannot be told.
    Unproven,
    /// In itself: the queue goes with it.
    Pod,
}

/// The PersistentVolumeClaim of a replica.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Claim {
    Absent,
    /// No volume yet, so it has never held mail.
    Unbound,
    Present,
    /// Its volume has been deleted under it. A pod that has it mounted may still have the mail; no other can start.
    Lost,
    /// Somebody has deleted it. It stays until its pod is gone, and cannot be kept.
    Terminating,
}

/// The disk under the queue, as far as the pod says.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Disk {
    /// Nothing is known against it.
    Sound,
    /// Records were damaged when found. They are kept aside and may have been mail.
    Damaged,
    /// It does not work now, so what is counted on it may not be all.
    Failing,
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

impl Replica {
    /// Whether its pod takes mail.
    pub(super) const fn serves(&self) -> bool {
        matches!(self.workload, Workload::Present { serves: true, .. })
    }

    /// Whether the pod neither serves nor does anything else, and no mail is in it.
    pub(super) fn is_idle(&self) -> bool {
        !self.keeps_mail_itself() && self.report == Report::Unknown && !self.serves()
    }

    /// Whether the pod waits for a claim that there is none of.
    pub(super) fn has_lost_its_claim(&self) -> bool {
        self.claim == Claim::Absent && self.is_idle()
    }

    /// Whether the pod can go without mail going with it.
    pub(super) fn may_lose_pod(&self) -> bool {
        if self.keeps_mail_itself() {
            // What neither answers nor serves cannot be emptied either; what serves and missed one question can.
            return self.report.is_empty() || (self.report == Report::Unknown && !self.serves());
        }
        // A claim that somebody has deleted goes with the pod, and one without a volume is mounted by no other.
        !matches!(self.claim, Claim::Terminating | Claim::Lost) || self.report.is_empty()
    }

    /// Whether what its pod says of its queue is said of the claim that there is.
    pub(super) const fn speaks_for_its_claim(&self) -> bool {
        matches!(self.mount(), Some(Mount::Claim))
    }

    const fn keeps_mail_itself(&self) -> bool {
        matches!(self.mount(), Some(Mount::Pod))
    }

    const fn mount(&self) -> Option<Mount> {
        match &self.workload {
            Workload::Present { mount, .. } => Some(*mount),
            Workload::Absent | Workload::Terminating => None,
        }
    }
}

impl Report {
    /// Whether nothing waits and nothing can come.
    pub(super) const fn is_empty(self) -> bool {
        match self {
            Self::Unknown | Self::Serving { .. } => false,
            Self::Draining { queued, since } => queued == 0 && since.as_secs() >= SETTLE.as_secs(),
        }
    }

    pub(super) const fn is_draining(self) -> bool {
        matches!(self, Self::Draining { .. })
    }

    pub(super) const fn queued(self) -> Option<u64> {
        match self {
            Self::Unknown => None,
            Self::Serving { queued } | Self::Draining { queued, .. } => Some(queued),
        }
    }
}
