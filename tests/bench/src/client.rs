//! The client's half of a session: greeting, TLS, login, commands and replies.

use std::net::SocketAddr;
use std::time::Duration;

use anyhow::{Context as _, bail, ensure};
use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use bytes::BytesMut;
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_rustls::TlsConnector;

use crate::tls::Tls;
use crate::wire::Wire;

/// How long a reply may take.
const REPLY_TIMEOUT: Duration = Duration::from_secs(60);

/// How long a server may take to greet. One whose queue of connections is full does not see that there is one; the client
/// comes again, as TCP would do with a longer pause.
const GREETING_TIMEOUT: Duration = Duration::from_secs(1);

/// How often a client comes again.
const GREETING_TRIES: usize = 60;

/// Room for a reply; few are longer.
const REPLY_BYTES: usize = 512;

/// Where to, and how to begin.
#[derive(Clone)]
pub(crate) struct Target {
    /// Address and port.
    pub(crate) address: SocketAddr,
    /// How the connection is protected.
    pub(crate) tls: Tls,
    /// Believes the server's certificate.
    pub(crate) connector: TlsConnector,
    /// User name and password for AUTH PLAIN (RFC 4616).
    pub(crate) login: Option<(String, String)>,
}

impl Target {
    /// Without TLS and login.
    ///
    /// # Errors
    /// If TLS cannot be set up.
    pub(crate) fn plain(address: SocketAddr) -> anyhow::Result<Self> {
        Ok(Self {
            address,
            tls: Tls::None,
            connector: crate::tls::connector()?,
            login: None,
        })
    }
}

/// A session after EHLO, TLS and login.
pub(crate) struct Connection {
    wire: Wire,
    input: BytesMut,
    chunking: bool,
}

impl Connection {
    /// Begins a session.
    ///
    /// # Errors
    /// If the server does not greet, or refuses what is asked of it.
    pub(crate) async fn open(target: &Target) -> anyhow::Result<Self> {
        let mut connection = Self::greeted(target).await?;
        connection.hello().await?;
        if target.tls == Tls::Starttls {
            connection.command(b"STARTTLS\r\n", 220).await?;
            connection.wire = connection.wire.connect_tls(&target.connector).await?;
            connection.hello().await?;
        }
        if let Some((user, password)) = &target.login {
            let initial = BASE64_STANDARD.encode(format!("\0{user}\0{password}"));
            let auth = format!("AUTH PLAIN {initial}\r\n");
            connection.command(auth.as_bytes(), 235).await?;
        }
        Ok(connection)
    }

    async fn greeted(target: &Target) -> anyhow::Result<Self> {
        for _ in 0..GREETING_TRIES {
            let stream = TcpStream::connect(target.address)
                .await
                .context("connect")?;
            let mut wire = Wire::new(stream)?;
            if target.tls == Tls::Implicit {
                wire = wire.connect_tls(&target.connector).await?;
            }
            let mut connection = Self {
                wire,
                input: BytesMut::with_capacity(REPLY_BYTES),
                chunking: false,
            };
            if let Ok(greeted) = timeout(GREETING_TIMEOUT, connection.reply(220)).await {
                greeted?;
                return Ok(connection);
            }
        }
        bail!("no greeting")
    }

    async fn hello(&mut self) -> anyhow::Result<()> {
        self.send(b"EHLO load.example.com\r\n").await?;
        let reply = self.whole_reply(250).await?;
        self.chunking = memchr::memmem::find(&reply, b"CHUNKING\r\n").is_some();
        Ok(())
    }

    /// Fails unless the server takes BDAT (RFC 3030).
    ///
    /// # Errors
    /// If it does not offer CHUNKING.
    pub(crate) fn must_chunk(&self) -> anyhow::Result<()> {
        ensure!(self.chunking, "the server does not offer CHUNKING");
        Ok(())
    }

    /// Writes.
    ///
    /// # Errors
    /// If the connection breaks.
    pub(crate) async fn send(&mut self, octets: &[u8]) -> anyhow::Result<()> {
        Ok(self.wire.write(octets).await?)
    }

    /// Writes, and waits for the reply.
    ///
    /// # Errors
    /// If it has another code, does not come in time, or the connection breaks.
    pub(crate) async fn command(&mut self, octets: &[u8], expected: u16) -> anyhow::Result<()> {
        self.send(octets).await?;
        self.reply(expected).await
    }

    /// Waits for a reply.
    ///
    /// # Errors
    /// As [`Self::command`].
    pub(crate) async fn reply(&mut self, expected: u16) -> anyhow::Result<()> {
        self.whole_reply(expected).await.map(drop)
    }

    async fn whole_reply(&mut self, expected: u16) -> anyhow::Result<BytesMut> {
        loop {
            if let Some(reply) = take_reply(&mut self.input) {
                if code(&reply) == Some(expected) {
                    return Ok(reply);
                }
                bail!("{}", String::from_utf8_lossy(&reply).trim_end());
            }
            let read = timeout(REPLY_TIMEOUT, self.wire.read(&mut self.input));
            if read.await.context("no reply in time")?? == 0 {
                bail!("the server closed the connection");
            }
        }
    }
}

/// Takes a whole reply out of the input, if there is one.
fn take_reply(input: &mut BytesMut) -> Option<BytesMut> {
    let mut at = 0;
    loop {
        let end = at + memchr::memchr(b'\n', &input[at..])? + 1;
        if input.get(at + 3) != Some(&b'-') {
            return Some(input.split_to(end));
        }
        at = end;
    }
}

/// Every line of a reply has the same (RFC 5321 §4.2.1).
fn code(reply: &[u8]) -> Option<u16> {
    std::str::from_utf8(reply.get(..3)?).ok()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reply_is_taken_whole_or_not_at_all() {
        let mut input = BytesMut::from("250-a\r\n250 b\r\n354 go\r\n22");
        assert_eq!(take_reply(&mut input).unwrap(), "250-a\r\n250 b\r\n");
        let reply = take_reply(&mut input).unwrap();
        assert_eq!(code(&reply), Some(354));
        assert_eq!(take_reply(&mut input), None);
        assert_eq!(input, "22");
    }
}
