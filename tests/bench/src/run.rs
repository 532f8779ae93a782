//! One run: a fresh server, the load, and what it cost.

mod down;
mod idle;
mod waiting;

use std::time::Instant;

use crate::figures::{Outcome, as_f64};
use crate::rig::{Place, Rig};
use crate::server::Server;
use crate::workload::{Kind, Workload};

/// Messages sent before anything is measured: a part of what is measured, up to this many.
const WARM_UP_MAX: usize = 200;
const WARM_UP_PART: usize = 5;

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
        Kind::Idle(before) => idle::measure(server, workload, before, place),
        Kind::Down => down::measure(server, workload, place),
        Kind::Waiting => waiting::measure(server, workload, place),
    }
}

/// Messages through the server to the sink.
fn relay(server: Server, workload: Workload, place: &Place) -> anyhow::Result<Outcome> {
    let messages = workload.messages_for(server.percent);
    let warm_up = (messages / WARM_UP_PART).min(WARM_UP_MAX);
    let all = warm_up + messages;
    let rig = Rig::start(server, workload, place, all)?;
    rig.send(0..warm_up)?;
    rig.all_arrived(warm_up)?;

    let meter = rig.meter()?;
    let begin = Instant::now();
    let report = rig.send(warm_up..all)?;
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
