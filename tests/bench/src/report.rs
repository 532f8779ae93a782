//! Results: rows for programs, tables and a plot for people, and the page that is published.

mod asked;
mod page;
mod plot;
mod tables;

use std::fmt::Write as _;
use std::time::Instant;

use crate::figures::{Figures, Outcome, median};
use crate::probe::Sync;
use crate::server::Server;
use crate::workload::Workload;

pub(crate) use page::page;
pub(crate) use plot::plot;
pub(crate) use tables::tables;

/// The server that the others are compared with.
const YARDSTICK: &str = "postfix-tuned";

const HEADER: &str = "server,workload,disk,durability,run,sessions,size_bytes,messages,accepted_per_s,delivered_per_s,\
    cpu_s_per_1000,peak_pss_mib,syncs_per_message,p50_ms,p99_ms,ratio_to_postfix_tuned";

/// All runs of one server with one workload on one disk.
#[derive(Clone, Debug)]
pub(crate) struct Series {
    pub(crate) server: Server,
    pub(crate) workload: Workload,
    pub(crate) disk: String,
    pub(crate) runs: Vec<Outcome>,
    /// Why others gave nothing.
    pub(crate) failures: Vec<String>,
}

/// What the disk itself can do, measured once per round.
#[derive(Clone, Debug)]
pub(crate) struct Disk {
    pub(crate) name: String,
    pub(crate) about: String,
    pub(crate) syncs: Vec<Sync>,
}

/// What is compared, and on what.
#[derive(Clone, Debug)]
pub(crate) struct Setting {
    pub(crate) machine: String,
    /// With their versions.
    pub(crate) programs: Vec<String>,
    pub(crate) begin: Instant,
}

/// All that was measured.
#[derive(Clone, Debug)]
pub(crate) struct Results {
    setting: Setting,
    disks: Vec<Disk>,
    series: Vec<Series>,
}

impl Disk {
    pub(crate) fn new(name: &str, about: String) -> Self {
        Self {
            name: name.to_owned(),
            about,
            syncs: Vec::new(),
        }
    }

    /// The median of each figure.
    fn sync(&self) -> Sync {
        let of = |figure: fn(&Sync) -> f64| median(self.syncs.iter().map(figure)).unwrap_or(0.0);
        Sync {
            p50_ms: of(|sync| sync.p50_ms),
            p99_ms: of(|sync| sync.p99_ms),
        }
    }
}

impl Results {
    /// Nothing yet.
    pub(crate) fn new(setting: Setting) -> Self {
        Self {
            setting,
            disks: Vec::new(),
            series: Vec::new(),
        }
    }

    pub(crate) fn add(&mut self, disk: Disk, series: Vec<Series>) {
        self.disks.push(disk);
        self.series.extend(series);
    }

    /// Whether a run of ours gave nothing.
    #[must_use]
    pub(crate) fn is_ours_broken(&self) -> bool {
        let mut series = self.series.iter();
        series.any(|series| series.server.is_ours() && !series.failures.is_empty())
    }

    fn median(&self, server: &str, workload: &str, disk: &str) -> Option<Outcome> {
        let wanted = |series: &&Series| {
            series.server.name == server && series.workload.name == workload && series.disk == disk
        };
        Outcome::median(&self.series.iter().find(wanted)?.runs)
    }

    /// How many times the yardstick's end-to-end rate this is, in the same run of the benchmark; where nothing is delivered
    /// meanwhile, how many times the rate at which it accepts.
    fn ratio(&self, series: &Series, figures: &Figures) -> Option<f64> {
        let yardstick = self
            .median(YARDSTICK, series.workload.name, &series.disk)?
            .figures;
        match (figures.delivered_per_s, yardstick.delivered_per_s) {
            (Some(ours), Some(its)) => Some(ours / its),
            _ => Some(figures.accepted_per_s? / yardstick.accepted_per_s?),
        }
    }
}

/// Every run and every median as comma-separated values; a field is empty where a workload has no such thing.
#[must_use]
pub(crate) fn csv(results: &Results) -> String {
    let mut text = format!("{HEADER}\n");
    for series in &results.series {
        for (index, run) in series.runs.iter().enumerate() {
            row(
                &mut text,
                series,
                &(index + 1).to_string(),
                &run.figures,
                None,
            );
        }
        if let Some(Outcome { figures, .. }) = Outcome::median(&series.runs) {
            let ratio = results.ratio(series, &figures);
            row(&mut text, series, "median", &figures, ratio);
        }
    }
    text
}

fn row(text: &mut String, series: &Series, run: &str, figures: &Figures, ratio: Option<f64>) {
    let Series {
        server,
        workload,
        disk,
        ..
    } = series;
    // Writing to a String cannot fail.
    let _ = writeln!(
        text,
        "{},{},{disk},{},{run},{},{},{},{},{},{},{},{},{},{},{}",
        server.name,
        workload.name,
        server.durability,
        workload.sessions,
        workload.size,
        figures.messages,
        cell(figures.accepted_per_s, 0, ""),
        cell(figures.delivered_per_s, 0, ""),
        cell(figures.cpu_s_per_1000, 3, ""),
        cell(figures.peak_pss_mib, 1, ""),
        cell(figures.syncs_per_message, 3, ""),
        cell(figures.p50_ms, 3, ""),
        cell(figures.p99_ms, 3, ""),
        cell(ratio, 2, ""),
    );
}

fn cell(value: Option<f64>, decimals: usize, missing: &str) -> String {
    value.map_or_else(|| missing.to_owned(), |value| format!("{value:.decimals$}"))
}

/// Three digits that tell something, more or less.
fn decimals(value: f64) -> usize {
    match value {
        _ if value < 1.0 => 3,
        _ if value < 100.0 => 2,
        _ => 0,
    }
}

fn begin_of_line(series: &Series) -> String {
    format!(
        "{:10} {:8} {:16}",
        series.workload.name, series.disk, series.server.name
    )
}

/// The line for the terminal of a run that gave nothing.
#[must_use]
pub(crate) fn failure(series: &Series, why: &str) -> String {
    format!("{} FAILED: {why}", begin_of_line(series))
}

/// One line for the terminal while it runs.
#[must_use]
pub(crate) fn line(series: &Series, outcome: &Outcome) -> String {
    let figures = &outcome.figures;
    let mut line = begin_of_line(series);
    let columns = [
        (figures.accepted_per_s, 0, "accepted/s"),
        (figures.delivered_per_s, 0, "delivered/s"),
        (figures.cpu_s_per_1000, 2, "CPU s/1000"),
        (figures.peak_pss_mib, 0, "MiB"),
        (figures.syncs_per_message, 2, "flushes/message"),
        (figures.p99_ms, 2, "ms p99"),
    ];
    for (value, decimals, what) in columns {
        if value.is_some() {
            let _ = write!(line, " {:>6} {what}", cell(value, decimals, ""));
        }
    }
    for fact in &outcome.facts {
        let decimals = decimals(fact.value);
        let _ = write!(
            line,
            "\n{:36} {:>8.decimals$} {}",
            "", fact.value, fact.name
        );
    }
    line
}

#[cfg(test)]
mod tests;
