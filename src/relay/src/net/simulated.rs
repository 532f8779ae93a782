//! Sockets of the system or of a simulated host, whichever the code that makes them runs on.

use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::task::{Context, Poll};

use futures::FutureExt as _;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::ToSocketAddrs;

use super::{BindError, bind};
use crate::simulation;

/// A socket that listens.
pub enum TcpListener {
    /// The system's.
    System(tokio::net::TcpListener),
    /// A simulated host's.
    Simulated(turmoil::net::TcpListener),
}

/// A connection.
#[derive(Debug)]
pub enum TcpStream {
    /// The system's.
    System(tokio::net::TcpStream),
    /// A simulated host's. Boxed: it is larger than the system's, and the tests know how large a connection is.
    Simulated(Box<turmoil::net::TcpStream>),
}

/// Connects to an address.
///
/// # Errors
/// What the system, or the simulation, says.
pub async fn connect(address: SocketAddr) -> io::Result<TcpStream> {
    if simulation::is_running() {
        let stream = turmoil::net::TcpStream::connect(address).await?;
        return Ok(TcpStream::Simulated(Box::new(stream)));
    }
    TcpStream::connect(address).await
}

/// Listens at an address.
///
/// # Errors
/// As [`bind`].
pub fn listen(address: SocketAddr) -> Result<TcpListener, BindError> {
    if !simulation::is_running() {
        return bind(address).map(TcpListener::System);
    }
    // Nothing in it waits.
    let bound = turmoil::net::TcpListener::bind(address).now_or_never();
    let bound = bound.unwrap_or_else(|| Err(io::ErrorKind::WouldBlock.into()));
    bound
        .map(TcpListener::Simulated)
        .map_err(|source| BindError { address, source })
}

impl TcpListener {
    /// Listens on the system's network, whoever asks.
    ///
    /// # Errors
    /// What the system says; so for all of these.
    pub async fn bind(address: impl ToSocketAddrs) -> io::Result<Self> {
        tokio::net::TcpListener::bind(address)
            .await
            .map(Self::System)
    }

    /// The next connection.
    pub async fn accept(&self) -> io::Result<(TcpStream, SocketAddr)> {
        match self {
            Self::System(listener) => {
                let (stream, peer) = listener.accept().await?;
                Ok((TcpStream::System(stream), peer))
            }
            Self::Simulated(listener) => {
                let (stream, peer) = listener.accept().await?;
                Ok((TcpStream::Simulated(Box::new(stream)), peer))
            }
        }
    }

    /// Where it listens.
    pub fn local_addr(&self) -> io::Result<SocketAddr> {
        match self {
            Self::System(listener) => listener.local_addr(),
            Self::Simulated(listener) => listener.local_addr(),
        }
    }
}

impl TcpStream {
    /// Connects over the system's network, whoever asks.
    ///
    /// # Errors
    /// What the system says; so for all of these.
    pub async fn connect(address: impl ToSocketAddrs) -> io::Result<Self> {
        tokio::net::TcpStream::connect(address)
            .await
            .map(Self::System)
    }

    /// As `TCP_NODELAY`.
    pub fn set_nodelay(&self, nodelay: bool) -> io::Result<()> {
        match self {
            Self::System(stream) => stream.set_nodelay(nodelay),
            Self::Simulated(stream) => stream.set_nodelay(nodelay),
        }
    }

    /// Writes what can be written without waiting.
    pub fn try_write(&self, bytes: &[u8]) -> io::Result<usize> {
        match self {
            Self::System(stream) => stream.try_write(bytes),
            Self::Simulated(stream) => stream.try_write(bytes),
        }
    }
}

/// What both kinds of connections are.
trait Socket: AsyncRead + AsyncWrite + Unpin {}

impl<S: AsyncRead + AsyncWrite + Unpin> Socket for S {}

impl TcpStream {
    fn socket(self: Pin<&mut Self>) -> Pin<&mut dyn Socket> {
        match self.get_mut() {
            Self::System(stream) => Pin::new(stream),
            Self::Simulated(stream) => Pin::new(stream),
        }
    }
}

impl AsyncRead for TcpStream {
    fn poll_read(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        self.socket().poll_read(context, buffer)
    }
}

impl AsyncWrite for TcpStream {
    fn poll_write(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.socket().poll_write(context, buffer)
    }

    fn poll_flush(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.socket().poll_flush(context)
    }

    fn poll_shutdown(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.socket().poll_shutdown(context)
    }
}
