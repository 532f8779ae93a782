//! `Ready`, and what is said beside it when a settled relay is changed in one way.

use super::*;
use crate::rollout::Step;

type Change = fn(&mut Applied, &mut Vec<FoundPod>);

fn said(pod: &mut FoundPod) -> &mut RelayStatus {
    pod.status.as_mut().unwrap()
}

/// Changes a settled relay and compares `Ready`, and whether it is looked at again soon.
#[track_caller]
fn check_ready(rows: &[(Change, &str, Pace)]) {
    for (change, ready, pace) in rows {
        let (mut applied, mut pods) = settled();
        change(&mut applied, &mut pods);
        let summary = summarize(&applied, &found(pods), None, now());
        assert_eq!(&holds(&summary.status)[0], ready);
        assert_eq!(summary.pace, *pace, "{ready}");
    }
}

#[test]
fn what_is_wrong_is_the_reason_for_not_being_ready() {
    check_ready(&[
        (
            |_, pods| pods.clear(),
            "Ready=False ReplicasNotReady",
            Pace::Moving,
        ),
        (
            |_, pods| pods[0].ready = false,
            "Ready=True Ready",
            Pace::AtRest,
        ),
        (
            |applied, _| applied.validated.replicas = 0,
            "Ready=False ScaledToZero",
            Pace::AtRest,
        ),
        (
            |applied, _| {
                applied.validated.missing =
                    vec![crate::controller::validate::Missing::Secret { name: "x".into() }];
            },
            "Ready=False SecretNotFound",
            Pace::Moving,
        ),
        (
            |applied, _| {
                applied.validated.pods_refused = Some(Refusal {
                    reason: "ImageNotAllowed",
                    message: "x".into(),
                });
            },
            "Ready=False ImageNotAllowed",
            Pace::Moving,
        ),
        (
            |applied, _| {
                applied.identity = build::Identity::Unreadable {
                    problem: "x".into(),
                }
            },
            "Ready=False AuthorityUnreadable",
            Pace::Moving,
        ),
        (
            |_, pods| said(&mut pods[0]).upstreams = upstreams("-"),
            "Ready=False AuthenticationFailed",
            Pace::Moving,
        ),
        (
            |_, pods| said(&mut pods[0]).spool.failure = Some("x".into()),
            "Ready=False SpoolFailed",
            Pace::Moving,
        ),
        (
            |_, pods| said(&mut pods[0]).spool.corrupt = 1,
            "Ready=False RecordsDamaged",
            Pace::Moving,
        ),
        (
            |applied, _| applied.plan.waiting = Some("x".into()),
            "Ready=True Ready",
            Pace::Moving,
        ),
    ]);
}

#[test]
fn a_relay_is_ready_only_when_everything_is_known() {
    check_ready(&[
        (
            |_, pods| {
                pods.iter_mut()
                    .for_each(|pod| said(pod).upstreams = upstreams("?"))
            },
            "Ready=Unknown NotTried",
            Pace::Moving,
        ),
        (
            |_, pods| pods[1].status = None,
            "Ready=Unknown NoAnswer",
            Pace::Moving,
        ),
        (
            |_, pods| pods.iter_mut().for_each(|pod| pod.status = None),
            "Ready=Unknown NoAnswer",
            Pace::Moving,
        ),
        // What is wrong says more than what is not known.
        (
            |_, pods| {
                pods[1].status = None;
                said(&mut pods[0]).upstreams = upstreams("-");
            },
            "Ready=False AuthenticationFailed",
            Pace::Moving,
        ),
        // Its silence is that of one that starts.
        (
            |_, pods| {
                pods[1].status = None;
                pods[1].ready = false;
            },
            "Ready=True Ready",
            Pace::AtRest,
        ),
    ]);
}

#[test]
fn a_listener_that_cannot_be_opened_is_the_reason_for_not_being_ready() {
    let (applied, mut pods) = settled();
    let refused = "listener submission: cannot listen on port 10587: address in use";
    said(&mut pods[1]).config.refused = Some(refused.into());
    let summary = summarize(&applied, &found(pods), None, now());
    let shown = holds(&summary.status);
    assert_eq!(shown[0], "Ready=False ConfigurationRefused");
    assert_eq!(shown[3], "Progressing=True ConfigurationRefused");
    for condition in [0, 3] {
        let message = &summary.status.conditions[condition].message;
        assert_eq!(*message, format!("replica 1: {refused}"));
    }
    assert_eq!(summary.pace, Pace::Moving);
    let reasons: Vec<_> = summary.notices.iter().map(|notice| notice.reason).collect();
    assert!(reasons.contains(&"ConfigurationRefused"), "{reasons:?}");
}

#[test]
fn what_only_another_pod_takes_up_is_no_refusal() {
    let waiting = |what: &str| Plan {
        steps: Vec::new(),
        waiting: Some(what.to_owned()),
    };
    let rolling = Plan {
        steps: vec![Step::Roll(0)],
        waiting: None,
    };
    for (wanted, plan, replica, fields, progressing, message) in [
        (
            2,
            waiting("replica 0 to become ready"),
            1,
            &["spool.mode"][..],
            "Progressing=True RollingOut",
            "waiting for replica 0 to become ready; replica 1 keeps its former storage.mode until its pod goes",
        ),
        (
            2,
            rolling,
            0,
            &["spool.mode", "spool.bytesMax"],
            "Progressing=True RollingOut",
            "replicas are being brought up to date; replica 0 keeps its former storage.mode, storage.size until its pod goes",
        ),
        // One that is scaled in is not replaced.
        (
            1,
            waiting("replica 1 to deliver what it holds"),
            1,
            &["spool.mode"],
            "Progressing=True RollingOut",
            "waiting for replica 1 to deliver what it holds; replica 1 keeps its former storage.mode until its pod goes",
        ),
        (
            2,
            Plan::default(),
            0,
            &["limits.memoryBytes", "limits.messageBytes"],
            "Progressing=False UpdateAvailable",
            "replica 0 keeps its former memory for content, limits.messageSize until its pod goes. To have newer pods, one at a time: \
             kubectl --namespace infra annotate smtprelay mail postroad.dev/restartedAt=$(date +%s) --overwrite",
        ),
    ] {
        let (mut applied, mut pods) = settled();
        applied.validated.replicas = wanted;
        applied.plan = plan;
        let fields = fields.iter().map(|&field| field.to_owned());
        said(&mut pods[replica]).config.awaits_restart = fields.collect();
        let summary = summarize(&applied, &found(pods), None, now());
        let shown = holds(&summary.status);
        assert_eq!(
            [shown[0].as_str(), shown[3].as_str()],
            ["Ready=True Ready", progressing]
        );
        assert_eq!(summary.status.conditions[3].message, message);
        let refused = |notice: &Notice| notice.reason == "ConfigurationRefused";
        assert!(!summary.notices.iter().any(refused));
    }
}

#[test]
fn what_an_earlier_operator_has_made_shows_with_how_to_replace_it() {
    for (images, difference) in [
        (
            &["postroad:1"][..],
            "(0, 1) run postroad:1, new pods get postroad:2",
        ),
        (
            &["postroad:1", "postroad:2"],
            "(0, 1) run postroad:1, postroad:2, new pods get postroad:2",
        ),
        (
            &["postroad:2"],
            "(0, 1) are as an earlier operator has made them",
        ),
    ] {
        let (mut applied, pods) = settled();
        applied.outdated = Outdated {
            ordinals: vec![0, 1],
            images: images.iter().map(|&image| image.to_owned()).collect(),
            image: "postroad:2".into(),
        };
        let summary = summarize(&applied, &found(pods), None, now());
        let shown = holds(&summary.status);
        assert_eq!(shown[0], "Ready=True Ready");
        assert_eq!(shown[3], "Progressing=False UpdateAvailable");
        assert_eq!(summary.pace, Pace::AtRest);
        let message = &summary.status.conditions[3].message;
        assert!(message.ends_with(difference), "{message}");
        assert!(
            message.contains("one at a time: kubectl --namespace infra annotate smtprelay mail postroad.dev/restartedAt=$(date +%s) --overwrite"),
            "{message}"
        );
        let said = |notices: &[Notice]| {
            notices
                .iter()
                .any(|notice| notice.reason == "UpdateAvailable")
        };
        assert!(said(&summary.notices));
        let again = notices::of(&summary.status.conditions, &summary.status.conditions);
        assert!(!said(&again));
    }
}

#[test]
fn clients_trusted_by_address_on_an_open_service_are_warned_of_once_per_change() {
    let warned = |summary: &Summary| {
        let mut notices = summary.notices.iter();
        notices.any(|notice| notice.reason == "TrustedNetworksReachable")
    };
    for (service_type, trusts_networks, expected) in [
        (ServiceType::ClusterIP, true, false),
        (ServiceType::NodePort, false, false),
        (ServiceType::NodePort, true, true),
        (ServiceType::LoadBalancer, true, true),
    ] {
        let (mut applied, pods) = settled();
        applied.validated.service_type = service_type;
        applied.validated.trusts_networks = trusts_networks;
        let found = found(pods);
        let first = summarize(&applied, &found, None, now());
        assert_eq!(warned(&first), expected, "{service_type:?}");
        let again = summarize(&applied, &found, Some(&first.status), now());
        assert!(!warned(&again));
        applied.validated.generation += 1;
        let changed = summarize(&applied, &found, Some(&first.status), now());
        assert_eq!(warned(&changed), expected, "{service_type:?}");
    }
}
