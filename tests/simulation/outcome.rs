//! What a run came to.

use std::collections::BTreeSet;

use crate::check::Balance;
use crate::machine::Machine;
use crate::plan::{Routing, Storage};

/// What a run came to.
#[derive(Debug)]
pub(crate) struct Run {
    pub(crate) seed: u64,
    pub(crate) storage: Storage,
    pub(crate) routing: Routing,
    pub(crate) balance: Balance,
    pub(crate) story: String,
}

impl Run {
    /// Whether all that must hold does.
    pub(crate) fn verdict(&self) -> Result<(), String> {
        match self.balance.errors.as_slice() {
            [] => Ok(()),
            errors => {
                let (seed, storage, routing) = (self.seed, self.storage, self.routing);
                let errors = errors.join("; ");
                Err(format!("seed {seed}, {storage:?}, {routing:?}: {errors}"))
            }
        }
    }

    /// All that happened, in order.
    pub(crate) fn story(&self) -> &str {
        &self.story
    }
}

/// What a start would find: recipients without a final outcome.
pub(crate) fn queued(machine: &Machine) -> Result<BTreeSet<String>, String> {
    let (spool, recovery, _writer) = machine.open().map_err(|error| error.to_string())?;
    let mut open = BTreeSet::new();
    for queued in recovery.queued.iter() {
        let message = spool.read_envelope(queued.id);
        let message = message.map_err(|error| format!("{} is queued: {error}", queued.id))?;
        let recipients = (0u32..).zip(message.envelope.recipients);
        let unsettled = recipients.filter(|(index, _)| !queued.settled.contains(index));
        open.extend(unsettled.map(|(_, recipient)| recipient.address));
    }
    Ok(open)
}
