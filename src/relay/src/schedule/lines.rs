//! Who is next to get a connection, among the domains of one standing: each tenant in turn, of a tenant's domains the one that has waited
//! for longest. Pure.
//!
//! A domain stands in the line of one tenant that has mail ready for it. If several have, in the shortest: nobody's mail waits behind
//! another's long line.

use std::collections::HashMap;

use super::lanes::Tenant;
use super::places::Destination;
use crate::slab::{Link, Linked, List, NONE, Slab};

/// The lines of all tenants.
#[derive(Debug, Default)]
pub(super) struct Lines {
    lines: Slab<Line>,
    numbers: HashMap<Tenant, u32>,
    turns: List,
}

/// The domains that wait in a tenant's line. Never empty.
#[derive(Debug)]
struct Line {
    link: Link,
    tenant: Tenant,
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
    pub(super) fn push(&mut self, all: &mut Slab<Destination>, tenant: Tenant, place: u32) {
        let number = *self.numbers.entry(tenant).or_insert_with(|| {
            let number = self.lines.insert(Line {
                link: Link::default(),
                tenant,
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
    pub(super) fn remove(&mut self, all: &mut Slab<Destination>, tenant: Tenant, place: u32) {
        let Some(&number) = self.numbers.get(&tenant) else {
            return;
        };
        let line = &mut self.lines[number];
        line.places.remove(all, place);
        line.count -= 1;
        if line.count == 0 {
            self.turns.remove(&mut self.lines, number);
            self.lines.remove(number);
            self.numbers.remove(&tenant);
        }
    }

    /// How many domains stand in a tenant's line.
    pub(super) fn count(&self, tenant: Tenant) -> u32 {
        let number = self.numbers.get(&tenant);
        number.map_or(0, |number| self.lines[*number].count)
    }

    pub(super) fn is_empty(&self) -> bool {
        self.turns.is_empty()
    }

    /// The domain whose turn it is, of tenants that may have a connection. There are few of those that may not: each of them has a good
    /// part of all connections.
    pub(super) fn next(&self, may: impl Fn(Tenant) -> bool) -> Option<(Tenant, u32)> {
        let mut number = self.turns.first();
        while number != NONE {
            let line = &self.lines[number];
            if may(line.tenant) {
                return Some((line.tenant, line.places.first()));
            }
            number = line.link.next();
        }
        None
    }

    /// A tenant has had its turn.
    pub(super) fn served(&mut self, tenant: Tenant) {
        if let Some(&number) = self.numbers.get(&tenant) {
            self.turns.remove(&mut self.lines, number);
            self.turns.push(&mut self.lines, number);
        }
    }
}
