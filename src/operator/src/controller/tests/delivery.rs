//! Where mail goes, as the pods are told.

use postroad_api::{Route, StorageMode, Target};
use postroad_config::{LEVEL, RATE_SECONDS_MAX, SpoolMode, memory};

use super::*;
use crate::controller::validate::Ways;
use crate::names::ANNOTATION_CONFIG_LEVEL;

fn config(relay: &SmtpRelay, found: &Found) -> RelayConfig {
    RelayConfig::parse(&validate(relay, found).unwrap().config).unwrap()
}

/// A relay of which these replicas have a Deployment.
fn with_deployments(ordinals: &[u32]) -> Found {
    let mut found = nothing();
    for ordinal in ordinals {
        found.deployments.insert(*ordinal, Arc::default());
    }
    found
}

#[test]
fn replicas_share_a_rate_and_so_do_those_that_are_still_there() {
    for (replicas, there, sharing) in [
        (0, &[][..], 1),
        (1, &[], 1),
        (2, &[], 2),
        (2, &[0], 2),
        (2, &[0, 1], 2),
        (2, &[0, 1, 2, 5], 4),
        (0, &[0, 1], 2),
    ] {
        let mut relay = sample("routes");
        relay.spec.replicas = replicas;
        let delivery = config(&relay, &with_deployments(there)).delivery;
        let [provider, bulk] = &delivery.upstreams[..] else {
            panic!("{delivery:?}");
        };
        let rates = [
            provider.limits.rate,
            bulk.limits.rate,
            delivery.direct.limits.rate,
        ];
        let rates = rates.map(|rate| rate.map(|rate| (rate.messages, rate.per_seconds)).unwrap());
        let all = [(14, 1), (50_000, 86_400), (100, 60)];
        let parts = all.map(|(messages, seconds)| (messages, seconds * sharing));
        assert_eq!(rates, parts, "{replicas} {there:?}");
    }
    const { assert!(86_400 * postroad_api::REPLICAS_MAX as u32 <= RATE_SECONDS_MAX) };
}

#[test]
fn a_number_of_replicas_that_shares_nothing_leaves_the_file_as_it_is() {
    let mut relay = sample("minimal");
    let before = validate(&relay, &nothing()).unwrap().config;
    relay.spec.replicas = 5;
    assert_eq!(validate(&relay, &nothing()).unwrap().config, before);
}

#[test]
fn what_memory_is_left_over_is_for_the_index_where_the_pods_understand_it() {
    let at_level = |level: Option<&str>| {
        let mut found = nothing();
        let mut deployment = Deployment::default();
        let meta = &mut deployment.spec.get_or_insert_default().template.metadata;
        let annotations = &mut meta.get_or_insert_default().annotations;
        *annotations =
            level.map(|level| [(ANNOTATION_CONFIG_LEVEL.to_owned(), level.to_owned())].into());
        found.deployments.insert(0, Arc::new(deployment));
        found
    };
    let mine = |relay: &mut SmtpRelay| relay.spec.image = Some("registry.example.com/p:1".into());
    let level = LEVEL.to_string();
    let usual = memory::INDEX_BYTES;
    for (limit, found, image, expected) in [
        (None, nothing(), None, usual),
        (Some("573Mi"), nothing(), None, usual),
        (Some("574Mi"), nothing(), None, usual + (64 << 20)),
        (Some("2Gi"), nothing(), None, usual + (1536 << 20)),
        (
            Some("2Gi"),
            at_level(Some(&level)),
            None,
            usual + (1536 << 20),
        ),
        // Made by an earlier operator.
        (Some("2Gi"), at_level(None), None, usual),
        (Some("2Gi"), at_level(Some("1")), None, usual),
        (Some("2Gi"), nothing(), Some(mine), usual),
    ] {
        let mut relay = sample("minimal");
        relay.spec.resources = limit.map(|limit| {
            let limits = json!({"limits": {"memory": limit}});
            serde_json::from_value(limits).unwrap()
        });
        image.into_iter().for_each(|image| image(&mut relay));
        let limits = config(&relay, &found).limits;
        assert_eq!(limits.index_bytes, expected, "{limit:?}");
    }
}

#[test]
fn how_long_mail_is_held_is_written_only_if_somebody_says_so() {
    let mut relay = sample("minimal");
    let text = validate(&relay, &nothing()).unwrap().config;
    assert!(!text.contains("holdSeconds"), "{text}");
    for seconds in [0, 3600] {
        relay.spec.limits.hold_seconds = Some(seconds);
        assert_eq!(
            config(&relay, &nothing()).limits.hold_seconds,
            Some(seconds)
        );
    }
}

#[test]
fn how_long_mail_of_a_rejected_sender_waits_is_written_only_if_somebody_says_so() {
    let mut relay = sample("minimal");
    let first = validate(&relay, &nothing()).unwrap();
    assert!(!first.config.contains("senderHold"), "{}", first.config);
    assert_eq!(first.sender_hold.as_secs(), 86_400);
    for seconds in [0, 3600] {
        relay.spec.delivery.retry.sender_hold_seconds = Some(seconds);
        let retry = config(&relay, &nothing()).delivery.retry;
        assert_eq!(retry.sender_hold_seconds, Some(seconds.into()));
        let hold = validate(&relay, &nothing()).unwrap().sender_hold;
        assert_eq!(hold.as_secs(), u64::from(seconds));
    }
}

fn route(name: &str, to: &[&str]) -> Route {
    let names = to.iter().map(|&name| name.to_owned()).collect();
    let upstreams = Some(names).filter(|names: &Vec<_>| !names.is_empty());
    Route {
        name: name.into(),
        matches: None,
        to: Target {
            direct: upstreams.is_none().then_some(true),
            upstreams,
        },
    }
}

#[test]
fn the_ways_that_mail_takes_are_known() {
    let all = &["provider", "bulk"][..];
    for (change, upstreams, direct) in [
        (
            (|_| ()) as Change,
            &[&["bulk", "provider"][..], all][..],
            true,
        ),
        (|relay| relay.spec.delivery.routes.clear(), &[all], false),
        // All mail takes this one.
        (
            |relay| {
                relay
                    .spec
                    .delivery
                    .routes
                    .insert(0, route("all", &["bulk"]))
            },
            &[&["bulk"]],
            false,
        ),
        (
            |relay| relay.spec.delivery.routes = vec![route("all", &[])],
            &[],
            true,
        ),
        (
            |relay| {
                relay.spec.delivery.upstreams.clear();
                relay.spec.delivery.routes.clear();
            },
            &[],
            true,
        ),
    ] {
        let mut relay = sample("routes");
        change(&mut relay);
        let names = |names: &&[&str]| names.iter().map(|&name| name.to_owned()).collect();
        let expected = Ways {
            upstreams: upstreams.iter().map(names).collect(),
            direct,
        };
        assert_eq!(validate(&relay, &nothing()).unwrap().ways, expected);
    }
}

#[test]
fn another_promise_replaces_the_pods() {
    let inputs = |mode| {
        let mut relay = sample("minimal");
        relay.spec.storage.mode = mode;
        let prepared = prepare(&relay, &nothing());
        let deployment = &prepared.objects.replicas[&0].deployment;
        let inputs = deployment["metadata"]["annotations"]["postroad.dev/inputs-hash"].clone();
        // Without another template Kubernetes replaces nothing.
        let template = deployment["spec"]["template"].clone();
        ((inputs, template), config(&relay, &nothing()).spool.mode)
    };
    let (usual, durable) = inputs(None);
    assert_eq!(durable, SpoolMode::Durable);
    // An operator that did not know of it has made templates without, of pods with any promise.
    let said = &usual.1["metadata"]["annotations"]["postroad.dev/storage-mode"];
    assert_eq!(said, "Durable");
    assert_eq!(inputs(Some(StorageMode::Durable)).0, usual);
    let (relaxed, mode) = inputs(Some(StorageMode::Relaxed));
    assert_eq!(mode, SpoolMode::Relaxed { sync_ms: 100 });
    assert_ne!(relaxed.0, usual.0);
    assert_ne!(relaxed.1, usual.1);
    let (passing, mode) = inputs(Some(StorageMode::Passthrough));
    assert_eq!(mode, SpoolMode::Passthrough);
    for other in [usual, relaxed] {
        assert_ne!(passing.0, other.0);
        assert_ne!(passing.1, other.1);
    }
}

#[test]
fn what_an_older_definition_let_through_of_delivery_is_refused() {
    for (change, expected) in [
        (
            (|relay| relay.spec.delivery.routes[0].to = Target::default()) as Change,
            "route \"newsletters\": to has to name upstreams",
        ),
        (
            |relay| {
                relay.spec.delivery.routes[0].to.upstreams = Some(vec!["other".into()]);
            },
            "delivery.routes[0].to: there is no upstream \"other\"",
        ),
        (
            |relay| {
                relay.spec.delivery.overrides[1].arrived_before = Some("yesterday".into());
            },
            "override \"flush\": arrivedBefore is no time",
        ),
        (
            |relay| relay.spec.delivery.overrides[2].reason = None,
            "delivery.overrides[2].action.reason",
        ),
        (
            |relay| {
                let choice = relay.spec.delivery.overrides[0].matches.as_mut().unwrap();
                choice.recipients = Some(vec![postroad_api::DomainPattern("a@b".into())]);
            },
            "pattern: \"a@b\"",
        ),
    ] {
        let mut relay = sample("routes");
        change(&mut relay);
        let refusal = validate(&relay, &nothing()).unwrap_err();
        assert_eq!(refusal.reason, "InvalidSpec");
        assert!(refusal.message.starts_with(expected), "{}", refusal.message);
    }
}
