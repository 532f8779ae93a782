use super::*;
use crate::server::{OURS, SERVERS};
use crate::workload::WORKLOADS;

fn series(server: &str, workload: &str, rates: &[f64]) -> Series {
    let outcome = |rate: &f64| {
        let figures = Figures {
            messages: 10,
            accepted_per_s: Some(*rate),
            delivered_per_s: Some(*rate),
            cpu_s_per_1000: Some(0.5),
            peak_pss_mib: Some(1.0),
            syncs_per_message: Some(0.1),
            p50_ms: Some(1.0),
            p99_ms: Some(2.0),
        };
        Outcome {
            figures,
            facts: Vec::new(),
        }
    };
    Series {
        server: *SERVERS.iter().find(|one| one.name == server).unwrap(),
        workload: *WORKLOADS.iter().find(|one| one.name == workload).unwrap(),
        disk: "bare".into(),
        runs: rates.iter().map(outcome).collect(),
        failures: Vec::new(),
    }
}

fn idle() -> Series {
    let mut outcome = Outcome::default();
    outcome.figures.peak_pss_mib = Some(90.0);
    outcome.add("PSS with 10,000, MiB", 90.0);
    Series {
        runs: vec![outcome],
        ..series(OURS, "idle", &[])
    }
}

fn results() -> Results {
    let mut disk = Disk::new("bare", "ext4 without a journal".into());
    disk.syncs.push(Sync {
        p50_ms: 0.5,
        p99_ms: 1.0,
    });
    let mut results = Results::new(Setting {
        machine: "2 cores".into(),
        programs: vec!["Postfix 3.7".into()],
        begin: Instant::now(),
    });
    let all = vec![
        series(OURS, "B", &[300.0, 100.0, 200.0]),
        Series {
            failures: vec!["exit status: 1".into()],
            ..series(YARDSTICK, "B", &[50.0, 150.0])
        },
        series(OURS, "C", &[900.0]),
        idle(),
    ];
    results.add(disk, all);
    results
}

#[test]
fn rows_are_runs_then_their_median_with_the_ratio() {
    let text = csv(&results());
    let lines: Vec<_> = text.lines().collect();
    assert_eq!(lines.len(), 1 + 4 + 3 + 2 + 2);
    assert_eq!(
        lines[4],
        "postroad,B,bare,durable,median,50,4096,10,200,200,0.500,1.0,0.100,1.000,2.000,2.00"
    );
    assert!(lines[7].ends_with(",1.00"), "{}", lines[7]);
    assert_eq!(
        lines[10],
        "postroad,idle,bare,durable,1,10000,0,0,,,,90.0,,,,"
    );
    let columns = |line: &str| line.split(',').count();
    assert!(lines.iter().all(|line| columns(line) == columns(HEADER)));
}

#[test]
fn what_was_asked_stands_beside_what_was_reached() {
    let text = asked::table(&results());
    for row in [
        "| B | bare | times Postfix tuned | ≥ 7 | 2.00 | **no** |",
        "| B | bare | peak PSS, MB | ≤ 64 | 1.05 | yes |",
        "| C | bare | p99 of end of data to 250, in syncs | ≤ 3 | 4.00 | **no** |",
        "| idle | bare | PSS with 10,000, MB | ≤ 150 | 94.37 | yes |",
    ] {
        assert!(text.contains(row), "{row} is not in\n{text}");
    }
}

#[test]
fn what_was_asked_and_not_measured_says_so() {
    let mut results = results();
    let text = asked::table(&results);
    for row in [
        // Nothing to compare with.
        "| C | bare | times Postfix tuned | ≥ 12 | not measured | |",
        "| D | bare | CPU s/1000 | ≤ 0.8 | not measured | |",
        "| down | bare | accepted/s | ≥ 5000 | not measured | |",
        "| waiting | bare | s from kill -9 to EHLO | ≤ 10 | not measured | |",
    ] {
        assert!(text.contains(row), "{row} is not in\n{text}");
    }
    assert!(!text.contains("idle-tls"), "nobody asked for it:\n{text}");
    let disk = Disk::new("journal", "ext4 with a journal".into());
    results.add(disk, Vec::new());
    let text = asked::table(&results);
    assert!(text.contains("| D | journal | CPU s/1000 | ≤ 0.8 | not measured | |"));
    assert!(
        !text.contains("| idle | journal"),
        "the disk is nothing to it"
    );
}

#[test]
fn a_bound_of_our_own_is_no_promise() {
    let mut outcome = Outcome::default();
    outcome.add("PSS with 10,000, MiB", 200.0);
    let mut results = results();
    results.series.push(Series {
        runs: vec![outcome],
        ..series(OURS, "idle-tls", &[])
    });
    let text = asked::table(&results);
    let row = "| idle-tls | bare | PSS with 10,000, MB | own bound: ≤ 150 | 210 | beyond |";
    assert!(text.contains(row), "{text}");
}

#[test]
fn the_plot_has_a_bar_for_each_stream_and_the_page_has_it_all() {
    let results = results();
    assert_eq!(plot(&results).matches("<rect x").count(), 3);
    let page = page(&results);
    assert!(page.contains("- `bare`: ext4 without a journal."), "{page}");
    assert!(page.contains("- Postfix 3.7. All of it"), "{page}");
    assert!(page.contains("| bare | 0.500 | 1.000 | 1 |"), "{page}");
    assert!(
        page.contains("| C | bare | postroad | durable | 1 | 900 | 900 | – |"),
        "{page}"
    );
}

#[test]
fn a_run_that_failed_is_named_and_in_no_figure() {
    let mut results = results();
    let text = tables(&results);
    let line = "- postfix-tuned with B on bare: exit status: 1\n";
    assert!(text.contains(line), "{text}");
    assert!(text.contains("| B | bare | postfix-tuned | durable | 2 | 100 |"));
    assert!(!results.is_ours_broken());
    results.series[1].failures.clear();
    assert!(tables(&results).ends_with("No run failed.\n"));
    results.series[0].failures.push("it hangs".into());
    assert!(results.is_ours_broken());
}
