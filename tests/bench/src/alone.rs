//! Load and sink without anything around them, as programs.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Instant;

use anyhow::Context as _;
use tokio::signal::unix::{SignalKind, signal};

use crate::client::Target;
use crate::faults::Rule;
use crate::figures::as_f64;
use crate::ledger::Ledger;
use crate::load::{self, Body, Load};
use crate::rig::local;
use crate::sink::{self, Manner};
use crate::tls::Tls;

/// Sends messages and counts the promises.
#[derive(Debug, clap::Args)]
pub(crate) struct LoadArgs {
    /// Where to, as ADDRESS:PORT.
    target: SocketAddr,
    /// Messages to send.
    #[arg(long, default_value_t = 1000)]
    messages: usize,
    /// The id of the first.
    #[arg(long, default_value_t = 0)]
    first: usize,
    /// Sessions at once.
    #[arg(long, default_value_t = 50)]
    sessions: usize,
    /// Octets of each message.
    #[arg(long, default_value_t = 4096)]
    size: usize,
    /// Use a connection for one message only.
    #[arg(long)]
    single: bool,
    /// Send MAIL, RCPT and DATA together (RFC 2920).
    #[arg(long)]
    pipelining: bool,
    /// How the connection is protected; the certificate is not looked at.
    #[arg(long, value_enum, default_value_t)]
    tls: Tls,
    /// Log in with AUTH PLAIN, as USER:PASSWORD.
    #[arg(long, value_parser = login)]
    login: Option<(String, String)>,
    /// How content is sent.
    #[arg(long, value_enum, default_value_t)]
    body: Body,
    /// Messages per second; as many as go if not given.
    #[arg(long, value_parser = clap::value_parser!(u32).range(1..))]
    rate: Option<u32>,
    /// Of 1000 messages, break off so many in the middle of the content and begin again.
    #[arg(long, default_value_t = 0)]
    aborts: u64,
    /// Spread the recipients over so many domains.
    #[arg(long, default_value_t = 1)]
    domains: usize,
    /// Write the ids that got 250 to this file, one a line.
    #[arg(long)]
    ledger: Option<PathBuf>,
}

/// Takes messages and counts what arrives.
#[derive(Debug, clap::Args)]
pub(crate) struct SinkArgs {
    /// Where to listen, as ADDRESS:PORT.
    listen: SocketAddr,
    /// Ids below this are counted.
    #[arg(long, default_value_t = 1_000_000)]
    ids: usize,
    /// How connections are, or can be, protected.
    #[arg(long, value_enum, default_value_t)]
    tls: Tls,
    /// Offer CHUNKING.
    #[arg(long)]
    chunking: bool,
    /// A fault, as ACTION@STEP=SHARE of 1000; actions are a reply code, drop, delay:MS; steps are connect, hello, mail, rcpt, data, end.
    #[arg(long = "fault")]
    faults: Vec<Rule>,
    /// Write the ids that arrived to this file, one a line.
    #[arg(long)]
    ledger: Option<PathBuf>,
}

fn login(text: &str) -> Result<(String, String), String> {
    let (user, password) = text.split_once(':').ok_or("expected USER:PASSWORD")?;
    Ok((user.to_owned(), password.to_owned()))
}

/// # Errors
/// If the load cannot run; that messages were refused is told, and no error.
pub(crate) fn load(args: LoadArgs) -> anyhow::Result<()> {
    let mut target = Target::plain(args.target)?;
    target.tls = args.tls;
    target.login = args.login;
    let ids = args.first..args.first + args.messages;
    let ledger = Arc::new(Ledger::new(ids.end));
    let load = Load {
        target,
        sessions: args.sessions,
        size: args.size,
        ids,
        reuse: !args.single,
        pipelining: args.pipelining,
        body: args.body,
        rate: args.rate,
        aborts: args.aborts,
        domains: args.domains,
    };
    let begin = Instant::now();
    let report = local(load::run(load, Arc::clone(&ledger)))??;
    let taken = ledger.last_promise().saturating_duration_since(begin);
    let accepted = report.latencies_us.len();
    crate::say(&format!(
        "{accepted} accepted, {:.0}/s, end of data to 250: p50 {:.3} ms, p99 {:.3} ms; {} refused{}",
        as_f64(accepted) / taken.as_secs_f64(),
        report.percentile_ms(50),
        report.percentile_ms(99),
        report.refused,
        report
            .first_refusal
            .map_or_else(String::new, |reason| format!(", the first: {reason}")),
    ));
    write(args.ledger.as_deref(), ledger.acknowledged())
}

/// # Errors
/// If the port cannot be had or the ledger not be written.
pub(crate) fn sink(args: SinkArgs) -> anyhow::Result<()> {
    let ledger = Arc::new(Ledger::new(args.ids));
    let manner = Manner {
        tls: args.tls,
        chunking: args.chunking,
        faults: args.faults,
    };
    local(async {
        let mut end = signal(SignalKind::terminate())?;
        let mut interrupt = signal(SignalKind::interrupt())?;
        let listener = sink::listen(args.listen)?;
        tokio::select! {
            served = sink::run(listener, manner, Arc::clone(&ledger)) => served,
            _ = end.recv() => Ok(()),
            _ = interrupt.recv() => Ok(()),
        }
    })??;
    let balance = ledger.balance();
    crate::say(&format!(
        "{} arrived, {} of them more than once",
        balance.arrived, balance.duplicates
    ));
    write(args.ledger.as_deref(), ledger.arrived())
}

fn write(path: Option<&Path>, ids: impl Iterator<Item = usize>) -> anyhow::Result<()> {
    let Some(path) = path else {
        return Ok(());
    };
    let text: String = ids.map(|id| format!("{id}\n")).collect();
    std::fs::write(path, text).with_context(|| path.display().to_string())
}
