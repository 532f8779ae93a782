//! The medians as tables in Markdown.

use std::fmt::Write as _;

use super::{Results, cell, decimals};
use crate::figures::Outcome;

/// What one sync takes, the streams of messages, what no column fits, and what failed.
#[must_use]
pub(crate) fn tables(results: &Results) -> String {
    format!(
        "{}\n{}\n{}\n{}",
        sync_table(results),
        stream_table(results),
        fact_table(results),
        failures(results)
    )
}

fn sync_table(results: &Results) -> String {
    let mut text =
        String::from("| disk | one sync: p50 ms | p99 ms | times measured |\n|---|---|---|---|\n");
    for disk in &results.disks {
        let sync = disk.sync();
        let _ = writeln!(
            text,
            "| {} | {:.3} | {:.3} | {} |",
            disk.name,
            sync.p50_ms,
            sync.p99_ms,
            disk.syncs.len()
        );
    }
    text
}

fn stream_table(results: &Results) -> String {
    let mut text = String::from(
        "| workload | disk | server | durability | runs | accepted/s | delivered/s | times Postfix tuned | CPU s/1000 | PSS MiB | flushes/message | p50 ms | p99 ms |\n\
         |---|---|---|---|---|---|---|---|---|---|---|---|---|\n",
    );
    for series in &results.series {
        let Some(Outcome { figures, .. }) = Outcome::median(&series.runs) else {
            continue;
        };
        if figures.accepted_per_s.is_none() {
            continue;
        }
        let _ = writeln!(
            text,
            "| {} | {} | {} | {} | {} | {} | {} | {} | {} | {} | {} | {} | {} |",
            series.workload.name,
            series.disk,
            series.server.name,
            series.server.durability,
            series.runs.len(),
            cell(figures.accepted_per_s, 0, "–"),
            cell(figures.delivered_per_s, 0, "–"),
            cell(results.ratio(series, &figures), 1, "–"),
            cell(figures.cpu_s_per_1000, 2, "–"),
            cell(figures.peak_pss_mib, 0, "–"),
            cell(figures.syncs_per_message, 2, "–"),
            cell(figures.p50_ms, 2, "–"),
            cell(figures.p99_ms, 2, "–"),
        );
    }
    text
}

fn fact_table(results: &Results) -> String {
    let mut text = String::from(
        "| workload | disk | server | durability | runs | what | how much |\n|---|---|---|---|---|---|---|\n",
    );
    for series in &results.series {
        let median = Outcome::median(&series.runs).unwrap_or_default();
        for fact in median.facts {
            let decimals = decimals(fact.value);
            let _ = writeln!(
                text,
                "| {} | {} | {} | {} | {} | {} | {:.decimals$} |",
                series.workload.name,
                series.disk,
                series.server.name,
                series.server.durability,
                series.runs.len(),
                fact.name,
                fact.value,
            );
        }
    }
    text
}

fn failures(results: &Results) -> String {
    let mut text = String::new();
    for series in &results.series {
        for why in &series.failures {
            let _ = writeln!(
                text,
                "- {} with {} on {}: {}",
                series.server.name,
                series.workload.name,
                series.disk,
                why.replace('\n', " ")
            );
        }
    }
    if text.is_empty() {
        return "No run failed.\n".to_owned();
    }
    format!("Runs that failed, and are in no figure:\n\n{text}")
}
