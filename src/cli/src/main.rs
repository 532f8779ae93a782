//! `kubectl postroad`: a file per verb.
//!
//! What goes wrong is said in one line on standard error, with exit code 1.

mod cluster;
mod restart;
mod status;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

use cluster::{Cluster, Where};

/// Looks after Postroad's relays.
#[derive(Debug, Parser)]
#[command(name = "kubectl-postroad", version, about)]
struct Args {
    #[command(flatten)]
    place: Where,
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
        /// The relays of all namespaces.
        #[arg(long, short = 'A', conflicts_with_all = ["name", "namespace"])]
        all_namespaces: bool,
    },
}

#[tokio::main(flavor = "current_thread")]
#[expect(clippy::print_stderr, reason = "a person asked for it")]
async fn main() -> ExitCode {
    match run(Args::parse()).await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

async fn run(args: Args) -> anyhow::Result<()> {
    let Cluster { client, namespace } = Cluster::connect(args.place).await?;
    match args.verb {
        Verb::Restart { name } => restart::run(client, &namespace, &name).await,
        Verb::Status {
            name: Some(name), ..
        } => status::one(client, &namespace, &name).await,
        Verb::Status { all_namespaces, .. } => {
            let namespace = (!all_namespaces).then_some(namespace.as_str());
            status::all(client, namespace).await
        }
    }
}

#[cfg(test)]
mod tests {
    use clap::error::ErrorKind;

    use super::*;

    fn parse(line: &str) -> Result<Args, ErrorKind> {
        Args::try_parse_from(line.split(' ')).map_err(|error| error.kind())
    }

    #[test]
    fn takes_the_flags_of_kubectl_before_and_after_the_verb() {
        for line in [
            "kubectl-postroad --context c --kubeconfig f -n infra status mail",
            "kubectl-postroad status mail -n infra --kubeconfig f --context c",
        ] {
            let Args { place, verb } = parse(line).unwrap();
            let expected = Where {
                namespace: Some("infra".into()),
                context: Some("c".into()),
                kubeconfig: Some("f".into()),
            };
            assert_eq!(place, expected);
            assert!(matches!(verb, Verb::Status { name: Some(name), .. } if name == "mail"));
        }
    }

    #[test]
    fn all_namespaces_leave_no_other_choice() {
        for (line, taken) in [
            ("kubectl-postroad status -A", true),
            ("kubectl-postroad status --all-namespaces", true),
            ("kubectl-postroad status -A mail", false),
            ("kubectl-postroad restart mail -A", false),
        ] {
            assert_eq!(parse(line).is_ok(), taken, "{line}");
        }
    }
}
