//! Numbers that change only when it matters.

use jiff::Timestamp;
use postroad_config::status::{DestinationStatus, RelayStatus, Totals};

use super::{destinations, upstreams};

/// Up to here counts are exact.
const EXACT: u64 = 100;
/// Times are cut to this many seconds.
const SECONDS: i64 = 10;

/// What of a pod's answer the status of its relay shows at once, or is decided by. What servers say to mail is told with the next visit: many put
/// a time or an id of their own into each answer.
pub(in crate::controller) fn shown(status: &RelayStatus) -> RelayStatus {
    let mut shown = status.clone();
    shown.totals = Totals::default();
    let queue = &mut shown.queue;
    queue.messages = coarse(queue.messages);
    queue.bytes = coarse(queue.bytes);
    queue.deferred = coarse(queue.deferred);
    queue.held = coarse(queue.held);
    queue.oldest_arrival = queue.oldest_arrival.map(cut);
    queue.destinations.retain(destinations::is_of_interest);
    queue.destinations.iter_mut().for_each(rough_destination);
    shown.direct = shown.direct.as_ref().map(upstreams::shown_direct);
    for upstream in &mut shown.upstreams {
        upstream.since = 0;
        if let Some(rejected) = &mut upstream.sender_rejected {
            rejected.senders = coarse(rejected.senders);
        }
    }
    shown
}

fn rough_destination(destination: &mut DestinationStatus) {
    destination.messages = rough(destination.messages);
    destination.deferred = rough(destination.deferred);
    destination.oldest_arrival = destination.oldest_arrival.map(cut);
    destination.answer = None;
}

/// One significant digit, rounded down.
pub(super) fn rough(number: u64) -> u64 {
    let unit = 10_u64.pow(number.checked_ilog10().unwrap_or(0));
    number / unit * unit
}

/// Exact below 100, two significant digits above, rounded down.
pub(super) fn coarse(number: u64) -> u64 {
    let mut unit = 1;
    while number / unit >= EXACT {
        unit *= 10;
    }
    number / unit * unit
}

/// Seconds since the epoch as RFC 3339, cut to ten seconds.
pub(super) fn coarse_time(seconds: i64) -> String {
    Timestamp::from_second(cut(seconds))
        .unwrap_or(Timestamp::UNIX_EPOCH)
        .to_string()
}

fn cut(seconds: i64) -> i64 {
    seconds - seconds.rem_euclid(SECONDS)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_have_two_digits() {
        for (number, expected) in [
            (0, 0),
            (7, 7),
            (99, 99),
            (100, 100),
            (109, 100),
            (110, 110),
            (999, 990),
            (1_234_567, 1_200_000),
            (u64::MAX, 18_000_000_000_000_000_000),
        ] {
            assert_eq!(coarse(number), expected);
        }
    }

    #[test]
    fn counts_of_destinations_have_one_digit() {
        for (number, expected) in [
            (0, 0),
            (9, 9),
            (10, 10),
            (19, 10),
            (99, 90),
            (1_234_567, 1_000_000),
            (u64::MAX, 10_000_000_000_000_000_000),
        ] {
            assert_eq!(rough(number), expected);
        }
    }

    #[test]
    fn times_are_cut_and_readable() {
        assert_eq!(coarse_time(1_800_000_009), "2027-01-15T08:00:00Z");
    }
}
