//! How many messages may go in a time: a token bucket. Pure.
//!
//! In no span of the rate's length do more messages go than it says, wherever the span begins: a provider that counts by its own clock
//! finds nothing to complain about. So messages go one by one at even distances. Only where these are shorter than a timer can tell
//! a few go at once, and the distances are a little longer for it.
//!
//! What makes a message ready, a connection, room in memory, a conversion, may take minutes. So it is made ready when it is its *turn*, at the same
//! distances: no more messages are than can go. When it *goes* is asked for at the last moment, and counts alone.

use postroad_config::Rate;

/// Messages whose distance is shorter go in bursts as long as this, in nanoseconds: timers are exact to about a millisecond.
const BURST_NS: u64 = 5_000_000;

/// So long before it may go a message may have its turn: it takes that long to make it ready, or less.
const AHEAD_MS: u64 = 1000;

/// What a rate lets go sooner is not said to wait for it, in milliseconds.
const BACKLOG_MS: u64 = 10_000;

/// Turns are taken at once where mail waits for nothing else, but for a part of their distance: it takes a while to open a connection.
const DELAY_PART: u64 = 8;

/// The turns of messages, and those that went.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Pacer {
    turns: Bucket,
    gone: Bucket,
}

/// A bucket. It begins full.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
struct Bucket {
    /// When it is full, in nanoseconds: the theoretical time of arrival of the generic cell rate algorithm.
    full_ns: u64,
}

/// The distance of two messages and how many may go at once.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
struct Pace {
    interval_ns: u64,
    burst: u64,
}

impl Pace {
    fn of(rate: Rate) -> Self {
        let span_ns = u64::from(rate.per_seconds.max(1)) * 1_000_000_000;
        let messages = u64::from(rate.messages.max(1));
        let burst = (BURST_NS * messages / span_ns).clamp(1, messages);
        Self {
            interval_ns: span_ns.div_ceil(messages + 1 - burst),
            burst,
        }
    }
}

impl Pacer {
    /// Takes a turn.
    ///
    /// # Errors
    /// When one may be had, in milliseconds since the epoch: later than now.
    pub fn turn(&mut self, rate: Rate, now_ms: u64) -> Result<(), u64> {
        match self.next_ms(rate, now_ms) {
            next_ms if next_ms > now_ms => Err(next_ms),
            _ => self.turns.take(rate, now_ms),
        }
    }

    /// When the next turn may be had, in milliseconds since the epoch; not later than now if it may at once.
    pub fn next_ms(&self, rate: Rate, now_ms: u64) -> u64 {
        let gone_ms = self.gone.next_ms(rate, now_ms).saturating_sub(AHEAD_MS);
        self.turns.next_ms(rate, now_ms).max(gone_ms)
    }

    /// Whether so many messages wait for nothing but it, and the last of them for longer than moments: turns are taken as soon as they may be had, and
    /// that of the last is far ahead.
    #[must_use]
    pub fn holds_up(&self, rate: Rate, messages: u32, now_ms: u64) -> bool {
        let Some(others) = messages.checked_sub(1) else {
            return false;
        };
        let interval_ns = Pace::of(rate).interval_ns;
        let lately_ms = now_ms.saturating_sub(interval_ns / DELAY_PART / 1_000_000);
        let is_taken = self.next_ms(rate, lately_ms) > lately_ms;
        let rest_ms = interval_ns.saturating_mul(others.into()) / 1_000_000;
        let last_ms = self.next_ms(rate, now_ms).saturating_add(rest_ms);
        is_taken && last_ms >= now_ms.saturating_add(BACKLOG_MS)
    }

    /// Gives back the turn of a message that did not get ready.
    pub fn give_back(&mut self, rate: Rate) {
        self.turns.give_back(rate);
    }

    /// A message that is ready goes now.
    ///
    /// # Errors
    /// When it may, in milliseconds since the epoch: later than now.
    pub fn go(&mut self, rate: Rate, now_ms: u64) -> Result<(), u64> {
        self.gone.take(rate, now_ms)
    }
}

impl Bucket {
    /// Takes what one message needs.
    ///
    /// # Errors
    /// When it may go, in milliseconds since the epoch: later than now.
    fn take(&mut self, rate: Rate, now_ms: u64) -> Result<(), u64> {
        let pace = Pace::of(rate);
        let begin_ns = self.begin_ns(pace, now_ms);
        self.check(pace, now_ms)?;
        self.full_ns = begin_ns + pace.interval_ns;
        Ok(())
    }

    /// When the next message may go, in milliseconds since the epoch; not later than now if it may at once.
    fn next_ms(&self, rate: Rate, now_ms: u64) -> u64 {
        match self.check(Pace::of(rate), now_ms) {
            Ok(()) => now_ms,
            Err(later_ms) => later_ms,
        }
    }

    /// Gives back what the message that took it last did not need.
    fn give_back(&mut self, rate: Rate) {
        self.full_ns = self.full_ns.saturating_sub(Pace::of(rate).interval_ns);
    }

    fn check(&self, pace: Pace, now_ms: u64) -> Result<(), u64> {
        let ahead_ns = (pace.burst - 1) * pace.interval_ns;
        let earliest_ns = self.begin_ns(pace, now_ms).saturating_sub(ahead_ns);
        match earliest_ns <= now_ms.saturating_mul(1_000_000) {
            true => Ok(()),
            false => Err(earliest_ns.div_ceil(1_000_000)),
        }
    }

    /// A clock that steps back, or a rate that has become higher, makes nobody wait for longer than the bucket takes to fill.
    fn begin_ns(&self, pace: Pace, now_ms: u64) -> u64 {
        let now_ns = now_ms.saturating_mul(1_000_000);
        let most_ns = now_ns.saturating_add(pace.interval_ns * pace.burst);
        self.full_ns.clamp(now_ns, most_ns)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const START_MS: u64 = 1_763_000_000_123;

    fn rate(messages: u32, per_seconds: u32) -> Rate {
        Rate {
            messages,
            per_seconds,
        }
    }

    /// When messages go that all come at once, in milliseconds, to a sender that sleeps as long as it is told.
    fn times(rate: Rate, count: usize) -> Vec<u64> {
        let (mut bucket, mut now_ms) = (Bucket::default(), START_MS);
        let mut times = Vec::new();
        while times.len() < count {
            match bucket.take(rate, now_ms) {
                Ok(()) => times.push(now_ms),
                Err(later_ms) => {
                    assert!(later_ms > now_ms, "nobody is told to wait for the past");
                    assert_eq!(bucket.next_ms(rate, now_ms), later_ms);
                    now_ms = later_ms;
                }
            }
        }
        times
    }

    /// In no span of its length more go than the rate says, and hardly fewer.
    fn assert_keeps(rate: Rate, times: &[u64]) {
        let (span_ms, most) = (u64::from(rate.per_seconds) * 1000, rate.messages as usize);
        for (first, begin) in times.iter().enumerate() {
            let within = times[first..].partition_point(|time| *time < begin + span_ms);
            assert!(within <= most, "{rate:?}: {within}");
        }
        let took_ms = times[most * 3] - times[0];
        assert!(took_ms <= span_ms * 3 + span_ms / 10, "{rate:?}: {took_ms}");
    }

    #[test]
    fn in_no_span_of_its_length_do_more_go_than_the_rate_says_and_hardly_fewer() {
        for (messages, per_seconds) in [
            (1, 1),
            (14, 1),
            (14, 3),
            (1, 60),
            (100, 60),
            (1000, 1),
            (50_000, 1),
            (10_000, 3600),
        ] {
            let rate = rate(messages, per_seconds);
            assert_keeps(rate, &times(rate, messages as usize * 3 + 3));
        }
    }

    #[test]
    fn what_was_not_needed_is_given_back() {
        let (mut bucket, rate) = (Bucket::default(), rate(1, 10));
        bucket.take(rate, START_MS).unwrap();
        assert_eq!(bucket.take(rate, START_MS), Err(START_MS + 10_000));
        bucket.give_back(rate);
        bucket.take(rate, START_MS).unwrap();
        assert_eq!(bucket.take(rate, START_MS), Err(START_MS + 10_000));
    }

    #[test]
    fn turns_that_are_used_together_let_no_more_messages_go_than_the_rate_says() {
        let (mut pacer, rate) = (Pacer::default(), rate(1, 10));
        for number in 0..5 {
            let now_ms = START_MS + number * 10_000;
            pacer.turn(rate, now_ms).unwrap();
            assert_eq!(pacer.turn(rate, now_ms), Err(now_ms + 10_000));
        }
        let now_ms = START_MS + 55_000;
        pacer.go(rate, now_ms).unwrap();
        for _ in 1..5 {
            assert_eq!(pacer.go(rate, now_ms), Err(now_ms + 10_000));
            pacer.give_back(rate);
        }
        let next_ms = now_ms + 10_000 - AHEAD_MS;
        assert_eq!(pacer.next_ms(rate, now_ms), next_ms);
        assert_eq!(pacer.turn(rate, now_ms), Err(next_ms));
        pacer.turn(rate, next_ms).unwrap();
        pacer.go(rate, now_ms + 10_000).unwrap();
    }

    #[test]
    fn holds_up_what_has_to_wait_for_long_and_for_nothing_else() {
        for (messages, per_seconds, waiting, expected) in [
            (60, 60, 0, false),
            (60, 60, 9, false),
            (60, 60, 10, true),
            (14, 1, 130, false),
            (14, 1, 145, true),
            (5000, 1, 49_000, false),
            (5000, 1, 51_000, true),
            (1, 3600, 1, true),
        ] {
            let (mut pacer, rate) = (Pacer::default(), rate(messages, per_seconds));
            let told = |pacer: &Pacer, now_ms| pacer.holds_up(rate, waiting, now_ms);
            assert!(!told(&pacer, START_MS), "nothing has gone: {rate:?}");
            while pacer.turn(rate, START_MS).is_ok() {}
            assert_eq!(told(&pacer, START_MS), expected, "{waiting} {rate:?}");
            // Nobody has taken the turns that there were meanwhile.
            let later_ms = START_MS + u64::from(per_seconds) * 2000;
            assert!(!told(&pacer, later_ms), "{waiting} {rate:?}");
        }
        // A connection is being opened for the one whose turn it is.
        let (mut pacer, rate) = (Pacer::default(), rate(6, 60));
        pacer.turn(rate, START_MS).unwrap();
        assert!(pacer.holds_up(rate, 3, START_MS + 11_000));
        assert!(!pacer.holds_up(rate, 3, START_MS + 12_000));
    }

    /// When messages go that get ready some milliseconds after their turns, the second of every two later than the first.
    fn times_when_made_ready(rate: Rate, count: usize) -> Vec<u64> {
        let (mut pacer, mut turn_ms, mut turns) = (Pacer::default(), START_MS, 0);
        let (mut ready, mut times) = (Vec::new(), Vec::new());
        while times.len() < count {
            let first = ready.iter().copied().min();
            match first.filter(|ready_ms| *ready_ms <= turn_ms) {
                Some(now_ms) => {
                    ready.swap_remove(ready.iter().position(|one| *one == now_ms).unwrap());
                    match pacer.go(rate, now_ms) {
                        Ok(()) => times.push(now_ms),
                        Err(later_ms) => ready.push(later_ms),
                    }
                }
                None => match pacer.turn(rate, turn_ms) {
                    Ok(()) => {
                        ready.push(turn_ms + 1 + turns % 2 * 8);
                        turns += 1;
                    }
                    Err(later_ms) => turn_ms = later_ms,
                },
            }
        }
        times
    }

    #[test]
    fn what_takes_long_to_get_ready_goes_no_faster_than_the_rate_says_and_hardly_slower() {
        for (messages, per_seconds) in [(14, 1), (100, 60), (1000, 1), (1, 10)] {
            let rate = rate(messages, per_seconds);
            let times = times_when_made_ready(rate, messages as usize * 3 + 1);
            assert_keeps(rate, &times);
        }
    }

    #[test]
    fn a_clock_that_steps_back_or_a_higher_rate_makes_nobody_wait_for_long() {
        let (mut bucket, slow, fast) = (Bucket::default(), rate(1, 3600), rate(1, 1));
        bucket.take(slow, START_MS).unwrap();
        assert_eq!(bucket.next_ms(fast, START_MS), START_MS + 1000);
        assert_eq!(
            bucket.next_ms(slow, START_MS - 10_000_000),
            START_MS - 10_000_000 + 3_600_000
        );
    }
}
