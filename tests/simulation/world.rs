//! A run: the hosts, the troubles that its seed has in store, the mending, the balance.

use std::cell::Cell;
use std::net::{IpAddr, Ipv4Addr};
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, UNIX_EPOCH};

use postroad_relay::dns::Dns;
use postroad_relay::simulation;
use postroad_spool::sim::SimDisk;
use turmoil::{Builder, Sim};

use crate::check::check;
use crate::client::Clients;
use crate::dice::Dice;
use crate::disk::Disk;
use crate::hop::{Hop, Word};
use crate::ledger::Ledger;
use crate::machine::{self, Machine, relay};
use crate::outcome::{Run, queued};
use crate::plan::{Event, Plan, ROUGH_MS, Routing, Storage, Trouble};
use crate::zone::{self, Zone};

const RELAY: IpAddr = IpAddr::V4(Ipv4Addr::new(192, 168, 0, 1));
const HOPS: [IpAddr; 3] = [
    IpAddr::V4(Ipv4Addr::new(192, 168, 0, 2)),
    IpAddr::V4(Ipv4Addr::new(192, 168, 0, 3)),
    IpAddr::V4(Ipv4Addr::new(192, 168, 0, 5)),
];
const HOP_NAMES: [&str; 3] = ["first", "second", "third"];
const CLIENTS: IpAddr = IpAddr::V4(Ipv4Addr::new(192, 168, 0, 4));

/// The grain of simulated time.
const TICK: Duration = Duration::from_millis(10);

/// By when everything must have been delivered or bounced, counted from the mending: the longest waits of the relay, for the answer to the
/// content, are ten minutes; after that an upstream is tried again within one.
const DRAINED_WITHIN: Duration = Duration::from_secs(15 * 60);

/// In so many of 1,000 cases nobody wants to hear of a recipient, unless mail is given up while it waits: of such a recipient there would be no trace.
const NEVER_HEARD_OF: u64 = 100;

/// A disk that fails is tried so often, until what it did not flush is written anew.
const PROBED_WITHIN: Duration = Duration::from_millis(1500);

/// What says that it did something, and did not: so the check is checked.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Lie {
    None,
    /// Flushes of the disk.
    Flushes,
    /// Next hops, about some of the messages.
    NextHops,
    /// Whoever should do what somebody wants to be done with mail that waits.
    Interventions,
    /// The writer, about ends of messages that wait for mail, as long as things go wrong: for ever, whoever is held up by them.
    Ends,
}

/// Runs a seed.
pub(crate) fn run(seed: u64, lie: Lie) -> Run {
    let mut world = World::new(seed, lie);
    let result = world.play();
    let World {
        sim,
        machine,
        ledger,
        plan,
        ..
    } = world;
    let end = sim.elapsed();
    // With it the last process.
    drop(sim);
    machine.ended(end);
    let queued = queued(&machine);
    let mut errors = Vec::new();
    errors.extend(result.err());
    errors.extend(queued.as_ref().err().cloned());
    // What was promised before it was flushed may come back in part.
    let may_tear = matches!(plan.storage, Storage::Relaxed { .. });
    if machine.corrupt() > plan.failed_reads() && !may_tear {
        errors.push(format!(
            "{} pieces of the spool were damaged",
            machine.corrupt()
        ));
    }
    let mut balance = check(&ledger, &queued.unwrap_or_default(), plan.storage);
    balance.errors.extend(errors);
    Run {
        seed,
        storage: plan.storage,
        routing: plan.routing,
        balance,
        story: ledger.story(),
    }
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
    plan: Plan,
    lie: Lie,
    zone: Arc<Zone>,
    machine: Rc<Machine>,
    ledger: Ledger,
    /// To come, the next one last.
    events: Vec<Event>,
    /// That last still, and until when.
    active: Vec<(Duration, Trouble)>,
    process: Process,
    rudeness: Rc<Cell<u64>>,
    /// Which sender each next hop rejects.
    rejects: [Rc<Cell<Option<u64>>>; 3],
    busy: Rc<Cell<usize>>,
}

impl World {
    fn new(seed: u64, lie: Lie) -> Self {
        simulation::seed(seed);
        let dice = Dice::new(seed);
        let mut plan = Plan::new(&dice);
        // What finds them out comes, and comes after something was done.
        match lie {
            Lie::None | Lie::NextHops => {}
            Lie::Interventions => plan.events = Event::all_held(),
            Lie::Flushes => plan.events = Event::again(Trouble::PowerCut { operations: 0 }),
            Lie::Ends => {
                plan.events = Event::again(Trouble::Kill);
                // Once all is mended, only who hurries ends it in time.
                plan.linger = 2 * DRAINED_WITHIN;
            }
        }
        let ledger = Ledger::default();
        let disk = match dice.permille(500) {
            true => SimDisk::preallocating(),
            false => SimDisk::default(),
        };
        if lie == Lie::Flushes {
            disk.lie();
        }
        let disk = Disk::new(disk);
        let machine = Rc::new(Machine::new(disk, &plan, ledger.clone(), dice.split()));
        machine.hears_hurry(lie != Lie::Ends);
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
        let zone = Arc::new(Zone::new(dice.split(), HOPS, plan.rudeness));
        simulation::resolve_by(Arc::clone(&zone) as Arc<dyn Dns>);
        let mut world = Self {
            sim,
            dice,
            zone,
            machine,
            ledger,
            events,
            active: Vec::new(),
            process: Process::Running,
            rudeness: Rc::new(Cell::new(plan.rudeness)),
            rejects: Default::default(),
            busy: Rc::new(Cell::new(plan.logins.len())),
            plan,
            lie,
        };
        world.populate();
        world
    }

    fn populate(&mut self) {
        let machine = Rc::clone(&self.machine);
        self.sim.host(RELAY, move || relay(Rc::clone(&machine)));
        let hops = HOPS.into_iter().zip(HOP_NAMES).enumerate();
        for (number, (address, name)) in hops.take(self.plan.routing.hops()) {
            let hop = Hop {
                number,
                name,
                routing: self.plan.routing,
                rejects: Rc::clone(&self.rejects[number]),
                ledger: self.ledger.clone(),
                dice: self.dice.split(),
                word: match self.lie {
                    Lie::NextHops => Word::Broken,
                    Lie::None | Lie::Flushes | Lie::Ends | Lie::Interventions => Word::Kept,
                },
                rudeness: Rc::clone(&self.rudeness),
            };
            self.sim.host(address, move || hop.clone().run());
        }
        let clients = Clients {
            relay: RELAY,
            tls: machine::client_tls(),
            login: None,
            ledger: self.ledger.clone(),
            dice: self.dice.split(),
            sent: Rc::default(),
            busy: Rc::clone(&self.busy),
            window: Duration::from_millis(ROUGH_MS),
            patience: self.plan.patience,
            never_heard_of: match self.plan.is_short_lived() {
                true => 0,
                false => NEVER_HEARD_OF,
            },
            domains: match self.plan.routing {
                Routing::Smarthosts => &machine::DOMAINS,
                Routing::Direct => &zone::DOMAINS,
            },
        };
        let (logins, messages) = (self.plan.logins.clone(), self.plan.messages_per_client);
        self.sim.host(CLIENTS, move || {
            let (clients, logins) = (clients.clone(), logins.clone());
            async move {
                for login in logins {
                    let dice = clients.dice.split();
                    let client = Clients {
                        dice,
                        login,
                        ..clients.clone()
                    };
                    tokio::task::spawn_local(client.run(messages));
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
            self.replace_relay(|sim| sim.bounce(RELAY));
        }
        self.sim.step().map_err(|error| error.to_string())?;
        if self.process != Process::Running {
            return Ok(());
        }
        if !self.machine.disk.has_power() {
            let now = self.sim.elapsed();
            if let Some(since) = self.machine.down_since() {
                self.ledger.unflushed(since, now);
            }
            self.ledger.power_cut(now);
            self.end_process("the power goes");
            self.machine.disk.restore_power(&self.dice);
        } else if !self.sim.is_host_running(RELAY) {
            self.machine.ended(self.sim.elapsed());
            self.replace_relay(|sim| sim.bounce(RELAY));
        }
        Ok(())
    }

    fn end_process(&mut self, why: &str) {
        let now = self.sim.elapsed();
        self.ledger.tell(now, why);
        self.ledger.trouble(now, now);
        self.replace_relay(|sim| sim.crash(RELAY));
        self.machine.ended(now);
        let pause = Duration::from_millis(self.dice.between(10, 3000));
        self.process = Process::Down(now + pause);
    }

    /// Ends the relay's process, or what is left of it, or begins the next one. Its connections end in an order that no seed determines (that of
    /// the runtime's tasks). So all news of that are equally long on their way.
    fn replace_relay(&mut self, replace: impl FnOnce(&mut Sim<'static>)) {
        let hops = HOPS.into_iter().take(self.plan.routing.hops());
        let peers: Vec<IpAddr> = hops.chain([CLIENTS]).collect();
        for peer in &peers {
            self.sim.set_link_latency(RELAY, *peer, Duration::ZERO);
        }
        replace(&mut self.sim);
        for peer in &peers {
            let latency = self.plan.latency_max;
            self.sim.set_link_max_message_latency(RELAY, *peer, latency);
        }
    }

    fn begin_troubles(&mut self) {
        let now = self.sim.elapsed();
        while let Some(event) = self.events.pop_if(|event| event.at <= now) {
            self.ledger
                .tell(now, &format!("{:?} for {:?}", event.trouble, event.lasts));
            self.begin(event.trouble);
            self.active.push((now + event.lasts, event.trouble));
            if event.trouble.hides() {
                self.ledger.trouble(now, now + event.lasts);
            }
            if matches!(event.trouble, Trouble::Disk { .. } | Trouble::DiskFull) {
                let probed = now + event.lasts + PROBED_WITHIN;
                self.ledger.unflushed(now, probed);
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
            Trouble::Rejection(hop, sender) => self.rejects[hop].set(Some(sender)),
            Trouble::Intervention(what) => {
                self.ledger.begin(what, self.sim.elapsed());
                if self.lie != Lie::Interventions {
                    self.machine.intervene(what);
                }
            }
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
            Trouble::Rejection(hop, _) => self.rejects[hop].set(None),
            Trouble::Intervention(what) => {
                self.ledger.end(what, self.sim.elapsed());
                if self.lie != Lie::Interventions {
                    self.machine.relent(what);
                }
            }
        }
    }

    /// Nothing is wrong any more. The next hops are new ones, so that nobody waits for what a partition has swallowed. Nor does the relay where mail is
    /// short-lived: that is for ten minutes, and a report that expires meanwhile is no loss that could be told from one.
    fn mend(&mut self) {
        let now = self.sim.elapsed();
        self.ledger.tell(now, "all is mended");
        self.events.clear();
        self.end_troubles(Duration::MAX);
        self.machine.disk.keep_power();
        self.rudeness.set(0);
        self.machine.hears_hurry(true);
        self.ledger.trouble(now, now);
        self.zone.mend();
        if self.plan.is_short_lived() && self.process == Process::Running {
            self.end_process("kill -9, so that nothing hangs");
        }
        for hop in HOPS.into_iter().take(self.plan.routing.hops()) {
            self.sim.crash(hop);
            self.sim.bounce(hop);
        }
    }
}
