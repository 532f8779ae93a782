//! Who is woken, by what.

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
