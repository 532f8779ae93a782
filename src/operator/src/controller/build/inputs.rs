//! What its user wrote that shapes the pod of a relay.
//!
//! The digest of this decides whether a pod that serves is replaced. Invariants:
//! - [`pod`](super::pod) sees nothing else of the relay, so that nothing else can shape a pod unnoticed.
//! - Nothing of the operator is in here, neither its defaults nor its version: a new operator alone
//!   replaces no pod.
//! - The JSON is for ever. A field that is added later is left out where it is not set; a test holds
//!   the digests of today.

use postroad_api::Resources;
use postroad_config::SpoolMode;
use serde::Serialize;

use crate::controller::validate::{Certificate, Storage, UpstreamFiles, Validated};
use crate::digest;

/// The parts of a relay that stand in its pods.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Inputs<'a> {
    /// `None` for the image that belongs to the operator which makes the pod.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) image: Option<&'a str>,
    /// The Secret of the user's with the certificate for clients, if the operator does not issue it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) certificate: Option<&'a str>,
    /// Those that need files, by name: their order of preference is of no concern here.
    pub(super) upstreams: Vec<&'a UpstreamFiles>,
    pub(super) queue: Queue<'a>,
    #[serde(skip_serializing_if = "SpoolMode::is_durable")]
    pub(super) mode: SpoolMode,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) restarted_at: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) resources: Option<&'a Resources>,
    #[serde(skip_serializing_if = "<[String]>::is_empty")]
    pub(super) image_pull_secrets: &'a [String],
}

/// Where mail waits, as far as the pod knows.
#[derive(Clone, Copy, Debug, Serialize)]
pub(super) enum Queue<'a> {
    /// In the claim of the replica, which grows without its pod.
    Claim,
    /// In the pod.
    Pod { size: &'a str },
}

impl<'a> Inputs<'a> {
    pub(super) fn of(validated: &'a Validated) -> Self {
        let mut upstreams: Vec<_> = validated
            .upstreams
            .iter()
            .filter(|upstream| upstream.login.is_some() || upstream.authority.is_some())
            .collect();
        upstreams.sort_by(|a, b| a.name.cmp(&b.name));
        Self {
            image: validated.image.as_deref(),
            certificate: match &validated.certificate {
                Certificate::SelfSigned { .. } => None,
                Certificate::Provided { secret } => Some(secret),
            },
            upstreams,
            queue: match &validated.storage {
                Storage::Persistent { .. } => Queue::Claim,
                Storage::Ephemeral { size } => Queue::Pod { size },
            },
            mode: validated.mode,
            restarted_at: validated.restarted_at.as_deref(),
            resources: validated.resources.as_ref(),
            image_pull_secrets: &validated.image_pull_secrets,
        }
    }

    pub(super) fn digest(&self) -> Result<String, serde_json::Error> {
        digest::of_json(self)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::controller::tests::{nothing, restart, sample, validate};

    /// Digests of these are in the clusters of those who run this version: if a text changes, an upgrade
    /// replaces their pods.
    #[test]
    fn what_decides_about_a_replacement_is_written_for_ever_like_this() {
        let mut restarted = sample("single");
        restart(&mut restarted, "1800000000");
        for (relay, text) in [
            (sample("single"), r#"{"upstreams":[],"queue":"Claim"}"#),
            (
                restarted,
                r#"{"upstreams":[],"queue":"Claim","restartedAt":"1800000000"}"#,
            ),
            (
                sample("minimal"),
                r#"{"upstreams":[{"name":"provider","login":"provider-login"}],"queue":"Claim"}"#,
            ),
            (
                sample("full"),
                r#"{"image":"registry.example.com/postroad:1.0","upstreams":[{"name":"backup","authority":["backup-ca","root.pem"]},{"name":"provider","login":"provider-login"}],"queue":"Claim","resources":{"requests":{"cpu":"500m"},"limits":{"memory":"1Gi"}},"imagePullSecrets":["registry-login"]}"#,
            ),
            (
                sample("ephemeral"),
                r#"{"upstreams":[],"queue":{"Pod":{"size":"256Mi"}}}"#,
            ),
            (
                sample("routes"),
                r#"{"upstreams":[],"queue":"Claim","mode":{"Relaxed":{"syncMs":100}}}"#,
            ),
            (
                sample("provided-certificate"),
                r#"{"certificate":"mail-example-com","upstreams":[],"queue":"Claim"}"#,
            ),
        ] {
            let validated = validate(&relay, &nothing()).unwrap();
            let inputs = Inputs::of(&validated);
            assert_eq!(serde_json::to_string(&inputs).unwrap(), text);
            assert_eq!(inputs.digest().unwrap(), digest::of(text.as_bytes()));
        }
    }
}
