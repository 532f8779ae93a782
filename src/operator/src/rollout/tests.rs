use super::*;

const LONG: Duration = SETTLE;
const SHORT: Duration = Duration::from_secs(5);

/// `new`/`old` template, `+` serves or `-` not, then what the pod says: `s3` serving with 3 queued,
/// `d3` draining for a short time, `D0` draining for a long time, `?` unknown. `.` is no Deployment, `x`
/// one that terminates. A second word is the claim: `c` (default), `none`, `new` or `gone`.
fn replica(text: &str) -> Replica {
    let (workload, claim) = text.split_once(' ').unwrap_or((text, "c"));
    let report = |text: &str| match text.split_at(1) {
        ("?", "") => Report::Unknown,
        ("s", n) => Report::Serving {
            queued: n.parse().unwrap(),
        },
        ("d", n) => Report::Draining {
            queued: n.parse().unwrap(),
            since: SHORT,
        },
        ("D", n) => Report::Draining {
            queued: n.parse().unwrap(),
            since: LONG,
        },
        other => panic!("{other:?}"),
    };
    let (workload, report) = match workload {
        "." => (Workload::Absent, Report::Unknown),
        "x" => (Workload::Terminating, Report::Unknown),
        text => (
            Workload::Present {
                template: text[..3].into(),
                serves: &text[3..4] == "+",
            },
            report(&text[4..]),
        ),
    };
    let claim = match claim {
        "c" => Claim::Present,
        "none" => Claim::Absent,
        "new" => Claim::Unbound,
        "gone" => Claim::Terminating,
        other => panic!("{other:?}"),
    };
    Replica {
        workload,
        claim,
        report,
    }
}

fn decide(durability: Durability, wanted: u32, replicas: &[&str]) -> (Vec<Step>, bool) {
    let replicas = (0..)
        .zip(replicas.iter().map(|text| replica(text)))
        .collect();
    let wanted = Wanted {
        replicas: wanted,
        template: "new",
        durability,
    };
    let Plan { steps, waiting } = plan(wanted, &replicas);
    (steps, waiting.is_some())
}

#[track_caller]
fn check(durability: Durability, rows: &[(u32, &[&str], &[Step], bool)]) {
    for (wanted, replicas, steps, waiting) in rows {
        assert_eq!(
            decide(durability, *wanted, replicas),
            (steps.to_vec(), *waiting),
            "{wanted} of {replicas:?}"
        );
    }
}

use Step::{Create, Drain, Remove, Restart, Roll};

#[test]
fn missing_replicas_are_created_at_once() {
    check(
        Durability::Claim,
        &[
            (3, &[], &[Create(0), Create(1), Create(2)], false),
            (2, &["new+s0", ". c"], &[Create(1)], false),
            (2, &["new+s0", ". none"], &[Create(1)], false),
            (2, &["new+s0", ". gone"], &[], true),
            (2, &["new+s0", "x"], &[], true),
            (2, &["new+s0", "new+s0"], &[], false),
            (2, &["new+s0", "new-?"], &[], true),
            (0, &[], &[], false),
        ],
    );
}

#[test]
fn replicas_that_serve_are_replaced_one_at_a_time() {
    check(
        Durability::Claim,
        &[
            (3, &["old+s0", "old+s0", "old+s5"], &[Roll(0)], false),
            (3, &["new-?", "old+s0", "old+s5"], &[], true),
            (3, &["new+s0", "old+s0", "old+s5"], &[Roll(1)], false),
            (3, &["new+s0", "new+s0", "old+s5"], &[Roll(2)], false),
            (1, &["old+s5"], &[Roll(0)], false),
            (2, &["old+s0"], &[Create(1)], true),
        ],
    );
}

#[test]
fn replicas_that_do_not_serve_are_replaced_at_once() {
    check(
        Durability::Claim,
        &[
            (2, &["old-?", "old-?"], &[Roll(0), Roll(1)], false),
            (3, &["old+s0", "old-?", "old+s0"], &[Roll(1)], true),
        ],
    );
}

#[test]
fn a_replica_is_removed_only_when_empty_for_good() {
    check(
        Durability::Claim,
        &[
            (1, &["new+s0", "new+s7"], &[Drain(1)], true),
            (1, &["new+s0", "new+s0"], &[Drain(1)], true),
            (1, &["new+s0", "new-d7"], &[], true),
            (1, &["new+s0", "new-d0"], &[], true),
            (1, &["new+s0", "new-D7"], &[], true),
            (1, &["new+s0", "new-D0"], &[Remove(1)], false),
            (1, &["new+s0", "new-?"], &[], true),
            (1, &["new+s0", "new-? new"], &[Remove(1)], false),
            (1, &["new+s0", ". new"], &[Remove(1)], false),
            (1, &["new+s0", "x"], &[], true),
            (1, &["new+s0", ". gone"], &[], true),
            (1, &["new+s0", ". none"], &[], false),
            (0, &["new+s1", "new-D0"], &[Drain(0), Remove(1)], true),
        ],
    );
}

#[test]
fn what_a_stranded_claim_holds_is_delivered() {
    check(
        Durability::Claim,
        &[
            (1, &["new+s0", ". c"], &[Create(1)], false),
            (0, &[". c"], &[Create(0)], false),
        ],
    );
}

#[test]
fn a_replica_that_leaves_is_not_replaced_unless_it_is_broken() {
    check(
        Durability::Claim,
        &[
            (1, &["new+s0", "old+s7"], &[Drain(1)], true),
            (1, &["new+s0", "old-d7"], &[], true),
            (1, &["new+s0", "old-?"], &[Roll(1)], false),
        ],
    );
}

#[test]
fn a_drained_replica_that_is_wanted_again_starts_anew() {
    check(
        Durability::Claim,
        &[
            (2, &["new+s0", "new-d3"], &[Restart(1)], false),
            (2, &["new+s0", "old-d3"], &[Roll(1)], false),
        ],
    );
    check(
        Durability::Pod,
        &[
            (2, &["new+s0 none", "new-d3 none"], &[], true),
            (2, &["new+s0 none", "new-D0 none"], &[Restart(1)], false),
        ],
    );
}

#[test]
fn mail_in_the_pod_is_delivered_before_the_pod_goes() {
    check(
        Durability::Pod,
        &[
            (2, &["old+s4 none", "old+s0 none"], &[Drain(0)], true),
            (2, &["old-d4 none", "old+s0 none"], &[], true),
            (2, &["old-D4 none", "old+s0 none"], &[], true),
            (2, &["old-D0 none", "old+s0 none"], &[Roll(0)], true),
            (2, &["new+s0 none", "old+s0 none"], &[Drain(1)], true),
            (2, &["old-? none", "old+s0 none"], &[Roll(0)], true),
            (1, &["new+s0 none", "new-D0 none"], &[Remove(1)], false),
        ],
    );
}

#[test]
fn one_missed_answer_costs_no_mail_while_the_pod_serves() {
    let rows: &[(u32, &[&str], &[Step], bool)] = &[
        // Not answered once: neither rolled nor removed, but asked again.
        (1, &["old+?"], &[], true),
        (0, &["old+?"], &[], true),
        (0, &["new+?"], &[], true),
    ];
    check(Durability::Pod, rows);
    // A claim that was last seen unbound, under a pod that has taken mail since.
    check(
        Durability::Claim,
        &[(0, &["new+s3 new"], &[Drain(0)], true)],
    );
    check(
        Durability::Claim,
        &[(0, &["new-? new"], &[Remove(0)], false)],
    );
}
