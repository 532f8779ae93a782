//! Room for what a delivery makes of a message that it holds already.

use super::{Memory, Reservation, of_message};

impl Memory {
    /// Room for so many bytes more, for a delivery that already holds room for a message of `held` bytes; waits for it. Never for more than
    /// there can be beside that. `None` only when the process is ending.
    ///
    /// Whoever waits keeps what it holds, and others may wait for that: put a bound on the time.
    pub async fn reserve_beside(&self, held: u64, bytes: u64) -> Option<Reservation> {
        let (held, wanted) = (of_message(held), of_message(bytes));
        let at_once = self.delivery.try_take(wanted);
        if let Some(permit) = at_once.or_else(|| self.borrow(wanted)) {
            return Some(Reservation::for_delivery(permit, None));
        }
        let own = wanted.min(self.delivery.units.saturating_sub(held));
        let rest = (wanted - own).min(self.receiving.units.saturating_sub(held));
        let permit = self.delivery.take(own).await?;
        let more = match rest {
            0 => None,
            rest => Some(self.take_from_clients(rest).await?),
        };
        Some(Reservation::for_delivery(permit, more))
    }
}
