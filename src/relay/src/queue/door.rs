//! A connection's door to the work at its destination.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::Notify;
use tokio::time::Instant;

use super::{Queue, State};
use crate::clock;
use crate::schedule::{Idle, Opening, Place, Taken, Ticket};

/// Pause between two looks for what a piece is in the way of: what becomes ready wakes only who waits for work.
const LOOK_PAUSE: Duration = Duration::from_secs(1);

/// For how long a piece is in the way where it is not known of what: a connection tries so many pieces a second that nothing else suffers.
const TRY_PAUSE: Duration = Duration::from_millis(50);

/// After so long a message gives way no more, if it is the first of its kind of its tenant to wait, and other mail has another connection: where
/// there is always other mail, what is large would never stand in line until it is its turn.
const GIVES_WAY_FOR: Duration = Duration::from_secs(10 * 60);

/// For so long a connection that has taken a piece is there for what comes next. One that is not through with it by then may be at a server that
/// hangs, or at a large message for an hour.
const GOES_ON_FOR: Duration = Duration::from_secs(60);

/// A connection for a destination, from the attempt to open it on. It counts until it is dropped, however that comes about.
pub struct Door {
    queue: Queue,
    place: Place,
    number: u32,
    work: Arc<Notify>,
    opening: Opening,
}

/// The connections of a destination.
#[derive(Default)]
pub(super) struct Doors {
    /// What each is at, by its number.
    all: BTreeMap<u32, Doing>,
    next: u32,
    /// Wakes one that waits for work.
    pub(super) work: Arc<Notify>,
}

/// What a connection is at.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Doing {
    /// It is being opened.
    Opening,
    /// It takes pieces; it took one, or waited for it, last then.
    Serving(Instant),
    /// It waits for room for a piece and gives way to no other.
    Staying,
}

impl Doors {
    /// Whether another than this is there for the mail that is ready.
    fn goes_on_beside(&self, number: u32) -> bool {
        let mut others = self.all.iter().filter(|(other, _)| **other != number);
        others.any(|(_, doing)| match doing {
            Doing::Opening | Doing::Staying => false,
            Doing::Serving(since) => since.elapsed() < GOES_ON_FOR,
        })
    }
}

impl Queue {
    /// For a connection that the schedule counts as being opened.
    pub(super) fn door(&self, place: Place) -> Door {
        let mut state = self.state();
        let doors = state.doors.entry(place).or_default();
        let number = doors.next;
        doors.next = number.wrapping_add(1);
        doors.all.insert(number, Doing::Opening);
        Door {
            queue: self.clone(),
            place,
            number,
            work: Arc::clone(&doors.work),
            opening: Opening::GaveUp,
        }
    }
}

impl Door {
    /// The destination.
    #[must_use]
    pub fn place(&self) -> Place {
        self.place
    }

    /// The connection is about to take its first piece.
    pub fn connected(&mut self) {
        if self.opening == Opening::GaveUp {
            self.opening = Opening::Done;
            let mut state = self.queue.state();
            self.go_on(&mut state);
            state.schedule.connected(self.place, clock::now_ms());
            self.queue.ask_for_more(&state, self.place);
        }
    }

    /// Takes the piece whose turn it is.
    #[must_use]
    pub fn take(&self) -> Option<Taken> {
        let mut state = self.queue.state();
        let taken = state.schedule.take(self.place, clock::now_ms());
        self.queue.wake(&mut state);
        if taken.is_some() {
            self.go_on(&mut state);
            // There may be more to do than the connections can that there are.
            self.queue.ask_for_more(&state, self.place);
        }
        taken
    }

    /// Waits until the connection had better take another piece than this, which has no room in memory: one that is ready at the destination,
    /// whosever it is, and would get its room now. Where more is ready than is looked at, that is found by trying one after the other.
    ///
    /// That may never be for one message of a tenant that has nothing like it in memory: it gets its turn only where it waits. Nor for one that has
    /// given way for long enough, or that waits before there is a connection to send it over, while another connection goes on with the rest. Nor for
    /// one whose `lifetime` is over: nobody would send it, nor return it, where the destination works. To be called before it waits.
    pub fn others_are_ready(&self, taken: &Taken, lifetime: Duration) -> impl Future<Output = ()> {
        let Taken { ticket, entry } = taken;
        let (ticket, account) = (*ticket, entry.account.clone());
        let bytes = entry.footprint();
        let is_first = !self.queue.memory().has_line(&account, bytes);
        let (since_ms, now_ms) = (entry.since_ms, clock::now_ms());
        let is_old = clock::after(since_ms, GIVES_WAY_FOR) <= now_ms;
        let is_over = clock::after(since_ms, lifetime) <= now_ms;
        async move {
            let memory = self.queue.memory();
            let mut right = match is_over && self.opening == Opening::Done {
                true => Stay::Always,
                false => Stay::Never,
            };
            let mut staying = None;
            loop {
                if is_first && right != Stay::Always {
                    let is_only = !memory.has_any_like(&account, bytes);
                    right = match self.opening {
                        // For good: it would lose what it has waited.
                        Opening::Done if is_only => Stay::Always,
                        _ if is_only || is_old => Stay::BesideOthers,
                        _ => Stay::Never,
                    };
                }
                drop(staying.take());
                staying = Staying::begin(self, right);
                let better = match staying {
                    Some(_) => Some(false),
                    None => self.is_better_ready(ticket),
                };
                match better {
                    Some(true) => return,
                    Some(false) => tokio::time::sleep(LOOK_PAUSE).await,
                    None => return tokio::time::sleep(TRY_PAUSE).await,
                }
            }
        }
    }

    /// It is there for the next piece; what is still being opened only looks whether any is worth that.
    fn go_on(&self, state: &mut State) {
        let doing = match self.opening {
            Opening::GaveUp => Doing::Opening,
            Opening::Done => Doing::Serving(Instant::now()),
        };
        self.note(state, doing);
    }

    fn note(&self, state: &mut State, doing: Doing) {
        let doors = state.doors.get_mut(&self.place);
        if let Some(mine) = doors.and_then(|doors| doors.all.get_mut(&self.number)) {
            *mine = doing;
        }
    }

    fn is_better_ready(&self, ticket: Ticket) -> Option<bool> {
        let memory = self.queue.memory();
        let state = self.queue.state();
        state
            .schedule
            .any_ready(ticket, |account, bytes| memory.has_room(account, bytes))
    }

    /// Waits for work for so long. Says whether there may be some.
    pub async fn wait(&self, patience: Duration) -> bool {
        let Some(_idle) = Waiting::begin(self) else {
            return true;
        };
        tokio::time::timeout(patience, self.work.notified())
            .await
            .is_ok()
    }
}

impl Queue {
    fn ask_for_more(&self, state: &State, place: Place) {
        if state.may_open(place) {
            self.nudge();
        }
    }
}

impl Drop for Door {
    fn drop(&mut self) {
        let mut state = self.queue.state();
        let state = &mut *state;
        if let Some(doors) = state.doors.get_mut(&self.place) {
            doors.all.remove(&self.number);
            if doors.all.is_empty() {
                state.doors.remove(&self.place);
                state.blocked.remove(&self.place);
            }
        }
        state
            .schedule
            .closed(self.place, self.opening, clock::now_ms());
        self.queue.nudge();
    }
}

/// A connection that waits for work, until dropped.
struct Waiting<'a>(&'a Door);

impl<'a> Waiting<'a> {
    /// `None` if there is work already: what comes after this look wakes who waits.
    fn begin(door: &'a Door) -> Option<Self> {
        let mut state = door.queue.state();
        if state.schedule.has_ready(door.place) {
            return None;
        }
        state
            .schedule
            .idle(door.place, Idle::Begins, clock::now_ms());
        door.go_on(&mut state);
        Some(Self(door))
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        let mut state = self.0.queue.state();
        state
            .schedule
            .idle(self.0.place, Idle::Ends, clock::now_ms());
    }
}

/// Whether a piece that waits for room may keep its connection from other mail.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Stay {
    Never,
    /// As long as another connection of the destination goes on with that.
    BesideOthers,
    Always,
}

/// A connection that gives way to no other mail, until dropped.
struct Staying<'a>(&'a Door);

impl<'a> Staying<'a> {
    /// `None` if it may not.
    fn begin(door: &'a Door, right: Stay) -> Option<Self> {
        let mut state = door.queue.state();
        let may_stay = match right {
            Stay::Never => false,
            Stay::BesideOthers => state.doors.get(&door.place)?.goes_on_beside(door.number),
            Stay::Always => true,
        };
        may_stay.then(|| {
            door.note(&mut state, Doing::Staying);
            Self(door)
        })
    }
}

impl Drop for Staying<'_> {
    fn drop(&mut self) {
        let mut state = self.0.queue.state();
        self.0.go_on(&mut state);
    }
}
