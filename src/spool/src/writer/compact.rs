//! Moves what is alive out of the oldest segment, so that it can go.
//!
//! Only the oldest may go, so it is the only one compacted: when little of it is alive, or when little of the whole spool is, since
//! then it keeps all the dead segments behind it.

use std::io;
use std::sync::Arc;

use super::Writer;
use crate::MessageId;
use crate::format::Mark;
use crate::index::Place;
use crate::read::read_message;
use crate::record::Record;
use crate::scan::{Found, Piece, Scanner};
use crate::shared::{Answer, Group, State};
use crate::sys::File;

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

/// How far the compaction of the oldest segment has come.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Compaction {
    Idle,
    At {
        segment: u64,
        offset: u64,
    },
    /// Something in this segment cannot be moved. Once fewer of its messages are alive, it may not be there any more.
    GivenUp {
        segment: u64,
        alive: u64,
    },
}

/// Some of what is to be moved.
pub(super) struct Slice {
    pub(super) groups: Vec<Group>,
    /// How far it is once these are stored.
    pub(super) compaction: Compaction,
}

struct Target {
    segment: u64,
    file: Arc<dyn File>,
    mark: Option<Mark>,
    offset: u64,
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

    /// Some of what is alive in the oldest segment, if that is worth moving.
    pub(super) fn slice(&mut self) -> Option<Slice> {
        let target = self.compaction_target()?;
        let segment = target.segment;
        match self.gather(&target) {
            Ok((groups, offset)) => Some(Slice {
                groups,
                compaction: Compaction::At { segment, offset },
            }),
            Err(error) => {
                tracing::error!(%error, segment, "cannot compact a segment; it stays");
                let alive = self.shared.state().index.live(segment).messages;
                self.compaction = Compaction::GivenUp { segment, alive };
                None
            }
        }
    }

    fn compaction_target(&self) -> Option<Target> {
        // A disk that just failed has better things to do.
        if self.shared.counts().write_failure.is_some() {
            return None;
        }
        let (segment, _) = self.oldest()?;
        let state = self.shared.state();
        let live = state.index.live(segment);
        let known = state.segments.get(&segment)?;
        let sparse = live.bytes.saturating_mul(SEGMENT_LIVE_PARTS) < known.bytes;
        // What would not fit would only make the next write fail.
        let fits = || self.shared.room.free() >= live.bytes.max(self.shared.room.segment_bytes);
        let worth = (state.segments.len() >= SEGMENTS_MIN && (sparse || is_wasteful(&state)))
            || (self.is_pressed(&state) && fits());
        if live.messages == 0 || !worth {
            return None;
        }
        let offset = match self.compaction {
            Compaction::GivenUp { segment: at, alive }
                if at == segment && alive == live.messages =>
            {
                return None;
            }
            Compaction::At {
                segment: at,
                offset,
            } if at == segment => offset,
            _ => 0,
        };
        // Read to its end and still alive: something in it cannot be found again.
        (offset < known.bytes).then(|| Target {
            segment,
            file: Arc::clone(&known.file),
            mark: known.mark,
            offset,
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
                let Found::Message(head, place) = one else {
                    continue;
                };
                let Some(progress) = self.progress_if_at(head.id, place) else {
                    continue;
                };
                let message = read_message(file, place).map_err(io::Error::other)?;
                bytes += u64::from(place.length);
                let mut records = vec![Record::Message(message)];
                records.extend(progress);
                groups.push(Group {
                    records,
                    bytes: u64::from(place.length),
                    done: Answer::new(Box::new(drop)),
                });
            }
        }
        Ok((groups, scanner.position()))
    }

    /// The state of a message that is alive and lies here.
    fn progress_if_at(&self, id: MessageId, place: Place) -> Option<Option<Record>> {
        let state = self.shared.state();
        let progress = state.index.progress(id);
        let record = progress.map(|known| Record::Attempt(known.to_attempt(id)));
        (state.index.place(id) == Some(place)).then_some(record)
    }
}
