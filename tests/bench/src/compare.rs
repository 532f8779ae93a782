//! Every server with every workload on every disk.

use std::path::{Path, PathBuf};
use std::time::Instant;

use anyhow::{Context as _, bail};

use crate::host;
use crate::probe;
use crate::report::{self, Disk, Results, Series, Setting};
use crate::rig::Place;
use crate::run;
use crate::server::{OURS, SERVERS};
use crate::workload::WORKLOADS;

/// What `make bench` measures if nothing is said; a run of all of it is worth publishing.
const SERVERS_DEFAULT: &str = "direct,postroad,postfix-tuned,postfix-shipped,exim,opensmtpd";
const WORKLOADS_DEFAULT: &str =
    "B,C,D,E,paced,tls,handshakes,bdat,faults,idle,idle-tls,down,waiting";
const RUNS_DEFAULT: usize = 5;

/// The page of results, beside its plot.
const PAGE: &str = "README.md";
const PLOT: &str = "plot.svg";

/// A server that failed so often with a workload is not measured with it any more: each failure may take minutes.
const FAILURES_MAX: usize = 2;

/// Measures servers side by side.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Servers to measure, in this order.
    #[arg(long, value_delimiter = ',', default_value = SERVERS_DEFAULT)]
    servers: Vec<String>,
    /// Workloads to measure.
    #[arg(long, value_delimiter = ',', default_value = WORKLOADS_DEFAULT)]
    workloads: Vec<String>,
    /// Runs of each, where they are not too long; what counts is their median.
    #[arg(long, default_value_t = RUNS_DEFAULT)]
    runs: usize,
    /// Another number of messages for a workload, as NAME=COUNT, before a server gets its part of it.
    #[arg(long = "messages", value_parser = messages)]
    messages: Vec<(String, usize)>,
    /// A disk under test as NAME=DIRECTORY; the directory is emptied.
    #[arg(long = "disk", value_parser = disk, required = true)]
    disks: Vec<(String, PathBuf)>,
    /// Where the scripts are that start servers.
    #[arg(long, default_value = "tests/bench/servers")]
    scripts: PathBuf,
    /// Send MAIL, RCPT and DATA together (RFC 2920).
    #[arg(long)]
    pipelining: bool,
    /// Where results.csv, README.md and plot.svg are written after every round.
    #[arg(long, default_value = "target/bench")]
    out: PathBuf,
    /// Where the page of results is written too, once all has been measured as often as it is by default, or more often.
    #[arg(long, default_value = "docs/performance")]
    docs: PathBuf,
}

fn disk(text: &str) -> Result<(String, PathBuf), String> {
    let (name, directory) = text.split_once('=').ok_or("expected NAME=DIRECTORY")?;
    Ok((name.to_owned(), directory.into()))
}

fn messages(text: &str) -> Result<(String, usize), String> {
    let wrong = "expected NAME=COUNT";
    let (name, count) = text.split_once('=').ok_or(wrong)?;
    Ok((name.to_owned(), count.parse().map_err(|_| wrong)?))
}

/// # Errors
/// If a name is unknown, or one of our own runs failed. That a run of another server failed is noted in the results.
pub(crate) fn run(args: &Args) -> anyhow::Result<()> {
    let mut results = Results::new(setting(args)?);
    for (index, (name, directory)) in args.disks.iter().enumerate() {
        let mut all = plan(args, name, index == 0)?;
        let mut disk = Disk::new(name, host::disk(directory)?);
        let place = Place {
            scripts: args.scripts.clone(),
            disk: directory.clone(),
            pipelining: args.pipelining,
        };
        // Servers take turns, so that whatever else the machine does hits all of them.
        for round in 0..args.runs {
            disk.syncs.push(probe::sync(directory)?);
            for series in &mut all {
                if round < series.workload.runs_max_for(&series.server)
                    && series.failures.len() < FAILURES_MAX
                {
                    measure(series, &place);
                }
            }
            let mut so_far = results.clone();
            so_far.add(disk.clone(), all.clone());
            write(&args.out, &so_far)?;
        }
        results.add(disk, all);
    }
    crate::say(&report::tables(&results));
    if results.is_ours_broken() {
        bail!("runs of {OURS} failed; nothing is published");
    }
    if args.is_everything() {
        std::fs::create_dir_all(&args.docs)?;
        for name in [PAGE, PLOT] {
            std::fs::copy(args.out.join(name), args.docs.join(name))?;
        }
        crate::say(&format!("written: {}", args.docs.display()));
    }
    Ok(())
}

/// What is compared, and on what.
fn setting(args: &Args) -> anyhow::Result<Setting> {
    let mut programs = Vec::new();
    for server in chosen(&args.servers, &SERVERS, |server| server.name)? {
        programs.extend(server.version(&args.scripts)?);
    }
    programs.dedup();
    Ok(Setting {
        machine: host::machine(),
        programs,
        begin: Instant::now(),
    })
}

impl Args {
    /// Whether nothing was left out: only then are the results worth a page.
    fn is_everything(&self) -> bool {
        let has = |given: &[String], default: &str| {
            let mut names = default.split(',');
            names.all(|name| given.iter().any(|one| one == name))
        };
        self.runs >= RUNS_DEFAULT
            && self.disks.len() > 1
            && !self.pipelining
            && self.messages.is_empty()
            && has(&self.servers, SERVERS_DEFAULT)
            && has(&self.workloads, WORKLOADS_DEFAULT)
    }
}

/// What is to be measured on one disk.
fn plan(args: &Args, disk: &str, is_first: bool) -> anyhow::Result<Vec<Series>> {
    let mut all = Vec::new();
    for mut workload in chosen(&args.workloads, &WORKLOADS, |workload| workload.name)? {
        let other = args.messages.iter().find(|(name, _)| name == workload.name);
        workload.messages = other.map_or(workload.messages, |(_, count)| *count);
        if !workload.depends_on_disk() && !is_first {
            continue;
        }
        for server in chosen(&args.servers, &SERVERS, |server| server.name)? {
            if workload.is_for(server.name) {
                all.push(Series {
                    server,
                    workload,
                    disk: disk.to_owned(),
                    runs: Vec::new(),
                    failures: Vec::new(),
                });
            }
        }
    }
    Ok(all)
}

/// One run. Others than ours may fail: an hour's work is not lost for it.
fn measure(series: &mut Series, place: &Place) {
    let Series {
        server, workload, ..
    } = *series;
    let outcome = place
        .clear(server)
        .and_then(|()| run::measure(server, workload, place))
        .and_then(|outcome| place.clear(server).map(|()| outcome));
    match outcome {
        Ok(outcome) => {
            crate::say(&report::line(series, &outcome));
            series.runs.push(outcome);
        }
        Err(error) => {
            // It may be published, and where the disk is mounted is nobody's business.
            let mounted = place.disk.display().to_string();
            let why = format!("{error:#}").replace(&mounted, &series.disk);
            crate::say(&report::failure(series, &why));
            series.failures.push(why);
        }
    }
}

/// Written after every round: a benchmark that is broken off has not been for nothing.
fn write(out: &Path, results: &Results) -> anyhow::Result<()> {
    std::fs::create_dir_all(out)?;
    std::fs::write(out.join("results.csv"), report::csv(results))?;
    std::fs::write(out.join(PAGE), report::page(results))?;
    std::fs::write(out.join(PLOT), report::plot(results))?;
    Ok(())
}

fn chosen<T: Copy>(
    names: &[String],
    all: &[T],
    name_of: fn(&T) -> &'static str,
) -> anyhow::Result<Vec<T>> {
    let find = |name: &String| {
        let found = all.iter().find(|one| name_of(one) == name);
        found.copied().with_context(|| {
            let known: Vec<_> = all.iter().map(name_of).collect();
            format!("there is no {name:?}; there are {}", known.join(", "))
        })
    };
    names.iter().map(find).collect()
}
