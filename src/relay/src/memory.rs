//! The budget for message content in memory, and the messages that are kept there because they were
//! just accepted.
//!
//! Content is in memory while it is received and while it is delivered; in between it may stay, so
//! that delivery need not read the disk. What is kept is given up first when room is short: it is
//! on disk anyway. Receiving never waits for room (the client gets 452 4.3.1), delivery does.
//!
//! The budget has two parts (sizes: [`postroad_config::memory`]). One is for delivery alone, so that queued mail moves however much
//! is held by clients that never finish. The other is for receiving; delivery borrows of it. Nobody takes all of either: see
//! [`shares`] for the rule, [`Holder`] for who receives, and [`delivery`] for how it is kept while mail is delivered.

mod delivery;
mod part;
mod shares;
#[cfg(test)]
mod tests;

use std::collections::{HashMap, VecDeque};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use postroad_spool::{Message, MessageId};
use tokio::sync::OwnedSemaphorePermit;

use delivery::{Lease, Lending};
use part::Part;
use shares::{Claim, Room, Shares};

pub use shares::Holder;

/// The budget is counted in KiB: a semaphore hands out at most `u32::MAX` at a time.
const UNIT_BYTES: u64 = 1024;

/// Every message costs this on top of its content: envelope, socket buffers.
const OVERHEAD_BYTES: u64 = 4096;

/// Every recipient costs this: its address in two forms, each of 256 octets at most (RFC 5321 §4.5.3.1.3) with what stands
/// around it.
const RECIPIENT_BYTES: u64 = 768;

/// For so long after a refusal the budget counts as full, in milliseconds: several looks of the operator.
const FULL_MS: u64 = 60_000;

/// What a message takes of the budget, in bytes: its content and its envelope, which a client can make larger than that.
#[must_use]
pub fn footprint(content_bytes: u64, recipients: usize) -> u64 {
    let recipients = u64::try_from(recipients).unwrap_or(u64::MAX);
    content_bytes.saturating_add(recipients.saturating_mul(RECIPIENT_BYTES))
}

/// Why there is no room.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
pub enum Full {
    /// Nobody gets any.
    #[error("the budget is used up")]
    Budget,
    /// There is some, and it is for others.
    #[error("the client's share of the budget is used up")]
    Share,
}

/// The budget and what is kept within it.
#[derive(Debug)]
pub struct Memory {
    /// For what comes in, and for what of it is kept.
    receiving: Part,
    shares: Shares<Holder>,
    /// For what goes out.
    lending: Lending,
    kept: Mutex<Kept>,
    /// When somebody was last refused because nobody gets any; 0 for never.
    refused_ms: AtomicU64,
}

/// Room in the budget; given back when dropped.
#[derive(Debug)]
pub struct Reservation {
    permit: OwnedSemaphorePermit,
    /// While a client holds it.
    claim: Option<Claim<Holder>>,
    /// While a delivery holds it. The last: whoever waits for it looks when all is given back.
    lease: Option<Lease>,
}

#[derive(Debug, Default)]
struct Kept {
    messages: HashMap<MessageId, (Message, Reservation)>,
    /// Oldest first; may name messages that are gone.
    order: VecDeque<MessageId>,
    /// What all of them take of the part for receiving.
    units: u32,
}

impl Memory {
    /// A budget of so many bytes.
    #[must_use]
    pub fn new(bytes: u64) -> Self {
        let delivery = units(postroad_config::memory::for_delivery(bytes));
        let receiving = units(bytes) - delivery;
        Self {
            receiving: Part::new(receiving),
            shares: Shares::default(),
            lending: Lending::new(delivery),
            kept: Mutex::default(),
            refused_ms: AtomicU64::new(0),
        }
    }

    /// Room for a message of so many bytes that comes in, giving up what is kept.
    ///
    /// # Errors
    /// [`Full`].
    pub fn try_receive(
        &self,
        holder: Holder,
        message_bytes_max: u64,
        bytes: u64,
    ) -> Result<Reservation, Full> {
        let most = self.receiving.at_most(of_message(message_bytes_max));
        let mut claim = self.shares.claim(holder, most);
        let wanted = self.receiving.at_most(of_message(bytes));
        let permit = self.take_share(&mut claim, wanted)?;
        Ok(Reservation {
            permit,
            claim: Some(claim),
            lease: None,
        })
    }

    /// Makes a reservation for what comes in large enough for so many bytes.
    ///
    /// # Errors
    /// [`Full`]: it is as it was.
    pub fn try_grow(&self, reservation: &mut Reservation, bytes: u64) -> Result<(), Full> {
        let wanted = self.receiving.at_most(of_message(bytes));
        let missing = wanted.saturating_sub(reservation.units());
        if missing == 0 {
            return Ok(());
        }
        let permit = match &mut reservation.claim {
            Some(claim) => self.take_share(claim, missing)?,
            None => self.take_or_give_up(missing).ok_or(Full::Budget)?,
        };
        reservation.permit.merge(permit);
        Ok(())
    }

    /// Gives back what a reservation holds beyond a message of so many bytes.
    pub fn shrink(&self, reservation: &mut Reservation, bytes: u64) {
        let wanted = self.receiving.at_most(of_message(bytes));
        let surplus = reservation.units().saturating_sub(wanted);
        drop(reservation.permit.split(surplus as usize));
        if let Some(claim) = &mut reservation.claim {
            claim.give_back(surplus);
        }
        if let Some(lease) = &mut reservation.lease {
            lease.give_back(surplus);
        }
    }

    /// Remembers that somebody was refused at this time.
    pub fn refused(&self, why: Full, now_ms: u64) {
        if why == Full::Budget {
            self.refused_ms.store(now_ms, Ordering::SeqCst);
        }
    }

    /// Whether mail is turned away, from whomever it comes, or was within the last minute.
    #[must_use]
    pub fn is_full(&self, now_ms: u64) -> bool {
        let refused_ms = self.refused_ms.load(Ordering::SeqCst);
        refused_ms > 0 && now_ms.saturating_sub(refused_ms) < FULL_MS
    }

    /// Keeps a message that is on disk too, until it is taken or its room is needed; not while a delivery waits for what clients hold, or
    /// nobody might be left to give it up.
    pub fn keep(&self, message: Message, mut reservation: Reservation) {
        // Its client has nothing to do with it any more.
        reservation.claim = None;
        let mut kept = self.kept();
        // Under the lock: whoever begins to wait after this look gives up what is kept here.
        if self.is_wanted() {
            return;
        }
        kept.insert(message, reservation);
    }

    /// Takes a message that is still kept; its room here is free again.
    pub fn take(&self, id: MessageId) -> Option<Message> {
        let (message, _room) = self.kept().remove(id)?;
        Some(message)
    }

    /// A message that is still kept, without its headers and body: those are in the room that they have here.
    pub fn envelope(&self, id: MessageId) -> Option<Message> {
        let kept = self.kept();
        let (message, _) = kept.messages.get(&id)?;
        Some(Message {
            envelope: message.envelope.clone(),
            headers: Bytes::new(),
            body: Bytes::new(),
            ..*message
        })
    }

    fn take_share(
        &self,
        claim: &mut Claim<Holder>,
        units: u32,
    ) -> Result<OwnedSemaphorePermit, Full> {
        let mut held = self.shares.lock();
        let room = self.room();
        if !claim.is_fair(&held, units, room) {
            return Err(if units > room.free {
                Full::Budget
            } else {
                Full::Share
            });
        }
        let permit = self.take_or_give_up(units).ok_or(Full::Budget)?;
        claim.add(&mut held, units);
        Ok(permit)
    }

    fn take_or_give_up(&self, units: u32) -> Option<OwnedSemaphorePermit> {
        loop {
            match self.receiving.try_take(units) {
                Some(permit) => return Some(permit),
                None if self.give_up_oldest() => {}
                None => return None,
            }
        }
    }

    fn give_up_oldest(&self) -> bool {
        let mut kept = self.kept();
        while let Some(id) = kept.order.pop_front() {
            if kept.remove(id).is_some() {
                return true;
            }
        }
        false
    }

    /// Of the part for receiving: what is kept counts as free.
    fn room(&self) -> Room {
        let kept = self.kept().units;
        let Room { total, free } = self.receiving.room();
        Room {
            total,
            free: free.saturating_add(kept),
        }
    }

    fn kept(&self) -> MutexGuard<'_, Kept> {
        // What is kept is a cache: whatever state a panic left it in is good enough.
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Reservation {
    /// What it takes of its part.
    fn units(&self) -> u32 {
        u32::try_from(self.permit.num_permits()).unwrap_or(u32::MAX)
    }
}

impl Kept {
    fn insert(&mut self, message: Message, reservation: Reservation) {
        self.units += reservation.units();
        self.order.push_back(message.id);
        self.messages.insert(message.id, (message, reservation));
        self.tidy();
    }

    fn remove(&mut self, id: MessageId) -> Option<(Message, Reservation)> {
        let removed = self.messages.remove(&id)?;
        self.units = self.units.saturating_sub(removed.1.units());
        Some(removed)
    }

    /// Drops the names of messages that are gone once they are the majority.
    fn tidy(&mut self) {
        if self.order.len() > 2 * self.messages.len() + 1024 {
            let messages = &self.messages;
            self.order.retain(|id| messages.contains_key(id));
        }
    }
}

fn of_message(bytes: u64) -> u32 {
    units(bytes.saturating_add(OVERHEAD_BYTES))
}

fn units(bytes: u64) -> u32 {
    // The semaphore's own limit is far above the largest budget that fits in u32 KiB (4 TiB).
    u32::try_from(bytes.div_ceil(UNIT_BYTES)).unwrap_or(u32::MAX)
}
