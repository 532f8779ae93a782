//! `kubectl postroad`: a file per verb.

mod restart;
mod status;

use clap::{Parser, Subcommand};
use kube::Client;

/// Looks after Postroad's relays.
#[derive(Debug, Parser)]
#[command(name = "kubectl-postroad", version, about)]
struct Args {
    /// The namespace; that of the current context if not given.
    #[arg(long, short, global = true)]
    namespace: Option<String>,
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Debug, Subcommand)]
enum Verb {
    /// Has every replica of a relay replaced, one at a time: also how pods of an earlier operator become those of today.
    Restart {
        /// The SmtpRelay.
        name: String,
    },
    /// Says of a relay, or of every relay of the namespace, whether mail flows, what waits, and why.
    Status {
        /// The SmtpRelay.
        name: Option<String>,
    },
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> anyhow::Result<()> {
    let args = Args::parse();
    let client = Client::try_default().await?;
    let namespace = args
        .namespace
        .unwrap_or_else(|| client.default_namespace().to_owned());
    match args.verb {
        Verb::Restart { name } => restart::run(client, &namespace, &name).await,
        Verb::Status { name } => status::run(client, &namespace, name.as_deref()).await,
    }
}
