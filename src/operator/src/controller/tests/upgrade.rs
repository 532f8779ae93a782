//! What another operator makes of the replicas that it finds.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

use super::*;
use crate::rollout::Plan;

/// A Deployment as the API server has it after it was applied and its pod serves.
pub(super) fn served(deployment: &Value) -> Arc<Deployment> {
    let mut deployment = deployment.clone();
    deployment["metadata"]["uid"] = json!("deployment");
    deployment["metadata"]["resourceVersion"] = json!("7");
    deployment["metadata"]["generation"] = json!(1);
    deployment["status"] = json!({
        "observedGeneration": 1, "replicas": 1, "updatedReplicas": 1, "availableReplicas": 1,
    });
    Arc::new(serde_json::from_value(deployment).unwrap())
}

/// What is found when all replicas of `prepared` serve, and their claims are bound.
pub(in crate::controller) fn serving(prepared: &Prepared) -> Found {
    let mut found = applied(prepared);
    for (ordinal, objects) in &prepared.objects.replicas {
        let deployment = served(&objects.deployment);
        found.deployments.insert(*ordinal, deployment);
        let mut claim = objects.claim.clone().unwrap();
        claim.metadata.uid = Some("claim".into());
        claim.metadata.creation_timestamp = Some(Time(now()));
        claim.metadata.resource_version = Some("8".into());
        claim.spec.as_mut().unwrap().volume_name = Some("volume".into());
        found.claims.insert(*ordinal, Arc::new(claim));
    }
    found
}

/// The next release: another default image, another pod template.
fn prepare_next(relay: &SmtpRelay, found: &Found) -> Prepared {
    let mut validated = validate(relay, found).unwrap();
    validated.defaults = PodDefaults {
        image: "postroad:next".into(),
        image_pull_policy: None,
    };
    build::build(validated, found, now()).unwrap()
}

#[test]
fn a_newer_operator_leaves_the_pods_that_there_are() {
    for name in ["minimal", "full"] {
        let relay = sample(name);
        let first = prepare(&relay, &nothing());
        let found = serving(&first);
        let settled = prepare(&relay, &found);
        assert_eq!(settled.plan, Plan::default(), "{name}");
        assert_eq!(settled.outdated.ordinals, [0_u32; 0], "{name}");

        let next = prepare_next(&relay, &found);
        assert_eq!(next.plan, Plan::default(), "{name}");
        let all: Vec<_> = next.objects.replicas.keys().copied().collect();
        assert_eq!(next.outdated.ordinals, all, "{name}");
        for (ordinal, objects) in &next.objects.replicas {
            let before = &first.objects.replicas[ordinal].deployment;
            assert_eq!(objects.kept.as_ref(), Some(before), "{name}");
            assert_ne!(&objects.deployment, before, "{name}");
        }
    }
}

#[test]
fn what_was_changed_by_hand_is_mended_with_the_pod_that_was_made() {
    let relay = sample("minimal");
    let first = prepare(&relay, &nothing());
    let mut found = serving(&first);
    let by_hand = |deployment: &Value| {
        let mut deployment = deployment.clone();
        deployment["spec"]["replicas"] = json!(3);
        let pod = &mut deployment["spec"]["template"]["spec"];
        pod["containers"][0]["image"] = json!("postroad:mine");
        deployment["metadata"]["labels"] = json!({"postroad.dev/ordinal": "0"});
        deployment
    };
    let before = &first.objects.replicas[&0].deployment;
    found.deployments.insert(0, served(&by_hand(before)));
    for prepared in [prepare(&relay, &found), prepare_next(&relay, &found)] {
        assert_eq!(prepared.objects.replicas[&0].kept.as_ref(), Some(before));
    }
}

#[test]
fn a_deployment_that_does_not_say_how_it_was_made_is_replaced() {
    let relay = sample("minimal");
    let first = prepare(&relay, &nothing());
    for (annotation, value) in [
        ("postroad.dev/inputs-hash", None),
        ("postroad.dev/pod-template", None),
        ("postroad.dev/pod-template", Some("{")),
        ("postroad.dev/pod-template", Some("[]")),
    ] {
        let mut found = serving(&first);
        let mut deployment = first.objects.replicas[&1].deployment.clone();
        let annotations = deployment["metadata"]["annotations"]
            .as_object_mut()
            .unwrap();
        annotations.remove(annotation);
        annotations.extend(value.map(|value| (annotation.to_owned(), json!(value))));
        found.deployments.insert(1, served(&deployment));
        let prepared = prepare(&relay, &found);
        assert_eq!(
            prepared.plan.steps,
            [Step::Roll(1)],
            "{annotation} {value:?}"
        );
        assert_eq!(prepared.objects.replicas[&1].kept, None);
    }
}

#[test]
fn what_its_user_writes_replaces_the_pods_and_brings_what_is_new() {
    let relay = sample("minimal");
    let found = serving(&prepare(&relay, &nothing()));
    let mut changed = relay.clone();
    restart(&mut changed, "1800000000");
    let next = prepare_next(&changed, &found);
    assert_eq!(next.plan.steps, [Step::Roll(0)]);
    let pod = &next.objects.replicas[&0].deployment["spec"]["template"];
    assert_eq!(pod["spec"]["containers"][0]["image"], "postroad:next");
    let annotations = &pod["metadata"]["annotations"];
    assert_eq!(annotations["postroad.dev/restartedAt"], "1800000000");
    // Not its turn yet: whatever is changed by hand meanwhile is mended as before.
    assert_ne!(next.objects.replicas[&1].kept, None);
}
