use super::*;

fn recipient() -> Reported {
    Reported {
        address: "you@example.net".to_owned(),
        orcpt: None,
        kind: Kind::Failed,
        status: EnhancedStatus::new(5, 1, 1),
        expired: None,
        diagnostic: "550 5.1.1 No such user".to_owned(),
        remote_mta: Some("mx.example.net".to_owned()),
    }
}

fn delayed() -> Reported {
    Reported {
        address: "later@example.net".to_owned(),
        kind: Kind::Delayed {
            retry_until: Timestamp::from_second(5 * 86_400).unwrap(),
        },
        status: EnhancedStatus::new(4, 2, 2),
        diagnostic: "452 4.2.2 Mailbox full".to_owned(),
        ..recipient()
    }
}

fn relayed() -> Reported {
    Reported {
        address: "passed@example.net".to_owned(),
        kind: Kind::Relayed,
        status: EnhancedStatus::new(2, 0, 0),
        diagnostic: "250 ok".to_owned(),
        ..recipient()
    }
}

fn bounce(recipients: Vec<Reported>, message: impl Into<Bytes>) -> Report {
    Report {
        reporting_mta: "mail.example.com".to_owned(),
        arrival: Timestamp::UNIX_EPOCH,
        held_until: None,
        sender: "me@example.org".to_owned(),
        envid: None,
        recipients,
        returned: Returned::Headers,
        message: vec![message.into()],
        id: "01ABC".to_owned(),
        now: Timestamp::from_second(86_400).unwrap(),
    }
}

/// The report as text; what holds for every report is checked here.
fn report(report: &Report) -> String {
    let Written { content, width } = build(report);
    assert!(width.fits(&content));
    assert_eq!(width == Width::SevenBit, content.is_ascii());
    let text = String::from_utf8(content.to_vec()).unwrap();
    assert!(text.ends_with("\r\n"));
    let parts = match report.returned {
        Returned::Nothing => 2,
        Returned::Headers | Returned::Whole => 3,
    };
    assert_eq!(text.matches("\r\n--=_postroad_01ABC\r\n").count(), parts);
    assert_eq!(text.matches("\r\n--=_postroad_01ABC--\r\n").count(), 1);
    text.replace("\r\n", "\n")
}

#[test]
fn a_report_says_what_happened_and_what_to_do() {
    let headers = "From: <me@example.org>\r\nSubject: hello\r\n\r\nthe text\r\n";
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

This is about the message that you sent on Thu, 01 Jan 1970 00:00:00 +0000.

It could not be delivered to everyone. These did not get it, and no further
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
    let foreign = Reported {
        address: "用\\户@例え.jp".to_owned(),
        orcpt: Some("rfc822;alias@example.net\r\nAction: delivered".to_owned()),
        kind: Kind::Failed,
        status: EnhancedStatus::new(4, 4, 7),
        expired: None,
        diagnostic: "451 4.4.2 gr\u{fc}n\r\n--=_postroad_01ABC\r\nStatus: 2.0.0 ".repeat(3),
        remote_mta: Some("[192.0.2.1]\r\nX: y".to_owned()),
    };
    let local = Reported {
        orcpt: Some("UTF-8;al=\u{ef}as@example.net".to_owned()),
        diagnostic: "given up".to_owned(),
        remote_mta: None,
        ..recipient()
    };
    let headers = "Subject: gr\u{fc}\u{df}e = \r\nX: --=_postroad_01ABC\r\n";
    let mut bounce = bounce(vec![foreign, local], headers);
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

Original-Recipient: utf-8;al\\x{3D}\\x{EF}as@example.net
Final-Recipient: rfc822; you@example.net
Action: failed
Status: 5.1.1
Diagnostic-Code: x-postroad; given up
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
        ((5, 7, 10), "with TLS as you demand"),
        ((5, 7, 30), "with TLS as you demand"),
        ((5, 0, 0), "administrator of your mail server"),
    ];
    for ((class, subject, detail), expected) in cases {
        let advice = people::advice(&Reported {
            status: EnhancedStatus::new(class, subject, detail),
            ..recipient()
        });
        assert!(
            advice.contains(expected),
            "{class}.{subject}.{detail}: {advice}"
        );
    }
    let own = people::advice(&Reported {
        status: EnhancedStatus::new(5, 7, 0),
        remote_mta: None,
        ..recipient()
    });
    assert!(own.starts_with("This mail server returned"), "{own}");
}

#[test]
fn a_time_that_has_passed_is_told_beside_what_was_said_last() {
    let busy = "450 4.2.0 Mailbox busy";
    let unused = "451 4.4.1 the next server could not be used: connection refused";
    let remote = Some("mx.example.net");
    let cases = [
        (
            Expired::Lifetime,
            busy,
            remote,
            "
    The time in which this server tries to deliver has passed.
    The server mx.example.net said last:
      450 4.2.0 Mailbox busy
    What to do: The other side kept putting the message off. Try again
      later, or reach the recipient another way.
",
            "\nDiagnostic-Code: smtp; 450 4.2.0 Mailbox busy\n",
        ),
        (
            Expired::DeliverBy,
            unused,
            None,
            "
    The time that you gave for delivery (DELIVERBY) has passed.
    Why it was not passed on:
      451 4.4.1 the next server could not be used: connection refused
    What to do: The message could not be passed on in time. Try again later.
",
            "\nDiagnostic-Code: x-postroad; 451 4.4.1 the next server could not be used:\n    connection refused\n",
        ),
    ];
    for (expired, diagnostic, remote, people, code) in cases {
        let report = report(&bounce(
            vec![Reported {
                status: EnhancedStatus::new(5, 4, 7),
                expired: Some(expired),
                diagnostic: diagnostic.to_owned(),
                remote_mta: remote.map(str::to_owned),
                ..recipient()
            }],
            "",
        ));
        assert!(report.contains(people), "{report}");
        assert!(
            report.contains("\nAction: failed\nStatus: 5.4.7\n"),
            "{report}"
        );
        assert!(report.contains(code), "{report}");
    }
}

#[test]
fn a_report_is_bounded() {
    let long = Reported {
        address: "\u{fc}".repeat(10_000),
        orcpt: Some("x".repeat(10_000)),
        diagnostic: "y".repeat(10_000),
        ..recipient()
    };
    let bounce = bounce(vec![long; 1000], "X-Long: z\r\n".repeat(100_000));
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
        let bounce = bounce(vec![recipient()], headers);
        let report = report(&bounce);
        let (_, encoded) = report.split_once("quoted-printable\n\n").unwrap();
        assert!(encoded.lines().all(|line| line.len() <= 76), "{encoded}");
    }
}

/// What people and programs read of [`one_report_tells_of_every_kind`].
const EVERY_KIND: &str = "\
This is the mail server mail.example.com.

This is about the message that you sent on Thu, 01 Jan 1970 00:00:00 +0000.

It could not be delivered to everyone. These did not get it, and no further
attempt will be made:

  <you@example.net>
    The server mx.example.net said:
      550 5.1.1 No such user
    What to do: Check the address for typing errors, then send the message
      again.

These have not got it yet. You need not send it again: it is tried until
Tue, 06 Jan 1970 00:00:00 +0000, and if that fails you will be told.

  <later@example.net>
    The server mx.example.net said:
      452 4.2.2 Mailbox full

For these it was passed on to a server that does not say whether mail arrives.
You may not hear of it again:

  <passed@example.net>
    The server mx.example.net said:
      250 ok

The third part of this report holds the headers of your message.

--=_postroad_01ABC
Content-Type: message/delivery-status

Original-Envelope-Id: QQ314159??X: y
Reporting-MTA: dns; mail.example.com
Arrival-Date: Thu, 01 Jan 1970 00:00:00 +0000

Final-Recipient: rfc822; later@example.net
Action: delayed
Status: 4.2.2
Remote-MTA: dns; mx.example.net
Diagnostic-Code: smtp; 452 4.2.2 Mailbox full
Last-Attempt-Date: Fri, 02 Jan 1970 00:00:00 +0000
Will-Retry-Until: Tue, 06 Jan 1970 00:00:00 +0000

Final-Recipient: rfc822; passed@example.net
Action: relayed
Status: 2.0.0
Remote-MTA: dns; mx.example.net
Diagnostic-Code: smtp; 250 ok
Last-Attempt-Date: Fri, 02 Jan 1970 00:00:00 +0000

Final-Recipient: rfc822; you@example.net
Action: failed
Status: 5.1.1
Remote-MTA: dns; mx.example.net
Diagnostic-Code: smtp; 550 5.1.1 No such user
Last-Attempt-Date: Fri, 02 Jan 1970 00:00:00 +0000

--=_postroad_01ABC
Content-Type: text/rfc822-headers

Subject: x

--=_postroad_01ABC--
";

#[test]
fn one_report_tells_of_every_kind() {
    let mut all = bounce(vec![delayed(), relayed(), recipient()], "Subject: x\r\n");
    all.envid = Some("QQ314159\r\nX: y".to_owned());
    let all = report(&all);
    let (_, people) = all.split_once("us-ascii\n\n").unwrap();
    assert_eq!(people, EVERY_KIND);
}

#[test]
fn the_subject_is_the_worst_that_is_told() {
    let cases = [
        (
            vec![relayed(), delayed(), recipient()],
            "could not be delivered",
        ),
        (vec![relayed(), delayed()], "is delayed"),
        (vec![relayed()], "was passed on"),
    ];
    for (recipients, expected) in cases {
        let report = report(&bounce(recipients, ""));
        assert!(report.contains(&format!("\nSubject: Your message {expected}\n")));
    }
}

/// The third part of a report that is asked for the whole message.
fn returned(recipient: Reported, message: &str) -> String {
    let message = Bytes::from(message.replace('\n', "\r\n"));
    let mut bounce = bounce(vec![recipient], message);
    bounce.returned = Returned::Whole;
    let report = report(&bounce);
    let last = report.rsplit_once("\n--=_postroad_01ABC\n").unwrap().1;
    let part = last.strip_suffix("\n--=_postroad_01ABC--\n").unwrap();
    let eight_bit =
        report.contains("\nContent-Transfer-Encoding: 8bit\n\nThis is a delivery report");
    assert_eq!(eight_bit, !part.is_ascii(), "{report}");
    part.to_owned()
}

#[test]
fn the_message_is_returned_in_a_form_that_arrives() {
    let headers = "Content-Type: text/rfc822-headers\n\nSubject: x\n";
    let large = format!("Subject: x\n\n{}", "text\n".repeat(WHOLE_MAX / 5));
    let endless = format!("Subject: x\n\n{}\n", "x".repeat(999));
    let signed = "Content-Type: multipart/signed; boundary=b\n\n--b\n\n\u{fc}\n--b--\n";
    let cases = [
        (
            recipient(),
            "Subject: x\n\ntext\n",
            "Content-Type: message/rfc822\n\nSubject: x\n\ntext\n",
        ),
        (
            recipient(),
            "Subject: x\n\ntext",
            "Content-Type: message/rfc822\n\nSubject: x\n\ntext\n",
        ),
        (
            recipient(),
            "Subject: x\n\nt\u{fc}xt\n",
            "Content-Type: message/rfc822\nContent-Transfer-Encoding: 8bit\n\nSubject: x\n\nt\u{fc}xt\n",
        ),
        (
            recipient(),
            "Subject: \u{fc}\n\ntext\n",
            "Content-Type: message/global\nContent-Transfer-Encoding: base64\n\nU3ViamVjdDogw7wNCg0KdGV4dA0K\n",
        ),
        (recipient(), "", "Content-Type: text/rfc822-headers\n\n"),
        (recipient(), &large, headers),
        (recipient(), &endless, headers),
        (recipient(), "Subject: x\n\na\0b\n", headers),
        (recipient(), "Subject: x\n\n--=_postroad_01ABC--\n", headers),
        (
            recipient(),
            signed,
            "Content-Type: text/rfc822-headers\n\nContent-Type: multipart/signed; boundary=b\n",
        ),
        (delayed(), "Subject: x\n\ntext\n", headers),
        (relayed(), "Subject: x\n\ntext\n", headers),
    ];
    for (recipient, message, expected) in cases {
        let shown = &message[..message.len().min(60)];
        assert_eq!(returned(recipient, message), expected, "{shown}");
    }
}

#[test]
fn a_report_that_is_eight_bit_can_be_converted() {
    let mut bounce = bounce(
        vec![recipient()],
        "Subject: x\r\n\r\ngr\u{fc}n, the colour of the meadows\r\n",
    );
    bounce.returned = Returned::Whole;
    let written = build(&bounce);
    assert_eq!(written.width, Width::EightBit);
    let converted = crate::convert::convert(&written.content, Width::SevenBit).unwrap();
    let text = String::from_utf8(converted.into_owned()).unwrap();
    assert!(text.contains("\r\n\r\ngr=C3=BCn, the colour"), "{text}");
}

#[test]
fn nothing_of_a_message_that_demanded_tls_is_returned() {
    let mut bounce = bounce(vec![recipient()], "Subject: secret\r\n");
    bounce.returned = Returned::Nothing;
    let report = report(&bounce);
    assert!(report.contains("\nYour message demanded TLS. So that") && !report.contains("secret"));
}
