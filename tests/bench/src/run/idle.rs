//! Connections that do nothing any more: what each costs.

use std::ops::Range;
use std::time::{Duration, Instant};

use crate::client::{Connection, Target};
use crate::figures::{Outcome, as_f64};
use crate::load;
use crate::message::Template;
use crate::rig::{Place, Rig, local};
use crate::server::Server;
use crate::workload::{Before, Workload};

/// A server may put its affairs in order before its memory is looked at.
const REST: Duration = Duration::from_millis(500);

/// Opens as many connections as the workload says, and half as many again, which tells what further ones cost. At the end each
/// must still be there.
pub(super) fn measure(
    server: Server,
    workload: Workload,
    before: Before,
    place: &Place,
) -> anyhow::Result<Outcome> {
    let (few, many) = (workload.sessions, workload.sessions * 3 / 2);
    let rig = Rig::start(server, workload, place, many)?;
    let group = rig.group();
    let before_mib = group.pss_mib();
    let (begin, cpu) = (Instant::now(), group.cpu()?);
    let mut crowd = Crowd::new(&rig, workload, before)?;
    let (opened, cpu, few_mib, many_mib) = local(async {
        crowd.grow(0..few).await?;
        let (opened, cpu) = (begin.elapsed(), group.cpu()? - cpu);
        let few_mib = crowd.pss_mib(few).await?;
        crowd.grow(few..many).await?;
        let many_mib = crowd.pss_mib(many).await?;
        crowd.is_there().await?;
        anyhow::Ok((opened, cpu, few_mib, many_mib))
    })??;
    drop(crowd);
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

/// The connections.
struct Crowd<'a> {
    rig: &'a Rig<'a>,
    target: Target,
    before: Before,
    template: Template,
    connections: Vec<Connection>,
}

impl<'a> Crowd<'a> {
    fn new(rig: &'a Rig<'a>, workload: Workload, before: Before) -> anyhow::Result<Self> {
        Ok(Self {
            rig,
            target: rig.target()?,
            before,
            template: Template::new(workload.size),
            connections: Vec::new(),
        })
    }

    async fn grow(&mut self, ids: Range<usize>) -> anyhow::Result<()> {
        for id in ids {
            let mut connection = Connection::open(&self.target).await?;
            match self.before {
                Before::Hello => {}
                Before::Message => {
                    load::one(&mut connection, &mut self.template, id).await?;
                    self.rig.ledger().acknowledge(id);
                }
            }
            self.connections.push(connection);
        }
        Ok(())
    }

    /// Memory of the server once nothing is under way.
    async fn pss_mib(&self, count: usize) -> anyhow::Result<f64> {
        match self.before {
            Before::Hello => {}
            Before::Message => self.rig.all_arrived(count)?,
        }
        tokio::time::sleep(REST).await;
        Ok(self.rig.group().pss_mib())
    }

    /// Fails unless all of them are still served.
    async fn is_there(&mut self) -> anyhow::Result<()> {
        for connection in &mut self.connections {
            connection.command(b"NOOP\r\n", 250).await?;
        }
        Ok(())
    }
}
