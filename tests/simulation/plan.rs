//! What happens in a run, as its seed has it.

use std::time::Duration;

use postroad_spool::sim::Fault as DiskFault;

use crate::dice::Dice;
use crate::intervention::{self, Intervention};

/// For how long things go wrong, in milliseconds.
pub(crate) const ROUGH_MS: u64 = 15_000;

/// Most troubles in a run.
const TROUBLES_MAX: u64 = 9;

/// Memory for content where there is little, in bytes: between room for one message as large as they come, and for a few.
const LITTLE_MEMORY_MIN: u64 = 100_000;
const LITTLE_MEMORY_MAX: u64 = 400_000;

/// The same where there is enough for all.
const MUCH_MEMORY: u64 = 16_000_000;

/// In so many of 1,000 runs there is little.
const LITTLE_MEMORY: u64 = 300;

/// Longest that a trouble takes, in milliseconds.
const TROUBLE_MS_MAX: u64 = 4_000;

/// For how long somebody intervenes, in milliseconds: mostly for longer than what was under way takes.
const INTERVENTION_MS_MIN: u64 = 1_000;
const INTERVENTION_MS_MAX: u64 = 12_000;

/// When a trouble begins that comes again and again, and after which time it comes again, in milliseconds.
const AGAIN_FROM_MS: u64 = 4_000;
const AGAIN_AFTER_MS: usize = 5_000;

/// Bounds of the time between the flushes of a relaxed spool, in milliseconds: below what is left between a delivery and the next one
/// that counts as a duplicate without a reason.
const SYNC_MS_MIN: u64 = 50;
const SYNC_MS_MAX: u64 = 500;

/// Senders of the clients' mail.
pub(crate) const SENDERS: u64 = 3;

/// For how long mail waits whose sender is rejected, in seconds. In some runs not at all.
const SENDER_HOLDS: [u64; 4] = [0, 3, 8, 15];

/// For how long the ends of messages wait for mail, in milliseconds: as in the product, and long enough for the grain of time and for what happens
/// meanwhile; well below what is left between a delivery and the next one that counts as a duplicate without a reason.
const LINGERS_MS: [u64; 3] = [2, 100, 300];

/// Whose mail for [`TURNED_DOMAIN`] does not go where that of the others goes.
pub(crate) const TURNED_LOGIN: &str = "shop";
pub(crate) const TURNED_DOMAIN: &str = "c.example";

/// Who may log in, in order. Everybody else is in a trusted network.
pub(crate) const LOGINS: [&str; 2] = ["news", TURNED_LOGIN];

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

    /// Whether a next hop may get mail for a domain from a login.
    pub(crate) fn leads_to(self, hop: Hop, domain: &str, login: Option<&str>) -> bool {
        let is_turned = domain == TURNED_DOMAIN && login == Some(TURNED_LOGIN);
        match (self, domain) {
            (Self::Smarthosts, "a.example") => hop == 0,
            (Self::Smarthosts, "b.example") => hop == 1,
            (Self::Smarthosts, _) => !is_turned || hop == 1,
            (Self::Direct, "a.example") => hop < 2,
            (Self::Direct, "b.example") => hop == 1,
            (Self::Direct, "d.example") => hop == 0,
            (Self::Direct, "c.example" | "e.example") => hop == 2,
            (Self::Direct, _) => false,
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
    /// The next hop takes nothing from a sender.
    Rejection(Hop, u64),
    /// Nothing goes wrong: somebody wants something else to be done.
    Intervention(Intervention),
}

impl Trouble {
    /// Whether it can keep the relay from knowing what it did for as long as it lasts. The end of a process does for a moment.
    pub(crate) fn hides(self) -> bool {
        match self {
            Self::PowerCut { .. }
            | Self::Kill
            | Self::Restart
            | Self::Rejection(..)
            | Self::Intervention(_) => false,
            Self::Disk { .. }
            | Self::DiskFull
            | Self::Partition(_)
            | Self::Hold(_)
            | Self::HopGone(_) => true,
        }
    }
}

/// A trouble and when it comes.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Event {
    pub(crate) at: Duration,
    pub(crate) lasts: Duration,
    pub(crate) trouble: Trouble,
}

impl Event {
    /// One trouble comes again and again, and no other.
    pub(crate) fn again(trouble: Trouble) -> Vec<Self> {
        let event = |at| Self {
            at: Duration::from_millis(at),
            lasts: Duration::ZERO,
            trouble,
        };
        let times = (AGAIN_FROM_MS..ROUGH_MS).step_by(AGAIN_AFTER_MS);
        times.map(event).collect()
    }

    /// All mail is held, nearly from the begin to the end.
    pub(crate) fn all_held() -> Vec<Self> {
        let event = |domain| Self {
            at: Duration::ZERO,
            lasts: Duration::from_millis(ROUGH_MS),
            trouble: Trouble::Intervention(Intervention::Hold(domain)),
        };
        intervention::DOMAINS.map(event).into()
    }
}

/// A run.
#[derive(Clone, Debug)]
pub(crate) struct Plan {
    pub(crate) storage: Storage,
    pub(crate) routing: Routing,
    /// In order.
    pub(crate) events: Vec<Event>,
    pub(crate) messages_per_client: u64,
    /// Who waits for longer in one connection gives up.
    pub(crate) patience: Duration,
    /// After which mail bounces.
    pub(crate) lifetime: Duration,
    /// For how long mail waits whose sender is rejected.
    pub(crate) sender_hold: Duration,
    /// For how long the ends of messages wait for mail.
    pub(crate) linger: Duration,
    /// By which login each client sends.
    pub(crate) logins: Vec<Option<&'static str>>,
    /// Longest way of a packet.
    pub(crate) latency_max: Duration,
    /// In so many of 1,000 cases a next hop answers a command with something else than yes.
    pub(crate) rudeness: u64,
    /// Size of a segment.
    pub(crate) segment_bytes: u64,
    /// Memory for the content of mail, in bytes.
    pub(crate) memory_bytes: u64,
}

impl Plan {
    /// Whether mail is given up while it waits.
    pub(crate) fn is_short_lived(&self) -> bool {
        self.lifetime.as_secs() == self.routing.short_lifetime()
    }

    /// How many reads of the disk fail at most. A message whose time is over, and that the disk does not give back, is kept aside as if it
    /// were damaged: at most one for each.
    pub(crate) fn failed_reads(&self) -> u64 {
        let times = |event: &Event| match event.trouble {
            Trouble::Disk {
                fault: DiskFault::Read,
                times,
            } => u64::from(times),
            _ => 0,
        };
        self.events.iter().map(times).sum()
    }

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
        let lifetime = lifetimes[dice.index(lifetimes.len())];
        let segments = [16 << 10, 64 << 10, 256 << 10];
        // The relay waits for half a minute for a next hop.
        let patiences = [10, 40];
        let patience = patiences[dice.index(patiences.len())];
        Self {
            storage,
            routing,
            events,
            sender_hold: Duration::from_secs(SENDER_HOLDS[dice.index(SENDER_HOLDS.len())]),
            linger: Duration::from_millis(LINGERS_MS[dice.index(LINGERS_MS.len())]),
            logins: (0..dice.between(1, 4)).map(|_| login(dice)).collect(),
            messages_per_client: dice.between(3, 12),
            patience: Duration::from_secs(patience),
            lifetime: Duration::from_secs(lifetime),
            latency_max: Duration::from_millis(dice.between(1, 80)),
            rudeness: dice.between(0, 60),
            segment_bytes: segments[dice.index(segments.len())],
            memory_bytes: memory(dice),
        }
    }
}

fn login(dice: &Dice) -> Option<&'static str> {
    LOGINS.get(dice.index(LOGINS.len() + 1)).copied()
}

fn memory(dice: &Dice) -> u64 {
    match dice.permille(LITTLE_MEMORY) {
        true => dice.between(LITTLE_MEMORY_MIN, LITTLE_MEMORY_MAX),
        false => MUCH_MEMORY,
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
    let trouble = trouble(dice, routing);
    let (least, most) = match trouble {
        Trouble::Intervention(_) => (INTERVENTION_MS_MIN, INTERVENTION_MS_MAX),
        _ => (100, TROUBLE_MS_MAX),
    };
    Event {
        at: Duration::from_millis(dice.between(0, ROUGH_MS)),
        lasts: Duration::from_millis(dice.between(least, most)),
        trouble,
    }
}

fn trouble(dice: &Dice, routing: Routing) -> Trouble {
    let hop = dice.index(routing.hops());
    match dice.between(0, 20) {
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
        11 => Trouble::HopGone(hop),
        12..=15 => Trouble::Rejection(hop, dice.between(0, SENDERS)),
        _ => Trouble::Intervention(intervention(dice)),
    }
}

fn intervention(dice: &Dice) -> Intervention {
    let domain = intervention::DOMAINS[dice.index(intervention::DOMAINS.len())];
    match dice.between(0, 4) {
        0 => Intervention::Hold(domain),
        1 => Intervention::Flush(domain),
        2 => Intervention::Bounce(domain),
        _ => Intervention::Reroute,
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
    all[dice.index(all.len())]
}
