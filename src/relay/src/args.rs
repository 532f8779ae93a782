//! The command line.

use std::path::PathBuf;

use clap::{Parser, Subcommand};
use postroad_telemetry::log;

use crate::{app, offline, send_test};

/// The SMTP relay of Postroad.
#[derive(Debug, Parser)]
#[command(
    name = "postroad-relay",
    version,
    about,
    subcommand_negates_reqs = true
)]
pub struct Args {
    /// The configuration file, as the operator writes it.
    #[arg(long, required = true)]
    config: Option<PathBuf>,
    /// How log lines look: json or text.
    #[arg(
        long,
        env = "POSTROAD_LOG_FORMAT",
        default_value = "json",
        global = true
    )]
    log_format: log::Format,
    /// What is logged, in the syntax of RUST_LOG.
    #[arg(long, env = "RUST_LOG", default_value = "info", global = true)]
    log: String,
    #[command(subcommand)]
    command: Option<Command>,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Sends one test mail to an SMTP server; succeeds if it was accepted.
    SendTest(send_test::Args),
    /// Looks at a spool that no relay has open, as a copy of its volume.
    #[command(subcommand)]
    Spool(offline::Command),
}

impl Args {
    /// Does what the command line says.
    ///
    /// # Errors
    /// What kept it from being done.
    pub fn run(self) -> anyhow::Result<()> {
        let _log = log::init(self.log_format, &self.log)?;
        match (self.command, self.config) {
            (Some(Command::SendTest(args)), _) => send_test::run(&args),
            (Some(Command::Spool(command)), _) => offline::run(&command),
            (None, Some(config)) => app::run(&config),
            // The parser demands one of them.
            (None, None) => anyhow::bail!("--config is missing"),
        }
    }
}
