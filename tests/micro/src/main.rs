//! Counts the instructions of the hot paths: line scan, unstuffing, stuffing, record framing, recovery, scheduler.
//!
//! Time says little on a machine that does other things; instructions hardly change from run to run. `postroad-micro count` runs
//! each path under valgrind twice, with few and with many repetitions, so that what comes before and after cancels out, and
//! compares with the figures that are checked in. See `tests/micro/run`.

mod count;
mod disk;
mod schedule;
mod smtp;
mod spool;
mod throughput;

use std::path::PathBuf;

use anyhow::Context as _;
use clap::Parser;

/// Counts the instructions of the hot paths.
#[derive(Debug, Parser)]
enum Command {
    /// Every path, compared with the figures of before.
    Count {
        /// The figures of before.
        #[arg(long, default_value = "docs/performance/instructions.csv")]
        baseline: PathBuf,
        /// Write the figures of now in their place.
        #[arg(long)]
        update: bool,
    },
    /// One path, so often; what valgrind watches.
    Repeat {
        /// Its name.
        path: String,
        /// How often.
        times: usize,
    },
    /// The spool on a real disk: groups a second, flushes, waiting times.
    Spool(throughput::Args),
}

/// A hot path.
pub(crate) struct HotPath {
    /// Its name in the figures.
    pub(crate) name: &'static str,
    /// What one repetition is.
    pub(crate) unit: &'static str,
    /// Repetitions that are enough to tell.
    pub(crate) times: usize,
    /// Does it so often.
    pub(crate) repeat: fn(usize) -> anyhow::Result<()>,
}

/// All of them.
pub(crate) fn hot_paths() -> Vec<HotPath> {
    let mut all = smtp::hot_paths();
    all.extend(spool::hot_paths());
    all.extend(schedule::hot_paths());
    all
}

fn main() -> anyhow::Result<()> {
    match Command::parse() {
        Command::Count { baseline, update } => count::count(&baseline, update),
        Command::Repeat { path, times } => {
            let known = hot_paths().into_iter().find(|known| known.name == path);
            (known.with_context(|| format!("there is no {path}"))?.repeat)(times)
        }
        Command::Spool(args) => throughput::run(&args),
    }
}

/// This program talks to people.
#[expect(clippy::print_stdout, reason = "a program for the terminal")]
fn say(line: &str) {
    println!("{line}");
}
