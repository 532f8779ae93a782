//! Conditions.

use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};
use postroad_config::SpoolMode;

use super::find;
use super::upstreams;
use super::voices::{Verdict, Voices};
use crate::controller::apply::{Applied, Rejection};
use crate::controller::build::{Identity, Outdated};
use crate::controller::validate::{Certificate, Missing, Refusal, Storage, Validated};
use crate::names::RelayId;

/// The API takes 32 kB; a line is read by people.
const MESSAGE_MAX: usize = 1000;

/// Reason of `Progressing`: nothing is to be done, but a restart would bring something newer.
pub(super) const UPDATE_AVAILABLE: &str = "UpdateAvailable";

/// Reason of `Progressing`, and of `Ready` where only a person can mend it: the API server does not take an object.
pub(super) const APPLY_FAILED: &str = "ApplyFailed";

/// Reason of `Available`, whether enough others take mail or not.
pub(super) const POD_NOT_STARTING: &str = "PodNotStarting";

/// What the cluster says of the pods of the replicas that are wanted.
pub(super) struct Pods {
    /// How many take mail.
    pub(super) ready: usize,
    /// What keeps others from starting.
    pub(super) troubles: Option<String>,
}

/// Those that make up `Ready`, in the order in which their reasons are shown.
const MAKES_READY: [&str; 5] = [
    "Accepted",
    "Available",
    "TLSReady",
    "UpstreamReady",
    "QueueHealthy",
];

/// A condition without its time; [`merge`] sets it.
pub(crate) fn condition(
    kind: &str,
    holds: Option<bool>,
    reason: &str,
    message: &str,
    generation: i64,
) -> Condition {
    Condition {
        type_: kind.into(),
        status: match holds {
            Some(true) => "True",
            Some(false) => "False",
            None => "Unknown",
        }
        .into(),
        reason: reason.into(),
        message: message.chars().take(MESSAGE_MAX).collect(),
        observed_generation: Some(generation),
        last_transition_time: Time(Timestamp::UNIX_EPOCH),
    }
}

/// The new conditions; those whose status has not changed keep their time.
pub(crate) fn merge(
    earlier: &[Condition],
    fresh: Vec<Condition>,
    now: Timestamp,
) -> Vec<Condition> {
    // The API keeps seconds: anything finer would differ from what is read back.
    let now = Timestamp::from_second(now.as_second()).unwrap_or(now);
    fresh
        .into_iter()
        .map(|mut condition| {
            condition.last_transition_time = match find(earlier, &condition.type_) {
                Some(before) if before.status == condition.status => {
                    before.last_transition_time.clone()
                }
                _ => Time(now),
            };
            condition
        })
        .collect()
}

/// All conditions of a relay, `Ready` first.
pub(super) fn all(
    applied: &Applied,
    voices: &Voices<'_>,
    pods: &Pods,
    now: Timestamp,
) -> Vec<Condition> {
    let validated = &applied.validated;
    let verdicts = [
        ("Accepted", accepted(validated)),
        ("Available", available(pods, validated.replicas)),
        ("Progressing", progressing(applied, voices)),
        ("TLSReady", tls(applied, voices, now)),
        ("UpstreamReady", upstreams::verdict(voices, validated)),
        ("QueueHealthy", voices.queue(validated, now)),
        ("Durable", durable(validated, voices)),
    ];
    let rest: Vec<_> = verdicts
        .into_iter()
        .map(|(kind, verdict)| named(kind, &verdict, validated.generation))
        .collect();
    let ready = match voices.refusal() {
        Some(refusal) => Verdict::new(Some(false), "ConfigurationRefused", refusal),
        None => sum(&rest),
    };
    std::iter::once(named("Ready", &ready, validated.generation))
        .chain(rest)
        .collect()
}

fn named(kind: &str, verdict: &Verdict, generation: i64) -> Condition {
    let Verdict {
        holds,
        reason,
        message,
    } = verdict;
    condition(kind, *holds, reason, message, generation)
}

/// The conditions of a relay that is left as it is: what is known of its pods stays.
pub(super) fn refused(earlier: &[Condition], refusal: &Refusal, generation: i64) -> Vec<Condition> {
    let Refusal { reason, message } = refusal;
    let said = |kind| condition(kind, Some(false), reason, message, generation);
    let kept = earlier
        .iter()
        .filter(|condition| !["Ready", "Accepted"].contains(&condition.type_.as_str()));
    [said("Ready"), said("Accepted")]
        .into_iter()
        .chain(kept.cloned())
        .collect()
}

/// The conditions of a relay of which an object is not taken: what is known of its pods stays, and so does `Ready` where the
/// next try may do.
pub(super) fn rejected(
    earlier: &[Condition],
    rejection: &Rejection,
    generation: i64,
) -> Vec<Condition> {
    let Rejection { message, stays } = rejection;
    let told: &[&str] = if *stays {
        &["Ready", "Progressing"]
    } else {
        &["Progressing"]
    };
    let said = |&kind| condition(kind, Some(false), APPLY_FAILED, message, generation);
    let kept = earlier
        .iter()
        .filter(|condition| !told.contains(&condition.type_.as_str()));
    told.iter().map(said).chain(kept.cloned()).collect()
}

/// Whether nothing is about to change: all is known and well, or nothing is wanted.
pub(super) fn are_at_rest(conditions: &[Condition]) -> bool {
    let is = |kind: &str, status: &str| find(conditions, kind).is_some_and(|c| c.status == status);
    let unwanted = |condition: &Condition| condition.reason == "ScaledToZero";
    let settled = is("Progressing", "False");
    if find(conditions, "Available").is_some_and(unwanted) {
        return settled;
    }
    settled && is("Ready", "True")
}

/// What is wrong comes first, then what is not known: `Ready` is true only when everything else is.
fn sum(conditions: &[Condition]) -> Verdict {
    let parts = || MAKES_READY.iter().filter_map(|kind| find(conditions, kind));
    let failing = parts().find(|condition| condition.status == "False");
    let unknown = || parts().find(|condition| condition.status != "True");
    let said = |holds, condition: &Condition| {
        Verdict::new(holds, &condition.reason, condition.message.clone())
    };
    match (failing, unknown()) {
        (Some(condition), _) => said(Some(false), condition),
        (None, Some(condition)) => said(None, condition),
        (None, None) => Verdict::new(Some(true), "Ready", "mail is taken and sent on"),
    }
}

fn accepted(validated: &Validated) -> Verdict {
    if let Some(Refusal { reason, message }) = &validated.pods_refused {
        let message = format!("{message}; the replicas stay as they are");
        return Verdict::new(Some(false), reason, message);
    }
    let missing = &validated.missing;
    let Some(first) = missing.first() else {
        return Verdict::new(Some(true), "Accepted", "the specification is in force");
    };
    let reason = match first {
        Missing::Secret { .. } => "SecretNotFound",
        Missing::Key { .. } => "SecretKeyMissing",
    };
    let each = missing.iter().map(|missing| match missing {
        Missing::Secret { name } => format!("Secret {name:?} does not exist"),
        Missing::Key { secret, key } => format!("Secret {secret:?} has no value under {key:?}"),
    });
    let message = each.collect::<Vec<_>>().join("; ");
    Verdict::new(Some(false), reason, message)
}

/// The same number as the PodDisruptionBudget: all but one, and at least one.
fn available(pods: &Pods, wanted: u32) -> Verdict {
    let Pods { ready, troubles } = pods;
    let enough = usize::try_from(wanted.saturating_sub(1).max(1)).unwrap_or(usize::MAX);
    if wanted == 0 {
        let message = "spec.replicas is 0: nobody takes mail";
        return Verdict::new(Some(false), "ScaledToZero", message);
    }
    let (holds, reason, message) = if *ready >= enough {
        let message = "enough replicas take mail".to_owned();
        (true, "ReplicasReady", message)
    } else {
        let message = format!("{ready} of {wanted} replicas take mail, {enough} are needed");
        (false, "ReplicasNotReady", message)
    };
    match troubles {
        Some(troubles) => Verdict::new(
            Some(holds),
            POD_NOT_STARTING,
            format!("{message}; {troubles}"),
        ),
        None => Verdict::new(Some(holds), reason, message),
    }
}

/// What only another pod takes up is no refusal: it is told beside a rollout that is waited for.
fn progressing(applied: &Applied, voices: &Voices<'_>) -> Verdict {
    let kept = voices.kept();
    let rolling = |message: String| {
        let told: Vec<_> = std::iter::once(message).chain(kept.clone()).collect();
        Verdict::new(Some(true), "RollingOut", told.join("; "))
    };
    if let Some(Refusal { reason, .. }) = &applied.validated.pods_refused {
        let message = "the replicas stay as they are: see Accepted";
        Verdict::new(Some(false), reason, message)
    } else if let Some(waiting) = &applied.plan.waiting {
        rolling(format!("waiting for {waiting}"))
    } else if !applied.plan.steps.is_empty() {
        rolling("replicas are being brought up to date".to_owned())
    } else if let Some(refusal) = voices.refusal() {
        Verdict::new(Some(true), "ConfigurationRefused", refusal)
    } else if let Some(ordinal) = voices.behind(&applied.digests) {
        let message = format!("waiting for replica {ordinal} to take up the configuration");
        Verdict::new(Some(true), "ConfigurationSpreading", message)
    } else if !applied.outdated.ordinals.is_empty() {
        let message = update(&applied.validated, &applied.outdated);
        Verdict::new(Some(false), UPDATE_AVAILABLE, message)
    } else if let Some(kept) = kept {
        let RelayId {
            name, namespace, ..
        } = &applied.validated.id;
        let restart = super::restart(name, namespace);
        let message = format!("{kept}. To have newer pods, one at a time: {restart}");
        Verdict::new(Some(false), UPDATE_AVAILABLE, message)
    } else {
        Verdict::new(Some(false), "Settled", "everything is as specified")
    }
}

/// What stays as an earlier operator has made it, and how to change that.
fn update(validated: &Validated, outdated: &Outdated) -> String {
    let Outdated {
        ordinals,
        images,
        image,
    } = outdated;
    let RelayId {
        name, namespace, ..
    } = &validated.id;
    let ordinals: Vec<_> = ordinals.iter().map(u32::to_string).collect();
    let ordinals = ordinals.join(", ");
    let difference = if std::slice::from_ref(image) == images.as_slice() {
        "are as an earlier operator has made them".to_owned()
    } else {
        format!("run {}, new pods get {image}", images.join(", "))
    };
    // What to do comes first: names of images may be longer than a message.
    format!(
        "everything is as specified. To have newer pods, one at a time: {}; replicas that keep theirs until then ({ordinals}) {difference}",
        super::restart(name, namespace)
    )
}

fn tls(applied: &Applied, voices: &Voices<'_>, now: Timestamp) -> Verdict {
    match (&applied.identity, &applied.validated.certificate) {
        (Identity::Unreadable { problem }, _) => {
            let name = applied.validated.id.authority();
            let message = format!(
                "Secret {name:?}: {problem}; restore it, or delete it to have a new authority made"
            );
            Verdict::new(Some(false), "AuthorityUnreadable", message)
        }
        (
            Identity::Established { .. },
            Certificate::SelfSigned { .. } | Certificate::Provided { .. },
        ) => voices.certificate(now),
    }
}

fn durable(validated: &Validated, voices: &Voices<'_>) -> Verdict {
    let is_lost_with_pod = match &validated.storage {
        Storage::Persistent { .. } => false,
        Storage::Ephemeral { .. } => true,
    };
    match voices.weakest_mode(validated.mode) {
        SpoolMode::Durable | SpoolMode::Relaxed { .. } | SpoolMode::Passthrough
            if is_lost_with_pod =>
        {
            let message = "mail that waits is lost with its pod: storage.type is Ephemeral";
            Verdict::new(Some(false), "Ephemeral", message)
        }
        SpoolMode::Relaxed { sync_ms } => {
            let message = format!(
                "mail of the last {sync_ms} milliseconds is lost when a node crashes: storage.mode is Relaxed"
            );
            Verdict::new(Some(false), "Relaxed", message)
        }
        SpoolMode::Passthrough => {
            let message = "mail that waits outlives its pod; what the next server takes while its client waits is never stored here: storage.mode is Passthrough";
            Verdict::new(Some(true), "PassedThrough", message)
        }
        SpoolMode::Durable => {
            Verdict::new(Some(true), "Persistent", "mail that waits outlives its pod")
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_object_that_is_not_taken_shows_and_what_is_known_of_the_pods_stays() {
        let well = |kind| condition(kind, Some(true), "Well", "", 1);
        let earlier = ["Ready", "Accepted", "Progressing", "UpstreamReady"].map(well);
        for (stays, ready) in [(true, APPLY_FAILED), (false, "Well")] {
            let rejection = Rejection {
                message: "cannot apply Secret mail-ca: because".into(),
                stays,
            };
            let told = rejected(&earlier, &rejection, 2);
            assert_eq!(told.len(), earlier.len());
            let reason = |kind| find(&told, kind).unwrap().reason.as_str();
            assert_eq!(reason("Progressing"), APPLY_FAILED);
            assert_eq!(reason("Ready"), ready);
            assert_eq!(
                (reason("Accepted"), reason("UpstreamReady")),
                ("Well", "Well")
            );
            let said = find(&told, "Progressing").unwrap();
            assert_eq!(
                (said.status.as_str(), &said.message),
                ("False", &rejection.message)
            );
        }
    }
}
