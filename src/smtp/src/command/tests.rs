use proptest::prelude::*;

use super::*;
use crate::BodyKind;

#[test]
fn mail_takes_its_parameters_in_any_order_and_case() {
    let line = b"mail from:<a@b> smtputf8 auth=<> Size=00012 body=8bitmime";
    let Ok(Command::Mail(path, parameters)) = parse(line) else {
        panic!("not understood");
    };
    assert_eq!(path.to_string(), "a@b");
    assert_eq!(parameters.size, Some(12));
    assert_eq!(parameters.body, Some(BodyKind::EightBit));
    assert!(parameters.smtputf8);
}

#[test]
fn bad_parameters_name_themselves() {
    let cases = [
        ("SIZE", Error::Parameter("SIZE")),
        ("SIZE=", Error::Parameter("SIZE")),
        ("SIZE=-1", Error::Parameter("SIZE")),
        ("SIZE=123456789012345678901", Error::Parameter("SIZE")),
        ("BODY=", Error::Parameter("BODY")),
        ("BODY=7BIT BODY=7BIT", Error::Parameter("BODY")),
        ("SMTPUTF8 SMTPUTF8", Error::Parameter("SMTPUTF8")),
        ("AUTH=", Error::Parameter("AUTH")),
        ("AUTH=x AUTH=x", Error::Parameter("AUTH")),
        ("REQUIRETLS", Error::UnknownParameter),
        ("=", Error::UnknownParameter),
    ];
    for (parameters, expected) in cases {
        let line = format!("MAIL FROM:<> {parameters}");
        assert_eq!(parse(line.as_bytes()), Err(expected), "{parameters}");
    }
}

#[test]
fn greetings_take_one_printable_word() {
    assert_eq!(parse(b"EHLO  my_host  "), Ok(Command::Ehlo("my_host")));
    assert_eq!(parse(b"helo [192.0.2.1]"), Ok(Command::Helo("[192.0.2.1]")));
    let long = format!("EHLO {}", "a".repeat(HELO_MAX + 1));
    for line in ["EHLO", "EHLO a b", "EHLO b\u{fc}cher", long.as_str()] {
        assert_eq!(parse(line.as_bytes()), Err(Error::Greeting), "{line}");
    }
}

#[test]
fn the_words_of_other_protocols_are_foreign() {
    for line in [
        "GET / HTTP/1.1",
        "post /",
        "CONNECT a:25 HTTP/1.0",
        "PRI * HTTP/2.0",
    ] {
        assert_eq!(parse(line.as_bytes()), Err(Error::Foreign), "{line}");
    }
}

#[test]
fn no_reply_repeats_what_the_client_sent() {
    for line in [
        "SECRET x",
        "MAIL FROM:<SECRET",
        "RCPT TO:SECRET",
        "MAIL FROM:<> SECRET=1",
    ] {
        let reply = parse(line.as_bytes()).unwrap_err().reply();
        assert!(!reply.to_string().contains("SECRET"), "{reply}");
        assert!(reply.is_permanent());
    }
}

proptest! {
    #[test]
    fn arbitrary_lines_never_panic(line in proptest::collection::vec(any::<u8>(), 0..200)) {
        if let Err(error) = parse(&line) {
            prop_assert!(error.reply().is_permanent());
        }
    }
}
