//! A relay on the cluster with its credential, a provider outside, and the way of an application from one to the other.

use std::sync::Arc;

use harness::client::Client;
use harness::eventually;
use harness::kubernetes::{Doors, Namespace};
use harness::provider::{self, PASSWORD, Provider, USERNAME};
use rustls::{ClientConfig, RootCertStore};
use rustls_pki_types::CertificateDer;
use rustls_pki_types::pem::PemObject as _;

pub(crate) const RELAY: (&str, &str) = ("smtprelay", "mail");

/// A relay with its credential, and the provider that it sends to.
pub(crate) struct World {
    pub(crate) namespace: Namespace,
    pub(crate) provider: Provider,
}

/// How an application reaches the relay: what the Secret of its credential says, and the addresses that stand for the Service.
pub(crate) struct Binding {
    pub(crate) host: String,
    pub(crate) doors: Doors,
    pub(crate) username: String,
    pub(crate) password: String,
    tls: Arc<ClientConfig>,
}

impl World {
    pub(crate) async fn create(name: &str, replicas: u32) -> Self {
        Self::within(Namespace::create(name).await, replicas).await
    }

    pub(crate) async fn within(namespace: Namespace, replicas: u32) -> Self {
        let provider = Provider::outside(format!("provider.{}.svc", namespace.name()));
        provider.run(&["start"]).await;
        let world = Self {
            namespace,
            provider,
        };
        world.namespace.apply(&world.outside()).await;
        world.login(PASSWORD).await;
        world.relay(replicas).await;
        world.namespace.apply(CREDENTIAL).await;
        world.ready().await;
        world
    }

    /// The provider as the cluster knows it: its name, and the authority of its certificate.
    fn outside(&self) -> String {
        let port = self.provider.port;
        let address = provider::address();
        let ca = std::fs::read_to_string(self.provider.ca()).unwrap();
        let ca = ca.replace('\n', "\n    ");
        format!(
            "
apiVersion: v1
kind: Service
metadata: {{name: provider}}
spec: {{clusterIP: None, ports: [{{port: {port}}}]}}
---
apiVersion: discovery.k8s.io/v1
kind: EndpointSlice
metadata: {{name: provider, labels: {{kubernetes.io/service-name: provider}}}}
addressType: IPv4
endpoints: [{{addresses: ['{address}'], conditions: {{ready: true}}}}]
ports: [{{port: {port}}}]
---
apiVersion: v1
kind: Secret
metadata: {{name: provider-ca}}
stringData:
  ca.crt: |
    {ca}"
        )
    }

    pub(crate) async fn login(&self, password: &str) {
        self.namespace
            .apply(&format!(
                "
apiVersion: v1
kind: Secret
metadata: {{name: provider-login}}
stringData: {{username: {USERNAME}, password: {password}}}
"
            ))
            .await;
    }

    pub(crate) async fn relay(&self, replicas: u32) {
        self.relay_stored("Persistent", replicas).await;
    }

    pub(crate) async fn relay_stored(&self, storage: &str, replicas: u32) {
        let delivery = format!("{{upstreams: [{}]}}", self.upstream(""));
        self.specified(storage, replicas, &delivery).await;
    }

    /// The relay with another `spec.delivery`, in YAML's flow style.
    pub(crate) async fn delivering(&self, replicas: u32, delivery: &str) {
        self.specified("Persistent", replicas, delivery).await;
    }

    /// The provider as an upstream, and more of it, in YAML's flow style.
    pub(crate) fn upstream(&self, more: &str) -> String {
        let (host, port) = (self.provider.hostname(), self.provider.port);
        format!(
            "{{name: provider, host: {host}, port: {port}, tls: {{mode: Required, caSecretRef: {{name: provider-ca}}}}, \
             auth: {{secretRef: {{name: provider-login}}}}, {more}}}"
        )
    }

    async fn specified(&self, storage: &str, replicas: u32, delivery: &str) {
        self.namespace
            .apply(&format!(
                "
apiVersion: postroad.dev/v1alpha1
kind: SmtpRelay
metadata: {{name: mail}}
spec:
  replicas: {replicas}
  storage: {{type: {storage}}}
  service: {{type: NodePort}}
  delivery: {delivery}
"
            ))
            .await;
    }

    /// Takes away what was made in a namespace that stays.
    pub(crate) async fn clear(self) {
        let made = "smtprelay/mail smtpcredential/app service/provider endpointslice/provider secret/provider-ca secret/provider-login";
        let made: Vec<&str> = made.split(' ').collect();
        self.namespace
            .kubectl(&[&["delete"], &made[..]].concat())
            .await;
        // Claims outlive their relay.
        let claims = [
            "delete",
            "pvc",
            "--wait=false",
            "--selector=app.kubernetes.io/instance=mail",
        ];
        self.namespace.kubectl(&claims).await;
    }

    /// Waits for a condition of the relay.
    pub(crate) async fn shows(&self, condition: &str, status: &str, reason: Option<&str>) {
        self.namespace
            .await_condition(RELAY, condition, status, reason)
            .await;
    }

    /// The message of a condition of the relay.
    pub(crate) async fn message(&self, condition: &str) -> Option<String> {
        let query = format!("-o=jsonpath={{.status.conditions[?(@.type=='{condition}')].message}}");
        let words = ["get", RELAY.0, RELAY.1, &query];
        self.namespace.try_kubectl(&words).await.ok()
    }

    pub(crate) async fn ready(&self) {
        self.shows("Available", "True", None).await;
        self.namespace
            .await_condition(("smtpcredential", "app"), "Ready", "True", None)
            .await;
    }

    pub(crate) async fn binding(&self) -> Binding {
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
            doors: self.namespace.doors("mail").await,
            username: self.namespace.secret("app", "username").await,
            password: self.namespace.secret("app", "password").await,
            tls: Arc::new(tls),
        }
    }

    /// Sends until it is accepted, as an application that queues would.
    pub(crate) async fn send(&self, binding: &Binding, subject: &str) {
        eventually("the mail to be accepted", async || {
            let mut client = binding.client(587).await.ok()?;
            let content = format!("Subject: {subject}\r\n\r\nx\r\n");
            let sent = client.message("a@example.com", &["b@example.org"], content.as_bytes());
            (sent.await.ok()?.code == 250).then_some(())
        })
        .await;
    }

    pub(crate) async fn arrives(&self, subject: &str) {
        eventually(subject, async || (self.count(subject) > 0).then_some(())).await;
    }

    pub(crate) fn count(&self, subject: &str) -> usize {
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
    pub(crate) async fn client(&self, port: u16) -> std::io::Result<Client> {
        let mut client = self.stranger(port, true).await?;
        let reply = client.login(&self.username, &self.password).await?;
        match reply.code {
            235 => Ok(client),
            _ => Err(std::io::Error::other(reply.text)),
        }
    }

    pub(crate) async fn stranger(&self, port: u16, tls: bool) -> std::io::Result<Client> {
        let door = self.doors[&port];
        let mut client = match (port, tls) {
            (465, _) => {
                let client = Client::silent_at(door).await?;
                let mut client = client.secured(&self.tls, &self.host).await?;
                client.reply().await?;
                client
            }
            (_, true) => {
                let (client, _) = Client::connect_at(door).await?;
                client.starttls(&self.tls, &self.host).await?
            }
            (_, false) => Client::connect_at(door).await?.0,
        };
        client.command("EHLO client.example.net").await?;
        Ok(client)
    }
}
