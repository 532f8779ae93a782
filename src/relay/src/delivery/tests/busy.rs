//! Domains whose exchangers are at one address, which has as many connections as it may.

use postroad_spool::Message;

use super::direct::{Domains, Script};
use super::*;
use crate::dns::fake::Zone;
use crate::rig::LIFETIME_SECONDS;

/// More than twice what an address may have at once.
const DOMAINS: usize = 45;

fn slow(line: &str, _: usize) -> Answer {
    match line.starts_with("MAIL") {
        true => Answer::Late(Duration::from_millis(100)),
        false => Answer::Yes,
    }
}

/// A message to that domain that was held for the whole lifetime: only now that begins (RFC 4865).
fn held(rig: &Rig, number: usize) -> Message {
    let mut message = rig.message(1, LIFETIME_SECONDS);
    message.envelope.not_before_ms = message.arrival_ms + LIFETIME_SECONDS * 1000;
    message.envelope.recipients[0].address = format!("r@d{number}.example");
    message
}

#[tokio::test]
async fn domains_that_wait_for_an_address_do_not_fail_and_get_their_mail() {
    let domains = Domains::new(39, &[slow as Script]).await;
    domains.rig.change_delivery(|delivery| {
        delivery.direct.limits.messages_per_connection = 1;
    });
    let Domains {
        rig,
        sinks,
        delivery,
    } = &domains;
    let mut zone = Zone::default().address("mx.example", "127.0.39.1");
    for number in 0..DOMAINS {
        zone = zone.mx(&format!("d{number}.example"), 10, "mx.example");
    }
    let live = rig.context.live();
    delivery.configure(&live).await;
    // Nobody waits for longer than that.
    let patience = Duration::from_millis(50);
    let opener = Opener::with_dns(&live.config, Arc::new(zone)).busy_for(patience);
    let direct = live.config.delivery.direct.clone();
    *delivery.direct() = Some((Arc::new(opener), direct));
    for number in 0..DOMAINS {
        domains.rig.accept(&held(rig, number)).await.unwrap();
    }
    let queue = &rig.context.queue;
    let delivering = async {
        while queue.totals().0.messages > 0 {
            let _ = queue.advance();
            delivery.open_connections();
            assert_eq!(queue.direct_status().failing, 0);
            tokio::time::sleep(LOOK_PAUSE).await;
            if queue.connections() == 0 {
                // All that is left has been put off.
                queue.wake_all().await;
            }
        }
    };
    let delivered = tokio::time::timeout(PATIENCE, delivering).await;
    delivered.expect("it goes on for ever");
    assert_eq!(sinks[0].mails(), DOMAINS);
    assert_eq!(rig.context.metrics.deferred.get(), 0);
}
