//! Results: a row per run and one per median, as CSV and as a table for people.

use std::fmt::Write as _;

use crate::run::Figures;
use crate::server::Server;
use crate::workload::Workload;

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
    pub(crate) runs: Vec<Figures>,
}

impl Series {
    /// The median of each figure.
    fn median(&self) -> Option<Figures> {
        let of = |figure: fn(&Figures) -> f64| median(self.runs.iter().map(figure).collect());
        Some(Figures {
            messages: self.runs.first()?.messages,
            accepted_per_s: of(|run| run.accepted_per_s),
            delivered_per_s: of(|run| run.delivered_per_s),
            cpu_s_per_1000: of(|run| run.cpu_s_per_1000),
            peak_pss_mib: of(|run| run.peak_pss_mib),
            syncs_per_message: of(|run| run.syncs_per_message),
            p50_ms: of(|run| run.p50_ms),
            p99_ms: of(|run| run.p99_ms),
        })
    }
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    let middle = values.len() / 2;
    match values.len() {
        0 => 0.0,
        count if count % 2 == 1 => values[middle],
        _ => f64::midpoint(values[middle - 1], values[middle]),
    }
}

/// Every run and every median as comma-separated values.
#[must_use]
pub(crate) fn csv(all: &[Series]) -> String {
    let mut text = format!("{HEADER}\n");
    for series in all {
        for (index, run) in series.runs.iter().enumerate() {
            row(&mut text, series, &(index + 1).to_string(), run, None);
        }
        if let Some(median) = series.median() {
            let ratio = ratio(all, series, median);
            row(&mut text, series, "median", &median, ratio);
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
    let ratio = ratio.map_or(String::new(), |ratio| format!("{ratio:.2}"));
    // Writing to a String cannot fail.
    let _ = writeln!(
        text,
        "{},{},{disk},{},{run},{},{},{},{:.0},{:.0},{:.3},{:.1},{:.3},{:.3},{:.3},{ratio}",
        server.name,
        workload.name,
        server.durability,
        workload.sessions,
        workload.size,
        figures.messages,
        figures.accepted_per_s,
        figures.delivered_per_s,
        figures.cpu_s_per_1000,
        figures.peak_pss_mib,
        figures.syncs_per_message,
        figures.p50_ms,
        figures.p99_ms,
    );
}

/// How many times the yardstick's end-to-end rate this is, in the same run of the benchmark.
fn ratio(all: &[Series], series: &Series, median: Figures) -> Option<f64> {
    let same = |other: &&Series| {
        other.server.name == YARDSTICK
            && other.workload.name == series.workload.name
            && other.disk == series.disk
    };
    let yardstick = all.iter().find(same)?.median()?;
    Some(median.delivered_per_s / yardstick.delivered_per_s)
}

/// The medians as a table in Markdown.
#[must_use]
pub(crate) fn table(all: &[Series]) -> String {
    let mut text = String::from(
        "| workload | disk | server | durability | runs | accepted/s | delivered/s | times Postfix tuned | CPU s/1000 | PSS MiB | flushes/message | p50 ms | p99 ms |\n\
         |---|---|---|---|---|---|---|---|---|---|---|---|---|\n",
    );
    for series in all {
        let Some(median) = series.median() else {
            continue;
        };
        let ratio =
            ratio(all, series, median).map_or(String::from("–"), |ratio| format!("{ratio:.1}"));
        let _ = writeln!(
            text,
            "| {} | {} | {} | {} | {} | {:.0} | {:.0} | {ratio} | {:.2} | {:.0} | {:.2} | {:.2} | {:.2} |",
            series.workload.name,
            series.disk,
            series.server.name,
            series.server.durability,
            series.runs.len(),
            median.accepted_per_s,
            median.delivered_per_s,
            median.cpu_s_per_1000,
            median.peak_pss_mib,
            median.syncs_per_message,
            median.p50_ms,
            median.p99_ms,
        );
    }
    text
}

/// The medians of the end-to-end rate as bars, one group per workload and disk.
#[must_use]
pub(crate) fn plot(all: &[Series]) -> String {
    const ROW: usize = 22;
    const LEFT: f64 = 260.0;
    const WIDTH: f64 = 420.0;
    let medians: Vec<_> = all
        .iter()
        .filter_map(|series| Some((series, series.median()?)))
        .collect();
    let most = medians
        .iter()
        .map(|(_, median)| median.delivered_per_s)
        .fold(1.0, f64::max);
    let height = ROW * (medians.len() + 2);
    let mut svg = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"800\" height=\"{height}\" font-family=\"sans-serif\" font-size=\"13\">\n\
         <text x=\"8\" y=\"18\">messages per second, end to end (median; longer is better)</text>\n"
    );
    for (index, (series, median)) in medians.iter().enumerate() {
        let y = ROW * (index + 2);
        let length = WIDTH * median.delivered_per_s / most;
        let fill = if series.server.name == "postroad" {
            "#1b6"
        } else {
            "#89a"
        };
        let _ = writeln!(
            svg,
            "<text x=\"8\" y=\"{y}\">{} {} {} ({})</text><rect x=\"{LEFT}\" y=\"{}\" width=\"{length:.1}\" height=\"14\" fill=\"{fill}\"/>\
             <text x=\"{:.1}\" y=\"{y}\">{:.0}</text>",
            series.workload.name,
            series.disk,
            series.server.name,
            series.server.durability,
            y - 12,
            LEFT + length + 6.0,
            median.delivered_per_s,
        );
    }
    svg.push_str("</svg>\n");
    svg
}

/// One line for the terminal while it runs.
#[must_use]
pub(crate) fn line(series: &Series, figures: &Figures) -> String {
    format!(
        "{} {:8} {:16} {:6.0} accepted/s {:6.0} delivered/s {:6.2} CPU s/1000 {:5.0} MiB {:6.2} flushes/message p99 {:.2} ms",
        series.workload.name,
        series.disk,
        series.server.name,
        figures.accepted_per_s,
        figures.delivered_per_s,
        figures.cpu_s_per_1000,
        figures.peak_pss_mib,
        figures.syncs_per_message,
        figures.p99_ms,
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::server::SERVERS;
    use crate::workload::WORKLOADS;

    fn series(name: &str, rates: &[f64]) -> Series {
        let figures = |rate: &f64| Figures {
            messages: 10,
            accepted_per_s: *rate,
            delivered_per_s: *rate,
            cpu_s_per_1000: 0.5,
            peak_pss_mib: 1.0,
            syncs_per_message: 0.1,
            p50_ms: 1.0,
            p99_ms: 2.0,
        };
        Series {
            server: *SERVERS.iter().find(|server| server.name == name).unwrap(),
            workload: WORKLOADS[0],
            disk: "bare".into(),
            runs: rates.iter().map(figures).collect(),
        }
    }

    #[test]
    fn rows_are_runs_then_their_median_with_the_ratio() {
        let all = [
            series("postroad", &[300.0, 100.0, 200.0]),
            series("postfix-tuned", &[50.0, 150.0]),
        ];
        let text = csv(&all);
        let lines: Vec<_> = text.lines().collect();
        assert_eq!(lines.len(), 1 + 4 + 3);
        assert_eq!(
            lines[4],
            "postroad,B,bare,durable,median,50,4096,10,200,200,0.500,1.0,0.100,1.000,2.000,2.00"
        );
        assert!(lines[7].ends_with(",1.00"), "{}", lines[7]);
        let columns = |line: &str| line.split(',').count();
        assert!(lines.iter().all(|line| columns(line) == columns(HEADER)));
    }
}
