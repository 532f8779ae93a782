//! The plot: medians of the end-to-end rate as bars, one group per workload and disk.

use std::fmt::Write as _;

use super::{Results, Series};
use crate::figures::Outcome;

/// Height of a bar with the gap after it.
const ROW: usize = 22;
/// Where bars begin.
const LEFT: f64 = 300.0;
/// The length of the longest.
const WIDTH: f64 = 420.0;
/// Without a server in between there is nothing to compare; it would only make all others short.
const LEFT_OUT: &str = "direct";

/// The plot as SVG.
#[must_use]
pub(crate) fn plot(results: &Results) -> String {
    let bars = bars(results);
    let rows = bars.len() + groups(&bars) + 2;
    let mut svg = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"800\" height=\"{}\" font-family=\"sans-serif\" font-size=\"13\">\n\
         <rect width=\"100%\" height=\"100%\" fill=\"#fff\"/>\n\
         <text x=\"8\" y=\"18\">messages per second, end to end (median; longer is better; each group has its own scale)</text>\n",
        ROW * rows
    );
    let mut y = ROW;
    let mut group = None;
    for (series, rate) in &bars {
        let key = key(series);
        if group.replace(key).is_some_and(|before| before != key) {
            y += ROW;
        }
        y += ROW;
        let most = bars.iter().filter(|(other, _)| self::key(other) == key);
        let most = most.map(|(_, rate)| *rate).fold(1.0, f64::max);
        bar(&mut svg, series, *rate, WIDTH * rate / most, y);
    }
    svg.push_str("</svg>\n");
    svg
}

fn bars(results: &Results) -> Vec<(&Series, f64)> {
    let rate = |series: &Series| Outcome::median(&series.runs)?.figures.delivered_per_s;
    results
        .series
        .iter()
        .filter(|series| is_compared(series) && series.server.name != LEFT_OUT)
        .filter_map(|series| Some((series, rate(series)?)))
        .collect()
}

/// Whether all servers have a bar in the group.
fn is_compared(series: &Series) -> bool {
    series.workload.servers.is_empty()
}

fn key(series: &Series) -> (&str, &str) {
    (series.workload.name, &series.disk)
}

fn groups(bars: &[(&Series, f64)]) -> usize {
    let changes = bars.windows(2).filter(|two| key(two[0].0) != key(two[1].0));
    changes.count()
}

fn bar(svg: &mut String, series: &Series, rate: f64, length: f64, y: usize) {
    let fill = if series.server.is_ours() {
        "#1b6"
    } else {
        "#89a"
    };
    // Writing to a String cannot fail.
    let _ = writeln!(
        svg,
        "<text x=\"8\" y=\"{y}\">{} {} {} ({})</text><rect x=\"{LEFT}\" y=\"{}\" width=\"{length:.1}\" height=\"14\" fill=\"{fill}\"/>\
         <text x=\"{:.1}\" y=\"{y}\">{rate:.0}</text>",
        series.workload.name,
        series.disk,
        series.server.name,
        series.server.durability,
        y - 12,
        LEFT + length + 6.0,
    );
}
