//! The content of a message as a next hop takes it, within the memory budget.
//!
//! A conversion has the message a second time while it works, and what it makes of it until that is sent: both have room in the
//! budget before it begins. One of a tenant may wait for it while it holds the room of the message itself, one where that is much and one where it is
//! little; for a while other mail of the tenant that is as large is not even read. So that those of several tenants do not wait for each other
//! for ever, the wait is bounded. Whoever may not wait, or waited in vain, puts its message off ([`pause_ms`]), which is not charged with an
//! attempt for that.

use std::time::Duration;

use postroad_smtp::client::Peer;
use postroad_smtp::{BodyKind, EnhancedStatus, Reply};
use postroad_spool::Message;

use crate::adapt::{Adapted, adapt, is_fit};
use crate::blocking;
use crate::clock;
use crate::context::{Context, Phase};
use crate::memory::{self, Reservation};
use crate::room::Account;

/// Content that is larger is converted on a thread of its own, in bytes: some milliseconds. One such at a time.
const CONVERSION_BYTES_MAX: usize = 256 << 10;

/// How long a conversion waits for its turn and for room at most. In that time what goes out slowly has gone.
const PATIENCE: Duration = Duration::from_secs(300);

/// The pauses of a message that found no room to be converted: another is through after the one, and after the other what hung.
const PAUSE_MIN: Duration = Duration::from_secs(5);
const PAUSE_MAX: Duration = Duration::from_secs(600);

/// As [`PAUSE_MAX`] where the message is soon read.
const SMALL_PAUSE_MAX: Duration = Duration::from_secs(60);

/// Most that the headers of parts add to what is converted, in bytes.
const PART_HEADERS_MAX: u64 = 1 << 20;

/// Why there is no content.
#[derive(Debug, PartialEq)]
pub(super) enum Unready {
    /// This next hop can never be sent the message.
    Unfit(Reply),
    /// There is no room in memory for now.
    NoRoom(Reply),
    /// The process is ending.
    Stopping,
}

/// What a next hop takes.
#[derive(Clone, Copy, Debug)]
pub(super) struct Takes {
    pub(super) eight_bit: bool,
    pub(super) binary: bool,
}

impl Takes {
    pub(super) fn of(peer: &Peer) -> Self {
        Self {
            eight_bit: peer.takes(BodyKind::EightBit),
            binary: peer.takes(BodyKind::Binary),
        }
    }

    fn kind(self, kind: BodyKind) -> bool {
        match kind {
            BodyKind::SevenBit => true,
            BodyKind::EightBit => self.eight_bit,
            BodyKind::Binary => self.binary,
        }
    }
}

/// The content, and the room for what of it is not the message's own.
pub(super) async fn prepare(
    context: &Context,
    message: &Message,
    takes: Takes,
) -> Result<(Adapted, Option<Reservation>), Unready> {
    if is_fit(message, |kind| takes.kind(kind)) {
        let adapted = adapt(message, |kind| takes.kind(kind)).map_err(Unready::Unfit)?;
        return Ok((adapted, None));
    }
    let converted = tokio::select! {
        biased;
        () = context.reached(Phase::Stopping) => return Err(Unready::Stopping),
        converted = tokio::time::timeout(PATIENCE, convert(context, message, takes)) => converted,
    };
    converted.unwrap_or_else(|_| Err(Unready::NoRoom(no_room())))
}

async fn convert(
    context: &Context,
    message: &Message,
    takes: Takes,
) -> Result<(Adapted, Option<Reservation>), Unready> {
    let length = length(message);
    let is_large = length > CONVERSION_BYTES_MAX;
    let bytes = u64::try_from(length).unwrap_or(u64::MAX);
    let held = memory::footprint(bytes, message.envelope.recipients.len());
    let memory = context.queue.memory();
    let account = Account::from(&*message.envelope.credential);
    let room = memory.reserve_beside(&account, held, needed(bytes)).await;
    let mut room = room.ok_or_else(|| Unready::NoRoom(no_room()))?;
    let turn = &context.conversion;
    // Not before there is room: who waits for that keeps nobody else waiting.
    let _turn = match is_large {
        true => Some(turn.acquire().await.map_err(|_| Unready::Stopping)?),
        false => None,
    };
    let whole = message.clone();
    let work = move || adapt(&whole, |kind| takes.kind(kind));
    let adapted = match is_large {
        true => blocking::run(work).await.unwrap_or_else(|_| Err(failed())),
        false => work(),
    };
    let adapted = adapted.map_err(Unready::Unfit)?;
    let kept: usize = adapted.content.iter().map(bytes::Bytes::len).sum();
    memory.shrink(&mut room, u64::try_from(kept).unwrap_or(u64::MAX));
    Ok((adapted, Some(room)))
}

/// For how long a message is put off that has waited for so long and finds no room to be converted: each try reads all of it, so that there are
/// fewer and fewer.
pub(super) fn pause_ms(message: &Message, waited_ms: u64) -> u64 {
    let most = match length(message) > CONVERSION_BYTES_MAX {
        true => PAUSE_MAX,
        false => SMALL_PAUSE_MAX,
    };
    (waited_ms / 4).clamp(clock::millis(PAUSE_MIN), clock::millis(most))
}

fn length(message: &Message) -> usize {
    message.headers.len() + message.body.len()
}

/// The message again, half as much again of it, and the headers of parts.
fn needed(bytes: u64) -> u64 {
    let twice_and_half = bytes.saturating_mul(5).div_ceil(2);
    twice_and_half.saturating_add(bytes.min(PART_HEADERS_MAX))
}

fn failed() -> Reply {
    let status = EnhancedStatus::new(5, 6, 0);
    let text = "the message could not be converted for the next server";
    Reply::new(554, status, text)
}

/// What was converted is not what another server takes that has taken the place of the one it was for.
pub(super) fn other_server() -> Reply {
    let status = EnhancedStatus::new(4, 3, 1);
    let text = "the message has to be converted again, for another server";
    Reply::new(451, status, text)
}

fn no_room() -> Reply {
    let status = EnhancedStatus::new(4, 3, 1);
    let text = "no room in memory to convert the message for the next server";
    Reply::new(451, status, text)
}

#[cfg(test)]
mod tests {
    use postroad_spool::BodyType;

    use super::*;
    use crate::rig::Rig;

    const ENOUGH: u64 = 8 << 20;

    const SEVEN_BIT: Takes = Takes {
        eight_bit: false,
        binary: false,
    };

    fn eight_bit(rig: &Rig, length: usize) -> Message {
        let mut body = b"Subject: x\r\n\r\n".to_vec();
        while body.len() < length {
            body.extend_from_slice("gr\u{fc}n, the colour of meadows\r\n".as_bytes());
        }
        let mut message = rig.message(1, 0);
        message.envelope.body = BodyType::EightBitMime;
        message.body = body.into();
        message
    }

    #[tokio::test(start_paused = true)]
    async fn what_is_converted_has_room_of_its_own_or_is_put_off() {
        for length in [1_000, 2 * CONVERSION_BYTES_MAX] {
            let rig = Rig::new(ENOUGH);
            let message = eight_bit(&rig, length);
            let memory = rig.context.queue.memory();
            let all = memory.take_all();
            let put_off = prepare(&rig.context, &message, SEVEN_BIT).await;
            assert_eq!(put_off.unwrap_err(), Unready::NoRoom(no_room()));
            drop(all);
            let free = || memory.take_all().bytes();
            let before = free();
            let (adapted, room) = prepare(&rig.context, &message, SEVEN_BIT).await.unwrap();
            let made: usize = adapted.content.iter().map(bytes::Bytes::len).sum();
            assert!(before - free() >= made, "{length}");
            drop(room);
            assert_eq!(free(), before);
        }
    }

    #[tokio::test]
    async fn what_waits_is_read_less_and_less_often_unless_that_is_soon_done() {
        let rig = Rig::new(ENOUGH);
        let small = eight_bit(&rig, 1_000);
        let large = eight_bit(&rig, 2 * CONVERSION_BYTES_MAX);
        let seconds = |message, waited: u64| pause_ms(message, waited * 1000) / 1000;
        for (waited, small_s, large_s) in
            [(0, 5, 5), (80, 20, 20), (2000, 60, 500), (9000, 60, 600)]
        {
            assert_eq!(seconds(&small, waited), small_s, "{waited}");
            assert_eq!(seconds(&large, waited), large_s, "{waited}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn what_fits_needs_no_room() {
        let rig = Rig::new(ENOUGH);
        let message = eight_bit(&rig, 1_000);
        let _all = rig.context.queue.memory().take_all();
        let takes = Takes {
            eight_bit: true,
            binary: false,
        };
        let (adapted, room) = prepare(&rig.context, &message, takes).await.unwrap();
        assert!(room.is_none() && adapted.body == BodyKind::EightBit);
    }

    /// Two that wait for each other's room: neither waits for ever.
    #[tokio::test(start_paused = true)]
    async fn conversions_do_not_wait_for_each_other_for_ever() {
        let rig = Rig::new(ENOUGH);
        let message = eight_bit(&rig, 2 << 20);
        let memory = rig.context.queue.memory();
        let _held = memory.take_all();
        let one = || prepare(&rig.context, &message, SEVEN_BIT);
        let (first, second) = tokio::join!(one(), one());
        assert!(matches!(first, Err(Unready::NoRoom(_))));
        assert!(matches!(second, Err(Unready::NoRoom(_))));
    }

    #[tokio::test]
    async fn the_end_of_the_process_is_not_waited_out() {
        let rig = Rig::new(ENOUGH);
        let message = eight_bit(&rig, 1_000);
        let _all = rig.context.queue.memory().take_all();
        rig.context.ending.advance(Phase::Stopping);
        let prepared = prepare(&rig.context, &message, SEVEN_BIT).await;
        assert_eq!(prepared.unwrap_err(), Unready::Stopping);
    }
}
