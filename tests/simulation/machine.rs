//! The relay's machine: what outlives a process, and the process.

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant};

use postroad_config::{
    Credential, Credentials, Delivery as DeliveryConfig, Direct, DirectLimits, DirectTls, Match,
    Pattern, RelayConfig, Route, SALT_BYTES, SpoolMode, Target, UpstreamTls, Verifier,
};
use postroad_relay::context::{Context, Ending, Phase};
use postroad_relay::delivery::{Delivery, SharedUpstreams};
use postroad_relay::listener::Listeners;
use postroad_relay::live::{Files, Live, resolve};
use postroad_relay::metrics::Metrics;
use postroad_relay::queue::Queue;
use postroad_relay::route::Table;
use postroad_relay::tls;
use postroad_spool::{Config, Mode, Recovery, Spool, Writer};
use tokio::sync::{Semaphore, watch};
use tokio::time::{sleep, timeout};
use tokio_rustls::TlsConnector;
use tokio_util::sync::CancellationToken;

use crate::dice::Dice;
use crate::disk::Disk;
use crate::intervention::Intervention;
use crate::ledger::Ledger;
use crate::plan::{LOGINS, Plan, Routing, Storage, TURNED_DOMAIN, TURNED_LOGIN};

/// Domains of the recipients where there are smarthosts: the first goes to the first hop, the second to the second, the third to whichever works, but
/// for one login's.
pub(crate) const DOMAINS: [&str; 3] = ["a.example", "b.example", TURNED_DOMAIN];

/// What the relay calls itself.
pub(crate) const HOSTNAME: &str = "relay.example";

/// Where it serves who is in a trusted network. Not where exchangers are: the relay would take itself for one.
pub(crate) const PORT: u16 = 2525;

/// Where it serves who has a login.
pub(crate) const TLS_PORT: u16 = 465;

/// Of each login.
pub(crate) const PASSWORD: &str = "correct horse";

/// How often a machine starts a process that could not begin, as a kubelet would but sooner.
const START_PAUSE: Duration = Duration::from_millis(500);

/// Turns of the writer between two looks at the clock. A disk that fails gives it work without end.
const TURNS_MAX: usize = 8;

/// How routes and overrides are called that somebody has put there.
const BY_HAND: &str = "by-hand-";

/// For an orderly end of the sessions, and then of the deliveries.
const GRACE: Duration = Duration::from_secs(5);

/// What outlives a process.
#[derive(Debug)]
pub(crate) struct Machine {
    pub(crate) disk: Disk,
    ledger: Ledger,
    dice: Dice,
    files: Files,
    live: watch::Sender<Arc<Live>>,
    interventions: RefCell<Vec<Intervention>>,
    segment_bytes: u64,
    storage: Storage,
    linger: Duration,
    hears_hurry: Cell<bool>,
    /// When the last process ended, unless one has begun since.
    down_since: Cell<Option<Duration>>,
    /// Of the process that runs.
    queue: RefCell<Option<QueueHandle>>,
    terminate: RefCell<CancellationToken>,
    corrupt: Cell<u64>,
}

struct QueueHandle(Queue);

impl std::fmt::Debug for QueueHandle {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str("Queue")
    }
}

impl Machine {
    pub(crate) fn new(disk: Disk, plan: &Plan, ledger: Ledger, dice: Dice) -> Self {
        let (files, live) = live(plan);
        Self {
            disk,
            ledger,
            dice,
            files,
            live: watch::Sender::new(Arc::new(live)),
            interventions: RefCell::default(),
            segment_bytes: plan.segment_bytes,
            storage: plan.storage,
            linger: plan.linger,
            hears_hurry: Cell::new(true),
            down_since: Cell::default(),
            queue: RefCell::default(),
            terminate: RefCell::default(),
            corrupt: Cell::new(0),
        }
    }

    /// Whether the spool's writer hears that somebody is held up by what waits for mail.
    pub(crate) fn hears_hurry(&self, hears: bool) {
        self.hears_hurry.set(hears);
    }

    /// Somebody wants something else to be done.
    pub(crate) fn intervene(&self, what: Intervention) {
        self.interventions.borrow_mut().push(what);
        self.configure();
    }

    /// And no longer.
    pub(crate) fn relent(&self, what: Intervention) {
        let mut standing = self.interventions.borrow_mut();
        let found = standing.iter().position(|one| *one == what);
        standing.remove(found.unwrap());
        drop(standing);
        self.configure();
    }

    /// Makes the configuration say what stands, for the process that runs and those to come.
    fn configure(&self) {
        let standing = self.interventions.borrow();
        let before = self.live();
        let mut config = before.config.clone();
        let named = || (0..).map(|number| format!("{BY_HAND}{number}"));
        let overrides = standing.iter().zip(named());
        config.delivery.overrides = overrides
            .filter_map(|(one, name)| one.to_override(name))
            .collect();
        config.delivery.routes.retain(|route| !is_by_hand(route));
        let routes = standing.iter().zip(named());
        let routes = routes.filter_map(|(one, name)| one.to_route(name));
        config.delivery.routes.splice(0..0, routes);
        let now = resolve(&self.files, config, Some(&before));
        self.live.send_replace(Arc::new(now));
    }

    fn live(&self) -> Arc<Live> {
        Arc::clone(&self.live.borrow())
    }

    /// SIGTERM.
    pub(crate) fn terminate(&self) {
        self.terminate.borrow().cancel();
    }

    /// Messages in the queue; `None` while no process has begun.
    pub(crate) fn queued(&self) -> Option<u64> {
        let queue = self.queue.borrow();
        queue.as_ref().map(|queue| queue.0.totals().0.messages)
    }

    /// The process is gone.
    pub(crate) fn ended(&self, at: Duration) {
        self.queue.take();
        self.down_since.set(self.down_since.get().or(Some(at)));
    }

    /// When the last process ended, unless one has begun since.
    pub(crate) fn down_since(&self) -> Option<Duration> {
        self.down_since.get()
    }

    /// A process has begun, and with it what is on the disk is flushed.
    fn begun(&self) {
        let now = turmoil::sim_elapsed().unwrap_or_default();
        if let Some(since) = self.down_since.take() {
            self.ledger.unflushed(since, now);
        }
    }

    /// Damaged pieces that a start has found.
    pub(crate) fn corrupt(&self) -> u64 {
        self.corrupt.get()
    }

    /// Opens the spool.
    pub(crate) fn open(&self) -> Result<(Spool, Recovery, Writer), postroad_spool::Error> {
        let config = Config {
            directory: "/spool".into(),
            segment_bytes: self.segment_bytes,
            bytes_max: None,
            mode: match self.storage {
                Storage::Durable | Storage::Passthrough => Mode::Durable,
                Storage::Relaxed { sync } => Mode::Relaxed {
                    sync_interval: sync,
                },
            },
        };
        let mut opened = Spool::open_on(Arc::new(self.disk.clone()), config)?;
        opened.2.simulate(now, self.linger);
        self.corrupt.set(self.corrupt.get().max(opened.1.corrupt));
        Ok(opened)
    }

    fn tell(&self, what: &str) {
        self.ledger
            .tell(turmoil::sim_elapsed().unwrap_or_default(), what);
    }
}

/// The process: as `postroad_relay::app` puts it together, without signals, files and HTTP, and with the spool's writer as a task.
pub(crate) async fn relay(machine: Rc<Machine>) -> turmoil::Result {
    let terminate = CancellationToken::new();
    machine.terminate.replace(terminate.clone());
    let (spool, recovery, writer) = loop {
        match machine.open() {
            Ok(opened) => break opened,
            Err(error) => machine.tell(&format!("the relay cannot begin: {error}")),
        }
        sleep(START_PAUSE).await;
    };
    machine.begun();
    machine.tell(&format!(
        "the relay begins with {} messages",
        recovery.queued.len()
    ));
    let begun = machine.live();
    let limits = &begun.config.limits;
    let table = Table::new(&begun.config.delivery);
    let queue = Queue::new(
        spool.clone(),
        postroad_config::memory::usable(limits.memory_bytes),
        recovery.queued,
        limits.index_bytes,
        Arc::new(table),
    );
    machine.queue.replace(Some(QueueHandle(queue.clone())));
    let live = machine.live.subscribe();
    let ending = Ending::default();
    let context = Context {
        live,
        ending: ending.clone(),
        queue,
        metrics: Arc::new(Metrics::default()),
        guesses: Arc::default(),
        conversion: Arc::new(Semaphore::new(1)),
    };
    let abort = CancellationToken::new();
    let mut listeners = Listeners::new(context.clone(), &abort);
    listeners.apply(&context.live().config.listeners)?;
    let delivery = Delivery::new(context, SharedUpstreams::default(), abort.clone());
    let mut delivery = tokio::spawn(delivery.run());
    let close = CancellationToken::new();
    let writer = write(spool, writer, close.clone(), Rc::clone(&machine));
    let writer = tokio::task::spawn_local(writer);

    terminate.cancelled().await;
    ending.advance(Phase::Draining);
    listeners.stop(GRACE).await;
    ending.advance(Phase::Stopping);
    if timeout(GRACE, &mut delivery).await.is_err() {
        abort.cancel();
        delivery.await?;
    }
    close.cancel();
    writer.await?;
    machine.tell("the relay has ended in order");
    Ok(())
}

/// The spool's writer, which has a thread of its own otherwise. Each of its looks takes a while, as a disk does.
async fn write(spool: Spool, mut writer: Writer, close: CancellationToken, machine: Rc<Machine>) {
    let (mut idle, mut since) = (Duration::ZERO, now());
    while !close.is_cancelled() {
        for _ in 0..TURNS_MAX {
            if !machine.hears_hurry.get() {
                writer.ignore_hurry();
            }
            let patience = writer.sleep(idle);
            if patience.is_some_and(|patience| now() - since < patience) {
                break;
            }
            idle = writer.turn(idle);
            since = now();
        }
        sleep(Duration::from_millis(machine.dice.between(1, 40))).await;
    }
    spool.close();
    // Ends at once: nothing more can come.
    writer.run();
}

/// Time as the spool measures it, by the clock of the simulation.
fn now() -> Instant {
    thread_local! {
        static BEGIN: Instant = Instant::now();
    }
    BEGIN.with(|begin| *begin) + turmoil::sim_elapsed().unwrap_or_default()
}

fn live(plan: &Plan) -> (Files, Live) {
    let directory = tempfile::tempdir().unwrap();
    let write = |name: &str, text: &str| {
        let path = directory.path().join(name);
        std::fs::write(&path, text).unwrap();
        path
    };
    let served = rcgen::generate_simple_self_signed(vec![HOSTNAME.to_owned()]).unwrap();
    write("tls.crt", &served.cert.pem());
    write("tls.key", &served.signing_key.serialize_pem());
    write("credentials.yaml", &credentials());
    let directory = directory.path().to_str().unwrap();
    let path = write("relay.yaml", &CONFIG.replace("/nowhere", directory));
    let (files, mut config) = Files::read(&path).unwrap();
    complete(&mut config, plan);
    let live = resolve(&files, config, None);
    (files, live)
}

fn is_by_hand(route: &Route) -> bool {
    route.name.starts_with(BY_HAND)
}

fn credentials() -> String {
    let verifiers = vec![Verifier::derive(PASSWORD, [7; SALT_BYTES])];
    let credential = |login: &str| Credential {
        username: login.to_owned(),
        verifiers: verifiers.clone(),
    };
    let credentials = LOGINS.map(credential).into();
    Credentials { credentials }.render().unwrap()
}

/// TLS of a client that takes the relay's certificate, whoever has signed it.
pub(crate) fn client_tls() -> TlsConnector {
    let config = tls::upstream(UpstreamTls::Opportunistic, None);
    TlsConnector::from(config.unwrap())
}

fn complete(config: &mut RelayConfig, plan: &Plan) {
    config.limits.memory_bytes = plan.memory_bytes;
    config.spool.mode = match plan.storage {
        Storage::Durable => SpoolMode::Durable,
        Storage::Relaxed { sync } => SpoolMode::Relaxed {
            sync_ms: u32::try_from(sync.as_millis()).unwrap(),
        },
        Storage::Passthrough => SpoolMode::Passthrough,
    };
    let DeliveryConfig {
        routes,
        retry,
        default_route,
        direct,
        ..
    } = &mut config.delivery;
    retry.lifetime_seconds = plan.lifetime.as_secs();
    retry.sender_hold_seconds = Some(plan.sender_hold.as_secs());
    if plan.routing == Routing::Direct {
        *default_route = Target::Direct;
        *direct = Direct {
            tls: DirectTls::Disabled,
            allowed_networks: vec!["192.168.0.0/16".parse().unwrap()],
            limits: DirectLimits {
                connections: 3,
                messages_per_connection: 5,
                recipients_per_message: 2,
                rate: None,
            },
            ..Direct::default()
        };
        return;
    }
    for (domain, hop, credentials) in [
        (DOMAINS[0], "first", vec![]),
        (DOMAINS[1], "second", vec![]),
        (TURNED_DOMAIN, "second", vec![TURNED_LOGIN.to_owned()]),
    ] {
        routes.push(Route {
            name: format!("route-{}", routes.len()),
            matches: Match {
                recipients: vec![Pattern::Domain(domain.into())],
                credentials,
                ..Match::default()
            },
            to: Target::Upstreams(vec![hop.to_owned()]),
        });
    }
}

const CONFIG: &str = "
version: 1
hostname: relay.example
listeners:
- {name: smtp, listen: '0.0.0.0:2525', tls: Disabled, auth: Disabled}
- {name: submissions, listen: '0.0.0.0:465', tls: Implicit, auth: Required}
tls: {certificate: /nowhere/tls.crt, key: /nowhere/tls.key}
access: {trustedNetworks: ['192.168.0.0/16'], credentials: /nowhere/credentials.yaml}
limits: {messageBytes: 1000000, recipients: 100, connections: 100, connectionsPerSource: 100, memoryBytes: 16000000}
delivery:
  upstreams:
  - name: first
    host: 192.168.0.2
    port: 25
    tls: Disabled
    ca: null
    auth: null
    limits: {connections: 3, messagesPerConnection: 5, recipientsPerMessage: 2}
  - name: second
    host: 192.168.0.3
    port: 25
    tls: Disabled
    ca: null
    auth: null
    limits: {connections: 2, messagesPerConnection: 100, recipientsPerMessage: 100}
  retry: {initialSeconds: 1, maximumSeconds: 5, lifetimeSeconds: 3600}
spool: {directory: /spool, persistent: true}
admin: {listen: '127.0.0.1:0', certificate: /nowhere/a.crt, key: /nowhere/a.key, clientCa: /nowhere/ca.crt}
health: {listen: '127.0.0.1:0'}
";
