use super::*;

const NOW: i64 = 1_800_000_000;

fn at(days: i64) -> Timestamp {
    Timestamp::from_second(NOW + days * 86_400).unwrap()
}

fn new_authority() -> Pair {
    authority(None, "mail.apps", at(0)).unwrap().pair().clone()
}

fn wanted(names: &[&str]) -> Wanted {
    Wanted {
        common_name: "mail".into(),
        names: names.iter().map(|&name| name.to_owned()).collect(),
        usage: Usage::Server,
    }
}

#[test]
fn an_authority_is_kept_for_nine_years_and_then_signed_anew_with_its_key() {
    let first = new_authority();
    assert_eq!(
        authority(Some(&first), "mail.apps", at(3200)).unwrap(),
        Outcome::Kept(first.clone())
    );
    let Outcome::Renewed(second, _) = authority(Some(&first), "mail.apps", at(3300)).unwrap()
    else {
        panic!("kept");
    };
    assert_eq!(second.key, first.key);
    assert_ne!(second.certificate, first.certificate);
    // Whoever trusts either certificate trusts the leaves of both.
    let leaf = leaf(&second, None, &wanted(&["a"]), at(3300)).unwrap();
    let leaf = inspect(&leaf.pair().certificate).unwrap();
    assert!(leaf.is_signed_by(&first.certificate));
    assert!(leaf.is_signed_by(&second.certificate));
}

#[test]
fn an_authority_that_cannot_be_read_is_never_replaced() {
    let good = new_authority();
    let other = new_authority();
    for (certificate, key) in [
        ("", good.key.as_str()),
        ("nonsense", &good.key),
        (&good.certificate, "nonsense"),
        (&good.certificate, &other.key),
    ] {
        let broken = Pair {
            certificate: certificate.into(),
            key: key.into(),
        };
        let result = authority(Some(&broken), "mail.apps", at(0));
        assert!(matches!(result, Err(Error::Unreadable(_))), "{result:?}");
    }
}

#[test]
fn a_leaf_is_replaced_when_it_does_not_serve_any_more() {
    let authority = new_authority();
    let names = wanted(&["a.example.com", "b.example.com"]);
    let first = leaf(&authority, None, &names, at(0)).unwrap();
    assert!(matches!(first, Outcome::Issued(_)));
    let first = first.pair().clone();
    let again = |authority: &Pair, existing: &Pair, names: &Wanted, day| match leaf(
        authority,
        Some(existing),
        names,
        at(day),
    )
    .unwrap()
    {
        Outcome::Kept(pair) => {
            assert_eq!(&pair, existing);
            None
        }
        Outcome::Renewed(_, why) => Some(why),
        Outcome::Issued(_) => panic!("there was one"),
    };
    let broken = Pair {
        certificate: "x".into(),
        ..first.clone()
    };
    let mixed = Pair {
        key: authority.key.clone(),
        ..first.clone()
    };
    for (authority, existing, names, day, why) in [
        (&authority, &first, &names, 0, None),
        (&authority, &first, &names, 59, None),
        (&authority, &first, &names, 61, Some("its end is near")),
        (&authority, &first, &names, 400, Some("its end is near")),
        (
            &authority,
            &first,
            &wanted(&["a.example.com"]),
            0,
            Some("its names have changed"),
        ),
        (
            &new_authority(),
            &first,
            &names,
            0,
            Some("the authority has changed"),
        ),
        (&authority, &broken, &names, 0, Some("it could not be read")),
        (
            &authority,
            &mixed,
            &names,
            0,
            Some("its key belongs to another certificate"),
        ),
    ] {
        assert_eq!(again(authority, existing, names, day), why);
    }
}

#[test]
fn a_certificate_says_what_was_asked_for() {
    let authority = new_authority();
    let names = wanted(&["*.mail-replicas.apps.svc", "mail", "mail.apps.svc"]);
    let leaf = leaf(&authority, None, &names, at(0)).unwrap();
    let inspected = inspect(&leaf.pair().certificate).unwrap();
    assert_eq!(inspected.names, names.names);
    assert_eq!(inspected.not_after, at(90));
    assert_eq!(inspected.issuer, "CN=mail.apps");
    for (host, covered) in [
        ("mail", true),
        ("MAIL.apps.svc", true),
        ("mail-0.mail-replicas.apps.svc", true),
        ("x.mail-0.mail-replicas.apps.svc", false),
        ("other", false),
    ] {
        assert_eq!(inspected.covers(host), covered, "{host}");
    }
}

#[test]
fn debug_shows_no_key() {
    assert_eq!(format!("{:?}", new_authority()), "Pair(..)");
}
