//! Figures for people: what waits, how much that is, and since when.

use std::fmt::Write as _;

use jiff::Timestamp;
use postroad_api::QueueSummary;

/// What waits in a queue, in one line.
pub(crate) fn waiting(queue: &QueueSummary, now: Timestamp) -> String {
    let QueueSummary {
        messages,
        bytes,
        deferred,
        oldest,
        held,
        destinations: _,
    } = queue;
    if *messages == 0 {
        return "nothing waits".to_owned();
    }
    let plural = if *messages == 1 { "" } else { "s" };
    let mut text = format!(
        "{messages} message{plural} ({}), {deferred} deferred, {held} held",
        size(*bytes)
    );
    if let Some(oldest) = oldest {
        // Writing to a String cannot fail.
        let _ = write!(text, ", oldest {}", age(oldest, now));
    }
    text
}

/// How long ago a time (RFC 3339) was, as kubectl has it: `36s`, `12m`, `3h20m`, `5d`. What is no time stays as it is; what is to come
/// counts as now, because clocks differ.
pub(crate) fn age(since: &str, now: Timestamp) -> String {
    const MINUTE: i64 = 60;
    const HOUR: i64 = 60 * MINUTE;
    const DAY: i64 = 24 * HOUR;
    let Ok(since) = since.parse::<Timestamp>() else {
        return since.to_owned();
    };
    match now.as_second().saturating_sub(since.as_second()).max(0) {
        seconds if seconds < 2 * MINUTE => format!("{seconds}s"),
        seconds if seconds < 3 * HOUR => format!("{}m", seconds / MINUTE),
        seconds if seconds < 2 * DAY => {
            format!("{}h{}m", seconds / HOUR, seconds % HOUR / MINUTE)
        }
        seconds => format!("{}d", seconds / DAY),
    }
}

/// An amount of bytes in powers of a thousand, with a decimal below ten.
fn size(bytes: u64) -> String {
    const UNITS: [(u64, &str); 4] = [
        (1_000_000_000_000, "TB"),
        (1_000_000_000, "GB"),
        (1_000_000, "MB"),
        (1_000, "kB"),
    ];
    let Some((unit, name)) = UNITS.into_iter().find(|(unit, _)| bytes >= *unit) else {
        return format!("{bytes} bytes");
    };
    let (whole, tenth) = (bytes / unit, bytes % unit / (unit / 10));
    match whole {
        0..10 => format!("{whole}.{tenth} {name}"),
        _ => format!("{whole} {name}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ages_are_as_those_of_kubectl() {
        let now = "2027-01-15T08:00:00Z".parse().unwrap();
        for (since, expected) in [
            ("2027-01-15T07:59:24Z", "36s"),
            ("2027-01-15T07:58:01Z", "119s"),
            ("2027-01-15T07:58:00Z", "2m"),
            ("2027-01-15T05:00:01Z", "179m"),
            ("2027-01-15T04:40:00Z", "3h20m"),
            ("2027-01-13T08:00:01Z", "47h59m"),
            ("2027-01-10T08:00:00Z", "5d"),
            ("2027-01-15T08:00:01Z", "0s"),
            ("before", "before"),
        ] {
            assert_eq!(age(since, now), expected, "{since}");
        }
    }

    #[test]
    fn sizes_have_few_digits() {
        for (bytes, expected) in [
            (0, "0 bytes"),
            (999, "999 bytes"),
            (1_000, "1.0 kB"),
            (9_999, "9.9 kB"),
            (465_000, "465 kB"),
            (5_600_000, "5.6 MB"),
            (4_300_000_000, "4.3 GB"),
            (u64::MAX, "18446744 TB"),
        ] {
            assert_eq!(size(bytes), expected);
        }
    }

    #[test]
    fn what_waits_is_one_line() {
        let now = "2027-01-15T08:00:00Z".parse().unwrap();
        for (queue, expected) in [
            (
                serde_json::json!({"messages": 0, "bytes": 0, "deferred": 0}),
                "nothing waits",
            ),
            (
                serde_json::json!({"messages": 1, "bytes": 465, "deferred": 0, "held": 1, "oldest": "2027-01-15T07:59:00Z"}),
                "1 message (465 bytes), 0 deferred, 1 held, oldest 60s",
            ),
            (
                serde_json::json!({"messages": 20, "bytes": 12_000, "deferred": 3}),
                "20 messages (12 kB), 3 deferred, 0 held",
            ),
        ] {
            let queue: QueueSummary = serde_json::from_value(queue).unwrap();
            assert_eq!(waiting(&queue, now), expected);
        }
    }
}
