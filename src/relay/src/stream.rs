//! A connection that may be under TLS.

use std::future::poll_fn;
use std::io;
use std::mem::MaybeUninit;
use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::BytesMut;
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt as _, ReadBuf};

use crate::net::TcpStream;

/// Most that one read takes, on the stack. A pipelined dialogue fits in a fraction; a record of TLS is no longer.
const READ_BYTES: usize = 16 << 10;

/// A buffer that holds so much more than what is in it is given back while its connection waits. A reply to a command fits, that to EHLO
/// does not: it comes once.
const IDLE_BYTES: usize = 128;

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
    /// Reads what is there, at most [`READ_BYTES`]; 0 at the end. While nothing is there, the buffer takes no more memory than
    /// what is left in it: most connections wait most of the time.
    ///
    /// # Errors
    /// What the system says.
    pub async fn read_some(&mut self, input: &mut BytesMut) -> io::Result<usize> {
        poll_fn(|context| self.poll_read_some(context, input)).await
    }

    fn poll_read_some(
        &mut self,
        context: &mut Context<'_>,
        input: &mut BytesMut,
    ) -> Poll<io::Result<usize>> {
        let mut room = [const { MaybeUninit::<u8>::uninit() }; READ_BYTES];
        let mut buffer = ReadBuf::uninit(&mut room);
        let read = Pin::new(self).poll_read(context, &mut buffer);
        if read.is_pending() {
            trim(input);
        }
        read.map_ok(|()| {
            input.extend_from_slice(buffer.filled());
            buffer.filled().len()
        })
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
        trim(output);
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

/// Gives back what a buffer holds beyond its content. What has been taken from its front is held too, though its capacity does not
/// count it.
pub fn trim(buffer: &mut BytesMut) {
    if buffer.try_reclaim(IDLE_BYTES + 1) {
        *buffer = BytesMut::from(&buffer[..]);
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

#[cfg(test)]
mod tests {
    use bytes::Buf as _;

    use super::*;
    use crate::net::TcpListener;

    async fn pair() -> (TcpStream, Stream) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (client, served) = tokio::join!(TcpStream::connect(address), listener.accept());
        (client.unwrap(), Stream::Plain(served.unwrap().0))
    }

    #[tokio::test]
    async fn a_connection_that_waits_holds_no_buffer() {
        let (mut client, mut stream) = pair().await;
        let mut input = BytesMut::new();
        for (octets, left) in [(4096, 0), (4096, 100), (3 * READ_BYTES, 1)] {
            client.write_all(&vec![b'x'; octets]).await.unwrap();
            input.clear();
            while input.len() < octets {
                stream.read_some(&mut input).await.unwrap();
            }
            // Taken from the front, which is what a session does.
            input.advance(octets - left);
            {
                let waits = std::pin::pin!(stream.read_some(&mut input));
                assert!(poll_once(waits).is_none());
            }
            assert_eq!(input.len(), left);
            let is_held = input.try_reclaim(IDLE_BYTES + 1);
            assert!(!is_held, "{left} of {octets}");
        }
        drop(client);
        assert_eq!(stream.read_some(&mut input).await.unwrap(), 0);
    }

    /// Polls once.
    fn poll_once<F: Future>(future: Pin<&mut F>) -> Option<F::Output> {
        match future.poll(&mut Context::from_waker(std::task::Waker::noop())) {
            Poll::Ready(output) => Some(output),
            Poll::Pending => None,
        }
    }
}
