//! What is sent to the API server, and what comes of its answers.

use std::sync::{Arc, Mutex};

use http_body_util::BodyExt as _;
use hyper::{Request, Response};
use kube::Client;
use kube::client::Body;
use serde_json::Value;

use super::*;
use crate::admin::Admin;
use crate::certificate::Pair;
use crate::context::{AppliedObjects, InForce, lock};
use crate::controller::Resting;
use crate::controller::tests::{
    nothing, now, prepare, sample, secret, serving, settings, validate, with_pods,
};
use crate::events::Announcer;
use crate::health::Metrics;
use crate::retry::Failures;
use crate::rollout::Step;
use crate::watch::{Cache, Caches};

mod claims;

fn pod(mark: Option<&str>, config: &str, refused: Option<&str>) -> FoundPod {
    let status = json!({
        "version": "1", "draining": false,
        "config": {"hash": config, "credentialsHash": "credentials", "refused": refused},
        "queue": {"messages": 0, "bytes": 0, "deferred": 0, "oldestArrival": null},
        "totals": {"accepted": 0, "delivered": 0, "deferred": 0, "failed": 0},
        "upstreams": [], "certificate": null,
        "spool": {"persistent": true, "failure": null, "corrupt": 0},
    });
    let mut pod = k8s_openapi::api::core::v1::Pod::default();
    pod.metadata.annotations =
        mark.map(|mark| [(ANNOTATION_CONTENT.to_owned(), mark.to_owned())].into());
    FoundPod {
        pod: Arc::new(pod),
        ordinal: 0,
        address: None,
        ready: true,
        status: Some(serde_json::from_value(status).unwrap()),
    }
}

#[test]
fn a_pod_is_touched_until_it_has_the_files_in_force() {
    let digests = Digests {
        content: "content".into(),
        config: "config".into(),
        credentials: "credentials".into(),
        certificate: None,
    };
    for (pod, expected) in [
        (pod(None, "config", None), Some("content")),
        (pod(Some("other"), "config", None), Some("content")),
        (pod(Some("content"), "config", None), None),
        (pod(Some("content"), "old", None), Some("content.")),
        (pod(Some("content."), "old", None), Some("content..")),
        (pod(Some("content.."), "old", None), Some("content")),
        (pod(Some("content."), "config", None), None),
        (pod(Some("content"), "old", Some("cannot parse")), None),
    ] {
        assert_eq!(mark(&digests, &pod).as_deref(), expected);
    }
}

/// An API server that answers what it is told to, and remembers what it was asked.
#[derive(Default)]
struct Server {
    /// Method and path, and the body.
    asked: Mutex<Vec<(String, Value)>>,
    /// The status and the body, by method and path.
    answers: Vec<(&'static str, u16, Value)>,
}

impl Server {
    /// One that has exactly what was found.
    fn of(found: &Found) -> Self {
        let deployments = found.deployments.values().map(|found| &found.metadata);
        let claims = found.claims.values().map(|found| &found.metadata);
        let answers = vec![
            (
                "GET deployments",
                200,
                list(deployments.map(|meta| json!(meta))),
            ),
            (
                "GET persistentvolumeclaims",
                200,
                list(claims.map(|meta| json!(meta))),
            ),
            ("GET pods", 200, list(std::iter::empty())),
            ("GET smtprelays/mail", 200, relay(&json!({}))),
        ];
        Self {
            answers,
            ..Self::default()
        }
    }

    /// The answer to what comes first counts.
    fn answering(mut self, asked: &'static str, status: u16, body: Value) -> Self {
        self.answers.insert(0, (asked, status, body));
        self
    }

    fn answer(&self, asked: &str) -> (u16, Value) {
        let mut answers = self.answers.iter();
        let answer = answers.find(|(prefix, ..)| asked == *prefix);
        answer.map_or_else(
            || default_answer(asked),
            |(_, status, body)| (*status, body.clone()),
        )
    }

    /// What was written, in order.
    fn written(&self) -> Vec<String> {
        let asked = lock(&self.asked);
        let lines = asked.iter().map(|(line, _)| line.clone());
        lines.filter(|line| !line.starts_with("GET ")).collect()
    }

    /// The body of the first such request.
    fn body(&self, line: &str) -> Value {
        let asked = lock(&self.asked);
        let mut asked = asked.iter();
        asked.find(|(other, _)| other == line).unwrap().1.clone()
    }
}

/// The metadata of the relay, with some changes.
fn relay(changes: &Value) -> Value {
    let mut meta = json!(sample("minimal").metadata);
    meta.as_object_mut()
        .unwrap()
        .extend(changes.as_object().unwrap().clone());
    json!({"apiVersion": "meta.k8s.io/v1", "kind": "PartialObjectMetadata", "metadata": meta})
}

fn default_answer(asked: &str) -> (u16, Value) {
    match asked.split_once(' ').unwrap() {
        ("PATCH", path) if path.starts_with("deployments/") => (
            200,
            json!({
                "apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"resourceVersion": "9"},
            }),
        ),
        ("DELETE", _) => (
            200,
            json!({"apiVersion": "v1", "kind": "Status", "status": "Success"}),
        ),
        _ => failure(404, "NotFound"),
    }
}

fn failure(code: u16, reason: &str) -> (u16, Value) {
    let status = json!({
        "apiVersion": "v1", "kind": "Status", "status": "Failure",
        "message": reason, "reason": reason, "code": code,
    });
    (code, status)
}

fn conflict() -> Value {
    failure(409, "Conflict").1
}

fn list(metas: impl Iterator<Item = Value>) -> Value {
    let item = |meta| json!({"apiVersion": "meta.k8s.io/v1", "kind": "PartialObjectMetadata", "metadata": meta});
    let items: Vec<_> = metas.map(item).collect();
    json!({"apiVersion": "meta.k8s.io/v1", "kind": "PartialObjectMetadataList", "metadata": {}, "items": items})
}

fn client(server: &Arc<Server>) -> Client {
    let server = Arc::clone(server);
    let service = tower::service_fn(move |request: Request<Body>| {
        let server = Arc::clone(&server);
        async move {
            let (parts, body) = request.into_parts();
            let path = parts.uri.path().split("/namespaces/infra/").nth(1).unwrap();
            let line = format!("{} {path}", parts.method);
            let body = body.collect().await.unwrap().to_bytes();
            let body = serde_json::from_slice(&body).unwrap_or(Value::Null);
            lock(&server.asked).push((line.clone(), body));
            let (status, answer) = server.answer(&line);
            let answer = Body::from(answer.to_string().into_bytes());
            Response::builder().status(status).body(answer)
        }
    });
    Client::new(service, "infra")
}

fn context(server: &Arc<Server>) -> Context {
    let client = client(server);
    Context {
        announcer: Announcer::new(client.clone()),
        client,
        settings: settings(),
        caches: Caches {
            relays: Cache::new(Vec::new()),
            credentials: Cache::new(Vec::new()),
            deployments: Cache::new(Vec::new()),
            claims: Cache::new(Vec::new()),
            pods: Cache::new(Vec::new()),
            services: Cache::new(Vec::new()),
            config_maps: Cache::new(Vec::new()),
            service_accounts: Cache::new(Vec::new()),
            budgets: Cache::new(Vec::new()),
        },
        metrics: Metrics::new().0,
        admin: Admin::default(),
        failures: Failures::default(),
        applied: AppliedObjects::default(),
        in_force: InForce::default(),
        resting: Resting::default(),
        proofs: Arc::default(),
    }
}

/// Takes one step of a relay whose two replicas serve, or none; says what was written and told.
async fn take(
    step: Option<Step>,
    server: impl Fn(Server) -> Server,
) -> (Arc<Server>, Vec<&'static str>) {
    let found = with_pods(serving(&prepare(&sample("minimal"), &nothing())));
    take_of(&found, step, server).await
}

async fn take_of(
    found: &Found,
    step: Option<Step>,
    server: impl Fn(Server) -> Server,
) -> (Arc<Server>, Vec<&'static str>) {
    take_with(None, found, step, server).await
}

async fn take_with(
    authority: Option<&Pair>,
    found: &Found,
    step: Option<Step>,
    server: impl Fn(Server) -> Server,
) -> (Arc<Server>, Vec<&'static str>) {
    let server = Arc::new(server(Server::of(found)));
    let context = context(&server);
    let told = visit(&context, authority, found, step).await;
    (server, told)
}

/// Takes one step, or none; says what was told.
async fn visit(
    context: &Context,
    authority: Option<&Pair>,
    found: &Found,
    step: Option<Step>,
) -> Vec<&'static str> {
    let prepared = prepare(&sample("minimal"), found);
    let steps = replicas::Steps {
        context,
        validated: &prepared.validated,
        found,
        authority,
        replicas: &prepared.objects.replicas,
    };
    let plan = Plan {
        steps: step.into_iter().collect(),
        waiting: None,
    };
    let notices = steps.take(&plan).await.unwrap();
    notices.iter().map(|notice| notice.reason).collect()
}

const MEND: [&str; 2] = ["PATCH deployments/mail-0", "PATCH deployments/mail-1"];

#[tokio::test]
async fn deletes_name_the_very_version_that_was_seen() {
    let (server, told) = take(Some(Step::Remove(1)), |server| server).await;
    let (deployment, claim) = (
        "DELETE deployments/mail-1",
        "DELETE persistentvolumeclaims/mail-1",
    );
    assert_eq!(server.written(), [MEND[0], deployment, claim]);
    assert_eq!(told, ["DrainFinished"]);
    for (line, uid, version) in [(deployment, "deployment", "7"), (claim, "claim", "8")] {
        let expected = json!({"uid": uid, "resourceVersion": version});
        assert_eq!(server.body(line)["preconditions"], expected, "{line}");
    }
}

#[tokio::test]
async fn a_replica_that_is_not_what_was_seen_keeps_its_claim() {
    for (code, reason) in [(409, "Conflict"), (404, "NotFound")] {
        let deployment = "DELETE deployments/mail-1";
        let (server, told) = take(Some(Step::Remove(1)), |server| {
            server.answering(deployment, code, failure(code, reason).1)
        })
        .await;
        assert_eq!(server.written(), [MEND[0], deployment], "{reason}");
        assert!(told.is_empty(), "{told:?}");
    }
    let claim = "DELETE persistentvolumeclaims/mail-1";
    let (_, told) = take(Some(Step::Remove(1)), |server| {
        server.answering(claim, 409, conflict())
    })
    .await;
    assert!(told.is_empty(), "{told:?}");
}

#[tokio::test]
async fn a_pod_that_was_empty_has_to_say_so_again_before_its_mail_would_go() {
    let mut found = with_pods(serving(&prepare(&sample("minimal"), &nothing())));
    // It cannot be reached any more: nobody listens, and there is nothing to ask it with.
    found.pods[1].status = pod(None, "config", None).status;
    let deletes = async |found: &Found, step| {
        let (server, _) = take_of(found, Some(step), |server| server).await;
        let mut written = server.written().into_iter();
        written.any(|line| line.starts_with("DELETE "))
    };
    assert!(!deletes(&found, Step::Remove(1)).await);
    assert!(deletes(&found, Step::Remove(0)).await);
    // Its claim stays, and the mail in it.
    assert!(deletes(&found, Step::Restart(1)).await);
    // It has not mounted it: its mail goes with it.
    let mut own = with_pods(serving(&prepare(&sample("minimal"), &nothing())));
    own.pods[1].status = found.pods[1].status.clone();
    Arc::make_mut(&mut own.pods[1].pod).spec = None;
    assert!(!deletes(&own, Step::Restart(1)).await);
    let mut claim = (*found.claims[&1]).clone();
    claim.metadata.deletion_timestamp =
        Some(k8s_openapi::apimachinery::pkg::apis::meta::v1::Time(now()));
    found.claims.insert(1, Arc::new(claim));
    assert!(!deletes(&found, Step::Restart(1)).await);
}

#[tokio::test]
async fn a_drain_is_noted_on_the_version_that_was_seen_with_the_pod_that_is_told() {
    let mut found = serving(&prepare(&sample("minimal"), &nothing()));
    let mut told = pod(None, "config", None);
    told.ordinal = 1;
    told.address = Some([127, 0, 0, 1].into());
    let mut meta = (*told.pod).clone();
    meta.metadata.uid = Some("pod".into());
    told.pod = Arc::new(meta);
    found.pods.push(told);
    let nonsense = Pair {
        certificate: String::new(),
        key: String::new(),
    };
    let line = "PATCH deployments/mail-1";
    let (server, _) = take_with(Some(&nonsense), &found, Some(Step::Drain(1)), |server| {
        server
    })
    .await;
    let meta = &server.body(line)["metadata"];
    let seen = (&meta["uid"], &meta["resourceVersion"]);
    assert_eq!(seen, (&json!("deployment"), &json!("7")));
    let annotations = &meta["annotations"];
    assert_eq!(annotations["postroad.dev/draining-pod"], "pod");
    assert!(annotations["postroad.dev/draining-since"].is_string());
    for (code, reason) in [(409, "Conflict"), (404, "NotFound")] {
        let (_, told) = take_with(Some(&nonsense), &found, Some(Step::Drain(1)), |server| {
            server.answering(line, code, failure(code, reason).1)
        })
        .await;
        assert!(told.is_empty(), "{told:?}");
    }
}

#[tokio::test]
async fn nothing_is_disrupted_on_old_news() {
    let another = || list(std::iter::once(json!({"name": "mail-0-x", "uid": "pod"})));
    let restarted = json!({"postroad.dev/restartedAt": "1800000000"});
    for (asked, answer) in [
        ("GET deployments", another()),
        ("GET persistentvolumeclaims", another()),
        ("GET pods", another()),
        ("GET smtprelays/mail", relay(&json!({"generation": 2}))),
        ("GET smtprelays/mail", relay(&json!({"uid": "another"}))),
        (
            "GET smtprelays/mail",
            relay(&json!({"annotations": restarted})),
        ),
        (
            "GET smtprelays/mail",
            relay(&json!({"deletionTimestamp": "2026-01-01T00:00:00Z"})),
        ),
    ] {
        for (step, mended) in [
            (Step::Remove(1), &MEND[..1]),
            (Step::Restart(0), &MEND[1..]),
            (Step::Roll(0), &MEND[1..]),
        ] {
            let (server, told) = take(Some(step), |server| {
                server.answering(asked, 200, answer.clone())
            })
            .await;
            assert_eq!(server.written(), mended, "{step:?} {asked} {answer}");
            assert!(told.is_empty(), "{told:?}");
        }
    }
}

#[tokio::test]
async fn a_deployment_is_written_over_the_version_that_was_seen_and_no_other() {
    for (step, expected) in [(None, &[][..]), (Some(Step::Roll(0)), &["ReplicaRolled"])] {
        let (server, told) = take(step, |server| server).await;
        let mut written = server.written();
        written.sort();
        assert_eq!(written, MEND);
        assert_eq!(told, expected);
        for line in MEND {
            let meta = &server.body(line)["metadata"];
            let version = (&meta["uid"], &meta["resourceVersion"]);
            assert_eq!(version, (&json!("deployment"), &json!("7")), "{line}");
        }
        let (_, told) = take(step, |server| server.answering(MEND[0], 409, conflict())).await;
        assert!(told.is_empty(), "{told:?}");
    }
}

#[tokio::test]
async fn a_deployment_that_was_not_seen_is_left_to_the_next_visit() {
    let relay = sample("minimal");
    let prepared = prepare(&relay, &nothing());
    let found = nothing();
    let live = &prepared.objects.replicas[&0].deployment["metadata"];
    let live =
        json!({"apiVersion": "meta.k8s.io/v1", "kind": "PartialObjectMetadata", "metadata": live});
    let claim = json!({"apiVersion": "v1", "kind": "PersistentVolumeClaim", "metadata": {}});
    let server = Server::of(&found)
        .answering("GET deployments/mail-0", 200, live)
        .answering("PATCH persistentvolumeclaims/mail-0", 200, claim);
    let server = Arc::new(server);
    let context = context(&server);
    let steps = replicas::Steps {
        context: &context,
        validated: &prepared.validated,
        found: &found,
        authority: None,
        replicas: &prepared.objects.replicas,
    };
    let plan = Plan {
        steps: vec![Step::Create(0)],
        waiting: None,
    };
    assert_eq!(steps.take(&plan).await.unwrap(), []);
    assert_eq!(server.written(), ["PATCH persistentvolumeclaims/mail-0"]);
}

const APPLY_SECRET: &str = "PATCH secrets/mail-ca";

/// Applies a Secret that was found with this metadata, or was not found; says what was sent and what came of it.
async fn apply_secret(
    found: Option<Value>,
    (status, answer): (u16, Value),
) -> (Value, Result<(), Error>) {
    let id = RelayId::of(&sample("minimal")).unwrap();
    let mut wanted = secret(&[("tls.crt", "x")]);
    wanted.metadata = id.meta("mail-ca".into());
    let found = found.map(|changes| {
        let mut found = json!(wanted);
        let meta = found["metadata"].as_object_mut().unwrap();
        meta.extend(changes.as_object().unwrap().clone());
        serde_json::from_value(found).unwrap()
    });
    let server = Arc::new(Server::default().answering(APPLY_SECRET, status, answer));
    let context = context(&server);
    let seen = Seen::of_relay(&id).meta::<Secret>(found.as_ref());
    let result = ensure(&context, &wanted, seen).await;
    (server.body(APPLY_SECRET)["metadata"].clone(), result)
}

#[tokio::test]
async fn nothing_that_was_made_since_it_was_looked_for_is_written_over() {
    let applied = || {
        let meta = json!({"resourceVersion": "9"});
        json!({"apiVersion": "v1", "kind": "Secret", "metadata": meta})
    };
    let seen = json!({"uid": "secret", "resourceVersion": "7"});
    for (found, uid, version) in [
        // With a version the API server applies over no object but that one, and makes a new one all the same.
        (None, Value::Null, json!("1")),
        // Whatever was changed in ours since is put right.
        (Some(seen), json!("secret"), Value::Null),
    ] {
        let (sent, result) = apply_secret(found.clone(), (200, applied())).await;
        assert!(result.is_ok(), "{result:?}");
        assert_eq!((&sent["uid"], &sent["resourceVersion"]), (&uid, &version));
        // What an API server answers to a uid without a version, if the object is another one by now.
        let mut another = failure(422, "Invalid");
        another.1["details"] = json!({"causes": [{"field": "metadata.uid"}]});
        for answer in [failure(409, "Conflict"), another] {
            let (_, result) = apply_secret(found.clone(), answer).await;
            let error = result.unwrap_err();
            assert!(matches!(error, Error::Meanwhile { .. }), "{error}");
            assert_eq!(error.refusal(), None);
            assert_eq!(error.rejection(), None);
        }
    }
}

#[tokio::test]
async fn what_the_api_server_does_not_take_is_named() {
    for (code, stays) in [
        (422, Some(true)),
        (403, Some(true)),
        (500, Some(false)),
        (429, None),
    ] {
        let (_, result) = apply_secret(None, failure(code, "Because")).await;
        let rejection = result.unwrap_err().rejection();
        let expected = stays.map(|stays| Rejection {
            message: "cannot apply Secret mail-ca: Because".into(),
            stays,
        });
        assert_eq!(rejection, expected, "{code}");
    }
}

#[test]
fn the_own_certificate_goes_when_nothing_mounts_it_any_more() {
    let own = |owner: &str| {
        let mut own = secret(&[("tls.crt", "x")]);
        own.metadata = validate(&sample("minimal"), &nothing())
            .unwrap()
            .id
            .meta("mail-tls".into());
        own.metadata.owner_references.as_mut().unwrap()[0].uid = owner.into();
        own
    };
    let uid = sample("minimal").metadata.uid.unwrap();
    let provided = sample("provided-certificate");
    let mut provided_as_own = provided.clone();
    provided_as_own.spec.tls.secret_ref.as_mut().unwrap().name = "mail-tls".into();
    let rolled = || serving(&prepare(&provided, &nothing()));
    let not_yet = || serving(&prepare(&sample("minimal"), &nothing()));
    for (relay, mut found, owner, goes) in [
        (&provided, rolled(), uid.as_str(), true),
        (&provided, not_yet(), &uid, false),
        // The user's own, under the same name.
        (&provided, rolled(), "somebody else", false),
        (&provided_as_own, rolled(), &uid, false),
        (&sample("minimal"), rolled(), &uid, false),
    ] {
        let secret = own(owner);
        found
            .secrets
            .insert("mail-tls".into(), Some(secret.clone()));
        let validated = validate(relay, &found).unwrap();
        assert_eq!(leftover(&validated, &found), goes.then_some(&secret));
    }
}
