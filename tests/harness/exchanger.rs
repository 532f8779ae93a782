//! A mail exchanger that takes everything, at an address of this machine of its own.

use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, Mutex};

use rustls::ServerConfig;
use tokio::io::{
    AsyncBufRead, AsyncBufReadExt as _, AsyncRead, AsyncWrite, AsyncWriteExt as _, BufReader,
};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;
use tokio_rustls::TlsAcceptor;

/// How an exchanger differs from one that greets and takes mail in plaintext.
#[derive(Clone, Default)]
pub enum Manner {
    /// Not at all.
    #[default]
    Plain,
    /// Calls itself so after EHLO.
    Named(&'static str),
    /// Offers STARTTLS.
    Secure(Arc<ServerConfig>),
    /// Offers STARTTLS, and closes when the handshake begins.
    BrokenTls,
    /// Says nothing, not even a greeting.
    Silent,
}

/// A message as it was taken.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Taken {
    /// The command MAIL.
    pub mail: String,
    /// The commands RCPT.
    pub recipients: Vec<String>,
    /// The lines of the content, unstuffed.
    pub lines: Vec<String>,
    /// Whether it came over TLS.
    pub secure: bool,
}

/// An exchanger; ends when dropped.
pub struct Exchanger {
    heard: Arc<Mutex<Heard>>,
    task: JoinHandle<()>,
}

#[derive(Default)]
struct Heard {
    connections: usize,
    taken: Vec<Taken>,
}

trait Wire: AsyncRead + AsyncWrite + Send + Unpin {}
impl<T: AsyncRead + AsyncWrite + Send + Unpin> Wire for T {}

impl Exchanger {
    /// Serves at an address.
    ///
    /// # Panics
    /// If it is not to be had.
    pub async fn start(address: &str, port: u16, manner: Manner) -> Self {
        Self::start_many(address, port, move |_| manner.clone()).await
    }

    /// Serves at an address that may stand for all addresses of this machine: the manner is a matter of the one that a client has dialled.
    ///
    /// # Panics
    /// If it is not to be had.
    pub async fn start_many(
        address: &str,
        port: u16,
        manner: impl Fn(IpAddr) -> Manner + Send + 'static,
    ) -> Self {
        let address: IpAddr = address.parse().unwrap();
        let listener = TcpListener::bind(SocketAddr::new(address, port))
            .await
            .unwrap();
        let heard = Arc::new(Mutex::new(Heard::default()));
        let serving = Arc::clone(&heard);
        let task = tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let Ok(dialled) = stream.local_addr() else {
                    continue;
                };
                let (heard, manner) = (Arc::clone(&serving), manner(dialled.ip()));
                heard.lock().unwrap().connections += 1;
                // A connection that breaks is the relay's to judge.
                tokio::spawn(async move { serve(stream, &manner, &heard).await.ok() });
            }
        });
        Self { heard, task }
    }

    /// Everything that was taken.
    ///
    /// # Panics
    /// If a dialogue has panicked.
    #[must_use]
    pub fn taken(&self) -> Vec<Taken> {
        self.heard.lock().unwrap().taken.clone()
    }

    /// How many messages were taken.
    ///
    /// # Panics
    /// If a dialogue has panicked.
    #[must_use]
    pub fn count(&self) -> usize {
        self.heard.lock().unwrap().taken.len()
    }

    /// How many connections there were.
    ///
    /// # Panics
    /// If a dialogue has panicked.
    #[must_use]
    pub fn connections(&self) -> usize {
        self.heard.lock().unwrap().connections
    }
}

impl Drop for Exchanger {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn serve(stream: TcpStream, manner: &Manner, heard: &Mutex<Heard>) -> std::io::Result<()> {
    let mut stream: BufReader<Box<dyn Wire>> = BufReader::new(Box::new(stream));
    if let Manner::Silent = manner {
        while read_line(&mut stream).await?.is_some() {}
        return Ok(());
    }
    stream.write_all(b"220 mx\r\n").await?;
    let (mut taken, mut secure) = (Taken::default(), false);
    while let Some(line) = read_line(&mut stream).await? {
        let verb = line.get(..4).unwrap_or_default().to_ascii_uppercase();
        match verb.as_str() {
            "MAIL" => taken.mail.clone_from(&line),
            "RCPT" => taken.recipients.push(line.clone()),
            _ => {}
        }
        let reply = reply(&line, &verb, manner, secure);
        stream.write_all(format!("{reply}\r\n").as_bytes()).await?;
        match verb.as_str() {
            "STAR" => {
                let Manner::Secure(config) = manner else {
                    return Ok(());
                };
                let acceptor = TlsAcceptor::from(Arc::clone(config));
                stream = BufReader::new(Box::new(acceptor.accept(stream.into_inner()).await?));
                secure = true;
            }
            "DATA" => {
                taken.secure = secure;
                taken.lines = read_content(&mut stream).await?;
                heard.lock().unwrap().taken.push(std::mem::take(&mut taken));
                stream.write_all(b"250 2.0.0 taken\r\n").await?;
            }
            "QUIT" => return Ok(()),
            _ => {}
        }
    }
    Ok(())
}

fn reply(line: &str, verb: &str, manner: &Manner, secure: bool) -> String {
    match (verb, manner) {
        ("EHLO", Manner::Named(name)) => format!("250 {name}"),
        ("EHLO", Manner::Secure(_) | Manner::BrokenTls) if !secure => {
            "250-mx\r\n250 STARTTLS".to_owned()
        }
        ("EHLO", _) => "250 mx".to_owned(),
        ("DATA", _) => "354 go".to_owned(),
        ("STAR", _) => "220 go".to_owned(),
        ("QUIT", _) => "221 bye".to_owned(),
        _ if line.is_empty() => "500 what".to_owned(),
        _ => "250 2.0.0 ok".to_owned(),
    }
}

async fn read_line(stream: &mut (impl AsyncBufRead + Unpin)) -> std::io::Result<Option<String>> {
    let mut line = Vec::new();
    if stream.read_until(b'\n', &mut line).await? == 0 {
        return Ok(None);
    }
    let line = String::from_utf8_lossy(&line);
    Ok(Some(line.trim_end_matches(['\r', '\n']).to_owned()))
}

async fn read_content(stream: &mut (impl AsyncBufRead + Unpin)) -> std::io::Result<Vec<String>> {
    let mut lines = Vec::new();
    while let Some(line) = read_line(stream).await? {
        if line == "." {
            return Ok(lines);
        }
        lines.push(line.strip_prefix('.').unwrap_or(&line).to_owned());
    }
    Err(std::io::ErrorKind::UnexpectedEof.into())
}
