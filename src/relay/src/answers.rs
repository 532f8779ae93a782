//! The answers of the spool's writer, given on the runtime.
//!
//! The writer answers all that one flush has made durable. Each answer files a message and wakes a session, and from a thread outside of the
//! runtime each wake is a system call, while the next flush waits. So the writer hands a batch's answers over with one
//! wake, and goes on.

use postroad_spool::{Answers, Spool};
use tokio::sync::mpsc;

/// Answers that are given before others have their turn: each takes the lock of the schedule for a microsecond or two.
const TURN: usize = 64;

/// From now on takes the answers from the writer, and gives them as long as this is polled. What is not given when it is dropped is given
/// then, and later answers are given by the writer.
pub fn give(spool: &Spool) -> impl Future<Output = ()> + Send + use<> {
    // As many as there are sessions and deliveries: each waits for one answer.
    let (batches, mut handed_over) = mpsc::unbounded_channel::<Answers>();
    spool.answer_through(move |answers| {
        // If nobody takes it any more, it is dropped, and that gives it.
        let _ = batches.send(answers);
    });
    async move {
        while let Some(mut answers) = handed_over.recv().await {
            while give_some(&mut answers) {
                tokio::task::yield_now().await;
            }
        }
    }
}

/// Whether there may be more.
fn give_some(answers: &mut Answers) -> bool {
    (0..TURN).all(|_| answers.give_next())
}

#[cfg(test)]
mod tests {
    use postroad_spool::{Mode, Record, SEGMENT_BYTES};

    use super::*;
    use crate::rig::Rig;

    /// More than are given in one turn.
    const GROUPS: usize = 3 * TURN;

    #[tokio::test]
    async fn every_answer_of_a_batch_is_given_whether_the_task_lives_or_not() {
        let rig = Rig::new(1 << 20);
        let directory = tempfile::tempdir().unwrap();
        let config = postroad_spool::Config {
            directory: directory.path().to_owned(),
            segment_bytes: SEGMENT_BYTES,
            bytes_max: None,
            mode: Mode::Durable,
        };
        let (spool, _, mut writer) = Spool::open(config).unwrap();
        let giving = tokio::spawn(give(&spool));
        let mut is_given = submit(&rig, &spool);
        writer.step();
        for _ in 0..GROUPS {
            assert_eq!(is_given.recv().await, Some(true));
        }
        giving.abort();
        assert!(giving.await.unwrap_err().is_cancelled());
        let mut is_given = submit(&rig, &spool);
        writer.step();
        for _ in 0..GROUPS {
            assert_eq!(is_given.try_recv(), Ok(true));
        }
    }

    fn submit(rig: &Rig, spool: &Spool) -> mpsc::UnboundedReceiver<bool> {
        let (given, is_given) = mpsc::unbounded_channel();
        for _ in 0..GROUPS {
            let given = given.clone();
            let record = Record::Message(rig.message(1, 0));
            let done = move |result: Result<_, _>| given.send(result.is_ok()).unwrap();
            spool.submit(vec![record], done).unwrap();
        }
        is_given
    }
}
