use std::net::Ipv4Addr;
use std::sync::Arc;

use k8s_openapi::api::core::v1::Pod;
use postroad_config::SpoolMode;
use postroad_config::status::{ConfigStatus, QueueStatus, SpoolStatus, Totals};

use super::*;

fn status() -> RelayStatus {
    RelayStatus {
        version: "1".into(),
        draining: false,
        config: ConfigStatus {
            hash: "config".into(),
            credentials_hash: "credentials".into(),
            refused: None,
            awaits_restart: Vec::new(),
        },
        queue: QueueStatus::default(),
        totals: Totals::default(),
        upstreams: Vec::new(),
        direct: None,
        certificate: None,
        spool: SpoolStatus {
            persistent: true,
            failure: None,
            corrupt: 0,
            disk_full: false,
            mode: SpoolMode::Durable,
            unsynced_ms: None,
        },
    }
}

fn address(pod: u8) -> IpAddr {
    Ipv4Addr::new(10, 0, 0, pod).into()
}

fn pod(number: u8, status: Option<RelayStatus>) -> FoundPod {
    FoundPod {
        pod: Arc::new(Pod::default()),
        ordinal: 0,
        address: Some(address(number)),
        ready: true,
        status,
    }
}

fn relay(number: u8) -> RelayId {
    RelayId {
        name: format!("relay-{number}"),
        namespace: "infra".into(),
        uid: number.to_string(),
    }
}

/// The relays that are visited when the pod of the first answers this.
async fn visited(answer: fn() -> Answer) -> Vec<String> {
    let resting = Resting::default();
    for number in [1, 2] {
        resting.begin(&relay(number), &[pod(number, Some(status()))]);
    }
    let mut woken = Vec::new();
    // What was said once is not said again before the next visit.
    for _ in 0..2 {
        let ask = |_, asked| async move {
            if asked == address(1) {
                answer()
            } else {
                Answer::Said(Box::new(status()))
            }
        };
        let wake = async |target| match target {
            Target::Relay { name, .. } | Target::Credential { name, .. } => woken.push(name),
        };
        resting.round(ask, wake).await;
    }
    woken
}

#[tokio::test(start_paused = true)]
async fn a_relay_is_visited_once_when_a_pod_says_what_the_status_would_show() {
    for (answer, visits) in [
        ((|| said(|_| ())) as fn() -> Answer, 0),
        (|| said(|status| status.totals.accepted = 1), 0),
        (|| Answer::NotAsked, 0),
        (|| said(|status| status.queue.messages = 3), 1),
        (|| said(|status| status.spool.corrupt = 1), 1),
        (
            || said(|status| status.config.refused = Some("x".into())),
            1,
        ),
        (|| Answer::Silence, 1),
    ] {
        assert_eq!(visited(answer).await, vec!["relay-1"; visits]);
    }
}

fn said(change: fn(&mut RelayStatus)) -> Answer {
    let mut status = status();
    change(&mut status);
    Answer::Said(Box::new(status))
}

#[tokio::test(start_paused = true)]
async fn a_pod_that_was_silent_at_the_visit_is_not_asked() {
    let resting = Resting::default();
    resting.begin(&relay(1), &[pod(1, None)]);
    let ask = |_, _| async { Answer::Silence };
    let mut woken = 0;
    resting.round(ask, async |_| woken += 1).await;
    assert_eq!(woken, 0);
}

#[test]
fn the_interval_grows_with_the_number_of_pods() {
    for (pods, seconds) in [(0, 5), (2, 5), (250, 5), (500, 10), (2000, 40)] {
        assert_eq!(interval(pods).as_secs(), seconds, "{pods}");
    }
}

/// In paused time a round takes as long as it sleeps.
#[tokio::test(start_paused = true)]
async fn a_round_takes_its_interval_however_many_relays_there_are_and_stir() {
    for (relays, stirring) in [
        (0, 0),
        (1, 0),
        (5, 0),
        (16, 0),
        (100, 0),
        (1, 1),
        (100, 99),
        (100, 100),
    ] {
        let resting = Resting::default();
        for number in 0..relays {
            resting.begin(&relay(number), &[pod(number, Some(status()))]);
        }
        let start = tokio::time::Instant::now();
        let ask = |_, asked| async move {
            match (0..stirring).any(|number| asked == address(number)) {
                true => Answer::Silence,
                false => Answer::Said(Box::new(status())),
            }
        };
        resting.round(ask, async |_| ()).await;
        let seconds = start.elapsed().as_secs_f64();
        assert!(
            (5.0..6.0).contains(&seconds),
            "{relays}, {stirring}: {seconds}"
        );
    }
}
