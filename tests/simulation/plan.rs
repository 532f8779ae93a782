//! What happens in a run, as its seed has it.

use std::time::Duration;

use postroad_spool::sim::Fault as DiskFault;

use crate::dice::Dice;

/// For how long things go wrong, in milliseconds.
pub(crate) const ROUGH_MS: u64 = 15_000;

/// Most troubles in a run.
const TROUBLES_MAX: u64 = 9;

/// Longest that a trouble takes, in milliseconds.
const TROUBLE_MS_MAX: u64 = 4_000;

/// One of the two next hops, or what is between it and the relay.
pub(crate) type Hop = usize;

/// What goes wrong.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Trouble {
    /// The power of the relay's machine goes, so many operations of the disk from now.
    PowerCut { operations: u64 },
    /// `kill -9`: what was written is there.
    Kill,
    /// SIGTERM, and a new process.
    Restart,
    /// So many operations of a kind fail.
    Disk { fault: DiskFault, times: u32 },
    /// Nothing more fits.
    DiskFull,
    /// What is sent is lost.
    Partition(Hop),
    /// What is sent waits.
    Hold(Hop),
    /// The next hop goes away.
    HopGone(Hop),
}

/// A trouble and when it comes.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Event {
    pub(crate) at: Duration,
    pub(crate) lasts: Duration,
    pub(crate) trouble: Trouble,
}

/// A run.
#[derive(Clone, Debug)]
pub(crate) struct Plan {
    /// In order.
    pub(crate) events: Vec<Event>,
    /// Connections that submit mail, side by side.
    pub(crate) clients: u64,
    pub(crate) messages_per_client: u64,
    /// After which mail bounces.
    pub(crate) lifetime: Duration,
    /// Longest way of a packet.
    pub(crate) latency_max: Duration,
    /// In so many of 1,000 cases a next hop answers a command with something else than yes.
    pub(crate) rudeness: u64,
    /// Size of a segment.
    pub(crate) segment_bytes: u64,
}

impl Plan {
    pub(crate) fn new(dice: &Dice) -> Self {
        let count = dice.between(1, TROUBLES_MAX + 1);
        let mut events: Vec<Event> = (0..count).map(|_| event(dice)).collect();
        events.sort_by_key(|event| event.at);
        let lifetimes = [20, 3600, 3600, 3600];
        let lifetime = lifetimes[index(dice, lifetimes.len())];
        let segments = [16 << 10, 64 << 10, 256 << 10];
        Self {
            events,
            clients: dice.between(1, 4),
            messages_per_client: dice.between(3, 12),
            lifetime: Duration::from_secs(lifetime),
            latency_max: Duration::from_millis(dice.between(1, 80)),
            rudeness: dice.between(0, 60),
            segment_bytes: segments[index(dice, segments.len())],
        }
    }
}

fn event(dice: &Dice) -> Event {
    Event {
        at: Duration::from_millis(dice.between(0, ROUGH_MS)),
        lasts: Duration::from_millis(dice.between(100, TROUBLE_MS_MAX)),
        trouble: trouble(dice),
    }
}

fn trouble(dice: &Dice) -> Trouble {
    let hop = index(dice, 2);
    match dice.between(0, 12) {
        0..=3 => Trouble::PowerCut {
            operations: dice.between(0, 60),
        },
        4 => Trouble::Kill,
        5 => Trouble::Restart,
        6 | 7 => Trouble::Disk {
            fault: fault(dice),
            times: u32::try_from(dice.between(1, 6)).unwrap(),
        },
        8 => Trouble::DiskFull,
        9 => Trouble::Partition(hop),
        10 => Trouble::Hold(hop),
        _ => Trouble::HopGone(hop),
    }
}

fn fault(dice: &Dice) -> DiskFault {
    let all = [
        DiskFault::Create,
        DiskFault::Read,
        DiskFault::Remove,
        DiskFault::Sync,
        DiskFault::Sync,
        DiskFault::SyncDirectory,
        DiskFault::Truncate,
        DiskFault::Write,
    ];
    all[index(dice, all.len())]
}

fn index(dice: &Dice, length: usize) -> usize {
    usize::try_from(dice.next() % length as u64).unwrap()
}
