//! What is built of a SmtpRelay: whole objects, as reviewed files.
//!
//! `UPDATE_TESTDATA=1 cargo test -p postroad-operator` writes `testdata/*/objects.yaml` anew.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;

use jiff::Timestamp;
use k8s_openapi::ByteString;
use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::core::v1::{Pod, Secret};
use postroad_api::{ANNOTATION_RESTARTED_AT, SecretRef, SmtpRelay};
use postroad_config::RelayConfig;
use serde_json::{Value, json};

use super::build::{self, Identity, Objects, Prepared};
use super::dereference::{self, Found, string_at};
use super::validate::{self, Missing, PodDefaults, Refusal, Validated};
use crate::args::Settings;
use crate::credentials_file::Login;
use crate::names::{LABEL_ORDINAL, RelayId};
use crate::rollout::Step;

mod delivery;
mod storage;
mod upgrade;

pub(super) use storage::with_pods;
pub(super) use upgrade::serving;

pub(super) const NOW: i64 = 1_800_000_000;

pub(super) fn now() -> Timestamp {
    Timestamp::from_second(NOW).unwrap()
}

pub(super) fn settings() -> Settings {
    Settings {
        relay_image: "postroad:test".into(),
        image_pull_policy: Some("IfNotPresent".into()),
        allowed_relay_images: vec!["registry.example.com".into()],
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
        proofs: Arc::default(),
        deployments: BTreeMap::new(),
        claims: BTreeMap::new(),
        pods: Vec::new(),
        all_pods: Vec::new(),
        service: None,
    }
}

fn log_in(found: &mut Found, password: &str) {
    let login = Login::of(password.into());
    found.logins.insert("shop.app".into(), login);
}

pub(super) fn validate(relay: &SmtpRelay, found: &Found) -> Result<Validated, Refusal> {
    let id = RelayId::of(relay).unwrap();
    validate::validate(relay, id, found, &settings())
}

pub(super) fn prepare(relay: &SmtpRelay, found: &Found) -> Prepared {
    build::build(validate(relay, found).unwrap(), found, now()).unwrap()
}

pub(super) fn secret(pairs: &[(&str, &str)]) -> Secret {
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
        rendered.push(with_one_template(&replica.deployment));
    }
    rendered
}

/// The template stands in a Deployment twice; once is enough to review.
fn with_one_template(deployment: &Value) -> Value {
    let mut shown = deployment.clone();
    let text = &mut shown["metadata"]["annotations"]["postroad.dev/pod-template"];
    let template: Value = serde_json::from_str(text.as_str().unwrap()).unwrap();
    assert_eq!(template, deployment["spec"]["template"]);
    *text = json!("(the one below)");
    shown
}

fn without_values(secret: &Secret) -> Value {
    let mut value = json!(secret);
    for (_, content) in value["data"].as_object_mut().unwrap() {
        *content = json!("(left out)");
    }
    value
}

#[test]
fn the_objects_of_six_relays_are_as_reviewed() {
    for name in [
        "minimal",
        "full",
        "ephemeral",
        "provided-certificate",
        "routes",
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
        "routes",
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
    log_in(&mut found, "a long secret");
    let first = prepare(&relay, &found);
    let mut found = applied(&first);
    log_in(&mut found, "a long secret");
    let second = prepare(&relay, &found);
    assert_eq!(json!(first.objects.secrets), json!(second.objects.secrets));
    assert_eq!(first.digests.content, second.digests.content);
    assert_eq!(second.notices, []);
}

/// What decides about a replacement, and the pod template, of a relay with a change.
fn shape(change: fn(&mut SmtpRelay)) -> (Value, Value) {
    let mut relay = sample("full");
    change(&mut relay);
    let prepared = prepare(&relay, &nothing());
    let deployment = &prepared.objects.replicas[&0].deployment;
    let annotations = &deployment["metadata"]["annotations"];
    (
        annotations["postroad.dev/inputs-hash"].clone(),
        deployment["spec"]["template"].clone(),
    )
}

type Change = fn(&mut SmtpRelay);

#[test]
fn what_the_relay_reloads_replaces_no_pod() {
    let rows: [(&str, Change); 13] = [
        ("limits", |relay| {
            relay.spec.limits.message_size = "10Mi".into()
        }),
        ("host", |relay| {
            relay.spec.delivery.upstreams[0].host = "other".into()
        }),
        ("retry", |relay| {
            relay.spec.delivery.retry.initial_seconds = 1
        }),
        ("networks", |relay| {
            relay.spec.access.trusted_networks.clear()
        }),
        ("hostname", |relay| relay.spec.hostname = None),
        ("ports", |relay| relay.spec.listeners.submission.port = 1587),
        ("listeners", |relay| {
            relay.spec.listeners.smtp.enabled = true
        }),
        ("upstream", |relay| {
            drop(relay.spec.delivery.upstreams.pop())
        }),
        ("preference", |relay| {
            relay.spec.delivery.upstreams.reverse()
        }),
        ("replicas", |relay| relay.spec.replicas = 5),
        ("size", |relay| relay.spec.storage.size = "20Gi".into()),
        ("service", |relay| relay.spec.service.annotations.clear()),
        ("annotations", |relay| {
            relay.metadata.annotations = Some([("a".into(), "b".into())].into());
        }),
    ];
    let before = shape(|_| ());
    for (what, change) in rows {
        assert_eq!(before, shape(change), "{what}");
    }
}

#[test]
fn what_its_user_writes_into_the_pod_replaces_it() {
    let rows: [(&str, Change); 7] = [
        ("image", |relay| relay.spec.image = None),
        ("login", |relay| {
            relay.spec.delivery.upstreams[0].auth = None
        }),
        ("authority", |relay| {
            relay.spec.delivery.upstreams[1].tls = None
        }),
        ("certificate", |relay| {
            relay.spec.tls.secret_ref = Some(SecretRef { name: "x".into() });
        }),
        ("resources", |relay| {
            relay.spec.resources = None;
        }),
        ("restart", |relay| restart(relay, "1800000000")),
        ("restart at a long time", |relay| {
            restart(relay, &"x".repeat(70_000))
        }),
    ];
    let before = shape(|_| ());
    for (what, change) in rows {
        let changed = shape(change);
        assert_ne!(before.0, changed.0, "{what}");
        assert_ne!(before.1, changed.1, "{what}");
        assert!(changed.1.to_string().len() < 10_000, "{what}");
    }
}

pub(super) fn restart(relay: &mut SmtpRelay, value: &str) {
    let pair = (ANNOTATION_RESTARTED_AT.to_owned(), value.to_owned());
    relay.metadata.annotations = Some([pair].into());
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
    log_in(&mut found, "a long secret");
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
fn only_a_queue_on_the_disk_of_the_node_has_a_bound_below_the_one_that_ends_the_pod() {
    let bound = |sample_name| {
        let validated = validate(&sample(sample_name), &nothing()).unwrap();
        RelayConfig::parse(&validated.config)
            .unwrap()
            .spool
            .bytes_max
    };
    assert_eq!(bound("minimal"), None);
    let size_limit = 256 << 20;
    assert_eq!(bound("ephemeral"), Some(size_limit - (32 << 20)));
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
            "OpenRelay: access.trustedNetworks: ::/0 would make an open relay: /7 is the widest",
        ),
        (
            refused(|relay| {
                let networks = ["10.0.0.0/8", "fc00::/7", "2000::/3"];
                relay.spec.access.trusted_networks =
                    networks.map(|one| postroad_api::Network(one.into())).into();
            }),
            "OpenRelay: access.trustedNetworks: 2000::/3 would",
        ),
        (
            refused(|relay| {
                let networks = ["192.0.2.1/32", "128.0.0.0/1"];
                relay.spec.access.trusted_networks =
                    networks.map(|one| postroad_api::Network(one.into())).into();
            }),
            "OpenRelay: access.trustedNetworks: 128.0.0.0/1 would make an open relay: /8 is the widest",
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
            refused(|relay| relay.spec.storage.size = "99Mi".into()),
            "InvalidSpec: storage.size is too small for a message of limits.messageSize",
        ),
        (
            refused(|relay| relay.spec.limits.connections = 2049),
            "InvalidSpec: limits.connections is more than resources.limits.memory",
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
    let mut broken = secret(&[("tls.crt", "x"), ("tls.key", "y")]);
    broken.metadata = RelayId::of(&relay).unwrap().meta("mail-ca".into());
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
fn an_authority_that_somebody_else_has_made_signs_nothing() {
    let relay = sample("minimal");
    let mut found = applied(&prepare(&relay, &nothing()));
    let authority = |found: &Found| match prepare(&relay, found).identity {
        Identity::Established { authority, .. } => authority.certificate,
        Identity::Unreadable { problem } => panic!("{problem}"),
    };
    let text = |found: &Found| string_at(found.secret("mail-ca").unwrap(), "tls.crt").unwrap();
    assert_eq!(authority(&found), text(&found));
    let theirs = found.secrets.get_mut("mail-ca").unwrap().as_mut().unwrap();
    theirs.metadata.labels = None;
    assert_ne!(authority(&found), text(&found));
}

#[test]
fn of_the_users_secrets_only_the_keys_that_are_needed_are_mounted() {
    for (name, volume, keys) in [
        ("provided-certificate", "tls", &["tls.crt", "tls.key"][..]),
        ("full", "login-provider", &["username", "password"]),
        ("full", "ca-backup", &["root.pem"]),
    ] {
        let prepared = prepare(&sample(name), &nothing());
        let pod = &prepared.objects.replicas[&0].deployment["spec"]["template"]["spec"];
        let mut volumes = pod["volumes"].as_array().unwrap().iter();
        let found = volumes.find(|found| found["name"] == volume).unwrap();
        let items = found["secret"]["items"].as_array().unwrap().iter();
        let mounted: Vec<_> = items.map(|item| item["key"].as_str().unwrap()).collect();
        assert_eq!(mounted, keys, "{volume}");
    }
}

#[test]
fn an_image_that_is_not_allowed_is_refused() {
    let mut relay = sample("minimal");
    relay.spec.image = Some("elsewhere.example.org/postroad:1".into());
    let refusal = validate(&relay, &nothing()).unwrap_err();
    assert_eq!(refusal.reason, "ImageNotAllowed");
}

#[test]
fn pods_of_an_image_that_is_no_longer_allowed_stay_and_all_else_is_kept() {
    let mut relay = sample("minimal");
    relay.spec.image = Some("registry.example.com/postroad:1".into());
    let found = with_pods(serving(&prepare(&relay, &nothing())));
    relay.spec.image = Some("elsewhere.example.org/postroad:1".into());
    relay.spec.replicas = 3;
    relay.spec.limits.recipients = 7;
    let mut found = found;
    log_in(&mut found, "a long secret");
    let prepared = prepare(&relay, &found);
    assert_eq!(prepared.plan, crate::rollout::Plan::default());
    assert!(prepared.validated.config.contains("recipients: 7"));
    let refusal = prepared.validated.pods_refused.unwrap();
    assert_eq!(refusal.reason, "ImageNotAllowed");
    let credentials = prepared.objects.secrets.last().unwrap();
    let text = string_at(credentials, "credentials.yaml").unwrap();
    assert!(text.contains("shop.app"), "{text}");
    let kept = prepared.objects.replicas[&0].kept.clone().unwrap();
    let image = &kept["spec"]["template"]["spec"]["containers"][0]["image"];
    assert_eq!(image, "registry.example.com/postroad:1");
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

fn pod(phase: &str) -> Arc<Pod> {
    let pod = json!({
        "metadata": {"name": "mail-0-x", "labels": {LABEL_ORDINAL: "0"}},
        "status": {"phase": phase},
    });
    Arc::new(serde_json::from_value(pod).unwrap())
}

#[test]
fn a_pod_that_has_outlived_its_deployment_is_waited_for_while_it_may_run() {
    for (phase, steps) in [
        ("Running", &[Step::Create(1)][..]),
        ("Pending", &[Step::Create(1)]),
        ("Failed", &[Step::Create(0), Step::Create(1)]),
        ("Succeeded", &[Step::Create(0), Step::Create(1)]),
    ] {
        let mut found = nothing();
        found.all_pods.push(pod(phase));
        let plan = prepare(&sample("minimal"), &found).plan;
        assert_eq!(plan.steps, steps, "{phase}");
        assert_eq!(plan.waiting.is_some(), steps.len() == 1, "{phase}");
    }
}

#[test]
fn a_pod_that_was_evicted_does_not_speak_for_its_replica() {
    let pods = dereference::pods(&[pod("Failed"), pod("Running")]);
    assert_eq!(pods.len(), 1);
}
