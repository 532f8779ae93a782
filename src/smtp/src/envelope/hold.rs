//! FUTURERELEASE (RFC 4865): how long a message is to be held, and the dates of RFC 3339 that it uses.

/// Seconds of a day.
const DAY: u64 = 86_400;
/// Days from 0000-03-01 to 1970-01-01 in the Gregorian calendar.
const DAYS_TO_EPOCH: u64 = 719_468;
/// Days of 400 years: after these the calendar repeats.
const ERA: u64 = 146_097;

/// When a message may be released (RFC 4865 §3).
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub enum Hold {
    /// `HOLDFOR=`: so many seconds after it was accepted; at least 1.
    For(u32),
    /// `HOLDUNTIL=`: at this time, in seconds since the epoch. It may have passed.
    Until(u64),
}

impl Hold {
    /// `future-release-integer = %x31-39 *8DIGIT`.
    pub(crate) fn parse_for(value: &str) -> Option<Self> {
        let well_formed = (1..=9).contains(&value.len())
            && !value.starts_with('0')
            && value.bytes().all(|octet| octet.is_ascii_digit());
        value.parse().ok().filter(|_| well_formed).map(Self::For)
    }

    /// `date-time` of RFC 3339 §5.6 (RFC 4865, erratum 2040). Fractions of a second are passed over.
    pub(crate) fn parse_until(value: &str) -> Option<Self> {
        let (date, time) = value.split_once(['T', 't'])?;
        let [year, month, day] = fields(date, '-', [4, 2, 2])?;
        let (clock, east) = time_and_offset(time)?;
        let (clock, fraction) = clock.split_once('.').unwrap_or((clock, "0"));
        let [hour, minute, second] = fields(clock, ':', [2, 2, 2])?;
        let fraction_fits = !fraction.is_empty() && fraction.bytes().all(|o| o.is_ascii_digit());
        // 60 is a leap second.
        let fits = fraction_fits && hour < 24 && minute < 60 && second <= 60;
        let days = days(year, month, day).filter(|_| fits)?;
        let local = days * DAY + hour * 3600 + minute * 60 + second;
        local.checked_add_signed(-east).map(Self::Until)
    }
}

/// The time as RFC 3339 writes it in UTC.
pub(crate) fn date_time(seconds: u64) -> String {
    let (days, second) = (seconds / DAY + DAYS_TO_EPOCH, seconds % DAY);
    let (era, day_of_era) = (days / ERA, days % ERA);
    // Leap days come every 4 years, not every 100, and every 400 again.
    let year_of_era =
        (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    // Years begin in March here, so that the leap day is the last.
    let month_from_march = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * month_from_march + 2) / 5 + 1;
    let month = (month_from_march + 2) % 12 + 1;
    let year = era * 400 + year_of_era + u64::from(month <= 2);
    let (hour, minute, second) = (second / 3600, second / 60 % 60, second % 60);
    format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}Z")
}

/// Days since the epoch; `None` before it and for days that do not exist.
fn days(year: u64, month: u64, day: u64) -> Option<u64> {
    let leap = year.is_multiple_of(4) && !year.is_multiple_of(100) || year.is_multiple_of(400);
    let length = match month {
        4 | 6 | 9 | 11 => 30,
        2 if leap => 29,
        2 => 28,
        1..=12 => 31,
        _ => return None,
    };
    if day == 0 || day > length {
        return None;
    }
    let year = if month <= 2 {
        year.checked_sub(1)?
    } else {
        year
    };
    let day_of_year = (153 * ((month + 9) % 12) + 2) / 5 + day - 1;
    let leap_days = year / 4 - year / 100 + year / 400;
    (365 * year + leap_days + day_of_year).checked_sub(DAYS_TO_EPOCH)
}

/// The time of day, and how many seconds its zone is east of UTC.
fn time_and_offset(time: &str) -> Option<(&str, i64)> {
    if let Some(clock) = time.strip_suffix(['Z', 'z']) {
        return Some((clock, 0));
    }
    let at = time.rfind(['+', '-'])?;
    let (clock, zone) = time.split_at(at);
    let (sign, zone) = match zone.strip_prefix('-') {
        Some(zone) => (-1, zone),
        None => (1, &zone[1..]),
    };
    let [hours, minutes] = fields(zone, ':', [2, 2])?;
    let seconds = i64::try_from(hours * 3600 + minutes * 60).ok()?;
    (hours < 24 && minutes < 60).then_some((clock, sign * seconds))
}

/// Numbers of so many digits each.
fn fields<const N: usize>(text: &str, separator: char, digits: [usize; N]) -> Option<[u64; N]> {
    let mut parts = text.split(separator);
    let mut numbers = [0; N];
    for (number, digits) in numbers.iter_mut().zip(digits) {
        let part = parts.next()?;
        let well_formed = part.len() == digits && part.bytes().all(|o| o.is_ascii_digit());
        *number = part.parse().ok().filter(|_| well_formed)?;
    }
    parts.next().is_none().then_some(numbers)
}
