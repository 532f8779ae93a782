//! The spool alone: how many groups a second get onto stable storage, with how many flushes, and how long each takes.
//!
//! Every session stores a message, waits, stores that it is finished, waits, and begins anew: what a relay asks of its spool when
//! all mail is delivered at once. There is no network and no protocol, so that nothing hides what a flush costs.

use std::fs;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::time::{Duration, Instant};

use anyhow::Context as _;
use bytes::Bytes;
use postroad_spool::{
    Config, Envelope, IdGenerator, Message, MessageId, Mode, Recipient, Record, SEGMENT_BYTES,
    Spool,
};

use crate::say;

/// Stores groups as fast as they are answered.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Where the spool is made; nothing may be there.
    directory: PathBuf,
    /// Sessions at once; measured one after the other.
    #[arg(long, value_delimiter = ',', default_value = "1,50")]
    sessions: Vec<usize>,
    /// Octets of each message.
    #[arg(long, default_value_t = 4096)]
    size: usize,
    /// Seconds that are measured of each, after one that is not.
    #[arg(long, default_value_t = 5)]
    seconds: u64,
    /// Flush every so many milliseconds, and answer before (the relaxed mode).
    #[arg(long)]
    relaxed_ms: Option<u64>,
}

/// The time before anything counts: the first segments are new files.
const WARM_UP: Duration = Duration::from_secs(1);

/// Measures with each number of sessions.
///
/// # Errors
/// If the spool cannot be opened or written.
pub(crate) fn run(args: &Args) -> anyhow::Result<()> {
    let mode = args
        .relaxed_ms
        .map_or(Mode::Durable, |interval| Mode::Relaxed {
            sync_interval: Duration::from_millis(interval),
        });
    let config = Config {
        directory: args.directory.clone(),
        segment_bytes: SEGMENT_BYTES,
        bytes_max: None,
        mode,
    };
    let (spool, _, writer) = Spool::open(config).context("cannot open the spool")?;
    let thread = std::thread::spawn(move || writer.run());
    for sessions in &args.sessions {
        let rig = Rig::new(&spool, args, *sessions);
        let line = rig.measure(args)?;
        say(&format!(
            "{sessions} sessions, {} octets: {line}",
            args.size
        ));
    }
    spool.close();
    thread.join().ok().context("the writer has panicked")
}

/// An answer: which session, what it had stored.
struct Answer {
    session: usize,
    stored: Stored,
    stored_well: bool,
}

#[derive(Clone, Copy)]
enum Stored {
    Message(MessageId),
    Done,
}

struct Rig<'a> {
    spool: &'a Spool,
    ids: IdGenerator,
    body: Bytes,
    sender: Sender<Answer>,
    answers: Receiver<Answer>,
    begun: Vec<Instant>,
}

impl<'a> Rig<'a> {
    fn new(spool: &'a Spool, args: &Args, sessions: usize) -> Self {
        let (sender, answers) = channel();
        Self {
            spool,
            // Of an earlier number of sessions nothing is left.
            ids: IdGenerator::new([0; 10]),
            body: Bytes::from(vec![b'x'; args.size]),
            sender,
            answers,
            begun: vec![Instant::now(); sessions],
        }
    }

    fn measure(mut self, args: &Args) -> anyhow::Result<String> {
        for session in 0..self.begun.len() {
            self.message(session)?;
        }
        self.play(WARM_UP, None)?;
        let (before, device) = (self.spool.health(), flushes(&args.directory)?);
        let started = Instant::now();
        let mut waits = Vec::new();
        self.play(Duration::from_secs(args.seconds), Some(&mut waits))?;
        let elapsed = started.elapsed().as_secs_f64();
        let (after, flushed) = (self.spool.health(), flushes(&args.directory)? - device);
        self.drain()?;
        waits.sort_unstable();
        let at = |percent: usize| waits.get(waits.len() * percent / 100).copied();
        let groups = after.commits - before.commits;
        let per_group = |count: u64| count as f64 / groups.max(1) as f64;
        Ok(format!(
            "{:.0} groups/s, {:.2} syncs and {:.2} device flushes per group, p50 {:.2?}, p99 {:.2?}",
            groups as f64 / elapsed,
            per_group(after.syncs - before.syncs),
            per_group(flushed),
            at(50).unwrap_or_default(),
            at(99).unwrap_or_default(),
        ))
    }

    /// Goes on for a while; how long each group waited.
    fn play(
        &mut self,
        time: Duration,
        mut waits: Option<&mut Vec<Duration>>,
    ) -> anyhow::Result<()> {
        let started = Instant::now();
        while started.elapsed() < time {
            let answer = self.answer()?;
            if let Some(waits) = &mut waits {
                waits.push(self.begun[answer.session].elapsed());
            }
            match answer.stored {
                Stored::Message(id) => self.done(answer.session, id)?,
                Stored::Done => self.message(answer.session)?,
            }
        }
        Ok(())
    }

    /// Lets every session end.
    fn drain(&mut self) -> anyhow::Result<()> {
        let mut open = self.begun.len();
        while open > 0 {
            let answer = self.answer()?;
            match answer.stored {
                Stored::Message(id) => self.done(answer.session, id)?,
                Stored::Done => open -= 1,
            }
        }
        Ok(())
    }

    fn answer(&self) -> anyhow::Result<Answer> {
        let answer = self.answers.recv().context("the writer is gone")?;
        anyhow::ensure!(answer.stored_well, "the spool cannot be written");
        Ok(answer)
    }

    fn message(&mut self, session: usize) -> anyhow::Result<()> {
        let id = self.ids.next(1);
        let message = Message {
            id,
            arrival_ms: 1,
            envelope: Envelope {
                sender: "s@example.com".to_owned(),
                recipients: vec![Recipient {
                    address: "r@example.org".to_owned(),
                    ..Recipient::default()
                }],
                ..Envelope::default()
            },
            headers: Bytes::new(),
            body: self.body.clone(),
        };
        self.submit(session, Record::Message(message), Stored::Message(id))
    }

    fn done(&mut self, session: usize, id: MessageId) -> anyhow::Result<()> {
        self.submit(session, Record::Done(id), Stored::Done)
    }

    fn submit(&mut self, session: usize, record: Record, stored: Stored) -> anyhow::Result<()> {
        self.begun[session] = Instant::now();
        let sender = self.sender.clone();
        self.spool.submit(vec![record], move |result| {
            // Who is gone does not listen.
            let _ = sender.send(Answer {
                session,
                stored,
                stored_well: result.is_ok(),
            });
        })?;
        Ok(())
    }
}

/// Flushes that the disk under a directory has completed since boot.
fn flushes(directory: &Path) -> anyhow::Result<u64> {
    /// Position of "flush requests completed" (Documentation/block/stat.rst).
    const FIELD: usize = 15;
    let device = fs::metadata(directory)?.dev();
    let (major, minor) = (
        (device >> 8) & 0xfff,
        (device & 0xff) | ((device >> 12) & 0xfff_ff00),
    );
    let path = format!("/sys/dev/block/{major}:{minor}/stat");
    let text = fs::read_to_string(&path).with_context(|| path.clone())?;
    let field = text.split_whitespace().nth(FIELD);
    Ok(field.context("the kernel counts no flushes")?.parse()?)
}
