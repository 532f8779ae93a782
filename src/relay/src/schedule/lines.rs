//! Who is next to get a connection, among the domains of one standing: by turns, and of the domains in a line the one that has
//! waited for longest. Pure.
//!
//! Each [`Turn`] has a line. A domain stands in that of one who has mail ready for it. If several have, in the shortest: nobody's mail waits
//! behind another's long line.

use std::collections::HashMap;

use super::destination::Destination;
use super::lanes::Turn;
use crate::slab::{Link, Linked, List, NONE, Slab};

/// All lines.
#[derive(Debug, Default)]
pub(super) struct Lines {
    lines: Slab<Line>,
    numbers: HashMap<Turn, u32>,
    turns: List,
}

/// The domains that wait for one turn. Never empty.
#[derive(Debug)]
struct Line {
    link: Link,
    turn: Turn,
    places: List,
    count: u32,
}

impl Linked for Line {
    fn link(&mut self) -> &mut Link {
        &mut self.link
    }
}

impl Lines {
    /// Adds a domain that stands in no line.
    pub(super) fn push(&mut self, all: &mut Slab<Destination>, turn: Turn, place: u32) {
        let number = *self.numbers.entry(turn).or_insert_with(|| {
            let number = self.lines.insert(Line {
                link: Link::default(),
                turn,
                places: List::default(),
                count: 0,
            });
            self.turns.push(&mut self.lines, number);
            number
        });
        let line = &mut self.lines[number];
        line.places.push(all, place);
        line.count += 1;
    }

    /// Takes out a domain that stands in this line.
    pub(super) fn remove(&mut self, all: &mut Slab<Destination>, turn: Turn, place: u32) {
        let Some(&number) = self.numbers.get(&turn) else {
            return;
        };
        let line = &mut self.lines[number];
        line.places.remove(all, place);
        line.count -= 1;
        if line.count == 0 {
            self.turns.remove(&mut self.lines, number);
            self.lines.remove(number);
            self.numbers.remove(&turn);
        }
    }

    /// How many domains stand in this line.
    pub(super) fn count(&self, turn: Turn) -> u32 {
        let number = self.numbers.get(&turn);
        number.map_or(0, |number| self.lines[*number].count)
    }

    pub(super) fn is_empty(&self) -> bool {
        self.turns.is_empty()
    }

    /// The domain whose turn it is, of lines that may have a connection. There are few of those that may not: each of them has a good
    /// part of all connections.
    pub(super) fn next(&self, may: impl Fn(Turn) -> bool) -> Option<(Turn, u32)> {
        let mut number = self.turns.first();
        while number != NONE {
            let line = &self.lines[number];
            if may(line.turn) {
                return Some((line.turn, line.places.first()));
            }
            number = line.link.next();
        }
        None
    }

    /// A line has had its turn.
    pub(super) fn served(&mut self, turn: Turn) {
        if let Some(&number) = self.numbers.get(&turn) {
            self.turns.remove(&mut self.lines, number);
            self.turns.push(&mut self.lines, number);
        }
    }
}
