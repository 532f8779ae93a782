//! What a message takes of the memory for queued mail and of the disk. Pure.
//!
//! On the disk it takes its content, and room is kept for the reports that it may yet lead to: one for each open recipient in the worst case.
//! Without that a full disk could not tell anybody what became of the mail that filled it. When the last report is written the message
//! itself goes, so that what is owed is what the reports take beyond it: for a message to one recipient next to nothing.

use std::ops::{AddAssign, SubAssign};

use postroad_message::dsn;

use super::Weight;

/// What a report takes on the disk beside what it returns, in bytes: two texts that name a recipient, a server and what it said, in the usual
/// lengths. Longer ones are rare, and what is kept free for outcomes takes them.
pub const REPORT_BYTES: u64 = 2 << 10;

/// Most octets of a message that all reports on it return together, but for the [`RETURNED_MIN`] of each: whoever forges a sender and names a
/// thousand recipients shall not have the message come to that sender a thousand times.
pub(crate) const RETURNED_MAX: usize = 256 << 10;

/// Octets of the headers that any report may return.
pub(crate) const RETURNED_MIN: usize = 4 << 10;

/// What each report on a message to so many recipients may return of it, in octets: each recipient may come to have its own.
#[must_use]
pub fn returned_share(recipients: usize) -> usize {
    (RETURNED_MAX / recipients.max(1)).max(RETURNED_MIN)
}

/// What mail takes. Loads add up.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Load {
    /// Of memory.
    pub weight: Weight,
    /// Of the disk: content, in bytes.
    pub bytes: u64,
    /// Of the disk: what reports may take beyond that, in bytes.
    pub owed: u64,
}

/// Whether anybody may have to be told of a message.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Sender {
    /// It has a reverse-path.
    Somebody,
    /// It has the null one, or does not want to hear of any recipient.
    Nobody,
}

impl Sender {
    /// From what the spool says of a message.
    #[must_use]
    pub fn of(reportable: bool) -> Self {
        match reportable {
            true => Self::Somebody,
            false => Self::Nobody,
        }
    }
}

impl Load {
    /// Of a message of so many bytes to so many recipients, of which so many are open.
    #[must_use]
    pub fn of(bytes: u64, recipients: u32, open: u32, sender: Sender) -> Self {
        Self {
            weight: Weight::of(recipients, u64::from(open)),
            bytes,
            owed: match sender {
                Sender::Somebody => owed(bytes, recipients, open),
                Sender::Nobody => 0,
            },
        }
    }

    /// Of the disk in all, in bytes.
    #[must_use]
    pub fn disk(self) -> u64 {
        self.bytes.saturating_add(self.owed)
    }
}

fn owed(bytes: u64, recipients: u32, open: u32) -> u64 {
    let share = returned_share(usize::try_from(recipients).unwrap_or(usize::MAX));
    let returned = u64::try_from(share.min(dsn::WHOLE_MAX)).unwrap_or(u64::MAX);
    let returned = returned.min(bytes);
    let reports = u64::from(open.max(1)).saturating_mul(REPORT_BYTES.saturating_add(returned));
    reports.saturating_sub(bytes)
}

impl AddAssign for Load {
    fn add_assign(&mut self, other: Self) {
        self.weight += other.weight;
        self.bytes += other.bytes;
        self.owed += other.owed;
    }
}

impl SubAssign for Load {
    fn sub_assign(&mut self, other: Self) {
        self.weight -= other.weight;
        self.bytes -= other.bytes;
        self.owed -= other.owed;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const KIB: u64 = 1 << 10;

    #[test]
    fn what_is_owed_is_what_reports_take_beyond_the_message() {
        for (bytes, recipients, open, expected) in [
            (4 * KIB, 1, 1, 2 * KIB),
            // It gives back more than its report takes.
            (100 * KIB, 1, 1, 0),
            (4 * KIB, 100, 100, 100 * 6 * KIB - 4 * KIB),
            (4 * KIB, 100, 1, 2 * KIB),
            (60 * KIB, 1000, 1000, 1000 * 6 * KIB - 60 * KIB),
            (1 << 20, 4, 4, 0),
            // As if one were open: it is there until somebody says that it is done.
            (4 * KIB, 2, 0, 2 * KIB),
        ] {
            let load = Load::of(bytes, recipients, open, Sender::Somebody);
            let shown = format!("{bytes} {recipients} {open}");
            assert_eq!((load.bytes, load.owed), (bytes, expected), "{shown}");
            assert_eq!(load.disk(), bytes + expected, "{shown}");
            let unheard = Load::of(bytes, recipients, open, Sender::Nobody);
            assert_eq!(unheard.owed, 0, "{shown}");
        }
    }
}
