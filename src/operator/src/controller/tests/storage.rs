//! What becomes of claims that there are, whatever its user has written since.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, Time};

use super::*;
use crate::controller::build::mount;
use crate::controller::dereference::FoundPod;
use crate::names::{ANNOTATION_DRAINING, ANNOTATION_DRAINING_POD};
use crate::rollout::Mount;

/// A pod as its Deployment makes it, that has not answered.
fn pod_of(deployment: &Deployment, ordinal: u32) -> FoundPod {
    let template = deployment.spec.clone().unwrap().template;
    let metadata = ObjectMeta {
        uid: Some("pod".into()),
        creation_timestamp: Some(Time(now())),
        ..template.metadata.unwrap()
    };
    let pod = Pod {
        metadata,
        spec: template.spec,
        status: None,
    };
    FoundPod {
        pod: Arc::new(pod),
        ordinal,
        address: None,
        ready: true,
        status: None,
    }
}

/// The same with the pod of each Deployment.
pub(in crate::controller) fn with_pods(mut found: Found) -> Found {
    let pods = found.deployments.iter();
    found.pods = pods
        .map(|(&ordinal, deployment)| pod_of(deployment, ordinal))
        .collect();
    found
}

/// Has every pod say that it is empty and takes no more mail, for long enough to be believed.
fn emptied(mut found: Found) -> Found {
    let status = json!({
        "version": "1", "draining": true,
        "config": {"hash": "", "credentialsHash": "", "refused": null},
        "queue": {"messages": 0, "bytes": 0, "deferred": 0, "oldestArrival": null},
        "totals": {"accepted": 0, "delivered": 0, "deferred": 0, "failed": 0},
        "upstreams": [], "certificate": null,
        "spool": {"persistent": true, "failure": null, "corrupt": 0},
    });
    for pod in &mut found.pods {
        pod.status = Some(serde_json::from_value(status.clone()).unwrap());
    }
    for deployment in found.deployments.values_mut() {
        let meta = &mut Arc::make_mut(deployment).metadata;
        let began = Timestamp::from_second(NOW - 3600).unwrap().to_string();
        let annotations = meta.annotations.get_or_insert_default();
        annotations.insert(ANNOTATION_DRAINING.into(), began);
        annotations.insert(ANNOTATION_DRAINING_POD.into(), "pod".into());
    }
    found
}

fn ephemeral() -> SmtpRelay {
    let mut relay = sample("minimal");
    relay.spec.storage = sample("ephemeral").spec.storage;
    relay
}

fn persistent(replicas: u16) -> SmtpRelay {
    let mut relay = sample("minimal");
    relay.spec.replicas = replicas;
    relay
}

/// The claims of a Persistent relay with two replicas, and nothing else of it.
fn claims_left() -> Found {
    let claims = serving(&prepare(&persistent(2), &nothing())).claims;
    Found {
        claims,
        ..nothing()
    }
}

fn change(found: &mut Found, ordinal: u32, change: impl FnOnce(&mut ObjectMeta)) {
    let claim = found.claims.get_mut(&ordinal).unwrap();
    change(&mut Arc::make_mut(claim).metadata);
}

#[test]
fn a_relay_that_would_not_mount_the_claims_that_are_left_is_refused() {
    let mut found = claims_left();
    assert_eq!(
        validate(&ephemeral(), &found).unwrap_err(),
        Refusal {
            reason: "ClaimsLeft",
            message: "storage.type is Ephemeral, and mail may wait in claims of an earlier SmtpRelay \"mail\": mail-0, \
                      mail-1. To have it delivered, delete this SmtpRelay, apply it with storage.type Persistent and \
                      replicas 0, and wait until the claims are gone. If it is of no use: kubectl --namespace infra \
                      delete pvc --selector postroad.dev/relay=mail"
                .into(),
        }
    );
    // Somebody has deleted the one; what is left of the other counts.
    let gone = |meta: &mut ObjectMeta| meta.deletion_timestamp = Some(Time(now()));
    change(&mut found, 0, gone);
    assert!(validate(&ephemeral(), &found).is_err());
    change(&mut found, 1, gone);
    assert!(validate(&ephemeral(), &found).is_ok());
    assert!(validate(&ephemeral(), &nothing()).is_ok());
}

#[test]
fn the_refusal_of_many_claims_is_one_that_status_can_hold() {
    let mut relay = ephemeral();
    relay.metadata.name = Some("n".repeat(43));
    relay.metadata.namespace = Some("s".repeat(63));
    let claims = claims_left().claims;
    let found = Found {
        claims: (0..64)
            .map(|ordinal| (ordinal, claims[&0].clone()))
            .collect(),
        ..nothing()
    };
    let message = validate(&relay, &found).unwrap_err().message;
    assert!(message.contains("(54 more)"), "{message}");
    assert!(message.len() <= 1000, "{}: {message}", message.len());
}

#[test]
fn what_waits_in_the_claims_that_are_left_is_delivered_by_pods_that_mount_them() {
    for (replicas, steps) in [
        (0, [Step::Create(0), Step::Create(1)]),
        (1, [Step::Create(0), Step::Create(1)]),
        (2, [Step::Create(0), Step::Create(1)]),
    ] {
        let relay = persistent(replicas);
        let mut found = claims_left();
        let first = prepare(&relay, &found);
        assert_eq!(first.plan.steps, steps, "{replicas}");
        found.deployments = serving(&first).deployments;
        let found = emptied(with_pods(found));
        assert_eq!(mount(&found, 1), Some(Mount::Claim), "{replicas}");
        if replicas < 2 {
            assert!(
                prepare(&relay, &found)
                    .plan
                    .steps
                    .contains(&Step::Remove(1))
            );
        }
    }
}

#[test]
fn claims_of_another_size_or_class_are_taken_as_they_are() {
    let found = serving(&prepare(&persistent(2), &nothing()));
    for (size, class) in [("128Mi", None), ("20Gi", None), ("1Gi", Some("fast"))] {
        let mut relay = persistent(2);
        relay.spec.storage.size = size.into();
        relay.spec.storage.class_name = class.map(str::to_owned);
        let plan = prepare(&relay, &found).plan;
        assert_eq!(plan.steps, [], "{size} {class:?}");
    }
}

type Alter = fn(&mut Found);

fn pod_spec(found: &mut Found) -> &mut Pod {
    let pod = found.pods.iter_mut().find(|pod| pod.ordinal == 1).unwrap();
    Arc::make_mut(&mut pod.pod)
}

fn without_claim(volumes: &mut Option<Vec<k8s_openapi::api::core::v1::Volume>>) {
    for volume in volumes.iter_mut().flatten() {
        volume.persistent_volume_claim = None;
    }
}

#[test]
fn a_claim_is_deleted_only_if_what_was_found_empty_had_mounted_it() {
    let as_made: Alter = |_| ();
    let rows: [(&str, Alter, Mount); 7] = [
        ("as made", as_made, Mount::Claim),
        (
            "the pod keeps its mail itself",
            |found| without_claim(&mut pod_spec(found).spec.as_mut().unwrap().volumes),
            Mount::Pod,
        ),
        (
            "the next pod will keep its mail itself",
            |found| {
                let deployment = Arc::make_mut(found.deployments.get_mut(&1).unwrap());
                let template = &mut deployment.spec.as_mut().unwrap().template;
                without_claim(&mut template.spec.as_mut().unwrap().volumes);
            },
            Mount::Unproven,
        ),
        (
            "the claim came after the pod",
            |found| {
                let later = Timestamp::from_second(NOW + 1).unwrap();
                change(found, 1, |meta| {
                    meta.creation_timestamp = Some(Time(later));
                });
            },
            Mount::Unproven,
        ),
        (
            "the claim is called otherwise",
            |found| change(found, 1, |meta| meta.name = Some("mail-1-copy".into())),
            Mount::Unproven,
        ),
        (
            "two pods",
            |found| {
                let again = pod_of(&found.deployments[&1], 1);
                found.pods.push(again);
            },
            Mount::Unproven,
        ),
        (
            "no pod",
            |found| found.pods.retain(|pod| pod.ordinal != 1),
            Mount::Unproven,
        ),
    ];
    let relay = persistent(1);
    for (what, alter, expected) in rows {
        let found = serving(&prepare(&persistent(2), &nothing()));
        let mut found = emptied(with_pods(found));
        alter(&mut found);
        assert_eq!(mount(&found, 1), Some(expected), "{what}");
        let removes = prepare(&relay, &found)
            .plan
            .steps
            .contains(&Step::Remove(1));
        assert_eq!(removes, expected == Mount::Claim, "{what}");
    }
}

#[test]
fn pods_that_outlive_their_ephemeral_relay_are_drained_before_they_get_claims() {
    let found = serving_without_claims(&prepare(&ephemeral(), &nothing()));
    let mut found = with_pods(found);
    assert_eq!(mount(&found, 0), Some(Mount::Pod));
    // Silent, yet ready: it can be asked again.
    assert_eq!(prepare(&persistent(2), &found).plan.steps, []);
    found = emptied(found);
    assert_eq!(prepare(&persistent(2), &found).plan.steps, [Step::Roll(0)]);
}

fn serving_without_claims(prepared: &Prepared) -> Found {
    let mut found = applied(prepared);
    for (ordinal, objects) in &prepared.objects.replicas {
        let deployment = upgrade::served(&objects.deployment);
        found.deployments.insert(*ordinal, deployment);
    }
    found
}

#[test]
fn no_two_relays_share_a_deployment_or_a_claim() {
    let id = |name: &str| RelayId {
        name: name.into(),
        namespace: "infra".into(),
        uid: "uid".into(),
    };
    let relays = [
        "mail",
        "mail-1",
        "mail-1-1",
        "mail-11",
        "1",
        "1-1",
        "mail-replicas",
    ];
    let names: Vec<_> = relays
        .iter()
        .flat_map(|name| (0..120).map(|ordinal| id(name).replica(ordinal)))
        .collect();
    let distinct: std::collections::BTreeSet<_> = names.iter().collect();
    assert_eq!(distinct.len(), names.len());
    for (relay, name, label, expected) in [
        ("mail", "mail-1", "1", Some(1)),
        ("mail-1", "mail-1-0", "0", Some(0)),
        // With labels of the one and the name of another, or of none.
        ("mail", "mail-1-0", "0", None),
        ("mail", "mail-1", "01", Some(1)),
        ("mail", "mail-01", "01", None),
        ("mail", "mail-1-copy", "1", None),
        ("mail", "mail-1", "x", None),
    ] {
        let meta = ObjectMeta {
            name: Some(name.into()),
            labels: Some([(LABEL_ORDINAL.to_owned(), label.to_owned())].into()),
            ..ObjectMeta::default()
        };
        assert_eq!(id(relay).ordinal(&meta), expected, "{relay} {name} {label}");
    }
}
