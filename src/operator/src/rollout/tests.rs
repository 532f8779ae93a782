use super::*;

const LONG: Duration = SETTLE;
const SHORT: Duration = Duration::from_secs(5);

/// `new` as wanted, `old` of other inputs, `was` as wanted of an earlier shape; `+` serves or `-` not; then
/// what the pod says: `s3` serving with 3 queued, `d3` draining for a short time, `D0` draining for a long
/// time, `?` unknown. `.` is no Deployment, `x` one that terminates. A second word is the claim: `c`
/// (default), `none`, `new`, `lost` or `gone`. A third is the disk: `bad` is damaged, `ill` failing. All pods of a row
/// keep their mail in the same way.
fn replica(mount: Mount, text: &str) -> Replica {
    let words: Vec<_> = text.split(' ').collect();
    let word = |index: usize, default| words.get(index).copied().unwrap_or(default);
    let (workload, claim, disk) = (word(0, "."), word(1, "c"), word(2, "well"));
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
                inputs: if &text[..3] == "old" { "old" } else { "new" }.into(),
                shape: if &text[..3] == "new" {
                    Shape::Current
                } else {
                    Shape::Earlier
                },
                mount,
                serves: &text[3..4] == "+",
            },
            report(&text[4..]),
        ),
    };
    let claim = match claim {
        "c" => Claim::Present,
        "none" => Claim::Absent,
        "new" => Claim::Unbound,
        "lost" => Claim::Lost,
        "gone" => Claim::Terminating,
        other => panic!("{other:?}"),
    };
    let disk = match disk {
        "well" => Disk::Sound,
        "bad" => Disk::Damaged,
        "ill" => Disk::Failing,
        other => panic!("{other:?}"),
    };
    Replica {
        workload,
        claim,
        report,
        disk,
    }
}

fn decide(mount: Mount, number: u32, replicas: &[&str]) -> Plan {
    plan(wanted(number), &numbered(mount, replicas))
}

fn numbered(mount: Mount, replicas: &[&str]) -> BTreeMap<u32, Replica> {
    (0..)
        .zip(replicas.iter().map(|text| replica(mount, text)))
        .collect()
}

fn wanted(replicas: u32) -> Wanted<'static> {
    Wanted {
        relay: "mail",
        replicas,
        inputs: "new",
    }
}

#[track_caller]
fn check(mount: Mount, rows: &[(u32, &[&str], &[Step], bool)]) {
    for (wanted, replicas, steps, waiting) in rows {
        let plan = decide(mount, *wanted, replicas);
        assert_eq!(
            (plan.steps, plan.waiting.is_some()),
            (steps.to_vec(), *waiting),
            "{wanted} of {replicas:?}"
        );
    }
}

use Step::{Create, Drain, Remove, Restart, Roll};

#[test]
fn missing_replicas_are_created_at_once() {
    check(
        Mount::Claim,
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
        Mount::Claim,
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
        Mount::Claim,
        &[
            (2, &["old-?", "old-?"], &[Roll(0), Roll(1)], false),
            (3, &["old+s0", "old-?", "old+s0"], &[Roll(1)], true),
        ],
    );
}

#[test]
fn a_replica_is_removed_only_when_empty_for_good() {
    check(
        Mount::Claim,
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
        Mount::Claim,
        &[
            (1, &["new+s0", ". c"], &[Create(1)], false),
            (0, &[". c"], &[Create(0)], false),
        ],
    );
}

#[test]
fn a_replica_that_leaves_is_not_replaced_unless_it_is_broken() {
    check(
        Mount::Claim,
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
        Mount::Claim,
        &[
            (2, &["new+s0", "new-d3"], &[Restart(1)], false),
            (2, &["new+s0", "old-d3"], &[Roll(1)], false),
        ],
    );
    check(
        Mount::Pod,
        &[
            (2, &["new+s0 none", "new-d3 none"], &[], true),
            (2, &["new+s0 none", "new-D0 none"], &[Restart(1)], false),
        ],
    );
}

#[test]
fn mail_in_the_pod_is_delivered_before_the_pod_goes() {
    check(
        Mount::Pod,
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
    check(Mount::Pod, rows);
    // A claim that was last seen unbound, under a pod that has taken mail since.
    check(Mount::Claim, &[(0, &["new+s3 new"], &[Drain(0)], true)]);
    check(Mount::Claim, &[(0, &["new-? new"], &[Remove(0)], false)]);
}

#[test]
fn a_newer_operator_replaces_no_replica_that_serves() {
    check(
        Mount::Claim,
        &[
            (2, &["was+s0", "was+s7"], &[], false),
            (2, &["was+?", "was+s7"], &[], false),
            (2, &["new+s0", "was+s7"], &[], false),
            (3, &["was+s0", "was+s7"], &[Create(2)], false),
            // It does not serve, yet it is at work: it reads its queue, delivers, or is about to serve.
            (1, &["was-s0"], &[], true),
            (1, &["new+s0", "was-d3"], &[], true),
            (1, &["new+s0", "was-D0"], &[Remove(1)], false),
            // It does nothing at all.
            (2, &["was-?", "was+s0"], &[Roll(0)], false),
            (1, &["new+s0", "was-?"], &[Roll(1)], false),
            // What its user writes replaces it, in order.
            (2, &["old+s0", "was+s7"], &[Roll(0)], false),
        ],
    );
    check(
        Mount::Pod,
        &[
            (1, &["was+s7 none"], &[], false),
            // Its container may come up again, with the mail that is in its pod.
            (1, &["was-? none"], &[], true),
            (0, &["was-? none"], &[], true),
        ],
    );
}

#[test]
fn what_keeps_an_earlier_shape_is_known() {
    for (replicas, expected) in [
        (&["new+s0", "new+s0"][..], &[][..]),
        (&["was+s0", "was+s0"], &[0, 1]),
        (&["new+s0", "was+s0"], &[1]),
        // These are replaced now or soon, for another reason.
        (&["new+s0", "was-?"], &[]),
        (&["new+s0", "old+s0"], &[]),
        // It is on its way out.
        (&["new+s0", "new+s0", "was+s0"], &[]),
    ] {
        let (wanted, replicas) = (wanted(2), numbered(Mount::Claim, replicas));
        let plan = plan(wanted, &replicas);
        assert_eq!(outdated(wanted, &replicas, &plan), expected, "{replicas:?}");
    }
}

#[test]
fn a_claim_with_damage_is_kept_until_somebody_deletes_it() {
    check(
        Mount::Claim,
        &[
            (1, &["new+s0", "new-D0 c bad"], &[], true),
            (1, &["new+s0", "new-D0 c ill"], &[], true),
            (1, &["new+s0", "new-D0 new bad"], &[], true),
            (1, &["new+s0", "new-D0 gone bad"], &[Remove(1)], false),
            (1, &["new+s0", "new-D0 gone ill"], &[Remove(1)], false),
            // It keeps nobody from being drained or replaced.
            (1, &["new+s0", "new+s3 c bad"], &[Drain(1)], true),
            (1, &["old+s0 c bad"], &[Roll(0)], false),
        ],
    );
    // There is nothing to keep.
    check(
        Mount::Pod,
        &[(1, &["new+s0 none", "new-D0 none bad"], &[Remove(1)], false)],
    );
    let plan = decide(Mount::Claim, 1, &["new+s0", "new-D0 c bad"]);
    let waiting = plan.waiting.unwrap();
    assert!(waiting.contains("corrupt/ on claim mail-1"), "{waiting}");
}

#[test]
fn a_volume_that_somebody_deletes_is_emptied_and_replaced() {
    check(
        Mount::Claim,
        &[
            (2, &["new+s0", "new+s3 gone"], &[Drain(1)], true),
            (2, &["new+s0", "new-d0 gone"], &[], true),
            (2, &["new+s0", "new-D3 gone"], &[], true),
            (2, &["new+s0", "new-D0 gone"], &[Restart(1)], false),
            (2, &["new+s0", "old-D0 gone"], &[Restart(1)], false),
            (2, &["new+s0", "x gone"], &[], true),
            (2, &["new+s0", ". gone"], &[], true),
            (2, &["new+s0", ". none"], &[Create(1)], false),
            // One at a time, and not while another is down.
            (2, &["new+s0 gone", "new+s3 gone"], &[Drain(0)], true),
            (2, &["new-d0", "new+s3 gone"], &[Restart(0)], true),
            // What it holds would go with its pod.
            (2, &["new+s0", "old-? gone"], &[], true),
            (1, &["new+s0", "old-? gone"], &[], true),
        ],
    );
}

#[test]
fn a_pod_without_its_claim_gets_another() {
    check(
        Mount::Claim,
        &[
            (2, &["new+s0", "new-? none"], &[Create(1)], false),
            (1, &["new+s0", "new-? none"], &[Remove(1)], false),
            // It has one, which has not been heard of yet.
            (2, &["new+s0", "new+s0 none"], &[], false),
            (1, &["new+s0", "new+s3 none"], &[Drain(1)], true),
        ],
    );
}

#[test]
fn what_a_pod_says_counts_for_the_claim_that_it_has_mounted_and_for_no_other() {
    for mount in [Mount::Unproven, Mount::Pod] {
        check(
            mount,
            &[
                // Empty is the pod. The claim may hold mail, and gets a pod of its own.
                (1, &["new+s0", "new-D0 c"], &[Restart(1)], false),
                (1, &["new+s0", "new-D0 new"], &[Restart(1)], false),
                (0, &["old-D0 c"], &[Restart(0)], false),
                (1, &["new+s0", "new-D0 c bad"], &[Restart(1)], false),
                // There is no claim, or it goes in any case.
                (1, &["new+s0", "new-D0 none"], &[Remove(1)], false),
                (1, &["new+s0", "new-D0 gone"], &[Remove(1)], false),
                // It is drained like any other before.
                (1, &["new+s0", "new+s0 c"], &[Drain(1)], true),
                (1, &["new+s0", "new-D3 c"], &[], true),
            ],
        );
    }
}

#[test]
fn mail_in_a_pod_is_delivered_before_its_relay_gets_claims() {
    check(
        Mount::Pod,
        &[
            (2, &["old+s4", "old+s0"], &[Drain(0)], true),
            (2, &["old-d4", "old+s0"], &[], true),
            (2, &["old-D0", "old+s0"], &[Roll(0)], true),
            (1, &["old-s4 new"], &[Drain(0)], true),
        ],
    );
}

#[test]
fn what_a_volume_held_that_is_gone_is_delivered_while_a_pod_has_it() {
    let rows: &[(u32, &[&str], &[Step], bool)] = &[
        (1, &["new+s3 lost"], &[], false),
        // No other pod could start.
        (1, &["old+s3 lost"], &[Drain(0)], true),
        (1, &["old-D0 lost"], &[Roll(0)], false),
        (0, &["new+s3 lost"], &[Drain(0)], true),
        (0, &["new-D0 lost"], &[Remove(0)], false),
        (1, &[". lost"], &[Create(0)], false),
        (1, &["new-? lost"], &[], true),
        (1, &["old-? lost"], &[], true),
        (0, &[". lost"], &[], true),
        (0, &["new-? lost"], &[], true),
    ];
    check(Mount::Claim, rows);
    for (number, replica) in [(1, "new-? lost"), (0, ". lost"), (0, "new-? lost")] {
        let waiting = decide(Mount::Claim, number, &[replica]).waiting.unwrap();
        assert!(waiting.contains("volume of claim mail-0"), "{waiting}");
    }
}
