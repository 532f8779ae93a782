//! The sink: a server that takes everything at once, keeps nothing but the ids, and costs as little as possible.

mod session;

use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;

use anyhow::Context as _;
use bytes::BytesMut;
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::TlsAcceptor;

use crate::faults::{Faults, Rule};
use crate::ledger::Ledger;
use crate::tls::Tls;
use crate::wire::Wire;

use session::{Session, Turn};

/// Octets asked from the kernel at a time.
const READ: usize = 64 << 10;

/// How it behaves.
#[derive(Clone, Debug, Default)]
pub(crate) struct Manner {
    /// How connections are, or can be, protected.
    pub(crate) tls: Tls,
    /// Whether CHUNKING is offered.
    pub(crate) chunking: bool,
    /// What goes wrong.
    pub(crate) faults: Vec<Rule>,
}

/// Accepts until dropped. Must run inside a [`tokio::task::LocalSet`].
///
/// # Errors
/// If TLS cannot be set up, or accepting fails for good.
pub(crate) async fn run(
    listener: TcpListener,
    manner: Manner,
    ledger: Arc<Ledger>,
) -> anyhow::Result<()> {
    let sink = Rc::new(Sink {
        acceptor: crate::tls::acceptor()?,
        faults: Faults::new(&manner.faults),
        manner,
        ledger,
    });
    loop {
        let (stream, _) = listener.accept().await.context("accept")?;
        let sink = Rc::clone(&sink);
        tokio::task::spawn_local(async move {
            // A client that closes in the middle is its own affair; the ledger knows what is missing.
            let _ = sink.serve(stream).await;
        });
    }
}

/// A listener with a queue that no burst fills.
///
/// # Errors
/// If the port cannot be had.
pub(crate) fn listen(address: SocketAddr) -> anyhow::Result<TcpListener> {
    let socket = tokio::net::TcpSocket::new_v4()?;
    socket.set_reuseaddr(true)?;
    socket
        .bind(address)
        .with_context(|| format!("the sink cannot have {address}"))?;
    Ok(socket.listen(4096)?)
}

struct Sink {
    acceptor: TlsAcceptor,
    faults: Faults,
    manner: Manner,
    ledger: Arc<Ledger>,
}

impl Sink {
    async fn serve(&self, stream: TcpStream) -> std::io::Result<()> {
        let mut wire = Wire::new(stream)?;
        let mut offers_tls = self.manner.tls == Tls::Starttls;
        if self.manner.tls == Tls::Implicit {
            wire = wire.accept_tls(&self.acceptor).await?;
        }
        let mut session = Session::new(&self.faults, &self.ledger, self.manner.chunking);
        let mut input = BytesMut::with_capacity(READ);
        let mut output = Vec::with_capacity(512);
        let mut turn = session.greet(&mut output);
        loop {
            if let Turn::Pause(pause) = turn {
                tokio::time::sleep(pause).await;
            }
            if !output.is_empty() {
                wire.write(&output).await?;
                output.clear();
            }
            match turn {
                Turn::Close => return Ok(()),
                Turn::Pause(_) => {}
                Turn::Handshake => {
                    // What came before the handshake is not to be believed (RFC 3207 §6).
                    input.clear();
                    wire = wire.accept_tls(&self.acceptor).await?;
                    offers_tls = false;
                }
                Turn::More => {
                    input.reserve(READ);
                    if wire.read(&mut input).await? == 0 {
                        return Ok(());
                    }
                }
            }
            turn = session.feed(&mut input, &mut output, offers_tls);
        }
    }
}
