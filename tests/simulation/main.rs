//! The relay on a simulated disk and network, by seed: the power goes, the process is killed, the disk fails or is full, next hops go away,
//! packets are lost and late. In the end all is mended; then every recipient that was answered with 250 must have been delivered, or bounced, or
//! be in the queue still, and nothing may have been delivered twice without a reason.
//!
//! Real are the sessions, the queue, the spool and the delivery manager. The network is turmoil's. The disk is the spool's own simulated one, not
//! turmoil's: that goes by paths, so that a file which is renamed while it is open, as a segment is when its file is used again, loses what
//! is flushed between the renaming and the flush of the directory; and no flush of it fails.
//!
//! One seed is one run, and always the same: `POSTROAD_SEED=7 cargo test -p postroad-simulation -- --nocapture` runs that seed and
//! prints what happened. `POSTROAD_SEEDS=10000` runs so many of them; `make soak` does.

#![expect(
    clippy::unwrap_used,
    clippy::panic,
    reason = "test code: a panic is how it says no"
)]

mod check;
mod client;
mod dice;
mod disk;
mod hop;
mod ledger;
mod machine;
mod plan;
mod world;

use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;

use world::{Flushes, Run, run};

/// Seeds of an ordinary run: seconds.
const SEEDS: u64 = 200;

/// Seeds within which a disk that does not flush must have been found out.
const SEEDS_WITHOUT_FLUSHES: u64 = 20;

/// Seeds that are run twice.
const SEEDS_TWICE: u64 = 5;

#[test]
fn accepted_mail_is_delivered_or_bounced_or_queued() {
    if let Some(seed) = number("POSTROAD_SEED") {
        let run = run(seed, Flushes::Real);
        eprintln!("{}", run.story());
        run.verdict().unwrap();
        return;
    }
    let seeds = number("POSTROAD_SEEDS").unwrap_or(SEEDS);
    let runs = all(seeds);
    let failed: Vec<&Run> = runs.iter().filter(|run| run.verdict().is_err()).collect();
    if let Some(first) = failed.first() {
        for error in failed.iter().filter_map(|run| run.verdict().err()) {
            eprintln!("{error}");
        }
        panic!(
            "{} of {seeds} seeds fail; the first:\n{}\nrun it again: POSTROAD_SEED={} cargo test -p postroad-simulation -- --nocapture",
            failed.len(),
            first.story(),
            first.seed
        );
    }
    let sum = |of: fn(&Run) -> usize| runs.iter().map(of).sum::<usize>();
    eprintln!(
        "{seeds} seeds: {} recipients accepted, {} times the power went, {} duplicates, each with a reason",
        sum(|run| run.accepted),
        sum(|run| run.power_cuts),
        sum(|run| run.duplicates)
    );
    // What never happens is not tested.
    assert!(sum(|run| run.accepted) > 0 && sum(|run| run.power_cuts) > 0);
    assert!(sum(|run| run.bounced) > 0 && sum(|run| run.duplicates) > 0);
}

#[test]
fn a_seed_is_always_the_same_run() {
    for seed in 0..SEEDS_TWICE {
        let (first, second) = (run(seed, Flushes::Real), run(seed, Flushes::Real));
        assert_eq!(first.story(), second.story(), "seed {seed}");
    }
}

#[test]
fn mail_that_was_not_flushed_is_missed() {
    let missed =
        (0..SEEDS_WITHOUT_FLUSHES).find_map(|seed| run(seed, Flushes::None).verdict().err());
    let error = missed.expect("nothing of what was not flushed was missed");
    assert!(error.contains("lost"), "{error}");
}

fn number(name: &str) -> Option<u64> {
    let text = std::env::var(name).ok()?;
    Some(
        text.parse()
            .unwrap_or_else(|_| panic!("{name} is no number: {text}")),
    )
}

/// Runs seeds on as many threads as there are cores, each run on one; in order of the seeds.
fn all(seeds: u64) -> Vec<Run> {
    let next = AtomicU64::new(0);
    let take = || {
        let mut runs = Vec::new();
        loop {
            let seed = next.fetch_add(1, Ordering::Relaxed);
            if seed >= seeds {
                return runs;
            }
            runs.push(run(seed, Flushes::Real));
        }
    };
    let threads = thread::available_parallelism().map_or(1, usize::from);
    let mut runs: Vec<Run> = thread::scope(|scope| {
        let threads: Vec<_> = (0..threads).map(|_| scope.spawn(take)).collect();
        threads
            .into_iter()
            .flat_map(|thread| thread.join().unwrap())
            .collect()
    });
    runs.sort_by_key(|run| run.seed);
    runs
}
