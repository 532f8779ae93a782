//! A bounded room for connections that have not shown yet what they are.
//!
//! Whoever comes gets a place at once; if all are taken, the one who has been there longest loses his. So nobody
//! queues behind strangers who only sit there: to keep an honest client out, which needs its place for milliseconds,
//! a stranger would have to fill the whole room anew in that time.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio_util::sync::CancellationToken;

/// The room.
#[derive(Debug)]
pub struct WaitingRoom {
    places_max: usize,
    places: Mutex<Places>,
}

#[derive(Debug, Default)]
struct Places {
    next: u64,
    /// By number, so the first is the oldest. Never more than `places_max`.
    taken: BTreeMap<u64, CancellationToken>,
}

/// A place in the room; free again when dropped.
#[derive(Debug)]
pub struct Place {
    room: Arc<WaitingRoom>,
    number: u64,
    lost: CancellationToken,
}

impl WaitingRoom {
    /// An empty room with so many places, one at least.
    #[must_use]
    pub fn new(places_max: usize) -> Arc<Self> {
        Arc::new(Self {
            places_max: places_max.max(1),
            places: Mutex::default(),
        })
    }

    /// Takes a place, if need be from the one who has been there longest.
    #[must_use]
    pub fn enter(self: &Arc<Self>) -> Place {
        let lost = CancellationToken::new();
        let mut places = self.lock();
        if places.taken.len() >= self.places_max
            && let Some((_, oldest)) = places.taken.pop_first()
        {
            oldest.cancel();
        }
        let number = places.next;
        places.next += 1;
        places.taken.insert(number, lost.clone());
        drop(places);
        Place {
            room: Arc::clone(self),
            number,
            lost,
        }
    }

    fn lock(&self) -> MutexGuard<'_, Places> {
        self.places.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Place {
    /// Waits until the place has been given to someone else.
    pub async fn lost(&self) {
        self.lost.cancelled().await;
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.room.lock().taken.remove(&self.number);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_one_who_waits_longest_gives_way() {
        let room = WaitingRoom::new(2);
        let (first, second) = (room.enter(), room.enter());
        assert!(!first.lost.is_cancelled());
        let third = room.enter();
        let lost = [&first, &second, &third].map(|place| place.lost.is_cancelled());
        assert_eq!(lost, [true, false, false]);
    }

    #[test]
    fn a_place_that_was_given_back_costs_nobody_his() {
        let room = WaitingRoom::new(2);
        let (first, second) = (room.enter(), room.enter());
        drop(second);
        let third = room.enter();
        assert!(!first.lost.is_cancelled());
        // One who has lost his place has none to give back.
        let _fourth = room.enter();
        drop(first);
        let _fifth = room.enter();
        assert!(third.lost.is_cancelled());
        assert_eq!(room.lock().taken.len(), 2);
    }
}
