//! What becomes of a SmtpCredential.

use std::collections::BTreeMap;

use jiff::Timestamp;
use k8s_openapi::ByteString;
use k8s_openapi::api::core::v1::Secret;
use postroad_api::{SmtpCredential, SmtpRelay};

use super::build::{Prepared, build};
use super::dereference::{Found, FoundRelay};
use super::validate::{Refusal, validate};
use crate::args::Settings;
use crate::certificate::{self, Usage, Wanted};
use crate::context::CredentialsInForce;
use crate::controller::string_at;
use crate::names::RelayId;
use crate::places::Place;

fn settings() -> Settings {
    Settings {
        relay_image: String::new(),
        image_pull_policy: None,
        allowed_relay_images: Vec::new(),
        cluster_domain: "cluster.local".into(),
        namespaces: Vec::new(),
        health_listen: ([127, 0, 0, 1], 0).into(),
    }
}

fn credential() -> SmtpCredential {
    serde_saphyr::from_str(
        "{apiVersion: postroad.dev/v1alpha1, kind: SmtpCredential,
          metadata: {name: app, namespace: shop, uid: credential},
          spec: {relayRef: {name: mail, namespace: infra}}}",
    )
    .unwrap()
}

fn relay(spec: &str) -> SmtpRelay {
    serde_saphyr::from_str(&format!(
        "apiVersion: postroad.dev/v1alpha1
kind: SmtpRelay
metadata: {{name: mail, namespace: infra, uid: relay}}
spec:
  delivery: {{upstreams: [{{name: a, host: b, port: 25}}]}}
  {spec}"
    ))
    .unwrap()
}

fn secret(owner: &str, pairs: &[(&str, &str)]) -> Secret {
    let data: BTreeMap<_, _> = pairs
        .iter()
        .map(|&(key, value)| (key.to_owned(), ByteString(value.into())))
        .collect();
    let mut secret: Secret = serde_json::from_value(serde_json::json!({
        "metadata": {"ownerReferences":
            [{"apiVersion": "v1", "kind": "X", "name": "x", "uid": owner}]},
    }))
    .unwrap();
    secret.data = Some(data);
    secret
}

fn found(spec: &str, certificate: Option<Secret>, secret: Option<Secret>) -> Found {
    let relay = relay(spec);
    Found {
        relay: Some(FoundRelay {
            id: RelayId::of(&relay).unwrap(),
            relay,
            certificate,
            credentials: None,
            place: Place::Taken,
            in_force: CredentialsInForce::Unknown,
        }),
        secret,
    }
}

const ALLOWED: &str = "access: {namespaces: [shop]}";

fn prepare(found: &Found) -> Result<Prepared, Refusal> {
    validate(&credential(), found, &settings()).map(|validated| build(validated).unwrap())
}

fn values(prepared: &Prepared) -> Vec<String> {
    let keys = prepared.secret.data.as_ref().unwrap().keys();
    keys.map(|key| {
        let value = string_at(&prepared.secret, key).unwrap();
        format!("{key}={}", value.replace(&prepared.password, "PASSWORD"))
    })
    .collect()
}

#[test]
fn the_secret_is_a_service_binding() {
    let authority = secret("relay", &[("ca.crt", "PEM")]);
    let prepared = prepare(&found(ALLOWED, Some(authority), None)).unwrap();
    assert_eq!(
        prepared.secret.type_.as_deref(),
        Some("servicebinding.io/smtp")
    );
    assert_eq!(
        values(&prepared),
        [
            "certificates=PEM",
            "host=mail.infra.svc.cluster.local",
            "host-port=mail.infra.svc.cluster.local:587",
            "password=PASSWORD",
            "port=587",
            "provider=postroad",
            "transport-security=starttls",
            "type=smtp",
            "uri=smtp://shop.app:PASSWORD@mail.infra.svc.cluster.local:587",
            "username=shop.app",
        ]
    );
    assert_eq!(prepared.password.len(), 43);
    let owner = &prepared.secret.metadata.owner_references.as_ref().unwrap()[0];
    assert_eq!(
        (owner.uid.as_str(), owner.controller),
        ("credential", Some(true))
    );
}

#[test]
fn a_password_stays_once_it_is_handed_out_and_no_two_are_the_same() {
    let existing = secret("credential", &[("password", "chosen by hand")]);
    assert_eq!(
        prepare(&found(ALLOWED, None, Some(existing)))
            .unwrap()
            .password,
        "chosen by hand"
    );
    let new = || prepare(&found(ALLOWED, None, None)).unwrap().password;
    assert_ne!(new(), new());
    let emptied = secret("credential", &[("password", "")]);
    assert_eq!(
        prepare(&found(ALLOWED, None, Some(emptied)))
            .unwrap()
            .password
            .len(),
        43
    );
}

#[test]
fn the_best_listener_is_handed_out() {
    for (listeners, expected) in [
        ("{}", Ok("smtp 587 starttls")),
        ("{submission: {port: 1587}}", Ok("smtp 1587 starttls")),
        ("{submission: {enabled: false}}", Ok("smtps 465 tls")),
        (
            "{submission: {enabled: false}, submissions: {enabled: false}}",
            Ok("smtp 2525 starttls"),
        ),
        (
            "{submission: {auth: Disabled}, submissions: {enabled: false},
              alternate: {tls: Disabled, auth: Disabled}}",
            Ok("smtp 25 starttls"),
        ),
        (
            "{submission: {enabled: false}, submissions: {auth: Disabled},
              alternate: {auth: Disabled}, smtp: {enabled: false}}",
            Err("NoListener"),
        ),
    ] {
        let found = found(&format!("{ALLOWED}\n  listeners: {listeners}"), None, None);
        let result = prepare(&found)
            .map_err(|refusal| refusal.reason)
            .map(|prepared| {
                let get = |key| string_at(&prepared.secret, key).unwrap();
                let uri = get("uri");
                let (scheme, _) = uri.split_once(':').unwrap();
                format!("{scheme} {} {}", get("port"), get("transport-security"))
            });
        assert_eq!(
            result.as_deref().map_err(|reason| *reason),
            expected,
            "{listeners}"
        );
    }
}

#[test]
fn the_host_is_one_that_the_certificate_is_valid_for() {
    let now = Timestamp::from_second(1_800_000_000).unwrap();
    let authority = certificate::authority(None, "x", now).unwrap();
    let certificate = |name: &str| {
        let wanted = Wanted {
            common_name: "x".into(),
            names: vec![name.into()],
            usage: Usage::Server,
        };
        let leaf = certificate::leaf(authority.pair(), None, &wanted, now).unwrap();
        secret("user", &[("tls.crt", &leaf.pair().certificate)])
    };
    let spec = format!("{ALLOWED}\n  hostname: mail.example.com");
    let service = "mail.infra.svc.cluster.local";
    for (name, host) in [
        ("mail.example.com", "mail.example.com"),
        ("*.example.com", "mail.example.com"),
        (service, service),
        ("*.infra.svc.cluster.local", service),
        ("elsewhere.example.org", service),
    ] {
        let prepared = prepare(&found(&spec, Some(certificate(name)), None)).unwrap();
        assert_eq!(
            string_at(&prepared.secret, "host").as_deref(),
            Some(host),
            "{name}"
        );
    }
}

#[test]
fn a_credential_that_may_not_be_is_told_why() {
    let taken = secret("somebody", &[("password", "theirs")]);
    let short = secret("credential", &[("password", "elevenchars")]);
    let without = |place| {
        let mut found = found(ALLOWED, None, None);
        found.relay.as_mut().unwrap().place = place;
        found
    };
    let missing = Found {
        relay: None,
        secret: None,
    };
    for (found, reason, hint) in [
        (
            missing,
            "RelayNotFound",
            "no SmtpRelay \"mail\" in namespace \"infra\"",
        ),
        (
            found("", None, None),
            "NamespaceNotAllowed",
            "spec.access.namespaces",
        ),
        (
            found("access: {namespaces: [blog]}", None, None),
            "NamespaceNotAllowed",
            "spec.access.namespaces",
        ),
        (
            found(ALLOWED, None, Some(taken)),
            "SecretNameTaken",
            "spec.secretName",
        ),
        (
            found(ALLOWED, None, Some(short)),
            "PasswordTooShort",
            "fewer than 12 characters",
        ),
        (
            without(Place::NamespaceFull),
            "TooManyCredentials",
            "200 SmtpCredentials of one namespace, and \"shop\" has older ones",
        ),
        (
            without(Place::RelayFull),
            "TooManyCredentials",
            "honours 1000 SmtpCredentials",
        ),
    ] {
        let Err(refusal) = prepare(&found) else {
            panic!("{reason} was accepted");
        };
        assert_eq!(refusal.reason, reason);
        assert!(refusal.message.contains(hint), "{}", refusal.message);
    }
    assert!(
        prepare(&super::tests::found(
            "access: {namespaces: [\"*\"]}",
            None,
            None
        ))
        .is_ok()
    );
}
