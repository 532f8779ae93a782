//! The sink: a server that takes everything at once, keeps nothing but the ids, and costs as little as possible.

use std::net::SocketAddr;
use std::sync::Arc;

use anyhow::Context as _;
use bytes::{Buf as _, BytesMut};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};

use crate::ledger::Ledger;
use crate::message::id_in;

/// The id stands in the first octets, behind the trace headers that relays add.
const HEAD: usize = 4096;
/// What ends a message.
const END: &[u8] = b"\r\n.\r\n";
/// Octets asked from the kernel at a time.
const READ: usize = 64 << 10;

/// Accepts until dropped.
///
/// # Errors
/// If the port cannot be had, or accepting fails for good.
pub(crate) async fn run(listener: TcpListener, ledger: Arc<Ledger>) -> anyhow::Result<()> {
    loop {
        let (stream, _) = listener.accept().await.context("accept")?;
        let ledger = Arc::clone(&ledger);
        tokio::task::spawn_local(async move {
            // A server that closes in the middle is its own affair; the ledger knows what is missing.
            let _ = serve(stream, &ledger).await;
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

async fn serve(mut stream: TcpStream, ledger: &Ledger) -> std::io::Result<()> {
    stream.set_nodelay(true)?;
    stream.write_all(b"220 sink.example.org ESMTP\r\n").await?;
    let mut session = Session::default();
    let mut input = BytesMut::with_capacity(READ);
    let mut output = Vec::with_capacity(512);
    loop {
        if stream.read_buf(&mut input).await? == 0 {
            return Ok(());
        }
        let goes_on = session.feed(&mut input, &mut output, ledger);
        if !output.is_empty() {
            stream.write_all(&output).await?;
            output.clear();
        }
        if !goes_on {
            return Ok(());
        }
        input.reserve(READ);
    }
}

/// One session, sans IO.
#[derive(Debug, Default)]
struct Session {
    /// Set between DATA and the final dot.
    content: Option<Content>,
}

#[derive(Debug, Default)]
struct Content {
    head: Vec<u8>,
    begun: bool,
}

impl Session {
    /// Takes what it can; false at QUIT.
    fn feed(&mut self, input: &mut BytesMut, output: &mut Vec<u8>, ledger: &Ledger) -> bool {
        loop {
            if self.content.is_some() {
                if !self.content(input, output, ledger) {
                    return true;
                }
                continue;
            }
            let Some(end) = memchr::memchr(b'\n', input) else {
                return true;
            };
            let line = input.split_to(end + 1);
            if !self.command(&line, output) {
                return false;
            }
        }
    }

    fn command(&mut self, line: &[u8], output: &mut Vec<u8>) -> bool {
        let verb = line.get(..4).unwrap_or(line).to_ascii_uppercase();
        output.extend_from_slice(match verb.as_slice() {
            b"EHLO" => b"250-sink.example.org\r\n250-PIPELINING\r\n250-ENHANCEDSTATUSCODES\r\n250 8BITMIME\r\n".as_slice(),
            b"DATA" => {
                self.content = Some(Content::default());
                b"354 go\r\n"
            }
            b"QUIT" => b"221 2.0.0 bye\r\n",
            _ => b"250 2.0.0 ok\r\n",
        });
        verb != b"QUIT"
    }

    /// Whether the message is complete.
    fn content(&mut self, input: &mut BytesMut, output: &mut Vec<u8>, ledger: &Ledger) -> bool {
        let Some(content) = &mut self.content else {
            return true;
        };
        // An empty message is a dot and nothing before it.
        let (end, length) = match memchr::memmem::find(input, END) {
            _ if !content.begun && input.starts_with(&END[2..]) => (Some(0), END.len() - 2),
            found => (found, END.len()),
        };
        let taken = end.unwrap_or_else(|| input.len().saturating_sub(END.len() - 1));
        let wanted = HEAD.saturating_sub(content.head.len()).min(taken);
        content.head.extend_from_slice(&input[..wanted]);
        content.begun |= taken > 0;
        input.advance(taken);
        if end.is_none() {
            return false;
        }
        input.advance(length);
        if let Some(id) = id_in(&content.head) {
            ledger.arrive(id);
        }
        output.extend_from_slice(b"250 2.0.0 ok\r\n");
        self.content = None;
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::message::Template;

    /// However the octets are cut, the same messages arrive and the same replies go out.
    #[test]
    fn every_split_gives_the_same() {
        let mut wire = b"EHLO x\r\nMAIL FROM:<a>\r\nRCPT TO:<b>\r\nDATA\r\n".to_vec();
        wire.extend_from_slice(Template::new(700).with_id(3));
        wire.extend_from_slice(b"DATA\r\n.\r\nQUIT\r\n");
        let mut expected = None;
        for piece in 1..wire.len() {
            let ledger = Ledger::new(10);
            let (mut session, mut input, mut output) =
                (Session::default(), BytesMut::new(), Vec::new());
            for chunk in wire.chunks(piece) {
                input.extend_from_slice(chunk);
                session.feed(&mut input, &mut output, &ledger);
            }
            assert_eq!(ledger.arrivals(), 1, "pieces of {piece}");
            assert_eq!(&output, expected.get_or_insert_with(|| output.clone()));
        }
    }
}
