use super::*;

fn recipient() -> FailedRecipient {
    FailedRecipient {
        address: "you@example.net".to_owned(),
        orcpt: None,
        status: EnhancedStatus::new(5, 1, 1),
        diagnostic: "550 5.1.1 No such user".to_owned(),
        remote_mta: Some("mx.example.net".to_owned()),
    }
}

fn bounce(recipients: Vec<FailedRecipient>, original_headers: &'static [u8]) -> Bounce {
    Bounce {
        reporting_mta: "mail.example.com".to_owned(),
        arrival: Timestamp::UNIX_EPOCH,
        sender: "me@example.org".to_owned(),
        recipients,
        original_headers: Bytes::from_static(original_headers),
        id: "01ABC".to_owned(),
        now: Timestamp::from_second(86_400).unwrap(),
    }
}

/// The report as text; what holds for every report is checked here.
fn report(bounce: &Bounce) -> String {
    let report = build(bounce);
    assert!(report.is_ascii());
    let text = String::from_utf8(report.to_vec()).unwrap();
    assert!(text.ends_with("\r\n"));
    let lines = text.strip_suffix("\r\n").unwrap().split("\r\n");
    for line in lines {
        assert!(
            line.len() <= 998 && !line.contains(['\r', '\n', '\0']),
            "{line:?}"
        );
    }
    assert_eq!(text.matches("\r\n--=_postroad_01ABC\r\n").count(), 3);
    assert_eq!(text.matches("\r\n--=_postroad_01ABC--\r\n").count(), 1);
    text.replace("\r\n", "\n")
}

#[test]
fn a_report_says_what_happened_and_what_to_do() {
    let headers = b"From: <me@example.org>\r\nSubject: hello\r\n";
    let expected = "\
From: Mail Delivery System <MAILER-DAEMON@mail.example.com>
To: <me@example.org>
Subject: Your message could not be delivered
Date: Fri, 02 Jan 1970 00:00:00 +0000
Message-ID: <01ABC@mail.example.com>
Auto-Submitted: auto-replied
MIME-Version: 1.0
Content-Type: multipart/report; report-type=delivery-status;
\tboundary=\"=_postroad_01ABC\"

This is a delivery report in MIME format.

--=_postroad_01ABC
Content-Type: text/plain; charset=us-ascii

This is the mail server mail.example.com.

The message that you sent on Thu, 01 Jan 1970 00:00:00 +0000
could not be delivered to everyone. These did not get it, and no further
attempt will be made:

  <you@example.net>
    The server mx.example.net said:
      550 5.1.1 No such user
    What to do: Check the address for typing errors, then send the message
      again.

The third part of this report holds the headers of your message.

--=_postroad_01ABC
Content-Type: message/delivery-status

Reporting-MTA: dns; mail.example.com
Arrival-Date: Thu, 01 Jan 1970 00:00:00 +0000

Final-Recipient: rfc822; you@example.net
Action: failed
Status: 5.1.1
Remote-MTA: dns; mx.example.net
Diagnostic-Code: smtp; 550 5.1.1 No such user
Last-Attempt-Date: Fri, 02 Jan 1970 00:00:00 +0000

--=_postroad_01ABC
Content-Type: text/rfc822-headers

From: <me@example.org>
Subject: hello

--=_postroad_01ABC--
";
    assert_eq!(report(&bounce(vec![recipient()], headers)), expected);
}

#[test]
fn what_is_not_ascii_is_escaped_and_what_is_hostile_disarmed() {
    let foreign = FailedRecipient {
        address: "用\\户@例え.jp".to_owned(),
        orcpt: Some("rfc822;alias@example.net\r\nAction: delivered".to_owned()),
        status: EnhancedStatus::new(4, 4, 7),
        diagnostic: "451 4.4.2 gr\u{fc}n\r\n--=_postroad_01ABC\r\nStatus: 2.0.0 ".repeat(3),
        remote_mta: Some("[192.0.2.1]\r\nX: y".to_owned()),
    };
    let local = FailedRecipient {
        diagnostic: String::new(),
        remote_mta: None,
        ..recipient()
    };
    let headers = "Subject: gr\u{fc}\u{df}e = \r\nX: --=_postroad_01ABC\r\n";
    let mut bounce = bounce(vec![foreign, local], b"");
    bounce.original_headers = Bytes::from(headers);
    bounce.sender = "j\u{f6}rg@example.org".to_owned();
    let report = report(&bounce);
    let (_, from_to) = report.split_once("\nTo: ").unwrap();
    assert!(from_to.starts_with("undisclosed-recipients:;\n"));
    let (_, status) = report.split_once("message/delivery-status\n\n").unwrap();
    let expected = "\
Reporting-MTA: dns; mail.example.com
Arrival-Date: Thu, 01 Jan 1970 00:00:00 +0000

Original-Recipient: rfc822;alias@example.net??Action: delivered
Final-Recipient: utf-8; \\x{7528}\\x{5C}\\x{6237}@\\x{4F8B}\\x{3048}.jp
Action: failed
Status: 4.4.7
Remote-MTA: dns; ?192.0.2.1???X??y
Diagnostic-Code: smtp; 451 4.4.2 gr\\x{FC}n??--=_postroad_01ABC??Status:
    2.0.0 451 4.4.2 gr\\x{FC}n??--=_postroad_01ABC??Status: 2.0.0 451 4.4.2
    gr\\x{FC}n??--=_postroad_01ABC??Status: 2.0.0
Last-Attempt-Date: Fri, 02 Jan 1970 00:00:00 +0000

Final-Recipient: rfc822; you@example.net
Action: failed
Status: 5.1.1
Last-Attempt-Date: Fri, 02 Jan 1970 00:00:00 +0000

--=_postroad_01ABC
Content-Type: text/rfc822-headers
Content-Transfer-Encoding: quoted-printable

Subject: gr=C3=BC=C3=9Fe =3D=20
X: --=3D_postroad_01ABC

--=_postroad_01ABC--
";
    assert_eq!(status, expected);
}

#[test]
fn every_kind_of_failure_has_its_advice() {
    let cases = [
        ((5, 1, 1), "typing errors"),
        ((5, 1, 8), "your own address"),
        ((5, 2, 2), "mailbox is full"),
        ((5, 3, 4), "too big"),
        ((5, 4, 6), "circles"),
        ((4, 4, 7), "in time"),
        ((5, 6, 1), "another format"),
        ((5, 7, 1), "by its rules"),
        ((5, 0, 0), "administrator of your mail server"),
    ];
    for ((class, subject, detail), expected) in cases {
        let advice = advice(EnhancedStatus::new(class, subject, detail));
        assert!(
            advice.contains(expected),
            "{class}.{subject}.{detail}: {advice}"
        );
    }
}

#[test]
fn a_report_is_bounded() {
    let long = FailedRecipient {
        address: "\u{fc}".repeat(10_000),
        orcpt: Some("x".repeat(10_000)),
        diagnostic: "y".repeat(10_000),
        ..recipient()
    };
    let mut bounce = bounce(vec![long; 1000], b"");
    bounce.original_headers = Bytes::from("X-Long: z\r\n".repeat(100_000));
    let report = report(&bounce);
    assert!(report.contains("\nAnd 950 more, listed in the second part"));
    assert_eq!(report.matches("Final-Recipient:").count(), 1000);
    let returned = report.matches("X-Long: z\n").count();
    assert_eq!(returned, HEADERS_MAX / "X-Long: z\r\n".len());
    assert!(report.len() < 1000 * 4096 + HEADERS_MAX, "{}", report.len());
}

#[test]
fn headers_with_endless_lines_or_control_characters_are_encoded() {
    let endless = Bytes::from(format!("X: {}\r\n", "x ".repeat(5000)));
    for headers in [endless, Bytes::from_static(b"X: a\0b\rc\nd\r\n")] {
        let mut bounce = bounce(vec![recipient()], b"");
        bounce.original_headers = headers;
        let report = report(&bounce);
        let (_, encoded) = report.split_once("quoted-printable\n\n").unwrap();
        assert!(encoded.lines().all(|line| line.len() <= 76), "{encoded}");
    }
}
