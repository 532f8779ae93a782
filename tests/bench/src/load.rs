//! The load: sessions that send one message after the other and count the promises.
//!
//! One thread. A session speaks as smtp-source does: it waits for each reply, so that every server is measured with the
//! same number of round trips; with [`Load::pipelining`] MAIL, RCPT and DATA go out together (RFC 2920).

use std::cell::Cell;
use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail};
use bytes::BytesMut;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::task::JoinSet;
use tokio::time::timeout;

use crate::ledger::Ledger;
use crate::message::Template;

/// How long a reply may take.
const REPLY_TIMEOUT: Duration = Duration::from_secs(60);

/// How long a server may take to greet. One whose queue of connections is full does not see that there is one; the client
/// comes again, as TCP would do with a longer pause.
const GREETING_TIMEOUT: Duration = Duration::from_secs(1);

/// How often a client comes again.
const GREETING_TRIES: usize = 60;

/// What is sent.
#[derive(Clone, Debug)]
pub(crate) struct Load {
    /// Where to.
    pub(crate) target: SocketAddr,
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
        let last = self.latencies_us.len().saturating_sub(1);
        let at = (self.latencies_us.len() * percent / 100).min(last);
        self.latencies_us
            .get(at)
            .map_or(0.0, |us| f64::from(*us) / 1000.0)
    }

    fn add(&mut self, other: Self) {
        self.latencies_us.extend(other.latencies_us);
        self.refused += other.refused;
        self.first_refusal = self.first_refusal.take().or(other.first_refusal);
    }
}

/// Sends everything. Must run inside a [`tokio::task::LocalSet`].
///
/// # Errors
/// If a session panicked.
pub(crate) async fn run(load: Load, ledger: Arc<Ledger>) -> anyhow::Result<Report> {
    let next = Rc::new(Cell::new(load.ids.start));
    let load = Rc::new(load);
    let mut sessions = JoinSet::new();
    for _ in 0..load.sessions {
        let session = Session {
            load: Rc::clone(&load),
            next: Rc::clone(&next),
            ledger: Arc::clone(&ledger),
            template: Template::new(load.size),
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

struct Session {
    load: Rc<Load>,
    next: Rc<Cell<usize>>,
    ledger: Arc<Ledger>,
    template: Template,
    report: Report,
}

impl Session {
    async fn run(mut self) -> Report {
        let mut kept = None;
        while let Some(id) = self.take() {
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
            let _ = connection.command(b"QUIT\r\n", 221).await;
        }
        self.report
    }

    fn take(&self) -> Option<usize> {
        let id = self.next.get();
        self.next.set(id + 1);
        self.load.ids.contains(&id).then_some(id)
    }

    async fn send(
        &mut self,
        kept: Option<Connection>,
        id: usize,
    ) -> anyhow::Result<Option<Connection>> {
        let mut connection = match kept {
            Some(connection) => connection,
            None => Connection::open(self.load.target).await?,
        };
        connection.envelope(self.load.pipelining).await?;
        let begin = Instant::now();
        connection.command(self.template.with_id(id), 250).await?;
        let latency = begin.elapsed().as_micros();
        self.ledger.acknowledge(id);
        self.report
            .latencies_us
            .push(u32::try_from(latency).unwrap_or(u32::MAX));
        if self.load.reuse {
            return Ok(Some(connection));
        }
        connection.command(b"QUIT\r\n", 221).await?;
        Ok(None)
    }
}

struct Connection {
    stream: TcpStream,
    input: BytesMut,
}

impl Connection {
    async fn open(target: SocketAddr) -> anyhow::Result<Self> {
        for _ in 0..GREETING_TRIES {
            let stream = TcpStream::connect(target).await.context("connect")?;
            stream.set_nodelay(true)?;
            let mut connection = Self {
                stream,
                input: BytesMut::with_capacity(1024),
            };
            if let Ok(greeted) = timeout(GREETING_TIMEOUT, connection.reply(220)).await {
                greeted?;
                connection
                    .command(b"EHLO load.example.com\r\n", 250)
                    .await?;
                return Ok(connection);
            }
        }
        bail!("no greeting")
    }

    async fn envelope(&mut self, pipelining: bool) -> anyhow::Result<()> {
        const MAIL: &[u8] = b"MAIL FROM:<load@example.com>\r\n";
        const RCPT: &[u8] = b"RCPT TO:<sink@example.org>\r\n";
        const DATA: &[u8] = b"DATA\r\n";
        if pipelining {
            self.stream.write_all(&[MAIL, RCPT, DATA].concat()).await?;
            for code in [250, 250, 354] {
                self.reply(code).await?;
            }
        } else {
            for (command, code) in [(MAIL, 250), (RCPT, 250), (DATA, 354)] {
                self.command(command, code).await?;
            }
        }
        Ok(())
    }

    async fn command(&mut self, octets: &[u8], expected: u16) -> anyhow::Result<()> {
        self.stream.write_all(octets).await?;
        self.reply(expected).await
    }

    async fn reply(&mut self, expected: u16) -> anyhow::Result<()> {
        loop {
            if let Some(line) = last_line(&mut self.input) {
                if code(&line) == Some(expected) {
                    return Ok(());
                }
                bail!("{}", String::from_utf8_lossy(&line).trim_end());
            }
            let read = self.stream.read_buf(&mut self.input);
            let read = timeout(REPLY_TIMEOUT, read)
                .await
                .context("no reply in time")?;
            if read? == 0 {
                bail!("the server closed the connection");
            }
        }
    }
}

/// Takes a whole reply out of the input and returns its last line.
fn last_line(input: &mut BytesMut) -> Option<BytesMut> {
    let mut at = 0;
    loop {
        let end = at + memchr::memchr(b'\n', &input[at..])? + 1;
        if input.get(at + 3) != Some(&b'-') {
            let mut reply = input.split_to(end);
            return Some(reply.split_off(at));
        }
        at = end;
    }
}

fn code(line: &[u8]) -> Option<u16> {
    std::str::from_utf8(line.get(..3)?).ok()?.parse().ok()
}
