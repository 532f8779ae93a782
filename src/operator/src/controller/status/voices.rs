//! What the pods say, taken together.

use std::collections::BTreeSet;

use jiff::Timestamp;
use postroad_config::SpoolMode;
use postroad_config::status::RelayStatus;

use super::senders;
use crate::context::CredentialsInForce;
use crate::controller::build::Digests;
use crate::controller::dereference::{Found, FoundPod};
use crate::controller::validate::{Storage, Validated};
use crate::names::RelayId;

/// The pods that have answered, and whether others have not.
pub(super) struct Voices<'a> {
    pub(super) heard: Vec<(&'a FoundPod, &'a RelayStatus)>,
    /// Replicas that take mail and do not say how they are. One that takes none may be about to start or
    /// to end; what is said of the rollout tells of it.
    pub(super) silent: BTreeSet<u32>,
}

/// A statement with its reason: the makings of a condition.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(super) struct Verdict {
    /// `None` if nobody knows.
    pub(super) holds: Option<bool>,
    pub(super) reason: String,
    pub(super) message: String,
}

impl Verdict {
    pub(super) fn new(holds: Option<bool>, reason: &str, message: impl Into<String>) -> Self {
        Self {
            holds,
            reason: reason.into(),
            message: message.into(),
        }
    }
}

/// Older than this, mail does not flow as it should.
const OLDEST_MAX_SECONDS: i64 = 15 * 60;

impl<'a> Voices<'a> {
    pub(super) fn of(found: &'a Found) -> Self {
        let mut voices = Self {
            heard: Vec::new(),
            silent: BTreeSet::new(),
        };
        for pod in &found.pods {
            match &pod.status {
                Some(status) => voices.heard.push((pod, status)),
                None if pod.ready => {
                    voices.silent.insert(pod.ordinal);
                }
                None => {}
            }
        }
        voices
    }

    pub(super) fn sum(&self, number: impl Fn(&RelayStatus) -> u64) -> u64 {
        let numbers = self.heard.iter().map(|(_, status)| number(status));
        numbers.fold(0, u64::saturating_add)
    }

    /// Arrival of the oldest message that waits, in seconds since the epoch.
    pub(super) fn oldest(&self) -> Option<i64> {
        let arrivals = self
            .heard
            .iter()
            .filter_map(|(_, status)| status.queue.oldest_arrival);
        arrivals.min()
    }

    /// The earliest end of a certificate that is served.
    pub(super) fn certificate_end(&self) -> Option<Timestamp> {
        let ends = self.heard.iter().filter_map(|(_, status)| {
            let certificate = status.certificate.as_ref()?;
            Timestamp::from_second(certificate.not_after).ok()
        });
        ends.min()
    }

    /// The credentials file that every ready replica has.
    pub(super) fn credentials_in_force(&self, wanted: u32) -> CredentialsInForce {
        let ready = self
            .heard
            .iter()
            .filter(|(pod, _)| pod.ready && pod.ordinal < wanted);
        let digests: BTreeSet<_> = ready
            .map(|(_, status)| &status.config.credentials_hash)
            .collect();
        match digests.first() {
            _ if digests.len() > 1 => CredentialsInForce::None,
            _ if self.silent.iter().any(|ordinal| *ordinal < wanted) => CredentialsInForce::Unknown,
            Some(digest) => CredentialsInForce::Everywhere((*digest).clone()),
            None => CredentialsInForce::None,
        }
    }

    /// What a 250 promises at least: some pods may not have taken up yet what is wanted.
    pub(super) fn weakest_mode(&self, wanted: SpoolMode) -> SpoolMode {
        let modes = self.heard.iter().map(|(_, status)| status.spool.mode);
        let strength = |mode: &SpoolMode| match mode {
            SpoolMode::Relaxed { sync_ms } => (0, u32::MAX - sync_ms),
            // Another server's promise.
            SpoolMode::Passthrough => (1, 0),
            SpoolMode::Durable => (2, 0),
        };
        modes.chain([wanted]).min_by_key(strength).unwrap_or(wanted)
    }

    /// Why a pod goes on with an older configuration.
    pub(super) fn refusal(&self) -> Option<String> {
        self.heard.iter().find_map(|(pod, status)| {
            let refused = status.config.refused.as_ref()?;
            Some(format!("replica {}: {refused}", pod.ordinal))
        })
    }

    /// What a pod keeps of its start because only another pod takes it up. Nothing is wrong: a pod of which the user has changed something is
    /// replaced, or goes when it has delivered what it holds.
    pub(super) fn kept(&self) -> Option<String> {
        let mut heard = self.heard.iter();
        let (pod, status) = heard.find(|(_, status)| !status.config.awaits_restart.is_empty())?;
        let fields = status.config.awaits_restart.iter();
        let fields: Vec<_> = fields.map(|field| in_spec(field)).collect();
        Some(format!(
            "replica {} keeps its former {} until its pod goes",
            pod.ordinal,
            fields.join(", ")
        ))
    }

    /// A replica that does not work with these files yet.
    pub(super) fn behind(&self, digests: &Digests) -> Option<u32> {
        let mut heard = self.heard.iter();
        let behind = heard.find(|(_, status)| !digests.are_in_force(status));
        behind.map(|(pod, _)| pod.ordinal)
    }

    /// Whether clients are shown a certificate that is good.
    pub(super) fn certificate(&self, now: Timestamp) -> Verdict {
        for (pod, status) in &self.heard {
            let ordinal = pod.ordinal;
            let Some(certificate) = &status.certificate else {
                let message = format!("replica {ordinal} has no certificate that it could show");
                return Verdict::new(Some(false), "CertificateNotLoaded", message);
            };
            if certificate.not_after <= now.as_second() {
                let message = format!("replica {ordinal} shows a certificate that has expired");
                return Verdict::new(Some(false), "CertificateExpired", message);
            }
        }
        match self.certificate_end() {
            Some(_) => Verdict::new(
                Some(true),
                "CertificateServed",
                "every replica that answers shows a valid certificate",
            ),
            None => nobody(),
        }
    }

    /// Whether mail waits longer than it should, or cannot be taken, or is damaged. What is known to be
    /// wrong comes before what is not known.
    pub(super) fn queue(&self, validated: &Validated, now: Timestamp) -> Verdict {
        let wrong = [
            ("SpoolFailed", self.spool_failure()),
            ("RecordsDamaged", self.damage(validated)),
            ("MessagesUnreadable", self.unreadable()),
            ("DiskFull", self.disk_full(validated)),
            ("QueueFull", self.full()),
            ("ShareFull", self.share_full()),
            ("MemoryFull", self.memory_full()),
            // Before what it comes to when nobody does anything about it.
            ("SenderRejected", senders::rejected(self, validated)),
            ("MessagesWaiting", self.late(now)),
        ];
        let mut wrong = wrong
            .into_iter()
            .filter_map(|(reason, message)| Some((reason, message?)));
        if let Some((reason, message)) = wrong.next() {
            return Verdict::new(Some(false), reason, message);
        }
        match self.silent.first() {
            Some(ordinal) => {
                let message = format!("replica {ordinal} takes mail and does not say how it is");
                Verdict::new(None, "NoAnswer", message)
            }
            None if self.heard.is_empty() => nobody(),
            None => Verdict::new(
                Some(true),
                "Flowing",
                "no message has been waiting for more than 15 minutes",
            ),
        }
    }

    fn late(&self, now: Timestamp) -> Option<String> {
        let arrival = self.oldest()?;
        (now.as_second() - arrival > OLDEST_MAX_SECONDS).then(|| {
            let since = super::figures::coarse_time(arrival);
            format!("the oldest message has been waiting since {since}")
        })
    }

    fn unreadable(&self) -> Option<String> {
        self.heard.iter().find_map(|(pod, status)| {
            let (ordinal, number) = (pod.ordinal, status.queue.unreadable);
            (number > 0).then(|| {
                format!(
                    "the disk of replica {ordinal} does not give back {number} messages; they are tried again: look at the disk"
                )
            })
        })
    }

    fn full(&self) -> Option<String> {
        let mut heard = self.heard.iter();
        let (pod, _) = heard.find(|(_, status)| status.queue.full)?;
        let ordinal = pod.ordinal;
        Some(format!(
            "replica {ordinal} holds as much as it may: new mail gets 452 there until some has gone"
        ))
    }

    fn share_full(&self) -> Option<String> {
        let mut heard = self.heard.iter();
        let (pod, status) = heard.find(|(_, status)| !status.queue.full_shares.is_empty())?;
        let names = status.queue.full_shares.iter();
        let whose: Vec<_> = names
            .map(|login| match login.as_str() {
                "" => "clients without login".to_owned(),
                login => format!("login {login}"),
            })
            .collect();
        Some(format!(
            "replica {} holds as much mail as one may have there of {}: more of it gets 452 until some has gone; the rest of the queue \
             is for others",
            pod.ordinal,
            whose.join(", ")
        ))
    }

    fn memory_full(&self) -> Option<String> {
        let mut heard = self.heard.iter();
        let (pod, _) = heard.find(|(_, status)| status.queue.memory_full)?;
        let ordinal = pod.ordinal;
        Some(format!(
            "replica {ordinal} has no memory left for mail that comes in, which gets 452 there: clients send too much at once, or \
             do not finish; more replicas have more room"
        ))
    }

    fn disk_full(&self, validated: &Validated) -> Option<String> {
        let mut heard = self.heard.iter();
        let (pod, _) = heard.find(|(_, status)| status.spool.disk_full)?;
        let ordinal = pod.ordinal;
        let place = match &validated.storage {
            Storage::Persistent { .. } => format!("claim {}", validated.id.replica(ordinal)),
            Storage::Ephemeral { .. } => "its part of the node's disk".to_owned(),
        };
        Some(format!(
            "replica {ordinal} has no room left on {place}: new mail gets 452 there until some has gone; storage.size makes it larger"
        ))
    }

    fn spool_failure(&self) -> Option<String> {
        self.heard.iter().find_map(|(pod, status)| {
            let failure = status.spool.failure.as_ref()?;
            let ordinal = pod.ordinal;
            Some(format!("replica {ordinal} cannot keep mail: {failure}"))
        })
    }

    /// What was found damaged, and what to do about it.
    fn damage(&self, validated: &Validated) -> Option<String> {
        let (pod, status) = self
            .heard
            .iter()
            .find(|(_, status)| status.spool.corrupt > 0)?;
        let (ordinal, records) = (pod.ordinal, status.spool.corrupt);
        let RelayId {
            name, namespace, ..
        } = &validated.id;
        let found = format!("replica {ordinal} has found {records} damaged records");
        Some(match &validated.storage {
            Storage::Persistent { .. } => {
                let claim = validated.id.replica(ordinal);
                format!(
                    "{found} and keeps them in corrupt/ on claim {claim}. When somebody has looked at them: \
                     kubectl --namespace {namespace} delete pvc {claim} --wait=false; the replica then takes no more mail, \
                     delivers what it holds and gets a new volume"
                )
            }
            Storage::Ephemeral { .. } => format!(
                "{found}; they go with its pod: {}",
                super::restart(name, namespace)
            ),
        })
    }
}

/// What the user knows a field of the relay's file by. What only another operator writes differently, such as `admin.listen`, has no other name.
fn in_spec(field: &str) -> &str {
    match field {
        "spool.mode" => "storage.mode",
        "spool.bytesMax" => "storage.size",
        "spool" => "storage",
        "limits.messageBytes" => "limits.messageSize",
        "limits.memoryBytes" => "memory for content",
        other => other,
    }
}

pub(super) fn nobody() -> Verdict {
    Verdict::new(None, "NoAnswer", "no replica says how it is")
}
