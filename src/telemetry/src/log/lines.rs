//! Log lines on their way out: gathered, and written many at a time by a thread of their own.
//!
//! Whoever logs copies a line under a lock and goes on: no mail waits for whoever reads the log. The thread writes what has gathered within
//! [`GATHERING`] at once, so that a line costs no system call and no wake of its own.
//!
//! # What a failure means
//! - The reader stops (a full pipe): lines wait, up to [`WAITING_BYTES_MAX`]. What comes beyond is lost, and counted; once lines flow
//!   again, one of them says how many were.
//! - Nothing can be written at all (the pipe is closed): lines are lost. There is nobody to tell.
//! - The process ends in order: what waits is written first, if that takes no longer than [`FLUSH_TIME_MAX`]. If it is killed, the lines of
//!   the last [`GATHERING`] are lost, and those that waited for the reader.

use std::io::{self, Write};
use std::mem;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::Duration;

/// How long the first of some lines waits for others. Nobody reads faster than that, and a hundred writes a second cost nothing.
const GATHERING: Duration = Duration::from_millis(10);

/// Most that waits to be written: some seconds of a busy relay, and little beside what it may take for mail.
pub(super) const WAITING_BYTES_MAX: usize = 4 << 20;

/// A buffer that has held more than this is given back.
const KEPT_BYTES_MAX: usize = 64 << 10;

/// For what waits to be written at the end. A reader that does not take it in this time will not take it.
const FLUSH_TIME_MAX: Duration = Duration::from_secs(1);

/// Where lines go. Cheap to clone.
#[derive(Clone, Debug, Default)]
pub(super) struct Lines(Arc<Shared>);

#[derive(Debug, Default)]
struct Shared {
    waiting: Mutex<Waiting>,
    /// The first line has come, or the end.
    begun: Condvar,
    /// The end has come.
    closed: Condvar,
    /// All has been written.
    ended: Condvar,
}

#[derive(Debug, Default)]
struct Waiting {
    bytes: Vec<u8>,
    /// Lines that found no room.
    lost: u64,
    is_closed: bool,
    has_ended: bool,
}

/// Writes what waits when it is dropped.
#[derive(Debug)]
#[must_use = "the last lines are written when this is dropped"]
pub struct Guard(Lines);

/// Starts the thread. `report` is told, on it, of lines that were lost.
///
/// # Errors
/// What the system says to the thread.
pub(super) fn start(
    output: impl Write + Send + 'static,
    report: impl Fn(u64) + Send + 'static,
) -> io::Result<(Lines, Guard)> {
    let lines = Lines::default();
    let writer = lines.clone();
    thread::Builder::new()
        .name("log".into())
        .spawn(move || writer.run(output, &report))?;
    Ok((lines.clone(), Guard(lines)))
}

impl Lines {
    fn add(&self, line: &[u8]) {
        let mut waiting = self.waiting();
        if waiting.bytes.len() + line.len() > WAITING_BYTES_MAX {
            waiting.lost += 1;
            return;
        }
        let is_first = waiting.bytes.is_empty();
        waiting.bytes.extend_from_slice(line);
        drop(waiting);
        if is_first {
            self.0.begun.notify_one();
        }
    }

    fn run(&self, mut output: impl Write, report: &dyn Fn(u64)) {
        let mut bytes = Vec::new();
        while let Some(lost) = self.gather(&mut bytes) {
            // A second try would fail as the first.
            let _ = output.write_all(&bytes).and_then(|()| output.flush());
            bytes.clear();
            bytes.shrink_to(KEPT_BYTES_MAX);
            if lost > 0 {
                report(lost);
            }
        }
        self.waiting().has_ended = true;
        self.0.ended.notify_all();
    }

    /// Waits for lines and takes them; says how many were lost behind them. `None` at the end.
    fn gather(&self, bytes: &mut Vec<u8>) -> Option<u64> {
        let idle = |waiting: &mut Waiting| waiting.bytes.is_empty() && !waiting.is_closed;
        let open = |waiting: &mut Waiting| !waiting.is_closed;
        let waiting = self.0.begun.wait_while(self.waiting(), idle);
        let waiting = waiting.unwrap_or_else(PoisonError::into_inner);
        let waited = self.0.closed.wait_timeout_while(waiting, GATHERING, open);
        let mut waiting = waited.unwrap_or_else(PoisonError::into_inner).0;
        if waiting.bytes.is_empty() {
            return None;
        }
        mem::swap(&mut waiting.bytes, bytes);
        Some(mem::take(&mut waiting.lost))
    }

    // Nothing panics while this is held.
    fn waiting(&self) -> MutexGuard<'_, Waiting> {
        let waiting = self.0.waiting.lock();
        waiting.unwrap_or_else(PoisonError::into_inner)
    }
}

impl Write for Lines {
    /// Takes a whole line, or counts it: the formatters give each in one piece.
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        self.add(line);
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Drop for Guard {
    fn drop(&mut self) {
        let Self(lines) = self;
        let mut waiting = lines.waiting();
        waiting.is_closed = true;
        lines.0.begun.notify_all();
        lines.0.closed.notify_all();
        let busy = |waiting: &mut Waiting| !waiting.has_ended;
        let ended = lines
            .0
            .ended
            .wait_timeout_while(waiting, FLUSH_TIME_MAX, busy);
        drop(ended);
    }
}

#[cfg(test)]
mod tests;
