//! An SMTP client that says exactly what it is told to.

use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use rustls::ClientConfig;
use rustls_pki_types::ServerName;
use tokio::io::{AsyncBufReadExt as _, AsyncRead, AsyncWrite, AsyncWriteExt as _, BufReader};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

trait Wire: AsyncRead + AsyncWrite + Send + Unpin {}
impl<T: AsyncRead + AsyncWrite + Send + Unpin> Wire for T {}

/// A connection to an SMTP server.
pub struct Client {
    stream: BufReader<Box<dyn Wire>>,
}

/// A reply: the code and the whole text.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Reply {
    /// The three digits.
    pub code: u16,
    /// All lines as sent.
    pub text: String,
}

impl Client {
    /// Connects in plaintext and reads the banner.
    pub async fn connect(port: u16) -> io::Result<(Self, Reply)> {
        let mut client = Self::silent(port).await?;
        let banner = client.reply().await?;
        Ok((client, banner))
    }

    /// Connects in plaintext and says and reads nothing.
    pub async fn silent(port: u16) -> io::Result<Self> {
        Self::silent_at((Ipv4Addr::LOCALHOST, port).into()).await
    }

    /// Connects in plaintext to another machine and reads the banner.
    pub async fn connect_at(address: SocketAddr) -> io::Result<(Self, Reply)> {
        let mut client = Self::silent_at(address).await?;
        let banner = client.reply().await?;
        Ok((client, banner))
    }

    /// Connects in plaintext to another machine and says and reads nothing.
    pub async fn silent_at(address: SocketAddr) -> io::Result<Self> {
        let stream = TcpStream::connect(address).await?;
        stream.set_nodelay(true)?;
        Ok(Self {
            stream: BufReader::new(Box::new(stream)),
        })
    }

    /// Connects with TLS from the first byte and reads the banner.
    pub async fn connect_tls(port: u16, tls: &Arc<ClientConfig>, name: &str) -> io::Result<Self> {
        let mut client = Self::silent(port).await?.secured(tls, name).await?;
        client.reply().await?;
        Ok(client)
    }

    /// Shakes hands for TLS here and now.
    pub async fn secured(self, tls: &Arc<ClientConfig>, name: &str) -> io::Result<Self> {
        let name = ServerName::try_from(name.to_owned()).map_err(io::Error::other)?;
        let plain = self.stream.into_inner();
        let stream = TlsConnector::from(Arc::clone(tls))
            .connect(name, plain)
            .await?;
        Ok(Self {
            stream: BufReader::new(Box::new(stream)),
        })
    }

    /// EHLO, STARTTLS, handshake, EHLO.
    pub async fn starttls(mut self, tls: &Arc<ClientConfig>, name: &str) -> io::Result<Self> {
        self.command("EHLO client.example.net").await?;
        self.command("STARTTLS").await?;
        let mut client = self.secured(tls, name).await?;
        client.command("EHLO client.example.net").await?;
        Ok(client)
    }

    /// Sends a line and reads the reply to it.
    pub async fn command(&mut self, line: &str) -> io::Result<Reply> {
        self.send(format!("{line}\r\n").as_bytes()).await?;
        self.reply().await
    }

    /// AUTH PLAIN with an initial response.
    pub async fn login(&mut self, username: &str, password: &str) -> io::Result<Reply> {
        let response = BASE64_STANDARD.encode(format!("\0{username}\0{password}"));
        self.command(&format!("AUTH PLAIN {response}")).await
    }

    /// A whole transaction with content that is canonical and not stuffed; the reply to the final dot.
    pub async fn message(&mut self, from: &str, to: &[&str], content: &[u8]) -> io::Result<Reply> {
        self.command(&format!("MAIL FROM:<{from}> BODY=8BITMIME"))
            .await?;
        for recipient in to {
            self.command(&format!("RCPT TO:<{recipient}>")).await?;
        }
        let ready = self.command("DATA").await?;
        if ready.code != 354 {
            return Ok(ready);
        }
        self.send(&stuffed(content)).await?;
        self.reply().await
    }

    /// Sends bytes as they are.
    pub async fn send(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.stream.get_mut().write_all(bytes).await?;
        self.stream.get_mut().flush().await
    }

    /// Reads one reply; an error at the end of the connection.
    pub async fn reply(&mut self) -> io::Result<Reply> {
        let mut text = String::new();
        loop {
            let begin = text.len();
            if self.stream.read_line(&mut text).await? == 0 {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
            let line = &text[begin..];
            if line.as_bytes().get(3) == Some(&b' ') {
                let code = line[..3].parse().map_err(io::Error::other)?;
                return Ok(Reply { code, text });
            }
        }
    }
}

/// Content with dots stuffed and the final dot.
#[must_use]
pub fn stuffed(content: &[u8]) -> Vec<u8> {
    let mut wire = Vec::with_capacity(content.len() + 16);
    for line in content.split_inclusive(|byte| *byte == b'\n') {
        if line.starts_with(b".") {
            wire.push(b'.');
        }
        wire.extend_from_slice(line);
    }
    wire.extend_from_slice(b".\r\n");
    wire
}
