//! A next hop: takes mail and writes down what it took; by chance it refuses, says that it has had enough for now, says nothing, or hangs up. For
//! a time it may take nothing from a sender.

use std::cell::Cell;
use std::rc::Rc;
use std::time::Duration;

use bytes::BytesMut;
use postroad_smtp::server::{ReceivedMessage, Request, ServerConfig, Session, Step, Verdict};
use postroad_smtp::{EnhancedStatus, Extension, Extensions, Reply, ReversePath};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::time::sleep;
use turmoil::net::{TcpListener, TcpStream};

use crate::client;
use crate::dice::Dice;
use crate::intervention::REASON;
use crate::ledger::{Answer, Arrival, Fate, Ledger, Reports};
use crate::letter::{Carried, Passed};
use crate::plan::{self, Routing};

/// Longer than any run.
const FOR_EVER: Duration = Duration::from_secs(1 << 20);

/// Whether a next hop means what it says.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Word {
    Kept,
    /// It forgets some of what it said 250 to.
    Broken,
}

/// In so many of 1,000 cases a next hop whose word is broken forgets a message.
const FORGOTTEN: u64 = 200;

/// What every connection of a next hop shares.
#[derive(Clone, Debug)]
pub(crate) struct Hop {
    pub(crate) number: plan::Hop,
    pub(crate) name: &'static str,
    pub(crate) routing: Routing,
    pub(crate) ledger: Ledger,
    pub(crate) dice: Dice,
    pub(crate) word: Word,
    /// In so many of 1,000 cases the answer is not yes.
    pub(crate) rudeness: Rc<Cell<u64>>,
    /// The sender from whom it takes nothing.
    pub(crate) rejects: Rc<Cell<Option<u64>>>,
}

/// What says that a server has had enough for now: code and status.
const THROTTLES: [(u16, u16, u16); 5] = [
    (421, 4, 5),
    (421, 7, 28),
    (432, 3, 2),
    (450, 3, 2),
    (454, 7, 0),
];

/// What is done with a command.
enum Manner {
    /// If it is a refusal with 421, closes.
    Say(Verdict),
    HangUp,
    Hang,
}

impl Hop {
    /// Serves until the host goes down.
    pub(crate) async fn run(self) -> turmoil::Result {
        let listener = TcpListener::bind("0.0.0.0:25").await?;
        loop {
            let (stream, _) = listener.accept().await?;
            let hop = self.clone();
            // However the connection ends: what it came to is in the ledger.
            tokio::task::spawn_local(async move { hop.serve(stream).await.ok() });
        }
    }

    async fn serve(self, mut stream: TcpStream) -> std::io::Result<()> {
        let extensions = self.extensions();
        let reports = match extensions.contains(Extension::Dsn) {
            true => Reports::Here,
            false => Reports::Nobody,
        };
        let mut session = Session::new(ServerConfig {
            extensions,
            ..ServerConfig::new("hop.example")
        });
        let mut input = BytesMut::new();
        loop {
            match session.step(&mut input) {
                Step::NeedInput => {
                    stream.write_all(&session.output().split()).await?;
                    if stream.read_buf(&mut input).await? == 0 {
                        return Ok(());
                    }
                }
                Step::Request(request) => match self.manner(request, reports) {
                    Manner::Say(verdict) => session.answer(verdict),
                    Manner::HangUp => return Ok(()),
                    Manner::Hang => sleep(FOR_EVER).await,
                },
                Step::StartTls => return Ok(()),
                Step::Close => return stream.write_all(&session.output().split()).await,
            }
        }
    }

    /// Each connection may offer something else: content comes behind DATA or BDAT, in one flight or step by step, as it is or converted.
    fn extensions(&self) -> Extensions {
        let optional = [
            Extension::Pipelining,
            Extension::Chunking,
            Extension::Dsn,
            Extension::EightBitMime,
        ];
        let missing = optional.into_iter().filter(|_| self.dice.permille(300));
        missing.fold(Extensions::ALL, Extensions::without)
    }

    fn manner(&self, request: Request, reports: Reports) -> Manner {
        let rude = self.dice.permille(self.rudeness.get());
        match request {
            Request::Sender(sender) if self.rejects(&sender.path) => {
                self.ledger.refused(&address(&sender.path));
                let (code, detail) = [(550, 8), (553, 7), (554, 8)][self.dice.index(3)];
                Manner::Say(Verdict::Refuse(refusal(code, 1, detail)))
            }
            Request::Sender(_) if rude => self.rude_about_envelope(Refusable::No),
            // To refuse a report for good is to lose it: nobody is told of that.
            Request::Recipient(_) if rude => self.rude_about_envelope(Refusable::No),
            Request::Recipient(recipient) if self.dice.permille(self.rudeness.get()) => {
                let address = recipient.path.to_string();
                let is_report = address.ends_with("@sender.example");
                let refusable = if is_report {
                    Refusable::No
                } else {
                    Refusable::Yes(address)
                };
                self.rude_about_envelope(refusable)
            }
            Request::Message(message) => self.take(&message, rude, reports),
            Request::Sender(_) | Request::Recipient(_) | Request::Authenticate { .. } => {
                Manner::Say(Verdict::Accept)
            }
        }
    }

    fn rude_about_envelope(&self, refusable: Refusable) -> Manner {
        match (self.dice.between(0, 12), refusable) {
            (0..=3, Refusable::Yes(address)) => {
                self.ledger.refused(&address);
                Manner::Say(Verdict::Refuse(refusal(550, 1, 1)))
            }
            (0..=5, _) => Manner::Say(Verdict::Refuse(refusal(450, 2, 1))),
            (6 | 7, _) => Manner::Say(Verdict::Refuse(refusal(421, 3, 2))),
            (8 | 9, _) => self.throttle(),
            (10, _) => Manner::HangUp,
            _ => Manner::Hang,
        }
    }

    fn throttle(&self) -> Manner {
        let (code, subject, detail) = THROTTLES[self.dice.index(THROTTLES.len())];
        Manner::Say(Verdict::Refuse(refusal(code, subject, detail)))
    }

    fn rejects(&self, sender: &ReversePath) -> bool {
        let rejected = self.rejects.get().map(client::sender);
        rejected.is_some_and(|rejected| rejected == address(sender))
    }

    fn take(&self, message: &ReceivedMessage, rude: bool, reports: Reports) -> Manner {
        if !rude {
            let is_forgotten = self.word == Word::Broken && self.dice.permille(FORGOTTEN);
            if !is_forgotten {
                self.record(message, Answer::Given, reports);
            }
            return Manner::Say(Verdict::Queued("taken".to_owned()));
        }
        let is_report = message.sender.path == ReversePath::Null;
        match self.dice.between(0, 10) {
            0 | 1 if !is_report => {
                for recipient in &message.recipients {
                    self.ledger.refused(&recipient.path.to_string());
                }
                Manner::Say(Verdict::Refuse(refusal(554, 6, 0)))
            }
            0..=3 => Manner::Say(Verdict::Refuse(refusal(451, 3, 0))),
            4 | 5 => self.throttle(),
            6 => Manner::HangUp,
            7 | 8 => {
                self.record(message, Answer::Withheld, reports);
                Manner::HangUp
            }
            _ => {
                self.record(message, Answer::Withheld, reports);
                Manner::Hang
            }
        }
    }

    fn record(&self, message: &ReceivedMessage, answer: Answer, reports: Reports) {
        let arrival = |fate| Arrival {
            at: turmoil::sim_elapsed().unwrap_or_default(),
            fate,
            answer,
            reports,
        };
        match message.sender.path {
            ReversePath::Null => self.record_report(message, arrival(Fate::Bounced)),
            ReversePath::Mailbox(_) => self.record_mail(message, arrival(Fate::Delivered)),
        }
    }

    fn record_mail(&self, message: &ReceivedMessage, arrival: Arrival) {
        let sender = address(&message.sender.path);
        for recipient in &message.recipients {
            let carried = Carried {
                routing: self.routing,
                hop: self.number,
                sender: &sender,
                notify: match arrival.reports {
                    Reports::Here => Passed::Notify(recipient.notify),
                    Reports::Nobody => Passed::Nothing,
                },
                declared: message.sender.parameters.body,
                deliver_by: message.sender.parameters.deliver_by,
                content: &message.content,
            };
            let recipient = recipient.path.to_string();
            self.tell(&recipient, "delivered", arrival);
            self.ledger.arrived(&recipient, &carried, arrival);
        }
    }

    /// What it says of each recipient. Other reports than these are not asked for.
    fn record_report(&self, message: &ReceivedMessage, arrival: Arrival) {
        let to = message.recipients[0].path.to_string();
        let is_by_hand = String::from_utf8_lossy(&message.content).contains(REASON);
        for (recipient, action) in actions(&message.content) {
            self.tell(&recipient, &action, arrival);
            if is_by_hand && action == "failed" {
                self.ledger.returned(&recipient, arrival.at);
            }
            match action.as_str() {
                "failed" => self.ledger.bounced(&recipient, &to, arrival),
                "relayed" => self.ledger.relayed(&recipient, &to),
                "delayed" => self.ledger.delayed(&recipient, &to),
                _ => self.ledger.wrong_report(&recipient, &action),
            }
        }
    }

    fn tell(&self, recipient: &str, what: &str, arrival: Arrival) {
        let Arrival { at, answer, .. } = arrival;
        let what = format!("{}: {recipient} {what}, answer {answer:?}", self.name);
        self.ledger.tell(at, &what);
    }
}

/// As it is written; empty for the null one.
fn address(sender: &ReversePath) -> String {
    match sender {
        ReversePath::Null => String::new(),
        ReversePath::Mailbox(mailbox) => mailbox.to_string(),
    }
}

/// Whether a refusal for good is possible.
enum Refusable {
    /// For this one.
    Yes(String),
    No,
}

/// The recipients that a report is about, and what became of each.
fn actions(report: &[u8]) -> Vec<(String, String)> {
    let report = String::from_utf8_lossy(report);
    let of = |name: &str| -> Vec<String> {
        let lines = report.lines().filter_map(|line| line.strip_prefix(name));
        lines.map(|value| value.trim().to_owned()).collect()
    };
    let recipients = of("Final-Recipient: rfc822;").into_iter();
    recipients.zip(of("Action:")).collect()
}

fn refusal(code: u16, subject: u16, detail: u16) -> Reply {
    let class = if code < 500 { 4 } else { 5 };
    Reply::new(code, EnhancedStatus::new(class, subject, detail), "Not now")
}
