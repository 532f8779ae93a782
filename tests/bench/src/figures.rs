//! What a run gave, and the median of several.

use crate::measure::Cost;

/// The columns of results.csv, as far as they make sense for a workload.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(crate) struct Figures {
    pub(crate) messages: usize,
    pub(crate) accepted_per_s: Option<f64>,
    pub(crate) delivered_per_s: Option<f64>,
    pub(crate) cpu_s_per_1000: Option<f64>,
    pub(crate) peak_pss_mib: Option<f64>,
    pub(crate) syncs_per_message: Option<f64>,
    pub(crate) p50_ms: Option<f64>,
    pub(crate) p99_ms: Option<f64>,
}

/// What no column fits.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Fact {
    /// What it is, with its unit.
    pub(crate) name: &'static str,
    /// How much.
    pub(crate) value: f64,
}

/// All that a run gave.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Outcome {
    pub(crate) figures: Figures,
    pub(crate) facts: Vec<Fact>,
}

impl Outcome {
    /// Adds what no column fits.
    pub(crate) fn add(&mut self, name: &'static str, value: f64) {
        self.facts.push(Fact { name, value });
    }

    /// The median of each figure and each fact; nothing of no runs.
    #[must_use]
    pub(crate) fn median(runs: &[Self]) -> Option<Self> {
        let first = runs.first()?;
        let of = |figure: fn(&Figures) -> Option<f64>| {
            median(runs.iter().filter_map(|run| figure(&run.figures)))
        };
        let fact = |fact: &Fact| {
            let same = |run: &Self| {
                run.facts
                    .iter()
                    .find(|other| other.name == fact.name)
                    .copied()
            };
            let values = runs.iter().filter_map(same).map(|fact| fact.value);
            let value = median(values).unwrap_or(fact.value);
            Fact { value, ..*fact }
        };
        Some(Self {
            figures: Figures {
                messages: first.figures.messages,
                accepted_per_s: of(|run| run.accepted_per_s),
                delivered_per_s: of(|run| run.delivered_per_s),
                cpu_s_per_1000: of(|run| run.cpu_s_per_1000),
                peak_pss_mib: of(|run| run.peak_pss_mib),
                syncs_per_message: of(|run| run.syncs_per_message),
                p50_ms: of(|run| run.p50_ms),
                p99_ms: of(|run| run.p99_ms),
            },
            facts: first.facts.iter().map(fact).collect(),
        })
    }
}

impl Figures {
    /// Puts what so many messages cost into its columns.
    pub(crate) fn charge(&mut self, messages: usize, cost: Cost) {
        let count = as_f64(messages);
        self.messages = messages;
        self.cpu_s_per_1000 = Some(cost.cpu.as_secs_f64() * 1000.0 / count);
        self.peak_pss_mib = Some(cost.peak_mib);
        self.syncs_per_message = usize::try_from(cost.flushes)
            .ok()
            .map(|flushes| as_f64(flushes) / count);
    }
}

/// The middle one, or the mean of the two in the middle; nothing of nothing.
#[must_use]
pub(crate) fn median(values: impl Iterator<Item = f64>) -> Option<f64> {
    let mut values: Vec<f64> = values.collect();
    values.sort_by(f64::total_cmp);
    let upper = values.len() / 2;
    let middle = *values.get(upper)?;
    if values.len() % 2 == 1 {
        return Some(middle);
    }
    Some(f64::midpoint(values[upper - 1], middle))
}

/// Counts here are far below 2^52.
#[must_use]
#[expect(
    clippy::cast_precision_loss,
    reason = "counts of messages are far below 2^52"
)]
pub(crate) fn as_f64(count: usize) -> f64 {
    count as f64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_median_is_of_what_there_is() {
        let run = |rate: Option<f64>, seconds: f64| {
            let mut outcome = Outcome::default();
            outcome.figures.accepted_per_s = rate;
            outcome.add("restart s", seconds);
            outcome
        };
        let runs = [run(Some(3.0), 9.0), run(None, 5.0), run(Some(1.0), 7.0)];
        let median = Outcome::median(&runs).unwrap();
        assert_eq!(median.figures.accepted_per_s, Some(2.0));
        assert_eq!(median.figures.p99_ms, None);
        assert_eq!(
            median.facts,
            [Fact {
                name: "restart s",
                value: 7.0
            }]
        );
        assert_eq!(Outcome::median(&[]), None);
    }
}
