use super::*;

/// Chance that always draws the last: nothing moves.
fn still() -> u32 {
    u32::MAX
}

/// Chance that is different each time.
struct Dice(u32);

impl Chance for Dice {
    fn next(&mut self) -> u32 {
        self.0 = self.0.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        self.0 >> 8
    }
}

fn exchange(preference: u16, host: &str) -> Exchange {
    Exchange {
        preference,
        host: host.to_owned(),
    }
}

/// Hosts in the order of the plan for these records.
fn planned(records: &[(u16, &str)], chance: &mut impl Chance) -> Result<Vec<String>, Verdict> {
    let records = records
        .iter()
        .map(|(preference, host)| exchange(*preference, host));
    let plan = Plan::new("example.org", Ok(records.collect()), chance)?;
    assert_eq!(plan.source, Source::Exchange);
    Ok(plan
        .exchanges
        .into_iter()
        .map(|exchange| exchange.host)
        .collect())
}

/// Code and status of a final verdict; `None` for one that is not.
fn refusal(verdict: &Verdict) -> Option<String> {
    match verdict {
        Verdict::Never(reply) => Some(format!("{} {}", reply.code(), reply.status().unwrap())),
        Verdict::Later(_) | Verdict::Barred(_) => None,
    }
}

#[test]
fn the_answer_about_mx_records_says_who_is_asked_for_next() {
    let temporary = LookupError::Temporary("SERVFAIL".into());
    for (answer, expected) in [
        (Ok(vec![exchange(10, "a")]), Ok(Source::Exchange)),
        (Err(LookupError::NoRecords), Ok(Source::Domain)),
        (Err(LookupError::NoSuchName), Err(Some("550 5.1.2"))),
        (Err(temporary), Err(None)),
        // RFC 7505 §3 asks for preference 0; nothing is gained by insisting.
        (Ok(vec![exchange(0, "")]), Err(Some("556 5.1.10"))),
        (Ok(vec![exchange(10, "")]), Err(Some("556 5.1.10"))),
        (
            Ok(vec![exchange(0, ""), exchange(9, "a")]),
            Ok(Source::Exchange),
        ),
    ] {
        let plan = Plan::new("example.org", answer.clone(), &mut still);
        let found = plan.as_ref().map(|plan| plan.source).map_err(refusal);
        let expected = expected.map_err(|text| text.map(ToOwned::to_owned));
        assert_eq!(found, expected, "{answer:?}");
    }
}

#[test]
fn without_mx_the_domain_is_the_host() {
    let plan = Plan::new("example.org", Err(LookupError::NoRecords), &mut still).unwrap();
    assert_eq!(plan.exchanges, [exchange(0, "example.org")]);
}

#[test]
fn a_literal_is_its_own_host() {
    for (text, expected) in [
        ("[192.0.2.1]", Some("192.0.2.1")),
        ("[IPv6:2001:db8::1]", Some("2001:db8::1")),
        ("[ipv6:::1]", Some("::1")),
        ("[2001:db8::1]", None),
        ("[example.org]", None),
        ("192.0.2.1", None),
        ("example.org", None),
    ] {
        let host = literal(text);
        let expected = expected.map(|address| vec![Ok(vec![address.parse().unwrap()])]);
        assert_eq!(
            host.as_ref().map(|host| host.addresses.clone()),
            expected,
            "{text}"
        );
        assert!(host.is_none_or(|host| host.exchange.host == text));
    }
}

#[test]
fn hosts_stand_by_preference_each_once_and_not_too_many() {
    for (records, expected) in [
        (
            vec![(20, "b"), (10, "a"), (65_535, "z"), (0, "first")],
            vec!["first", "a", "b", "z"],
        ),
        (vec![(20, "a"), (10, "a"), (15, "b")], vec!["a", "b"]),
    ] {
        assert_eq!(planned(&records, &mut Dice(1)).unwrap(), expected);
    }
    let names: Vec<String> = (0..40).map(|number| format!("h{number:02}")).collect();
    let mut many: Vec<(u16, &str)> = (0..).zip(names.iter().map(String::as_str)).collect();
    many.reverse();
    assert_eq!(planned(&many, &mut Dice(1)).unwrap(), names[..HOSTS_MAX]);
}

#[test]
fn equal_hosts_share_the_load() {
    let mut dice = Dice(7);
    let mut first = std::collections::BTreeMap::<String, u32>::new();
    for _ in 0..3000 {
        let records = [(10, "a"), (10, "b"), (10, "c"), (20, "d")];
        let hosts = planned(&records, &mut dice).unwrap();
        assert_eq!(hosts[3], "d");
        *first.entry(hosts[0].clone()).or_default() += 1;
    }
    assert_eq!(first.len(), 3);
    assert!(
        first.values().all(|count| (850..1150).contains(count)),
        "{first:?}"
    );
}

type Found<'a> = Result<&'a [&'a str], LookupError>;

/// A host with IPv4 and IPv6 addresses.
fn host(preference: u16, name: &str, v4: Found<'_>, v6: Found<'_>) -> Host {
    let parse = |found: Found<'_>| {
        found.map(|texts| texts.iter().map(|text| text.parse().unwrap()).collect())
    };
    Host {
        exchange: exchange(preference, name),
        addresses: vec![parse(v4), parse(v6)],
    }
}

const NONE: Found<'static> = Err(LookupError::NoRecords);

fn gone() -> Found<'static> {
    Err(LookupError::NoSuchName)
}

fn broken() -> Found<'static> {
    Err(LookupError::Temporary("SERVFAIL".into()))
}

/// Hosts and addresses of the targets. `me` and 203.0.113.9 are this relay's.
fn found(
    source: Source,
    hosts: Vec<Host>,
    chance: &mut impl Chance,
) -> Result<Vec<String>, Verdict> {
    let own: IpAddr = "203.0.113.9".parse().unwrap();
    let is_own = |name: &str, addresses: &[IpAddr]| name == "me" || addresses.contains(&own);
    let reach = Reach::new(&["10.1.0.0/16".parse().unwrap()]);
    let targets = targets("example.org", source, hosts, is_own, &reach, chance)?;
    Ok(targets
        .iter()
        .map(|target| format!("{} {}", target.host, target.address))
        .collect())
}

#[test]
fn hosts_without_addresses_are_passed_over() {
    let a = || host(10, "a", Ok(&["192.0.2.1"]), Ok(&["2001:db8::1"]));
    let only6 = || host(20, "b", NONE, Ok(&["2001:db8::2"]));
    let table = [
        (
            vec![a(), only6()],
            vec!["a 192.0.2.1", "a 2001:db8::1", "b 2001:db8::2"],
        ),
        (vec![only6()], vec!["b 2001:db8::2"]),
        (
            vec![host(5, "x", gone(), gone()), only6()],
            vec!["b 2001:db8::2"],
        ),
        (
            vec![host(5, "x", broken(), broken()), only6()],
            vec!["b 2001:db8::2"],
        ),
        (
            vec![host(5, "x", broken(), Ok(&["2001:db8::3"]))],
            vec!["x 2001:db8::3"],
        ),
        (
            vec![
                host(
                    5,
                    "x",
                    Ok(&["0.0.0.0", "255.255.255.255"]),
                    Ok(&["::", "ff02::1"]),
                ),
                only6(),
            ],
            vec!["b 2001:db8::2"],
        ),
    ];
    for (hosts, expected) in table {
        assert_eq!(
            found(Source::Exchange, hosts, &mut still).unwrap(),
            expected
        );
    }
}

#[test]
fn that_no_host_has_an_address_is_final_only_if_it_is_known() {
    use Source::{Domain, Exchange, Literal};
    for (source, hosts, expected) in [
        (
            Exchange,
            vec![host(1, "a", gone(), gone()), host(2, "b", NONE, NONE)],
            Some("550 5.4.4"),
        ),
        (
            Exchange,
            vec![host(1, "a", Ok(&["0.0.0.0"]), NONE)],
            Some("550 5.4.4"),
        ),
        (
            Exchange,
            vec![host(1, "a", gone(), gone()), host(2, "b", NONE, broken())],
            None,
        ),
        (
            Domain,
            vec![host(0, "example.org", NONE, NONE)],
            Some("550 5.1.2"),
        ),
        (Domain, vec![host(0, "example.org", broken(), NONE)], None),
        (
            Literal,
            vec![host(0, "[0.0.0.0]", Ok(&["0.0.0.0"]), NONE)],
            Some("550 5.1.2"),
        ),
    ] {
        let verdict = found(source, hosts.clone(), &mut still).unwrap_err();
        assert_eq!(
            refusal(&verdict).as_deref(),
            expected,
            "{hosts:?}: {verdict:?}"
        );
    }
}

#[test]
fn what_only_the_configuration_keeps_out_is_told_without_its_address() {
    for (source, hosts, is_barred) in [
        (
            Source::Exchange,
            vec![host(1, "a", Ok(&["10.2.0.1"]), NONE)],
            true,
        ),
        (
            Source::Exchange,
            vec![
                host(1, "b", gone(), gone()),
                host(2, "a", Ok(&["127.0.0.1"]), Ok(&["fd00::1"])),
            ],
            true,
        ),
        (
            Source::Literal,
            vec![host(0, "a", Ok(&["192.168.0.1"]), NONE)],
            true,
        ),
        (
            Source::Exchange,
            vec![host(1, "a", Ok(&["127.0.0.1"]), Ok(&["fe80::1", "::1"]))],
            false,
        ),
        (
            Source::Exchange,
            vec![host(1, "a", Ok(&["10.2.0.1"]), broken())],
            false,
        ),
    ] {
        let verdict = found(source, hosts.clone(), &mut still).unwrap_err();
        let expected =
            "a is in a private network, and no network of delivery.direct.allowedNetworks holds it";
        let barred = Verdict::Barred(expected.to_owned());
        assert_eq!(verdict == barred, is_barred, "{hosts:?}: {verdict:?}");
    }
    let mixed = vec![
        host(1, "a", Ok(&["10.2.0.1", "10.1.0.1"]), NONE),
        host(2, "b", Ok(&["192.168.0.1", "192.0.2.1"]), NONE),
    ];
    let expected = ["a 10.1.0.1", "b 192.0.2.1"];
    assert_eq!(
        found(Source::Exchange, mixed, &mut still).unwrap(),
        expected
    );
}

#[test]
fn this_relay_and_what_is_not_preferred_to_it_is_left_out() {
    let a = || host(10, "a", Ok(&["192.0.2.1"]), NONE);
    let b = || host(20, "b", Ok(&["192.0.2.2"]), NONE);
    let c = || host(30, "c", Ok(&["192.0.2.3"]), NONE);
    let by_name = |preference| host(preference, "me", broken(), broken());
    let by_address =
        |preference| host(preference, "alias", Ok(&["192.0.2.4", "203.0.113.9"]), NONE);
    for (hosts, expected) in [
        (vec![a(), by_name(20), b(), c()], Ok(vec!["a 192.0.2.1"])),
        (vec![a(), by_address(20), b(), c()], Ok(vec!["a 192.0.2.1"])),
        (
            vec![a(), b(), by_name(25), by_address(30), c()],
            Ok(vec!["a 192.0.2.1", "b 192.0.2.2"]),
        ),
        (vec![by_name(10), a(), b()], Err(Some("554 5.4.6"))),
        (vec![by_address(5), a()], Err(Some("554 5.4.6"))),
        // A host that is preferred to us and cannot be found now: we are its backup, and wait for it.
        (vec![host(1, "x", broken(), NONE), by_name(10)], Err(None)),
    ] {
        let result = found(Source::Exchange, hosts.clone(), &mut still);
        let result = result.map_err(|verdict| refusal(&verdict));
        let expected = expected.map_err(|text| text.map(ToOwned::to_owned));
        let expected = expected.map(|list| list.into_iter().map(ToOwned::to_owned).collect());
        assert_eq!(result, expected, "{hosts:?}");
    }
}

#[test]
fn a_host_with_many_addresses_leaves_room_for_the_others() {
    let texts: Vec<String> = (1..=20).map(|number| format!("192.0.2.{number}")).collect();
    let many: Vec<&str> = texts.iter().map(String::as_str).collect();
    let large = host(10, "a", Ok(&many), Ok(&["2001:db8::1"]));
    let hosts: Vec<Host> = (0..HOSTS_MAX).map(|_| large.clone()).collect();
    let all = found(Source::Exchange, hosts, &mut Dice(3)).unwrap();
    assert_eq!(all.len(), TARGETS_MAX);
    assert_eq!(all[2], "a 2001:db8::1", "{all:?}");
    let mut dice = Dice(3);
    let mut used = std::collections::BTreeSet::new();
    for _ in 0..500 {
        used.extend(found(Source::Exchange, vec![large.clone()], &mut dice).unwrap());
    }
    assert_eq!(used.len(), 21, "every address is used some time");
}
