//! Numbers that change only when it matters.

use jiff::Timestamp;

/// Up to here counts are exact.
const EXACT: u64 = 100;
/// Times are cut to this many seconds.
const SECONDS: i64 = 10;

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
    let cut = seconds - seconds.rem_euclid(SECONDS);
    Timestamp::from_second(cut)
        .unwrap_or(Timestamp::UNIX_EPOCH)
        .to_string()
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
    fn times_are_cut_and_readable() {
        assert_eq!(coarse_time(1_800_000_009), "2027-01-15T08:00:00Z");
    }
}
