//! A namespace on a real cluster, through kubectl and helm: what a user would type.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::process::Stdio;
use std::time::Duration;

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use serde_json::Value;
use tokio::io::AsyncWriteExt as _;
use tokio::net::TcpStream;
use tokio::process::Command;
use tokio::time::timeout;

use crate::{eventually, root};

/// The namespace of the chart's release.
pub const SYSTEM: &str = "postroad-system";
/// The name of the chart's release.
pub const RELEASE: &str = "postroad";

/// How long a door may take to open; what a node drops gets no answer at all.
const DOOR_TIMEOUT: Duration = Duration::from_secs(2);

/// A namespace; what a test has made is deleted when it has passed, left for inspection when not.
pub struct Namespace {
    name: String,
}

/// Where this machine reaches the ports of a Service: the port of the Service, and the address that stands for it.
pub type Doors = BTreeMap<u16, SocketAddr>;

impl Namespace {
    /// The one of the chart's release.
    #[must_use]
    pub fn system() -> Self {
        Self {
            name: SYSTEM.to_owned(),
        }
    }

    /// Makes one that enforces Pod Security `restricted`.
    pub async fn create(name: &str) -> Self {
        let name = format!("{name}-{}", std::process::id());
        let namespace = Self { name };
        namespace
            .apply(&format!(
                "
apiVersion: v1
kind: Namespace
metadata:
  name: {}
  labels: {{pod-security.kubernetes.io/enforce: restricted, postroad.dev/made-by: tests}}
",
                namespace.name
            ))
            .await;
        namespace
    }

    /// Its name.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// `kubectl apply` of YAML.
    ///
    /// # Panics
    /// If it is refused.
    pub async fn apply(&self, yaml: &str) {
        let mut child = Command::new("kubectl")
            .args(["apply", "--namespace", &self.name, "-f", "-"])
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .spawn()
            .unwrap();
        child
            .stdin
            .take()
            .unwrap()
            .write_all(yaml.as_bytes())
            .await
            .unwrap();
        assert!(child.wait().await.unwrap().success(), "refused:\n{yaml}");
    }

    /// kubectl with these words; what it printed.
    ///
    /// # Panics
    /// If it fails.
    pub async fn kubectl(&self, words: &[&str]) -> String {
        self.try_kubectl(words)
            .await
            .unwrap_or_else(|error| panic!("kubectl {words:?}: {error}"))
    }

    /// kubectl with these words; what it printed, or what it complained about.
    ///
    /// # Errors
    /// What it complained about.
    pub async fn try_kubectl(&self, words: &[&str]) -> Result<String, String> {
        self.run("kubectl", words).await
    }

    /// helm with these words; what it printed.
    ///
    /// # Panics
    /// If it fails.
    pub async fn helm(&self, words: &[&str]) -> String {
        let result = self.run("helm", words).await;
        result.unwrap_or_else(|error| panic!("helm {words:?}: {error}"))
    }

    async fn run(&self, program: &str, words: &[&str]) -> Result<String, String> {
        let output = Command::new(program)
            .args(["--namespace", &self.name])
            .args(words)
            .current_dir(root())
            .output()
            .await
            .unwrap();
        if output.status.success() {
            Ok(String::from_utf8_lossy(&output.stdout).into_owned())
        } else {
            Err(String::from_utf8_lossy(&output.stderr).into_owned())
        }
    }

    /// An object as JSON; `None` if it is not there.
    pub async fn get(&self, kind: &str, name: &str) -> Option<Value> {
        self.json(&["get", kind, name]).await
    }

    async fn json(&self, words: &[&str]) -> Option<Value> {
        let words = [words, &["-o", "json"]].concat();
        serde_json::from_str(&self.try_kubectl(&words).await.ok()?).ok()
    }

    /// Where this machine reaches a Service of type `NodePort`, on every cluster whose nodes it reaches.
    pub async fn doors(&self, service: &str) -> Doors {
        let what = format!("the node ports of {service}; this machine must reach the nodes");
        eventually(&what, async || {
            let address = self.ready_node(service).await?;
            let service = self.get("service", service).await?;
            let mut doors = Doors::new();
            for port in service["spec"]["ports"].as_array()? {
                let number = |key: &str| u16::try_from(port[key].as_u64()?).ok();
                doors.insert(number("port")?, (address, number("nodePort")?).into());
            }
            for door in doors.values() {
                timeout(DOOR_TIMEOUT, TcpStream::connect(door))
                    .await
                    .ok()?
                    .ok()?;
            }
            Some(doors)
        })
        .await
    }

    /// The address of a node with a ready pod of the Service: only such nodes let clients in, because the Service keeps
    /// their addresses (`externalTrafficPolicy: Local`).
    async fn ready_node(&self, service: &str) -> Option<IpAddr> {
        let selector = format!("--selector=kubernetes.io/service-name={service}");
        let slices = self.json(&["get", "endpointslice", &selector]).await?;
        let mut endpoints = slices["items"]
            .as_array()?
            .iter()
            .filter_map(|slice| slice["endpoints"].as_array())
            .flatten();
        let ready = endpoints.find(|endpoint| endpoint["conditions"]["ready"] == true)?;
        let node = self.get("node", ready["nodeName"].as_str()?).await?;
        let mut addresses = node["status"]["addresses"].as_array()?.iter();
        let internal = addresses.find(|address| address["type"] == "InternalIP")?;
        internal["address"].as_str()?.parse().ok()
    }

    /// A value of a Secret.
    ///
    /// # Panics
    /// If it is not there.
    pub async fn secret(&self, name: &str, key: &str) -> String {
        let secret = self.get("secret", name).await.unwrap();
        let encoded = secret["data"][key].as_str().unwrap();
        String::from_utf8(BASE64_STANDARD.decode(encoded).unwrap()).unwrap()
    }

    /// Status and reason of a condition; none if what it is about has been changed since.
    pub async fn condition(
        &self,
        kind: &str,
        name: &str,
        condition: &str,
    ) -> Option<(String, String)> {
        let object = self.get(kind, name).await?;
        if object["status"]["observedGeneration"] != object["metadata"]["generation"] {
            return None;
        }
        let conditions = object["status"]["conditions"].as_array()?.clone();
        let found = conditions
            .into_iter()
            .find(|one| one["type"] == condition)?;
        let text = |key: &str| found[key].as_str().unwrap_or_default().to_owned();
        Some((text("status"), text("reason")))
    }

    /// Waits for a condition to have a status, and a reason if one is given.
    pub async fn await_condition(
        &self,
        (kind, name): (&str, &str),
        condition: &str,
        status: &str,
        reason: Option<&str>,
    ) {
        let what = format!("{kind}/{name} {condition}={status} {reason:?}");
        eventually(&what, async || {
            let now = self.condition(kind, name, condition).await?;
            (now.0 == status && reason.is_none_or(|reason| now.1 == reason)).then_some(())
        })
        .await;
    }

    /// Deletes it, without waiting for the end.
    pub async fn delete(self) {
        let _ = self
            .try_kubectl(&["delete", "namespace", &self.name, "--wait=false"])
            .await;
    }
}

impl Drop for Namespace {
    fn drop(&mut self) {
        if !std::thread::panicking() {
            return;
        }
        eprintln!("--- namespace {} ---", self.name);
        for words in [
            &[
                "get",
                "smtprelay,smtpcredential,deploy,pod,pvc,svc",
                "-o",
                "wide",
            ][..],
            &["describe", "smtprelay"],
            &["get", "events"],
            &[
                "logs",
                "--selector",
                "app.kubernetes.io/name=postroad-relay",
                "--tail=20",
            ],
            &[
                "logs",
                "--namespace",
                SYSTEM,
                "--selector=app.kubernetes.io/name=postroad-operator",
                "--tail=40",
            ],
        ] {
            let mut kubectl = std::process::Command::new("kubectl");
            let output = kubectl
                .args(["--namespace", &self.name])
                .args(words)
                .output();
            if let Ok(output) = output {
                eprintln!(
                    "{}{}",
                    String::from_utf8_lossy(&output.stdout),
                    String::from_utf8_lossy(&output.stderr)
                );
            }
        }
    }
}
