//! A next hop: takes mail and writes down what it took; by chance it refuses, says nothing, or hangs up.

use std::cell::Cell;
use std::rc::Rc;
use std::time::Duration;

use bytes::BytesMut;
use postroad_smtp::server::{ReceivedMessage, Request, ServerConfig, Session, Step, Verdict};
use postroad_smtp::{EnhancedStatus, Extension, Extensions, Reply, ReversePath};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::time::sleep;
use turmoil::net::{TcpListener, TcpStream};

use crate::dice::Dice;
use crate::ledger::{Answer, Arrival, Fate, Ledger};

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
    pub(crate) name: &'static str,
    pub(crate) ledger: Ledger,
    pub(crate) dice: Dice,
    pub(crate) word: Word,
    /// In so many of 1,000 cases the answer is not yes.
    pub(crate) rudeness: Rc<Cell<u64>>,
}

/// What is done with a command.
enum Manner {
    Say(Verdict),
    /// Says 421 and closes.
    Dismiss,
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
        let mut session = Session::new(ServerConfig {
            extensions: self.extensions(),
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
                Step::Request(request) => match self.manner(request) {
                    Manner::Say(verdict) => session.answer(verdict),
                    Manner::Dismiss => session.close_with(&refusal(421, 3, 2)),
                    Manner::HangUp => return Ok(()),
                    Manner::Hang => sleep(FOR_EVER).await,
                },
                Step::StartTls => return Ok(()),
                Step::Close => return stream.write_all(&session.output().split()).await,
            }
        }
    }

    /// Each connection may offer something else: content comes behind DATA or BDAT, in one flight or step by step.
    fn extensions(&self) -> Extensions {
        let optional = [Extension::Pipelining, Extension::Chunking, Extension::Dsn];
        let missing = optional.into_iter().filter(|_| self.dice.permille(300));
        missing.fold(Extensions::ALL, Extensions::without)
    }

    fn manner(&self, request: Request) -> Manner {
        let rude = self.dice.permille(self.rudeness.get());
        match request {
            Request::Sender(_) if rude => self.rude_about_envelope(Refusable::No),
            // To refuse a report for good is to lose it: nobody is told of that.
            Request::Recipient(_) if rude => self.rude_about_envelope(Refusable::No),
            Request::Recipient(recipient) if self.dice.permille(self.rudeness.get()) => {
                let is_report = recipient.path.to_string().ends_with("@sender.example");
                let refusable = if is_report {
                    Refusable::No
                } else {
                    Refusable::Yes
                };
                self.rude_about_envelope(refusable)
            }
            Request::Message(message) => self.take(&message, rude),
            Request::Sender(_) | Request::Recipient(_) | Request::Authenticate { .. } => {
                Manner::Say(Verdict::Accept)
            }
        }
    }

    fn rude_about_envelope(&self, refusable: Refusable) -> Manner {
        match (self.dice.between(0, 10), refusable) {
            (0..=3, Refusable::Yes) => Manner::Say(Verdict::Refuse(refusal(550, 1, 1))),
            (0..=5, _) => Manner::Say(Verdict::Refuse(refusal(450, 2, 1))),
            (6 | 7, _) => Manner::Dismiss,
            (8, _) => Manner::HangUp,
            _ => Manner::Hang,
        }
    }

    fn take(&self, message: &ReceivedMessage, rude: bool) -> Manner {
        if !rude {
            let is_forgotten = self.word == Word::Broken && self.dice.permille(FORGOTTEN);
            if !is_forgotten {
                self.record(message, Answer::Given);
            }
            return Manner::Say(Verdict::Queued("taken".to_owned()));
        }
        let is_report = message.sender.path == ReversePath::Null;
        match self.dice.between(0, 8) {
            0 | 1 if !is_report => Manner::Say(Verdict::Refuse(refusal(554, 6, 0))),
            0..=3 => Manner::Say(Verdict::Refuse(refusal(451, 3, 0))),
            4 => Manner::HangUp,
            5 | 6 => {
                self.record(message, Answer::Withheld);
                Manner::HangUp
            }
            _ => {
                self.record(message, Answer::Withheld);
                Manner::Hang
            }
        }
    }

    fn record(&self, message: &ReceivedMessage, answer: Answer) {
        let at = turmoil::sim_elapsed().unwrap_or_default();
        let (fate, recipients) = match message.sender.path {
            ReversePath::Null => (Fate::Bounced, failed(&message.content)),
            ReversePath::Mailbox(_) => (Fate::Delivered, named(message)),
        };
        for recipient in recipients {
            let arrival = Arrival { at, fate, answer };
            let what = format!("{}: {recipient} {fate:?}, answer {answer:?}", self.name);
            self.ledger.tell(at, &what);
            self.ledger.arrived(&recipient, &message.content, arrival);
        }
    }
}

/// Whether a refusal for good is possible.
#[derive(Clone, Copy)]
enum Refusable {
    Yes,
    No,
}

fn named(message: &ReceivedMessage) -> Vec<String> {
    let paths = message.recipients.iter().map(|recipient| &recipient.path);
    paths
        .filter_map(|path| path.mailbox().map(ToString::to_string))
        .collect()
}

/// The recipients that a report is about.
fn failed(report: &[u8]) -> Vec<String> {
    let report = String::from_utf8_lossy(report);
    let lines = report
        .lines()
        .filter_map(|line| line.strip_prefix("Final-Recipient: rfc822;"));
    lines.map(|address| address.trim().to_owned()).collect()
}

fn refusal(code: u16, subject: u16, detail: u16) -> Reply {
    let class = if code < 500 { 4 } else { 5 };
    Reply::new(code, EnhancedStatus::new(class, subject, detail), "Not now")
}
