use super::*;

fn matches(senders: &[&str], recipients: &[&str], credentials: &[&str]) -> Match {
    let patterns = |list: &[&str]| list.iter().map(|text| text.parse().unwrap()).collect();
    Match {
        senders: patterns(senders),
        recipients: patterns(recipients),
        credentials: credentials.iter().map(ToString::to_string).collect(),
    }
}

fn delivery() -> Delivery {
    let route = |name: &str, matches, to| postroad_config::Route {
        name: name.into(),
        matches,
        to,
    };
    let upstreams = |name: &str| Target::Upstreams(vec![name.into()]);
    Delivery {
        routes: vec![
            route("app", matches(&[], &[], &["app"]), upstreams("ses")),
            route(
                "inside",
                matches(&[], &["*.example.com", "example.com"], &[]),
                Target::Direct,
            ),
            route(
                "from",
                matches(&["example.net"], &["example.org"], &[]),
                upstreams("other"),
            ),
        ],
        ..Delivery::default()
    }
}

fn held(name: &str, recipient: &str, action: Action) -> Override {
    Override {
        name: name.into(),
        matches: matches(&[], &[recipient], &[]),
        arrived_before: None,
        action,
    }
}

fn subject<'a>(sender: &'a str, recipient: &'a str, credential: &'a str) -> Subject<'a> {
    Subject {
        sender,
        recipient,
        credential,
    }
}

#[test]
fn the_first_route_that_fits_counts() {
    let table = Table::new(&delivery());
    for (sender, recipient, credential, expected) in [
        ("a.example", "b.example", "app", Way::Route(0)),
        ("a.example", "example.com", "app", Way::Route(0)),
        ("a.example", "example.com", "", Way::Domain),
        ("a.example", "in.example.com", "", Way::Domain),
        ("example.net", "example.org", "", Way::Route(2)),
        ("a.example", "example.org", "", Way::Default),
        ("", "example.org", "", Way::Default),
    ] {
        let subject = subject(sender, recipient, credential);
        assert_eq!(table.way(&subject, 0), expected, "{subject:?}");
    }
    let direct = Delivery {
        default_route: Target::Direct,
        ..Delivery::default()
    };
    let way = Table::new(&direct).way(&subject("", "example.org", ""), 0);
    assert_eq!(way, Way::Domain);
}

#[test]
fn overrides_come_first_and_look_at_the_arrival() {
    let reason = "a mailing gone wrong".to_owned();
    let bounce = Override {
        arrived_before: Some(10),
        ..held("undo", "*", Action::Bounce { reason })
    };
    let table = Table::new(&Delivery {
        overrides: vec![held("stop", "example.org", Action::Hold), bounce],
        ..delivery()
    });
    let way = |recipient, arrival_ms| table.way(&subject("", recipient, ""), arrival_ms);
    assert_eq!(way("example.org", 99_000), Way::Hold(0));
    assert_eq!(way("example.com", 9_999), Way::Bounce(1));
    assert_eq!(way("example.com", 10_000), Way::Domain);
    assert_eq!(table.reason("undo"), Some("a mailing gone wrong"));
    assert_eq!((table.reason("stop"), table.reason("gone")), (None, None));
}

#[test]
fn a_flush_counts_once_and_stands_in_nobodys_way() {
    let (before, mut after) = (Table::new(&delivery()), delivery());
    after.overrides = vec![
        held("now", "example.org", Action::Flush),
        held("stop", "*", Action::Hold),
    ];
    let after = Table::new(&after);
    let flushes = |before, recipient| after.flushes(before, &subject("", recipient, ""), 0);
    assert!(flushes(&before, "example.org"));
    assert!(!flushes(&before, "example.com"));
    assert!(!flushes(&after, "example.org"), "it was there before");
    assert_eq!(after.way(&subject("", "example.org", ""), 0), Way::Hold(1));
    assert_eq!(after.way(&subject("", "example.com", ""), 0), Way::Hold(1));
}

#[test]
fn a_destination_leads_to_the_upstreams_of_its_route() {
    let table = Table::new(&delivery());
    let ses = Target::Upstreams(vec!["ses".into()]);
    assert_eq!(table.target(&Key::Route("app".into())), Some(&ses));
    assert_eq!(table.target(&Key::Route("gone".into())), None);
    assert_eq!(table.target(&Key::Default), Some(&Target::default()));
    assert_eq!(table.target(&Key::Domain("example.com".into())), None);
}
