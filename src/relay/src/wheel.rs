//! A timer wheel: what is due when, at a cost that does not depend on how much waits. Pure.
//!
//! Eight levels of 64 slots. A level holds what first differs from now in its six bits of the time in milliseconds, so that where
//! something is follows from its time and now alone: nothing is written down, and it can be taken out without a search. When the time
//! comes to a slot above the lowest, what is in it is spread over the levels below, eight times in all at most.

use crate::slab::{Linked, List, Slab};

const LEVELS: usize = 8;
const SLOT_BITS: u32 = 6;
const SLOTS: usize = 1 << SLOT_BITS;

/// The last millisecond that the levels can tell: in the year 10889. What is due later is due then.
const TIME_MAX: u64 = (1 << (SLOT_BITS * 8)) - 1;

/// What waits for a time.
pub trait Timed: Linked {
    /// When, in milliseconds; must not change while it is in the wheel.
    fn due_ms(&self) -> u64;
}

/// The wheel. What is in it is in a slab of its owner's.
#[derive(Debug, Default)]
pub struct Wheel {
    now_ms: u64,
    levels: [Level; LEVELS],
    /// Its time has come; in that order.
    due: List,
}

#[derive(Debug)]
struct Level {
    /// A bit for each slot that holds something.
    occupied: u64,
    slots: [List; SLOTS],
}

impl Default for Level {
    fn default() -> Self {
        Self {
            occupied: 0,
            slots: [List::default(); SLOTS],
        }
    }
}

/// Where something is.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Place {
    Due,
    Slot { level: usize, slot: usize },
}

impl Wheel {
    /// Adds what is in no list.
    pub fn insert<T: Timed>(&mut self, slab: &mut Slab<T>, index: u32) {
        match self.place(slab[index].due_ms()) {
            Place::Due => self.due.push(slab, index),
            Place::Slot { level, slot } => {
                let level = &mut self.levels[level];
                level.occupied |= 1 << slot;
                level.slots[slot].push(slab, index);
            }
        }
    }

    /// Takes out what is in the wheel.
    pub fn remove<T: Timed>(&mut self, slab: &mut Slab<T>, index: u32) {
        match self.place(slab[index].due_ms()) {
            Place::Due => self.due.remove(slab, index),
            Place::Slot { level, slot } => {
                let level = &mut self.levels[level];
                level.slots[slot].remove(slab, index);
                if level.slots[slot].is_empty() {
                    level.occupied &= !(1 << slot);
                }
            }
        }
    }

    /// Takes out what is due at this time, the earliest first. The clock may step back: then what is not due by it any more waits again.
    pub fn pop<T: Timed>(&mut self, slab: &mut Slab<T>, now_ms: u64) -> Option<u32> {
        if now_ms < self.now_ms {
            self.step_back(slab, now_ms);
        }
        if self.due.is_empty() {
            self.advance(slab, now_ms);
        }
        self.due.pop(slab)
    }

    /// Before this nothing is due; `None` if nothing waits.
    pub fn next_ms(&self) -> Option<u64> {
        if !self.due.is_empty() {
            return Some(self.now_ms);
        }
        self.next_slot().map(|(_, _, begin_ms)| begin_ms)
    }

    /// Goes on until something is due, or to now.
    fn advance<T: Timed>(&mut self, slab: &mut Slab<T>, now_ms: u64) {
        let now_ms = now_ms.min(TIME_MAX);
        while let Some((level, slot, begin_ms)) = self.next_slot() {
            if begin_ms > now_ms {
                break;
            }
            self.now_ms = begin_ms;
            self.levels[level].occupied &= !(1 << slot);
            let mut reached = std::mem::take(&mut self.levels[level].slots[slot]);
            if level == 0 {
                self.due.append(slab, &mut reached);
                return;
            }
            while let Some(index) = reached.pop(slab) {
                self.insert(slab, index);
            }
            if !self.due.is_empty() {
                return;
            }
        }
        self.now_ms = self.now_ms.max(now_ms);
    }

    /// Places anew what the time between the two has brought where it is. What is on a level above those in which they differ
    /// stays: it differs from both in the same bits.
    fn step_back<T: Timed>(&mut self, slab: &mut Slab<T>, now_ms: u64) {
        let highest = level_of(self.now_ms ^ now_ms);
        let mut moved = std::mem::take(&mut self.due);
        for level in &mut self.levels[..=highest] {
            while level.occupied != 0 {
                let slot = level.occupied.trailing_zeros() as usize;
                level.occupied &= level.occupied - 1;
                moved.append(slab, &mut level.slots[slot]);
            }
        }
        self.now_ms = now_ms;
        while let Some(index) = moved.pop(slab) {
            self.insert(slab, index);
        }
    }

    /// The slot whose time comes next: what is on a lower level comes before all that is above.
    fn next_slot(&self) -> Option<(usize, usize, u64)> {
        let (level, found) = self
            .levels
            .iter()
            .enumerate()
            .find(|(_, level)| level.occupied != 0)?;
        let slot = found.occupied.trailing_zeros();
        let shift = SLOT_BITS * u32::try_from(level).unwrap_or(0);
        let above = self.now_ms >> (shift + SLOT_BITS) << (shift + SLOT_BITS);
        Some((level, slot as usize, above | (u64::from(slot) << shift)))
    }

    fn place(&self, due_ms: u64) -> Place {
        let due_ms = due_ms.min(TIME_MAX);
        if due_ms <= self.now_ms {
            return Place::Due;
        }
        let level = level_of(due_ms ^ self.now_ms);
        let slot = (due_ms >> (level * SLOT_BITS as usize)) & (SLOTS as u64 - 1);
        Place::Slot {
            level,
            slot: usize::try_from(slot).unwrap_or(0),
        }
    }
}

/// The level of the highest bit in which two times differ, given their differences; not 0.
fn level_of(differs: u64) -> usize {
    (differs.ilog2() / SLOT_BITS) as usize
}

#[cfg(test)]
mod tests;
