//! Hosts that do not answer, and addresses to which too much leads.

use futures::future::join_all;

use super::*;

#[tokio::test]
async fn a_silent_host_does_not_take_the_time_of_the_next() {
    let (_, port) = Exchanger::start("127.0.0.2", 0, Manner::Silent).await;
    let (_, _) = Exchanger::start("127.0.0.3", port, Manner::Greets("220 mx")).await;
    let mut opener = opener(two(), port);
    opener.patience.target = Duration::from_millis(300);
    let result = attempt(&opener, TlsDemand::Default).await;
    assert_eq!(result.unwrap().0, "second.example.net");
    // What has learned nothing of the first one yet.
    let mut opener = self::opener(two(), port);
    opener.patience.attempt = Duration::from_millis(100);
    let failed = held(attempt(&opener, TlsDemand::Default).await);
    assert_eq!(failed.reason, FailureReason::ConnectionTimedOut);
}

#[tokio::test]
async fn a_host_that_does_not_answer_is_left_alone_by_other_domains() {
    let (silent, port) = Exchanger::start("127.0.0.2", 0, Manner::Silent).await;
    let zone = Zone::default()
        .mx("example.org", 10, "first.example.net")
        .mx("other.example.org", 10, "first.example.net")
        .address("first.example.net", "127.0.0.2");
    let mut opener = opener(zone, port);
    opener.patience.target = Duration::from_millis(100);
    for domain in ["example.org", "other.example.org"] {
        let Err(DirectFailure::Hold(failed)) = opener.open(domain, &None, TlsDemand::Default).await
        else {
            panic!("let in")
        };
        assert_eq!(failed.reason, FailureReason::ConnectionTimedOut);
    }
    assert_eq!(silent.dialogues().len(), 1);
}

#[tokio::test]
async fn one_domain_with_little_time_left_does_not_make_an_address_dead_for_another() {
    let (_, port) = Exchanger::start("127.0.0.2", 0, Manner::Silent).await;
    let late = Manner::Late(Duration::from_millis(60));
    let (_, _) = Exchanger::start("127.0.0.3", port, late).await;
    let zone = two()
        .mx("victim.example", 10, "mx.victim.example")
        .address("mx.victim.example", "127.0.0.3");
    let mut opener = opener(zone, port);
    opener.patience.target = Duration::from_millis(400);
    opener.patience.attempt = Duration::from_millis(420);
    opener.patience.least = Duration::ZERO;
    let opened = opener.open("example.org", &None, TlsDemand::Default).await;
    assert!(opened.is_err());
    let opened = opener
        .open("victim.example", &None, TlsDemand::Default)
        .await;
    if let Err(failed) = opened {
        panic!("{failed:?}");
    }
}

#[tokio::test]
async fn a_target_for_which_too_little_time_is_left_is_not_begun() {
    let (_, port) = Exchanger::start("127.0.0.2", 0, Manner::Silent).await;
    let (second, _) = Exchanger::start("127.0.0.3", port, Manner::Greets("220 mx")).await;
    let mut opener = opener(two(), port);
    opener.patience.target = Duration::from_millis(100);
    opener.patience.attempt = Duration::from_secs(10);
    opener.patience.least = Duration::from_millis(9950);
    let failed = held(attempt(&opener, TlsDemand::Default).await);
    assert!(failed.message.contains("first.example.net"), "{failed:?}");
    assert!(second.dialogues().is_empty());
}

#[tokio::test]
async fn what_is_said_of_a_dead_address_names_nobody_elses_host() {
    let (_, port) = Exchanger::start("127.0.0.2", 0, Manner::Silent).await;
    let zone = two()
        .mx("victim.example", 10, "mx.victim.example")
        .address("mx.victim.example", "127.0.0.2");
    let mut opener = opener(zone, port);
    opener.patience.target = Duration::from_millis(50);
    let opened = opener.open("example.org", &None, TlsDemand::Default).await;
    assert!(opened.is_err());
    let opened = opener
        .open("victim.example", &None, TlsDemand::Default)
        .await;
    let Err(DirectFailure::Hold(failed)) = opened else {
        panic!("let in")
    };
    assert_eq!(failed.reason, FailureReason::ConnectionTimedOut);
    let text = &failed.message;
    assert!(
        text.starts_with("mx.victim.example (127.0.0.2): "),
        "{text}"
    );
    assert!(!text.contains("first.example.net"), "{text}");
}

#[tokio::test]
async fn a_hundred_domains_at_one_address_have_twenty_connections() {
    let (exchanger, port) = Exchanger::start("127.0.0.2", 0, Manner::Silent).await;
    let mut zone = Zone::default().address("victim.example.net", "127.0.0.2");
    for number in 0..100 {
        zone = zone.mx(&format!("d{number}.example.org"), 10, "victim.example.net");
    }
    let opener = opener(zone, port);
    let domains: Vec<String> = (0..100)
        .map(|number| format!("d{number}.example.org"))
        .collect();
    let attempts = domains
        .iter()
        .map(|domain| opener.open(domain, &None, TlsDemand::Default));
    let all_dialled = async {
        while exchanger.dialogues().len() < dials::DIALS_MAX {
            tokio::task::yield_now().await;
        }
        // One too many would be there by then: all have begun at once.
        tokio::time::sleep(Duration::from_millis(200)).await;
    };
    tokio::select! {
        _ = join_all(attempts) => panic!("the host says nothing"),
        () = all_dialled => {}
    }
    assert_eq!(exchanger.dialogues().len(), dials::DIALS_MAX);
}

#[tokio::test]
async fn an_address_is_dead_for_others_only_if_no_connection_to_it_comes_about_or_nothing_is_said_there()
 {
    let zone = || {
        Zone::default()
            .mx("example.org", 10, "mx.example.net")
            .mx("other.example.org", 10, "mx.example.net")
            .address("mx.example.net", "127.0.0.2")
    };
    let (gone, port) = Exchanger::start("127.0.0.3", 0, Manner::Silent).await;
    let nobody = (gone, port, true);
    let (says, port) = Exchanger::start("127.0.0.2", 0, Manner::Greets("554 not you")).await;
    let talks = (says, port, false);
    let (says, port) = Exchanger::start("127.0.0.2", 0, Manner::Greets("421 later")).await;
    let throttles = (says, port, false);
    for (exchanger, port, is_dead) in [nobody, talks, throttles] {
        let opener = opener(zone(), port);
        for (asked, domain) in ["example.org", "other.example.org"].iter().enumerate() {
            let opened = opener.open(domain, &None, TlsDemand::Default).await;
            let Err(DirectFailure::Hold(failed)) = opened else {
                panic!("let in")
            };
            let lately = failed.message.contains("it did not answer lately");
            assert_eq!(lately, is_dead && asked == 1, "{failed:?}");
            let dialogues = exchanger.dialogues().len();
            assert_eq!(dialogues, if is_dead { 0 } else { asked + 1 });
        }
    }
}

#[tokio::test]
async fn who_finds_an_address_busy_waits_for_a_place_and_says_so_if_it_gets_none() {
    let (_, port) = Exchanger::start("127.0.0.3", 0, Manner::Greets("220 mx")).await;
    let zone = Zone::default().address("example.org", "127.0.0.3");
    let mut opener = opener(zone, port);
    let address = "127.0.0.3".parse().unwrap();
    let mut held: Vec<_> = (0..dials::DIALS_MAX)
        .map(|_| opener.dials.enter(address, &None, Instant::now()).unwrap())
        .collect();
    let waiting = opener.open("example.org", &None, TlsDemand::Default);
    let releasing = async {
        tokio::time::sleep(Duration::from_millis(50)).await;
        drop(held.pop());
    };
    let (opened, ()) = tokio::join!(waiting, releasing);
    let connection = opened.unwrap_or_else(|failure| panic!("{failure:?}"));
    opener.patience.busy = Duration::from_millis(50);
    let failed = attempt(&opener, TlsDemand::Default).await;
    assert_eq!(failed, Err(DirectFailure::Busy));
    connection.quit().await;
}
