//! The outcome of the piece before, which is recorded beside what comes next.

use std::pin::{Pin, pin};

use crate::queue::Queue;

/// What the last piece came to, on its way to the disk.
#[derive(Default)]
pub(super) struct Last<'a>(Option<Pin<Box<dyn Future<Output = ()> + Send + 'a>>>);

impl<'a> Last<'a> {
    /// This is left to be done.
    pub(super) fn new(work: impl Future<Output = ()> + Send + 'a) -> Self {
        Self(Some(Box::pin(work)))
    }

    /// Goes on with it while something else is done.
    pub(super) async fn beside<T>(&mut self, work: impl Future<Output = T>) -> T {
        let mut work = pin!(work);
        if let Some(last) = &mut self.0 {
            tokio::select! {
                biased;
                () = last => {}
                result = &mut work => return result,
            }
            self.0 = None;
        }
        work.await
    }

    /// Until it is there. Nothing else is to be done meanwhile.
    pub(super) async fn finish(&mut self, queue: &Queue) {
        if let Some(last) = self.0.take() {
            queue.spool().hurry();
            last.await;
        }
    }
}
