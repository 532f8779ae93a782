//! Load against sink, over loopback.

use std::sync::Arc;

use crate::client::Target;
use crate::ledger::{Balance, Ledger};
use crate::load::{self, Body, Load, Report};
use crate::rig::local;
use crate::sink::{self, Manner};
use crate::tls::Tls;

const MESSAGES: usize = 40;

/// Everything sent once; what the load reports and what the ledger says.
fn run(manner: Manner, change: fn(&mut Load)) -> (Report, Balance) {
    let ledger = Arc::new(Ledger::new(MESSAGES));
    let report = local(async {
        let listener = sink::listen(([127, 0, 0, 1], 0).into()).unwrap();
        let mut target = Target::plain(listener.local_addr().unwrap()).unwrap();
        target.tls = manner.tls;
        let mut load = Load {
            target,
            sessions: 3,
            size: 100_000,
            ids: 0..MESSAGES,
            reuse: true,
            pipelining: false,
            body: Body::Data,
            rate: None,
            aborts: 0,
            domains: 7,
        };
        change(&mut load);
        tokio::select! {
            report = load::run(load, Arc::clone(&ledger)) => report.unwrap(),
            served = sink::run(listener, manner, Arc::clone(&ledger)) => panic!("{served:?}"),
        }
    });
    (report.unwrap(), ledger.balance())
}

const EVERYTHING: Balance = Balance {
    acknowledged: MESSAGES as u64,
    arrived: MESSAGES as u64,
    missing: 0,
    duplicates: 0,
    unrelayed: MESSAGES as u64,
};

#[test]
fn every_way_to_send_brings_everything_once() {
    type Change = fn(&mut Load);
    let ways: [(&str, Tls, Change); 7] = [
        ("plain", Tls::None, |_| {}),
        ("STARTTLS", Tls::Starttls, |_| {}),
        ("implicit TLS", Tls::Implicit, |_| {}),
        ("pipelining", Tls::None, |load| load.pipelining = true),
        ("BDAT", Tls::Implicit, |load| load.body = Body::Bdat),
        ("single", Tls::Starttls, |load| load.reuse = false),
        ("aborts", Tls::None, |load| load.aborts = 300),
    ];
    for (way, tls, change) in ways {
        let manner = Manner {
            tls,
            chunking: true,
            faults: Vec::new(),
        };
        let (report, balance) = run(manner, change);
        assert_eq!(report.first_refusal, None, "{way}");
        assert_eq!(balance, EVERYTHING, "{way}");
    }
}

#[test]
fn what_a_fault_hits_is_neither_promised_nor_there() {
    for rule in [
        "450@rcpt=300",
        "452@end=300",
        "drop@end=300",
        "421@mail=300",
    ] {
        let manner = Manner {
            faults: vec![rule.parse().unwrap()],
            ..Manner::default()
        };
        let (report, balance) = run(manner, |_| {});
        assert!(report.refused > 0, "{rule}");
        let good = MESSAGES as u64 - report.refused;
        assert_eq!(
            (balance.acknowledged, balance.arrived),
            (good, good),
            "{rule}"
        );
        assert_eq!((balance.missing, balance.duplicates), (0, 0), "{rule}");
    }
}

#[test]
fn a_server_that_does_not_chunk_is_told_from_one_that_refuses() {
    let (report, balance) = run(Manner::default(), |load| load.body = Body::Bdat);
    let reason = report.first_refusal.unwrap();
    assert_eq!(reason, "the server does not offer CHUNKING");
    assert_eq!(balance.arrived, 0);
}
