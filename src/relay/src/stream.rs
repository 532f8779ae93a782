//! A connection that may be under TLS.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::BytesMut;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _, ReadBuf};
use tokio::net::TcpStream;

/// Room made for each read. A pipelined dialogue fits in a fraction; content moves in a few reads per 64 KiB.
const READ_BYTES: usize = 32 << 10;

/// TCP, or TLS over it, as client or server.
#[derive(Debug)]
pub enum Stream {
    /// Without TLS.
    Plain(TcpStream),
    /// Under TLS. Boxed: a TLS session is some hundred times larger.
    Tls(Box<tokio_rustls::TlsStream<TcpStream>>),
    /// Taken by a handshake that has not ended well.
    Closed,
}

impl Stream {
    /// Reads what is there, at most [`READ_BYTES`]; 0 at the end.
    ///
    /// # Errors
    /// What the system says.
    pub async fn read_some(&mut self, input: &mut BytesMut) -> io::Result<usize> {
        input.reserve(READ_BYTES);
        self.read_buf(input).await
    }

    /// Writes all of it and leaves the buffer empty.
    ///
    /// # Errors
    /// What the system says.
    pub async fn write_out(&mut self, output: &mut BytesMut) -> io::Result<()> {
        if output.is_empty() {
            return Ok(());
        }
        self.write_all(output).await?;
        output.clear();
        self.flush().await
    }

    /// Protocol version and cipher for the trace header; `None` without TLS.
    #[must_use]
    pub fn tls_text(&self) -> Option<String> {
        let Self::Tls(stream) = self else { return None };
        let (_, connection) = stream.get_ref();
        let version = connection.protocol_version()?;
        let suite = connection.negotiated_cipher_suite()?.suite();
        let version = match version {
            rustls::ProtocolVersion::TLSv1_2 => "TLSv1.2",
            rustls::ProtocolVersion::TLSv1_3 => "TLSv1.3",
            _ => "TLS",
        };
        Some(format!(
            "{version} {}",
            suite.as_str().unwrap_or("unknown cipher")
        ))
    }
}

impl AsyncRead for Stream {
    fn poll_read(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Plain(stream) => Pin::new(stream).poll_read(context, buffer),
            Self::Tls(stream) => Pin::new(stream).poll_read(context, buffer),
            Self::Closed => Poll::Ready(Err(io::ErrorKind::NotConnected.into())),
        }
    }
}

impl AsyncWrite for Stream {
    fn poll_write(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &[u8],
    ) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Self::Plain(stream) => Pin::new(stream).poll_write(context, buffer),
            Self::Tls(stream) => Pin::new(stream).poll_write(context, buffer),
            Self::Closed => Poll::Ready(Err(io::ErrorKind::NotConnected.into())),
        }
    }

    fn poll_flush(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Plain(stream) => Pin::new(stream).poll_flush(context),
            Self::Tls(stream) => Pin::new(stream).poll_flush(context),
            Self::Closed => Poll::Ready(Err(io::ErrorKind::NotConnected.into())),
        }
    }

    fn poll_shutdown(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Plain(stream) => Pin::new(stream).poll_shutdown(context),
            Self::Tls(stream) => Pin::new(stream).poll_shutdown(context),
            Self::Closed => Poll::Ready(Err(io::ErrorKind::NotConnected.into())),
        }
    }
}
