//! A run: the hosts, the troubles that its seed has in store, the mending, the balance.

use std::cell::Cell;
use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::rc::Rc;
use std::time::{Duration, UNIX_EPOCH};

use postroad_relay::simulation;
use postroad_spool::sim::SimDisk;
use turmoil::{Builder, Sim};

use crate::check::{Balance, check};
use crate::client::Clients;
use crate::dice::Dice;
use crate::disk::Disk;
use crate::hop::Hop;
use crate::ledger::Ledger;
use crate::machine::{Machine, relay};
use crate::plan::{Event, Plan, ROUGH_MS, Trouble};

const RELAY: IpAddr = IpAddr::V4(Ipv4Addr::new(192, 168, 0, 1));
const HOPS: [IpAddr; 2] = [
    IpAddr::V4(Ipv4Addr::new(192, 168, 0, 2)),
    IpAddr::V4(Ipv4Addr::new(192, 168, 0, 3)),
];
const CLIENTS: IpAddr = IpAddr::V4(Ipv4Addr::new(192, 168, 0, 4));

/// The grain of simulated time.
const TICK: Duration = Duration::from_millis(10);

/// By when everything must have been delivered or bounced, counted from the mending: the longest waits of the relay, for the answer to the
/// content, are ten minutes; after that an upstream is tried again within one.
const DRAINED_WITHIN: Duration = Duration::from_secs(15 * 60);

/// Whether flushes of the disk do something.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Flushes {
    Real,
    /// They say so.
    None,
}

/// What a run came to.
#[derive(Debug)]
pub(crate) struct Run {
    pub(crate) seed: u64,
    pub(crate) accepted: usize,
    pub(crate) bounced: usize,
    pub(crate) duplicates: usize,
    pub(crate) power_cuts: usize,
    errors: Vec<String>,
    story: String,
}

impl Run {
    /// Whether all that must hold does.
    pub(crate) fn verdict(&self) -> Result<(), String> {
        match self.errors.as_slice() {
            [] => Ok(()),
            errors => Err(format!("seed {}: {}", self.seed, errors.join("; "))),
        }
    }

    /// All that happened, in order.
    pub(crate) fn story(&self) -> &str {
        &self.story
    }
}

/// Runs a seed.
pub(crate) fn run(seed: u64, flushes: Flushes) -> Run {
    let mut world = World::new(seed, flushes);
    let result = world.play();
    let World {
        sim,
        machine,
        ledger,
        power_cuts,
        ..
    } = world;
    // With it the last process.
    drop(sim);
    machine.ended();
    let queued = queued(&machine);
    let mut errors = Vec::new();
    errors.extend(result.err());
    errors.extend(queued.as_ref().err().cloned());
    if machine.corrupt() > 0 {
        errors.push(format!(
            "{} pieces of the spool were damaged",
            machine.corrupt()
        ));
    }
    let balance = check(&ledger, &queued.unwrap_or_default());
    let Balance {
        errors: more,
        accepted,
        bounced,
        duplicates,
    } = balance;
    errors.extend(more);
    Run {
        seed,
        accepted,
        bounced,
        duplicates,
        power_cuts,
        errors,
        story: ledger.story(),
    }
}

/// What a start would find: recipients without a final outcome.
fn queued(machine: &Machine) -> Result<BTreeSet<String>, String> {
    let (spool, recovery, _writer) = machine.open().map_err(|error| error.to_string())?;
    let mut open = BTreeSet::new();
    for queued in recovery.queued.iter() {
        let message = spool.read_envelope(queued.id);
        let message = message.map_err(|error| format!("{} is queued: {error}", queued.id))?;
        let recipients = (0u32..).zip(message.envelope.recipients);
        let unsettled = recipients.filter(|(index, _)| !queued.settled.contains(index));
        open.extend(unsettled.map(|(_, recipient)| recipient.address));
    }
    Ok(open)
}

/// Whether a process runs.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Process {
    Running,
    /// Until then.
    Down(Duration),
}

struct World {
    sim: Sim<'static>,
    dice: Dice,
    machine: Rc<Machine>,
    ledger: Ledger,
    /// To come, the next one last.
    events: Vec<Event>,
    /// That last still, and until when.
    active: Vec<(Duration, Trouble)>,
    process: Process,
    rudeness: Rc<Cell<u64>>,
    busy: Rc<Cell<u64>>,
    power_cuts: usize,
}

impl World {
    fn new(seed: u64, flushes: Flushes) -> Self {
        simulation::seed(seed);
        let dice = Dice::new(seed);
        let plan = Plan::new(&dice);
        let ledger = Ledger::default();
        let disk = match dice.permille(500) {
            true => SimDisk::preallocating(),
            false => SimDisk::default(),
        };
        if flushes == Flushes::None {
            disk.lie();
        }
        let disk = Disk::new(disk);
        let machine = Rc::new(Machine::new(disk, &plan, ledger.clone(), dice.split()));
        let sim = Builder::new()
            .rng_seed(dice.next())
            .epoch(UNIX_EPOCH + Duration::from_secs(1_800_000_000))
            .tick_duration(TICK)
            .min_message_latency(Duration::ZERO)
            .max_message_latency(plan.latency_max)
            .tcp_capacity(1 << 16)
            .simulation_duration(Duration::MAX)
            .build();
        let mut events = plan.events.clone();
        events.reverse();
        let mut world = Self {
            sim,
            dice,
            machine,
            ledger,
            events,
            active: Vec::new(),
            process: Process::Running,
            rudeness: Rc::new(Cell::new(plan.rudeness)),
            busy: Rc::new(Cell::new(plan.clients)),
            power_cuts: 0,
        };
        world.populate(&plan);
        world
    }

    fn populate(&mut self, plan: &Plan) {
        let machine = Rc::clone(&self.machine);
        self.sim.host(RELAY, move || relay(Rc::clone(&machine)));
        for (address, name) in HOPS.into_iter().zip(["first", "second"]) {
            let hop = Hop {
                name,
                ledger: self.ledger.clone(),
                dice: self.dice.split(),
                rudeness: Rc::clone(&self.rudeness),
            };
            self.sim.host(address, move || hop.clone().run());
        }
        let clients = Clients {
            relay: SocketAddr::new(RELAY, 25),
            ledger: self.ledger.clone(),
            dice: self.dice.split(),
            sent: Rc::default(),
            busy: Rc::clone(&self.busy),
            window: Duration::from_millis(ROUGH_MS),
        };
        let (count, messages) = (plan.clients, plan.messages_per_client);
        self.sim.host(CLIENTS, move || {
            let clients = clients.clone();
            async move {
                for _ in 0..count {
                    tokio::task::spawn_local(clients.clone().run(messages));
                }
                std::future::pending().await
            }
        });
    }

    /// Everything that the plan has in store, and then until the queue is empty.
    fn play(&mut self) -> Result<(), String> {
        let rough = Duration::from_millis(ROUGH_MS);
        while self.sim.elapsed() < rough {
            self.begin_troubles();
            self.step()?;
            self.end_troubles(self.sim.elapsed());
        }
        self.mend();
        let end = self.sim.elapsed() + DRAINED_WITHIN;
        while self.busy.get() > 0 || self.machine.queued() != Some(0) {
            self.step()?;
            if self.sim.elapsed() > end {
                let left = self.machine.queued();
                return Err(format!("the queue did not drain: {left:?} messages"));
            }
        }
        Ok(())
    }

    fn step(&mut self) -> Result<(), String> {
        if let Process::Down(until) = self.process
            && until <= self.sim.elapsed()
        {
            self.process = Process::Running;
            self.sim.bounce(RELAY);
        }
        self.sim.step().map_err(|error| error.to_string())?;
        if self.process != Process::Running {
            return Ok(());
        }
        if !self.machine.disk.has_power() {
            self.power_cuts += 1;
            self.end_process("the power goes");
            self.machine.disk.restore_power(&self.dice);
        } else if !self.sim.is_host_running(RELAY) {
            self.machine.ended();
            self.sim.bounce(RELAY);
        }
        Ok(())
    }

    fn end_process(&mut self, why: &str) {
        let now = self.sim.elapsed();
        self.ledger.tell(now, why);
        self.ledger.trouble(now, now);
        self.sim.crash(RELAY);
        self.machine.ended();
        let pause = Duration::from_millis(self.dice.between(10, 3000));
        self.process = Process::Down(now + pause);
    }

    fn begin_troubles(&mut self) {
        let now = self.sim.elapsed();
        while let Some(event) = self.events.pop_if(|event| event.at <= now) {
            self.ledger
                .tell(now, &format!("{:?} for {:?}", event.trouble, event.lasts));
            self.begin(event.trouble);
            self.active.push((now + event.lasts, event.trouble));
            let outlasts_process = !matches!(
                event.trouble,
                Trouble::PowerCut { .. } | Trouble::Kill | Trouble::Restart
            );
            if outlasts_process {
                self.ledger.trouble(now, now + event.lasts);
            }
        }
    }

    fn begin(&mut self, trouble: Trouble) {
        let disk = &self.machine.disk;
        match trouble {
            Trouble::PowerCut { operations } => disk.cut_power_in(operations),
            Trouble::Kill if self.process == Process::Running => self.end_process("kill -9"),
            Trouble::Kill => {}
            Trouble::Restart => self.machine.terminate(),
            Trouble::Disk { fault, times } => disk.fail(fault, times),
            Trouble::DiskFull => disk.fill(),
            Trouble::Partition(hop) => self.sim.partition(RELAY, HOPS[hop]),
            Trouble::Hold(hop) => self.sim.hold(RELAY, HOPS[hop]),
            Trouble::HopGone(hop) => self.sim.crash(HOPS[hop]),
        }
    }

    fn end_troubles(&mut self, now: Duration) {
        let (over, active): (Vec<_>, Vec<_>) =
            self.active.drain(..).partition(|(until, _)| *until <= now);
        self.active = active;
        for (_, trouble) in over {
            self.end(trouble);
        }
    }

    fn end(&mut self, trouble: Trouble) {
        let disk = &self.machine.disk;
        match trouble {
            Trouble::PowerCut { .. } | Trouble::Kill | Trouble::Restart => {}
            Trouble::Disk { .. } => disk.mend(),
            Trouble::DiskFull => disk.empty(),
            Trouble::Partition(hop) => self.sim.repair(RELAY, HOPS[hop]),
            Trouble::Hold(hop) => self.sim.release(RELAY, HOPS[hop]),
            Trouble::HopGone(hop) => self.sim.bounce(HOPS[hop]),
        }
    }

    /// Nothing is wrong any more. The next hops are new ones, so that nobody waits for what a partition has swallowed.
    fn mend(&mut self) {
        let now = self.sim.elapsed();
        self.ledger.tell(now, "all is mended");
        self.events.clear();
        self.end_troubles(Duration::MAX);
        self.machine.disk.keep_power();
        self.rudeness.set(0);
        self.ledger.trouble(now, now);
        for hop in HOPS {
            self.sim.crash(hop);
            self.sim.bounce(hop);
        }
    }
}
