use proptest::prelude::*;

use super::*;
use crate::{BodyKind, Extension, Extensions, OriginalRecipient};

#[test]
fn mail_takes_its_parameters_in_any_order_and_case() {
    let line = b"mail from:<a@b> smtputf8 auth=<> Size=00012 body=8bitmime";
    let Ok(Command::Mail(path, arguments)) = parse(line) else {
        panic!("not understood");
    };
    assert_eq!(path.to_string(), "a@b");
    assert_eq!(arguments.size, Some(12));
    assert_eq!(arguments.parameters.body, BodyKind::EightBit);
    assert!(arguments.parameters.smtputf8);
}

#[test]
fn bad_parameters_name_themselves() {
    let cases = [
        ("SIZE", Error::Parameter("SIZE")),
        ("SIZE=", Error::Parameter("SIZE")),
        ("SIZE=-1", Error::Parameter("SIZE")),
        ("SIZE=123456789012345678901", Error::Parameter("SIZE")),
        ("BODY=", Error::Parameter("BODY")),
        ("BODY=BINARY", Error::Parameter("BODY")),
        ("BODY=7BIT BODY=7BIT", Error::Parameter("BODY")),
        ("SMTPUTF8 SMTPUTF8", Error::Parameter("SMTPUTF8")),
        ("SMTPUTF8=", Error::Parameter("SMTPUTF8")),
        ("AUTH=", Error::Parameter("AUTH")),
        ("AUTH=x AUTH=x", Error::Parameter("AUTH")),
        ("RET", Error::Parameter("RET")),
        ("RET=ALL", Error::Parameter("RET")),
        ("RET=FULL RET=FULL", Error::Parameter("RET")),
        ("ENVID", Error::Parameter("ENVID")),
        ("ENVID=", Error::Parameter("ENVID")),
        ("ENVID=a+2", Error::Parameter("ENVID")),
        ("ENVID=a ENVID=a", Error::Parameter("ENVID")),
        ("REQUIRETLS=", Error::Parameter("REQUIRETLS")),
        ("REQUIRETLS=YES", Error::Parameter("REQUIRETLS")),
        ("REQUIRETLS REQUIRETLS", Error::Parameter("REQUIRETLS")),
        ("BY", Error::Parameter("BY")),
        ("BY=0;R", Error::Parameter("BY")),
        ("BY=1;R BY=1;R", Error::Parameter("BY")),
        ("HOLDFOR=0", Error::Parameter("HOLDFOR")),
        ("HOLDUNTIL=tomorrow", Error::Parameter("HOLDUNTIL")),
        (
            "HOLDFOR=1 HOLDUNTIL=2026-11-23T16:00:00Z",
            Error::Parameter("HOLDUNTIL"),
        ),
        ("MT-PRIORITY=10", Error::Parameter("MT-PRIORITY")),
        (
            "MT-PRIORITY=1 MT-PRIORITY=1",
            Error::Parameter("MT-PRIORITY"),
        ),
        ("NOTIFY=NEVER", Error::UnknownParameter),
        ("=", Error::UnknownParameter),
    ];
    for (parameters, expected) in cases {
        let line = format!("MAIL FROM:<> {parameters}");
        assert_eq!(parse(line.as_bytes()), Err(expected), "{parameters}");
    }
}

#[test]
fn every_parameter_of_mail_needs_its_extension() {
    let cases = [
        ("", Extensions::NONE),
        ("AUTH=<>", Extensions::NONE),
        ("HOLDFOR=1", Extensions::NONE),
        ("SIZE=1", Extensions::NONE.with(Extension::Size)),
        ("BODY=7BIT", Extensions::NONE.with(Extension::EightBitMime)),
        (
            "BODY=8BITMIME",
            Extensions::NONE.with(Extension::EightBitMime),
        ),
        (
            "BODY=BINARYMIME",
            Extensions::NONE.with(Extension::BinaryMime),
        ),
        ("SMTPUTF8", Extensions::NONE.with(Extension::SmtpUtf8)),
        ("RET=HDRS", Extensions::NONE.with(Extension::Dsn)),
        ("ENVID=x", Extensions::NONE.with(Extension::Dsn)),
        ("REQUIRETLS", Extensions::NONE.with(Extension::RequireTls)),
        ("BY=1;N", Extensions::NONE.with(Extension::DeliverBy)),
        (
            "MT-PRIORITY=0",
            Extensions::NONE.with(Extension::MtPriority),
        ),
    ];
    for (parameters, needs) in cases {
        let line = format!("MAIL FROM:<> {parameters}");
        let Ok(Command::Mail(_, arguments)) = parse(line.as_bytes()) else {
            panic!("{parameters} not understood");
        };
        assert_eq!(arguments.needs, needs, "{parameters}");
        assert_eq!(arguments.is_empty(), parameters.is_empty());
    }
}

#[test]
fn rcpt_takes_notify_and_orcpt() {
    let line = b"RCPT TO:<a@b> orcpt=rfc822;A+2Bc@b Notify=delay";
    let Ok(Command::Rcpt(recipient)) = parse(line) else {
        panic!("not understood");
    };
    let orcpt = recipient.orcpt.as_ref().map(OriginalRecipient::as_str);
    assert_eq!(orcpt, Some("rfc822;A+c@b"));
    assert_eq!(recipient.notify, "DELAY".parse().ok());
    let cases = [
        ("NOTIFY", Error::Parameter("NOTIFY")),
        ("NOTIFY=", Error::Parameter("NOTIFY")),
        ("NOTIFY=NEVER,DELAY", Error::Parameter("NOTIFY")),
        ("NOTIFY=NEVER NOTIFY=NEVER", Error::Parameter("NOTIFY")),
        ("ORCPT=a@b", Error::Parameter("ORCPT")),
        ("ORCPT=rfc822;a+0Ab", Error::Parameter("ORCPT")),
        ("ORCPT=rfc822;a ORCPT=rfc822;a", Error::Parameter("ORCPT")),
        ("RET=FULL", Error::UnknownParameter),
    ];
    for (parameters, expected) in cases {
        let line = format!("RCPT TO:<a@b> {parameters}");
        assert_eq!(parse(line.as_bytes()), Err(expected), "{parameters}");
    }
}

#[test]
fn chunks_have_a_size_and_may_be_the_last() {
    let cases = [
        ("BDAT 0", Ok(Command::Bdat(0, Chunk::More))),
        ("bdat 86 last", Ok(Command::Bdat(86, Chunk::Last))),
        ("BDAT 1  LAST", Ok(Command::Bdat(1, Chunk::Last))),
        (
            "BDAT 99999999999999999999 LAST",
            Ok(Command::Bdat(u64::MAX, Chunk::Last)),
        ),
        ("BDAT", Err(Error::Chunk)),
        ("BDAT LAST", Err(Error::Chunk)),
        ("BDAT -1", Err(Error::Chunk)),
        ("BDAT +1", Err(Error::Chunk)),
        ("BDAT 1x", Err(Error::Chunk)),
        ("BDAT 1 FIRST", Err(Error::Chunk)),
        ("BDAT 1 LAST LAST", Err(Error::Chunk)),
        ("BDAT 123456789012345678901", Err(Error::Chunk)),
    ];
    for (line, expected) in cases {
        assert_eq!(parse(line.as_bytes()), expected, "{line}");
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
