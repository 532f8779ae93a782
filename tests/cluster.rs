//! Chart, operator and relays on a real Kubernetes, with a real Postfix outside it. Needs a cluster with the chart
//! installed and its network around the test: `make cluster-test` sees to both.

#![expect(clippy::unwrap_used, reason = "test code: a panic is how it says no")]

use std::sync::Arc;

use harness::client::{Client, Reply};
use harness::eventually;
use harness::kubernetes::Namespace;
use harness::provider::{PASSWORD, Provider, USERNAME};
use rustls::{ClientConfig, RootCertStore};
use rustls_pki_types::CertificateDer;
use rustls_pki_types::pem::PemObject as _;

/// Where the world outside the cluster is, as pods see it.
const OUTSIDE: &str = "10.250.0.1";
const OUTSIDE_NAME: &str = "smtp.provider.example.test";
const RELAY: (&str, &str) = ("smtprelay", "mail");

/// A relay with its credential, and the provider that it sends to.
struct World {
    namespace: Namespace,
    provider: Provider,
}

/// How an application reaches the relay, from the Secret of its credential.
struct Binding {
    host: String,
    username: String,
    password: String,
    tls: Arc<ClientConfig>,
}

impl World {
    async fn create(name: &str, replicas: u32) -> Self {
        let namespace = Namespace::create(name).await;
        let provider = Provider::at(OUTSIDE, OUTSIDE_NAME);
        provider.run(&["start"]).await;
        let world = Self {
            namespace,
            provider,
        };
        world.login(PASSWORD).await;
        let ca = std::fs::read_to_string(world.provider.ca()).unwrap();
        let ca = ca
            .lines()
            .map(|line| format!("    {line}\n"))
            .collect::<String>();
        world
            .namespace
            .apply(&format!(
                "apiVersion: v1\nkind: Secret\nmetadata: {{name: provider-ca}}\nstringData:\n  ca.crt: |\n{ca}"
            ))
            .await;
        world.relay(replicas).await;
        world.namespace.apply(CREDENTIAL).await;
        world.ready().await;
        world
    }

    async fn login(&self, password: &str) {
        self.namespace
            .apply(&format!(
                "{{apiVersion: v1, kind: Secret, metadata: {{name: provider-login}}, \
                 stringData: {{username: {USERNAME}, password: {password}}}}}"
            ))
            .await;
    }

    async fn relay(&self, replicas: u32) {
        self.namespace.apply(&self.manifest(replicas)).await;
    }

    fn manifest(&self, replicas: u32) -> String {
        format!(
            "
apiVersion: postroad.dev/v1alpha1
kind: SmtpRelay
metadata: {{name: mail}}
spec:
  replicas: {replicas}
  delivery:
    upstreams:
    - name: provider
      host: {OUTSIDE_NAME}
      port: {}
      tls: {{mode: Required, caSecretRef: {{name: provider-ca}}}}
      auth: {{secretRef: {{name: provider-login}}}}
",
            self.provider.port
        )
    }

    async fn ready(&self) {
        self.namespace
            .await_condition(RELAY, "Available", "True", None)
            .await;
        self.namespace
            .await_condition(("smtpcredential", "app"), "Ready", "True", None)
            .await;
    }

    async fn binding(&self) -> Binding {
        let pem = self.namespace.secret("app", "certificates").await;
        let mut roots = RootCertStore::empty();
        roots
            .add(CertificateDer::from_pem_slice(pem.as_bytes()).unwrap())
            .unwrap();
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let tls = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_root_certificates(roots)
            .with_no_client_auth();
        Binding {
            host: self.namespace.secret("app", "host").await,
            username: self.namespace.secret("app", "username").await,
            password: self.namespace.secret("app", "password").await,
            tls: Arc::new(tls),
        }
    }

    /// Sends until it is accepted, as an application that queues would.
    async fn send(&self, binding: &Binding, subject: &str) {
        eventually("the mail to be accepted", async || {
            let mut client = binding.client(587).await.ok()?;
            let content = format!("Subject: {subject}\r\n\r\nx\r\n");
            let sent = client.message("a@example.com", &["b@example.org"], content.as_bytes());
            (sent.await.ok()?.code == 250).then_some(())
        })
        .await;
    }

    async fn arrives(&self, subject: &str) {
        eventually(subject, async || (self.count(subject) > 0).then_some(())).await;
    }

    fn count(&self, subject: &str) -> usize {
        let marker = format!("Subject: {subject}\n");
        let messages = self.provider.messages();
        let texts = messages
            .iter()
            .map(|message| String::from_utf8_lossy(message));
        texts.filter(|text| text.contains(&marker)).count()
    }
}

const CREDENTIAL: &str = "
apiVersion: postroad.dev/v1alpha1
kind: SmtpCredential
metadata: {name: app}
spec: {relayRef: {name: mail}}
";

impl Binding {
    /// Connected, under TLS in the way of the port, and logged in.
    async fn client(&self, port: u16) -> std::io::Result<Client> {
        let mut client = self.stranger(port, true).await?;
        let reply = client.login(&self.username, &self.password).await?;
        match reply.code {
            235 => Ok(client),
            _ => Err(std::io::Error::other(reply.text)),
        }
    }

    async fn stranger(&self, port: u16, tls: bool) -> std::io::Result<Client> {
        let mut client = match (port, tls) {
            (465, _) => {
                let client = Client::silent_at(&self.host, port).await?;
                let mut client = client.secured(&self.tls, &self.host).await?;
                client.reply().await?;
                client
            }
            (_, true) => {
                let (client, _) = Client::connect_at(&self.host, port).await?;
                client.starttls(&self.tls, &self.host).await?
            }
            (_, false) => Client::connect_at(&self.host, port).await?.0,
        };
        client.command("EHLO client.example.net").await?;
        Ok(client)
    }
}

async fn stranger_rcpt(client: &mut Client) -> Reply {
    client.command("MAIL FROM:<s@example.net>").await.unwrap();
    client.command("RCPT TO:<v@example.org>").await.unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn every_port_of_the_service_delivers_and_strangers_are_refused() {
    let world = World::create("ports", 2).await;
    let binding = world.binding().await;
    let mut large = b"Content-Type: application/octet-stream\r\n\r\n".to_vec();
    for line in 0_u32..140_000 {
        large.extend_from_slice(format!("{line:076}\r\n").as_bytes());
    }
    let contents = [
        ("dots", b"X: y\r\n\r\n.\r\n..\r\n.leading\r\n".to_vec()),
        (
            "eight-bit",
            "X: y\r\n\r\ngr\u{fc}\u{df}e\r\n".as_bytes().to_vec(),
        ),
        ("empty", b"X: y\r\n\r\n".to_vec()),
        ("large", large),
    ];
    for port in [25, 465, 587, 2525] {
        let mut client = binding.client(port).await.unwrap();
        for (name, rest) in &contents {
            let content = [format!("Subject: {name} {port}\r\n").as_bytes(), rest].concat();
            let reply = client
                .message("a@example.com", &["b@example.org"], &content)
                .await
                .unwrap();
            assert_eq!(reply.code, 250, "{name} {port}: {reply:?}");
            world.arrives(&format!("{name} {port}")).await;
            let plain: Vec<u8> = content
                .iter()
                .copied()
                .filter(|byte| *byte != b'\r')
                .collect();
            let whole = world
                .provider
                .messages()
                .iter()
                .any(|message| message.ends_with(&plain));
            assert!(whole, "{name} over {port} was changed");
        }
        strangers_are_refused(&binding, port).await;
    }
    let mut plain = Client::silent_at(&binding.host, 465).await.unwrap();
    plain.send(b"EHLO client.example.net\r\n").await.unwrap();
    assert!(plain.reply().await.is_err(), "plaintext on 465 is closed");
    world
        .namespace
        .await_condition(RELAY, "UpstreamReady", "True", None)
        .await;
    world
        .namespace
        .await_condition(RELAY, "Ready", "True", None)
        .await;
    steady(&world).await;
    world.namespace.delete().await;
}

async fn strangers_are_refused(binding: &Binding, port: u16) {
    for tls in [true, false] {
        let mut stranger = binding.stranger(port, tls).await.unwrap();
        assert_eq!(stranger_rcpt(&mut stranger).await.code, 550, "port {port}");
    }
    let mut stranger = binding.stranger(port, true).await.unwrap();
    assert_eq!(
        stranger
            .login(&binding.username, "wrong")
            .await
            .unwrap()
            .code,
        535
    );
    if port != 465 {
        let mut early = binding.stranger(port, false).await.unwrap();
        let reply = early
            .login(&binding.username, &binding.password)
            .await
            .unwrap();
        assert!((500..600).contains(&reply.code), "{reply:?}");
    }
}

/// A relay at rest is not written to: neither it nor its children change.
async fn steady(world: &World) {
    eventually("the queue to be empty in status", async || {
        let relay = world.namespace.get(RELAY.0, RELAY.1).await?;
        (relay["status"]["queue"]["messages"] == 0).then_some(())
    })
    .await;
    let versions = async || {
        let kinds = "smtprelay,smtpcredential,deployment,service,configmap,secret,pvc,pdb";
        let columns = "-o=custom-columns=K:.kind,N:.metadata.name,V:.metadata.resourceVersion";
        world.namespace.kubectl(&["get", kinds, columns]).await
    };
    // Three visits at rest pass meanwhile: thirty seconds apart, and the first comes at once. Nothing can be waited for here,
    // because nothing is to happen.
    let mut before = versions().await;
    let mut quiet = 0;
    eventually("a minute without a write", async || {
        tokio::time::sleep(std::time::Duration::from_secs(5)).await;
        let now = versions().await;
        quiet = if now == before { quiet + 1 } else { 0 };
        before = now;
        (quiet >= 8).then_some(())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_operator_mistake_shows_in_status_and_bounces_nothing() {
    let world = World::create("mistake", 1).await;
    let binding = world.binding().await;
    world.provider.run(&["stop"]).await;
    for n in 0..5 {
        world.send(&binding, &format!("held {n}")).await;
    }
    let upstream = "UpstreamReady";
    world
        .namespace
        .await_condition(RELAY, upstream, "False", Some("ConnectionRefused"))
        .await;
    eventually("QUEUED and OLDEST", async || {
        let table = world.namespace.kubectl(&["get", "smtprelay", "mail"]).await;
        let mut lines = table.lines();
        let header: Vec<&str> = lines.next()?.split_whitespace().collect();
        let row: Vec<&str> = lines.next()?.split_whitespace().collect();
        let cell = |name: &str| Some(row[header.iter().position(|column| *column == name)?]);
        (cell("QUEUED")? == "5" && cell("OLDEST")?.ends_with('s')).then_some(())
    })
    .await;
    // Neither the password that the pods still have for a moment nor the one that they get is right.
    world.provider.run(&["password", "changed"]).await;
    world.login("wrong").await;
    world.provider.run(&["start"]).await;
    world
        .namespace
        .await_condition(RELAY, upstream, "False", Some("AuthenticationFailed"))
        .await;
    let pods = async || {
        world
            .namespace
            .kubectl(&[
                "get",
                "pods",
                "-o=custom-columns=U:.metadata.uid,R:.status.containerStatuses[0].restartCount",
            ])
            .await
    };
    let before = pods().await;
    world.login("changed").await;
    for n in 0..5 {
        world.arrives(&format!("held {n}")).await;
    }
    world
        .namespace
        .await_condition(RELAY, upstream, "True", None)
        .await;
    assert_eq!(pods().await, before, "nothing was restarted");
    assert_eq!(world.provider.messages().len(), 5, "nothing was bounced");
    world.namespace.delete().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_deleted_and_reapplied_relay_delivers_the_mail_that_waited() {
    let world = World::create("reapply", 1).await;
    let binding = world.binding().await;
    world.provider.run(&["stop"]).await;
    world.send(&binding, "waited").await;
    world
        .namespace
        .kubectl(&["delete", "smtprelay", "mail"])
        .await;
    eventually("the pods to go", async || {
        let pods = world
            .namespace
            .kubectl(&["get", "pods", "-o", "name"])
            .await;
        pods.trim().is_empty().then_some(())
    })
    .await;
    let claims = world.namespace.kubectl(&["get", "pvc", "-o", "name"]).await;
    assert!(claims.contains("mail-0"), "the claim stays: {claims}");
    world.provider.run(&["start"]).await;
    world.relay(1).await;
    world.arrives("waited").await;
    world.namespace.delete().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_child_deleted_by_hand_comes_back() {
    let world = World::create("children", 2).await;
    for child in [
        "service/mail",
        "configmap/mail-config",
        "deployment/mail-1",
        "serviceaccount/mail",
        "secret/mail-tls",
    ] {
        let (kind, name) = child.split_once('/').unwrap();
        let before = world.namespace.get(kind, name).await;
        let before =
            before.unwrap_or_else(|| panic!("{child} is missing"))["metadata"]["uid"].clone();
        world.namespace.kubectl(&["delete", child]).await;
        eventually(child, async || {
            let after = world.namespace.get(kind, name).await?;
            (after["metadata"]["uid"] != before).then_some(())
        })
        .await;
    }
    world.ready().await;
    let binding = eventually("a binding that works", async || {
        let binding = world.binding().await;
        binding.client(587).await.ok().map(|_| binding)
    })
    .await;
    world.send(&binding, "after all that").await;
    world.arrives("after all that").await;
    world.namespace.delete().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_operator_killed_in_the_middle_of_a_rollout_finishes_it() {
    let world = World::create("rollout", 2).await;
    let binding = world.binding().await;
    let has_second = async |name: &str| {
        let deployment = world.namespace.get("deployment", name).await?;
        deployment["spec"]["template"]["spec"]["volumes"]
            .to_string()
            .contains("second")
            .then_some(())
    };
    let second = r#"[{"op": "add", "path": "/spec/delivery/upstreams/-", "value": {"name": "second",
        "host": "mx.example.test", "port": 587, "auth": {"secretRef": {"name": "second-login"}}}}]"#;
    world
        .namespace
        .kubectl(&["patch", "smtprelay", "mail", "--type=json", "-p", second])
        .await;
    eventually("the rollout to begin", async || {
        has_second("mail-0").await.or(has_second("mail-1").await)
    })
    .await;
    let operator = [
        "delete",
        "pod",
        "--namespace=postroad-system",
        "--selector=app.kubernetes.io/name=postroad-operator",
        "--grace-period=0",
        "--force",
    ];
    world.namespace.kubectl(&operator).await;
    for name in ["mail-0", "mail-1"] {
        eventually("the rollout to finish", async || has_second(name).await).await;
    }
    world.ready().await;
    world.send(&binding, "after the rollout").await;
    world.arrives("after the rollout").await;
    world.namespace.delete().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_that_got_250_is_lost_when_the_relay_is_killed() {
    let world = World::create("kill", 1).await;
    let binding = Arc::new(world.binding().await);
    let mut clients = tokio::task::JoinSet::new();
    for client in 0..50 {
        let binding = Arc::clone(&binding);
        clients.spawn(async move {
            let mut kept = Vec::new();
            let Ok(mut connection) = binding.client(587).await else {
                return kept;
            };
            for n in 0..1000 {
                let subject = format!("kill {client}-{n};");
                let content = format!("Subject: {subject}\r\n\r\nx\r\n");
                match connection
                    .message("a@example.com", &["b@example.org"], content.as_bytes())
                    .await
                {
                    Ok(reply) if reply.code == 250 => kept.push(subject),
                    _ => break,
                }
            }
            kept
        });
    }
    eventually("mail to flow", async || {
        (world.provider.messages().len() > 200).then_some(())
    })
    .await;
    // The relay's pod sees only its own processes; from the node it can be killed without warning.
    let killed = tokio::process::Command::new("pkill")
        .args(["-KILL", "--newest", "--full", "^/postroad-relay --config"])
        .status();
    assert!(killed.await.unwrap().success(), "the process was not found");
    let mut ledger = Vec::new();
    while let Some(kept) = clients.join_next().await {
        ledger.extend(kept.unwrap());
    }
    assert!(ledger.len() > 200, "{} promises", ledger.len());
    let mut arrived = std::collections::HashMap::new();
    eventually("every promise", async || {
        arrived.clear();
        for message in world.provider.messages() {
            let text = String::from_utf8_lossy(&message).into_owned();
            let subject = text.split("Subject: ").nth(1)?.lines().next()?.to_owned();
            *arrived.entry(subject).or_insert(0) += 1;
        }
        ledger
            .iter()
            .all(|subject| arrived.contains_key(subject))
            .then_some(())
    })
    .await;
    let duplicates: u64 = arrived.values().map(|count: &u64| count - 1).sum();
    println!("{} promises kept, {duplicates} duplicates", ledger.len());
    // Twenty connections, each with one delivery under way and a record not yet flushed.
    assert!(duplicates <= 40, "{duplicates} duplicates");
    world.namespace.delete().await;
}
