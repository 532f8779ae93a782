//! What clients were promised and what became of it, told by those outside the relay.

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};
use std::rc::Rc;
use std::time::Duration;

use crate::intervention::{
    self, Intervention, Interventions, REROUTED_DOMAIN, REROUTED_HOP, Stands,
};
use crate::letter::{Carried, Letter};

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
    pub(crate) reports: Reports,
}

/// Whether a next hop reports on what it takes: on that the relay does not.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Reports {
    Here,
    Nobody,
}

/// A time in which something is wrong.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Trouble {
    pub(crate) from: Duration,
    pub(crate) until: Duration,
}

#[derive(Debug, Default)]
struct Book {
    letters: BTreeMap<u64, Letter>,
    /// Recipients and senders to whom a next hop has said no for good.
    refused: BTreeSet<String>,
    /// Recipients of whom a report says that they were passed on.
    relayed: BTreeSet<String>,
    /// Recipients of whom a report says that they have not got it in time. One that should have come and did not is missed by nobody: whether it was
    /// due depends on when mail went on.
    delayed: BTreeSet<String>,
    /// Recipients whose message came once their client wanted it to.
    awaited: BTreeSet<String>,
    /// Recipients of whom a report says that their message was returned by hand.
    returned: BTreeSet<String>,
    /// Recipients whose message took another way for a while.
    rerouted: BTreeSet<String>,
    interventions: Interventions,
    /// Recipients whose message came otherwise than it was sent, as the next hop wanted it.
    converted: BTreeSet<String>,
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
    pub(crate) fn sent(&self, number: u64, letter: Letter) {
        self.0.borrow_mut().letters.insert(number, letter);
    }

    /// A client was told that the relay has taken a message for a recipient.
    pub(crate) fn accepted(&self, recipient: &str, acceptance: Acceptance) {
        let recipient = recipient.to_owned();
        self.0.borrow_mut().accepted.insert(recipient, acceptance);
    }

    /// A message has come to a next hop.
    pub(crate) fn arrived(&self, recipient: &str, carried: &Carried<'_>, arrival: Arrival) {
        let mut book = self.0.borrow_mut();
        let faults = book.faults(recipient, carried, arrival.at);
        book.wrong.extend(faults);
        let letter = book.letter(recipient);
        let is_converted = letter.is_some_and(|letter| letter.is_converted_to(carried.content));
        let is_awaited = letter.is_some_and(|letter| letter.hold.is_some());
        let is_rerouted = !book.is_usual(recipient, carried);
        if is_converted {
            book.converted.insert(recipient.to_owned());
        }
        if is_awaited {
            book.awaited.insert(recipient.to_owned());
        }
        if is_rerouted {
            book.rerouted.insert(recipient.to_owned());
        }
        book.arrive(recipient, arrival);
    }

    /// Somebody wants something else to be done with mail that waits.
    pub(crate) fn begin(&self, what: Intervention, at: Duration) {
        self.0.borrow_mut().interventions.begin(what, at);
    }

    /// And no longer.
    pub(crate) fn end(&self, what: Intervention, at: Duration) {
        self.0.borrow_mut().interventions.end(what, at);
    }

    /// A report that has come says that a message was returned by hand.
    pub(crate) fn returned(&self, recipient: &str, at: Duration) {
        let mut book = self.0.borrow_mut();
        let domain = intervention::domain(recipient);
        let is_meant = |domain| {
            book.interventions
                .has_begun(Intervention::Bounce(domain), at)
        };
        if !domain.is_some_and(is_meant) {
            let error = format!("{recipient} was returned by hand, and nobody wanted it");
            book.wrong.push(error);
        }
        book.returned.insert(recipient.to_owned());
    }

    /// A report has come to a next hop, for `to`, that says that a recipient failed.
    pub(crate) fn bounced(&self, recipient: &str, to: &str, arrival: Arrival) {
        let mut book = self.0.borrow_mut();
        let letter = book.letter(recipient);
        if !letter.is_some_and(|letter| letter.wants_failure(recipient, to)) {
            let error = format!("{to} is told of {recipient}, and did not want to be");
            book.wrong.push(error);
        }
        book.arrive(recipient, arrival);
    }

    /// A report has come to a next hop, for `to`, that says that a recipient was passed on to where nobody reports on it.
    pub(crate) fn relayed(&self, recipient: &str, to: &str) {
        let mut book = self.0.borrow_mut();
        let letter = book.letter(recipient);
        let is_wanted = letter.is_some_and(|letter| letter.wants_success(recipient, to));
        let arrivals = book.arrivals.get(recipient);
        let is_there =
            arrivals.is_some_and(|all| all.iter().any(|arrival| arrival.fate == Fate::Delivered));
        if !(is_wanted && is_there) {
            let error = format!("{to} is told that {recipient} was passed on, and should not be");
            book.wrong.push(error);
        }
        book.relayed.insert(recipient.to_owned());
    }

    /// A report has come to a next hop, for `to`, that says that a recipient has not got it yet.
    pub(crate) fn delayed(&self, recipient: &str, to: &str) {
        let mut book = self.0.borrow_mut();
        let letter = book.letter(recipient);
        if letter.is_some_and(|letter| letter.wants_delay(recipient, to)) {
            book.delayed.insert(recipient.to_owned());
        } else {
            let error = format!("{to} is told that {recipient} is late, and should not be");
            book.wrong.push(error);
        }
    }

    /// Of how many recipients a report says that they are late.
    pub(crate) fn delayed_recipients(&self) -> usize {
        self.0.borrow().delayed.len()
    }

    /// A report has come that nobody can have asked for.
    pub(crate) fn wrong_report(&self, recipient: &str, action: &str) {
        let error = format!("a report says that {recipient} is {action}");
        self.0.borrow_mut().wrong.push(error);
    }

    /// A next hop has said no for good to a recipient, or to a sender.
    pub(crate) fn refused(&self, address: &str) {
        self.0.borrow_mut().refused.insert(address.to_owned());
    }

    /// Whether a recipient may be gone without a word: it was refused, or its sender was, or it was returned by hand, and nobody wants to hear of it.
    pub(crate) fn is_given_up(&self, recipient: &str) -> bool {
        let book = self.0.borrow();
        book.letter(recipient).is_some_and(|letter| {
            let is_refused =
                book.refused.contains(recipient) || book.refused.contains(&letter.sender);
            let is_gone = is_refused || book.may_be_returned(recipient);
            is_gone && !letter.wants_failure(recipient, &letter.sender)
        })
    }

    /// Whether the message to a recipient came with a login.
    pub(crate) fn has_login(&self, recipient: &str) -> bool {
        let book = self.0.borrow();
        let letter = book.letter(recipient);
        letter.is_some_and(|letter| letter.login.is_some())
    }

    /// Of how many recipients a report says that they were passed on.
    pub(crate) fn relayed_recipients(&self) -> usize {
        self.0.borrow().relayed.len()
    }

    /// How many recipients have got a message once its client wanted it to come.
    pub(crate) fn awaited_recipients(&self) -> usize {
        self.0.borrow().awaited.len()
    }

    /// Of how many recipients a report says that they were returned by hand.
    pub(crate) fn returned_recipients(&self) -> usize {
        self.0.borrow().returned.len()
    }

    /// How many recipients have got a message that took another way than usual.
    pub(crate) fn rerouted_recipients(&self) -> usize {
        self.0.borrow().rerouted.len()
    }

    /// How many recipients have got a message that had been converted.
    pub(crate) fn converted_recipients(&self) -> usize {
        self.0.borrow().converted.len()
    }

    /// How many senders a next hop has said no to for good.
    pub(crate) fn rejected_senders(&self) -> usize {
        let book = self.0.borrow();
        let senders = book.refused.iter();
        senders.filter(|one| number(one).is_none()).count()
    }

    /// Whether a report that a recipient was passed on is still owed, if it has been.
    pub(crate) fn owes_relayed(&self, recipient: &str) -> bool {
        let book = self.0.borrow();
        let letter = book.letter(recipient);
        letter.is_some_and(|letter| letter.wants_success(recipient, &letter.sender))
            && !book.relayed.contains(recipient)
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

impl Book {
    fn letter(&self, recipient: &str) -> Option<&Letter> {
        self.letters.get(&number(recipient)?)
    }

    /// What is wrong about a message that comes.
    fn faults(&self, recipient: &str, carried: &Carried<'_>, at: Duration) -> Vec<String> {
        let letter = self.letter(recipient);
        let is_right = letter.is_some_and(|letter| letter.is_carried_right(recipient, carried));
        let is_early = letter.is_some_and(|letter| letter.is_held_at(at));
        let domain = intervention::domain(recipient);
        let holds = |domain| {
            let stands = self.interventions.stands(Intervention::Hold(domain), at);
            stands == Stands::Surely
        };
        let mut faults = Vec::new();
        if !is_right || !self.is_led_right(recipient, carried, at) {
            faults.push(format!("not what was sent to {recipient}"));
        }
        if is_early {
            faults.push(format!("{recipient} came before its time"));
        }
        if domain.is_some_and(holds) {
            faults.push(format!("{recipient} came although it is held"));
        }
        faults
    }

    /// Whether this is where mail for a recipient goes, unless somebody intervenes.
    fn is_usual(&self, recipient: &str, carried: &Carried<'_>) -> bool {
        let login = self.letter(recipient).and_then(|letter| letter.login);
        let (_, domain) = recipient.split_once('@').unwrap_or_default();
        carried.routing.leads_to(carried.hop, domain, login)
    }

    fn is_led_right(&self, recipient: &str, carried: &Carried<'_>, at: Duration) -> bool {
        let is_usual = self.is_usual(recipient, carried);
        if intervention::domain(recipient) != Some(REROUTED_DOMAIN) {
            return is_usual;
        }
        let is_other = carried.hop == REROUTED_HOP;
        match self.interventions.stands(Intervention::Reroute, at) {
            Stands::No => is_usual,
            Stands::Perhaps => is_usual || is_other,
            Stands::Surely => is_other,
        }
    }

    /// Whether it may have been there while such mail was returned by hand.
    fn may_be_returned(&self, recipient: &str) -> bool {
        let domain = intervention::domain(recipient);
        let accepted = self.accepted.get(recipient);
        let (Some(domain), Some(accepted)) = (domain, accepted) else {
            return false;
        };
        let bounce = Intervention::Bounce(domain);
        self.interventions.meets(bounce, accepted.at)
    }

    fn arrive(&mut self, recipient: &str, arrival: Arrival) {
        let arrivals = self.arrivals.entry(recipient.to_owned()).or_default();
        arrivals.push(arrival);
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
