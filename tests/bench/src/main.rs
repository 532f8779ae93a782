//! Side-by-side benchmark of SMTP relays: the same load, the same sink, one after the other on this machine.
//!
//! `make bench` prepares disks and servers and calls `postroad-bench compare`; see `tests/bench/run`. Load and sink can be had
//! alone, for other tests: `postroad-bench load`, `postroad-bench sink`.

mod alone;
mod client;
mod compare;
mod faults;
mod figures;
mod host;
mod ledger;
mod load;
mod measure;
mod message;
mod probe;
mod report;
mod rig;
mod run;
mod server;
mod sink;
#[cfg(test)]
mod tests;
mod tls;
mod wire;
mod workload;

use clap::Parser;

/// Measures SMTP relays side by side.
#[derive(Debug, Parser)]
enum Command {
    /// Every server with every workload on every disk, one after the other.
    Compare(compare::Args),
    /// The load alone.
    Load(alone::LoadArgs),
    /// The sink alone, until it is interrupted.
    Sink(alone::SinkArgs),
}

fn main() -> anyhow::Result<()> {
    match Command::parse() {
        Command::Compare(args) => compare::run(&args),
        Command::Load(args) => alone::load(args),
        Command::Sink(args) => alone::sink(args),
    }
}

/// This program talks to people.
#[expect(clippy::print_stdout, reason = "a program for the terminal")]
fn say(line: &str) {
    println!("{line}");
}
