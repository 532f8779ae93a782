//! Replays a dialogue against the server session.

use bytes::{Buf as _, BytesMut};
use postroad_smtp::server::{
    AuthOffer, FutureRelease, ReceivedMessage, Request, Sender, ServerConfig, Session, Step,
    TlsOffer, Verdict,
};
use postroad_smtp::{
    BodyKind, EnhancedStatus, Extension, Extensions, Priority, Recipient, Reply, RequireTls,
};

use crate::script::{Dialogue, Line, Script, Split, escape};

/// The whole transcript as the session makes it.
pub(crate) fn replay(script: &Script, split: Split) -> String {
    let mut replay = Replay {
        session: Session::new(config(script)),
        input: BytesMut::new(),
        dialogue: script.begin(),
        closed: false,
    };
    replay.run();
    while let Some(line) = replay.dialogue.next() {
        match line {
            Line::Kept(text) => replay.note(&text),
            Line::Act(action) => replay.act(&action),
            Line::Given => {}
            Line::Content(..) => panic!("content belongs to client transcripts"),
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

fn config(script: &Script) -> ServerConfig {
    let number = |key, default| {
        script
            .setting(key)
            .map_or(default, |value| value.parse().unwrap())
    };
    ServerConfig {
        tls: match script.setting("tls") {
            None | Some("unavailable") => TlsOffer::Unavailable,
            Some("offered") => TlsOffer::Offered,
            Some("required") => TlsOffer::Required,
            Some("unready") => TlsOffer::Unready,
            Some("active") => TlsOffer::Active,
            Some(other) => panic!("tls={other}"),
        },
        auth: match script.setting("auth") {
            None | Some("disabled") => AuthOffer::Disabled,
            Some("under-tls") => AuthOffer::UnderTls,
            Some("required") => AuthOffer::Required,
            Some(other) => panic!("auth={other}"),
        },
        message_bytes: number("size", 1000),
        recipients: u32::try_from(number("recipients", 100)).unwrap(),
        extensions: match script.setting("offer") {
            None => SMALL.into_iter().collect(),
            Some("all") => Extensions::ALL,
            Some(other) => panic!("offer={other}"),
        },
        deliver_by_min: u32::try_from(number("by-min", 0)).unwrap(),
        future_release: script.setting("hold").map(|seconds| FutureRelease {
            seconds_max: seconds.parse().unwrap(),
            until_max: 1_800_000_000,
        }),
        ..ServerConfig::new("mail.example.com")
    }
}

/// What a transcript offers that says nothing about it: no more than it is about.
const SMALL: [Extension; 4] = [
    Extension::Pipelining,
    Extension::Size,
    Extension::EightBitMime,
    Extension::SmtpUtf8,
];

struct Replay {
    session: Session,
    input: BytesMut,
    dialogue: Dialogue,
    closed: bool,
}

impl Replay {
    fn note(&mut self, line: &str) {
        self.dialogue.note(line);
    }

    fn run(&mut self) {
        while !self.closed {
            let step = self.session.step(&mut self.input);
            self.take_output();
            match step {
                Step::NeedInput => return,
                Step::StartTls => {
                    self.note("> starttls");
                    assert!(self.input.is_empty(), "plaintext survives into TLS");
                    self.session.tls_established();
                }
                Step::Close => {
                    self.note("> close");
                    self.closed = true;
                }
                Step::Request(request) => {
                    self.note_request(request);
                    let verdict = match self.next_but_given() {
                        Some(Line::Act(verdict)) => verdict,
                        other => panic!(
                            "a verdict is needed after\n{}not {other:?}",
                            self.dialogue.written()
                        ),
                    };
                    self.note(&format!("! {verdict}"));
                    self.session.answer(parse_verdict(&verdict));
                }
            }
        }
    }

    /// The next line that the test acts on.
    fn next_but_given(&mut self) -> Option<Line> {
        let is_given = |line: &Line| matches!(line, Line::Given);
        while self.dialogue.next_if(is_given).is_some() {}
        self.dialogue.next()
    }

    fn take_output(&mut self) {
        let output = self.session.output().split();
        let text = String::from_utf8(output.to_vec()).unwrap();
        assert!(text.is_empty() || text.ends_with("\r\n"), "{text:?}");
        for line in text.split_terminator("\r\n") {
            assert!(
                line.len() <= 510 && !line.contains(['\r', '\n']),
                "{line:?}"
            );
            self.note(format!("S: {line}").trim_end());
        }
    }

    fn note_request(&mut self, request: Request) {
        match request {
            Request::Authenticate { username, password } => {
                self.note(&format!("? auth {username} {}", password.as_str()));
            }
            Request::Sender(sender) => self.note(&format!("? sender {}", shown_sender(&sender))),
            Request::Recipient(recipient) => {
                self.note(&format!("? recipient {}", shown_recipient(&recipient)));
            }
            Request::Message(message) => self.note_message(message),
        }
    }

    fn note_message(&mut self, message: ReceivedMessage) {
        let mut line = format!("? message {}", shown_sender(&message.sender));
        for recipient in &message.recipients {
            line.push_str(&format!(" {}", shown_recipient(recipient)));
        }
        self.note(&line);
        if message.sender.parameters.body == BodyKind::Binary {
            self.note(&format!("| {}", escape(&message.content)));
            return;
        }
        let mut content = message.content;
        while !content.is_empty() {
            let end = content
                .windows(2)
                .position(|pair| pair == b"\r\n")
                .expect("ends with CRLF");
            let line = content.split_to(end);
            content.advance(2);
            assert!(
                !line.contains(&b'\r') && !line.contains(&b'\n'),
                "bare newline: {line:?}"
            );
            self.note(format!("| {}", escape(&line)).trim_end());
        }
    }

    fn act(&mut self, action: &str) {
        self.note(&format!("! {action}"));
        match action {
            "shutdown" => self.session.shutdown(),
            "timeout" => self.session.timed_out(),
            action => match action.strip_prefix("abandon ") {
                Some(reply) => self.session.abandon_body(parse_reply(reply)),
                None => panic!("nothing waits for a verdict:\n{}", self.dialogue.written()),
            },
        }
        self.run();
    }
}

fn shown_sender(sender: &Sender) -> String {
    let Sender {
        path,
        parameters,
        declared_size,
        hold,
    } = sender;
    let mut words = vec![format!("<{path}>")];
    words.extend(match parameters.body {
        BodyKind::SevenBit => None,
        BodyKind::EightBit => Some("8bit".to_owned()),
        BodyKind::Binary => Some("binary".to_owned()),
    });
    words.extend(parameters.smtputf8.then(|| "utf8".to_owned()));
    words.extend(declared_size.map(|size| format!("size={size}")));
    words.extend(parameters.ret.map(|ret| format!("ret={ret}")));
    let envid = parameters.envid.as_ref();
    words.extend(envid.map(|envid| format!("envid={:?}", envid.as_str())));
    let require_tls = parameters.require_tls == RequireTls::Yes;
    words.extend(require_tls.then(|| "requiretls".to_owned()));
    words.extend(parameters.deliver_by.map(|by| format!("by={by}")));
    words.extend(hold.map(|hold| format!("hold={hold:?}")));
    let priority = parameters.priority.get();
    words.extend((priority != 0).then(|| format!("priority={priority}")));
    words.join(" ")
}

fn shown_recipient(recipient: &Recipient) -> String {
    let Recipient {
        path,
        notify,
        orcpt,
    } = recipient;
    let mut words = vec![format!("<{path}>")];
    words.extend(notify.map(|notify| format!("notify={notify}")));
    words.extend(
        orcpt
            .as_ref()
            .map(|orcpt| format!("orcpt={:?}", orcpt.as_str())),
    );
    words.join(" ")
}

fn parse_verdict(text: &str) -> Verdict {
    match text.strip_prefix("queued ") {
        Some(text) => Verdict::Queued(text.to_owned()),
        None if text == "accept" => Verdict::Accept,
        None if text == "reprioritize" => Verdict::Reprioritized(Priority::default()),
        None => Verdict::Refuse(parse_reply(text)),
    }
}

fn parse_reply(text: &str) -> Reply {
    let mut words = text.splitn(3, ' ');
    let code = words.next().unwrap().parse().unwrap();
    let status: EnhancedStatus = words.next().unwrap().parse().unwrap();
    Reply::new(code, status, words.next().unwrap())
}
