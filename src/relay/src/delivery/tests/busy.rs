//! Domains whose exchangers are at one address, which has as many connections as it may.

use postroad_spool::{ByMode, DeliverBy, Message};

use super::direct::{Domains, Script, hang};
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

/// Domains that are all at one address, for which nobody waits for longer than this.
async fn crowded(net: u8, script: Script, patience: Duration) -> Domains {
    let domains = Domains::new(net, &[script]).await;
    domains.rig.change_delivery(|delivery| {
        delivery.direct.limits.messages_per_connection = 1;
        delivery.retry.delay_warning_seconds = Some(300);
    });
    let mut zone = Zone::default().address("mx.example", &format!("127.0.{net}.1"));
    let names = (0..DOMAINS).map(|number| format!("d{number}.example"));
    for name in names.chain(["example.com".into()]) {
        zone = zone.mx(&name, 10, "mx.example");
    }
    let (live, delivery) = (domains.rig.context.live(), &domains.delivery);
    delivery.configure(&live).await;
    let opener = Opener::with_dns(&live.config, Arc::new(zone)).busy_for(patience);
    let direct = live.config.delivery.direct.clone();
    *delivery.direct() = Some((Arc::new(opener), direct));
    domains
}

#[tokio::test]
async fn domains_that_wait_for_an_address_do_not_fail_and_get_their_mail() {
    let domains = crowded(39, slow, Duration::from_millis(50)).await;
    let Domains {
        rig,
        sinks,
        delivery,
    } = &domains;
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

#[tokio::test]
async fn senders_hear_of_the_delay_of_what_finds_no_place_at_its_address_and_get_back_what_they_want_back()
 {
    let domains = crowded(42, hang, Duration::ZERO).await;
    let Domains {
        rig,
        sinks,
        delivery,
    } = &domains;
    let accept = async |number: usize, age_seconds: u64, mode: Option<ByMode>| {
        let mut message = rig.message(1, age_seconds);
        message.envelope.recipients[0].address = format!("r@d{number}.example");
        message.envelope.deliver_by = mode.map(|on_expiry| DeliverBy {
            deadline_ms: message.arrival_ms,
            on_expiry,
            trace: false,
        });
        rig.accept(&message).await.unwrap();
    };
    let queue = &rig.context.queue;
    let until = async |is_done: &dyn Fn() -> bool| {
        let delivering = async {
            while !is_done() {
                let _ = queue.advance();
                delivery.open_connections();
                tokio::time::sleep(LOOK_PAUSE).await;
            }
        };
        let done = tokio::time::timeout(PATIENCE, delivering).await;
        done.expect("it goes on for ever");
    };
    for number in 0..20 {
        accept(number, 0, None).await;
    }
    until(&|| queue.connections() == 20).await;
    accept(20, 0, None).await;
    accept(21, 400, None).await;
    accept(22, 1, Some(ByMode::Notify)).await;
    accept(23, 1, Some(ByMode::Return)).await;
    // Three reports, and one message less.
    until(&|| queue.totals().0.messages == 26).await;
    let metrics = &rig.context.metrics;
    assert_eq!((metrics.bounced.get(), metrics.failed.get()), (3, 1));
    assert_eq!((sinks[0].mails(), queue.direct_status().failing), (0, 0));
}
