//! Pieces that are passed by for another.

use postroad_spool::MessageId;

use crate::clock;
use crate::queue::Queue;
use crate::schedule::Taken;

/// Pieces that are taken. All are given back when this is dropped, and not before: nobody comes upon one twice.
pub(super) struct Passed<'a> {
    queue: &'a Queue,
    all: Vec<Taken>,
}

impl<'a> Passed<'a> {
    pub(super) fn new(queue: &'a Queue) -> Self {
        let all = Vec::new();
        Self { queue, all }
    }

    pub(super) fn count(&self) -> usize {
        self.all.len()
    }

    pub(super) fn push(&mut self, taken: Taken) {
        self.all.push(taken);
    }

    /// Of which messages they are.
    pub(super) fn ids(&self) -> impl Iterator<Item = MessageId> + '_ {
        self.all.iter().map(|taken| taken.ticket.id)
    }

    /// Gives back all but the one of this index.
    pub(super) fn keep(mut self, index: usize) -> Option<Taken> {
        (index < self.all.len()).then(|| self.all.remove(index))
    }
}

impl Drop for Passed<'_> {
    fn drop(&mut self) {
        for taken in &self.all {
            self.queue.release(taken.ticket, clock::now_ms());
        }
    }
}
