//! The scheduler: filing a message, taking it, putting it off, taking it again when it is due, and forgetting it.

use std::borrow::Cow;
use std::sync::Arc;

use anyhow::{Context as _, ensure};
use postroad_config::{Delivery, Target};
use postroad_relay::route::Table;
use postroad_relay::schedule::{Filed, Opening, Reading, Schedule};
use postroad_relay::window::Answer;
use postroad_spool::{Author, DomainRun, IdGenerator, Queued};

use crate::HotPath;

/// Milliseconds since the epoch; any will do.
const NOW_MS: u64 = 1_700_000_000_000;

/// How long a message is put off.
const PAUSE_MS: u64 = 60_000;

/// What only waits is due after everything else is over.
const LATER_MS: u64 = NOW_MS + 30 * 24 * 3_600_000;

/// Domains that mail goes to.
const DOMAINS: usize = 1_000;

pub(crate) fn hot_paths() -> Vec<HotPath> {
    vec![
        HotPath {
            name: "schedule",
            unit: "message among 1000",
            times: 2_000,
            repeat: |times| by_route(times, 1_000),
        },
        HotPath {
            name: "schedule-many",
            unit: "message among 100000",
            times: 2_000,
            repeat: |times| by_route(times, 100_000),
        },
        HotPath {
            name: "schedule-direct",
            unit: "message among 1000 domains",
            times: 2_000,
            repeat: by_domain,
        },
    ]
}

/// To one recipient, at one of the domains in turn.
fn queued(ids: &IdGenerator, index: usize, due_ms: u64) -> Queued<'static> {
    let domain = format!("d{}.example.org", index % DOMAINS);
    Queued {
        id: ids.next(NOW_MS),
        arrival_ms: NOW_MS,
        bytes: 4096,
        recipients: 1,
        reportable: true,
        next_attempt_ms: due_ms,
        attempts: 0,
        delay_notified: false,
        settled: Cow::default(),
        sender_domain: "example.com".into(),
        credential: Cow::default(),
        author: Author::Submitter,
        priority: 0,
        not_before_ms: 0,
        deliver_by_ms: None,
        domains: vec![DomainRun {
            domain: domain.into(),
            recipients: 1,
        }],
    }
}

/// All goes to upstreams, over one connection; each message is deferred once.
fn by_route(times: usize, waiting: usize) -> anyhow::Result<()> {
    let mut schedule = Schedule::new(Arc::new(Table::new(&Delivery::default())));
    let ids = IdGenerator::new([7; 10]);
    for index in 0..waiting {
        schedule.insert(&queued(&ids, index, LATER_MS), NOW_MS);
    }
    let place = schedule.routes().next().context("no route")?.0;
    schedule.opened(place, NOW_MS);
    schedule.connected(place, NOW_MS);
    let mut now_ms = NOW_MS;
    for index in 0..times {
        ensure!(schedule.insert(&queued(&ids, index, now_ms), now_ms) == Filed::Queued);
        let taken = schedule.take(place, now_ms).context("nothing to take")?;
        let due_ms = now_ms + PAUSE_MS;
        schedule.settle(taken.ticket, &[], 1, false);
        schedule.release(taken.ticket, due_ms, Reading::Fine, now_ms);
        now_ms = due_ms;
        schedule.advance(now_ms);
        let taken = schedule.take(place, now_ms).context("it is not due")?;
        schedule.finish(taken.ticket, now_ms);
    }
    Ok(())
}

/// Each message goes over a connection of its own to its domain, where others wait.
fn by_domain(times: usize) -> anyhow::Result<()> {
    let table = Table::new(&Delivery {
        default_route: Target::Direct,
        ..Delivery::default()
    });
    let mut schedule = Schedule::new(Arc::new(table));
    let ids = IdGenerator::new([7; 10]);
    for index in 0..DOMAINS {
        schedule.insert(&queued(&ids, index, LATER_MS), NOW_MS);
    }
    for index in 0..times {
        ensure!(schedule.insert(&queued(&ids, index, NOW_MS), NOW_MS) == Filed::Queued);
        let (place, _) = schedule.open_domain(NOW_MS).context("no domain")?;
        schedule.connected(place, NOW_MS);
        let taken = schedule.take(place, NOW_MS).context("nothing to take")?;
        schedule.answered(place, Answer::Final, NOW_MS);
        schedule.finish(taken.ticket, NOW_MS);
        schedule.closed(place, Opening::Done, NOW_MS);
    }
    Ok(())
}
