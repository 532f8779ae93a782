//! What the relay is asked to reach, beside what it reached in this run.

use std::fmt::Write as _;

use super::{Disk, Results, YARDSTICK, decimals};
use crate::figures::{Figures, Outcome};
use crate::server::OURS;
use crate::workload::{WORKLOADS, Workload};

/// A limit for a figure.
#[derive(Clone, Copy, Debug)]
enum Bound {
    AtLeast(f64),
    AtMost(f64),
}

impl Bound {
    fn holds(self, value: f64) -> bool {
        match self {
            Self::AtLeast(least) => value >= least,
            Self::AtMost(most) => value <= most,
        }
    }

    /// Whether what was asked was reached.
    fn verdict(self, value: f64) -> &'static str {
        if self.holds(value) { "yes" } else { "**no**" }
    }

    /// The same where nobody asked.
    fn side(self, value: f64) -> &'static str {
        if self.holds(value) {
            "within"
        } else {
            "beyond"
        }
    }

    fn text(self) -> String {
        match self {
            Self::AtLeast(least) => format!("≥ {least}"),
            Self::AtMost(most) => format!("≤ {most}"),
        }
    }
}

/// A workload of the comparison: the least ratio on either disk, the most CPU and memory.
struct Stream {
    workload: &'static str,
    bare: f64,
    journal: f64,
    cpu_s_per_1000: f64,
    peak_pss_mb: Option<f64>,
}

const STREAMS: [Stream; 4] = [
    Stream {
        workload: "B",
        bare: 7.0,
        journal: 6.0,
        cpu_s_per_1000: 0.35,
        peak_pss_mb: Some(64.0),
    },
    Stream {
        workload: "C",
        bare: 12.0,
        journal: 9.0,
        cpu_s_per_1000: 0.2,
        peak_pss_mb: Some(64.0),
    },
    Stream {
        workload: "D",
        bare: 4.0,
        journal: 3.5,
        cpu_s_per_1000: 0.8,
        peak_pss_mb: Some(128.0),
    },
    Stream {
        workload: "E",
        bare: 2.5,
        journal: 2.5,
        cpu_s_per_1000: 0.5,
        peak_pss_mb: None,
    },
];

/// A fact of a workload of its own.
#[derive(Clone, Copy)]
struct Wanted {
    workload: &'static str,
    /// As it stands in the results.
    fact: &'static str,
    what: &'static str,
    bound: Bound,
    /// What the fact is multiplied with.
    scale: f64,
    /// Who set the bound.
    by: By,
}

/// Who set a bound.
#[derive(Clone, Copy, Debug)]
enum By {
    /// It was asked for.
    Request,
    /// We did: nobody asked for anything here.
    Us,
}

/// What was asked is in MB, what was measured in MiB.
const MB: f64 = 1.048_576;

const fn wanted(
    workload: &'static str,
    fact: &'static str,
    what: &'static str,
    bound: Bound,
) -> Wanted {
    Wanted {
        workload,
        fact,
        what,
        bound,
        scale: 1.0,
        by: By::Request,
    }
}

const fn memory(
    workload: &'static str,
    fact: &'static str,
    what: &'static str,
    most_mb: f64,
) -> Wanted {
    Wanted {
        scale: MB,
        ..wanted(workload, fact, what, Bound::AtMost(most_mb))
    }
}

/// The most that "as soon as it returns" can mean: what is down is looked at every few seconds.
const SOON_S: f64 = 5.0;

/// A bound that nobody asked for: the one of connections in plaintext, for what keeps more.
const fn own(wanted: Wanted) -> Wanted {
    Wanted {
        by: By::Us,
        ..wanted
    }
}

const FACTS: [Wanted; 10] = [
    memory("idle", "PSS with 10,000, MiB", "PSS with 10,000, MB", 150.0),
    wanted(
        "idle",
        "bytes for each of 5,000 more",
        "bytes for each of 5,000 more",
        Bound::AtMost(10_000.0),
    ),
    own(memory(
        "idle-tls",
        "PSS with 10,000, MiB",
        "PSS with 10,000, MB",
        150.0,
    )),
    own(wanted(
        "idle-tls",
        "bytes for each of 5,000 more",
        "bytes for each of 5,000 more",
        Bound::AtMost(10_000.0),
    )),
    wanted(
        "down",
        "had to be told (1 = yes)",
        "had to be told (1 = yes)",
        Bound::AtMost(0.0),
    ),
    wanted(
        "down",
        "s from the return of the next hop to the first message",
        "s from the return of the next hop to the first message",
        Bound::AtMost(SOON_S),
    ),
    memory(
        "down",
        "peak PSS while draining, MiB",
        "peak PSS while draining, MB",
        128.0,
    ),
    wanted(
        "waiting",
        "s from kill -9 to EHLO",
        "s from kill -9 to EHLO",
        Bound::AtMost(10.0),
    ),
    memory(
        "waiting",
        "PSS after that, MiB",
        "PSS with 1,000,000 waiting, MB",
        300.0,
    ),
    memory(
        "waiting",
        "peak PSS while draining, MiB",
        "peak PSS while they drain, MB",
        300.0,
    ),
];

/// The cost of a message among a million beside that among few. A quarter more is within what runs differ by.
const FLAT: [(&str, &str, &str); 2] = [
    (
        "CPU of a message accepted with all waiting, beside one with 1,000",
        "CPU s/1000 accepted with all waiting",
        "CPU s/1000 accepted with 1,000 waiting",
    ),
    (
        "CPU of a message delivered with all waiting, beside one of the last",
        "CPU s/1000 delivered with all waiting",
        "CPU s/1000 delivered of the last",
    ),
];
const FLAT_MOST: f64 = 1.25;

/// The table in Markdown. What was not measured says so; what has nothing to do with the disk is asked of the first alone.
#[must_use]
pub(super) fn table(results: &Results) -> String {
    let mut text =
        String::from("| workload | disk | what | asked | reached | |\n|---|---|---|---|---|---|\n");
    for (index, disk) in results.disks.iter().enumerate() {
        let mut rows = Rows {
            text: &mut text,
            results,
            disk,
        };
        for stream in &STREAMS {
            rows.stream(stream);
        }
        rows.syncs("paced");
        rows.syncs("C");
        rows.down();
        for wanted in &FACTS {
            if index == 0 || depends_on_disk(wanted.workload) {
                rows.wanted(wanted);
            }
        }
        for (what, many, few) in FLAT {
            let many = rows.fact("waiting", many);
            let ratio = many.zip(rows.fact("waiting", few));
            let ratio = ratio.map(|(many, few)| many / few);
            rows.add("waiting", what, Bound::AtMost(FLAT_MOST), ratio);
        }
    }
    text
}

/// The rows of one disk.
struct Rows<'a> {
    text: &'a mut String,
    results: &'a Results,
    disk: &'a Disk,
}

impl Rows<'_> {
    fn add(&mut self, workload: &str, what: &str, bound: Bound, value: Option<f64>) {
        let reached = match value {
            Some(value) => {
                let (decimals, verdict) = (decimals(value), bound.verdict(value));
                format!("{value:.decimals$} | {verdict}")
            }
            None => "not measured |".to_owned(),
        };
        self.row(workload, what, &bound.text(), &reached);
    }

    fn wanted(&mut self, wanted: &Wanted) {
        let Wanted {
            workload,
            fact,
            what,
            bound,
            scale,
            by,
        } = *wanted;
        let value = self.fact(workload, fact).map(|value| value * scale);
        match (by, value) {
            (By::Request, value) => self.add(workload, what, bound, value),
            // What nobody asked for is not missed.
            (By::Us, None) => {}
            (By::Us, Some(value)) => {
                let (decimals, side) = (decimals(value), bound.side(value));
                let reached = format!("{value:.decimals$} | {side}");
                self.row(
                    workload,
                    what,
                    &format!("own bound: {}", bound.text()),
                    &reached,
                );
            }
        }
    }

    fn row(&mut self, workload: &str, what: &str, asked: &str, reached: &str) {
        let disk = &self.disk.name;
        // Writing to a String cannot fail.
        let _ = writeln!(
            self.text,
            "| {workload} | {disk} | {what} | {asked} | {reached} |"
        );
    }

    fn of(&self, server: &str, workload: &str) -> Option<Outcome> {
        self.results.median(server, workload, &self.disk.name)
    }

    fn figures(&self, server: &str, workload: &str) -> Figures {
        self.of(server, workload).unwrap_or_default().figures
    }

    fn fact(&self, workload: &str, name: &str) -> Option<f64> {
        let facts = self.of(OURS, workload)?.facts;
        let fact = facts.iter().find(|fact| fact.name == name)?;
        Some(fact.value)
    }

    fn stream(&mut self, stream: &Stream) {
        let workload = stream.workload;
        let ours = self.figures(OURS, workload);
        let least = if self.disk.name == "bare" {
            stream.bare
        } else {
            stream.journal
        };
        let its = self.figures(YARDSTICK, workload).delivered_per_s;
        let ratio = ours.delivered_per_s.zip(its);
        let ratio = ratio.map(|(ours, its)| ours / its);
        self.add(
            workload,
            "times Postfix tuned",
            Bound::AtLeast(least),
            ratio,
        );
        let cpu = Bound::AtMost(stream.cpu_s_per_1000);
        self.add(workload, "CPU s/1000", cpu, ours.cpu_s_per_1000);
        if let Some(most) = stream.peak_pss_mb {
            let reached = ours.peak_pss_mib.map(|mib| mib * MB);
            self.add(workload, "peak PSS, MB", Bound::AtMost(most), reached);
        }
    }

    /// How long a promise takes, in syncs.
    fn syncs(&mut self, workload: &str) {
        let sync_ms = self.disk.sync().p50_ms;
        let p99_ms = self.figures(OURS, workload).p99_ms;
        self.add(
            workload,
            "p99 of end of data to 250, in syncs",
            Bound::AtMost(3.0),
            p99_ms.map(|ms| ms / sync_ms),
        );
    }

    fn down(&mut self) {
        let ours = self.figures(OURS, "down");
        self.add(
            "down",
            "accepted/s",
            Bound::AtLeast(5000.0),
            ours.accepted_per_s,
        );
        let peak = ours.peak_pss_mib.map(|mib| mib * MB);
        self.add("down", "peak PSS, MB", Bound::AtMost(128.0), peak);
        let drained = self.fact("down", "drained/s from then on");
        let usual = self.figures(OURS, "C").delivered_per_s;
        let ratio = drained.zip(usual).map(|(drained, usual)| drained / usual);
        let full = Bound::AtLeast(1.0);
        self.add("down", "drained/s beside delivered/s of C", full, ratio);
    }
}

fn depends_on_disk(workload: &str) -> bool {
    let mut named = WORKLOADS.iter().filter(|one| one.name == workload);
    named.all(Workload::depends_on_disk)
}
