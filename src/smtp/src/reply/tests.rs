use bytes::BytesMut;
use proptest::prelude::*;

use super::*;

fn encode(reply: &Reply) -> String {
    let mut output = BytesMut::new();
    reply.encode(&mut output);
    String::from_utf8(output.to_vec()).unwrap()
}

fn parse(wire: &[u8]) -> Result<Option<Reply>, ReplyError> {
    ReplyReader::default().next(&mut BytesMut::from(wire))
}

#[test]
fn replies_go_on_the_wire_with_their_status_on_every_line() {
    let status = EnhancedStatus::new(5, 7, 1);
    let reply = Reply::new(550, status, "not from you\nnot today");
    assert_eq!(
        encode(&reply),
        "550-5.7.1 not from you\r\n550 5.7.1 not today\r\n"
    );
    assert_eq!(encode(&Reply::new(334, None, "")), "334 \r\n");
}

#[test]
fn hostile_text_cannot_leave_its_line() {
    let reply = Reply::new(550, None, "a\r\nb\rc\0\u{1b}[2J\u{2028}\u{202e}grün");
    assert_eq!(encode(&reply), "550-a\r\n550 b?c??[2J??gr??n\r\n");
    assert_eq!(reply.to_string(), "550 a b?c??[2J??grün");
}

#[test]
fn long_text_is_wrapped_on_the_wire_and_cut_in_logs() {
    let reply = Reply::new(250, None, "ü".repeat(TEXT_MAX));
    let wire = encode(&reply);
    assert!(wire.lines().all(|line| line.len() + 2 <= LINE_MAX));
    assert_eq!(
        wire.lines().map(|line| line.len() - 4).sum::<usize>(),
        TEXT_MAX
    );
    let reply = Reply::new(250, None, format!("{}\nend", "ü".repeat(DISPLAY_MAX)));
    // "250 " and a character of two octets cannot fill an odd rest.
    let kept = (DISPLAY_MAX - "250 ".len()) / 2;
    assert_eq!(reply.to_string(), format!("250 {}", "ü".repeat(kept)));
    let reply = Reply::new(250, None, format!("-{}\nend", "ü".repeat(DISPLAY_MAX)));
    assert_eq!(reply.to_string(), format!("250 -{}", "ü".repeat(kept - 1)));
}

#[test]
fn codes_stay_in_range() {
    assert_eq!(Reply::new(0, None, "").code(), 200);
    assert_eq!(Reply::new(999, None, "").code(), 599);
}

#[test]
fn replies_are_classified_by_their_first_digit() {
    for (code, expected) in [(250, [0, 0]), (354, [0, 0]), (450, [1, 0]), (550, [0, 1])] {
        let reply = Reply::new(code, None, "");
        let given = [reply.is_transient(), reply.is_permanent()];
        assert_eq!(given.map(u8::from), expected, "{code}");
    }
}

#[test]
fn statuses_are_parsed_strictly() {
    assert_eq!("5.7.1".parse(), Ok(EnhancedStatus::new(5, 7, 1)));
    assert_eq!("4.999.0".parse(), Ok(EnhancedStatus::new(4, 999, 0)));
    for text in [
        "", "5", "5.7", "5.7.1.0", "3.0.0", "5.7.", "5.7.1000", "5.+7.1", "5.7.x", " 5.7.1",
    ] {
        assert_eq!(text.parse::<EnhancedStatus>(), Err(StatusError), "{text:?}");
    }
}

#[test]
fn replies_are_read_with_their_status() {
    let cases: [(&[u8], &str, usize); 6] = [
        (b"250 Ok\r\n", "250 Ok", 1),
        (b"250\r\n", "250", 1),
        (
            b"550-5.1.1 No such\r\n550 5.1.1 user\r\n",
            "550 5.1.1 No such user",
            2,
        ),
        (
            b"550 4.1.1 of another class\r\n",
            "550 4.1.1 of another class",
            1,
        ),
        (
            b"550-5.1.1 first\r\n550 5.7.1 second\r\n",
            "550 5.1.1 first 5.7.1 second",
            2,
        ),
        (b"250 2.0.0\r\n", "250 2.0.0", 1),
    ];
    for (wire, shown, lines) in cases {
        let reply = parse(wire).unwrap().unwrap();
        assert_eq!(
            (reply.to_string().as_str(), reply.lines().len()),
            (shown, lines)
        );
    }
    assert_eq!(
        parse(b"550 5.1.1 x\r\n").unwrap().unwrap().status(),
        "5.1.1".parse().ok()
    );
    assert_eq!(parse(b"550 4.1.1 x\r\n").unwrap().unwrap().status(), None);
}

#[test]
fn what_is_no_reply_is_refused() {
    let endless = [b"250 ".to_vec(), vec![b'x'; 9 << 10]].concat();
    let many = b"250-x\r\n".repeat(101);
    let cases: [(&[u8], ReplyError); 9] = [
        (b"25 Ok\r\n", ReplyError::Code),
        (b"650 Ok\r\n", ReplyError::Code),
        (b"150 Ok\r\n", ReplyError::Code),
        (b"2500 Ok\r\n", ReplyError::Code),
        (b"\r\n", ReplyError::Code),
        (b"250-Ok\r\n550 No\r\n", ReplyError::CodeChanged),
        (b"250 Ok\n250 Ok\r\n", ReplyError::BareNewline),
        (&endless, ReplyError::LineTooLong),
        (&many, ReplyError::TooManyLines),
    ];
    for (wire, expected) in cases {
        assert_eq!(parse(wire), Err(expected));
    }
}

#[test]
fn kept_text_is_bounded() {
    let wire = [b"250-".to_vec(), vec![b'x'; 8000], b"\r\n".to_vec()]
        .concat()
        .repeat(50);
    let wire = [wire, b"250 end\r\n".to_vec()].concat();
    let reply = parse(&wire).unwrap().unwrap();
    assert_eq!(
        reply.lines().iter().map(String::len).sum::<usize>(),
        TEXT_MAX
    );
}

proptest! {
    #[test]
    fn what_is_encoded_reads_back_equal(
        code in 200u16..600,
        status in proptest::option::of((0u16..1000, 0u16..1000)),
        lines in proptest::collection::vec("[a-zA-Z][ -~]{0,60}", 1..5),
    ) {
        let class = u8::try_from(code / 100).unwrap();
        // RFC 2034: no status in 3yz replies.
        let status = status
            .filter(|_| class != 3)
            .map(|(subject, detail)| EnhancedStatus::new(class, subject, detail));
        let reply = Reply::new(code, status, lines.join("\n"));
        prop_assert_eq!(parse(encode(&reply).as_bytes()).unwrap().unwrap(), reply);
    }

    #[test]
    fn arbitrary_bytes_never_panic(bytes in proptest::collection::vec(any::<u8>(), 0..400)) {
        let mut reader = ReplyReader::default();
        let mut input = BytesMut::new();
        for byte in bytes {
            input.extend_from_slice(&[byte]);
            if reader.next(&mut input).is_err() {
                break;
            }
        }
    }
}
