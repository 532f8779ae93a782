//! What is built of a SmtpRelay: whole objects, as reviewed files.
//!
//! `UPDATE_TESTDATA=1 cargo test -p postroad-operator` writes `testdata/*/objects.yaml` anew.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;

use jiff::Timestamp;
use k8s_openapi::ByteString;
use k8s_openapi::api::core::v1::Secret;
use postroad_api::SmtpRelay;
use postroad_config::RelayConfig;
use serde_json::{Value, json};

use super::build::{self, Identity, Objects, Prepared};
use super::dereference::Found;
use super::validate::{self, Missing, Refusal, Validated};
use crate::args::Settings;
use crate::names::RelayId;
use crate::rollout::Step;

pub(super) const NOW: i64 = 1_800_000_000;

pub(super) fn now() -> Timestamp {
    Timestamp::from_second(NOW).unwrap()
}

fn settings() -> Settings {
    Settings {
        relay_image: "postroad:test".into(),
        image_pull_policy: Some("IfNotPresent".into()),
        cluster_domain: "cluster.local".into(),
        namespaces: Vec::new(),
        health_listen: ([127, 0, 0, 1], 0).into(),
    }
}

fn folder(sample: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
        .join("src/controller/testdata")
        .join(sample)
}

pub(super) fn sample(name: &str) -> SmtpRelay {
    let text = std::fs::read_to_string(folder(name).join("relay.yaml")).unwrap();
    serde_saphyr::from_str(&text).unwrap()
}

pub(super) fn nothing() -> Found {
    Found {
        secrets: BTreeMap::new(),
        logins: BTreeMap::new(),
        deployments: BTreeMap::new(),
        claims: BTreeMap::new(),
        pods: Vec::new(),
        lingering: BTreeSet::new(),
        service: None,
    }
}

pub(super) fn validate(relay: &SmtpRelay, found: &Found) -> Result<Validated, Refusal> {
    let id = RelayId::of(relay).unwrap();
    validate::validate(relay, id, found, &settings())
}

pub(super) fn prepare(relay: &SmtpRelay, found: &Found) -> Prepared {
    build::build(validate(relay, found).unwrap(), found, now()).unwrap()
}

fn secret(pairs: &[(&str, &str)]) -> Secret {
    let data = pairs
        .iter()
        .map(|&(key, value)| (key.to_owned(), ByteString(value.into())))
        .collect();
    Secret {
        data: Some(data),
        ..Secret::default()
    }
}

/// What is found after `prepared` has been applied.
pub(super) fn applied(prepared: &Prepared) -> Found {
    let mut found = nothing();
    for secret in &prepared.objects.secrets {
        found
            .secrets
            .insert(secret.metadata.name.clone().unwrap(), Some(secret.clone()));
    }
    found
}

/// The objects in the order in which they are applied, with the values of Secrets left out.
fn rendered(objects: &Objects) -> Vec<Value> {
    let Objects {
        service_account,
        secrets,
        config_map,
        services,
        budget,
        replicas,
    } = objects;
    let mut rendered = vec![json!(service_account)];
    rendered.extend(secrets.iter().map(without_values));
    rendered.push(json!(config_map));
    rendered.extend(services.iter().map(|service| json!(service)));
    rendered.extend(budget.iter().map(|budget| json!(budget)));
    for replica in replicas.values() {
        rendered.extend(replica.claim.iter().map(|claim| json!(claim)));
        rendered.push(json!(replica.deployment));
    }
    rendered
}

fn without_values(secret: &Secret) -> Value {
    let mut value = json!(secret);
    for (_, content) in value["data"].as_object_mut().unwrap() {
        *content = json!("(left out)");
    }
    value
}

#[test]
fn the_objects_of_five_relays_are_as_reviewed() {
    for name in [
        "minimal",
        "full",
        "ephemeral",
        "provided-certificate",
        "single",
    ] {
        let prepared = prepare(&sample(name), &nothing());
        let documents: Vec<_> = rendered(&prepared.objects)
            .iter()
            .map(|object| serde_saphyr::to_string(object).unwrap())
            .collect();
        let built = documents.join("---\n");
        let path = folder(name).join("objects.yaml");
        if std::env::var_os("UPDATE_TESTDATA").is_some() {
            std::fs::write(&path, &built).unwrap();
        }
        let reviewed = std::fs::read_to_string(&path).unwrap_or_default();
        assert!(
            built == reviewed,
            "{name}: the objects differ from {}: run with UPDATE_TESTDATA=1 and look at the difference",
            path.display()
        );
    }
}

#[test]
fn the_configuration_reads_back_as_what_was_rendered() {
    for name in [
        "minimal",
        "full",
        "ephemeral",
        "provided-certificate",
        "single",
    ] {
        let validated = validate(&sample(name), &nothing()).unwrap();
        let config = RelayConfig::parse(&validated.config).unwrap();
        assert_eq!(config.render().unwrap(), validated.config, "{name}");
    }
}

#[test]
fn what_has_been_applied_is_built_again_to_the_byte() {
    let relay = sample("full");
    let mut found = nothing();
    found.logins.insert("shop.app".into(), "secret".into());
    let first = prepare(&relay, &found);
    let mut found = applied(&first);
    found.logins.insert("shop.app".into(), "secret".into());
    let second = prepare(&relay, &found);
    assert_eq!(json!(first.objects.secrets), json!(second.objects.secrets));
    assert_eq!(first.digests.content, second.digests.content);
    assert_eq!(second.notices, []);
}

#[test]
fn what_the_relay_reloads_replaces_no_pod() {
    let relay = sample("full");
    let template = |relay: &SmtpRelay| {
        let prepared = prepare(relay, &nothing());
        json!(
            prepared.objects.replicas[&0]
                .deployment
                .spec
                .as_ref()
                .unwrap()
                .template
        )
    };
    let before = template(&relay);
    let with = |change: fn(&mut SmtpRelay)| {
        let mut relay = relay.clone();
        change(&mut relay);
        template(&relay)
    };
    for (what, changed) in [
        (
            "limits",
            with(|relay| relay.spec.limits.message_size = "10Mi".into()),
        ),
        (
            "host",
            with(|relay| relay.spec.delivery.upstreams[0].host = "other".into()),
        ),
        (
            "retry",
            with(|relay| relay.spec.delivery.retry.initial_seconds = 1),
        ),
        (
            "networks",
            with(|relay| relay.spec.access.trusted_networks.clear()),
        ),
        ("hostname", with(|relay| relay.spec.hostname = None)),
        (
            "ports",
            with(|relay| relay.spec.listeners.submission.port = 1587),
        ),
        (
            "listeners",
            with(|relay| relay.spec.listeners.smtp.enabled = true),
        ),
        (
            "upstream",
            with(|relay| drop(relay.spec.delivery.upstreams.pop())),
        ),
        ("replicas", with(|relay| relay.spec.replicas = 5)),
        (
            "service",
            with(|relay| relay.spec.service.annotations.clear()),
        ),
    ] {
        assert_eq!(before, changed, "{what}");
    }
    for (what, changed) in [
        ("image", with(|relay| relay.spec.image = None)),
        (
            "login",
            with(|relay| relay.spec.delivery.upstreams[0].auth = None),
        ),
    ] {
        assert_ne!(before, changed, "{what}");
    }
}

#[test]
fn the_content_of_every_mounted_file_is_watched() {
    let relay = sample("full");
    let first = prepare(&relay, &nothing());
    let mut found = applied(&first);
    found
        .secrets
        .insert("provider-login".into(), Some(secret(&[("password", "1")])));
    let content = |found: &Found| prepare(&relay, found).digests.content;
    let before = content(&found);
    assert_ne!(before, first.digests.content);
    found
        .secrets
        .insert("provider-login".into(), Some(secret(&[("password", "2")])));
    let login = content(&found);
    assert_ne!(before, login);
    found
        .secrets
        .insert("backup-ca".into(), Some(secret(&[("root.pem", "x")])));
    let authority = content(&found);
    assert_ne!(login, authority);
    found.logins.insert("shop.app".into(), "secret".into());
    assert_ne!(authority, content(&found));
}

#[test]
fn what_is_missing_is_named() {
    let relay = sample("full");
    let absent = |name: &str| Missing::Secret { name: name.into() };
    let keyless = |secret: &str, key: &str| Missing::Key {
        secret: secret.into(),
        key: key.into(),
    };
    let login = secret(&[("username", "u"), ("password", "p")]);
    let ca = secret(&[("root.pem", "x")]);
    for (login, ca, expected) in [
        (
            None,
            None,
            vec![absent("backup-ca"), absent("provider-login")],
        ),
        (Some(login.clone()), Some(ca.clone()), vec![]),
        (
            Some(secret(&[("username", "u"), ("password", " \n")])),
            Some(secret(&[("ca.crt", "x")])),
            vec![
                keyless("backup-ca", "root.pem"),
                keyless("provider-login", "password"),
            ],
        ),
    ] {
        let mut found = nothing();
        found.secrets.insert("provider-login".into(), login);
        found.secrets.insert("backup-ca".into(), ca);
        assert_eq!(validate(&relay, &found).unwrap().missing, expected);
    }
    let relay = sample("provided-certificate");
    let missing = validate(&relay, &nothing()).unwrap().missing;
    assert_eq!(missing, [absent("mail-example-com")]);
}

#[test]
fn what_an_older_definition_let_through_is_refused() {
    let refused = |change: fn(&mut SmtpRelay)| {
        let mut relay = sample("minimal");
        change(&mut relay);
        let Refusal { reason, message } = validate(&relay, &nothing()).unwrap_err();
        format!("{reason}: {message}")
    };
    for (refusal, expected) in [
        (
            refused(|relay| relay.metadata.name = Some("a".repeat(44))),
            "InvalidName: ",
        ),
        (
            refused(|relay| {
                relay.spec.access.trusted_networks = vec![postroad_api::Network("::/0".into())];
            }),
            "OpenRelay: access.trustedNetworks: ::/0",
        ),
        (
            refused(|relay| {
                relay.spec.access.trusted_networks = vec![postroad_api::Network("10".into())];
            }),
            "InvalidSpec: access.trustedNetworks: \"10\" is no network",
        ),
        (
            refused(|relay| relay.spec.limits.message_size = "1.5Gi".into()),
            "InvalidSpec: limits.messageSize",
        ),
        (
            refused(|relay| relay.spec.delivery.upstreams.clear()),
            "InvalidSpec: delivery.upstreams",
        ),
        (
            refused(|relay| {
                let first = relay.spec.delivery.upstreams[0].clone();
                relay.spec.delivery.upstreams.push(first);
            }),
            "InvalidSpec: delivery.upstreams[1]: the same name stands twice",
        ),
    ] {
        assert!(refusal.starts_with(expected), "{refusal}");
    }
}

#[test]
fn an_authority_that_cannot_be_read_is_left_alone_with_all_it_has_signed() {
    let relay = sample("minimal");
    let mut found = applied(&prepare(&relay, &nothing()));
    let broken = secret(&[("tls.crt", "x"), ("tls.key", "y")]);
    found.secrets.insert("mail-ca".into(), Some(broken));
    let prepared = prepare(&relay, &found);
    assert!(matches!(prepared.identity, Identity::Unreadable { .. }));
    let names: Vec<_> = prepared
        .objects
        .secrets
        .iter()
        .map(|secret| secret.metadata.name.as_deref())
        .collect();
    assert_eq!(names, [Some("mail-credentials")]);
}

#[test]
fn a_new_relay_is_created_whole() {
    let prepared = prepare(&sample("minimal"), &nothing());
    assert_eq!(prepared.plan.steps, [Step::Create(0), Step::Create(1)]);
    let reasons: Vec<_> = prepared
        .notices
        .iter()
        .map(|notice| notice.reason)
        .collect();
    assert_eq!(reasons, ["CertificateIssued", "CertificateIssued"]);
}

#[test]
fn a_pod_that_has_outlived_its_deployment_is_waited_for() {
    let mut found = nothing();
    found.lingering.insert(0);
    let prepared = prepare(&sample("minimal"), &found);
    assert_eq!(prepared.plan.steps, [Step::Create(1)]);
    assert!(prepared.plan.waiting.is_some());
}
