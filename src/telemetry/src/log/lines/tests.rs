use std::sync::mpsc::{Receiver, Sender, channel};

use super::*;

/// Gives each write to the test, and waits until it may go on.
struct Output {
    written: Sender<Vec<u8>>,
    go_on: Receiver<()>,
}

impl Write for Output {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        // Once the test has ended, nothing is held up.
        let _ = self.written.send(bytes.to_vec());
        let _ = self.go_on.recv();
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

struct Rig {
    lines: Lines,
    written: Receiver<Vec<u8>>,
    go_on: Sender<()>,
    lost: Receiver<u64>,
    /// The last to be dropped: it waits for the thread.
    guard: Guard,
}

impl Rig {
    fn new() -> Self {
        let (written, seen) = channel();
        let (go_on, permission) = channel();
        let (report, lost) = channel();
        let output = Output {
            written,
            go_on: permission,
        };
        let report = move |count| report.send(count).unwrap();
        let (lines, guard) = start(output, report).unwrap();
        Self {
            lines,
            written: seen,
            go_on,
            lost,
            guard,
        }
    }

    fn written(&self) -> Vec<u8> {
        self.written.recv().unwrap()
    }
}

#[test]
fn lines_that_come_while_others_are_written_are_written_at_once() {
    let rig = Rig::new();
    rig.lines.add(b"first\n");
    assert_eq!(rig.written(), b"first\n");
    for number in 0..3 {
        let line = format!("{number}\n");
        rig.lines.clone().write_all(line.as_bytes()).unwrap();
    }
    rig.go_on.send(()).unwrap();
    assert_eq!(rig.written(), b"0\n1\n2\n");
}

#[test]
fn a_reader_that_stops_costs_lines_and_no_time_and_it_is_said_how_many() {
    let rig = Rig::new();
    rig.lines.add(b"first\n");
    rig.written();
    // Nobody reads: were anybody to wait for that, this would not end.
    let line = vec![b'x'; WAITING_BYTES_MAX / 4];
    for _ in 0..6 {
        rig.lines.add(&line);
    }
    assert_eq!(rig.lost.try_recv().ok(), None);
    rig.go_on.send(()).unwrap();
    assert_eq!(rig.written().len(), WAITING_BYTES_MAX);
    rig.lines.add(b"last\n");
    rig.go_on.send(()).unwrap();
    assert_eq!(rig.lost.recv(), Ok(2));
    assert_eq!(rig.written(), b"last\n");
    let capacity = rig.lines.waiting().bytes.capacity();
    assert!(capacity <= KEPT_BYTES_MAX, "{capacity} bytes kept");
}

#[test]
fn what_waits_is_written_at_the_end() {
    let rig = Rig::new();
    rig.go_on.send(()).unwrap();
    rig.lines.add(b"last\n");
    drop(rig.guard);
    assert_eq!(rig.written.try_recv().unwrap(), b"last\n");
}

#[test]
fn an_end_without_lines_is_an_end() {
    let rig = Rig::new();
    drop(rig.guard);
    assert!(rig.lines.waiting().has_ended);
    assert!(rig.written.try_recv().is_err());
}
