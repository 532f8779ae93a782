//! What became of groups, on its way to those who wait for it.

use std::fmt;
use std::sync::OnceLock;
use std::vec;

use crate::CommitError;
use crate::shared::Group;

/// What to call once with what became of a group.
pub(crate) type Done = Box<dyn FnOnce(Result<(), CommitError>) + Send>;

/// Answers a group exactly once: if nothing else does, when it is dropped.
pub(crate) struct Answer(Option<Done>);

impl Answer {
    pub(crate) fn new(done: Done) -> Self {
        Self(Some(done))
    }

    fn give(mut self, result: Result<(), CommitError>) {
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

/// The answers that a batch owes. Each is given exactly once, in the order in which the groups were submitted: those that nobody has given
/// when this is dropped, then.
pub struct Answers {
    groups: vec::IntoIter<Group>,
    result: Result<(), CommitError>,
}

impl Answers {
    pub(crate) fn new(groups: Vec<Group>, result: Result<(), CommitError>) -> Self {
        Self {
            groups: groups.into_iter(),
            result,
        }
    }

    /// Gives the next one; `false` if there is none.
    pub fn give_next(&mut self) -> bool {
        let next = self.groups.next();
        let is_one = next.is_some();
        if let Some(group) = next {
            group.done.give(self.result.clone());
        }
        is_one
    }
}

impl Drop for Answers {
    fn drop(&mut self) {
        while self.give_next() {}
    }
}

impl fmt::Debug for Answers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Answers")
            .field("groups", &self.groups.len())
            .field("result", &self.result)
            .finish()
    }
}

/// Who gives the answers of whole batches, if not the writer.
#[derive(Default)]
pub(crate) struct Giver(OnceLock<Box<dyn Fn(Answers) + Send + Sync>>);

impl Giver {
    /// The first one counts.
    pub(crate) fn set(&self, give: Box<dyn Fn(Answers) + Send + Sync>) {
        // A second one is dropped: answers are given all the same.
        let _ = self.0.set(give);
    }

    /// An answer that is alone is given at once: to hand it over costs as much as to give it, and is one more wait.
    pub(crate) fn give(&self, answers: Answers) {
        if answers.groups.len() > 1
            && let Some(give) = self.0.get()
        {
            give(answers);
        }
    }
}

impl fmt::Debug for Giver {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Giver")
            .field(&self.0.get().is_some())
            .finish()
    }
}
