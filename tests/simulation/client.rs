//! Clients: submit messages and write down which recipients were answered with 250.

use std::cell::Cell;
use std::net::SocketAddr;
use std::rc::Rc;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use postroad_smtp::client::{
    Client, ClientConfig, ClientStep, ClientTls, RecipientOutcome, Transaction,
};
use postroad_smtp::{ForwardPath, Recipient};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::time::{sleep, timeout};
use turmoil::net::TcpStream;

use crate::dice::Dice;
use crate::ledger::{Acceptance, Kept, Ledger, recipient};

/// Most recipients of a message.
const RECIPIENTS_MAX: u64 = 5;

/// Longest line of a body, in octets.
const LINE_BYTES: u64 = 70;

/// What the clients share.
#[derive(Clone, Debug)]
pub(crate) struct Clients {
    pub(crate) relay: SocketAddr,
    pub(crate) ledger: Ledger,
    pub(crate) dice: Dice,
    /// Messages so far.
    pub(crate) sent: Rc<Cell<u64>>,
    /// Clients that have not finished.
    pub(crate) busy: Rc<Cell<u64>>,
    /// Time within which all is to be sent.
    pub(crate) window: Duration,
    /// For one connection: who waits for longer gives up.
    pub(crate) patience: Duration,
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
        let mut stream = TcpStream::connect(self.relay).await?;
        let mut client = Client::new(ClientConfig {
            ehlo_name: "client.example".to_owned(),
            tls: ClientTls::None,
            login: None,
        });
        let mut input = BytesMut::new();
        let mut recipients = Vec::new();
        loop {
            match client.step(&mut input) {
                ClientStep::NeedInput => {
                    stream.write_all(&client.output().split()).await?;
                    if stream.read_buf(&mut input).await? == 0 {
                        return Ok(());
                    }
                }
                ClientStep::Flush => stream.write_all(&client.output().split()).await?,
                ClientStep::Ready if messages == 0 => return stream.write_all(b"QUIT\r\n").await,
                ClientStep::Ready => {
                    messages -= 1;
                    let transaction = self.compose();
                    recipients.clone_from(&transaction.recipients);
                    client.send(transaction);
                }
                ClientStep::Finished(outcome) => self.note(&recipients, &outcome.recipients),
                ClientStep::StartTls | ClientStep::Failed(_) | ClientStep::Closed => return Ok(()),
            }
        }
    }

    fn compose(&self) -> Transaction {
        let number = self.sent.get();
        self.sent.set(number + 1);
        let count = self.dice.between(1, RECIPIENTS_MAX + 1);
        let address = |index| {
            let domain = self.dice.between(0, self.domains.len() as u64);
            let domain = self.domains[usize::try_from(domain).unwrap()];
            let path: ForwardPath = recipient(number, index, domain).parse().unwrap();
            Recipient::from(path)
        };
        let content = self.content(number);
        self.ledger.sent(number, &content);
        Transaction {
            sender: "s@sender.example".parse().unwrap(),
            recipients: (0..count).map(address).collect(),
            content: vec![Bytes::from(content)],
            ..Transaction::default()
        }
    }

    fn content(&self, number: u64) -> Vec<u8> {
        let mut content = format!("Subject: m{number}\r\n\r\n").into_bytes();
        let lines = match self.dice.permille(100) {
            true => self.dice.between(100, 600),
            false => self.dice.between(0, 40),
        };
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
