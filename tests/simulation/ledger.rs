//! What clients were promised and what became of it, told by those outside the relay.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::rc::Rc;
use std::time::Duration;

/// What happened to a recipient at a next hop.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Fate {
    Delivered,
    /// A report says that it failed.
    Bounced,
}

/// Whether the relay was told that the next hop has taken the message.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Answer {
    Given,
    Withheld,
}

/// What the relay said that it had done with a message when it took it.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Kept {
    Queued,
    PassedOn,
}

/// A client's 250 for a recipient.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Acceptance {
    pub(crate) at: Duration,
    pub(crate) kept: Kept,
}

/// A message at a next hop, for one recipient.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Arrival {
    pub(crate) at: Duration,
    pub(crate) fate: Fate,
    pub(crate) answer: Answer,
}

/// A time in which something is wrong.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Trouble {
    pub(crate) from: Duration,
    pub(crate) until: Duration,
}

#[derive(Debug, Default)]
struct Book {
    content: BTreeMap<u64, Vec<u8>>,
    accepted: BTreeMap<String, Acceptance>,
    arrivals: BTreeMap<String, Vec<Arrival>>,
    troubles: Vec<Trouble>,
    unflushed: Vec<Trouble>,
    power_cuts: Vec<Duration>,
    wrong: Vec<String>,
    story: Vec<String>,
}

/// The ledger. Clones share it.
#[derive(Clone, Debug, Default)]
pub(crate) struct Ledger(Rc<RefCell<Book>>);

impl Ledger {
    /// Something happened.
    pub(crate) fn tell(&self, at: Duration, what: &str) {
        let line = format!("{:9.3} {what}", at.as_secs_f64());
        self.0.borrow_mut().story.push(line);
    }

    /// A message is about to be sent.
    pub(crate) fn sent(&self, number: u64, content: &[u8]) {
        self.0.borrow_mut().content.insert(number, content.to_vec());
    }

    /// A client was told that the relay has taken a message for a recipient.
    pub(crate) fn accepted(&self, recipient: &str, acceptance: Acceptance) {
        let recipient = recipient.to_owned();
        self.0.borrow_mut().accepted.insert(recipient, acceptance);
    }

    /// A message has come to a next hop.
    pub(crate) fn arrived(&self, recipient: &str, content: &[u8], arrival: Arrival) {
        let mut book = self.0.borrow_mut();
        let number = number(recipient);
        let whole = number
            .and_then(|number| book.content.get(&number))
            .is_some_and(|sent| content.ends_with(sent));
        if !whole && arrival.fate == Fate::Delivered {
            book.wrong.push(format!("not what was sent to {recipient}"));
        }
        let arrivals = book.arrivals.entry(recipient.to_owned()).or_default();
        arrivals.push(arrival);
    }

    /// For a time something can keep the relay from knowing what it did.
    pub(crate) fn trouble(&self, from: Duration, until: Duration) {
        self.0.borrow_mut().troubles.push(Trouble { from, until });
    }

    /// For a time nothing may have been flushed: no process ran, or the disk failed.
    pub(crate) fn unflushed(&self, from: Duration, until: Duration) {
        self.0.borrow_mut().unflushed.push(Trouble { from, until });
    }

    /// The power of the relay's machine went.
    pub(crate) fn power_cut(&self, at: Duration) {
        self.0.borrow_mut().power_cuts.push(at);
    }

    pub(crate) fn accepted_recipients(&self) -> BTreeMap<String, Acceptance> {
        self.0.borrow().accepted.clone()
    }

    /// When the power went.
    pub(crate) fn power_cuts(&self) -> Vec<Duration> {
        self.0.borrow().power_cuts.clone()
    }

    /// When nothing may have been flushed.
    pub(crate) fn times_unflushed(&self) -> Vec<Trouble> {
        self.0.borrow().unflushed.clone()
    }

    pub(crate) fn arrivals(&self) -> BTreeMap<String, Vec<Arrival>> {
        self.0.borrow().arrivals.clone()
    }

    pub(crate) fn troubles(&self) -> Vec<Trouble> {
        self.0.borrow().troubles.clone()
    }

    pub(crate) fn wrong(&self) -> Vec<String> {
        self.0.borrow().wrong.clone()
    }

    pub(crate) fn story(&self) -> String {
        self.0.borrow().story.join("\n")
    }
}

/// Recipients are called after their message: `m17-0@...`.
pub(crate) fn recipient(message: u64, index: u64, domain: &str) -> String {
    format!("m{message}-{index}@{domain}")
}

fn number(recipient: &str) -> Option<u64> {
    let (number, _) = recipient.strip_prefix('m')?.split_once('-')?;
    number.parse().ok()
}
