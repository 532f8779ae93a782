//! The next hop is down while messages are accepted, and comes back: how fast the queue fills, and how soon and fast it drains.

use std::time::Instant;

use anyhow::Context as _;

use crate::figures::{Outcome, as_f64};
use crate::rig::{Place, Rig};
use crate::server::Server;
use crate::workload::Workload;

pub(super) fn measure(
    server: Server,
    workload: Workload,
    place: &Place,
) -> anyhow::Result<Outcome> {
    let messages = workload.messages;
    let mut rig = Rig::without_sink(server, workload, place, messages)?;
    let mut outcome = Outcome::default();

    let meter = rig.meter()?;
    let begin = Instant::now();
    let report = rig.send(0..messages)?;
    let accepted = rig.ledger().last_promise().duration_since(begin);
    outcome.figures.charge(messages, meter.stop()?);
    outcome.figures.accepted_per_s = Some(as_f64(messages) / accepted.as_secs_f64());
    outcome.figures.p50_ms = Some(report.percentile_ms(50));
    outcome.figures.p99_ms = Some(report.percentile_ms(99));

    rig.start_sink()?;
    let back = Instant::now();
    if server.must_be_told {
        rig.running().tell()?;
    }
    let meter = rig.meter()?;
    rig.all_arrived(messages)?;
    let cost = meter.stop()?;
    let first = rig.ledger().first_arrival().context("nothing arrived")?;
    let drained = rig.ledger().last_arrival().duration_since(first);
    outcome.add(
        "s from the return of the next hop to the first message",
        first.saturating_duration_since(back).as_secs_f64(),
    );
    outcome.add(
        "had to be told (1 = yes)",
        f64::from(u8::from(server.must_be_told)),
    );
    outcome.add(
        "drained/s from then on",
        as_f64(messages) / drained.as_secs_f64(),
    );
    outcome.add(
        "CPU s/1000 while draining",
        cost.cpu.as_secs_f64() * 1000.0 / as_f64(messages),
    );
    outcome.add("peak PSS while draining, MiB", cost.peak_mib);
    rig.close()?;
    Ok(outcome)
}
