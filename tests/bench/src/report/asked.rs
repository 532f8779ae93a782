//! What the relay is asked to reach, beside what it reached in this run.

use std::fmt::Write as _;

use super::{OURS, Results, YARDSTICK, decimals};
use crate::figures::Outcome;

/// What was asked.
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
    peak_pss_mib: Option<f64>,
}

const STREAMS: [Stream; 4] = [
    Stream {
        workload: "B",
        bare: 7.0,
        journal: 6.0,
        cpu_s_per_1000: 0.35,
        peak_pss_mib: Some(64.0),
    },
    Stream {
        workload: "C",
        bare: 12.0,
        journal: 9.0,
        cpu_s_per_1000: 0.2,
        peak_pss_mib: Some(64.0),
    },
    Stream {
        workload: "D",
        bare: 4.0,
        journal: 3.5,
        cpu_s_per_1000: 0.8,
        peak_pss_mib: Some(128.0),
    },
    Stream {
        workload: "E",
        bare: 2.5,
        journal: 2.5,
        cpu_s_per_1000: 0.5,
        peak_pss_mib: None,
    },
];

/// A fact of a workload of its own.
const FACTS: [(&str, &str, Bound); 7] = [
    ("idle", "PSS with 10,000, MiB", Bound::AtMost(150.0)),
    (
        "idle",
        "bytes for each of 5,000 more",
        Bound::AtMost(10_240.0),
    ),
    ("down", "had to be told (1 = yes)", Bound::AtMost(0.0)),
    (
        "down",
        "s from the return of the next hop to the first message",
        Bound::AtMost(5.0),
    ),
    ("waiting", "s from kill -9 to EHLO", Bound::AtMost(10.0)),
    ("waiting", "PSS after that, MiB", Bound::AtMost(300.0)),
    (
        "waiting",
        "peak PSS while draining, MiB",
        Bound::AtMost(300.0),
    ),
];

/// The table in Markdown; what was not measured is not in it.
#[must_use]
pub(super) fn table(results: &Results) -> String {
    let mut rows = Rows(String::from(
        "| workload | disk | what | asked | reached | |\n|---|---|---|---|---|---|\n",
    ));
    for disk in &results.disks {
        let of = |workload| results.median(OURS, workload, &disk.name);
        for stream in &STREAMS {
            if let Some(ours) = of(stream.workload) {
                rows.stream(results, &disk.name, stream, &ours);
            }
        }
        let sync_ms = disk.sync().p50_ms;
        for workload in ["paced", "C"] {
            let p99_ms = of(workload).and_then(|ours| ours.figures.p99_ms);
            let what = "p99 of end of data to 250, in syncs";
            rows.add(
                workload,
                &disk.name,
                what,
                Bound::AtMost(3.0),
                p99_ms.map(|ms| ms / sync_ms),
            );
        }
        if let Some(ours) = of("down") {
            let figures = ours.figures;
            let accepted = Bound::AtLeast(5000.0);
            rows.add(
                "down",
                &disk.name,
                "accepted/s",
                accepted,
                figures.accepted_per_s,
            );
            rows.add(
                "down",
                &disk.name,
                "peak PSS, MiB",
                Bound::AtMost(128.0),
                figures.peak_pss_mib,
            );
        }
        for (workload, name, bound) in FACTS {
            let ours = of(workload).unwrap_or_default();
            let fact = ours.facts.iter().find(|fact| fact.name == name);
            rows.add(
                workload,
                &disk.name,
                name,
                bound,
                fact.map(|fact| fact.value),
            );
        }
        if let Some(ours) = of("waiting") {
            rows.flat(
                &disk.name,
                "accepted",
                &ours,
                "CPU s/1000 accepted with all waiting",
                "CPU s/1000 accepted with 1,000 waiting",
            );
            rows.flat(
                &disk.name,
                "delivered",
                &ours,
                "CPU s/1000 delivered with all waiting",
                "CPU s/1000 delivered of the last",
            );
        }
    }
    rows.0
}

struct Rows(String);

impl Rows {
    fn add(&mut self, workload: &str, disk: &str, what: &str, bound: Bound, value: Option<f64>) {
        let Some(value) = value else {
            return;
        };
        let verdict = if bound.holds(value) { "yes" } else { "**no**" };
        let decimals = decimals(value);
        // Writing to a String cannot fail.
        let _ = writeln!(
            self.0,
            "| {workload} | {disk} | {what} | {} | {value:.decimals$} | {verdict} |",
            bound.text()
        );
    }

    fn stream(&mut self, results: &Results, disk: &str, stream: &Stream, ours: &Outcome) {
        let figures = &ours.figures;
        let least = if disk == "bare" {
            stream.bare
        } else {
            stream.journal
        };
        let yardstick = results.median(YARDSTICK, stream.workload, disk);
        let its = yardstick.and_then(|its| its.figures.delivered_per_s);
        let ratio = figures
            .delivered_per_s
            .zip(its)
            .map(|(ours, its)| ours / its);
        let workload = stream.workload;
        self.add(
            workload,
            disk,
            "times Postfix tuned",
            Bound::AtLeast(least),
            ratio,
        );
        let cpu = Bound::AtMost(stream.cpu_s_per_1000);
        self.add(workload, disk, "CPU s/1000", cpu, figures.cpu_s_per_1000);
        if let Some(most) = stream.peak_pss_mib {
            self.add(
                workload,
                disk,
                "peak PSS, MiB",
                Bound::AtMost(most),
                figures.peak_pss_mib,
            );
        }
    }

    /// The cost of a message among a million beside that among few. A quarter more is within what runs differ by.
    fn flat(&mut self, disk: &str, what: &str, ours: &Outcome, many: &str, few: &str) {
        let of = |name: &str| {
            ours.facts
                .iter()
                .find(|fact| fact.name == name)
                .map(|fact| fact.value)
        };
        let ratio = of(many).zip(of(few)).map(|(many, few)| many / few);
        let what = format!("CPU of a message {what} among all, beside one among few");
        self.add("waiting", disk, &what, Bound::AtMost(1.25), ratio);
    }
}
