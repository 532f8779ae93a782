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

/// Bounds of the time between the flushes of a relaxed spool, in milliseconds: below what is left between a delivery and the next one
/// that counts as a duplicate without a reason.
const SYNC_MS_MIN: u64 = 50;
const SYNC_MS_MAX: u64 = 500;

/// One of the next hops, or what is between it and the relay.
pub(crate) type Hop = usize;

/// What a 250 promises.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub(crate) enum Storage {
    /// Nothing takes the message.
    Durable,
    /// A power cut takes it at most if it came within this time before.
    Relaxed { sync: Duration },
    /// The next hop has it, or it is stored as in [`Self::Durable`].
    Passthrough,
}

/// How mail leaves.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub(crate) enum Routing {
    /// By routes to two smarthosts.
    Smarthosts,
    /// To the exchangers that the DNS names.
    Direct,
}

impl Routing {
    /// How many next hops there are.
    pub(crate) fn hops(self) -> usize {
        match self {
            Self::Smarthosts => 2,
            Self::Direct => 3,
        }
    }

    /// In seconds, so that some mail expires, but no report: one that cannot be delivered is given up, and that is no loss. An
    /// exchanger that was silent is left alone for a minute, and an attempt may take three.
    fn short_lifetime(self) -> u64 {
        match self {
            Self::Smarthosts => 20,
            Self::Direct => 400,
        }
    }
}

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
    pub(crate) storage: Storage,
    pub(crate) routing: Routing,
    /// In order.
    pub(crate) events: Vec<Event>,
    /// Connections that submit mail, side by side.
    pub(crate) clients: u64,
    pub(crate) messages_per_client: u64,
    /// Who waits for longer in one connection gives up.
    pub(crate) patience: Duration,
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
        let routing = match dice.permille(500) {
            true => Routing::Smarthosts,
            false => Routing::Direct,
        };
        let storage = storage(dice);
        let count = dice.between(1, TROUBLES_MAX + 1);
        let mut events: Vec<Event> = (0..count).map(|_| event(dice, routing)).collect();
        events.sort_by_key(|event| event.at);
        let lifetimes = [routing.short_lifetime(), 3600, 3600, 3600];
        let lifetime = lifetimes[index(dice, lifetimes.len())];
        let segments = [16 << 10, 64 << 10, 256 << 10];
        // The relay waits for half a minute for a next hop.
        let patiences = [10, 40];
        let patience = patiences[index(dice, patiences.len())];
        Self {
            storage,
            routing,
            events,
            clients: dice.between(1, 4),
            messages_per_client: dice.between(3, 12),
            patience: Duration::from_secs(patience),
            lifetime: Duration::from_secs(lifetime),
            latency_max: Duration::from_millis(dice.between(1, 80)),
            rudeness: dice.between(0, 60),
            segment_bytes: segments[index(dice, segments.len())],
        }
    }
}

fn storage(dice: &Dice) -> Storage {
    match dice.between(0, 3) {
        0 => Storage::Durable,
        1 => Storage::Relaxed {
            sync: Duration::from_millis(dice.between(SYNC_MS_MIN, SYNC_MS_MAX)),
        },
        _ => Storage::Passthrough,
    }
}

fn event(dice: &Dice, routing: Routing) -> Event {
    Event {
        at: Duration::from_millis(dice.between(0, ROUGH_MS)),
        lasts: Duration::from_millis(dice.between(100, TROUBLE_MS_MAX)),
        trouble: trouble(dice, routing),
    }
}

fn trouble(dice: &Dice, routing: Routing) -> Trouble {
    let hop = index(dice, routing.hops());
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
