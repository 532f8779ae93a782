//! Room for what is on its way to the disk: in the bound on the queue, on the disk, and in the share of its tenant of both.
//!
//! What is queued counts in the schedule; what is not there yet counts here, so that a thousand sessions that all find room do not
//! all take it.

use std::sync::atomic::Ordering;
use std::sync::{Arc, MutexGuard, PoisonError};

use postroad_spool::Message;

use super::reserved::{Amounts, Reserved};
use super::{Queue, Shared, State, size};
use crate::memory;
use crate::room::load::{Load, Sender};
use crate::room::{Account, Sharing, Weight};
use crate::schedule;

/// Why there is no room for a message.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
pub enum NoRoom {
    /// As much mail is queued as may be.
    #[error("as much mail is queued as may be")]
    Queue,
    /// The disk has no room beside what is kept free for outcomes and reports.
    #[error("the disk is full")]
    Disk,
    /// There is room, and it is for others.
    #[error("its tenant's share of {0} is used up")]
    Share(Resource),
}

/// What there is a share of.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub enum Resource {
    /// The bound on what is queued.
    Queue,
    /// The disk.
    Disk,
}

impl Resource {
    /// As it stands in metrics and logs.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Queue => "queue",
            Self::Disk => "disk",
        }
    }
}

impl std::fmt::Display for Resource {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "the {}", self.as_str())
    }
}

/// Whether a message is going to be on the disk.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum NeedsDisk {
    /// At once.
    Yes,
    /// Only if it cannot be handed on, and whether there is room is asked when it comes to that.
    Perhaps,
}

/// Room for a message; given back when dropped, which is when the schedule has it, or when nobody will.
pub(super) struct Room {
    shared: Arc<Shared>,
    account: Account,
    taken: Amounts,
}

impl Queue {
    /// From now on the queue, and the memory for its delivery, are shared by one or by many.
    pub fn share(&self, sharing: Sharing) {
        self.shared.memory.share(sharing);
        let alone = sharing == Sharing::Alone;
        self.shared.is_alone.store(alone, Ordering::SeqCst);
    }

    /// Whether a message to one recipient could be taken: what is over this bound is turned down.
    #[must_use]
    pub fn has_room(&self) -> bool {
        let state = self.state();
        let one = schedule::bytes(Weight::of(1, 1));
        self.used(&state).saturating_add(one) <= self.shared.bytes_max.load(Ordering::SeqCst)
    }

    /// Whether the disk takes no more mail: there has to be room for the reports on what is there.
    #[must_use]
    pub fn is_disk_full(&self) -> bool {
        let owed = self.state().schedule.totals().owed;
        self.shared.spool.is_full() || !self.shared.spool.has_room(owed)
    }

    /// Whether it is worth receiving a message that counts for this account: whether one to one recipient could be taken,
    /// however large it gets.
    ///
    /// # Errors
    /// [`NoRoom`].
    pub fn check_room_for(&self, account: &Account, disk: NeedsDisk) -> Result<(), NoRoom> {
        let one = Amounts {
            memory: schedule::bytes(Weight::of(1, 1)),
            ..Amounts::default()
        };
        let state = self.state();
        self.check_queue(&state, account, one)?;
        if disk == NeedsDisk::Perhaps {
            return Ok(());
        }
        if self.shared.spool.is_full() {
            return Err(NoRoom::Disk);
        }
        self.check_disk(&state, account, one)
    }

    /// Whether an account might have as much again as it has, of the queue and of the disk. Past that, what waits although it could be given
    /// back would take the room of what is to be sent.
    #[must_use]
    pub fn may_double(&self, account: &Account) -> bool {
        let state = self.state();
        let held = self.held(&state, account);
        self.check_queue(&state, account, held).is_ok()
            && self.check_disk(&state, account, held).is_ok()
    }

    /// How much of the bound is used up, from 0 to 1; more only if a start found more than the bound.
    #[must_use]
    #[expect(clippy::cast_precision_loss, reason = "a share for people to look at")]
    pub fn fill(&self) -> f64 {
        let used = queued(&self.state());
        used as f64 / self.shared.bytes_max.load(Ordering::SeqCst) as f64
    }

    /// Room for a message, as it will be filed. The lock makes looking and taking one step.
    pub(super) fn reserve_for(&self, message: &Message, disk: NeedsDisk) -> Result<Room, NoRoom> {
        let queued = message.queued();
        let account = Account::from(&*queued.credential);
        let state = self.state();
        let mut taken = Amounts::from(load(message));
        let names = state.schedule.shared_bytes_of(&queued);
        taken.memory = taken.memory.saturating_add(names);
        self.check_queue(&state, &account, taken)?;
        if disk == NeedsDisk::Yes {
            self.check_disk(&state, &account, taken)?;
        }
        self.reserved().add(account.clone(), taken);
        Ok(Room {
            shared: Arc::clone(&self.shared),
            account,
            taken,
        })
    }

    /// Whether a message that is filed already may be stored.
    pub(super) fn check_stored(&self, message: &Message) -> Result<(), NoRoom> {
        // Its tenant has it, and what it owes is kept free.
        let content = Amounts {
            content: load(message).bytes,
            ..Amounts::default()
        };
        let state = self.state();
        let account = Account::from(&*message.envelope.credential);
        self.check_disk(&state, &account, content)
    }

    fn check_queue(&self, state: &State, account: &Account, more: Amounts) -> Result<(), NoRoom> {
        let most = self.shared.bytes_max.load(Ordering::SeqCst);
        let used = self.used(state).saturating_add(more.memory);
        if used > most {
            return Err(NoRoom::Queue);
        }
        let held = self.held(state, account).memory.saturating_add(more.memory);
        match self.sharing().share().fits(held, most - used) {
            true => Ok(()),
            false => Err(NoRoom::Share(Resource::Queue)),
        }
    }

    fn check_disk(&self, state: &State, account: &Account, more: Amounts) -> Result<(), NoRoom> {
        let owed = state.schedule.totals().owed;
        let owed = owed.saturating_add(self.reserved().all.owed);
        let needed = more.disk().saturating_add(owed);
        let spool = &self.shared.spool;
        if !spool.has_room(needed) {
            return Err(NoRoom::Disk);
        }
        let held = self.held(state, account).disk().saturating_add(more.disk());
        match self.sharing().share().kept_free(held) {
            0 => Ok(()),
            kept if spool.has_room(needed.saturating_add(kept)) => Ok(()),
            _ => Err(NoRoom::Share(Resource::Disk)),
        }
    }

    /// What a tenant has, and has on its way.
    fn held(&self, state: &State, account: &Account) -> Amounts {
        let mut held = Amounts::from(state.schedule.held(account));
        held += self.reserved().of(account);
        held
    }

    /// What is queued, and on its way, takes of the bound, in bytes.
    fn used(&self, state: &State) -> u64 {
        queued(state).saturating_add(self.reserved().all.memory)
    }

    fn sharing(&self) -> Sharing {
        match self.shared.is_alone.load(Ordering::SeqCst) {
            true => Sharing::Alone,
            false => Sharing::Many,
        }
    }

    fn reserved(&self) -> MutexGuard<'_, Reserved> {
        self.shared.reserved()
    }
}

impl Shared {
    /// Locked after the state, never before it.
    pub(super) fn reserved(&self) -> MutexGuard<'_, Reserved> {
        // Numbers change one addition at a time: no panic leaves one half done.
        self.reserved.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What is queued takes of the bound, in bytes.
fn queued(state: &State) -> u64 {
    let weight = schedule::bytes(state.schedule.totals().weight);
    weight.saturating_add(state.schedule.shared_bytes())
}

/// What a message will take, with what its envelope takes on the disk.
fn load(message: &Message) -> Load {
    let recipients = message.envelope.recipients.len();
    let bytes = memory::footprint(size(message), recipients);
    let recipients = u32::try_from(recipients).unwrap_or(u32::MAX);
    let sender = Sender::of(message.envelope.is_reportable());
    Load::of(bytes, recipients, recipients, sender)
}

impl Drop for Room {
    fn drop(&mut self) {
        self.shared
            .reserved()
            .remove(self.account.clone(), self.taken);
    }
}
