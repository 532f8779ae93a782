//! What is said of pods that do not start.

use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::core::v1::PersistentVolumeClaim;
use serde_json::{Value, json};

use super::*;
use crate::controller::status::starting::troubles;

/// A pod that is not ready, with this in its status.
fn stuck(ordinal: u32, status: &Value) -> FoundPod {
    FoundPod {
        pod: Arc::new(serde_json::from_value(json!({"metadata": {}, "status": status})).unwrap()),
        ..unready(ordinal)
    }
}

fn container(state: &Value, last: &Value) -> Value {
    json!({"containerStatuses": [{
        "name": "relay", "image": "x", "imageID": "", "ready": false, "restartCount": 3,
        "state": state, "lastState": last,
    }]})
}

fn waits(reason: &str, message: &str) -> Value {
    let state = json!({"waiting": {"reason": reason, "message": message}});
    container(&state, &json!({}))
}

fn unscheduled(seconds_ago: i64) -> Value {
    json!({"conditions": [{
        "type": "PodScheduled", "status": "False", "reason": "Unschedulable",
        "message": "0/1 nodes are available: pod has unbound immediate PersistentVolumeClaims",
        "lastTransitionTime": Timestamp::from_second(NOW - seconds_ago).unwrap().to_string(),
    }]})
}

fn crashed() -> Value {
    json!({"terminated": {"reason": "Error", "exitCode": 1, "message": "Error: cannot open\nthe queue\n"}})
}

#[test]
fn what_keeps_a_pod_from_starting_is_said_in_one_line() {
    let running = json!({"running": {"startedAt": "2027-01-15T08:00:00Z"}});
    let ended = json!({"terminated": {"reason": "Completed", "exitCode": 0}});
    for (status, expected) in [
        (
            waits("ImagePullBackOff", "Back-off pulling image \"x\""),
            Some("ImagePullBackOff: Back-off pulling image \"x\""),
        ),
        (
            waits("ErrImagePull", "rpc error:\n  no such host"),
            Some("ErrImagePull: rpc error: no such host"),
        ),
        (
            waits("CreateContainerConfigError", "secret \"x\" not found"),
            Some("CreateContainerConfigError: secret \"x\" not found"),
        ),
        (
            container(
                &json!({"waiting": {"reason": "CrashLoopBackOff", "message": "back-off 40s"}}),
                &crashed(),
            ),
            Some("CrashLoopBackOff after Error with exit code 1: Error: cannot open the queue"),
        ),
        (
            container(&crashed(), &json!({})),
            Some("Error with exit code 1: Error: cannot open the queue"),
        ),
        (
            container(&running, &crashed()),
            Some("started again after Error with exit code 1: Error: cannot open the queue"),
        ),
        (
            unscheduled(10),
            Some(
                "Unschedulable: 0/1 nodes are available: pod has unbound immediate PersistentVolumeClaims",
            ),
        ),
        // What passes by itself.
        (unscheduled(9), None),
        (waits("ContainerCreating", ""), None),
        (waits("PodInitializing", ""), None),
        (container(&running, &json!({})), None),
        (container(&running, &ended), None),
        (json!({}), None),
    ] {
        let found = found(vec![pod(0, None), stuck(1, &status)]);
        let expected = expected.map(|expected| format!("replica 1: {expected}"));
        assert_eq!(troubles(&found, 2, now()), expected, "{status}");
        // Nobody waits for one that is to go.
        assert_eq!(troubles(&found, 1, now()), None);
    }
}

#[test]
fn of_what_others_say_only_a_part_is_shown() {
    let long = "x".repeat(1000);
    let found_with = |status| found(vec![stuck(0, &status)]);
    let image = troubles(&found_with(waits("ErrImagePull", &long)), 1, now()).unwrap();
    assert_eq!(image.len(), "replica 0: ErrImagePull: ".len() + 300);
    let log = format!("{long} the end");
    let state = json!({"terminated": {"reason": "Error", "exitCode": 1, "message": log}});
    let ended = troubles(&found_with(container(&state, &json!({}))), 1, now()).unwrap();
    assert!(ended.ends_with("xx the end"), "{ended}");
    assert!(ended.len() < 400);
}

#[test]
fn a_claim_that_is_not_bound_is_named_where_it_is_in_the_way() {
    let claim = |phase: &str, class: Value| -> PersistentVolumeClaim {
        serde_json::from_value(json!({
            "metadata": {"name": "mail-0"}, "spec": {"storageClassName": class}, "status": {"phase": phase},
        }))
        .unwrap()
    };
    for (claim, said) in [
        (
            claim("Pending", json!("nothere")),
            " (claim mail-0 is Pending: storage class \"nothere\")",
        ),
        (
            claim("Pending", Value::Null),
            " (claim mail-0 is Pending: no storage class, for the cluster has no default)",
        ),
        (claim("Bound", json!("fast")), "VolumeClaims"),
    ] {
        let mut found = found(vec![stuck(0, &unscheduled(60))]);
        found.claims.insert(0, Arc::new(claim));
        let trouble = troubles(&found, 1, now()).unwrap();
        assert!(trouble.ends_with(said), "{trouble}");
    }
}

#[test]
fn a_pod_that_may_not_be_created_is_said_by_its_deployment() {
    let deployment: Deployment = serde_json::from_value(json!({
        "metadata": {},
        "status": {"conditions": [{
            "type": "ReplicaFailure", "status": "True", "reason": "FailedCreate",
            "message": "exceeded quota: mail",
        }]},
    }))
    .unwrap();
    let mut found = found(Vec::new());
    found.deployments.insert(0, Arc::new(deployment));
    assert_eq!(
        troubles(&found, 1, now()).as_deref(),
        Some("replica 0: FailedCreate: exceeded quota: mail")
    );
}

#[test]
fn a_pod_that_does_not_start_shows_in_available_and_as_one_event() {
    let image = |text| waits("ErrImagePull", text);
    for (running, condition, message) in [
        (
            1,
            "Available=True PodNotStarting",
            "enough replicas take mail; replica 1: ErrImagePull: no such host",
        ),
        (
            0,
            "Available=False PodNotStarting",
            "0 of 2 replicas take mail, 1 are needed; replica 1: ErrImagePull: no such host",
        ),
    ] {
        let stuck_with = |text| {
            let (applied, mut pods) = settled();
            pods.truncate(running);
            pods.push(stuck(1, &image(text)));
            (applied, found(pods))
        };
        let (applied, stuck) = stuck_with("no such host");
        let first = summarize(&applied, &stuck, None, now());
        assert_eq!(holds(&first.status)[2], condition);
        assert_eq!(first.status.conditions[2].message, message);
        let said = |summary: &Summary| {
            let reasons = summary.notices.iter().map(|notice| notice.reason);
            reasons.filter(|&reason| reason == "PodNotStarting").count()
        };
        assert_eq!(said(&first), 1);
        let (applied, stuck) = stuck_with("still no such host");
        let again = summarize(&applied, &stuck, Some(&first.status), now());
        assert_eq!(said(&again), 0);
    }
}
