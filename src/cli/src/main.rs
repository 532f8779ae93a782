//! `kubectl postroad`: a file per verb.
//!
//! What goes wrong is said in one line on standard error, with exit code 1.

mod bounce;
mod cluster;
mod figures;
mod flush;
mod hold;
mod overrides;
mod queue;
mod rates;
mod release;
mod restart;
mod selection;
mod status;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

use cluster::{Cluster, Where};
use selection::Selection;

/// Looks after Postroad's relays.
#[derive(Debug, Parser)]
#[command(name = "kubectl-postroad", bin_name = "kubectl postroad", version)]
struct Args {
    #[command(flatten)]
    place: Where,
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Debug, Subcommand)]
enum Verb {
    /// Returns mail to its senders: what waits, and what comes until it is released.
    Bounce {
        /// The SmtpRelay.
        name: String,
        #[command(flatten)]
        selection: Selection,
        /// What the senders are told: one line.
        #[arg(long, help_heading = "Options")]
        reason: String,
    },
    /// Has mail tried now that waits for its next attempt.
    Flush {
        /// The SmtpRelay.
        name: String,
        #[command(flatten)]
        selection: Selection,
    },
    /// Keeps mail in the queue until it is released.
    Hold {
        /// The SmtpRelay.
        name: String,
        #[command(flatten)]
        selection: Selection,
        /// How to call what is done, for `release`; made of the selection if not given.
        #[arg(long = "name", value_name = "NAME", help_heading = "Options")]
        called: Option<String>,
    },
    /// Says where mail waits, why, and what is held, flushed and returned.
    Queue {
        /// The SmtpRelay.
        name: String,
    },
    /// Lets mail go that is held, and ends what `bounce` does.
    Release {
        /// The SmtpRelay.
        name: String,
        /// What to end, as `queue` calls it; everything that holds or flushes if not given.
        overrides: Vec<String>,
    },
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
        Verb::Bounce {
            name,
            selection,
            reason,
        } => bounce::run(client, &namespace, &name, &selection, reason).await,
        Verb::Flush { name, selection } => flush::run(client, &namespace, &name, &selection).await,
        Verb::Hold {
            name,
            selection,
            called,
        } => hold::run(client, &namespace, &name, &selection, called).await,
        Verb::Queue { name } => queue::run(client, &namespace, &name).await,
        Verb::Release { name, overrides } => {
            release::run(client, &namespace, &name, &overrides).await
        }
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
    fn mail_is_selected_by_flags() {
        for (line, taken) in [
            ("kubectl-postroad queue mail", true),
            ("kubectl-postroad hold mail", true),
            (
                "kubectl-postroad hold mail --recipient a.example --recipient b.example --name x",
                true,
            ),
            ("kubectl-postroad release mail", true),
            ("kubectl-postroad release mail hold-a.example flush", true),
            (
                "kubectl-postroad flush mail --sender a.example -n infra",
                true,
            ),
            (
                "kubectl-postroad bounce mail --credential shop.mail --reason no",
                true,
            ),
            ("kubectl-postroad bounce mail --recipient a.example", false),
            ("kubectl-postroad hold", false),
        ] {
            assert_eq!(parse(line).is_ok(), taken, "{line}");
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
