//! Which cluster, and which namespace in it.

use std::path::PathBuf;

use anyhow::Context as _;
use kube::config::{KubeConfigOptions, Kubeconfig};
use kube::{Client, Config};

/// HTTP status of what is not there; the answer for a kind that is not served has no reason to tell it by.
const NOT_FOUND: u16 = 404;

/// Where to look, in the words of kubectl.
#[derive(Clone, Debug, Default, Eq, PartialEq, clap::Args)]
#[command(next_help_heading = "Where")]
pub(crate) struct Where {
    /// The namespace; that of the context if not given.
    #[arg(long, short, global = true)]
    pub(crate) namespace: Option<String>,
    /// The context of the kubeconfig; the current one if not given.
    #[arg(long, global = true)]
    pub(crate) context: Option<String>,
    /// The kubeconfig file; those that KUBECONFIG names, or ~/.kube/config, if not given.
    #[arg(long, global = true)]
    pub(crate) kubeconfig: Option<PathBuf>,
}

/// A cluster that can be asked.
pub(crate) struct Cluster {
    pub(crate) client: Client,
    pub(crate) namespace: String,
}

impl Cluster {
    /// Reads the kubeconfig. Nothing is asked yet.
    ///
    /// # Errors
    /// What is wrong with the kubeconfig.
    pub(crate) async fn connect(place: Where) -> anyhow::Result<Self> {
        let namespace = place.namespace.clone();
        let config = config(place).await?;
        let namespace = namespace.unwrap_or_else(|| config.default_namespace.clone());
        let client = Client::try_from(config).context("cannot use the kubeconfig")?;
        Ok(Self { client, namespace })
    }
}

async fn config(place: Where) -> anyhow::Result<Config> {
    let Where {
        namespace: _,
        context,
        kubeconfig,
    } = place;
    if context.is_none() && kubeconfig.is_none() {
        // Also from inside a pod.
        let config = Config::infer().await;
        return config.map_err(|error| anyhow::anyhow!("cannot find a cluster: {error}"));
    }
    let kubeconfig = match &kubeconfig {
        Some(path) => Kubeconfig::read_from(path),
        None => Kubeconfig::read(),
    };
    // These errors tell their causes themselves.
    let useless = |error| anyhow::anyhow!("cannot use the kubeconfig: {error}");
    let kubeconfig = kubeconfig.map_err(useless)?;
    let options = KubeConfigOptions {
        context,
        ..KubeConfigOptions::default()
    };
    Config::from_custom_kubeconfig(kubeconfig, &options)
        .await
        .map_err(useless)
}

/// What the API server says to a request, in a line for people.
pub(crate) fn explain(error: kube::Error) -> anyhow::Error {
    match error {
        kube::Error::Api(status) if status.code == NOT_FOUND => {
            // One that does not have the kind names no object.
            let missing = status.details.filter(|details| !details.name.is_empty());
            match missing {
                Some(details) => anyhow::anyhow!("there is no SmtpRelay {:?}", details.name),
                None => anyhow::anyhow!(
                    "the cluster has no SmtpRelays: the custom resource definitions are not installed"
                ),
            }
        }
        kube::Error::Api(status) => anyhow::anyhow!("{}", status.message.trim()),
        // It repeats the first of its causes.
        kube::Error::Service(cause) => {
            anyhow::Error::from_boxed(cause).context("cannot reach the API server")
        }
        error => anyhow::anyhow!("{error}"),
    }
}

#[cfg(test)]
mod tests {
    use kube::core::Status;
    use serde_json::{Value, json};

    use super::*;

    fn said(status: Value) -> String {
        let status: Status = serde_json::from_value(status).unwrap();
        let error = explain(kube::Error::Api(Box::new(status)));
        format!("{:#}", error.context("cannot read the SmtpRelay"))
    }

    #[test]
    fn a_refusal_is_one_line_for_people() {
        for (status, line) in [
            (
                json!({"code": 404, "reason": "NotFound", "message": "not found", "details": {"name": "mali"}}),
                "cannot read the SmtpRelay: there is no SmtpRelay \"mali\"",
            ),
            (
                json!({"code": 404, "reason": "", "message": "404 page not found\n"}),
                "cannot read the SmtpRelay: the cluster has no SmtpRelays: the custom resource definitions are not installed",
            ),
            (
                json!({"code": 403, "reason": "Forbidden", "message": "smtprelays is forbidden"}),
                "cannot read the SmtpRelay: smtprelays is forbidden",
            ),
        ] {
            assert_eq!(said(status), line);
        }
    }
}
