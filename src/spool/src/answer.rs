//! What became of a group, on its way to who waits for it.

use crate::CommitError;

/// What to call once with what became of a group.
pub(crate) type Done = Box<dyn FnOnce(Result<(), CommitError>) + Send>;

/// Answers exactly once: if nothing else does, when it is dropped.
pub(crate) struct Answer(Option<Done>);

impl Answer {
    pub(crate) fn new(done: Done) -> Self {
        Self(Some(done))
    }

    pub(crate) fn give(mut self, result: Result<(), CommitError>) {
        if let Some(done) = self.0.take() {
            done(result);
        }
    }
}

impl Drop for Answer {
    fn drop(&mut self) {
        if let Some(done) = self.0.take() {
            done(Err(CommitError::Write("the writer has ended".to_owned())));
        }
    }
}
