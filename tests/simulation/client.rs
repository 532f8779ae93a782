//! Clients: submit messages and write down which recipients were answered with 250.

use std::cell::Cell;
use std::net::{IpAddr, SocketAddr};
use std::rc::Rc;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use postroad_smtp::client::{
    Client, ClientConfig, ClientStep, ClientTls, Login, RecipientOutcome, Transaction,
};
use postroad_smtp::{
    BodyKind, DeliverBy, ForwardPath, MailParameters, Notify, OnExpiry, Password, Recipient,
};
use rustls_pki_types::ServerName;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::time::{sleep, timeout};
use tokio_rustls::TlsConnector;
use turmoil::net::TcpStream;

use crate::dice::Dice;
use crate::ledger::{Acceptance, Kept, Ledger, recipient};
use crate::letter::Letter;
use crate::machine::{HOSTNAME, PASSWORD, PORT, TLS_PORT};
use crate::plan::SENDERS;

/// Most recipients of a message.
const RECIPIENTS_MAX: u64 = 5;

/// In so many of 1,000 cases a message is not ASCII.
const EIGHT_BIT: u64 = 300;

/// The first lines of such a message: so much text that quoted-printable is chosen, whatever follows.
const GREETING: &str = "Gr\u{fc}\u{df}e from one that is not written in ASCII only,\r\n\
    and that goes on for a while in plain words, so that what comes after it,\r\n\
    which may be anything at all, counts for little beside all of this text,\r\n\
    with the best wishes and in the hope that it finds its way to everybody:\r\n";

/// Longest line of a body, in octets.
const LINE_BYTES: u64 = 70;

/// What clients want to hear of a recipient, if they say so.
const NOTIFY: [&str; 4] = [
    "SUCCESS,FAILURE",
    "SUCCESS,FAILURE,DELAY",
    "FAILURE",
    "SUCCESS,FAILURE",
];

/// In so many of 1,000 cases they say so.
const NOTIFIED: u64 = 300;

/// In so many of 1,000 cases they say by when it must be delivered: in so many seconds that some of it is not.
const DELIVER_BY: u64 = 200;
const DELIVER_BY_SECONDS_MIN: u64 = 2;
const DELIVER_BY_SECONDS_MAX: u64 = 40;

/// In so many of 1,000 cases whoever has a login wants a message held for a while, in seconds.
const HOLD: u64 = 150;
const HOLD_SECONDS_MAX: u64 = 8;

/// A connection, with or without TLS.
trait Wire: AsyncRead + AsyncWrite + Unpin {}
impl<T: AsyncRead + AsyncWrite + Unpin> Wire for T {}

/// What the clients share.
#[derive(Clone)]
pub(crate) struct Clients {
    pub(crate) relay: IpAddr,
    pub(crate) tls: TlsConnector,
    /// Of this one.
    pub(crate) login: Option<&'static str>,
    pub(crate) ledger: Ledger,
    pub(crate) dice: Dice,
    /// Messages so far.
    pub(crate) sent: Rc<Cell<u64>>,
    /// Clients that have not finished.
    pub(crate) busy: Rc<Cell<usize>>,
    /// Time within which all is to be sent.
    pub(crate) window: Duration,
    /// For one connection: who waits for longer gives up.
    pub(crate) patience: Duration,
    /// In so many of 1,000 cases nobody wants to hear anything of a recipient.
    pub(crate) never_heard_of: u64,
    /// Where their recipients are.
    pub(crate) domains: &'static [&'static str],
}

impl Clients {
    /// One client: so many messages, over as many connections as it takes.
    pub(crate) async fn run(self, messages: u64) {
        let pause = u64::try_from(self.window.as_millis()).unwrap() / messages;
        let mut left = messages;
        while left > 0 {
            sleep(Duration::from_millis(self.dice.between(0, 2 * pause))).await;
            let batch = self.dice.between(1, 4).min(left);
            left -= batch;
            // What was not accepted is somebody else's business: a real client would come again.
            let _ = timeout(self.patience, self.submit(batch)).await;
        }
        self.busy.set(self.busy.get() - 1);
    }

    async fn submit(&self, mut messages: u64) -> std::io::Result<()> {
        let (mut stream, tls) = self.connect().await?;
        let mut client = Client::new(ClientConfig {
            ehlo_name: "client.example".to_owned(),
            tls,
            login: self.login.map(|login| Login {
                username: login.to_owned(),
                password: Password::new(PASSWORD.to_owned()),
            }),
        });
        let mut input = BytesMut::new();
        let mut recipients = Vec::new();
        let mut hold = None;
        loop {
            match client.step(&mut input) {
                ClientStep::NeedInput => {
                    let output = with_hold(&client.output().split(), &mut hold);
                    say(&mut stream, &output).await?;
                    if stream.read_buf(&mut input).await? == 0 {
                        return Ok(());
                    }
                }
                ClientStep::Flush => {
                    let output = with_hold(&client.output().split(), &mut hold);
                    say(&mut stream, &output).await?;
                }
                ClientStep::Ready if messages == 0 => return say(&mut stream, b"QUIT\r\n").await,
                ClientStep::Ready => {
                    messages -= 1;
                    let letter = self.compose();
                    hold = letter.hold.map(|(seconds, _)| seconds);
                    let transaction = transaction(letter);
                    recipients.clone_from(&transaction.recipients);
                    client.send(transaction);
                }
                ClientStep::Finished(outcome) => self.note(&recipients, &outcome.recipients),
                ClientStep::StartTls | ClientStep::Failed(_) | ClientStep::Closed => return Ok(()),
            }
        }
    }

    /// Whoever has a login sends under TLS.
    async fn connect(&self) -> std::io::Result<(Box<dyn Wire>, ClientTls)> {
        if self.login.is_none() {
            let stream = TcpStream::connect(SocketAddr::new(self.relay, PORT)).await?;
            return Ok((Box::new(stream), ClientTls::None));
        }
        let stream = TcpStream::connect(SocketAddr::new(self.relay, TLS_PORT)).await?;
        let name = ServerName::try_from(HOSTNAME).unwrap();
        let stream = self.tls.connect(name, stream).await?;
        Ok((Box::new(stream), ClientTls::Active))
    }

    fn compose(&self) -> Letter {
        let number = self.sent.get();
        self.sent.set(number + 1);
        let count = self.dice.between(1, RECIPIENTS_MAX + 1);
        let deliver_by = self.deliver_by();
        let address = |index| {
            let domain = self.dice.between(0, self.domains.len() as u64);
            let domain = self.domains[usize::try_from(domain).unwrap()];
            let notify = self.notify(domain, deliver_by);
            (recipient(number, index, domain), notify)
        };
        let letter = Letter {
            sender: sender(self.dice.between(0, SENDERS)),
            login: self.login,
            recipients: (0..count).map(address).collect(),
            deliver_by,
            hold: self.hold(deliver_by),
            content: self.content(number),
        };
        self.ledger.sent(number, letter.clone());
        letter
    }

    fn deliver_by(&self) -> Option<DeliverBy> {
        let modes = [OnExpiry::Return, OnExpiry::Notify];
        let mode = modes[self.dice.index(modes.len())];
        let seconds = (self.dice).between(DELIVER_BY_SECONDS_MIN, DELIVER_BY_SECONDS_MAX);
        let is_asked = self.dice.permille(DELIVER_BY);
        let by = || DeliverBy::new(seconds.try_into().unwrap(), mode, false).unwrap();
        is_asked.then(by)
    }

    /// Not for longer than there is time.
    fn hold(&self, deliver_by: Option<DeliverBy>) -> Option<(u64, Duration)> {
        let seconds = self.dice.between(1, HOLD_SECONDS_MAX + 1);
        let is_asked = self.dice.permille(HOLD) && self.login.is_some() && deliver_by.is_none();
        let now = turmoil::sim_elapsed().unwrap_or_default();
        is_asked.then(|| (seconds, now + Duration::from_secs(seconds)))
    }

    /// Of a domain that does not exist, and of mail that is returned in time, is heard in any case, or there would be no trace of it.
    fn notify(&self, domain: &str, deliver_by: Option<DeliverBy>) -> Option<Notify> {
        let mode = deliver_by.map(DeliverBy::on_expiry);
        let is_heard_of = domain == "none.example" || mode == Some(OnExpiry::Return);
        if self.dice.permille(self.never_heard_of) && !is_heard_of {
            return Some(Notify::NEVER);
        }
        let words = NOTIFY[self.dice.index(NOTIFY.len())];
        let notified = self.dice.permille(NOTIFIED);
        notified.then(|| words.parse().unwrap())
    }

    fn content(&self, number: u64) -> Vec<u8> {
        let mut content = format!("Subject: m{number}\r\n\r\n").into_bytes();
        let lines = match self.dice.permille(100) {
            true => self.dice.between(100, 600),
            false => self.dice.between(0, 40),
        };
        if self.dice.permille(EIGHT_BIT) {
            content.extend_from_slice(GREETING.as_bytes());
        }
        for _ in 0..lines {
            let length = self.dice.between(0, LINE_BYTES);
            content.extend(
                (0..length).map(|_| b'!' + u8::try_from(self.dice.between(0, 90)).unwrap()),
            );
            content.extend_from_slice(b"\r\n");
        }
        content
    }

    fn note(&self, recipients: &[Recipient], outcomes: &[RecipientOutcome]) {
        let at = turmoil::sim_elapsed().unwrap_or_default();
        for (recipient, outcome) in recipients.iter().zip(outcomes) {
            let address = recipient.path.mailbox().unwrap().to_string();
            if let RecipientOutcome::Delivered(reply) = outcome {
                let kept = match reply.to_string().contains("passed on as") {
                    true => Kept::PassedOn,
                    false => Kept::Queued,
                };
                let what = format!("client: {address} accepted, {kept:?}");
                self.ledger.tell(at, &what);
                self.ledger.accepted(&address, Acceptance { at, kept });
            }
        }
    }
}

/// The address of one of the senders.
pub(crate) fn sender(number: u64) -> String {
    format!("s{number}@sender.example")
}

fn transaction(letter: Letter) -> Transaction {
    let Letter {
        sender,
        login: _,
        recipients,
        deliver_by,
        hold: _,
        content,
    } = letter;
    let recipient = |(address, notify): (String, Option<Notify>)| Recipient {
        notify,
        ..Recipient::from(address.parse::<ForwardPath>().unwrap())
    };
    let body = match content.is_ascii() {
        true => BodyKind::SevenBit,
        false => BodyKind::EightBit,
    };
    Transaction {
        parameters: MailParameters {
            body,
            deliver_by,
            ..MailParameters::default()
        },
        sender: sender.parse().unwrap(),
        recipients: recipients.into_iter().map(recipient).collect(),
        content: vec![Bytes::from(content)],
    }
}

/// What the client says, and for how long the message is to be held (RFC 4865 §3): relays do not ask for that, and the client is theirs.
fn with_hold(output: &[u8], hold: &mut Option<u64>) -> Vec<u8> {
    let find = |from: usize, what: &[u8]| {
        let mut windows = output[from..].windows(what.len());
        windows
            .position(|window| window == what)
            .map(|at| from + at)
    };
    let begin = hold.and_then(|_| find(0, b"MAIL FROM:"));
    let Some(end) = begin.and_then(|begin| find(begin, b"\r\n")) else {
        return output.to_vec();
    };
    let hold = hold.take().map(|seconds| format!(" HOLDFOR={seconds}"));
    let (before, after) = output.split_at(end);
    [before, hold.unwrap_or_default().as_bytes(), after].concat()
}

async fn say(stream: &mut Box<dyn Wire>, bytes: &[u8]) -> std::io::Result<()> {
    stream.write_all(bytes).await?;
    stream.flush().await
}
