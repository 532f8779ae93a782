//! One part of the budget, in units.

use std::sync::Arc;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::shares::Room;

#[derive(Debug)]
pub(super) struct Part {
    semaphore: Arc<Semaphore>,
    pub(super) units: u32,
}

impl Part {
    pub(super) fn new(units: u32) -> Self {
        Self {
            semaphore: Arc::new(Semaphore::new(units as usize)),
            units,
        }
    }

    /// Never more than all there is, or a message larger than that could never be taken or delivered.
    pub(super) fn at_most(&self, units: u32) -> u32 {
        units.min(self.units)
    }

    pub(super) fn room(&self) -> Room {
        Room {
            total: self.units,
            free: self.free(),
        }
    }

    pub(super) fn free(&self) -> u32 {
        u32::try_from(self.semaphore.available_permits()).unwrap_or(u32::MAX)
    }

    pub(super) fn try_take(&self, units: u32) -> Option<OwnedSemaphorePermit> {
        let semaphore = Arc::clone(&self.semaphore);
        semaphore.try_acquire_many_owned(units).ok()
    }

    /// In the order of arrival; `None` only when the process is ending.
    pub(super) async fn take(&self, units: u32) -> Option<OwnedSemaphorePermit> {
        let semaphore = Arc::clone(&self.semaphore);
        semaphore.acquire_many_owned(units).await.ok()
    }
}
