//! Segments in which nothing is alive go, the oldest first.

use super::Writer;
use super::segment::remove;

impl Writer {
    /// Removes the oldest segments while nothing in them is alive.
    pub(super) fn reclaim(&mut self) {
        // What they were about is not on stable storage yet.
        if self.window.is_promised() {
            return;
        }
        // Durable before the next one goes: a `Done` must not vanish before the message it is about.
        while self.sync_removal() {
            let Some((sequence, 0)) = self.oldest() else {
                return;
            };
            if !self.spares.keep(&self.shared, sequence)
                && let Err(error) = remove(&self.shared, sequence)
            {
                tracing::warn!(%error, sequence, "cannot remove a segment that is not needed");
                return;
            }
            self.removal_unsynced = true;
        }
    }

    /// Makes it durable that segments are gone; whether it is.
    pub(super) fn sync_removal(&mut self) -> bool {
        if self.removal_unsynced {
            if let Err(error) = self.shared.fs.sync_dir(&self.shared.directory) {
                tracing::warn!(%error, "cannot make the removal of a segment durable");
                return false;
            }
            self.removal_unsynced = false;
        }
        true
    }

    /// The oldest segment that is sealed, and how many messages in it are alive.
    pub(super) fn oldest(&self) -> Option<(u64, u64)> {
        let state = self.shared.state();
        let (sequence, _) = state.segments.first_key_value()?;
        let active = self.active.as_ref().map(|active| active.sequence);
        (active != Some(*sequence)).then(|| (*sequence, state.index.live(*sequence).messages))
    }
}
