//! Side-by-side benchmark of SMTP relays: the same load, the same sink, one after the other on this machine.
//!
//! `make bench` prepares disks and servers and calls this program; see `tests/bench/run`.

mod ledger;
mod load;
mod measure;
mod message;
mod report;
mod run;
mod server;
mod sink;
mod workload;

use std::path::PathBuf;

use anyhow::Context as _;
use clap::Parser;

use report::Series;
use run::Place;
use server::SERVERS;
use workload::WORKLOADS;

/// Measures SMTP relays side by side.
#[derive(Debug, Parser)]
struct Args {
    /// Servers to measure, in this order.
    #[arg(
        long,
        value_delimiter = ',',
        default_value = "direct,postroad,postfix-tuned,postfix-shipped,exim,opensmtpd"
    )]
    servers: Vec<String>,
    /// Workloads to measure.
    #[arg(long, value_delimiter = ',', default_value = "B,C,D,E")]
    workloads: Vec<String>,
    /// Runs of each; what counts is their median.
    #[arg(long, default_value_t = 5)]
    runs: usize,
    /// A disk under test as NAME=DIRECTORY; the directory is emptied.
    #[arg(long = "disk", value_parser = disk, required = true)]
    disks: Vec<(String, PathBuf)>,
    /// Where the scripts are that start servers.
    #[arg(long, default_value = "tests/bench/servers")]
    scripts: PathBuf,
    /// Send MAIL, RCPT and DATA together (RFC 2920).
    #[arg(long)]
    pipelining: bool,
    /// Where results.csv, table.md and plot.svg are written.
    #[arg(long, default_value = "target/bench")]
    out: PathBuf,
}

fn disk(text: &str) -> Result<(String, PathBuf), String> {
    let (name, directory) = text.split_once('=').ok_or("expected NAME=DIRECTORY")?;
    Ok((name.to_owned(), directory.into()))
}

fn main() -> anyhow::Result<()> {
    let args = Args::parse();
    let mut all = Vec::new();
    for (name, directory) in &args.disks {
        for workload in chosen(&args.workloads, &WORKLOADS, |workload| workload.name)? {
            all.extend(
                chosen(&args.servers, &SERVERS, |server| server.name)?
                    .into_iter()
                    .map(|server| Series {
                        server,
                        workload,
                        disk: name.clone(),
                        runs: Vec::new(),
                    }),
            );
        }
        let place = Place {
            scripts: args.scripts.clone(),
            disk: directory.clone(),
            pipelining: args.pipelining,
        };
        // Servers take turns, so that whatever else the machine does hits all of them.
        for _ in 0..args.runs {
            for series in all.iter_mut().filter(|series| series.disk == *name) {
                measure(series, &place)?;
            }
            write(&args.out, &all)?;
        }
    }
    say(&report::table(&all));
    Ok(())
}

fn measure(series: &mut Series, place: &Place) -> anyhow::Result<()> {
    run::clear(place, series.server)?;
    let figures = run::measure(series.server, series.workload, place).with_context(|| {
        format!(
            "{} with workload {}",
            series.server.name, series.workload.name
        )
    })?;
    run::clear(place, series.server)?;
    say(&report::line(series, &figures));
    series.runs.push(figures);
    Ok(())
}

/// Written after every round: a benchmark that is broken off has not been for nothing.
fn write(out: &std::path::Path, all: &[Series]) -> anyhow::Result<()> {
    std::fs::create_dir_all(out)?;
    std::fs::write(out.join("results.csv"), report::csv(all))?;
    std::fs::write(out.join("table.md"), report::table(all))?;
    std::fs::write(out.join("plot.svg"), report::plot(all))?;
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

/// This program talks to people.
#[expect(clippy::print_stdout, reason = "a program for the terminal")]
fn say(line: &str) {
    println!("{line}");
}
