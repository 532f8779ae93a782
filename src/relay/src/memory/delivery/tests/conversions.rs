//! Conversions, which wait for room beside what they have.

use std::collections::VecDeque;
use std::future::pending;

use futures::FutureExt as _;

use super::*;

/// A conversion of a message of 20 units waits for 40 more, and before it came a large message.
#[tokio::test(start_paused = true)]
async fn while_a_conversion_waits_nothing_large_of_its_tenant_gets_room() {
    let memory = Memory::new(BUDGET);
    let tenant = "a".into();
    let mut hoard = memory.hoard("a", 20).await;
    let (held, needed) = (16 << 10, 36 << 10);
    let large = memory.within("a", 20, Duration::from_secs(3600));
    let conversion = async {
        waits(&memory).await;
        memory.reserve_beside(&tenant, held, needed).await
    };
    let others = async {
        while memory.lending.lines.is_open(&Line {
            kind: Kind::More,
            tenant: "a".into(),
        }) {
            tokio::task::yield_now().await;
        }
        let second = memory.reserve_beside(&tenant, held, needed).await;
        assert!(second.is_none(), "it need not hold its room for nothing");
        let little = memory.reserve_beside(&tenant, 1 << 10, 3 << 10);
        assert!(little.now_or_never().flatten().is_some(), "a little");
        // Room for the large message, and too little for the conversion.
        hoard.pop();
        assert!(memory.at_once("a", 20).await.is_none());
        tokio::time::sleep(3 * LOOK_PAUSE).await;
        hoard.pop();
        pending::<()>().await;
    };
    tokio::select! {
        biased;
        large = large => panic!("{large:?}"),
        () = others => {}
        more = conversion => assert!(more.is_some()),
    }
}

/// What the conversion needs is held by what hangs, and there is room for other large mail.
#[tokio::test(start_paused = true)]
async fn a_conversion_does_not_keep_large_mail_of_its_tenant_waiting_for_as_long_as_it_waits() {
    let memory = Memory::new(BUDGET);
    let tenant = "a".into();
    let mut hoard = memory.hoard("a", 20).await;
    hoard.truncate(hoard.len() - 2);
    let begun = Instant::now();
    let conversion = memory.reserve_beside(&tenant, 16 << 10, 96 << 10);
    let others = async {
        waits(&memory).await;
        assert!(
            memory
                .within("a", 20, Duration::from_secs(30))
                .await
                .is_none()
        );
        for _ in 0..10 {
            assert!(
                memory
                    .within("a", 20, Duration::from_secs(60))
                    .await
                    .is_some()
            );
        }
        begun.elapsed()
    };
    tokio::select! {
        biased;
        conversion = conversion => panic!("{conversion:?}"),
        time = others => assert!(time < Duration::from_secs(70), "{time:?}"),
    }
}

/// Whenever there is a little room, more small mail has come that takes it.
#[tokio::test(start_paused = true)]
async fn a_small_conversion_gets_its_room_while_small_mail_comes_without_end() {
    let memory = Memory::new(BUDGET);
    let mut rooms: VecDeque<_> = memory.hoard("a", 5).await.into();
    let tenant = "a".into();
    let conversion = memory.reserve_beside(&tenant, 1 << 10, 6 << 10);
    let stream = async {
        loop {
            rooms.pop_front();
            rooms.extend(memory.within("a", 5, LOOK_PAUSE).await);
            tokio::time::sleep(LOOK_PAUSE / 10).await;
        }
    };
    tokio::select! {
        biased;
        room = conversion => assert_eq!(room.unwrap().units(), 10),
        () = stream => {}
    }
}

/// Each holds room that another waits for.
#[tokio::test(start_paused = true)]
async fn one_small_conversion_of_a_tenant_waits_and_small_mail_waits_for_it_for_seconds_only() {
    let memory = Memory::new(BUDGET);
    let mut small = memory.hoard("a", 5).await;
    let tenant = "a".into();
    let first = memory.reserve_beside(&tenant, 1 << 10, 6 << 10);
    let others = async {
        waits(&memory).await;
        let second = memory.reserve_beside(&tenant, 1 << 10, 6 << 10);
        assert!(second.now_or_never().unwrap().is_none());
        small.pop();
        assert!(!memory.has_room(&tenant, 1 << 10));
        assert!(memory.at_once("a", 5).await.is_none());
        assert!(memory.within("b", 5, LOOK_PAUSE).await.is_some());
        let seconds = Duration::from_secs(4);
        let passing = memory.within("a", 5, seconds).await;
        assert!(passing.is_some() && !memory.has_room(&tenant, 1 << 10));
        pending::<()>().await;
    };
    let begun = Instant::now();
    tokio::select! {
        biased;
        first = first => assert!(first.is_none()),
        () = others => {}
    }
    assert!((LITTLE_PATIENCE..2 * LITTLE_PATIENCE).contains(&begun.elapsed()));
}

#[tokio::test(start_paused = true)]
async fn the_conversion_of_what_is_delivered_although_that_is_not_fair_is_too() {
    let memory = Memory::new(BUDGET);
    let _hoards = [memory.hoard("a", 20).await, memory.hoard("b", 20).await];
    let room = memory.within("d", 150, 2 * DEMAND_AFTER).await.unwrap();
    let tenant = "d".into();
    let conversion = memory.reserve_beside(&tenant, 146 << 10, 400 << 10);
    let conversion = timeout(2 * DEMAND_AFTER, conversion).await;
    assert_eq!(conversion.unwrap().unwrap().units(), 404);
    drop(room);
    let other = memory.within("e", 300, 2 * DEMAND_AFTER).await;
    assert!(other.is_some(), "the turn ended with the message");
}

#[tokio::test(start_paused = true)]
async fn a_conversion_keeps_no_client_waiting_for_what_deliveries_hold() {
    // It needs so much in KiB; what is lent is given back by nobody.
    for (needed, is_wanted) in [(300, true), (600, false)] {
        let memory = Memory::new(BUDGET);
        let _hoards = [memory.hoard("a", 20).await, memory.hoard("b", 20).await];
        let _room = memory.within("d", 150, 2 * DEMAND_AFTER).await.unwrap();
        let _client = memory.try_reserve(250 << 10).unwrap();
        let tenant = "d".into();
        let conversion = memory.reserve_beside(&tenant, 146 << 10, needed << 10);
        let mut conversion = Box::pin(conversion);
        let waits = timeout(2 * LOOK_PAUSE, &mut conversion).await;
        let found = (waits.is_err(), memory.is_wanted());
        assert_eq!(found, (true, is_wanted), "{needed}");
    }
}
