//! The budget for message content in memory, and the messages that are kept there because they were
//! just accepted.
//!
//! Content is in memory while it is received and while it is delivered; in between it may stay, so
//! that delivery need not read the disk. What is kept is given up first when room is short: it is
//! on disk anyway. Receiving never waits for room (the client gets 452 4.3.1), delivery does.

use std::collections::{HashMap, VecDeque};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use postroad_spool::{Message, MessageId};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// The budget is counted in KiB: a semaphore hands out at most `u32::MAX` at a time.
const UNIT_BYTES: u64 = 1024;

/// Every message costs this on top of its content: envelope, socket buffers.
const OVERHEAD_BYTES: u64 = 4096;

/// Every recipient costs this: its address in two forms, each of 256 octets at most (RFC 5321 §4.5.3.1.3) with what stands
/// around it.
const RECIPIENT_BYTES: u64 = 768;

/// What a message takes of the budget, in bytes: its content and its envelope, which a client can make larger than that.
#[must_use]
pub fn footprint(content_bytes: u64, recipients: usize) -> u64 {
    let recipients = u64::try_from(recipients).unwrap_or(u64::MAX);
    content_bytes.saturating_add(recipients.saturating_mul(RECIPIENT_BYTES))
}

/// The budget and what is kept within it.
#[derive(Debug)]
pub struct Memory {
    budget: Arc<Semaphore>,
    total_units: u32,
    kept: Mutex<Kept>,
    /// Deliveries that wait for room.
    waiting: AtomicUsize,
}

/// Room in the budget; given back when dropped.
#[derive(Debug)]
pub struct Reservation {
    permit: OwnedSemaphorePermit,
}

#[derive(Debug, Default)]
struct Kept {
    messages: HashMap<MessageId, (Message, Reservation)>,
    /// Oldest first; may name messages that are gone.
    order: VecDeque<MessageId>,
}

impl Memory {
    /// A budget of so many bytes.
    #[must_use]
    pub fn new(bytes: u64) -> Self {
        let total_units = units(bytes);
        Self {
            budget: Arc::new(Semaphore::new(total_units as usize)),
            total_units,
            kept: Mutex::default(),
            waiting: AtomicUsize::new(0),
        }
    }

    /// Room for another message of so many bytes, giving up what is kept; `None` if there is none.
    pub fn try_reserve(&self, bytes: u64) -> Option<Reservation> {
        let wanted = self.units_of_message(bytes);
        loop {
            match Arc::clone(&self.budget).try_acquire_many_owned(wanted) {
                Ok(permit) => return Some(Reservation { permit }),
                Err(_) if self.give_up_oldest() => {}
                Err(_) => return None,
            }
        }
    }

    /// Makes a reservation large enough for so many bytes; `false` if there is no room.
    pub fn try_grow(&self, reservation: &mut Reservation, bytes: u64) -> bool {
        let held = u32::try_from(reservation.permit.num_permits()).unwrap_or(u32::MAX);
        let missing = self.units_of_message(bytes).saturating_sub(held);
        if missing == 0 {
            return true;
        }
        loop {
            match Arc::clone(&self.budget).try_acquire_many_owned(missing) {
                Ok(permit) => {
                    reservation.permit.merge(permit);
                    return true;
                }
                Err(_) if self.give_up_oldest() => {}
                Err(_) => return false,
            }
        }
    }

    /// Gives back what a reservation holds beyond a message of so many bytes.
    pub fn shrink(&self, reservation: &mut Reservation, bytes: u64) {
        let wanted = usize::try_from(self.units_of_message(bytes)).unwrap_or(usize::MAX);
        let surplus = reservation.permit.num_permits().saturating_sub(wanted);
        drop(reservation.permit.split(surplus));
    }

    /// Room for a message of so many bytes, waiting for it; `None` only when the process is ending.
    pub async fn reserve(&self, bytes: u64) -> Option<Reservation> {
        if let Some(reservation) = self.try_reserve(bytes) {
            return Some(reservation);
        }
        let wanted = self.units_of_message(bytes);
        let _waiting = Waiting::begin(&self.waiting);
        // What was kept between the first look and now would never be given up by those who only wait.
        while self.give_up_oldest() {}
        let permit = Arc::clone(&self.budget)
            .acquire_many_owned(wanted)
            .await
            .ok()?;
        Some(Reservation { permit })
    }

    /// Keeps a message that is on disk too, until it is taken or its room is needed; not while a delivery waits for
    /// room, or nobody might be left to take it.
    pub fn keep(&self, message: Message, reservation: Reservation) {
        if self.waiting.load(Ordering::SeqCst) > 0 {
            return;
        }
        let mut kept = self.kept();
        kept.order.push_back(message.id);
        kept.messages.insert(message.id, (message, reservation));
        kept.tidy();
    }

    /// Takes a message that is still kept.
    pub fn take(&self, id: MessageId) -> Option<(Message, Reservation)> {
        self.kept().messages.remove(&id)
    }

    /// Whether a delivery waits for room.
    #[cfg(test)]
    pub(crate) fn has_waiting(&self) -> bool {
        self.waiting.load(Ordering::SeqCst) > 0
    }

    fn give_up_oldest(&self) -> bool {
        let mut kept = self.kept();
        while let Some(id) = kept.order.pop_front() {
            if kept.messages.remove(&id).is_some() {
                return true;
            }
        }
        false
    }

    /// Never more than all there is, or a message larger than the budget could never be delivered.
    fn units_of_message(&self, bytes: u64) -> u32 {
        units(bytes.saturating_add(OVERHEAD_BYTES)).min(self.total_units)
    }

    fn kept(&self) -> MutexGuard<'_, Kept> {
        // What is kept is a cache: whatever state a panic left it in is good enough.
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Counts a delivery that waits, until dropped.
struct Waiting<'a>(&'a AtomicUsize);

impl<'a> Waiting<'a> {
    fn begin(waiting: &'a AtomicUsize) -> Self {
        waiting.fetch_add(1, Ordering::SeqCst);
        Self(waiting)
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::SeqCst);
    }
}

impl Kept {
    /// Drops the names of messages that are gone once they are the majority.
    fn tidy(&mut self) {
        if self.order.len() > 2 * self.messages.len() + 1024 {
            let messages = &self.messages;
            self.order.retain(|id| messages.contains_key(id));
        }
    }
}

fn units(bytes: u64) -> u32 {
    // The semaphore's own limit is far above the largest budget that fits in u32 KiB (4 TiB).
    u32::try_from(bytes.div_ceil(UNIT_BYTES)).unwrap_or(u32::MAX)
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use postroad_spool::{BodyType, Envelope, IdGenerator};

    use super::*;

    fn message(ids: &IdGenerator) -> Message {
        Message {
            id: ids.next(0),
            arrival_ms: 0,
            envelope: Envelope {
                sender: String::new(),
                recipients: Vec::new(),
                body: BodyType::SevenBit,
                smtputf8: false,
                credential: String::new(),
                envid: None,
                ret: None,
            },
            headers: Bytes::new(),
            body: Bytes::new(),
        }
    }

    #[test]
    fn refuses_what_does_not_fit_and_takes_it_when_room_is_given_back() {
        let memory = Memory::new(20 << 10);
        let first = memory.try_reserve(10 << 10).unwrap();
        assert!(memory.try_reserve(10 << 10).is_none());
        drop(first);
        assert!(memory.try_reserve(10 << 10).is_some());
    }

    #[test]
    fn growing_takes_only_what_is_missing() {
        let memory = Memory::new(20 << 10);
        let mut reservation = memory.try_reserve(0).unwrap();
        assert!(memory.try_grow(&mut reservation, 10 << 10));
        assert!(memory.try_grow(&mut reservation, 16 << 10));
        let mut other = memory.try_reserve(0);
        assert!(other.is_none(), "all is taken: {other:?}");
        drop(reservation);
        other = memory.try_reserve(0);
        assert!(!memory.try_grow(other.as_mut().unwrap(), u64::MAX) || memory.total_units == 20);
    }

    #[test]
    fn shrinking_gives_back_what_is_not_needed_any_more() {
        let memory = Memory::new(20 << 10);
        let mut reservation = memory.try_reserve(16 << 10).unwrap();
        assert!(memory.try_reserve(4 << 10).is_none());
        memory.shrink(&mut reservation, 4 << 10);
        memory.shrink(&mut reservation, 4 << 10);
        assert!(memory.try_reserve(8 << 10).is_some());
    }

    #[test]
    fn recipients_take_room_as_content_does() {
        assert_eq!(footprint(100, 0), 100);
        assert!(footprint(0, 1000) > 1000 * 2 * 256);
    }

    #[test]
    fn gives_up_what_is_kept_oldest_first() {
        let ids = IdGenerator::new([1; 10]);
        let memory = Memory::new(20 << 10);
        let (first, second) = (message(&ids), message(&ids));
        let (a, b) = (first.id, second.id);
        memory.keep(first, memory.try_reserve(4 << 10).unwrap());
        memory.keep(second, memory.try_reserve(4 << 10).unwrap());
        let _room = memory.try_reserve(4 << 10).unwrap();
        assert!(memory.take(a).is_none(), "the oldest made room");
        assert!(memory.take(b).is_some());
    }

    #[test]
    fn a_message_larger_than_the_budget_gets_all_of_it() {
        let memory = Memory::new(8 << 10);
        assert!(memory.try_reserve(1 << 40).is_some());
    }

    #[tokio::test]
    async fn what_is_kept_never_stands_in_the_way_of_a_delivery_that_waits() {
        let ids = IdGenerator::new([1; 10]);
        let memory = Arc::new(Memory::new(20 << 10));
        let session = memory.try_reserve(16 << 10).unwrap();
        let waiting = tokio::spawn({
            let memory = Arc::clone(&memory);
            async move { memory.reserve(16 << 10).await.is_some() }
        });
        while !memory.has_waiting() {
            tokio::task::yield_now().await;
        }
        let message = message(&ids);
        let id = message.id;
        memory.keep(message, session);
        assert!(waiting.await.unwrap(), "the room went to the delivery");
        assert!(memory.take(id).is_none());
    }
}
