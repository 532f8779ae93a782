//! Moves what is alive out of the oldest segment, so that it can go.
//!
//! Only the oldest may go, so it is the only one compacted: when little of it is alive, or when little of the whole spool is, since
//! then it keeps all the dead segments behind it.
//!
//! A message that the scan does not find, because something in its group is damaged, is read by the index. One that is damaged itself
//! cannot be moved: who has the spool hears of it ([`crate::Spool::take_damaged`]), and whatever the cause why a segment stays, it is tried
//! again after [`RETRY_PAUSE`].

use std::io;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::Writer;
use crate::answer::Answer;
use crate::format::Mark;
use crate::index::{Live, Place};
use crate::read::read_message;
use crate::record::{Message, Record};
use crate::scan::{Found, Piece, Scanner};
use crate::shared::State;
use crate::sys::File;
use crate::waiting::Group;
use crate::{MessageId, ReadError};

/// Bytes of messages moved by one step: short enough that mail that comes meanwhile hardly waits.
const SLICE_BYTES: u64 = 1 << 20;

/// Bytes of a segment read by one step in search of them, for the same reason.
const SLICE_SCAN_BYTES: u64 = 8 << 20;

/// With fewer segments than this there is nothing worth compacting for.
const SEGMENTS_MIN: usize = 4;

/// A segment is compacted when less than one part in so many of it is alive: then it costs less than it frees.
const SEGMENT_LIVE_PARTS: u64 = 4;

/// Whatever is alive in the oldest segment, it is compacted when less than one part in so many of the spool is alive: then all
/// of the spool can be moved for a third of what that frees.
const SPOOL_LIVE_PARTS: u64 = 4;

/// On a full disk, what is alive in the oldest segment may take one part in so many of what is left for outcomes.
const SAVING_PARTS: u64 = 2;

/// What a message that is moved takes beside its record, in bytes: group, and an attempt with a few results.
const MOVED_BYTES: u64 = 128;

/// Pause before a segment is tried again that could not be moved: what the disk did not give back once, it may.
const RETRY_PAUSE: Duration = Duration::from_secs(60);

/// Most damaged messages told of at once: the rest is for the next time.
const DAMAGED_MAX: usize = 100;

/// How far the compaction of the oldest segment has come.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Compaction {
    Idle,
    At {
        segment: u64,
        offset: u64,
    },
    /// Something in this segment cannot be moved. Once fewer of its messages are alive, it may not be there any more; and what
    /// could not be read then may be read later.
    GivenUp {
        segment: u64,
        alive: u64,
        at: Instant,
    },
}

/// Some of what is to be moved.
pub(super) struct Slice {
    pub(super) groups: Vec<Group>,
    /// How far it is once these are stored.
    pub(super) compaction: Compaction,
}

/// What moving all that is alive in a segment takes, about.
fn moved_bytes(live: Live) -> u64 {
    let beside = live.messages.saturating_mul(MOVED_BYTES);
    live.bytes.saturating_add(beside)
}

struct Target {
    segment: u64,
    file: Arc<dyn File>,
    mark: Option<Mark>,
    offset: u64,
    /// Where the segment ends.
    end: u64,
}

/// A message with its state, to be written anew.
fn group(message: Message, progress: Option<Record>, bytes: u64) -> Group {
    let mut records = vec![Record::Message(message)];
    records.extend(progress);
    Group {
        records,
        bytes,
        done: Answer::new(Box::new(drop)),
    }
}

/// Whether so much of the disk is waste that compaction cannot wait until nothing else is to be done.
fn is_wasteful(state: &State) -> bool {
    let live = state.index.live_bytes();
    state.segments.len() >= SEGMENTS_MIN
        && live.saturating_mul(SPOOL_LIVE_PARTS) < state.disk_bytes()
}

impl Writer {
    /// Whether compaction cannot wait until nothing else is to be done.
    pub(super) fn is_compaction_urgent(&self) -> bool {
        let state = self.shared.state();
        is_wasteful(&state) || self.is_pressed(&state)
    }

    /// Whether the disk is nearly full and moving all of it would free a segment at least: then whatever the oldest segment
    /// holds is moved. It comes to rest, since a spool that was moved all through holds no waste.
    fn is_pressed(&self, state: &State) -> bool {
        let room = &self.shared.room;
        let waste = state
            .disk_bytes()
            .saturating_sub(state.index.compact_bytes());
        room.is_tight() && waste >= room.segment_bytes
    }

    /// What cannot be moved stays, until fewer messages of its segment are alive or a while has passed.
    pub(super) fn give_up_compaction(&mut self, segment: u64) {
        let alive = self.shared.state().index.live(segment).messages;
        let at = (self.clock)();
        self.compaction = Compaction::GivenUp { segment, alive, at };
    }

    /// Some of what is alive in the oldest segment, if that is worth moving.
    pub(super) fn slice(&mut self) -> Option<Slice> {
        let target = self.compaction_target()?;
        let segment = target.segment;
        let gathered = match target.offset < target.end {
            true => self.gather(&target),
            false => self.gather_rest(&target),
        };
        match gathered {
            Ok((groups, offset)) => Some(Slice {
                groups,
                compaction: Compaction::At { segment, offset },
            }),
            Err(error) => {
                tracing::error!(%error, segment, "cannot compact a segment; it stays");
                self.give_up_compaction(segment);
                None
            }
        }
    }

    fn compaction_target(&self) -> Option<Target> {
        let saving = self.saving_left();
        // A disk that just failed has better things to do, but for a full one there is nothing better.
        if saving.is_none() && self.shared.counts().write_failure.is_some() {
            return None;
        }
        let (segment, _) = self.oldest()?;
        let state = self.shared.state();
        let live = state.index.live(segment);
        let known = state.segments.get(&segment)?;
        let sparse = live.bytes.saturating_mul(SEGMENT_LIVE_PARTS) < known.bytes;
        // What would not fit would only make the next write fail.
        let fits = || self.shared.room.free() >= live.bytes.max(self.shared.room.segment_bytes);
        let worth = match saving {
            Some(left) => sparse && moved_bytes(live).saturating_mul(SAVING_PARTS) <= left,
            None => {
                let many = state.segments.len() >= SEGMENTS_MIN;
                (many && (sparse || is_wasteful(&state))) || (self.is_pressed(&state) && fits())
            }
        };
        if live.messages == 0 || !worth {
            return None;
        }
        let offset = match self.compaction {
            Compaction::GivenUp {
                segment: given_up,
                alive,
                at,
            } if given_up == segment && alive == live.messages && self.since(at) < RETRY_PAUSE => {
                return None;
            }
            Compaction::At {
                segment: at,
                offset,
            } if at == segment => offset,
            _ => 0,
        };
        Some(Target {
            segment,
            file: Arc::clone(&known.file),
            mark: known.mark,
            offset,
            end: known.bytes,
        })
    }

    /// The next groups to move, and the offset behind them.
    fn gather(&self, target: &Target) -> io::Result<(Vec<Group>, u64)> {
        let file = target.file.as_ref();
        let mut scanner = Scanner::new(file, target.segment, target.mark)?;
        scanner.seek(target.offset);
        let enough = scanner.position().saturating_add(SLICE_SCAN_BYTES);
        let (mut groups, mut bytes) = (Vec::new(), 0);
        while bytes < SLICE_BYTES && scanner.position() < enough {
            let Some(piece) = scanner.next()? else { break };
            let Piece::Group(found) = piece else { continue };
            for one in found {
                let Found::Message(queued, place) = one else {
                    continue;
                };
                let Some(progress) = self.progress_if_at(queued.id, place) else {
                    continue;
                };
                let message = read_message(file, place).map_err(io::Error::other)?;
                bytes += u64::from(place.length);
                groups.push(group(message, progress, u64::from(place.length)));
            }
        }
        Ok((groups, scanner.position()))
    }

    /// As [`Self::gather`], of a segment that was read to its end: what is still alive there lies in damaged groups. Where none of it can be
    /// read the error says so: compaction gives up, and whoever asks for what is damaged hears of it.
    fn gather_rest(&self, target: &Target) -> io::Result<(Vec<Group>, u64)> {
        let rest = self.shared.state().index.placed_in(target.segment);
        let (mut groups, mut damaged, mut bytes) = (Vec::new(), Vec::new(), 0);
        for (id, place) in rest {
            if bytes >= SLICE_BYTES || damaged.len() >= DAMAGED_MAX {
                break;
            }
            match read_message(target.file.as_ref(), place) {
                Ok(message) => {
                    let Some(progress) = self.progress_if_at(id, place) else {
                        continue;
                    };
                    bytes += u64::from(place.length);
                    groups.push(group(message, progress, u64::from(place.length)));
                }
                Err(ReadError::Damaged(_)) => damaged.push(id),
                Err(error) => return Err(io::Error::other(error)),
            }
        }
        if !groups.is_empty() {
            return Ok((groups, target.offset));
        }
        let count = damaged.len();
        self.shared.counts().damaged = damaged;
        let text = format!("{count} damaged messages keep it, and all segments behind it");
        Err(io::Error::other(text))
    }

    /// The state of a message that is alive and lies here.
    fn progress_if_at(&self, id: MessageId, place: Place) -> Option<Option<Record>> {
        let state = self.shared.state();
        let progress = state.index.progress(id);
        let record = progress.map(|known| Record::Attempt(known.to_attempt(id)));
        (state.index.place(id) == Some(place)).then_some(record)
    }
}
