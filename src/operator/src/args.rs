//! The command line.

use std::net::SocketAddr;

use clap::{Parser, Subcommand};
use postroad_telemetry::log;

use crate::{app, crds};

/// The operator of Postroad: keeps what SmtpRelay and SmtpCredential objects describe.
#[derive(Debug, Parser)]
#[command(name = "postroad-operator", version, about)]
pub struct Args {
    #[command(flatten)]
    settings: Settings,
    /// How log lines look: json or text.
    #[arg(
        long,
        env = "POSTROAD_LOG_FORMAT",
        default_value = "json",
        global = true
    )]
    log_format: log::Format,
    /// What is logged, in the syntax of RUST_LOG.
    #[arg(
        long,
        env = "RUST_LOG",
        default_value = "info,kube_runtime=error",
        global = true
    )]
    log: String,
    #[command(subcommand)]
    command: Option<Command>,
}

/// What an operator is told when it starts.
#[derive(Clone, Debug, clap::Args)]
pub(crate) struct Settings {
    /// Image of relays that name none themselves.
    #[arg(long, env = "RELAY_IMAGE", default_value = "postroad:latest")]
    pub(crate) relay_image: String,
    /// Repositories of which relays may name an image, or folders of repositories, separated by commas; * for all.
    /// The repository of the relay image if empty.
    #[arg(long, env = "ALLOWED_RELAY_IMAGES", value_delimiter = ',', num_args = 0..)]
    pub(crate) allowed_relay_images: Vec<String>,
    /// When nodes pull the relay image: Always, IfNotPresent or Never. The cluster's rule if not set.
    #[arg(long, env = "IMAGE_PULL_POLICY")]
    pub(crate) image_pull_policy: Option<String>,
    /// DNS domain of the cluster.
    #[arg(long, env = "CLUSTER_DOMAIN", default_value = "cluster.local")]
    pub(crate) cluster_domain: String,
    /// Namespaces to work in, separated by commas; all if empty.
    #[arg(long, env = "NAMESPACES", value_delimiter = ',', num_args = 0..)]
    pub(crate) namespaces: Vec<String>,
    /// Address and port of /livez, /readyz and /metrics.
    #[arg(long, env = "HEALTH_LISTEN", default_value = "[::]:8080")]
    pub(crate) health_listen: SocketAddr,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Prints the custom resource definitions as YAML.
    Crds,
}

impl Args {
    /// Does what the command line says.
    ///
    /// # Errors
    /// What kept it from being done.
    pub fn run(self) -> anyhow::Result<()> {
        if let Some(Command::Crds) = self.command {
            return print_crds();
        }
        let _log = log::init(self.log_format, &self.log)?;
        app::run(self.settings)
    }
}

#[expect(clippy::print_stdout, reason = "a person or a pipe asked for it")]
fn print_crds() -> anyhow::Result<()> {
    let files = crds::files()?;
    let documents: Vec<_> = files.into_iter().map(|(_, yaml)| yaml).collect();
    print!("{}", documents.join("---\n"));
    Ok(())
}
