use std::collections::hash_map::DefaultHasher;

use proptest::prelude::*;

use super::*;

fn mailbox(text: &str) -> Result<Mailbox, Error> {
    text.parse()
}

#[test]
fn addresses_are_written_in_their_shortest_form() {
    let cases = [
        ("user@example.com", "user@example.com"),
        ("User.Name+tag@Example.COM", "User.Name+tag@Example.COM"),
        (
            "!#$%&'*+-/=?^_`{|}~@example.com",
            "!#$%&'*+-/=?^_`{|}~@example.com",
        ),
        (r#""quoted"@example.com"#, "quoted@example.com"),
        (r#""with space"@example.com"#, r#""with space"@example.com"#),
        (r#""a\b\"c\\"@example.com"#, r#""ab\"c\\"@example.com"#),
        (r#"".."@example.com"#, r#"".."@example.com"#),
        (r#"""@example.com"#, r#"""@example.com"#),
        (r#""a@b"@example.com"#, r#""a@b"@example.com"#),
        ("user@[192.0.2.1]", "user@[192.0.2.1]"),
        ("user@[ipv6:2001:DB8:0:0::1]", "user@[IPv6:2001:db8::1]"),
        ("user@localhost", "user@localhost"),
        ("jörg@bücher.example", "jörg@bücher.example"),
    ];
    for (text, expected) in cases {
        assert_eq!(
            mailbox(text).map(|m| m.to_string()),
            Ok(expected.to_owned()),
            "{text}"
        );
    }
}

#[test]
fn malformed_addresses_are_refused() {
    let long_local = format!("{}@example.com", "a".repeat(LOCAL_PART_MAX + 1));
    let long_quoted = format!("\"{}\"@example.com", "a".repeat(LOCAL_PART_MAX - 1));
    let long_label = format!("a@{}.com", "a".repeat(LABEL_MAX + 1));
    let long_domain = format!("a@{}", "a.".repeat(DOMAIN_MAX / 2 + 1) + "a");
    let long_path = format!("{}@{}", "a".repeat(LOCAL_PART_MAX), "a.".repeat(100) + "a");
    let cases = [
        ("", Error::LocalPart),
        ("@example.com", Error::LocalPart),
        ("user", Error::MissingDomain),
        ("user@", Error::Domain),
        (".user@example.com", Error::LocalPart),
        ("us..er@example.com", Error::LocalPart),
        ("user.@example.com", Error::LocalPart),
        ("us er@example.com", Error::MissingDomain),
        ("user@exa mple.com", Error::Trailing),
        ("user@example..com", Error::Domain),
        ("user@example.com.", Error::Domain),
        ("user@-example.com", Error::Domain),
        ("user@exam_ple.com", Error::Trailing),
        ("user@b@example.com", Error::Trailing),
        ("user@example.com>", Error::Trailing),
        ("user@example.com\r\nRCPT TO:<x@y>", Error::Trailing),
        ("us\rer@example.com", Error::MissingDomain),
        ("\"us\ner\"@example.com", Error::LocalPart),
        ("\"us\0er\"@example.com", Error::LocalPart),
        ("\"us\\\ner\"@example.com", Error::LocalPart),
        ("\"us\u{85}er\"@example.com", Error::LocalPart),
        ("\"us\u{2028}er\"@example.com", Error::LocalPart),
        ("\"open@example.com", Error::LocalPart),
        ("\"open\\", Error::LocalPart),
        ("\"a\"b@example.com", Error::MissingDomain),
        ("user@exa\u{3002}mple", Error::Trailing),
        ("user@[192.0.2.256]", Error::Literal),
        ("user@[192.0.2.1", Error::Literal),
        ("user@[2001:db8::1]", Error::Literal),
        ("user@[x400:something]", Error::Literal),
        (long_local.as_str(), Error::LocalPartTooLong),
        (long_quoted.as_str(), Error::LocalPartTooLong),
        (long_label.as_str(), Error::Domain),
        (long_domain.as_str(), Error::DomainTooLong),
        (long_path.as_str(), Error::PathTooLong),
    ];
    for (text, expected) in cases {
        assert_eq!(mailbox(text), Err(expected), "{text:?}");
    }
}

#[test]
fn domains_compare_without_case_and_local_parts_with_it() {
    let hash = |mailbox: &Mailbox| {
        let mut hasher = DefaultHasher::new();
        mailbox.hash(&mut hasher);
        hasher.finish()
    };
    let (one, two) = (
        mailbox("a@EXAMPLE.com").unwrap(),
        mailbox("\"a\"@example.COM").unwrap(),
    );
    assert_eq!(one, two);
    assert_eq!(hash(&one), hash(&two));
    assert_ne!(mailbox("A@example.com").unwrap(), one);
}

#[test]
fn source_routes_are_dropped_and_malformed_ones_refused() {
    let (path, rest) = reverse_path("<@a.example,@b.example:user@example.com> SIZE=1").unwrap();
    assert_eq!(
        (path.to_string().as_str(), rest),
        ("user@example.com", " SIZE=1")
    );
    for text in ["<@a.example user@b>", "<@:user@b>", "<@a,b:user@b>", "<@a"] {
        assert_eq!(reverse_path(text), Err(Error::SourceRoute), "{text}");
    }
}

#[test]
fn paths_end_with_their_bracket() {
    assert_eq!(reverse_path("<>x"), Ok((ReversePath::Null, "x")));
    assert_eq!(
        forward_path("<pOsTmAsTeR> x"),
        Ok((ForwardPath::Postmaster, " x"))
    );
    assert_eq!(forward_path("<>"), Err(Error::LocalPart));
    assert_eq!(forward_path("user@example.com"), Err(Error::Brackets));
    let (path, rest) = forward_path("<\"a>b\"@example.com>").unwrap();
    assert_eq!(
        (path.to_string().as_str(), rest),
        ("\"a>b\"@example.com", "")
    );
    let long = format!(
        "<@{}:{}@b.example>",
        "a.".repeat(120) + "a",
        "u".repeat(LOCAL_PART_MAX)
    );
    assert_eq!(forward_path(&long), Err(Error::PathTooLong));
}

#[test]
fn hosts_are_domains_or_literals() {
    for host in ["mail.example.com", "localhost", "[192.0.2.1]", "[IPv6:::1]"] {
        assert!(is_host(host), "{host}");
    }
    for host in ["", "a b", "a_b", "a.", "[192.0.2.1]x", "a\r\n"] {
        assert!(!is_host(host), "{host:?}");
    }
}

#[test]
fn marks_that_reorder_text_on_a_screen_stand_in_no_address() {
    for mark in [
        '\u{61c}', '\u{200e}', '\u{200f}', '\u{202a}', '\u{202e}', '\u{2066}', '\u{2069}',
    ] {
        for (text, expected) in [
            (format!("a{mark}b@example.com"), Error::MissingDomain),
            (format!("\"a{mark}b\"@example.com"), Error::LocalPart),
            (format!("a@exa{mark}mple.com"), Error::Trailing),
        ] {
            assert_eq!(mailbox(&text), Err(expected), "{}", text.escape_unicode());
        }
    }
}

fn some_address() -> impl Strategy<Value = String> {
    let local = prop_oneof![
        "[a-zA-Z0-9!#$%&'*+/=?^_`{|}~-]{1,20}(\\.[a-z0-9]{1,10}){0,2}",
        r#""([a-zA-Z0-9 @<>,.()\[\]:;ü]|\\[ -~]){0,20}""#,
        "[äöüßλ用a-z]{1,10}",
    ];
    let domain = prop_oneof![
        "[a-zA-Z0-9]{1,20}(\\.[a-z0-9]([a-z0-9-]{0,8}[a-z0-9])?){0,3}",
        any::<u32>().prop_map(|n| format!("[{}]", std::net::Ipv4Addr::from(n))),
        any::<u128>().prop_map(|n| format!("[IPv6:{}]", std::net::Ipv6Addr::from(n))),
        "[äöü例]{1,8}\\.example",
    ];
    (local, domain).prop_map(|(local, domain)| format!("{local}@{domain}"))
}

proptest! {
    #[test]
    fn what_is_written_parses_back_equal(text in some_address()) {
        let parsed = mailbox(&text).unwrap();
        let again = mailbox(&parsed.to_string()).unwrap();
        prop_assert_eq!(&again, &parsed);
        prop_assert_eq!(again.to_string(), parsed.to_string());
        let path = format!("<{parsed}>");
        prop_assert_eq!(forward_path(&path).unwrap(), (ForwardPath::Mailbox(parsed), ""));
    }

    #[test]
    fn whatever_parses_is_one_harmless_line(text in "[\\PC\r\n\0\"\\\\@<>. ]{0,60}@[a-z\r\n\0\\[\\]:.]{0,20}") {
        if let Ok(parsed) = mailbox(&text) {
            let shown = parsed.to_string();
            prop_assert!(!shown.chars().any(char::is_control));
            prop_assert!(shown.len() <= PATH_MAX - 2);
            prop_assert_eq!(mailbox(&shown).unwrap(), parsed);
        }
    }

    #[test]
    fn arbitrary_text_never_panics(text in any::<String>()) {
        let _ = mailbox(&text);
        let _ = reverse_path(&text);
        let _ = forward_path(&format!("<{text}>"));
    }
}
