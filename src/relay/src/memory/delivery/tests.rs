mod conversions;

use std::sync::Mutex;

use super::demand::DEMAND_AFTER;
use super::*;
use crate::memory::Holder;

/// The part for receiving is 960 KiB, of which 480 are lent, that for delivery 320, of which 40 are for what is small: 10 at most.
const BUDGET: u64 = 1280 << 10;

/// What every message takes beside its content, in KiB.
const OVERHEAD: u32 = 4;

impl Lending {
    /// What is for delivery alone.
    pub(in crate::memory) fn parts(&self) -> [&Part; 2] {
        [&self.own, &self.small]
    }

    pub(in crate::memory) fn has_waiting(&self) -> bool {
        !self.lines.is_empty()
    }

    /// As if a delivery waited for what clients hold.
    pub(in crate::memory) fn want(&self) -> impl Drop + '_ {
        self.demands.wait()
    }
}

impl Memory {
    /// Room for a message that takes so many units of a tenant's share, if there is any at once.
    async fn at_once(&self, tenant: &str, units: u32) -> Option<Reservation> {
        self.within(tenant, units, Duration::ZERO).await
    }

    /// The same if there is any within this time.
    async fn within(&self, tenant: &str, units: u32, time: Duration) -> Option<Reservation> {
        let bytes = u64::from(units - OVERHEAD) << 10;
        let tenant = tenant.into();
        timeout(time, self.reserve(&tenant, bytes)).await.ok()?
    }

    /// All that a tenant gets by messages of so many units.
    async fn hoard(&self, tenant: &str, units: u32) -> Vec<Reservation> {
        let mut all = Vec::new();
        while let Some(room) = self.at_once(tenant, units).await {
            all.push(room);
        }
        all
    }
}

fn units(rooms: &[Reservation]) -> u32 {
    rooms.iter().map(Reservation::units).sum()
}

async fn waits(memory: &Memory) {
    while !memory.lending.has_waiting() {
        tokio::task::yield_now().await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_tenant_leaves_others_as_much_as_it_takes() {
    let memory = Memory::new(BUDGET);
    let first = memory.hoard("first", 5).await;
    assert_eq!(units(&first), 140 + 240 + 20, "half of each place");
    let second = memory.hoard("second", 5).await;
    assert_eq!(units(&second), 70 + 120 + 10);
    let third = memory.hoard("third", 5).await;
    assert_eq!(units(&third), 35 + 60 + 5);
    drop((first, second, third));
    assert_eq!(memory.lending.held(Kind::Small).holders(), 0);
    assert_eq!(units(&memory.hoard("third", 5).await), 400);
}

#[tokio::test(start_paused = true)]
async fn one_that_has_nobody_to_leave_room_for_gets_all_there_is() {
    let memory = Memory::new(BUDGET);
    memory.share(Sharing::Alone);
    let all = memory.hoard("only", 5).await;
    assert_eq!(units(&all), 320 + 480);
    memory.share(Sharing::Many);
    drop(all);
    assert_eq!(units(&memory.hoard("only", 5).await), 160 + 240);
}

#[tokio::test(start_paused = true)]
async fn large_messages_of_one_tenant_leave_room_for_small_ones() {
    for (sharing, expected) in [(Sharing::Alone, 40), (Sharing::Many, 20)] {
        let memory = Memory::new(BUDGET);
        memory.share(sharing);
        let mut large = Vec::new();
        for units in [270, 270, 150, 80, 40, 20, 11] {
            large.extend(memory.hoard("greedy", units).await);
        }
        assert!(units(&large) >= 540, "one in each place");
        let small = memory.hoard("greedy", 10).await;
        assert!(units(&small) >= expected, "{sharing:?}");
        drop(small);
        let small = memory.hoard("modest", 4).await;
        assert!(units(&small) >= 20, "{sharing:?}");
        let client = memory.try_receive(Holder::Login("modest".into()), 4 << 10, 4 << 10);
        assert!(client.is_ok());
    }
}

#[tokio::test(start_paused = true)]
async fn queued_mail_moves_while_clients_hold_all_that_is_for_receiving() {
    let memory = Memory::new(BUDGET);
    let _hogs = memory.try_reserve(1 << 20).unwrap();
    for _ in 0..10 {
        assert!(memory.at_once("a", 20).await.is_some());
    }
}

#[tokio::test(start_paused = true)]
async fn delivery_borrows_half_of_what_clients_leave_of_half() {
    for (held, expected) in [(40, 220), (160, 160), (320, 80), (480, 0), (880, 0)] {
        let memory = Memory::new(BUDGET);
        let _clients = memory.try_reserve(u64::from(held - OVERHEAD) << 10);
        let borrowed = units(&memory.hoard("a", 5).await) - 160;
        assert_eq!(borrowed, expected, "{held}");
    }
}

#[tokio::test(start_paused = true)]
async fn who_waits_for_its_own_is_in_nobodys_way_and_what_is_small_goes_by_arrival_as_far_as_it_fits()
 {
    let memory = Arc::new(Memory::new(BUDGET));
    let mut hoard = memory.hoard("a", 5).await;
    let order = Arc::new(Mutex::new(Vec::new()));
    let mut tasks = Vec::new();
    for (number, units) in [20, 8, 5, 5].into_iter().enumerate() {
        let (memory, order) = (Arc::clone(&memory), Arc::clone(&order));
        tasks.push(tokio::spawn(async move {
            let bytes = u64::from(units - OVERHEAD) << 10;
            let room = memory.reserve(&"a".into(), bytes).await;
            order.lock().unwrap().push(number);
            room
        }));
        tokio::task::yield_now().await;
    }
    waits(&memory).await;
    assert!(memory.at_once("b", 10).await.is_some());
    // Five are too few for the first two, and not for the third.
    hoard.pop();
    assert!(memory.at_once("a", 5).await.is_none(), "others came first");
    while hoard.pop().is_some() {
        tokio::time::sleep(LOOK_PAUSE).await;
    }
    for task in tasks {
        assert!(task.await.unwrap().is_some());
    }
    assert_eq!(*order.lock().unwrap(), [2, 3, 1, 0], "what fits passes");
    assert!(!memory.lending.has_waiting());
}

#[tokio::test(start_paused = true)]
async fn one_that_goes_away_while_it_waits_takes_nothing_with_it() {
    let memory = Memory::new(BUDGET);
    let hoard = memory.hoard("a", 5).await;
    assert!(!memory.lending.has_waiting(), "the last look of the hoard");
    drop(hoard);
    assert_eq!(units(&memory.hoard("a", 5).await), 400);
}

#[tokio::test(start_paused = true)]
async fn a_tenant_that_has_nothing_takes_what_is_not_fair_in_the_end() {
    let memory = Memory::new(BUDGET);
    let _hoards = [
        memory.hoard("a", 20).await,
        memory.hoard("b", 5).await,
        memory.hoard("c", 5).await,
    ];
    let begun = Instant::now();
    let room = memory.within("d", 100, 2 * DEMAND_AFTER).await.unwrap();
    assert!(begun.elapsed() >= DEMAND_AFTER && !memory.is_wanted());
    let late = 10 * DEMAND_AFTER;
    assert!(
        memory.within("e", 100, late).await.is_none(),
        "one at a time"
    );
    drop(room);
    assert!(memory.within("e", 100, late).await.is_some());
    assert!(memory.within("b", 100, late).await.is_some(), "only small");
    let more = memory.within("a", 100, late).await;
    assert!(more.is_none(), "it has something");
}

/// Many of one tenant wait for what is not fair, and then comes one of another's.
#[tokio::test(start_paused = true)]
async fn tenants_take_turns_at_what_is_not_fair_each_by_arrival() {
    let memory = Arc::new(Memory::new(BUDGET));
    let first = memory.at_once("first", 300).await.unwrap();
    let order = Arc::new(Mutex::new(Vec::new()));
    let mut tasks = Vec::new();
    let messages = (0..20).map(|number| ("many", number)).chain([("one", 0)]);
    for (tenant, number) in messages {
        let (memory, order) = (Arc::clone(&memory), Arc::clone(&order));
        tasks.push(tokio::spawn(async move {
            let _room = memory.reserve(&tenant.into(), 300 << 10).await;
            order.lock().unwrap().push((tenant, number));
            tokio::time::sleep(3 * LOOK_PAUSE).await;
        }));
        tokio::task::yield_now().await;
    }
    tokio::time::sleep(2 * DEMAND_AFTER).await;
    drop(first);
    for task in tasks {
        task.await.unwrap();
    }
    let mut expected: Vec<_> = (0..20).map(|number| ("many", number)).collect();
    expected.insert(1, ("one", 0));
    assert_eq!(*order.lock().unwrap(), expected);
}

#[tokio::test(start_paused = true)]
async fn small_mail_does_not_wait_behind_what_is_large() {
    let memory = Memory::new(BUDGET);
    let mut hung = memory.hoard("a", 20).await;
    hung.extend(memory.hoard("a", 5).await);
    hung.pop();
    let large = memory.within("a", 20, Duration::from_secs(3600));
    let small = async {
        waits(&memory).await;
        memory.at_once("a", 4).await
    };
    tokio::select! {
        biased;
        large = large => panic!("{large:?}"),
        small = small => assert!(small.is_some()),
    }
}

#[tokio::test(start_paused = true)]
async fn what_is_too_large_for_its_share_does_not_wait_for_other_tenants() {
    let memory = Memory::new(BUDGET);
    let _other = memory.at_once("b", 4).await.unwrap();
    let _client = memory.try_reserve(1 << 10).unwrap();
    let _small = memory.at_once("a", 5).await.unwrap();
    let second = Duration::from_secs(1);
    let first = memory.within("a", 300, second).await;
    assert!(first.is_some(), "the small one does not count");
    assert!(memory.within("a", 300, second).await.is_none());
}

#[tokio::test(start_paused = true)]
async fn who_has_gone_stands_in_no_line() {
    let memory = Memory::new(BUDGET);
    let _hoard = memory.hoard("a", 20).await;
    let line = memory.lending.ask(&"a".into(), 20 << 10, 0).line;
    let head = async {
        let hour = Duration::from_secs(3600);
        memory.within("a", 20 + OVERHEAD, hour).await
    };
    let others = async {
        waits(&memory).await;
        for _ in 0..1000 {
            assert!(memory.at_once("a", 20 + OVERHEAD).await.is_none());
        }
        memory.lending.lines.len(&line)
    };
    tokio::select! {
        biased;
        head = head => panic!("{head:?}"),
        left = others => assert_eq!(left, 1),
    }
}

impl Memory {
    /// Which of these messages of a tenant, in units, would get their room, and do if they ask.
    async fn that_get_room(&self, tenant: &str) -> Vec<u32> {
        let mut all = Vec::new();
        for units in [5, 10, 20, 100] {
            let would = self.has_room(&tenant.into(), u64::from(units - OVERHEAD) << 10);
            let does = self.at_once(tenant, units).await.is_some();
            assert_eq!(would, does, "{units} of {tenant}");
            all.extend(would.then_some(units));
        }
        all
    }
}

/// A connection asks before it lets what it has wait, for mail that would have to wait too otherwise.
#[tokio::test(start_paused = true)]
async fn what_would_get_room_is_what_does() {
    let memory = Memory::new(BUDGET);
    assert_eq!(memory.that_get_room("a").await, [5, 10, 20, 100]);
    let small = memory.hoard("a", 5).await;
    assert!(memory.that_get_room("a").await.is_empty());
    assert_eq!(memory.that_get_room("b").await, [5, 10, 20, 100]);
    drop(small);
    let mut large = memory.hoard("a", 20).await;
    assert_eq!(memory.that_get_room("a").await, [5, 10]);
    let head = memory.within("a", 100, Duration::from_secs(3600));
    let others = async {
        waits(&memory).await;
        large.pop();
        assert_eq!(memory.that_get_room("a").await, [5, 10], "20 has to wait");
    };
    tokio::select! {
        biased;
        head = head => panic!("{head:?}"),
        () = others => {}
    }
    assert_eq!(memory.that_get_room("a").await, [5, 10, 20]);
}
