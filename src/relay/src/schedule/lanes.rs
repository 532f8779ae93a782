//! What is ready for a destination, in the order in which it goes: by priority, then each tenant in turn, then first come, first
//! served.
//!
//! A tenant is a login, or the domain of the sender where there was none: one that sends a hundred thousand messages delays nobody else's.
//! Of three classes of priority (RFC 6710) the higher goes first most of the time, and the lower never waits for ever: see [`WEIGHTS`].

use std::collections::HashMap;

use super::message::Piece;
use crate::names::Name;
use crate::slab::{Link, Linked, List, Slab};

/// Of so many pieces in a row that go to a destination, so many are of each class, if there are any.
pub(super) const WEIGHTS: [u8; 3] = [16, 4, 1];

/// How urgent something is; the index of its weight.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub(super) enum Class {
    High = 0,
    Normal = 1,
    Low = 2,
}

impl Class {
    /// Of MT-PRIORITY, -9 to 9.
    pub(super) fn of(priority: i8) -> Self {
        match priority {
            1.. => Self::High,
            0 => Self::Normal,
            ..0 => Self::Low,
        }
    }
}

/// Whose piece it is and how urgent.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub(super) struct Label {
    pub(super) tenant: Name,
    pub(super) class: Class,
}

/// What is ready for one destination.
#[derive(Debug)]
pub(super) struct Ready {
    /// Lanes of each class; the first is next.
    classes: [List; 3],
    /// How many more of each class go before the others have their turn.
    credit: [u8; 3],
    count: u32,
}

impl Default for Ready {
    fn default() -> Self {
        Self {
            classes: [List::default(); 3],
            credit: WEIGHTS,
            count: 0,
        }
    }
}

impl Ready {
    /// How many pieces are ready.
    pub(super) fn count(&self) -> u32 {
        self.count
    }

    /// The class whose turn it is.
    fn turn(&mut self) -> Option<usize> {
        if self.count == 0 {
            return None;
        }
        let has_turn = |ready: &Self, class: &usize| {
            !ready.classes[*class].is_empty() && ready.credit[*class] > 0
        };
        let turn = (0..3).find(|class| has_turn(self, class));
        turn.or_else(|| {
            self.credit = WEIGHTS;
            (0..3).find(|class| has_turn(self, class))
        })
    }
}

/// The pieces of one tenant in one class that are ready for one destination. Never empty.
#[derive(Debug)]
pub(super) struct Lane {
    link: Link,
    pieces: List,
    tenant: Name,
}

impl Linked for Lane {
    fn link(&mut self) -> &mut Link {
        &mut self.link
    }
}

/// The lanes of all destinations.
#[derive(Debug, Default)]
pub(super) struct Lanes {
    lanes: Slab<Lane>,
    numbers: HashMap<(u32, Label), u32>,
}

impl Lanes {
    /// Most memory for a lane, in bytes; the map is half empty at times.
    pub(super) const LANE_BYTES: u64 =
        Slab::<Lane>::ENTRY_BYTES + 2 * (size_of::<((u32, Label), u32)>() + 1) as u64;

    /// Adds a piece that is in no list.
    pub(super) fn push(
        &mut self,
        pieces: &mut Slab<Piece>,
        (place, ready): (u32, &mut Ready),
        label: Label,
        piece: u32,
    ) {
        let lane = *self.numbers.entry((place, label)).or_insert_with(|| {
            let lane = self.lanes.insert(Lane {
                link: Link::default(),
                pieces: List::default(),
                tenant: label.tenant,
            });
            ready.classes[label.class as usize].push(&mut self.lanes, lane);
            lane
        });
        self.lanes[lane].pieces.push(pieces, piece);
        ready.count += 1;
    }

    /// Takes the piece whose turn it is.
    pub(super) fn pop(
        &mut self,
        pieces: &mut Slab<Piece>,
        (place, ready): (u32, &mut Ready),
    ) -> Option<u32> {
        let class = ready.turn()?;
        let lane = ready.classes[class].pop(&mut self.lanes)?;
        let piece = self.lanes[lane].pieces.pop(pieces);
        ready.credit[class] -= 1;
        ready.count -= 1;
        if self.lanes[lane].pieces.is_empty() {
            let label = Label {
                tenant: self.lanes[lane].tenant,
                class: [Class::High, Class::Normal, Class::Low][class],
            };
            self.lanes.remove(lane);
            self.numbers.remove(&(place, label));
        } else {
            // Behind the other tenants.
            ready.classes[class].push(&mut self.lanes, lane);
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
        let Some(&lane) = self.numbers.get(&(place, label)) else {
            return;
        };
        self.lanes[lane].pieces.remove(pieces, piece);
        ready.count -= 1;
        if self.lanes[lane].pieces.is_empty() {
            ready.classes[label.class as usize].remove(&mut self.lanes, lane);
            self.lanes.remove(lane);
            self.numbers.remove(&(place, label));
        }
    }
}
