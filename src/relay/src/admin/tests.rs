use super::*;

use std::net::SocketAddr;

use rustls_pki_types::ServerName;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::sync::watch;
use tokio_rustls::TlsConnector;

use crate::live::Live;
use crate::pki::{NAME, Pki};
use crate::rig::Rig;

/// Serves on a port of its own.
async fn start(rig: &Rig, pki: &Pki) -> (SocketAddr, tokio_util::sync::DropGuard) {
    let mut context = rig.context.clone();
    let live = Live {
        admin: Some(pki.admin()),
        ..(*context.live()).clone()
    };
    // Whoever reads the value of a channel needs no sender.
    (_, context.live) = watch::channel(Arc::new(live));
    let admin = Admin {
        context,
        upstreams: SharedUpstreams::default(),
    };
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let stop = CancellationToken::new();
    tokio::spawn(admin.serve(listener, stop.clone()));
    (address, stop.drop_guard())
}

async fn ask(address: SocketAddr, connector: &TlsConnector) -> String {
    let stream = TcpStream::connect(address).await.unwrap();
    let name = ServerName::try_from(NAME).unwrap();
    let mut stream = connector.connect(name, stream).await.unwrap();
    let request = format!("GET {STATUS_PATH} HTTP/1.1\r\nHost: {NAME}\r\n\r\n");
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    answer
}

#[tokio::test]
async fn the_operator_does_not_wait_behind_strangers() {
    let (rig, pki) = (Rig::new(1 << 20), Pki::new());
    let (address, _stop) = start(&rig, &pki).await;
    let mut strangers = Vec::new();
    for _ in 0..HANDSHAKES_MAX + 20 {
        strangers.push(TcpStream::connect(address).await.unwrap());
    }
    let connector = pki.client();
    let answer = tokio::time::timeout(Duration::from_secs(2), ask(address, &connector)).await;
    let answer = answer.expect("the operator must be answered at once");
    assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
}

#[tokio::test(start_paused = true)]
async fn closes_who_shakes_no_hands() {
    let (rig, pki) = (Rig::new(1 << 20), Pki::new());
    let (address, _stop) = start(&rig, &pki).await;
    let begun = tokio::time::Instant::now();
    let mut stream = TcpStream::connect(address).await.unwrap();
    let read = stream.read(&mut [0]).await.unwrap();
    assert_eq!(read, 0);
    assert!(begun.elapsed() < HANDSHAKE_TIME_MAX * 2);
}
