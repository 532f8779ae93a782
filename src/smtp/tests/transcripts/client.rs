//! Replays a dialogue against the client session.

use bytes::{Bytes, BytesMut};
use postroad_smtp::client::{
    Certificate, Client, ClientConfig, ClientStep, ClientTls, ConnectFailure, End, Login,
    RecipientOutcome, SenderVerdict, Transaction, TransactionOutcome,
};
use postroad_smtp::{
    BodyKind, DeliverBy, Envid, ForwardPath, MailParameters, OnExpiry, OriginalRecipient, Password,
    Priority, Recipient, Reply, RequireTls, Ret,
};

use crate::script::{Dialogue, Line, Script, Split, escape};

/// The whole transcript as the session makes it.
pub(crate) fn replay(script: &Script, split: Split) -> String {
    let mut replay = Replay {
        client: Client::new(config(script)),
        input: BytesMut::new(),
        dialogue: script.begin(),
        certificate: match script.setting("certificate") {
            None | Some("verified") => Certificate::Verified,
            Some(_) => Certificate::Unverified,
        },
        over: false,
        idle: false,
    };
    replay.run();
    while let Some(line) = replay.dialogue.next() {
        match line {
            Line::Kept(text) => replay.note(&text),
            Line::Act(action) => replay.act(&action),
            Line::Given => {}
            Line::Content(..) => panic!("content without a send"),
            Line::Read(octets, text) => {
                let read = replay.dialogue.whole_read(octets, &text);
                for piece in split.apply(&read) {
                    replay.input.extend_from_slice(piece);
                    replay.run();
                }
            }
        }
    }
    replay.dialogue.written().to_owned()
}

fn config(script: &Script) -> ClientConfig {
    ClientConfig {
        ehlo_name: "relay.example.com".to_owned(),
        tls: match script.setting("tls") {
            None | Some("none") => ClientTls::None,
            Some("opportunistic") => ClientTls::Opportunistic,
            Some("required") => ClientTls::Required,
            Some("active") => ClientTls::Active,
            Some(other) => panic!("tls={other}"),
        },
        login: script.setting("login").map(|login| {
            let (username, password) = login.split_once(':').unwrap();
            Login {
                username: username.to_owned(),
                password: Password::new(password),
            }
        }),
    }
}

struct Replay {
    client: Client,
    input: BytesMut,
    dialogue: Dialogue,
    certificate: Certificate,
    over: bool,
    /// Whether `> ready` stands since the last thing that was asked of the session.
    idle: bool,
}

impl Replay {
    fn note(&mut self, line: &str) {
        self.dialogue.note(line);
    }

    fn run(&mut self) {
        while !self.over {
            let step = self.client.step(&mut self.input);
            self.take_output();
            match step {
                ClientStep::NeedInput => return,
                ClientStep::Ready => {
                    self.note_ready();
                    return;
                }
                ClientStep::Flush => {}
                ClientStep::StartTls => {
                    self.note("> starttls");
                    assert!(self.input.is_empty(), "plaintext survives into TLS");
                    self.client.tls_established(self.certificate);
                }
                ClientStep::Finished(outcome) => self.note_outcome(&outcome),
                ClientStep::Failed(failure) => {
                    self.note(&format!("> failed {}", shown_failure(&failure)));
                    self.over = true;
                }
                ClientStep::Closed => {
                    self.note("> closed");
                    self.over = true;
                }
            }
        }
    }

    /// Said once, however often the session is asked.
    fn note_ready(&mut self) {
        if !self.idle {
            self.note("> ready");
        }
        self.idle = true;
    }

    fn take_output(&mut self) {
        let output = self.client.output().split();
        for line in output.split_inclusive(|octet| *octet == b'\n') {
            let text = line.strip_suffix(b"\r\n").expect("lines end with CRLF");
            assert!(!text.contains(&b'\r'), "bare CR");
            self.note(format!("C: {}", escape(text)).trim_end());
        }
    }

    fn note_outcome(&mut self, outcome: &TransactionOutcome) {
        self.note(&format!("> finished {:?}", outcome.connection));
        for recipient in &outcome.recipients {
            let (what, reply): (&str, &Reply) = match recipient {
                RecipientOutcome::Delivered(reply) => ("delivered", reply),
                RecipientOutcome::Deferred(reply) => ("deferred", reply),
                RecipientOutcome::Failed(reply) => ("failed", reply),
            };
            self.note(&format!("> {what}: {reply}"));
        }
        for extension in outcome.dropped.iter() {
            self.note(&format!("> without {}", extension.keyword()));
        }
        if matches!(outcome.sender, SenderVerdict::Rejected(_)) {
            self.note("> about the sender");
        }
        match &outcome.end {
            End::Answered => {}
            End::Held(failure) => self.note(&format!("> hold {}", shown_failure(failure))),
            End::Unasked => self.note("> not asked"),
            End::Unanswered => self.note("> unanswered"),
        }
    }

    fn act(&mut self, action: &str) {
        self.idle = false;
        self.note(&format!("! {action}"));
        match action {
            "quit" => self.client.quit(),
            "eof" => {
                let step = self.client.closed();
                match step {
                    ClientStep::Finished(outcome) => self.note_outcome(&outcome),
                    ClientStep::Failed(failure) => {
                        self.note(&format!("> failed {}", shown_failure(&failure)));
                        self.over = true;
                    }
                    ClientStep::Closed => {}
                    other => panic!("closed() gave {other:?}"),
                }
            }
            action => {
                let envelope = action.strip_prefix("send ").expect("an action");
                let transaction = self.transaction(envelope);
                self.client.send(transaction);
            }
        }
        self.run();
    }

    /// `<sender> <recipient>... [8bit] [utf8] ...`, and the content lines that follow.
    fn transaction(&mut self, envelope: &str) -> Transaction {
        let content = self.dialogue.content().into_iter();
        let path = |word: &str| word.trim_matches(['<', '>']).to_owned();
        let (paths, flags): (Vec<&str>, Vec<&str>) =
            envelope.split(' ').partition(|word| word.starts_with('<'));
        Transaction {
            sender: path(paths[0]).parse().unwrap(),
            recipients: paths[1..].iter().map(|word| recipient(word)).collect(),
            parameters: parameters(&flags),
            content: content.map(Bytes::from).collect(),
        }
    }
}

/// `<path>`, or `<path>;notify=SUCCESS;orcpt=rfc822;user@host`.
fn recipient(word: &str) -> Recipient {
    let (path, mut rest) = word.split_once('>').unwrap();
    let mut recipient = Recipient::from(path[1..].parse::<ForwardPath>().unwrap());
    if let Some((head, orcpt)) = rest.split_once(";orcpt=") {
        recipient.orcpt = Some(OriginalRecipient::new(orcpt).unwrap());
        rest = head;
    }
    recipient.notify = rest
        .strip_prefix(";notify=")
        .map(|notify| notify.parse().unwrap());
    recipient
}

fn parameters(flags: &[&str]) -> MailParameters {
    let mut parameters = MailParameters::default();
    for flag in flags {
        match flag.split_once('=').unwrap_or((flag, "")) {
            ("8bit", _) => parameters.body = BodyKind::EightBit,
            ("binary", _) => parameters.body = BodyKind::Binary,
            ("utf8", _) => parameters.smtputf8 = true,
            ("ret", "full") => parameters.ret = Some(Ret::Full),
            ("ret", _) => parameters.ret = Some(Ret::Headers),
            ("envid", envid) => parameters.envid = Some(Envid::new(envid).unwrap()),
            ("requiretls", _) => parameters.require_tls = RequireTls::Yes,
            ("return", seconds) => parameters.deliver_by = by(seconds, OnExpiry::Return),
            ("notify", seconds) => parameters.deliver_by = by(seconds, OnExpiry::Notify),
            ("priority", number) => {
                parameters.priority = Priority::new(number.parse().unwrap()).unwrap();
            }
            (other, _) => panic!("no flag: {other}"),
        }
    }
    parameters
}

fn by(seconds: &str, on_expiry: OnExpiry) -> Option<DeliverBy> {
    DeliverBy::new(seconds.parse().unwrap(), on_expiry, false)
}

fn shown_failure(failure: &ConnectFailure) -> String {
    let reply = failure
        .reply
        .as_ref()
        .map(|reply| format!(": {reply}"))
        .unwrap_or_default();
    format!("{:?} {:?}{reply}", failure.stage, failure.kind)
}
