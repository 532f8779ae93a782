//! The load: sessions that send one message after the other and count the promises.
//!
//! One thread. A session speaks as smtp-source does: it waits for each reply, so that every server is measured with the
//! same number of round trips; with [`Load::pipelining`] MAIL, RCPT and DATA go out together (RFC 2920), and with
//! [`Body::Bdat`] the content with them (RFC 3030).

use std::cell::Cell;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use tokio::task::JoinSet;
use tokio::time::Instant;

use crate::client::{Connection, Target};
use crate::faults::Dice;
use crate::ledger::Ledger;
use crate::message::Template;

const MAIL: &[u8] = b"MAIL FROM:<load@example.com>\r\n";
const DATA: &[u8] = b"DATA\r\n";
const QUIT: &[u8] = b"QUIT\r\n";

/// Octets of one chunk.
const CHUNK: usize = 32 << 10;

/// How content is sent.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq, clap::ValueEnum)]
pub(crate) enum Body {
    /// After DATA, with a dot at the end.
    #[default]
    Data,
    /// In chunks, all of them and the envelope in one go.
    Bdat,
}

/// What is sent.
#[derive(Clone)]
pub(crate) struct Load {
    /// Where to.
    pub(crate) target: Target,
    /// Sessions at once.
    pub(crate) sessions: usize,
    /// Octets of each message.
    pub(crate) size: usize,
    /// Ids to send; one message each.
    pub(crate) ids: std::ops::Range<usize>,
    /// Whether a connection is used for more than one message.
    pub(crate) reuse: bool,
    /// Whether MAIL, RCPT and DATA go out together.
    pub(crate) pipelining: bool,
    /// How content is sent.
    pub(crate) body: Body,
    /// Messages begun per second, all sessions together; as many as go if not set.
    pub(crate) rate: Option<u32>,
    /// Of 1000 messages, so many are broken off in the middle of the content, and begun again on another connection.
    pub(crate) aborts: u64,
    /// Recipients are spread over so many domains.
    pub(crate) domains: usize,
}

/// What came of it.
#[derive(Debug, Default)]
pub(crate) struct Report {
    /// End of data to its reply, of every message, in microseconds, ascending.
    pub(crate) latencies_us: Vec<u32>,
    /// Messages that did not get 250, with the first reason.
    pub(crate) refused: u64,
    /// Why the first of them did not.
    pub(crate) first_refusal: Option<String>,
}

impl Report {
    /// The latency that `percent` of the messages did not exceed, in milliseconds.
    #[must_use]
    pub(crate) fn percentile_ms(&self, percent: usize) -> f64 {
        percentile_us(&self.latencies_us, percent) / 1000.0
    }

    fn add(&mut self, other: Self) {
        self.latencies_us.extend(other.latencies_us);
        self.refused += other.refused;
        self.first_refusal = self.first_refusal.take().or(other.first_refusal);
    }
}

/// What `percent` of the values, which ascend, do not exceed; 0 of none.
#[must_use]
pub(crate) fn percentile_us(ascending: &[u32], percent: usize) -> f64 {
    let last = ascending.len().saturating_sub(1);
    let at = (ascending.len() * percent / 100).min(last);
    ascending.get(at).copied().map_or(0.0, f64::from)
}

/// One message over a connection that is open.
///
/// # Errors
/// If it is refused, or the connection breaks.
pub(crate) async fn one(
    connection: &mut Connection,
    template: &mut Template,
    id: usize,
) -> anyhow::Result<()> {
    envelope(connection, &rcpt(id, 1), false).await?;
    connection.command(template.with_id(id), 250).await
}

/// Sends everything. Must run inside a [`tokio::task::LocalSet`].
///
/// # Errors
/// If a session panicked.
pub(crate) async fn run(load: Load, ledger: Arc<Ledger>) -> anyhow::Result<Report> {
    let shared = Rc::new(Shared {
        next: Cell::new(load.ids.start),
        begin: Instant::now(),
        dice: Dice::default(),
        load,
    });
    let mut sessions = JoinSet::new();
    for _ in 0..shared.load.sessions {
        let session = Session {
            template: Template::new(shared.load.size),
            shared: Rc::clone(&shared),
            ledger: Arc::clone(&ledger),
            report: Report::default(),
        };
        sessions.spawn_local(session.run());
    }
    let mut report = Report::default();
    while let Some(done) = sessions.join_next().await {
        report.add(done.context("a session ended badly")?);
    }
    report.latencies_us.sort_unstable();
    Ok(report)
}

/// What the sessions share.
struct Shared {
    load: Load,
    next: Cell<usize>,
    begin: Instant,
    dice: Dice,
}

impl Shared {
    /// The next id, when it is its turn.
    async fn take(&self) -> Option<usize> {
        let id = self.next.get();
        self.next.set(id + 1);
        if !self.load.ids.contains(&id) {
            return None;
        }
        if let Some(rate) = self.load.rate {
            let position = u32::try_from(id - self.load.ids.start).unwrap_or(u32::MAX);
            let turn = Duration::from_secs(1) * position / rate;
            tokio::time::sleep_until(self.begin + turn).await;
        }
        Some(id)
    }
}

struct Session {
    shared: Rc<Shared>,
    ledger: Arc<Ledger>,
    template: Template,
    report: Report,
}

impl Session {
    async fn run(mut self) -> Report {
        let mut kept = None;
        while let Some(id) = self.shared.take().await {
            match self.send(kept.take(), id).await {
                Ok(connection) => kept = connection,
                Err(error) => {
                    self.report.refused += 1;
                    let reason = || format!("{error:#}");
                    self.report.first_refusal.get_or_insert_with(reason);
                }
            }
        }
        if let Some(mut connection) = kept {
            // What comes of QUIT is of no interest.
            let _ = connection.command(QUIT, 221).await;
        }
        self.report
    }

    async fn send(
        &mut self,
        kept: Option<Connection>,
        id: usize,
    ) -> anyhow::Result<Option<Connection>> {
        let shared = Rc::clone(&self.shared);
        let load = &shared.load;
        let mut connection = match kept {
            Some(connection) => connection,
            None => Connection::open(&load.target).await?,
        };
        while shared.dice.falls(load.aborts) {
            self.abort(connection, id).await?;
            connection = Connection::open(&load.target).await?;
        }
        let rcpt = rcpt(id, load.domains);
        let begin = match load.body {
            Body::Data => {
                envelope(&mut connection, &rcpt, load.pipelining).await?;
                let begin = Instant::now();
                connection.command(self.template.with_id(id), 250).await?;
                begin
            }
            Body::Bdat => chunks(&mut connection, &rcpt, self.template.content_with_id(id)).await?,
        };
        let latency = begin.elapsed().as_micros();
        self.ledger.acknowledge(id);
        let latency = u32::try_from(latency).unwrap_or(u32::MAX);
        self.report.latencies_us.push(latency);
        if load.reuse {
            return Ok(Some(connection));
        }
        connection.command(QUIT, 221).await?;
        Ok(None)
    }

    /// Half a message, and the connection is gone: nobody may deliver that.
    async fn abort(&mut self, mut connection: Connection, id: usize) -> anyhow::Result<()> {
        let rcpt = rcpt(id, self.shared.load.domains);
        envelope(&mut connection, &rcpt, false).await?;
        let octets = self.template.with_id(id);
        connection.send(&octets[..octets.len() / 2]).await
    }
}

fn rcpt(id: usize, domains: usize) -> String {
    if domains <= 1 {
        return "RCPT TO:<sink@example.org>\r\n".to_owned();
    }
    format!("RCPT TO:<sink@d{}.example.org>\r\n", id % domains)
}

async fn envelope(connection: &mut Connection, rcpt: &str, pipelining: bool) -> anyhow::Result<()> {
    let steps = [(MAIL, 250), (rcpt.as_bytes(), 250), (DATA, 354)];
    if pipelining {
        connection
            .send(&steps.map(|(octets, _)| octets).concat())
            .await?;
        for (_, code) in steps {
            connection.reply(code).await?;
        }
    } else {
        for (octets, code) in steps {
            connection.command(octets, code).await?;
        }
    }
    Ok(())
}

/// Sends envelope and content in one go and waits for all replies; when the last octet had been written.
async fn chunks(
    connection: &mut Connection,
    rcpt: &str,
    content: &[u8],
) -> anyhow::Result<Instant> {
    connection.must_chunk()?;
    let mut octets = [MAIL, rcpt.as_bytes()].concat();
    let pieces = content.chunks(CHUNK);
    let count = pieces.len();
    for (index, piece) in pieces.enumerate() {
        let last = if index + 1 == count { " LAST" } else { "" };
        octets.extend_from_slice(format!("BDAT {}{last}\r\n", piece.len()).as_bytes());
        octets.extend_from_slice(piece);
    }
    connection.send(&octets).await?;
    let begin = Instant::now();
    for _ in 0..2 + count {
        connection.reply(250).await?;
    }
    Ok(begin)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentiles_are_values_that_were_measured() {
        let ascending: Vec<u32> = (1..=200).collect();
        let of = |percent| percentile_us(&ascending, percent);
        assert_eq!((of(0), of(50), of(99), of(100)), (1.0, 101.0, 199.0, 200.0));
        assert_eq!(percentile_us(&[], 99), 0.0);
    }
}
