//! A connection, with TLS or without.

use std::io;

use bytes::BytesMut;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio_rustls::{TlsAcceptor, TlsConnector, TlsStream};

/// One end of it.
#[derive(Debug)]
pub(crate) enum Wire {
    /// Plaintext.
    Plain(TcpStream),
    /// TLS, as client or server.
    Tls(Box<TlsStream<TcpStream>>),
}

impl Wire {
    /// A fresh connection; nothing waits for more to send.
    ///
    /// # Errors
    /// If the peer is gone already.
    pub(crate) fn new(stream: TcpStream) -> io::Result<Self> {
        stream.set_nodelay(true)?;
        Ok(Self::Plain(stream))
    }

    /// Reads what is there; 0 at the end.
    ///
    /// # Errors
    /// If the connection breaks.
    pub(crate) async fn read(&mut self, input: &mut BytesMut) -> io::Result<usize> {
        match self {
            Self::Plain(stream) => stream.read_buf(input).await,
            Self::Tls(stream) => stream.read_buf(input).await,
        }
    }

    /// Writes all of it.
    ///
    /// # Errors
    /// If the connection breaks.
    pub(crate) async fn write(&mut self, octets: &[u8]) -> io::Result<()> {
        match self {
            Self::Plain(stream) => stream.write_all(octets).await,
            Self::Tls(stream) => {
                stream.write_all(octets).await?;
                stream.flush().await
            }
        }
    }

    /// The handshake as a client.
    ///
    /// # Errors
    /// If it fails.
    pub(crate) async fn connect_tls(self, connector: &TlsConnector) -> io::Result<Self> {
        let name = rustls_pki_types::ServerName::try_from("relay.example.com")
            .map_err(|_| io::ErrorKind::InvalidInput)?;
        let stream = connector.connect(name, self.plain()?).await?;
        Ok(Self::Tls(Box::new(stream.into())))
    }

    /// The handshake as a server.
    ///
    /// # Errors
    /// If it fails.
    pub(crate) async fn accept_tls(self, acceptor: &TlsAcceptor) -> io::Result<Self> {
        let stream = acceptor.accept(self.plain()?).await?;
        Ok(Self::Tls(Box::new(stream.into())))
    }

    fn plain(self) -> io::Result<TcpStream> {
        match self {
            Self::Plain(stream) => Ok(stream),
            Self::Tls(_) => Err(io::Error::other("TLS within TLS")),
        }
    }
}
