use super::*;
use crate::message::Template;

/// What a session says to these octets in pieces of this length, and how many messages arrived.
fn converse(wire: &[u8], piece: usize, rules: &[&str]) -> (String, u64, Turn) {
    let ledger = Ledger::new(10);
    let rules: Vec<_> = rules.iter().map(|rule| rule.parse().unwrap()).collect();
    let faults = Faults::new(&rules);
    let mut session = Session::new(&faults, &ledger, true);
    let (mut input, mut output) = (BytesMut::new(), Vec::new());
    let mut turn = session.greet(&mut output);
    for chunk in wire.chunks(piece) {
        input.extend_from_slice(chunk);
        loop {
            if turn == Turn::Close {
                break;
            }
            turn = session.feed(&mut input, &mut output, false);
            if turn == Turn::More {
                break;
            }
        }
    }
    let output = String::from_utf8(output).unwrap();
    (output, ledger.arrivals(), turn)
}

fn codes(output: &str) -> Vec<&str> {
    let last = |line: &&str| line.as_bytes().get(3) == Some(&b' ');
    output.lines().filter(last).map(|line| &line[..3]).collect()
}

fn dialogue() -> Vec<u8> {
    let mut template = Template::new(700);
    let mut wire = b"EHLO x\r\nMAIL FROM:<a>\r\nRCPT TO:<b>\r\nDATA\r\n".to_vec();
    wire.extend_from_slice(template.with_id(3));
    wire.extend_from_slice(b"MAIL FROM:<a>\r\nRCPT TO:<b>\r\nDATA\r\n.\r\n");
    let content = template.content_with_id(4);
    let (first, second) = content.split_at(300);
    wire.extend_from_slice(b"MAIL FROM:<a>\r\nRCPT TO:<b>\r\nBDAT 300\r\n");
    wire.extend_from_slice(first);
    wire.extend_from_slice(format!("BDAT {} last\r\n", second.len()).as_bytes());
    wire.extend_from_slice(second);
    wire.extend_from_slice(b"QUIT\r\n");
    wire
}

/// However the octets are cut, the same messages arrive and the same replies go out.
#[test]
fn every_split_gives_the_same() {
    let wire = dialogue();
    let whole = converse(&wire, wire.len(), &[]);
    let expected = "220 250 250 250 354 250 250 250 354 250 250 250 250 250 221";
    assert_eq!(codes(&whole.0).join(" "), expected);
    assert_eq!((whole.1, whole.2), (2, Turn::Close));
    for piece in 1..wire.len() {
        assert_eq!(converse(&wire, piece, &[]), whole, "pieces of {piece}");
    }
}

#[test]
fn a_fault_keeps_a_message_from_arriving() {
    let mut wire = b"EHLO x\r\nMAIL FROM:<a>\r\nRCPT TO:<b>\r\nDATA\r\n".to_vec();
    wire.extend_from_slice(Template::new(700).with_id(3));
    let cases = [
        ("421@connect=1000", "421", Turn::Close),
        ("drop@mail=1000", "", Turn::Close),
        ("451@data=1000", "220 250 250 250 451", Turn::More),
        ("452@end=1000", "220 250 250 250 354 452", Turn::More),
        ("drop@end=1000", "", Turn::Close),
    ];
    for (rule, expected, turn) in cases {
        // What follows a refused DATA is no command; a client would not send it.
        let octets = if rule.contains("data") {
            48
        } else {
            wire.len()
        };
        let (output, arrivals, last) = converse(&wire[..octets], wire.len(), &[rule]);
        assert_eq!(codes(&output).join(" "), expected, "{rule}");
        assert_eq!((arrivals, last), (0, turn), "{rule}");
    }
}

#[test]
fn without_a_recipient_there_is_no_content() {
    let wire = b"EHLO x\r\nMAIL FROM:<a>\r\nRCPT TO:<b>\r\nDATA\r\nBDAT 5 LAST\r\n12345QUIT\r\n";
    let (output, arrivals, _) = converse(wire, wire.len(), &["450@rcpt=1000"]);
    assert_eq!(codes(&output).join(" "), "220 250 250 450 554 554 221");
    assert_eq!(arrivals, 0);
}

#[test]
fn a_delay_holds_the_reply_back() {
    let rule = "delay:50@hello=1000".parse().unwrap();
    let (faults, ledger) = (Faults::new(&[rule]), Ledger::new(1));
    let mut session = Session::new(&faults, &ledger, false);
    let (mut input, mut output) = (BytesMut::from("EHLO x\r\n"), Vec::new());
    let turn = session.feed(&mut input, &mut output, true);
    assert_eq!(turn, Turn::Pause(Duration::from_millis(50)));
    let output = String::from_utf8(output).unwrap();
    assert!(output.contains("STARTTLS") && !output.contains("CHUNKING"));
}
