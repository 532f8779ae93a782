//! Failed logins by source: how long the refusal is held back, and whether it is worth a line in the log.
//!
//! A login that is right is never held back, so that a guesser in a client's network costs the client nothing. The
//! table is bounded: what it forgets is who has been quiet for longest.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

use crate::connections::source_of;

/// Each failure of a source holds back the refusal for this much longer.
pub const DELAY_STEP: Duration = Duration::from_secs(1);

/// Clients wait for a reply for minutes (RFC 5321 §4.5.3.2), people with a program that they set up for seconds.
pub const DELAY_MAX: Duration = Duration::from_secs(5);

/// A source that has not failed for this long begins anew.
const FORGET_AFTER: Duration = Duration::from_secs(900);

/// So many failures of a source get a line each: what a person who mistypes, or an application with an old password,
/// does in one session.
const LOGGED_FIRST: u32 = 3;

/// After those, one line for each source in this time; the next one tells how many there were since.
const LOG_EVERY: Duration = Duration::from_secs(10);

/// Sources that are remembered: a hundred bytes each.
const SOURCES_MAX: usize = 4096;

/// The failed logins.
#[derive(Debug, Default)]
pub struct Guesses {
    sources: Mutex<HashMap<IpAddr, Guesser>>,
}

#[derive(Clone, Copy, Debug)]
struct Guesser {
    failures: u32,
    last: Instant,
    logged: Instant,
    unlogged: u64,
}

/// What follows from a failed login.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Failure {
    /// The refusal is held back for this long.
    pub delay: Duration,
    /// Whether to log it.
    pub log: Log,
}

/// Whether to log a failed login.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Log {
    /// There was a line a moment ago.
    Quiet,
    /// A line, for so many failures since the one before, this one included.
    Line(u64),
}

impl Guesses {
    /// A login from there was wrong.
    pub fn failed(&self, peer: IpAddr, now: Instant) -> Failure {
        let source = source_of(peer);
        let mut sources = self.sources.lock().unwrap_or_else(PoisonError::into_inner);
        let known = sources.get(&source).copied();
        let known = known.filter(|guesser| now.duration_since(guesser.last) < FORGET_AFTER);
        if sources.len() >= SOURCES_MAX && !sources.contains_key(&source) {
            forget_quietest(&mut sources);
        }
        let (guesser, failure) = next(known, now);
        sources.insert(source, guesser);
        failure
    }
}

fn next(known: Option<Guesser>, now: Instant) -> (Guesser, Failure) {
    let before = known.map_or(0, |guesser| guesser.failures);
    let unlogged = known.map_or(0, |guesser| guesser.unlogged) + 1;
    let recent = known.map(|guesser| guesser.logged);
    let recent =
        recent.filter(|logged| before >= LOGGED_FIRST && now.duration_since(*logged) < LOG_EVERY);
    let failures = before.saturating_add(1);
    let guesser = Guesser {
        failures,
        last: now,
        logged: recent.unwrap_or(now),
        unlogged: if recent.is_some() { unlogged } else { 0 },
    };
    let log = match recent {
        Some(_) => Log::Quiet,
        None => Log::Line(unlogged),
    };
    let delay = DELAY_STEP.saturating_mul(failures).min(DELAY_MAX);
    (guesser, Failure { delay, log })
}

fn forget_quietest(sources: &mut HashMap<IpAddr, Guesser>) {
    let quietest = sources.iter().min_by_key(|(_, guesser)| guesser.last);
    if let Some(source) = quietest.map(|(source, _)| *source) {
        sources.remove(&source);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    use std::net::Ipv4Addr;

    fn at(begun: Instant, seconds: u64) -> Instant {
        begun + Duration::from_secs(seconds)
    }

    #[test]
    fn guessing_gets_slower_by_source_and_is_forgotten() {
        let (guesses, begun) = (Guesses::default(), Instant::now());
        let [one, other] = ["192.0.2.1", "192.0.2.2"].map(|text| text.parse().unwrap());
        let delay = |source, second| guesses.failed(source, at(begun, second)).delay.as_secs();
        let delays: Vec<_> = (0..7).map(|second| delay(one, second)).collect();
        assert_eq!(delays, [1, 2, 3, 4, 5, 5, 5]);
        assert_eq!(delay(other, 7), 1);
        assert_eq!(delay(one, 905), 5);
        assert_eq!(delay(one, 905 + 900), 1);
    }

    #[test]
    fn a_source_that_guesses_fills_no_log() {
        let (guesses, begun) = (Guesses::default(), Instant::now());
        let source = "192.0.2.1".parse().unwrap();
        let logs: Vec<_> = [0, 1, 2, 3, 11, 12, 13, 25]
            .map(|second| guesses.failed(source, at(begun, second)).log)
            .into();
        assert_eq!(
            logs,
            [
                Log::Line(1),
                Log::Line(1),
                Log::Line(1),
                Log::Quiet,
                Log::Quiet,
                Log::Line(3),
                Log::Quiet,
                Log::Line(2)
            ]
        );
    }

    #[test]
    fn remembers_a_bounded_number_of_sources() {
        let (guesses, begun) = (Guesses::default(), Instant::now());
        let source = |number: usize| {
            let number = u32::try_from(number).unwrap();
            IpAddr::V4(Ipv4Addr::from_bits(0x0a00_0000 + number))
        };
        for number in 0..=SOURCES_MAX {
            let millis = Duration::from_millis(u64::try_from(number).unwrap());
            guesses.failed(source(number), begun + millis);
        }
        assert_eq!(guesses.sources.lock().unwrap().len(), SOURCES_MAX);
        let later = at(begun, 5);
        assert_eq!(guesses.failed(source(0), later).delay, DELAY_STEP);
        assert_eq!(guesses.failed(source(2), later).delay, DELAY_STEP * 2);
    }
}
