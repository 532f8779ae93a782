//! From one segment to the next, and to the end of an orderly life.

use std::io;

use super::Writer;
use super::segment::{Active, Blank, begin, leave_hint};
use crate::format::{Durable, SEGMENT_HEADER};
use crate::number::wide;

impl Writer {
    /// Sees to a segment that so many bytes may be added to.
    pub(super) fn make_way(&mut self, length: u64) -> io::Result<()> {
        let length = length + wide(self.window.bytes.len());
        let full = self.active.as_ref().is_some_and(|active| {
            active.durable > wide(SEGMENT_HEADER) && active.durable + length > active.limit
        });
        if full {
            self.seal();
        }
        let room = self.shared.room.segment_bytes;
        if self.window.is_homeless() {
            self.rehome(room)?;
        }
        if self.active.is_none() {
            self.active = Some(self.begin_anew(room.max(length + wide(SEGMENT_HEADER)))?);
        }
        Ok(())
    }

    pub(super) fn spend_sequence(&mut self) -> u64 {
        let sequence = self.next_sequence;
        // Even if nothing comes of it the name is spent: a file may be there.
        self.next_sequence += 1;
        self.told = false;
        sequence
    }

    fn begin_anew(&mut self, room: u64) -> io::Result<Active> {
        let sequence = self.spend_sequence();
        // That they were segments must be undone before they are written.
        let usable = self.sync_removal();
        let Self { shared, spares, .. } = self;
        begin(shared, sequence, self.before, |path| {
            let spare = usable.then(|| spares.take(shared, path, room));
            match spare.flatten() {
                Some(spare) => Ok(spare),
                None => {
                    let file = shared.fs.create(path, room)?;
                    Ok(Blank { file, filled: 0 })
                }
            }
        })
    }

    /// Ends the active segment; what was preallocated and not used is given back.
    pub(crate) fn seal(&mut self) {
        if self.window.is_promised()
            && let Err(error) = self.flush_active()
        {
            self.fail(&error);
        }
        if let Some(active) = self.active.take() {
            let _ = active.file.truncate(active.durable);
            if let Some(segment) = self.shared.state_mut().segments.get_mut(&active.sequence) {
                segment.bytes = active.durable;
            }
            self.passed(&active);
            leave_hint(&self.shared, active);
        }
    }

    /// The active segment is no longer that; the next one's header tells how far it came.
    pub(super) fn passed(&mut self, active: &Active) {
        if active.durable > wide(SEGMENT_HEADER) {
            self.before = Durable {
                sequence: active.sequence,
                end: active.durable,
            };
        }
    }

    /// The end of an orderly life: the header of a segment that holds nothing tells the next start how far the last one is
    /// durable, which is true whether that header is durable or not. So there is nothing to copy.
    pub(super) fn finish(&mut self) {
        self.flush();
        self.seal();
        if self.told || self.before == Durable::default() {
            return;
        }
        // What was answered lies behind the end that the header would tell, and the next start would cut it.
        if self.window.is_promised() {
            tracing::error!("the disk did not take all that was answered: a power cut can take it");
            return;
        }
        let sequence = self.spend_sequence();
        // Not in a spare file, which is of more use to the next start.
        let begun = begin(&self.shared, sequence, self.before, |path| {
            let file = self.shared.fs.create(path, wide(SEGMENT_HEADER))?;
            Ok(Blank { file, filled: 0 })
        });
        match begun {
            Ok(_) => self.told = true,
            Err(error) => tracing::warn!(%error, "the next start has a segment to copy"),
        }
    }
}
