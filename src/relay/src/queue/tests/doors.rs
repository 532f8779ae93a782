//! Who is woken, by what.

use futures::FutureExt as _;

use super::*;

#[tokio::test]
async fn who_waits_for_work_is_woken_by_what_comes_due_and_nobody_else() {
    let rig = Rig::new(ENOUGH);
    let queue = rig.context.queue.clone();
    rig.accept(&rig.message(1, 0)).await.unwrap();
    let door = queue.enter();
    let taken = door.take().unwrap();
    queue.changed().await;
    let ticket = taken.ticket;
    let idle = tokio::spawn(async move {
        let has_work = door.wait(Duration::from_secs(60)).await;
        (has_work, door.take(), door)
    });
    let place = queue.state().schedule.routes().next().unwrap().0;
    while !queue.state().schedule.has_idle(place) {
        tokio::task::yield_now().await;
    }
    assert!(queue.wanting().is_empty(), "nothing is due");
    queue.release(ticket, 0);
    assert!(queue.wanting().is_empty(), "somebody is idle");
    // Well before it would give up by itself.
    let soon = tokio::time::timeout(Duration::from_secs(10), idle).await;
    let (has_work, again, door) = soon.unwrap().unwrap();
    assert!(has_work);
    assert_eq!(again, Some(taken));
    assert!(!queue.has_idle(&door));
}

#[tokio::test]
async fn work_that_is_there_already_is_not_waited_for() {
    let rig = Rig::new(ENOUGH);
    let queue = &rig.context.queue;
    for _ in 0..2 {
        rig.accept(&rig.message(1, 0)).await.unwrap();
    }
    let door = queue.enter();
    assert!(door.take().is_some());
    assert!(door.wait(Duration::from_secs(60)).await);
    assert!(door.take().is_some());
    assert!(!door.wait(Duration::ZERO).await);
    assert!(!queue.has_idle(&door));
}

#[tokio::test]
async fn a_worker_that_stops_waiting_is_idle_no_longer_and_gives_its_place_back() {
    let rig = Rig::new(ENOUGH);
    let queue = rig.context.queue.clone();
    rig.accept(&rig.message(1, 0)).await.unwrap();
    let door = queue.enter();
    let place = door.place();
    let taken = door.take().unwrap();
    let idle = tokio::spawn(async move { door.wait(Duration::from_secs(60)).await });
    while !queue.state().schedule.has_idle(place) {
        tokio::task::yield_now().await;
    }
    assert_eq!(queue.connections(), 1);
    idle.abort();
    assert!(idle.await.is_err());
    assert!(!queue.state().schedule.has_idle(place));
    assert_eq!((queue.connections(), queue.state().doors.len()), (0, 0));
    queue.release(taken.ticket, 0);
    assert_eq!(queue.wanting().len(), 1);
}

#[tokio::test]
async fn the_manager_is_not_woken_while_it_could_open_nothing() {
    let rig = Rig::new(ENOUGH);
    let queue = &rig.context.queue;
    let is_woken = || {
        let woken = tokio::time::timeout(Duration::ZERO, queue.changed());
        async { woken.await.is_ok() }
    };
    rig.accept(&rig.message(1, 0)).await.unwrap();
    assert!(is_woken().await);
    let (place, _) = queue.wanting().pop().unwrap();
    queue.block(place);
    rig.accept(&rig.message(1, 0)).await.unwrap();
    assert!(!is_woken().await);
    // It looks at its destinations: the block is over.
    assert_eq!(queue.wanting().len(), 1);
    rig.accept(&rig.message(1, 0)).await.unwrap();
    assert!(is_woken().await);
}

#[tokio::test(start_paused = true)]
async fn old_mail_waits_beside_a_connection_only_as_long_as_that_goes_on_with_the_rest() {
    let ever = 600;
    // What the other is at; after how many seconds mail of others goes over this one.
    for (name, seconds) in [
        ("being opened", 0..=1),
        ("being opened for what it finds", 0..=1),
        ("at its first piece", 60..=61),
        ("taking pieces", ever..=ever),
    ] {
        let rig = Rig::new(ENOUGH);
        let queue = rig.context.queue.clone();
        queue.share(Sharing::Many);
        let mut old = rig.message(1, 600);
        old.envelope.credential = "a".into();
        old.body = vec![b'x'; 150 << 10].into();
        rig.accept(&old).await.unwrap();
        let tenant = "a".into();
        let rooms = std::iter::from_fn(|| {
            let room = queue.memory().reserve(&tenant, 20 << 10);
            room.now_or_never().flatten()
        });
        let _rooms: Vec<_> = rooms.collect();
        let door = queue.enter();
        let taken = door.take().unwrap();
        rig.accept(&rig.message(1, 0)).await.unwrap();
        let mut other = queue.open(door.place()).unwrap();
        match name {
            "being opened" => {}
            "being opened for what it finds" => queue.release(other.take().unwrap().ticket, 0),
            _ => other.connected(),
        }
        let goes_on = async {
            loop {
                tokio::time::sleep(Duration::from_secs(50)).await;
                if name == "taking pieces" {
                    let found = other.take().unwrap();
                    queue.release(found.ticket, 0);
                }
            }
        };
        let begin = tokio::time::Instant::now();
        tokio::select! {
            () = door.others_are_ready(&taken, Duration::MAX) => {}
            () = goes_on => {}
            () = tokio::time::sleep(Duration::from_secs(ever)) => {}
        }
        let waited = begin.elapsed();
        assert!(seconds.contains(&waited.as_secs()), "{name}: {waited:?}");
    }
}
