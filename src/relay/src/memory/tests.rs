use std::sync::Arc;

use bytes::Bytes;
use postroad_spool::{Envelope, IdGenerator};

use super::*;

/// The part for receiving is 60 KiB, that for delivery 20 KiB.
const BUDGET: u64 = 80 << 10;
const RECEIVING: u64 = 60 << 10;

impl Memory {
    /// Room without a share.
    pub(crate) fn try_reserve(&self, bytes: u64) -> Option<Reservation> {
        let wanted = self.receiving.at_most(of_message(bytes));
        let permit = self.take_or_give_up(wanted)?;
        Some(Reservation {
            permit,
            claim: None,
            lease: None,
        })
    }

    /// All that is free of all parts.
    pub(crate) fn take_all(&self) -> All {
        let [own, small] = self.lending.parts();
        All([&self.receiving, own, small].map(|part| part.try_take(part.free()).unwrap()))
    }

    /// What is taken of the part for receiving, in bytes.
    pub(crate) fn held(&self) -> usize {
        let units = self.receiving.units - self.receiving.free();
        units as usize * 1024
    }

    /// Whether a delivery waits for room.
    pub(crate) fn has_waiting(&self) -> bool {
        self.is_wanted() || self.lending.has_waiting()
    }
}

/// All that was free.
pub(crate) struct All([OwnedSemaphorePermit; 3]);

impl All {
    /// Of all parts, in bytes.
    pub(crate) fn bytes(&self) -> usize {
        let permits = self.0.iter().map(OwnedSemaphorePermit::num_permits);
        permits.sum::<usize>() * 1024
    }
}

fn message(ids: &IdGenerator) -> Message {
    Message {
        id: ids.next(0),
        arrival_ms: 0,
        envelope: Envelope {
            ..Envelope::default()
        },
        headers: Bytes::new(),
        body: Bytes::new(),
    }
}

/// Room for a message of so many bytes that this login sends; messages of 10 KiB at most.
fn receive(memory: &Memory, login: &str, bytes: u64) -> Result<Reservation, Full> {
    memory.try_receive(Holder::Login(login.into()), 10 << 10, bytes)
}

#[test]
fn refuses_what_does_not_fit_and_takes_it_when_room_is_given_back() {
    let memory = Memory::new(BUDGET);
    let first = memory.try_reserve(40 << 10).unwrap();
    assert!(memory.try_reserve(40 << 10).is_none());
    drop(first);
    assert!(memory.try_reserve(40 << 10).is_some());
}

#[test]
fn growing_takes_only_what_is_missing() {
    let memory = Memory::new(BUDGET);
    let mut reservation = memory.try_reserve(0).unwrap();
    assert_eq!(memory.try_grow(&mut reservation, 10 << 10), Ok(()));
    assert_eq!(
        memory.try_grow(&mut reservation, RECEIVING - OVERHEAD_BYTES),
        Ok(())
    );
    assert!(memory.try_reserve(0).is_none(), "all is taken");
    drop(reservation);
    let mut other = memory.try_reserve(0).unwrap();
    let rest = memory.try_reserve(48 << 10).unwrap();
    assert_eq!(memory.try_grow(&mut other, 8 << 10), Err(Full::Budget));
    assert_eq!(
        memory.try_grow(&mut other, 4 << 10),
        Ok(()),
        "what it had it has kept"
    );
    drop(rest);
    assert_eq!(
        memory.try_grow(&mut other, u64::MAX),
        Ok(()),
        "never more than all"
    );
    assert!(memory.try_reserve(0).is_none());
}

#[test]
fn shrinking_gives_back_what_is_not_needed_any_more() {
    let memory = Memory::new(BUDGET);
    let mut reservation = receive(&memory, "a", 24 << 10).unwrap();
    assert_eq!(receive(&memory, "a", 0).err(), Some(Full::Share));
    memory.shrink(&mut reservation, 4 << 10);
    memory.shrink(&mut reservation, 4 << 10);
    let _second = receive(&memory, "a", 12 << 10).unwrap();
    assert!(memory.try_reserve(32 << 10).is_some());
}

#[test]
fn recipients_take_room_as_content_does() {
    assert_eq!(footprint(100, 0), 100);
    assert!(footprint(0, 1000) > 1000 * 2 * 256);
}

#[test]
fn gives_up_what_is_kept_oldest_first() {
    let ids = IdGenerator::new([1; 10]);
    let memory = Memory::new(BUDGET);
    let (first, second) = (message(&ids), message(&ids));
    let (a, b) = (first.id, second.id);
    memory.keep(first, memory.try_reserve(20 << 10).unwrap());
    memory.keep(second, memory.try_reserve(20 << 10).unwrap());
    let _room = receive(&memory, "a", 20 << 10).unwrap();
    assert!(memory.take(a).is_none(), "the oldest made room");
    assert!(memory.take(b).is_some());
    assert_eq!(memory.kept().units, 0);
}

#[test]
fn a_message_larger_than_the_budget_gets_all_of_it() {
    let memory = Memory::new(BUDGET);
    let holder = Holder::Login("a".into());
    assert!(memory.try_receive(holder, 1 << 40, 1 << 40).is_ok());
}

#[test]
fn a_client_that_holds_its_share_is_refused_and_others_are_not() {
    let memory = Memory::new(BUDGET);
    let mut hoard = Vec::new();
    let refusal = loop {
        match receive(&memory, "greedy", 0) {
            Ok(reservation) => hoard.push(reservation),
            Err(full) => break full,
        }
    };
    assert_eq!((hoard.len(), refusal), (7, Full::Share), "half");
    assert_eq!(
        memory.try_grow(&mut hoard[0], 10 << 10),
        Err(Full::Share),
        "nor by growing"
    );
    let other = receive(&memory, "modest", 8 << 10).unwrap();
    assert_eq!(memory.shares.holders(), 2);
    drop((hoard, other));
    assert_eq!(memory.shares.holders(), 0, "nothing is remembered");
}

#[test]
fn what_is_kept_of_a_clients_mail_is_not_its_share_and_in_nobodys_way() {
    let ids = IdGenerator::new([1; 10]);
    let memory = Memory::new(BUDGET);
    for _ in 0..20 {
        memory.keep(message(&ids), receive(&memory, "a", 10 << 10).unwrap());
    }
    assert_eq!(memory.shares.holders(), 0);
}

#[test]
fn is_full_for_a_minute_after_nobody_got_any() {
    let memory = Memory::new(BUDGET);
    memory.refused(Full::Share, 1000);
    assert!(!memory.is_full(1000), "that was one client alone");
    let _all = memory.take_all();
    let why = receive(&memory, "a", 0).unwrap_err();
    assert_eq!(why, Full::Budget);
    memory.refused(why, 1000);
    assert!(memory.is_full(1000) && memory.is_full(60_999));
    assert!(!memory.is_full(61_000));
}

#[tokio::test]
async fn mail_that_was_kept_makes_room_for_receiving_when_it_is_delivered() {
    let ids = IdGenerator::new([1; 10]);
    let memory = Memory::new(BUDGET);
    let message = message(&ids);
    let id = message.id;
    memory.keep(message, memory.try_reserve(16 << 10).unwrap());
    let room = memory.reserve(&"a".into(), 6 << 10).await;
    let _delivered = (memory.take(id).unwrap(), room.unwrap());
    assert!(memory.try_reserve(RECEIVING - OVERHEAD_BYTES).is_some());
}

#[tokio::test]
async fn a_message_larger_than_the_part_for_delivery_waits_for_clients_who_are_told() {
    let ids = IdGenerator::new([1; 10]);
    let memory = Arc::new(Memory::new(BUDGET));
    let client = receive(&memory, "a", 20 << 10).unwrap();
    let session = memory.try_reserve(16 << 10).unwrap();
    assert!(!memory.is_wanted());
    let waiting = tokio::spawn({
        let memory = Arc::clone(&memory);
        async move { memory.reserve(&"a".into(), RECEIVING).await.is_some() }
    });
    while !memory.is_wanted() {
        tokio::task::yield_now().await;
    }
    assert_eq!(receive(&memory, "b", 0).err(), Some(Full::Budget));
    let message = message(&ids);
    let id = message.id;
    memory.keep(message, session);
    assert!(memory.take(id).is_none(), "that room is wanted");
    drop(client);
    assert!(waiting.await.unwrap(), "the room went to the delivery");
    assert!(!memory.is_wanted() && receive(&memory, "b", 0).is_ok());
}

#[test]
fn what_is_kept_while_a_delivery_begins_to_wait_is_given_up() {
    let ids = IdGenerator::new([1; 10]);
    for _ in 0..100 {
        let memory = Memory::new(BUDGET);
        let (message, room) = (message(&ids), memory.try_reserve(0).unwrap());
        let id = message.id;
        let kept = memory.kept();
        std::thread::scope(|scope| {
            let keeping = scope.spawn(|| memory.keep(message, room));
            std::thread::yield_now();
            let _waiting = memory.lending.want();
            drop(kept);
            keeping.join().unwrap();
            assert!(memory.take(id).is_none(), "nobody would give it up");
        });
    }
}
