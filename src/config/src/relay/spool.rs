//! Where accepted mail waits.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use crate::Error;

/// Less than this is no room for a queue, in bytes: some of it is kept free for what becomes of the mail.
pub const SPOOL_BYTES_MIN: u64 = 32 << 20;

/// Longest time between two syncs, in milliseconds: what a power cut may take has to stay small enough to be worth saying.
pub const SYNC_MS_MAX: u32 = 10_000;

/// Where accepted mail waits.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Spool {
    /// Directory of the segment log; created if missing.
    pub directory: PathBuf,
    /// Whether the directory outlives the pod.
    pub persistent: bool,
    /// Most bytes that mail may take there, for where more would cost the pod; at least [`SPOOL_BYTES_MIN`]. All of the volume
    /// if not set. Past it: 452 4.3.1.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bytes_max: Option<u64>,
    /// What a 250 promises.
    #[serde(default, skip_serializing_if = "SpoolMode::is_durable")]
    pub mode: SpoolMode,
}

/// What a 250 at the end of a message promises.
#[derive(Clone, Copy, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all_fields = "camelCase", deny_unknown_fields)]
pub enum SpoolMode {
    /// The message is on stable storage: no crash and no power cut takes it.
    #[default]
    Durable,
    /// The message is with the kernel: a crash of the program takes nothing, one of the node what it was given since the last sync.
    Relaxed {
        /// Longest time from the 250 to the sync, in milliseconds: 1 to [`SYNC_MS_MAX`].
        sync_ms: u32,
    },
    /// The next server has the message, or it is on stable storage: it is handed on while its client waits, and stored if that does
    /// not go well.
    Passthrough,
}

impl SpoolMode {
    /// Whether a 250 means that the message is on stable storage here.
    #[must_use]
    pub const fn is_durable(&self) -> bool {
        matches!(self, Self::Durable)
    }
}

impl Spool {
    pub(super) fn check(&self, message_bytes: u64) -> Result<(), Error> {
        let least = SPOOL_BYTES_MIN.max(message_bytes.saturating_add(message_bytes / 2));
        if self.bytes_max.is_some_and(|most| most < least) {
            return Err(Error::invalid(
                "spool.bytesMax",
                "must be at least 32 MiB, and half as much again as limits.messageBytes",
            ));
        }
        match self.mode {
            SpoolMode::Relaxed { sync_ms } if !(1..=SYNC_MS_MAX).contains(&sync_ms) => Err(
                Error::invalid("spool.mode", format!("needs 1 <= syncMs <= {SYNC_MS_MAX}")),
            ),
            SpoolMode::Durable | SpoolMode::Relaxed { .. } | SpoolMode::Passthrough => Ok(()),
        }
    }
}
