//! Client against server in memory, with every combination of what a server may offer.

use bytes::{Bytes, BytesMut};
use postroad_smtp::client::{
    Client, ClientConfig, ClientStep, ClientTls, Connection, RecipientOutcome, Transaction,
    TransactionOutcome,
};
use postroad_smtp::server::{
    ReceivedMessage, Request, ServerConfig, Session, Step, TlsOffer, Verdict,
};
use postroad_smtp::{
    BodyKind, DeliverBy, EnhancedStatus, Envid, Extension, Extensions, ForwardPath, MailParameters,
    OnExpiry, OriginalRecipient, Priority, Recipient, RequireTls, Ret,
};

/// Client and server over a pipe that moves so many octets at a time.
struct Pair {
    client: Client,
    server: Session,
    to_client: BytesMut,
    to_server: BytesMut,
    read: usize,
    received: Vec<ReceivedMessage>,
}

impl Pair {
    fn new(extensions: Extensions, read: usize) -> Self {
        let mut pair = Self {
            client: Client::new(ClientConfig {
                ehlo_name: "relay.example.com".to_owned(),
                tls: ClientTls::Active,
                login: None,
            }),
            server: Session::new(ServerConfig {
                tls: TlsOffer::Active,
                extensions,
                ..ServerConfig::new("mail.example.com")
            }),
            to_client: BytesMut::new(),
            to_server: BytesMut::new(),
            read,
            received: Vec::new(),
        };
        assert!(pair.run().is_none(), "ready");
        pair
    }

    fn send(&mut self, transaction: Transaction) -> TransactionOutcome {
        self.client.send(transaction);
        self.run().expect("a transaction was under way")
    }

    /// Until a transaction is over, or the client is ready for one.
    fn run(&mut self) -> Option<TransactionOutcome> {
        loop {
            match self.client.step(&mut self.to_client) {
                ClientStep::NeedInput => {
                    self.to_server.unsplit(self.client.output().split());
                    self.serve();
                }
                ClientStep::Flush => self.to_server.unsplit(self.client.output().split()),
                ClientStep::Finished(outcome) => return Some(outcome),
                ClientStep::Ready => return None,
                other => panic!("{other:?}"),
            }
        }
    }

    /// The server reads, and the client gets some of what it says.
    fn serve(&mut self) {
        // What is behind DATA or STARTTLS in one read is an offence that the client never commits.
        let mut input = BytesMut::new();
        loop {
            let some = self.read.min(self.to_server.len());
            input.unsplit(self.to_server.split_to(some));
            match self.server.step(&mut input) {
                Step::NeedInput if self.to_server.is_empty() => break,
                Step::NeedInput => {}
                Step::Request(Request::Message(message)) => {
                    self.received.push(message);
                    self.server.answer(Verdict::Accept);
                }
                Step::Request(_) => self.server.answer(Verdict::Accept),
                other => panic!("{other:?}"),
            }
        }
        assert!(input.is_empty(), "half a command");
        let said = self.server.output().split();
        assert!(!said.is_empty(), "both wait");
        self.to_client.unsplit(said);
    }
}

/// What is sent, and how a server is to fail it that does not offer what it needs.
struct Case {
    transaction: Transaction,
    /// One missing of these fails it.
    needs: Vec<(Extension, EnhancedStatus)>,
}

fn path(text: &str) -> ForwardPath {
    text.parse().unwrap()
}

fn plain(content: &[u8]) -> Transaction {
    Transaction {
        sender: "a@example.org".parse().unwrap(),
        recipients: vec![path("b@example.net").into(), path("c@example.net").into()],
        content: vec![
            Bytes::from_static(b"Received: x\r\n"),
            Bytes::copy_from_slice(content),
        ],
        ..Transaction::default()
    }
}

fn with(parameters: MailParameters) -> Transaction {
    Transaction {
        parameters,
        ..plain(b"Subject: x\r\n\r\n.dot\r\n..\r\n.\r\n")
    }
}

fn cases() -> Vec<Case> {
    let body = |body| MailParameters {
        body,
        ..MailParameters::default()
    };
    let by = |on_expiry| MailParameters {
        deliver_by: DeliverBy::new(60, on_expiry, true),
        ..MailParameters::default()
    };
    let everything = MailParameters {
        smtputf8: true,
        ret: Some(Ret::Full),
        envid: Envid::new("a + b"),
        deliver_by: DeliverBy::new(60, OnExpiry::Notify, false),
        priority: Priority::new(-9).unwrap(),
        ..body(BodyKind::EightBit)
    };
    let dsn = Recipient {
        path: path("d@example.net"),
        notify: "SUCCESS,DELAY".parse().ok(),
        orcpt: OriginalRecipient::new("utf-8;j\u{f6}rg+x@example.net"),
    };
    let status = EnhancedStatus::new;
    let list = [
        (plain(b"x"), vec![]),
        (plain(b""), vec![]),
        (with(body(BodyKind::EightBit)), vec![]),
        (
            Transaction {
                parameters: body(BodyKind::Binary),
                ..plain(b"\0\n\r.\r\n.\r\n\xff")
            },
            vec![
                (Extension::BinaryMime, status(5, 6, 3)),
                (Extension::Chunking, status(5, 6, 3)),
            ],
        ),
        (
            Transaction {
                recipients: vec![path("j\u{f6}rg@example.net").into()],
                ..plain(b"x\r\n")
            },
            vec![(Extension::SmtpUtf8, status(5, 6, 7))],
        ),
        (
            with(MailParameters {
                require_tls: RequireTls::Yes,
                ..MailParameters::default()
            }),
            vec![(Extension::RequireTls, status(5, 7, 30))],
        ),
        (
            with(by(OnExpiry::Return)),
            vec![(Extension::DeliverBy, status(5, 3, 3))],
        ),
        (with(by(OnExpiry::Notify)), vec![]),
        (
            Transaction {
                recipients: vec![dsn],
                ..with(everything)
            },
            vec![],
        ),
    ];
    let list = list.into_iter();
    list.map(|(transaction, needs)| Case { transaction, needs })
        .collect()
}

#[test]
fn whatever_is_offered_the_message_arrives_or_fails_as_it_should() {
    let cases = cases();
    for extensions in combinations() {
        let mut pair = Pair::new(extensions, usize::MAX);
        for case in &cases {
            check(&mut pair, extensions, case);
        }
    }
}

/// These take their time, and how octets are cut has little to do with what most extensions say.
#[test]
fn large_content_and_small_reads_change_nothing() {
    let large = Case {
        transaction: plain(&b".0123456789\r\n".repeat(10_000)),
        needs: Vec::new(),
    };
    let transfer = Extensions::NONE
        .with(Extension::Pipelining)
        .with(Extension::Chunking);
    for extensions in combinations().filter(|set| set.less(transfer).is_empty()) {
        check(&mut Pair::new(extensions, usize::MAX), extensions, &large);
        check(&mut Pair::new(extensions, 1000), extensions, &large);
    }
    let cases = cases();
    for extensions in combinations().step_by(13) {
        let mut pair = Pair::new(extensions, 7);
        for case in &cases {
            check(&mut pair, extensions, case);
        }
    }
}

fn combinations() -> impl Iterator<Item = Extensions> {
    (0..1u32 << Extension::ALL.len()).map(|bits| {
        let all = Extension::ALL.into_iter().enumerate();
        let chosen = all.filter(|(at, _)| bits & (1 << at) != 0);
        chosen.map(|(_, extension)| extension).collect()
    })
}

fn check(pair: &mut Pair, extensions: Extensions, case: &Case) {
    let Case { transaction, needs } = case;
    let shown = || {
        let offered: Vec<_> = extensions.iter().map(Extension::keyword).collect();
        format!(
            "{offered:?}: {:?} {:?}",
            transaction.recipients, transaction.parameters
        )
    };
    let outcome = pair.send(transaction.clone());
    assert_eq!(outcome.connection, Connection::Reusable, "{}", shown());
    assert_eq!(outcome.recipients.len(), transaction.recipients.len());
    assert!(pair.run().is_none());
    let missing = needs.iter().find(|(need, _)| !extensions.contains(*need));
    if let Some((_, status)) = missing {
        for recipient in &outcome.recipients {
            let RecipientOutcome::Failed(reply) = recipient else {
                panic!("{recipient:?} with {}", shown());
            };
            assert_eq!(reply.status(), Some(*status), "{}", shown());
        }
        assert!(pair.received.is_empty(), "{}", shown());
        return;
    }
    let delivered = |one: &RecipientOutcome| matches!(one, RecipientOutcome::Delivered(_));
    let all = outcome.recipients.iter().all(delivered);
    assert!(all, "{:?} with {}", outcome.recipients, shown());
    let received = pair.received.pop().unwrap();
    assert!(pair.received.is_empty(), "{}", shown());
    let expected = expected(transaction, extensions);
    assert_eq!(
        received.sender.parameters,
        expected.parameters,
        "{}",
        shown()
    );
    assert_eq!(received.recipients, expected.recipients, "{}", shown());
    assert_eq!(received.content, expected.content.concat(), "{}", shown());
    let asked = asked(transaction);
    assert_eq!(outcome.dropped, asked.less(extensions), "{}", shown());
}

fn asked(transaction: &Transaction) -> Extensions {
    let mut asked = transaction.parameters.extensions();
    for recipient in &transaction.recipients {
        if recipient.asks_for_dsn() {
            asked = asked.with(Extension::Dsn);
        }
        if !recipient.path.is_ascii() {
            asked = asked.with(Extension::SmtpUtf8);
        }
    }
    asked
}

/// What such a server is told.
fn expected(transaction: &Transaction, extensions: Extensions) -> Transaction {
    let offers = |extension| extensions.contains(extension);
    let Transaction {
        sender,
        mut recipients,
        parameters,
        mut content,
    } = transaction.clone();
    let utf8 = asked(transaction).contains(Extension::SmtpUtf8);
    let dsn = offers(Extension::Dsn);
    let parameters = MailParameters {
        body: match parameters.body {
            BodyKind::EightBit if !offers(Extension::EightBitMime) => BodyKind::SevenBit,
            body => body,
        },
        smtputf8: utf8 && offers(Extension::SmtpUtf8),
        ret: parameters.ret.filter(|_| dsn),
        envid: parameters.envid.filter(|_| dsn),
        require_tls: parameters.require_tls,
        deliver_by: parameters
            .deliver_by
            .filter(|_| offers(Extension::DeliverBy)),
        priority: match offers(Extension::MtPriority) {
            true => parameters.priority,
            false => Priority::default(),
        },
    };
    if !dsn {
        recipients = recipients.into_iter().map(|one| one.path.into()).collect();
    }
    let ended = content.concat().ends_with(b"\r\n");
    if !ended && parameters.body != BodyKind::Binary {
        content.push(Bytes::from_static(b"\r\n"));
    }
    Transaction {
        sender,
        recipients,
        parameters,
        content,
    }
}
