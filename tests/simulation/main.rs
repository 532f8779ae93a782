//! The relay on a simulated disk and network, by seed: the power goes, the process is killed, the disk fails or is full, next hops go away,
//! packets are lost and late. In the end all is mended; then every recipient that was answered with 250 must have been delivered, or bounced, or
//! be in the queue still, and nothing may have been delivered twice without a reason. A seed also says what a 250 promises
//! ([`plan::Storage`]) and how mail leaves ([`plan::Routing`]): a relaxed spool may lose to a power cut what came shortly before, and
//! nothing else ever; what is passed on while its client waits must have been there before the 250. Nothing may have come to anybody else, or
//! otherwise, than it was sent, and reports must have come to who asked for them, and to nobody else.
//! What whoever runs the relay holds, or its client wants held, must not have come meanwhile; what is returned by hand, or sent another way, must
//! have been meant ([`intervention`]).
//!
//! Real are the sessions, the queue, the spool with the turns of its writer, and the delivery manager. The network is turmoil's, and a table stands for the name
//! servers ([`zone`]). The disk is the spool's own simulated one, not turmoil's: that goes by paths, so that a file which is renamed while it is
//! open, as a segment is when its file is used again, loses what is flushed between the renaming and the flush of the directory; and no
//! flush of it fails.
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
mod intervention;
mod ledger;
mod letter;
mod machine;
mod outcome;
mod plan;
mod world;
mod zone;

use std::collections::BTreeMap;
use std::ops::Add as _;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;

use check::Counts;
use dice::Dice;
use outcome::Run;
use plan::{Plan, Routing, Storage};
use world::{Lie, run};

/// Seeds of an ordinary run: seconds.
const SEEDS: u64 = 160;

/// Seeds of one kind within which a lie must have been found out.
const SEEDS_WITH_LIES: usize = 24;

/// Seeds that are run twice: enough for each kind to end in order while much is under way.
const SEEDS_TWICE: u64 = 40;

/// Where it is said how many seeds are run, so many times fewer are run twice.
const TWICE_ONE_IN: u64 = 10;

/// A kind of promise, whatever its numbers.
type Promises = fn(Storage) -> bool;

const DURABLE: Promises = |storage| storage == Storage::Durable;
const RELAXED: Promises = |storage| matches!(storage, Storage::Relaxed { .. });
const PASSTHROUGH: Promises = |storage| storage == Storage::Passthrough;

#[test]
fn accepted_mail_is_delivered_or_bounced_or_queued() {
    if let Some(seed) = number("POSTROAD_SEED") {
        let run = run(seed, Lie::None);
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
    for line in account(&runs) {
        eprintln!("{line}");
    }
}

/// What the seeds of each kind came to. Sees that nothing is missing, unless they are few: what never happens is not tested.
fn account(runs: &[Run]) -> Vec<String> {
    let is_few = (runs.len() as u64) < SEEDS;
    let mut kinds: BTreeMap<(&str, Routing), Vec<&Run>> = BTreeMap::new();
    for run in runs {
        let storage = match run.storage {
            Storage::Durable => "durable",
            Storage::Relaxed { .. } => "relaxed",
            Storage::Passthrough => "passthrough",
        };
        kinds.entry((storage, run.routing)).or_default().push(run);
    }
    let mut lines = Vec::new();
    for ((storage, routing), runs) in &kinds {
        let all = runs.iter().map(|run| run.balance.counts);
        let counts = all.fold(Counts::default(), Counts::add);
        let seeds = runs.len();
        lines.push(format!("{storage}, {routing:?}: {seeds} seeds, {counts:?}"));
        let Counts {
            accepted,
            with_login,
            passed_on,
            taken,
            bounced,
            relayed,
            // Seldom: counted over all kinds.
            delayed: _,
            awaited: _,
            returned: _,
            rerouted: _,
            converted,
            duplicates,
            rejected,
            power_cuts,
        } = counts;
        assert!(storage == &"relaxed" || taken == 0);
        assert!(storage == &"passthrough" || passed_on == 0);
        let own = match *storage {
            "relaxed" => taken,
            "passthrough" => passed_on,
            _ => accepted,
        };
        let happened = [
            own, with_login, bounced, relayed, converted, duplicates, rejected, power_cuts,
        ];
        assert!(
            is_few || happened.iter().all(|count| *count > 0),
            "{lines:?}"
        );
    }
    let all = runs.iter().map(|run| run.balance.counts);
    let all = all.fold(Counts::default(), Counts::add);
    let seldom = [all.delayed, all.awaited, all.returned, all.rerouted];
    assert!(is_few || (kinds.len() == 6 && seldom.iter().all(|count| *count > 0)));
    lines
}

#[test]
fn a_seed_is_always_the_same_run() {
    let seeds = number("POSTROAD_SEEDS").map_or(SEEDS_TWICE, |seeds| (seeds / TWICE_ONE_IN).max(1));
    let differs = |seed: &u64| run(*seed, Lie::None).story() != run(*seed, Lie::None).story();
    let different: Vec<u64> = (0..seeds).filter(differs).collect();
    assert!(different.is_empty(), "seeds {different:?}");
}

#[test]
fn mail_that_was_not_flushed_is_missed_whatever_was_promised() {
    for promises in [DURABLE, RELAXED, PASSTHROUGH] {
        find_out(promises, Lie::Flushes);
    }
}

#[test]
fn mail_that_a_next_hop_forgets_is_missed_stored_before_or_not() {
    for promises in [DURABLE, PASSTHROUGH] {
        find_out(promises, Lie::NextHops);
    }
}

#[test]
fn ends_that_wait_for_too_long_are_found_out_and_lose_nothing() {
    let promises = |storage| DURABLE(storage) || PASSTHROUGH(storage);
    let runs = seeds(promises).map(|seed| run(seed, Lie::Ends));
    let errors: Vec<String> = runs.flat_map(|run| run.balance.errors).collect();
    assert!(!errors.is_empty(), "nobody has found out that they wait");
    for error in errors {
        assert!(error.ends_with("for no reason"), "{error}");
    }
}

#[test]
fn mail_that_goes_although_it_is_held_is_found_out() {
    let mut errors = seeds(DURABLE).flat_map(|seed| run(seed, Lie::Interventions).balance.errors);
    assert!(errors.any(|error| error.contains("although it is held")));
}

/// Runs seeds of a kind until one misses mail because of a lie.
fn find_out(promises: Promises, lie: Lie) {
    let error = seeds(promises)
        .filter_map(|seed| run(seed, lie).verdict().err())
        .find(|error| error.contains("is lost"));
    assert!(error.is_some(), "nobody has found out a lie: {lie:?}");
}

/// The first seeds of a kind.
fn seeds(promises: Promises) -> impl Iterator<Item = u64> {
    let fits = move |seed: &u64| promises(Plan::new(&Dice::new(*seed)).storage);
    (0..).filter(fits).take(SEEDS_WITH_LIES)
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
            runs.push(run(seed, Lie::None));
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
