use super::super::lanes::{Class, WEIGHTS};
use super::*;

/// The logins of what is taken from a destination, in order.
fn order(schedule: &mut Schedule, place: Place, mail: &[Queued<'_>]) -> Vec<String> {
    let taken = std::iter::from_fn(|| schedule.take(place, 1));
    taken
        .map(|taken| {
            let found = mail.iter().find(|queued| queued.id == taken.ticket.id);
            found.unwrap().credential.to_string()
        })
        .collect()
}

#[test]
fn tenants_have_their_turns_however_much_one_sends() {
    let (mail, mut schedule) = (Mail::new(), Schedule::default());
    let mut all: Vec<_> = (0..100).map(|_| mail.from("news", "a.example")).collect();
    all.extend((0..3).map(|_| mail.from("shop", "b.example")));
    all.extend((0..2).map(|_| mail.from("", "c.example")));
    all.iter()
        .for_each(|queued| assert_eq!(schedule.insert(queued, 1), Filed::Queued));
    let place = schedule.place(&Key::Default).unwrap();
    let order = order(&mut schedule, place, &all);
    assert_eq!(
        order[..8],
        ["news", "shop", "", "news", "shop", "", "news", "shop"]
    );
    assert!(order[8..].iter().all(|tenant| tenant == "news"));
    assert_eq!(order.len(), 105);
}

#[test]
fn within_a_tenant_it_is_first_come_first_served() {
    let (mail, mut schedule) = (Mail::new(), Schedule::default());
    let all: Vec<_> = (0..50).map(|_| mail.from("shop", "a.example")).collect();
    all.iter()
        .for_each(|queued| assert_eq!(schedule.insert(queued, 1), Filed::Queued));
    let taken: Vec<_> = std::iter::from_fn(|| schedule.take_any(1)).collect();
    let ids = taken.iter().map(|taken| taken.ticket.id);
    assert!(ids.eq(all.iter().map(|queued| queued.id)));
}

#[test]
fn who_has_no_login_shares_a_turn_with_all_who_have_none() {
    let (mail, mut schedule) = (Mail::new(), Schedule::default());
    let mut all = Vec::new();
    for number in 0..100 {
        // One of them forges a login's name, another says that it is a report.
        let sender = match number {
            0 => "shop.mail".to_owned(),
            1 => String::new(),
            _ => format!("d{number}.example"),
        };
        all.push(Queued {
            sender_domain: sender.into(),
            ..mail.from("", "a.example")
        });
        all.push(Queued {
            sender_domain: "".into(),
            author: Author::Relay,
            ..mail.from("shop.mail", "a.example")
        });
        all.push(mail.from("shop.mail", "a.example"));
    }
    all.iter()
        .for_each(|queued| assert_eq!(schedule.insert(queued, 1), Filed::Queued));
    let place = schedule.place(&Key::Default).unwrap();
    let turns = std::iter::from_fn(|| schedule.take(place, 1)).map(|taken| {
        let position = all.iter().position(|queued| queued.id == taken.ticket.id);
        position.unwrap() % 3
    });
    assert_eq!(turns.collect::<Vec<_>>(), [0, 1, 2].repeat(100));
}

#[test]
fn what_is_urgent_goes_first_of_its_tenant_and_the_rest_is_not_forgotten() {
    let (mail, mut schedule) = (Mail::new(), Schedule::default());
    let with = |priority| Queued {
        priority,
        ..mail.from("shop", "a.example")
    };
    let classes = [4, 0, -9];
    let all: Vec<_> = (0..300).map(|number| with(classes[number % 3])).collect();
    all.iter()
        .for_each(|queued| assert_eq!(schedule.insert(queued, 1), Filed::Queued));
    let order: Vec<_> = std::iter::from_fn(|| schedule.take_any(1))
        .map(|taken| {
            let found = all.iter().find(|queued| queued.id == taken.ticket.id);
            found.unwrap().priority
        })
        .collect();
    let round = usize::from(WEIGHTS.iter().sum::<u8>());
    for (class, weight) in classes.iter().zip(WEIGHTS) {
        let count = order[..round].iter().filter(|one| *one == class).count();
        assert_eq!(count, usize::from(weight), "{class}");
    }
    assert!(order[..16].iter().all(|class| *class == 4));
    assert_eq!(order.len(), 300);
}

#[test]
fn a_priority_between_two_classes_counts_as_the_higher() {
    let cases = [
        (-9, Class::Low),
        (-4, Class::Low),
        (-3, Class::Normal),
        (-1, Class::Normal),
        (0, Class::Normal),
        (1, Class::High),
        (4, Class::High),
        (9, Class::High),
    ];
    for (priority, expected) in cases {
        assert_eq!(Class::of(priority), expected, "{priority}");
    }
}

#[test]
fn who_calls_everything_urgent_has_no_more_turns() {
    let (mail, mut schedule) = (Mail::new(), Schedule::default());
    let urgent = |_| Queued {
        priority: 9,
        ..mail.from("news", "a.example")
    };
    let mut all: Vec<_> = (0..100).map(urgent).collect();
    all.extend((0..3).map(|_| mail.from("shop", "a.example")));
    all.iter()
        .for_each(|queued| assert_eq!(schedule.insert(queued, 1), Filed::Queued));
    let place = schedule.place(&Key::Default).unwrap();
    let order = order(&mut schedule, place, &all);
    assert_eq!(order[..6], ["news", "shop", "news", "shop", "news", "shop"]);
}

#[test]
fn destinations_have_their_turns_for_a_connection() {
    let (mail, mut schedule) = (Mail::new(), Schedule::new(direct()));
    for domain in [
        "a.example",
        "a.example",
        "a.example",
        "b.example",
        "c.example",
    ] {
        schedule.insert(&mail.to(&[(domain, 1)], 1), 1);
    }
    let mut opened = || {
        schedule
            .open_domain(1)
            .map(|(_, key)| key.label().to_owned())
    };
    let order: Vec<_> = std::iter::from_fn(&mut opened).collect();
    assert_eq!(
        order,
        ["a.example", "b.example", "c.example"],
        "one each until it works"
    );
}

#[test]
fn a_connection_is_opened_for_somebodys_mail() {
    use crate::room::Account;
    let (mail, mut schedule) = (Mail::new(), Schedule::new(direct()));
    schedule.insert(&mail.from("shop", "a.example"), 1);
    schedule.insert(&mail.from("", "b.example"), 1);
    let mut report = mail.from("shop", "c.example");
    report.author = Author::Relay;
    schedule.insert(&report, 1);
    for (domain, expected) in [
        ("a.example", Some(Account::Login("shop".into()))),
        ("b.example", Some(Account::Network)),
        ("c.example", None),
    ] {
        let (place, key) = schedule.open_domain(1).unwrap();
        assert_eq!((key.label(), schedule.owner(place)), (domain, expected));
    }
}

#[test]
fn a_destination_that_works_gets_more_connections_than_one_as_it_bears_them() {
    let (mail, mut schedule) = (Mail::new(), Schedule::new(direct()));
    schedule.set_limits(SiteLimits {
        connections: 5,
        ..SiteLimits::default()
    });
    for _ in 0..100 {
        schedule.insert(&mail.to(&[("a.example", 1)], 1), 1);
    }
    let mut open = Vec::new();
    let mut counts = Vec::new();
    for round in 0..5 {
        while let Some((place, _)) = schedule.open_domain(1) {
            schedule.connected(place, 1);
            open.push(place);
        }
        counts.push(open.len());
        for place in open.clone() {
            let taken = schedule.take(place, 1).unwrap();
            schedule.finish(taken.ticket, 1);
            let before = schedule.answered(place, Answer::Final, 1);
            assert_eq!(before == Standing::Fresh, round == 0);
        }
    }
    assert_eq!(counts, [1, 3, 5, 5, 5]);
    assert_eq!(schedule.connections().total(), 5);
    let failure = super::hanging::failure();
    let at = crate::clock::Moment {
        now_ms: 1,
        random: 0.5,
    };
    let throttled = postroad_config::status::FailureReason::Throttled;
    let failure = postroad_config::status::UpstreamFailure {
        reason: throttled,
        ..failure
    };
    let judged = schedule.failed(open[0], failure, at);
    assert_eq!(judged, (Verdict::Crowded, Standing::Proven));
    for _ in 0..4 {
        schedule.closed(open[0], Opening::Done, 1);
    }
    assert_eq!(schedule.open_domain(1), None, "it has asked for a pause");
    let again: Vec<_> = std::iter::from_fn(|| schedule.open_domain(5_001)).collect();
    assert_eq!(again.len(), 1, "half of five, with the one that is left");
}

#[test]
fn what_hangs_since_before_a_failure_does_not_keep_a_destination_from_being_tried() {
    let (mail, mut schedule) = (Mail::new(), Schedule::new(direct()));
    schedule.set_limits(SiteLimits {
        connections: 3,
        ..SiteLimits::default()
    });
    for _ in 0..10 {
        schedule.insert(&mail.to(&[("a.example", 1)], 1), 1);
    }
    let (place, _) = schedule.open_domain(1).unwrap();
    schedule.connected(place, 1);
    schedule.answered(place, Answer::Final, 1);
    assert_eq!(schedule.open_domain(1).map(|(place, _)| place), Some(place));
    let at = |now_ms| crate::clock::Moment {
        now_ms,
        random: 0.5,
    };
    for failed_ms in [1, 1_000_000] {
        let judged = schedule.failed(place, super::hanging::failure(), at(failed_ms));
        assert_eq!(judged.0, Verdict::Fails);
        schedule.closed(place, Opening::GaveUp, failed_ms);
        assert_eq!(schedule.open_domain(failed_ms), None);
        let late_ms = failed_ms + 500_000;
        let again: Vec<_> = std::iter::from_fn(|| schedule.open_domain(late_ms)).collect();
        assert_eq!(again.len(), 1, "beside the one that hangs");
    }
}

#[test]
fn a_destination_that_puts_everybody_off_gets_no_more_connections() {
    let (mail, mut schedule) = (Mail::new(), Schedule::new(direct()));
    schedule.set_limits(SiteLimits {
        connections: 5,
        ..SiteLimits::default()
    });
    for _ in 0..100 {
        schedule.insert(&mail.to(&[("a.example", 1)], 1), 1);
    }
    let mut open = Vec::new();
    for _ in 0..5 {
        while let Some((place, _)) = schedule.open_domain(1) {
            schedule.connected(place, 1);
            open.push(place);
        }
        for place in &open {
            schedule.answered(*place, Answer::PutOff, 1);
        }
    }
    assert_eq!(open.len(), 2, "as many as anybody that answers");
}

#[test]
fn no_more_connections_are_opened_than_there_is_work_for() {
    let (mail, mut schedule) = (Mail::new(), Schedule::new(direct()));
    schedule.set_limits(SiteLimits {
        connections: 5,
        ..SiteLimits::default()
    });
    schedule.insert(&mail.to(&[("a.example", 1)], 1), 1);
    let (place, _) = schedule.open_domain(1).unwrap();
    schedule.connected(place, 1);
    let taken = schedule.take(place, 1).unwrap();
    schedule.answered(place, Answer::Final, 1);
    schedule.finish(taken.ticket, 1);
    schedule.idle(place, Idle::Begins, 1);
    schedule.insert(&mail.to(&[("a.example", 1)], 1), 1);
    assert!(schedule.has_idle(place) && schedule.open_domain(1).is_none());
    schedule.idle(place, Idle::Ends, 1);
    assert!(schedule.open_domain(1).is_some());
    assert!(schedule.open_domain(1).is_none(), "one is on its way");
}

#[test]
fn a_rate_is_kept_for_each_domain() {
    let (mail, mut schedule) = (Mail::new(), Schedule::new(direct()));
    schedule.set_limits(SiteLimits {
        rate: Some(postroad_config::Rate {
            messages: 2,
            per_seconds: 1,
        }),
        ..SiteLimits::default()
    });
    for domain in ["a.example", "a.example", "b.example"] {
        schedule.insert(&mail.to(&[(domain, 1)], 1), 1);
    }
    let (a, _) = schedule.open_domain(1).unwrap();
    let (b, _) = schedule.open_domain(1).unwrap();
    assert_eq!((schedule.turn(a, 1), schedule.turn(b, 1)), (Ok(()), Ok(())));
    assert_eq!(schedule.turn(a, 1), Err(501));
    schedule.connected(a, 1);
    let taken = schedule.take(a, 1).unwrap();
    schedule.answered(a, Answer::Final, 1);
    schedule.finish(taken.ticket, 1);
    schedule.closed(a, Opening::Done, 1);
    assert_eq!(schedule.open_domain(500), None, "it would only wait");
    assert_eq!(schedule.next_due_ms(), Some(501));
    assert_eq!(schedule.open_domain(501).map(|(place, _)| place), Some(a));
}
