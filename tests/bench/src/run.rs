//! One run: a fresh server, the load, and what it cost.

mod down;
mod idle;
mod waiting;

use std::time::Instant;

use crate::figures::{Outcome, as_f64};
use crate::rig::{Place, Rig};
use crate::server::Server;
use crate::workload::{Kind, Workload};

/// Messages sent before anything is measured.
const WARM_UP: usize = 200;

/// Measures one server once.
///
/// # Errors
/// If the server does not start, refuses a message, or loses one.
pub(crate) fn measure(
    server: Server,
    workload: Workload,
    place: &Place,
) -> anyhow::Result<Outcome> {
    match workload.kind {
        Kind::Relay(_) => relay(server, workload, place),
        Kind::Idle => idle::measure(server, workload, place),
        Kind::Down => down::measure(server, workload, place),
        Kind::Waiting => waiting::measure(server, workload, place),
    }
}

/// Messages through the server to the sink.
fn relay(server: Server, workload: Workload, place: &Place) -> anyhow::Result<Outcome> {
    let messages = workload.messages_for(server.percent);
    let all = WARM_UP + messages;
    let rig = Rig::start(server, workload, place, all)?;
    rig.send(0..WARM_UP)?;
    rig.all_arrived(WARM_UP)?;

    let meter = rig.meter()?;
    let begin = Instant::now();
    let report = rig.send(WARM_UP..all)?;
    rig.all_arrived(all)?;
    let cost = meter.stop()?;
    let rate_until =
        |end: Instant| Some(as_f64(messages) / end.duration_since(begin).as_secs_f64());

    let mut outcome = Outcome::default();
    let figures = &mut outcome.figures;
    figures.charge(messages, cost);
    figures.accepted_per_s = rate_until(rig.ledger().last_promise());
    figures.delivered_per_s = rate_until(rig.ledger().last_arrival());
    figures.p50_ms = Some(report.percentile_ms(50));
    figures.p99_ms = Some(report.percentile_ms(99));
    rig.close()?;
    Ok(outcome)
}
