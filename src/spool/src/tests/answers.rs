//! How answers come to those who wait for them.

use super::*;

type Given = Arc<Mutex<Vec<(usize, bool)>>>;

/// Submits so many groups; what is answered gathers in what it gives.
fn submit_many(rig: &Rig, count: usize) -> Given {
    let given = Given::default();
    for number in 0..count {
        let told = Arc::clone(&given);
        let done = move |result: Result<(), CommitError>| {
            told.lock().unwrap().push((number, result.is_ok()));
        };
        let records = vec![put(number as u128 + 1)];
        rig.spool.submit(records, done).unwrap();
    }
    given
}

/// A spool whose answers are handed over, and what was.
fn handing_over(disk: &SimDisk) -> (Rig, Arc<Mutex<Vec<Answers>>>) {
    let (rig, handed) = (Rig::on(disk), Arc::<Mutex<Vec<Answers>>>::default());
    let to = Arc::clone(&handed);
    rig.spool
        .answer_through(move |answers| to.lock().unwrap().push(answers));
    (rig, handed)
}

#[test]
fn the_answers_of_a_batch_are_handed_over_together_and_given_once_in_order() {
    let (mut rig, handed) = handing_over(&SimDisk::default());
    let given = submit_many(&rig, 3);
    rig.writer.step();
    assert!(given.lock().unwrap().is_empty());
    let mut answers = handed.lock().unwrap().pop().unwrap();
    assert!(answers.give_next());
    assert_eq!(*given.lock().unwrap(), [(0, true)]);
    // Whoever was to give the others has gone.
    drop(answers);
    assert_eq!(*given.lock().unwrap(), [(0, true), (1, true), (2, true)]);
    assert!(handed.lock().unwrap().is_empty());
}

#[test]
fn an_answer_that_is_alone_comes_at_once() {
    let (mut rig, handed) = handing_over(&SimDisk::default());
    let given = submit_many(&rig, 1);
    rig.writer.step();
    assert_eq!(*given.lock().unwrap(), [(0, true)]);
    assert!(handed.lock().unwrap().is_empty());
}

#[test]
fn what_was_not_stored_is_handed_over_as_that() {
    let disk = SimDisk::default();
    let (mut rig, handed) = handing_over(&disk);
    disk.fail(sim::Fault::Sync, 1);
    let given = submit_many(&rig, 2);
    rig.writer.step();
    handed.lock().unwrap().clear();
    assert_eq!(*given.lock().unwrap(), [(0, false), (1, false)]);
}
