//! A next hop in plaintext that does what a script says, and keeps what it was given.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard};

use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;

use crate::eventually;

/// What a script is asked before the greeting.
pub const CONNECT: &str = "CONNECT";
/// What a script is asked after the first line of content.
pub const CONTENT: &str = "CONTENT";
/// What a script is asked at the end of content that came with DATA; BDAT is asked as itself when its chunk is there.
pub const END: &str = ".";

/// What a hop does instead of saying yes.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Act {
    /// Replies, CRLF is added; then closes if that was 421, or if it was in the middle of content.
    Say(&'static str),
    /// Sends these octets and closes.
    Cut(&'static str),
    /// Sends these octets and then nothing any more.
    Hang(&'static str),
}

/// What the hop does at a step, at the n-th time that it hears exactly this, from 0. [`None`]: it says yes.
type Script = dyn Fn(&str, usize) -> Option<Act> + Send + Sync;

/// A message that was there as a whole and was not refused; whether the client was told is another matter.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Taken {
    /// The command MAIL.
    pub mail: String,
    /// The commands RCPT that were answered with yes.
    pub recipients: Vec<String>,
    /// The content as it was before dots were stuffed.
    pub content: Vec<u8>,
}

impl Taken {
    /// Whether it is a report: from nobody.
    #[must_use]
    pub fn is_report(&self) -> bool {
        self.mail.starts_with("MAIL FROM:<>")
    }

    /// The content, as far as it is text.
    #[must_use]
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.content).into_owned()
    }
}

/// A next hop; ends when dropped.
pub struct Hop {
    /// Where it listens, on 127.0.0.1.
    pub port: u16,
    shared: Arc<Shared>,
    task: JoinHandle<()>,
}

struct Shared {
    keywords: Vec<&'static str>,
    script: Mutex<Arc<Script>>,
    record: Mutex<Record>,
}

#[derive(Default)]
struct Record {
    heard: Vec<String>,
    counts: HashMap<String, usize>,
    taken: Vec<Taken>,
}

/// Whether a dialogue goes on.
#[derive(Clone, Copy, Eq, PartialEq)]
enum Said {
    Yes,
    Go,
    No,
    Goodbye,
}

impl Hop {
    /// One that announces these keywords after EHLO.
    ///
    /// # Panics
    /// If there is no port.
    pub async fn start(
        keywords: &[&'static str],
        script: impl Fn(&str, usize) -> Option<Act> + Send + Sync + 'static,
    ) -> Self {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let shared = Arc::new(Shared {
            keywords: keywords.to_vec(),
            script: Mutex::new(Arc::new(script)),
            record: Mutex::default(),
        });
        let serving = Arc::clone(&shared);
        let task = tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let shared = Arc::clone(&serving);
                // A connection that breaks is the client's to judge.
                tokio::spawn(async move { Dialogue::new(stream, shared).run().await.ok() });
            }
        });
        Self { port, shared, task }
    }

    /// Says yes to everything from now on, over connections that are open too; what hangs goes on hanging.
    ///
    /// # Panics
    /// If a script has panicked.
    pub fn mend(&self) {
        *self.shared.script.lock().unwrap() = Arc::new(|_, _| None);
    }

    /// Every command so far.
    #[must_use]
    pub fn heard(&self) -> Vec<String> {
        self.shared.record().heard.clone()
    }

    /// How often it was at a step that begins so.
    #[must_use]
    pub fn asked(&self, step: &str) -> usize {
        let record = self.shared.record();
        let counts = record.counts.iter();
        let found = counts.filter(|(asked, _)| asked.starts_with(step));
        found.map(|(_, count)| count).sum()
    }

    /// Every message so far.
    #[must_use]
    pub fn taken(&self) -> Vec<Taken> {
        self.shared.record().taken.clone()
    }

    /// How many messages so far.
    #[must_use]
    pub fn count(&self) -> usize {
        self.shared.record().taken.len()
    }

    /// Every report so far.
    #[must_use]
    pub fn reports(&self) -> Vec<Taken> {
        self.taken().into_iter().filter(Taken::is_report).collect()
    }

    /// Waits for a report.
    pub async fn report(&self) -> Taken {
        eventually("a report", async || self.reports().pop()).await
    }
}

impl Drop for Hop {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Shared {
    fn record(&self) -> MutexGuard<'_, Record> {
        self.record.lock().unwrap()
    }

    /// What the script says to a step.
    fn ask(&self, step: &str) -> Option<Act> {
        let before = {
            let mut record = self.record();
            let count = record.counts.entry(step.to_owned()).or_default();
            *count += 1;
            *count - 1
        };
        let script = Arc::clone(&self.script.lock().unwrap());
        script(step, before)
    }
}

/// One connection.
struct Dialogue {
    stream: BufReader<TcpStream>,
    shared: Arc<Shared>,
    message: Taken,
}

impl Dialogue {
    fn new(stream: TcpStream, shared: Arc<Shared>) -> Self {
        Self {
            stream: BufReader::new(stream),
            shared,
            message: Taken::default(),
        }
    }

    async fn run(mut self) -> std::io::Result<()> {
        let mut said = self.answer(CONNECT, "220 hop").await?;
        while said != Said::Goodbye {
            let Some(line) = self.line().await? else {
                return Ok(());
            };
            let command = String::from_utf8_lossy(line.trim_ascii_end()).into_owned();
            self.shared.record().heard.push(command.clone());
            said = self.command(command).await?;
        }
        Ok(())
    }

    async fn command(&mut self, command: String) -> std::io::Result<Said> {
        let verb = command.get(..4).unwrap_or_default().to_ascii_uppercase();
        match verb.as_str() {
            "EHLO" => {
                let words = self.shared.keywords.iter();
                let lines: String = words.map(|word| format!("250-{word}\r\n")).collect();
                let yes = format!("250-hop\r\n{lines}250 HELP");
                self.answer(&command, &yes).await
            }
            "RCPT" => {
                let yes = match self.message.mail.is_empty() {
                    true => "503 5.5.1 MAIL first",
                    false => "250 2.1.5 ok",
                };
                let said = self.answer(&command, yes).await?;
                if said == Said::Yes {
                    self.message.recipients.push(command);
                }
                Ok(said)
            }
            "MAIL" => {
                let said = self.answer(&command, "250 2.1.0 ok").await?;
                self.message = Taken::default();
                if said == Said::Yes {
                    self.message.mail = command;
                }
                Ok(said)
            }
            "DATA" => {
                let yes = match self.message.recipients.is_empty() {
                    true => "554 5.5.1 for nobody",
                    false => "354 go",
                };
                match self.answer(&command, yes).await? {
                    Said::Go => self.data().await,
                    said => Ok(said),
                }
            }
            "BDAT" => self.chunk(&command).await,
            "QUIT" => {
                self.answer(&command, "221 bye").await?;
                Ok(Said::Goodbye)
            }
            _ => self.answer(&command, "250 2.0.0 ok").await,
        }
    }

    /// Content up to the dot.
    async fn data(&mut self) -> std::io::Result<Said> {
        let mut line = self.content_line().await?;
        if let Some(act) = self.shared.ask(CONTENT) {
            self.act(act).await?;
            // Whatever is still to come is nobody's.
            return Ok(Said::Goodbye);
        }
        while line != b".\r\n" {
            let plain = line.strip_prefix(b".").unwrap_or(&line);
            self.message.content.extend_from_slice(plain);
            line = self.content_line().await?;
        }
        self.end(END).await
    }

    /// A chunk; the last one ends the message.
    async fn chunk(&mut self, command: &str) -> std::io::Result<Said> {
        let mut words = command.split(' ').skip(1);
        let size: usize = words
            .next()
            .and_then(|word| word.parse().ok())
            .ok_or(std::io::ErrorKind::InvalidData)?;
        let begin = self.message.content.len();
        self.message.content.resize(begin + size, 0);
        self.stream
            .read_exact(&mut self.message.content[begin..])
            .await?;
        match words.next() {
            Some(_) if self.message.recipients.is_empty() => self.say("503 5.5.1 for nobody").await,
            Some(_) => self.end(command).await,
            None => self.answer(command, "250 2.0.0 ok").await,
        }
    }

    /// The message is there: it counts as taken before the client can know.
    async fn end(&mut self, step: &str) -> std::io::Result<Said> {
        let act = self.shared.ask(step);
        let message = std::mem::take(&mut self.message);
        let refused = matches!(act, Some(Act::Say(text)) if !text.starts_with('2'));
        if !refused {
            self.shared.record().taken.push(message);
        }
        match act {
            Some(act) => self.act(act).await,
            None => self.say("250 2.0.0 taken").await,
        }
    }

    async fn answer(&mut self, step: &str, yes: &str) -> std::io::Result<Said> {
        match self.shared.ask(step) {
            Some(act) => self.act(act).await,
            None => self.say(yes).await,
        }
    }

    async fn act(&mut self, act: Act) -> std::io::Result<Said> {
        match act {
            Act::Say(text) => self.say(text).await,
            Act::Cut(octets) => {
                self.stream.write_all(octets.as_bytes()).await?;
                Ok(Said::Goodbye)
            }
            Act::Hang(octets) => {
                self.stream.write_all(octets.as_bytes()).await?;
                // Until the client has had enough.
                while self.line().await?.is_some() {}
                Ok(Said::Goodbye)
            }
        }
    }

    async fn say(&mut self, text: &str) -> std::io::Result<Said> {
        self.stream
            .write_all(format!("{text}\r\n").as_bytes())
            .await?;
        Ok(match text.as_bytes() {
            [b'4', b'2', b'1', ..] => Said::Goodbye,
            [b'2', ..] => Said::Yes,
            [b'3', ..] => Said::Go,
            _ => Said::No,
        })
    }

    /// A line with its end, or the end of the connection.
    async fn line(&mut self) -> std::io::Result<Option<Vec<u8>>> {
        let mut line = Vec::new();
        let read = self.stream.read_until(b'\n', &mut line).await?;
        Ok((read > 0).then_some(line))
    }

    async fn content_line(&mut self) -> std::io::Result<Vec<u8>> {
        let line = self.line().await?;
        line.ok_or_else(|| std::io::ErrorKind::UnexpectedEof.into())
    }
}
