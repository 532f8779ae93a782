//! A great many messages wait: memory, the time of a start after a crash, and whether a message costs the same whether a thousand
//! wait or a million.

use std::ops::Range;
use std::time::Instant;

use crate::client::Connection;
use crate::figures::{Outcome, as_f64};
use crate::rig::{Place, Rig, local};
use crate::server::Server;
use crate::workload::Workload;

/// Messages that wait before the first measurement.
const FEW: usize = 1_000;

/// The cost of a message is measured over a stretch of so many parts of the whole.
const PARTS: usize = 25;

pub(super) fn measure(
    server: Server,
    workload: Workload,
    place: &Place,
) -> anyhow::Result<Outcome> {
    let messages = workload.messages;
    let stretch = messages / PARTS;
    let mut rig = Rig::without_sink(server, workload, place, messages)?;
    let mut outcome = Outcome::default();

    rig.send(0..FEW)?;
    let (rate, cpu) = accept(&rig, FEW..FEW + stretch)?;
    outcome.add("accepted/s with 1,000 waiting", rate);
    outcome.add("CPU s/1000 accepted with 1,000 waiting", cpu);
    rig.send(FEW + stretch..messages - stretch)?;
    let (rate, cpu) = accept(&rig, messages - stretch..messages)?;
    outcome.add("accepted/s with all waiting", rate);
    outcome.add("CPU s/1000 accepted with all waiting", cpu);
    outcome.figures.messages = messages;
    outcome.figures.peak_pss_mib = Some(rig.group().pss_mib());

    let begin = Instant::now();
    rig.running().crash_and_restart()?;
    let target = rig.target()?;
    drop(local(Connection::open(&target))??);
    outcome.add("s from kill -9 to EHLO", begin.elapsed().as_secs_f64());
    outcome.add("PSS after that, MiB", rig.group().pss_mib());

    rig.start_sink()?;
    let meter = rig.meter()?;
    let (rate, cpu) = drain(&rig, stretch..2 * stretch)?;
    outcome.add("delivered/s with all waiting", rate);
    outcome.add("CPU s/1000 delivered with all waiting", cpu);
    let (rate, cpu) = drain(&rig, messages - stretch..messages)?;
    outcome.add("delivered/s of the last", rate);
    outcome.add("CPU s/1000 delivered of the last", cpu);
    outcome.add("peak PSS while draining, MiB", meter.stop()?.peak_mib);
    rig.close()?;
    Ok(outcome)
}

/// Messages per second, and CPU seconds per 1,000, to accept these.
fn accept(rig: &Rig<'_>, ids: Range<usize>) -> anyhow::Result<(f64, f64)> {
    let count = ids.len();
    stretch(rig, count, || rig.send(ids).map(drop))
}

/// The same for the messages that arrive from the one count to the other.
fn drain(rig: &Rig<'_>, counts: Range<usize>) -> anyhow::Result<(f64, f64)> {
    rig.all_arrived(counts.start)?;
    stretch(rig, counts.len(), || rig.all_arrived(counts.end))
}

fn stretch(
    rig: &Rig<'_>,
    count: usize,
    work: impl FnOnce() -> anyhow::Result<()>,
) -> anyhow::Result<(f64, f64)> {
    let (begin, cpu) = (Instant::now(), rig.group().cpu()?);
    work()?;
    let (taken, cpu) = (begin.elapsed(), rig.group().cpu()? - cpu);
    let count = as_f64(count);
    Ok((
        count / taken.as_secs_f64(),
        cpu.as_secs_f64() * 1000.0 / count,
    ))
}
