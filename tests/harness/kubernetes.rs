//! A namespace on a real cluster, through kubectl: what a user would type.

use std::process::Stdio;

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use serde_json::Value;
use tokio::io::AsyncWriteExt as _;
use tokio::process::Command;

use crate::eventually;

/// A namespace that enforces Pod Security `restricted`; deleted when a test has passed, left for inspection when not.
pub struct Namespace {
    name: String,
}

impl Namespace {
    /// Makes it.
    pub async fn create(name: &str) -> Self {
        let name = format!("{name}-{}", std::process::id());
        let namespace = Self { name };
        namespace
            .apply(&format!(
                "{{apiVersion: v1, kind: Namespace, metadata: {{name: {}, labels: \
                 {{pod-security.kubernetes.io/enforce: restricted}}}}}}",
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
        let output = Command::new("kubectl")
            .args(["--namespace", &self.name])
            .args(words)
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
        let text = self
            .try_kubectl(&["get", kind, name, "-o", "json"])
            .await
            .ok()?;
        serde_json::from_str(&text).ok()
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

    /// Status and reason of a condition.
    pub async fn condition(
        &self,
        kind: &str,
        name: &str,
        condition: &str,
    ) -> Option<(String, String)> {
        let object = self.get(kind, name).await?;
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
                "--namespace=postroad-system",
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
