//! Connections that do nothing: what each costs.

use std::time::{Duration, Instant};

use crate::client::Connection;
use crate::figures::{Outcome, as_f64};
use crate::rig::{Place, Rig, local};
use crate::server::Server;
use crate::workload::Workload;

/// A server may put its affairs in order before its memory is looked at.
const REST: Duration = Duration::from_millis(500);

/// Opens as many connections as the workload says, and half as many again, which tells what further ones cost. At the end each
/// must still be there.
pub(super) fn measure(
    server: Server,
    workload: Workload,
    place: &Place,
) -> anyhow::Result<Outcome> {
    let rig = Rig::start(server, workload, place, 0)?;
    let group = rig.group();
    let (few, many) = (workload.sessions, workload.sessions * 3 / 2);
    let before_mib = group.pss_mib();
    let cpu = group.cpu()?;
    let begin = Instant::now();
    let target = rig.target()?;
    let (opened, cpu, few_mib, many_mib) = local(async {
        let mut connections = Vec::with_capacity(many);
        while connections.len() < few {
            connections.push(Connection::open(&target).await?);
        }
        let (opened, cpu) = (begin.elapsed(), group.cpu()? - cpu);
        tokio::time::sleep(REST).await;
        let few_mib = group.pss_mib();
        while connections.len() < many {
            connections.push(Connection::open(&target).await?);
        }
        tokio::time::sleep(REST).await;
        let many_mib = group.pss_mib();
        for connection in &mut connections {
            connection.command(b"NOOP\r\n", 250).await?;
        }
        anyhow::Ok((opened, cpu, few_mib, many_mib))
    })??;
    rig.close()?;

    let bytes_each = |mib: f64, count: usize| mib * 1024.0 * 1024.0 / as_f64(count);
    let mut outcome = Outcome::default();
    outcome.figures.peak_pss_mib = Some(few_mib);
    outcome.add("PSS with no connection, MiB", before_mib);
    outcome.add("PSS with 10,000, MiB", few_mib);
    outcome.add(
        "bytes for each of them",
        bytes_each(few_mib - before_mib, few),
    );
    outcome.add(
        "bytes for each of 5,000 more",
        bytes_each(many_mib - few_mib, many - few),
    );
    outcome.add("s to open 10,000", opened.as_secs_f64());
    outcome.add("CPU s to open 10,000", cpu.as_secs_f64());
    Ok(outcome)
}
