use proptest::prelude::*;

use super::dsn::Charset;
use super::*;

#[test]
fn xtext_is_decoded_strictly() {
    let cases = [
        ("QQ314159", Some("QQ314159")),
        ("a+2Bb+3D+20c", Some("a+b= c")),
        ("+7E", Some("~")),
        ("", None),
        ("+", None),
        ("+2", None),
        ("+2b", None),
        ("+0D+0A", None),
        ("+00", None),
        ("+7F", None),
        ("+E9", None),
        ("a=b", None),
        ("a b", None),
        ("\u{e9}", None),
    ];
    for (value, expected) in cases {
        let envid = Envid::from_xtext(value);
        assert_eq!(envid.as_ref().map(Envid::as_str), expected, "{value:?}");
    }
}

#[test]
fn envid_and_orcpt_are_bounded_as_encoded() {
    assert!(Envid::new(&"x".repeat(100)).is_some());
    assert!(Envid::new(&"x".repeat(101)).is_none());
    assert!(Envid::new(&"+".repeat(33)).is_some());
    assert!(Envid::new(&"+".repeat(34)).is_none());
    let orcpt = |octets: usize| OriginalRecipient::new(&format!("rfc822;{}", "x".repeat(octets)));
    assert!(orcpt(493).is_some());
    assert!(orcpt(494).is_none());
    let utf8 = |count: usize| format!("utf-8;{}", "\u{6f22}".repeat(count));
    assert!(OriginalRecipient::from_parameter(&utf8(164)).is_some());
    assert!(OriginalRecipient::from_parameter(&utf8(165)).is_none());
    assert!(
        OriginalRecipient::new(&utf8(164)).is_some(),
        "as it is kept"
    );
}

#[test]
fn notify_is_never_or_a_list() {
    let cases = [
        ("NEVER", Some("NEVER")),
        ("never", Some("NEVER")),
        ("delay,Success", Some("SUCCESS,DELAY")),
        ("FAILURE", Some("FAILURE")),
        ("SUCCESS,FAILURE,DELAY", Some("SUCCESS,FAILURE,DELAY")),
        ("FAILURE,FAILURE", Some("FAILURE")),
        ("NEVER,SUCCESS", None),
        ("SUCCESS,NEVER", None),
        ("", None),
        ("SUCCESS,", None),
        ("SUCCESS DELAY", None),
        ("ALWAYS", None),
        ("DELAY,DELAY,DELAY,DELAY,DELAY", None),
    ];
    for (value, expected) in cases {
        let notify = value.parse().ok().map(|notify: Notify| notify.to_string());
        assert_eq!(notify.as_deref(), expected, "{value:?}");
    }
    let some: Notify = "SUCCESS,DELAY".parse().unwrap();
    let flags = (some.never(), some.success(), some.failure(), some.delay());
    assert_eq!(flags, (false, true, false, true));
}

#[test]
fn original_recipients_are_decoded_by_their_type() {
    let cases = [
        (
            "rfc822;bob+2Bx@example.com",
            Some("rfc822;bob+x@example.com"),
        ),
        ("RFC822;bob@example.com", Some("RFC822;bob@example.com")),
        ("x400;/S=bob/", None),
        ("x400;/S+3Dbob/", Some("x400;/S=bob/")),
        (
            "utf-8;j\\x{F6}rg@example.com",
            Some("utf-8;j\u{f6}rg@example.com"),
        ),
        (
            "utf-8;j\u{f6}rg@example.com",
            Some("utf-8;j\u{f6}rg@example.com"),
        ),
        (
            "utf-8;a\\x{2B}b\\x{3D}\\x{5C}\\x{20}@c",
            Some("utf-8;a+b=\\ @c"),
        ),
        ("UTF-8;\\x{1F4E7}@c", Some("UTF-8;\u{1f4e7}@c")),
        ("utf-8;a+b@c", None),
        ("utf-8;a\\b@c", None),
        ("utf-8;\\x{41}@c", None),
        ("utf-8;\\x{0D}\\x{0A}@c", None),
        ("utf-8;\\x{7F}@c", None),
        ("utf-8;\\x{85}@c", None),
        ("utf-8;\\x{2028}@c", None),
        ("utf-8;\\x{202E}@c", None),
        ("utf-8;\u{202e}@c", None),
        ("utf-8;\\x{D800}@c", None),
        ("utf-8;\\x{110000}@c", None),
        ("utf-8;\\x{00F6}@c", None),
        ("utf-8;\\x{f6}@c", None),
        ("utf-8;\\x{F6", None),
        ("rfc822;j\u{f6}rg@example.com", None),
        ("rfc822;a\\x{F6}b", Some("rfc822;a\\x{F6}b")),
        ("rfc822;+0D+0ARCPT", None),
        ("rfc822;", None),
        (";bob", None),
        ("rfc 822;bob", None),
        ("bob@example.com", None),
    ];
    for (value, expected) in cases {
        let orcpt = OriginalRecipient::from_parameter(value);
        let decoded = orcpt.as_ref().map(OriginalRecipient::as_str);
        assert_eq!(decoded, expected, "{value:?}");
    }
}

#[test]
fn utf8_addresses_are_escaped_without_smtputf8_only() {
    let orcpt = OriginalRecipient::new("utf-8;j\u{f6}rg+x@example.com").unwrap();
    let cases = [
        (Charset::Ascii, "utf-8;j\\x{F6}rg\\x{2B}x@example.com"),
        (Charset::Utf8, "utf-8;j\u{f6}rg\\x{2B}x@example.com"),
    ];
    for (charset, expected) in cases {
        assert_eq!(orcpt.to_parameter(charset).as_deref(), Some(expected));
    }
}

#[test]
fn deliver_by_takes_what_the_grammar_has() {
    let by = |seconds, on_expiry, trace| DeliverBy::new(seconds, on_expiry, trace);
    let cases = [
        ("120;R", by(120, OnExpiry::Return, false)),
        ("+120;rt", by(120, OnExpiry::Return, true)),
        ("-1;N", by(-1, OnExpiry::Notify, false)),
        ("0;nt", by(0, OnExpiry::Notify, true)),
        ("999999999;N", by(999_999_999, OnExpiry::Notify, false)),
        ("0;R", None),
        ("-5;R", None),
        ("1234567890;N", None),
        ("12", None),
        (";R", None),
        ("-;R", None),
        ("+-1;N", None),
        ("1;X", None),
        ("1;RTT", None),
        ("1;", None),
        ("1.5;N", None),
    ];
    for (value, expected) in cases {
        assert_eq!(DeliverBy::parse(value), expected, "{value:?}");
    }
}

#[test]
fn priorities_have_one_digit() {
    for number in -9..=9 {
        let priority = Priority::new(number).unwrap();
        assert_eq!(Priority::parse(&priority.to_string()), Some(priority));
    }
    for value in ["", "-", "-0", "00", "+1", "10", "-10", "1x", "\u{661}"] {
        assert_eq!(Priority::parse(value), None, "{value:?}");
    }
    assert_eq!((Priority::new(10), Priority::new(-10)), (None, None));
}

#[test]
fn holds_are_whole_seconds_or_dates() {
    let cases = [
        ("1", Some(1)),
        ("999999999", Some(999_999_999)),
        ("0", None),
        ("01", None),
        ("1000000000", None),
        ("-1", None),
        ("", None),
    ];
    for (value, expected) in cases {
        assert_eq!(Hold::parse_for(value), expected.map(Hold::For), "{value:?}");
    }
    let dates = [
        ("1970-01-01T00:00:00Z", Some(0)),
        ("2026-11-23T16:00:00Z", Some(1_795_449_600)),
        ("2026-11-23t16:00:00.25z", Some(1_795_449_600)),
        ("2026-11-23T18:30:00+02:30", Some(1_795_449_600)),
        ("2026-11-23T08:00:00-08:00", Some(1_795_449_600)),
        ("2024-02-29T00:00:00Z", Some(1_709_164_800)),
        ("2016-12-31T23:59:60Z", Some(1_483_228_800)),
        ("9999-12-31T23:59:59Z", Some(253_402_300_799)),
        ("2023-02-29T00:00:00Z", None),
        ("2100-02-29T00:00:00Z", None),
        ("2026-13-01T00:00:00Z", None),
        ("2026-00-01T00:00:00Z", None),
        ("2026-04-31T00:00:00Z", None),
        ("2026-01-00T00:00:00Z", None),
        ("2026-01-01T24:00:00Z", None),
        ("2026-01-01T00:60:00Z", None),
        ("2026-01-01T00:00:61Z", None),
        ("2026-01-01T00:00:00", None),
        ("2026-01-01T00:00:00.Z", None),
        ("2026-01-01T00:00:00+24:00", None),
        ("2026-01-01T00:00:00+2:00", None),
        ("2026-1-1T00:00:00Z", None),
        ("2026-01-01 00:00:00Z", None),
        ("1969-12-31T23:59:59Z", None),
        ("1970-01-01T00:00:00+00:01", None),
        ("0000-01-01T00:00:00Z", None),
        ("", None),
    ];
    for (value, expected) in dates {
        assert_eq!(
            Hold::parse_until(value),
            expected.map(Hold::Until),
            "{value:?}"
        );
    }
}

#[test]
fn the_extensions_of_parameters_are_those_that_are_used() {
    assert!(MailParameters::default().extensions().is_empty());
    let parameters = MailParameters {
        body: BodyKind::Binary,
        envid: Envid::new("x"),
        priority: Priority::new(1).unwrap(),
        ..MailParameters::default()
    };
    let expected = [Extension::BinaryMime, Extension::Dsn, Extension::MtPriority];
    assert_eq!(parameters.extensions(), expected.into_iter().collect());
}

proptest! {
    #[test]
    fn whatever_is_written_reads_back(
        ascii in "[ -~]{1,33}",
        unicode in "[!-~\u{a1}-\u{d7ff}\u{e000}-\u{fffd}]{1,30}",
        seconds in 0u64..253_402_300_800,
    ) {
        let envid = Envid::new(&ascii);
        if let Some(envid) = &envid {
            prop_assert_eq!(Envid::from_xtext(&envid.to_xtext()), Some(envid.clone()));
            prop_assert_eq!(envid.as_str(), ascii.as_str());
        }
        for (kind, text) in [("rfc822", &ascii), ("utf-8", &unicode)] {
            let Some(orcpt) = OriginalRecipient::new(&format!("{kind};{text}")) else {
                continue;
            };
            for charset in [Charset::Ascii, Charset::Utf8] {
                let Some(value) = orcpt.to_parameter(charset) else {
                    continue;
                };
                prop_assert!(!value.contains([' ', '=']));
                prop_assert_eq!(OriginalRecipient::from_parameter(&value), Some(orcpt.clone()));
            }
        }
        prop_assert_eq!(Hold::parse_until(&date_time(seconds)), Some(Hold::Until(seconds)));
    }

    #[test]
    fn no_value_holds_a_control_character(value in "\\PC{0,40}|[ -~]{0,60}") {
        let kept = [
            Envid::from_xtext(&value).map(|envid| envid.as_str().to_owned()),
            OriginalRecipient::from_parameter(&format!("utf-8;{value}")).map(|o| o.as_str().to_owned()),
            OriginalRecipient::from_parameter(&format!("rfc822;{value}")).map(|o| o.as_str().to_owned()),
        ];
        for kept in kept.into_iter().flatten() {
            prop_assert!(!kept.contains(char::is_control), "{:?}", kept);
        }
    }
}
