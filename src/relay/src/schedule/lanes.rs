//! What is ready for a destination, in the order in which it goes: by turns, in each turn by priority, then first come, first served.
//!
//! Each login has a turn. All mail that came without one has one together, because its senders are what they say they are; so have all
//! reports, whoever they count for. Whoever sends a hundred thousand messages, or gives each the highest priority, delays nobody else's. Of three classes of
//! priority (RFC 6710) the higher goes first most of the time, and the lower never waits for ever: see [`WEIGHTS`].

use std::collections::HashMap;
use std::iter::successors;

use super::message::Piece;
use crate::names::Name;
use crate::slab::{Link, Linked, List, Slab};

/// Of so many pieces of one turn in a row that go to a destination, so many are of each class, if there are any.
pub(super) const WEIGHTS: [u8; 3] = [16, 4, 1];

/// How urgent something is; the index of its weight.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub(super) enum Class {
    High = 0,
    Normal = 1,
    Low = 2,
}

impl Class {
    /// Of MT-PRIORITY, -9 to 9. The levels are those of the policy MIXER (-4, 0, 4); what lies between two counts as the higher, and what is
    /// above all of them as the highest (RFC 6710 §5).
    pub(super) fn of(priority: i8) -> Self {
        match priority {
            1.. => Self::High,
            -3..=0 => Self::Normal,
            ..=-4 => Self::Low,
        }
    }
}

/// Whose turn it is at a destination, and whose a connection to it. What mail takes counts by [`crate::room::Account`] instead.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub(super) enum Turn {
    /// Who has this login.
    Login(Name),
    /// All who have none.
    Network,
    /// Reports, on anybody's mail.
    Reports,
}

impl Turn {
    /// The name to be kept as long as the turn is.
    pub(super) fn names(self) -> impl Iterator<Item = Name> {
        match self {
            Self::Login(name) => Some(name),
            Self::Network | Self::Reports => None,
        }
        .into_iter()
    }
}

/// Whose piece it is and how urgent.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) struct Label {
    pub(super) turn: Turn,
    pub(super) class: Class,
}

/// What is ready for one destination.
#[derive(Debug, Default)]
pub(super) struct Ready {
    /// A lane for each turn; the first is next.
    lanes: List,
    count: u32,
}

impl Ready {
    /// How many pieces are ready.
    pub(super) fn count(&self) -> u32 {
        self.count
    }
}

/// The pieces of one turn that are ready for one destination. Never empty.
#[derive(Debug)]
pub(super) struct Lane {
    link: Link,
    turn: Turn,
    classes: [List; 3],
    /// How many more of each class go before the others have their turn.
    credit: [u8; 3],
    /// How often it has had its turn; wraps around.
    turns: u8,
}

/// A lane before its next turn, as long as that has not come.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) struct Upcoming {
    turn: Turn,
    turns: u8,
}

impl Linked for Lane {
    fn link(&mut self) -> &mut Link {
        &mut self.link
    }
}

impl Lane {
    fn is_empty(&self) -> bool {
        self.classes.iter().all(|class| class.is_empty())
    }

    /// Takes the piece whose turn it is.
    fn pop(&mut self, pieces: &mut Slab<Piece>) -> Option<u32> {
        let class = self.turn().or_else(|| {
            self.credit = WEIGHTS;
            self.turn()
        })?;
        self.credit[class] -= 1;
        self.classes[class].pop(pieces)
    }

    /// The highest class that has a piece and credit.
    fn turn(&self) -> Option<usize> {
        (0..3).find(|class| !self.classes[*class].is_empty() && self.credit[*class] > 0)
    }
}

/// The lanes of all destinations.
#[derive(Debug, Default)]
pub(super) struct Lanes {
    lanes: Slab<Lane>,
    numbers: HashMap<(u32, Turn), u32>,
}

impl Lanes {
    /// Most memory for a lane, in bytes; the map is half empty at times.
    pub(super) const LANE_BYTES: u64 =
        Slab::<Lane>::ENTRY_BYTES + 2 * (size_of::<((u32, Turn), u32)>() + 1) as u64;

    /// Those with pieces that are ready for a destination, the next first.
    pub(super) fn turns(&self, ready: &Ready) -> impl Iterator<Item = Turn> + '_ {
        let first = self.lanes.get(ready.lanes.first());
        let lanes = successors(first, |lane| self.lanes.get(lane.link.next()));
        lanes.map(|lane| lane.turn)
    }

    /// The pieces that are ready for a destination, tenant by tenant.
    pub(super) fn pieces<'a>(
        &'a self,
        pieces: &'a Slab<Piece>,
        ready: &Ready,
    ) -> impl Iterator<Item = &'a Piece> {
        let first = self.lanes.get(ready.lanes.first());
        let lanes = successors(first, |lane| self.lanes.get(lane.link.next()));
        let lists = lanes.flat_map(|lane| lane.classes.iter());
        lists.flat_map(move |list| {
            successors(pieces.get(list.first()), |piece| {
                pieces.get(piece.link.next())
            })
        })
    }

    /// Adds a piece that is in no list.
    pub(super) fn push(
        &mut self,
        pieces: &mut Slab<Piece>,
        (place, ready): (u32, &mut Ready),
        label: Label,
        piece: u32,
    ) {
        let Label { turn, class } = label;
        let lane = *self.numbers.entry((place, turn)).or_insert_with(|| {
            let lane = self.lanes.insert(Lane {
                link: Link::default(),
                turn,
                classes: [List::default(); 3],
                credit: WEIGHTS,
                turns: 0,
            });
            ready.lanes.push(&mut self.lanes, lane);
            lane
        });
        self.lanes[lane].classes[class as usize].push(pieces, piece);
        ready.count += 1;
    }

    /// Brings a piece that is ready to where it goes before another of this label, or first of all if there is no other to name.
    pub(super) fn move_before(
        &mut self,
        pieces: &mut Slab<Piece>,
        (place, label): (u32, Label),
        piece: u32,
        behind: Option<u32>,
    ) {
        let Some(&number) = self.numbers.get(&(place, label.turn)) else {
            return;
        };
        let list = &mut self.lanes[number].classes[label.class as usize];
        list.remove(pieces, piece);
        let behind = behind.unwrap_or(list.first());
        list.insert_before(pieces, piece, behind);
    }

    /// Whether anything of a turn is ready for a destination.
    pub(super) fn has(&self, place: u32, turn: Turn) -> bool {
        self.numbers.contains_key(&(place, turn))
    }

    /// Whose turn comes after this; `None` if it is the last in the round.
    pub(super) fn after(&self, place: u32, turn: Turn) -> Option<Upcoming> {
        let number = *self.numbers.get(&(place, turn))?;
        let next = self.lanes.get(self.lanes[number].link.next())?;
        Some(Upcoming {
            turn: next.turn,
            turns: next.turns,
        })
    }

    /// Brings a turn to where it comes before another, or first of all if that has come meanwhile.
    pub(super) fn move_turn_before(
        &mut self,
        (place, ready): (u32, &mut Ready),
        turn: Turn,
        next: Upcoming,
    ) {
        let Some(&number) = self.numbers.get(&(place, turn)) else {
            return;
        };
        ready.lanes.remove(&mut self.lanes, number);
        let next_number = self.numbers.get(&(place, next.turn)).copied();
        let before = next_number.filter(|number| self.lanes[*number].turns == next.turns);
        let before = before.unwrap_or(ready.lanes.first());
        ready.lanes.insert_before(&mut self.lanes, number, before);
    }

    /// Takes the piece whose turn it is.
    pub(super) fn pop(
        &mut self,
        pieces: &mut Slab<Piece>,
        (place, ready): (u32, &mut Ready),
    ) -> Option<u32> {
        let number = ready.lanes.pop(&mut self.lanes)?;
        let lane = &mut self.lanes[number];
        let piece = lane.pop(pieces);
        ready.count -= 1;
        if lane.is_empty() {
            let turn = lane.turn;
            self.lanes.remove(number);
            self.numbers.remove(&(place, turn));
        } else {
            // Behind the others.
            lane.turns = lane.turns.wrapping_add(1);
            ready.lanes.push(&mut self.lanes, number);
        }
        piece
    }

    /// Takes out a piece that is ready.
    pub(super) fn remove(
        &mut self,
        pieces: &mut Slab<Piece>,
        (place, ready): (u32, &mut Ready),
        label: Label,
        piece: u32,
    ) {
        let Label { turn, class } = label;
        let Some(&number) = self.numbers.get(&(place, turn)) else {
            return;
        };
        let lane = &mut self.lanes[number];
        lane.classes[class as usize].remove(pieces, piece);
        ready.count -= 1;
        if lane.is_empty() {
            ready.lanes.remove(&mut self.lanes, number);
            self.lanes.remove(number);
            self.numbers.remove(&(place, turn));
        }
    }
}
