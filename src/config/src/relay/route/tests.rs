use super::*;

fn pattern(text: &str) -> Pattern {
    text.parse().unwrap()
}

#[test]
fn a_pattern_means_the_domains_that_it_says() {
    for (text, fits, does_not) in [
        ("*", &["", "example.com", "[192.0.2.1]"][..], &[][..]),
        ("<>", &[""], &["example.com"]),
        (
            "Example.COM",
            &["example.com"],
            &["", "a.example.com", "anexample.com", "example.com.au"],
        ),
        (
            "*.Example.com",
            &["a.example.com", "a.b.example.com"],
            &[
                "",
                "example.com",
                ".example.com",
                "anexample.com",
                "example.com.au",
            ],
        ),
    ] {
        let pattern = pattern(text);
        for domain in fits {
            assert!(pattern.fits(domain), "{text} should fit {domain:?}");
        }
        for domain in does_not {
            assert!(!pattern.fits(domain), "{text} should not fit {domain:?}");
        }
        assert_eq!(pattern.to_string(), text.to_ascii_lowercase());
    }
}

#[test]
fn what_is_no_pattern_is_refused() {
    for text in [
        "",
        "*.",
        "*example.com",
        "*.*.com",
        "a@example.com",
        "@example.com",
        ".example.com",
        "example.com.",
        "a b",
        "[192.0.2.1]",
        "münchen.example",
    ] {
        assert!(text.parse::<Pattern>().is_err(), "{text:?}");
    }
}

#[test]
fn a_choice_is_what_is_in_all_lists_that_are_not_empty() {
    let subject = Subject {
        sender: "shop.example",
        recipient: "example.com",
        credential: "team-a.app",
    };
    let patterns = |texts: &[&str]| texts.iter().map(|text| pattern(text)).collect();
    for (senders, recipients, credentials, fits) in [
        (&[][..], &[][..], &[][..], true),
        (&["shop.example"], &[], &[], true),
        (&["other.example", "*.example"], &[], &[], true),
        (&["other.example"], &[], &[], false),
        (&[], &["example.com"], &[], true),
        (&["shop.example"], &["other.example"], &[], false),
        (&["shop.example"], &["example.com"], &["team-a.app"], true),
        (&["shop.example"], &["example.com"], &["team-b.app"], false),
        (&["<>"], &[], &[], false),
    ] {
        let choice = Match {
            senders: patterns(senders),
            recipients: patterns(recipients),
            credentials: credentials
                .iter()
                .map(|&name: &&str| name.to_owned())
                .collect(),
        };
        assert_eq!(choice.fits(&subject), fits, "{choice:?}");
    }
}

#[test]
fn mail_without_a_login_is_not_meant_by_a_choice_of_logins() {
    let choice = Match {
        credentials: vec!["team-a.app".into()],
        ..Match::default()
    };
    let subject = Subject {
        sender: "",
        recipient: "example.com",
        credential: "",
    };
    assert!(!choice.fits(&subject));
}
