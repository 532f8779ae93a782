//! What is said about a relay, given what its pods say.

use std::sync::Arc;

use k8s_openapi::api::core::v1::Pod;
use postroad_api::ServiceType;
use postroad_config::SpoolMode;
use postroad_config::status::{
    CertificateStatus, ConfigStatus, FailureReason, QueueStatus, SpoolStatus, Totals,
    UpstreamFailure, UpstreamState, UpstreamStatus,
};

use super::*;
use crate::controller::apply::Applied;
use crate::controller::build::{Outdated, Prepared};
use crate::controller::dereference::FoundPod;
use crate::controller::tests::{self, NOW, applied, nothing, now, prepare, sample};
use crate::rollout::Plan;
use postroad_config::status::RelayStatus;

mod destinations;
mod ready;
mod senders;
mod starting;
mod upstreams;

/// Their order of preference.
const UPSTREAMS: [&str; 2] = ["provider", "backup"];

/// Upstreams of a pod: `+` works, `-` fails with this reason, `?` is untried.
fn upstreams(states: &str) -> Vec<UpstreamStatus> {
    UPSTREAMS
        .into_iter()
        .zip(states.chars())
        .map(|(name, state)| UpstreamStatus {
            name: name.into(),
            state: match state {
                '+' => UpstreamState::Ready,
                '-' => UpstreamState::Failing,
                _ => UpstreamState::Unknown,
            },
            since: NOW,
            failure: (state == '-').then(|| UpstreamFailure {
                reason: FailureReason::AuthenticationFailed,
                message: format!("{name} said 535"),
            }),
            sender_rejected: None,
        })
        .collect()
}

fn says(states: &str) -> RelayStatus {
    RelayStatus {
        version: "1".into(),
        draining: false,
        config: ConfigStatus {
            hash: "config".into(),
            credentials_hash: "credentials".into(),
            refused: None,
            awaits_restart: Vec::new(),
        },
        queue: QueueStatus::default(),
        totals: Totals::default(),
        upstreams: upstreams(states),
        direct: None,
        certificate: Some(CertificateStatus {
            not_after: NOW + 86_400,
            fingerprint: "leaf".into(),
        }),
        spool: SpoolStatus {
            persistent: true,
            failure: None,
            corrupt: 0,
            disk_full: false,
            mode: SpoolMode::Durable,
            unsynced_ms: None,
        },
    }
}

fn pod(ordinal: u32, status: Option<RelayStatus>) -> FoundPod {
    FoundPod {
        pod: Arc::new(Pod::default()),
        ordinal,
        address: None,
        ready: true,
        status,
    }
}

fn found(pods: Vec<FoundPod>) -> Found {
    let mut found = nothing();
    found.pods = pods;
    found
}

fn with(change: impl FnOnce(&mut RelayStatus)) -> Found {
    let mut status = says("+");
    change(&mut status);
    found(vec![pod(0, Some(status)), pod(1, Some(says("+")))])
}

fn unready(ordinal: u32) -> FoundPod {
    FoundPod {
        ready: false,
        ..pod(ordinal, None)
    }
}

fn damaged(records: u64) -> RelayStatus {
    let mut status = says("+");
    status.spool.corrupt = records;
    status
}

#[test]
fn damage_is_said_with_where_it_is_and_what_to_do() {
    for (name, place, command) in [
        (
            "minimal",
            "replica 1 has found 2 damaged records and keeps them in corrupt/ on claim mail-1",
            "kubectl --namespace infra delete pvc mail-1 --wait=false",
        ),
        (
            "ephemeral",
            "replica 1 has found 2 damaged records; they go with its pod",
            "kubectl --namespace infra annotate smtprelay mail postroad.dev/restartedAt=$(date +%s) --overwrite",
        ),
    ] {
        let validated = prepare(&sample(name), &nothing()).validated;
        let found = found(vec![pod(0, Some(says("+"))), pod(1, Some(damaged(2)))]);
        let message = Voices::of(&found).queue(&validated, now()).message;
        assert!(message.contains(place), "{message}");
        assert!(message.contains(command), "{message}");
    }
}

#[test]
fn the_queue_is_healthy_while_mail_flows_and_can_be_kept() {
    let validated = prepare(&sample("minimal"), &nothing()).validated;
    for (found, holds, reason) in [
        (found(vec![]), None, "NoAnswer"),
        (with(|_| ()), Some(true), "Flowing"),
        (
            with(|s| s.queue.oldest_arrival = Some(NOW - 899)),
            Some(true),
            "Flowing",
        ),
        (
            with(|s| s.queue.oldest_arrival = Some(NOW - 901)),
            Some(false),
            "MessagesWaiting",
        ),
        (
            with(|s| s.spool.failure = Some("disk full".into())),
            Some(false),
            "SpoolFailed",
        ),
        (with(|s| s.spool.corrupt = 1), Some(false), "RecordsDamaged"),
        (
            with(|s| s.queue.unreadable = 1),
            Some(false),
            "MessagesUnreadable",
        ),
        (with(|s| s.queue.full = true), Some(false), "QueueFull"),
        (
            with(|s| s.queue.full_shares = vec![String::new(), "shop.mail".into()]),
            Some(false),
            "ShareFull",
        ),
        (
            with(|s| s.queue.memory_full = true),
            Some(false),
            "MemoryFull",
        ),
        (with(|s| s.spool.disk_full = true), Some(false), "DiskFull"),
        (
            found(vec![pod(0, Some(says("+"))), pod(1, None)]),
            None,
            "NoAnswer",
        ),
        (
            found(vec![pod(0, Some(says("+"))), unready(1)]),
            Some(true),
            "Flowing",
        ),
        // What is known to be wrong comes first.
        (
            found(vec![pod(0, None), pod(1, Some(damaged(1)))]),
            Some(false),
            "RecordsDamaged",
        ),
    ] {
        let verdict = Voices::of(&found).queue(&validated, now());
        assert_eq!((verdict.holds, verdict.reason.as_str()), (holds, reason));
    }
}

#[test]
fn whose_mail_is_turned_away_is_said() {
    let validated = prepare(&sample("minimal"), &nothing()).validated;
    let full = with(|s| s.queue.full_shares = vec![String::new(), "shop.mail".into()]);
    let message = Voices::of(&full).queue(&validated, now()).message;
    let whose = "of clients without login, login shop.mail: more of it gets 452";
    assert!(message.contains(whose), "{message}");
}

#[test]
fn tls_is_what_the_pods_show() {
    let expired = |s: &mut RelayStatus| {
        s.certificate = Some(CertificateStatus {
            not_after: NOW,
            fingerprint: String::new(),
        });
    };
    for (found, holds, reason) in [
        (found(vec![]), None, "NoAnswer"),
        (with(|_| ()), Some(true), "CertificateServed"),
        (
            with(|s| s.certificate = None),
            Some(false),
            "CertificateNotLoaded",
        ),
        (with(expired), Some(false), "CertificateExpired"),
    ] {
        let verdict = Voices::of(&found).certificate(now());
        assert_eq!((verdict.holds, verdict.reason.as_str()), (holds, reason));
    }
}

#[test]
fn credentials_are_in_force_when_all_ready_replicas_have_the_same() {
    let state = |found: &Found| Voices::of(found).credentials_in_force(2);
    let same = with(|_| ());
    assert_eq!(
        state(&same),
        CredentialsInForce::Everywhere("credentials".into())
    );
    assert_eq!(
        state(&with(|s| s.config.credentials_hash = "old".into())),
        CredentialsInForce::None
    );
    assert_eq!(state(&found(vec![])), CredentialsInForce::None);
    // A ready replica that is silent may have another one, unless one is known to.
    let silent = |status| found(vec![pod(0, Some(status)), pod(1, None)]);
    assert_eq!(state(&silent(says("+"))), CredentialsInForce::Unknown);
    let starting = found(vec![pod(0, Some(says("+"))), unready(1)]);
    assert_eq!(
        state(&starting),
        CredentialsInForce::Everywhere("credentials".into())
    );
    assert_eq!(
        state(&found(vec![pod(0, None)])),
        CredentialsInForce::Unknown
    );
    // One that is on its way out does not count.
    let leaving = found(vec![pod(0, Some(says("+"))), pod(2, None)]);
    assert_eq!(
        state(&leaving),
        CredentialsInForce::Everywhere("credentials".into())
    );
    let mut old = says("+");
    old.config.credentials_hash = "old".into();
    let leaving = found(vec![pod(0, Some(says("+"))), pod(2, Some(old))]);
    assert_eq!(
        state(&leaving),
        CredentialsInForce::Everywhere("credentials".into())
    );
}

/// A relay of two replicas on which everything has been applied.
fn settled() -> (Applied, Vec<FoundPod>) {
    let relay = sample("single");
    let mut relay = relay;
    relay.spec.replicas = 2;
    let first = prepare(&relay, &nothing());
    let Prepared {
        validated,
        identity,
        outdated,
        digests,
        ..
    } = prepare(&relay, &applied(&first));
    let status = |_| {
        let mut status = says("+");
        status.config.hash.clone_from(&digests.config);
        status
            .config
            .credentials_hash
            .clone_from(&digests.credentials);
        status.certificate = Some(CertificateStatus {
            not_after: NOW + 86_400,
            fingerprint: digests.certificate.clone().unwrap(),
        });
        status
    };
    let pods = (0..2)
        .map(|ordinal| pod(ordinal, Some(status(ordinal))))
        .collect();
    let applied = Applied {
        validated,
        identity,
        plan: Plan::default(),
        outdated,
        digests,
        notices: Vec::new(),
    };
    (applied, pods)
}

fn holds(status: &SmtpRelayStatus) -> Vec<String> {
    let conditions = status.conditions.iter();
    conditions
        .map(|c| format!("{}={} {}", c.type_, c.status, c.reason))
        .collect()
}

#[test]
fn a_settled_relay_is_ready_and_at_rest() {
    let (applied, pods) = settled();
    let summary = summarize(&applied, &found(pods), None, now());
    assert_eq!(
        holds(&summary.status),
        [
            "Ready=True Ready",
            "Accepted=True Accepted",
            "Available=True ReplicasReady",
            "Progressing=False Settled",
            "TLSReady=True CertificateServed",
            "UpstreamReady=True Delivering",
            "QueueHealthy=True Flowing",
            "Durable=True Persistent",
        ]
    );
    assert_eq!(summary.pace, Pace::AtRest);
    assert_eq!(summary.status.replica_summary, "2/2");
    assert_eq!(summary.status.selector, "postroad.dev/relay=mail");
    assert_eq!(summary.status.queue, Some(QueueSummary::default()));
    assert_eq!(
        summary
            .status
            .tls
            .as_ref()
            .unwrap()
            .ca_secret_name
            .as_deref(),
        Some("mail-tls")
    );
}

#[test]
fn an_unchanged_relay_gets_an_unchanged_status() {
    let (applied, pods) = settled();
    let found = found(pods);
    let first = summarize(&applied, &found, None, now()).status;
    let later = Timestamp::from_second(NOW + 3600).unwrap();
    let again: SmtpRelayStatus = serde_json::from_value(json!(first)).unwrap();
    let second = summarize(&applied, &found, Some(&again), later);
    assert_eq!(second.status, again);
    assert_eq!(second.notices, []);
}

#[test]
fn a_replica_that_has_old_files_keeps_the_relay_progressing() {
    for change in [
        (|status| status.config.hash = "old".into()) as fn(&mut RelayStatus),
        |status| status.config.credentials_hash = "old".into(),
        |status| status.certificate.as_mut().unwrap().fingerprint = "old".into(),
    ] {
        let (applied, mut pods) = settled();
        change(pods[1].status.as_mut().unwrap());
        let summary = summarize(&applied, &found(pods), None, now());
        assert_eq!(
            holds(&summary.status)[3],
            "Progressing=True ConfigurationSpreading"
        );
        assert_eq!(summary.pace, Pace::Spreading);
    }
}

#[test]
fn a_replica_that_does_not_answer_holds_what_it_held() {
    let (applied, mut pods) = settled();
    pods[0].status.as_mut().unwrap().queue.messages = 7;
    pods[1].status.as_mut().unwrap().queue.messages = 5;
    let first = summarize(&applied, &found(pods), None, now()).status;
    let (_, mut pods) = settled();
    pods[0].status = None;
    let second = summarize(&applied, &found(pods), Some(&first), now()).status;
    assert_eq!(second.queue.unwrap().messages, 7);
    assert_eq!(second.replica_statuses[0].queued, Some(7));
}

#[test]
fn each_replica_has_its_state() {
    let (applied, _) = settled();
    let mut found = tests::nothing();
    found.pods = vec![pod(0, Some(says("+"))), pod(3, Some(says("+")))];
    for ordinal in [0, 3] {
        found.deployments.insert(ordinal, Arc::default());
    }
    for ordinal in [0, 3, 4] {
        found.claims.insert(ordinal, Arc::default());
    }
    let status = summarize(&applied, &found, None, now()).status;
    let states: Vec<_> = status
        .replica_statuses
        .iter()
        .map(|replica| (replica.ordinal, replica.state))
        .collect();
    assert_eq!(
        states,
        [
            (0, ReplicaState::Ready),
            (1, ReplicaState::NotReady),
            (3, ReplicaState::Draining),
            (4, ReplicaState::Stranded),
        ]
    );
}

#[test]
fn a_condition_keeps_its_time_while_its_status_stays() {
    let at = |seconds| Timestamp::from_second(seconds).unwrap();
    let first = merge_conditions(&[], vec![condition("X", Some(true), "A", "a", 1)], at(100));
    let same = merge_conditions(
        &first,
        vec![condition("X", Some(true), "B", "b", 2)],
        at(200),
    );
    assert_eq!(same[0].last_transition_time.0, at(100));
    assert_eq!(same[0].message, "b");
    let other = merge_conditions(&same, vec![condition("X", None, "C", "c", 2)], at(300));
    assert_eq!(other[0].last_transition_time.0, at(300));
}

#[test]
fn a_refusal_keeps_what_is_known_of_the_pods() {
    let (applied, pods) = settled();
    let before = summarize(&applied, &found(pods), None, now())
        .status
        .conditions;
    let refusal = Refusal {
        reason: "InvalidSpec",
        message: "what to write instead".into(),
    };
    let after = conditions::refused(&before, &refusal, 2);
    assert_eq!(after.len(), before.len());
    for condition in &after {
        let refused = ["Ready", "Accepted"].contains(&condition.type_.as_str());
        assert_eq!(condition.reason == "InvalidSpec", refused, "{condition:?}");
    }
}
