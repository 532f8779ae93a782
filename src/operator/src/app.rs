//! Starts everything, and ends it in order.
//!
//! One task per watch, one per controller and scope, one for the health endpoints. The first signal
//! stops the controllers, which finish the visits under way; then everything else ends.

mod follow;

use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use futures::StreamExt as _;
use kube::api::ListParams;
use kube::runtime::Controller;
use kube::runtime::controller::Config;
use kube::{Api, Client};
use postroad_api::{SmtpCredential, SmtpRelay};
use postroad_telemetry::http;
use tokio::net::TcpListener;
use tokio::signal::unix::{SignalKind, signal};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use crate::admin::Admin;
use crate::args::Settings;
use crate::context::{AppliedObjects, Context, InForce};
use crate::controller::Resting;
use crate::events::Announcer;
use crate::health::{Metrics, OperatorProbes};
use crate::retry::Failures;
use crate::watch::{Receivers, Scope, Triggers, WatchHealth, stream};
use crate::{controller, credential};

/// Visits at once, per controller. Each waits for the API server most of the time.
const CONCURRENCY: u16 = 8;
/// Folds the burst of events that one change makes.
const DEBOUNCE: Duration = Duration::from_millis(200);
/// HTTP status of a kind that is not served; its answer has no reason to tell it by.
const NOT_FOUND: u16 = 404;
/// Between two looks for what is not there yet.
const PATIENCE: Duration = Duration::from_secs(5);

/// Runs the operator until it is told to stop.
pub(crate) fn run(settings: Settings) -> anyhow::Result<()> {
    tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .context("cannot start the runtime")?
        .block_on(start(settings))
}

async fn start(settings: Settings) -> anyhow::Result<()> {
    let stop = CancellationToken::new();
    let client = Client::try_default()
        .await
        .context("cannot find the API server")?;
    let (metrics, registry) = Metrics::new();
    let health = Arc::new(WatchHealth::default());
    let probes = Arc::new(OperatorProbes::new(registry, Arc::clone(&health)));
    let listener = TcpListener::bind(settings.health_listen)
        .await
        .with_context(|| format!("cannot listen on {}", settings.health_listen))?;
    let mut services = JoinSet::new();
    services.spawn(http::serve(listener, probes.clone(), stop.clone()));
    services.spawn(stop_on_signal(stop.clone())?);

    let result = tokio::select! {
        result = serve(client, settings, metrics, health, &probes, &stop) => result,
        // Before the controllers run there is nothing to finish.
        () = cancelled_before(&probes, &stop) => Ok(()),
    };
    stop.cancel();
    while services.join_next().await.is_some() {}
    tracing::info!("stopped");
    result
}

fn stop_on_signal(
    stop: CancellationToken,
) -> anyhow::Result<impl Future<Output = ()> + Send + 'static> {
    let mut terminate = signal(SignalKind::terminate()).context("cannot wait for SIGTERM")?;
    let mut interrupt = signal(SignalKind::interrupt()).context("cannot wait for SIGINT")?;
    Ok(async move {
        tokio::select! {
            _ = terminate.recv() => tracing::info!("stopping"),
            _ = interrupt.recv() => tracing::info!("stopping"),
            () = stop.cancelled() => {}
        }
        stop.cancel();
    })
}

/// Returns if everything is to stop before anything has begun.
async fn cancelled_before(probes: &OperatorProbes, stop: &CancellationToken) {
    stop.cancelled().await;
    if probes.is_ready() {
        std::future::pending().await
    }
}

async fn serve(
    client: Client,
    settings: Settings,
    metrics: Metrics,
    health: Arc<WatchHealth>,
    probes: &OperatorProbes,
    stop: &CancellationToken,
) -> anyhow::Result<()> {
    let scopes = Scope::parse(&settings.namespaces);
    wait_for_definitions(&client, &scopes).await;
    let (triggers, receivers) = Triggers::new(&scopes);
    let (caches, mut watches) = follow::follow(&client, &scopes, &triggers, &health, &metrics);
    caches.wait_until_ready().await;
    let context = Arc::new(Context {
        announcer: Announcer::new(client.clone()),
        client,
        settings,
        caches,
        metrics,
        admin: Admin::default(),
        failures: Failures::default(),
        applied: AppliedObjects::default(),
        in_force: InForce::default(),
        resting: Resting::default(),
        proofs: Arc::default(),
    });
    let mut controllers = JoinSet::new();
    for (scope, receivers) in receivers {
        run_controllers(&mut controllers, &context, &scope, receivers, stop);
    }
    probes.set_ready();
    tracing::info!("all caches are filled: keeping relays and credentials");
    tokio::select! {
        () = async { while controllers.join_next().await.is_some() {} } => Ok(()),
        // They go on for ever; without one of them this process is blind.
        _ = watches.join_next() => anyhow::bail!("a watch has ended"),
        () = controller::watch_resting(&context, &triggers) => Ok(()),
    }
}

/// Waits until both kinds can be listed: the chart may start the operator before the definitions are served.
async fn wait_for_definitions(client: &Client, scopes: &[Scope]) {
    let one = ListParams::default().limit(1);
    loop {
        let relays: Api<SmtpRelay> = follow::api(client, &scopes[0]);
        let credentials: Api<SmtpCredential> = follow::api(client, &scopes[0]);
        let problem = match relays.list_metadata(&one).await {
            Ok(_) => credentials.list_metadata(&one).await.err(),
            Err(error) => Some(error),
        };
        match problem {
            None => return,
            Some(kube::Error::Api(status)) if status.code == NOT_FOUND => tracing::warn!(
                "the custom resource definitions are not installed: waiting; `postroad-operator crds` prints them"
            ),
            Some(error) => tracing::warn!(
                error = &error as &dyn std::error::Error,
                "cannot list SmtpRelays and SmtpCredentials: waiting"
            ),
        }
        tokio::time::sleep(PATIENCE).await;
    }
}

fn run_controllers(
    tasks: &mut JoinSet<()>,
    context: &Arc<Context>,
    scope: &Scope,
    receivers: Receivers,
    stop: &CancellationToken,
) {
    let config = || {
        Config::default()
            .concurrency(CONCURRENCY)
            .debounce(DEBOUNCE)
    };
    let Receivers {
        relays,
        credentials,
    } = receivers;
    if let Some(store) = context.caches.relays.store_of(scope) {
        let controller = Controller::for_stream(futures::stream::pending(), store)
            .with_config(config())
            .reconcile_on(stream(relays))
            .graceful_shutdown_on(stop.clone().cancelled_owned())
            .run(
                controller::reconcile,
                controller::on_error,
                Arc::clone(context),
            );
        tasks.spawn(controller.for_each(|_| std::future::ready(())));
    }
    if let Some(store) = context.caches.credentials.store_of(scope) {
        let controller = Controller::for_stream(futures::stream::pending(), store)
            .with_config(config())
            .reconcile_on(stream(credentials))
            .graceful_shutdown_on(stop.clone().cancelled_owned())
            .run(
                credential::reconcile,
                credential::on_error,
                Arc::clone(context),
            );
        tasks.spawn(controller.for_each(|_| std::future::ready(())));
    }
}
