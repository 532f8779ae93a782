//! For how long the writer lets wait what waits for it.

use std::sync::mpsc::{Receiver, channel};
use std::thread::JoinHandle;

use super::relaxed::RELAXED;
use super::*;
use crate::answer::Answer;
use crate::waiting::{Group, LINGER, Waiting};

/// Longer than any test.
const LONG: Duration = Duration::from_hours(1);

/// What happens to what waits before the writer looks.
enum Event {
    Mail,
    End,
    Attempt,
    Bounce,
    Hurry,
    Close,
    Take,
    /// Only the first.
    TakeOne,
}
use Event::{Attempt, Bounce, Close, End, Hurry, Mail, Take, TakeOne};

impl Waiting {
    fn after(events: &[Event]) -> Self {
        let mut waiting = Self::default();
        for event in events {
            waiting.meet(event);
        }
        waiting
    }

    fn meet(&mut self, event: &Event) {
        let records = match event {
            Mail => vec![put(1)],
            End => vec![Record::Done(id(1))],
            Attempt => vec![Record::Attempt(attempt(id(1), Vec::new()))],
            Bounce => vec![put(2), Record::Done(id(1))],
            Hurry => return self.hurry(),
            Close => return self.close(),
            Take => return drop(self.take(u64::MAX)),
            TakeOne => return drop(self.take(1)),
        };
        let group = Group {
            records,
            bytes: 1,
            done: Answer::new(Box::new(drop)),
        };
        self.push(group).unwrap();
    }
}

const fn ms(milliseconds: u64) -> Duration {
    Duration::from_millis(milliseconds)
}

#[test]
fn ends_wait_while_mail_is_expected_and_nothing_else_does() {
    for (number, (events, (idle, linger), expected)) in [
        (&[][..], (ms(9), ms(0)), Some(ms(9))),
        (&[], (ms(0), ms(0)), None),
        (&[], (ms(0), ms(2)), None),
        // An end may come, which would have to be stored by then.
        (&[], (ms(9), ms(2)), Some(ms(2))),
        (&[], (ms(1), ms(2)), Some(ms(1))),
        (&[End], (ms(9), ms(2)), Some(ms(2))),
        (&[End, End], (ms(0), ms(2)), Some(ms(2))),
        (&[End], (ms(9), ms(0)), None),
        (&[Mail], (ms(9), ms(2)), None),
        (&[End, Mail], (ms(9), ms(2)), None),
        (&[Mail, End], (ms(9), ms(2)), None),
        (&[Attempt], (ms(9), ms(2)), None),
        (&[Bounce], (ms(9), ms(2)), None),
        (&[End, Hurry], (ms(9), ms(2)), None),
        // There was nothing to hurry with.
        (&[Hurry, End], (ms(9), ms(2)), Some(ms(2))),
        (&[End, Hurry, Take, End], (ms(9), ms(2)), Some(ms(2))),
        // What was beyond the batch is still waited for.
        (&[End, End, Hurry, TakeOne], (ms(9), ms(2)), None),
        (&[End, Hurry, TakeOne, End], (ms(9), ms(2)), Some(ms(2))),
        (&[Mail, End, Take, End], (ms(9), ms(2)), Some(ms(2))),
        (&[End, Close], (ms(9), ms(2)), None),
        (&[Close], (ms(9), ms(0)), None),
    ]
    .into_iter()
    .enumerate()
    {
        let sleep = Waiting::after(events).sleep(idle, linger);
        assert_eq!(sleep, expected, "case {number}");
    }
}

#[test]
fn a_writer_that_sleeps_is_woken_once_and_by_what_it_sleeps_not_through() {
    for (number, (linger, events)) in [
        (ms(0), &[(End, true), (End, false), (Mail, false)][..]),
        (ms(0), &[(Mail, true), (Mail, false)]),
        (
            ms(2),
            &[(End, false), (End, false), (Mail, true), (Mail, false)],
        ),
        (ms(2), &[(Hurry, false), (End, false), (Hurry, true)]),
        (ms(2), &[(Attempt, true), (End, false)]),
        (ms(2), &[(End, false), (Close, true)]),
    ]
    .into_iter()
    .enumerate()
    {
        let mut waiting = Waiting::default();
        assert!(!waiting.wake(), "it is awake");
        assert!(waiting.sleep(ms(9), linger).is_some());
        for (event, wakes) in events {
            waiting.meet(event);
            assert_eq!(waiting.wake(), *wakes, "case {number}");
        }
    }
}

/// A spool whose writer has its thread, and lets ends wait for as long as a test likes.
struct Running {
    spool: Spool,
    writer: Option<JoinHandle<()>>,
}

impl Running {
    /// On a disk that holds message 9.
    fn new() -> Self {
        let disk = SimDisk::default();
        Rig::filled(&disk, 9..=9);
        let (spool, _, mut writer) = open(&disk, SEGMENT);
        assert_eq!(writer.linger, LINGER);
        writer.linger = LONG;
        let writer = Some(std::thread::spawn(move || writer.run()));
        Self { spool, writer }
    }

    /// One to which mail has come: message 1.
    fn busy() -> Self {
        let running = Self::new();
        wait_until_stored(&running.submit(put(1)));
        running
    }

    fn submit(&self, record: Record) -> Receiver<bool> {
        let (answer, answered) = channel();
        let done = move |result: Result<(), CommitError>| answer.send(result.is_ok()).unwrap();
        self.spool.submit(vec![record], done).unwrap();
        answered
    }

    fn syncs(&self) -> u64 {
        self.spool.health().syncs
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.spool.close();
        self.writer.take().unwrap().join().unwrap();
    }
}

/// Waits for the answer, but not for as long as the writer lingers.
fn wait_until_stored(answered: &Receiver<bool>) {
    assert_eq!(answered.recv_timeout(Duration::from_secs(60)), Ok(true));
}

#[test]
fn the_end_of_a_message_shares_the_flush_of_the_next_message() {
    let running = Running::busy();
    let before = running.syncs();
    let end = running.submit(Record::Done(id(1)));
    wait_until_stored(&running.submit(put(2)));
    wait_until_stored(&end);
    assert_eq!(running.syncs(), before + 1);
}

#[test]
fn who_hurries_does_not_wait_for_mail() {
    let running = Running::busy();
    let end = running.submit(Record::Done(id(1)));
    running.spool.hurry();
    wait_until_stored(&end);
}

#[test]
fn the_end_of_the_spool_does_not_wait_for_mail() {
    let running = Running::busy();
    let end = running.submit(Record::Done(id(1)));
    running.spool.close();
    wait_until_stored(&end);
}

#[test]
fn what_is_tried_again_does_not_wait_for_mail() {
    let running = Running::busy();
    wait_until_stored(&running.submit(Record::Attempt(attempt(id(1), Vec::new()))));
}

#[test]
fn where_no_mail_has_come_none_is_waited_for() {
    let running = Running::new();
    wait_until_stored(&running.submit(Record::Done(id(9))));
}

#[test]
fn where_nothing_waits_for_a_flush_no_mail_is_waited_for() {
    let (_, _, writer) = open_in(&SimDisk::default(), SEGMENT, RELAXED);
    assert_eq!(writer.linger, Duration::ZERO);
}
