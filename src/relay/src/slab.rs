//! Values under small numbers, and lists of them without memory of their own. Pure.
//!
//! A million messages wait in lists that things leave from the middle: the links are in the values, 8 bytes each. A slab
//! grows by chunks, so that it is never copied. It is filled from the front, and gives back chunks at its end that are empty, all but one:
//! after a burst it shrinks as what is left of that goes.

use std::collections::BTreeSet;
use std::mem::size_of;
use std::ops::{Index, IndexMut};

/// No value has this number.
pub const NONE: u32 = u32::MAX;

/// Values in a chunk.
const CHUNK: usize = 1024;

/// Values under numbers that are used again.
#[derive(Debug)]
pub struct Slab<T> {
    chunks: Vec<Chunk<T>>,
    /// Chunks that are not full.
    open: BTreeSet<usize>,
    length: u32,
}

#[derive(Debug)]
struct Chunk<T> {
    slots: Vec<Slot<T>>,
    /// The first free one.
    free: u32,
    used: usize,
}

#[derive(Debug)]
enum Slot<T> {
    /// With the next free one of the chunk.
    Free(u32),
    Used(T),
}

impl<T> Default for Slab<T> {
    fn default() -> Self {
        Self {
            chunks: Vec::new(),
            open: BTreeSet::new(),
            length: 0,
        }
    }
}

impl<T> Slab<T> {
    /// Most memory for one value, in bytes.
    pub const ENTRY_BYTES: u64 = size_of::<Slot<T>>() as u64;

    /// Keeps a value.
    pub fn insert(&mut self, value: T) -> u32 {
        self.length += 1;
        let at = self.open.first().copied().unwrap_or(self.chunks.len());
        if at == self.chunks.len() {
            self.chunks.push(Chunk::new());
            self.open.insert(at);
        }
        let chunk = &mut self.chunks[at];
        let slot = chunk.insert(value);
        if chunk.used == CHUNK {
            self.open.remove(&at);
        }
        // `room` bounds how much is kept far below this many.
        u32::try_from(at * CHUNK + slot).unwrap_or(NONE)
    }

    /// Gives a value up.
    pub fn remove(&mut self, index: u32) -> Option<T> {
        let index = index as usize;
        let at = index / CHUNK;
        let chunk = self.chunks.get_mut(at)?;
        let value = chunk.remove(index % CHUNK)?;
        self.length -= 1;
        if chunk.used + 1 == CHUNK {
            self.open.insert(at);
        }
        self.shrink();
        Some(value)
    }

    /// What is there.
    pub fn get(&self, index: u32) -> Option<&T> {
        let index = index as usize;
        let chunk = self.chunks.get(index / CHUNK)?;
        match chunk.slots.get(index % CHUNK)? {
            Slot::Used(value) => Some(value),
            Slot::Free(_) => None,
        }
    }

    /// What is there.
    pub fn get_mut(&mut self, index: u32) -> Option<&mut T> {
        let index = index as usize;
        let chunk = self.chunks.get_mut(index / CHUNK)?;
        match chunk.slots.get_mut(index % CHUNK)? {
            Slot::Used(value) => Some(value),
            Slot::Free(_) => None,
        }
    }

    /// How many values there are.
    pub fn count(&self) -> u32 {
        self.length
    }

    /// All numbers are below this.
    pub fn end(&self) -> u32 {
        let last = self.chunks.last().map_or(0, |last| last.slots.len());
        let full = self.chunks.len().saturating_sub(1) * CHUNK;
        u32::try_from(full + last).unwrap_or(NONE)
    }

    /// One that is empty stays, so that a value that comes and goes does not make and unmake it.
    fn shrink(&mut self) {
        while let [.., Chunk { used: 0, .. }, Chunk { used: 0, .. }] = self.chunks[..] {
            self.chunks.pop();
            self.open.remove(&self.chunks.len());
        }
    }
}

impl<T> Chunk<T> {
    fn new() -> Self {
        Self {
            slots: Vec::with_capacity(CHUNK),
            free: NONE,
            used: 0,
        }
    }

    /// Into one that is not full.
    fn insert(&mut self, value: T) -> usize {
        self.used += 1;
        let index = self.free as usize;
        let Some(slot) = self.slots.get_mut(index) else {
            self.slots.push(Slot::Used(value));
            return self.slots.len() - 1;
        };
        if let Slot::Free(next) = std::mem::replace(slot, Slot::Used(value)) {
            self.free = next;
        }
        index
    }

    fn remove(&mut self, index: usize) -> Option<T> {
        let slot = self.slots.get_mut(index)?;
        if let Slot::Free(_) = slot {
            return None;
        }
        let before = std::mem::replace(slot, Slot::Free(self.free));
        self.free = u32::try_from(index).unwrap_or(NONE);
        self.used -= 1;
        match before {
            Slot::Used(value) => Some(value),
            Slot::Free(_) => None,
        }
    }
}

impl<T> Index<u32> for Slab<T> {
    type Output = T;

    #[expect(
        clippy::expect_used,
        reason = "whoever indexes has the number from a link or a map, which are cleared with the value"
    )]
    fn index(&self, index: u32) -> &T {
        self.get(index).expect("a linked value is there")
    }
}

impl<T> IndexMut<u32> for Slab<T> {
    #[expect(clippy::expect_used, reason = "as for `index`")]
    fn index_mut(&mut self, index: u32) -> &mut T {
        self.get_mut(index).expect("a linked value is there")
    }
}

/// A place in a list.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Link {
    next: u32,
    previous: u32,
}

impl Default for Link {
    fn default() -> Self {
        Self {
            next: NONE,
            previous: NONE,
        }
    }
}

impl Link {
    /// Who comes behind; [`NONE`] at the end.
    pub fn next(self) -> u32 {
        self.next
    }
}

/// What has a place in a list; in one at a time.
pub trait Linked {
    /// The place.
    fn link(&mut self) -> &mut Link;
}

/// Values of a slab in an order.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct List {
    head: u32,
    tail: u32,
}

impl Default for List {
    fn default() -> Self {
        Self {
            head: NONE,
            tail: NONE,
        }
    }
}

impl List {
    /// Whether nothing is in it.
    pub fn is_empty(self) -> bool {
        self.head == NONE
    }

    /// The first; [`NONE`] if there is none.
    pub fn first(self) -> u32 {
        self.head
    }

    /// Adds to the end what is in no list.
    pub fn push<T: Linked>(&mut self, slab: &mut Slab<T>, index: u32) {
        *slab[index].link() = Link {
            next: NONE,
            previous: self.tail,
        };
        match self.tail {
            NONE => self.head = index,
            tail => slab[tail].link().next = index,
        }
        self.tail = index;
    }

    /// Adds what is in no list before something that is in this one; to the end if that is [`NONE`].
    pub fn insert_before<T: Linked>(&mut self, slab: &mut Slab<T>, index: u32, behind: u32) {
        if behind == NONE {
            return self.push(slab, index);
        }
        let previous = std::mem::replace(&mut slab[behind].link().previous, index);
        *slab[index].link() = Link {
            next: behind,
            previous,
        };
        match previous {
            NONE => self.head = index,
            before => slab[before].link().next = index,
        }
    }

    /// Takes the first.
    pub fn pop<T: Linked>(&mut self, slab: &mut Slab<T>) -> Option<u32> {
        let first = self.head;
        if first == NONE {
            return None;
        }
        self.remove(slab, first);
        Some(first)
    }

    /// Takes out what is in this list.
    pub fn remove<T: Linked>(&mut self, slab: &mut Slab<T>, index: u32) {
        let Link { next, previous } = std::mem::take(slab[index].link());
        match previous {
            NONE => self.head = next,
            before => slab[before].link().next = next,
        }
        match next {
            NONE => self.tail = previous,
            behind => slab[behind].link().previous = previous,
        }
    }

    /// Adds all of another list, which is empty then.
    pub fn append<T: Linked>(&mut self, slab: &mut Slab<T>, other: &mut Self) {
        let other = std::mem::take(other);
        if other.is_empty() {
            return;
        }
        match self.tail {
            NONE => self.head = other.head,
            tail => {
                slab[tail].link().next = other.head;
                slab[other.head].link().previous = tail;
            }
        }
        self.tail = other.tail;
    }
}

#[cfg(test)]
mod tests;
