//! A client whose mail takes its share of the queue.

use super::*;

use crate::metrics::ShareLabel;
use crate::room::{Account, Sharing};

/// A client over TLS.
pub(super) async fn greet_tls(
    talk: &Talk,
    pki: &Pki,
) -> Client<impl AsyncRead + AsyncWrite + Unpin + use<>> {
    let (stream, session) = talk.connect(ListenerTls::Implicit, Standing::Known).await;
    tokio::spawn(session);
    let name = ServerName::try_from(NAME).unwrap();
    let stream = pki.client().connect(name, stream).await.unwrap();
    let mut client = Client(BufReader::new(stream));
    assert!(client.hear().await.starts_with("220 "));
    client.ask("EHLO client.example.org", "250 ").await;
    client
}

async fn log_in(talk: &Talk, pki: &Pki) -> Client<impl AsyncRead + AsyncWrite + Unpin + use<>> {
    let mut client = greet_tls(talk, pki).await;
    // The user app.
    client.ask("AUTH PLAIN AGFwcAByaWdodA==", "235 ").await;
    client
}

/// Sends small messages until one is refused; returns how many were taken.
async fn fill(client: &mut Client<impl AsyncRead + AsyncWrite + Unpin>) -> usize {
    for taken in 0.. {
        client.say("MAIL FROM:<a@example.org>\r\n").await;
        let reply = client.hear().await;
        if !reply.starts_with("250 ") {
            assert!(reply.starts_with("452 4.3.1 Your share "), "{reply}");
            return taken;
        }
        client.ask("RCPT TO:<b@example.net>", "250 ").await;
        client.ask("DATA", "354 ").await;
        client.say("Subject: x\r\n\r\nx\r\n.\r\n").await;
        let reply = client.hear().await;
        if !reply.starts_with("250 ") {
            assert!(reply.starts_with("452 4.3.1 Your share "), "{reply}");
            return taken;
        }
    }
    unreachable!("it never ends")
}

#[tokio::test]
async fn one_that_has_its_share_gets_452_and_others_250_and_that_shows() {
    let (mut talk, pki) = (Talk::new(), Pki::new());
    talk.limits.connections = 10;
    talk.serve_tls(&pki);
    talk.rig.context.queue = talk.rig.context.queue.with_room_for(320);
    assert_eq!(talk.rig.context.live().sharing(), Sharing::Many);
    talk.rig.context.queue.share(Sharing::Many);
    let (mut app, mut stranger) = (log_in(&talk, &pki).await, talk.greet(Standing::Known).await);
    stranger.ask("EHLO client.example.org", "250 ").await;
    let taken = fill(&mut app).await;
    assert!(taken >= 290, "{taken} of 320");
    assert!(fill(&mut stranger).await >= 10, "there is room for others");
    let queue = &talk.rig.context.queue;
    let full = queue.full_shares(9, crate::clock::now_ms());
    assert_eq!(full, [Account::Network, "app".into()]);
    let label = ShareLabel { of: "queue" };
    let refusals = &talk.rig.context.metrics.share_refusals;
    assert_eq!(refusals.get_or_create(&label).get(), 2);
    assert_eq!(talk.rig.context.metrics.queue_refusals.get(), 0);
}
