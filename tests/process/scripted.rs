//! Whatever a next hop does, each message has the outcome that it should, and nobody else's mail notices.
//!
//! The scripts are a table. All of them run against hops that speak as little as a server may, that offer PIPELINING, and
//! that offer CHUNKING; those that a real server can be made to do run against aiosmtpd as well.

#[path = "scripted/cases.rs"]
mod cases;

use std::time::{Duration, Instant};

use futures::future::join_all;
use harness::hop::{CONNECT, END, Hop};
use harness::peer::Scripted;
use harness::relay::Relay;
use harness::{PATIENCE, eventually};
use postroad_config::status::{FailureReason, RelayStatus, UpstreamState};
use postroad_config::{Action, ListenerName, Match, Override, Route, Target, Upstream};

use cases::Expected::{Bounced, Deferred, Delivered, Held, SenderRejected};
use cases::{Case, ENDS, GOODBYES, MANNERS, NONSENSE, REFUSALS, SILENCE, SILENT, case};
use harness::hop::Act::{Cut, Hang, Say};

/// Scripts that share a relay: the status shows ten destinations, and one more is for reports.
const TOGETHER: usize = 8;

/// Who acts out a script.
enum Actor {
    Hop(Hop),
    Aiosmtpd(Scripted),
}

impl Actor {
    fn port(&self) -> u16 {
        match self {
            Self::Hop(hop) => hop.port,
            Self::Aiosmtpd(server) => server.port,
        }
    }

    fn mend(&self) {
        match self {
            Self::Hop(hop) => hop.mend(),
            Self::Aiosmtpd(server) => server.mend(),
        }
    }

    fn copies(&self) -> usize {
        match self {
            Self::Hop(hop) => hop.count(),
            Self::Aiosmtpd(server) => server.count(),
        }
    }
}

/// A script, and who acts it out; upstream, route and domain are called the same.
struct Scene {
    name: String,
    case: Case,
    actor: Actor,
}

impl Scene {
    async fn with_hop(number: usize, case: Case, keywords: &[&'static str]) -> Self {
        let Case { step, act, .. } = case;
        let hop = Hop::start(keywords, move |heard, _| {
            heard.starts_with(step).then_some(act)
        })
        .await;
        Self {
            name: format!("case{number}"),
            case,
            actor: Actor::Hop(hop),
        }
    }

    async fn with_aiosmtpd(number: usize, case: Case) -> Self {
        let Case { step, act, .. } = case;
        let (Say(reply) | Cut(reply) | Hang(reply)) = act;
        Self {
            name: format!("case{number}"),
            case,
            actor: Actor::Aiosmtpd(Scripted::start(step, reply).await),
        }
    }

    /// Whether the status shows what is expected.
    fn shows(&self, status: &RelayStatus) -> bool {
        let all = &status.queue.destinations;
        let found = all.iter().find(|one| one.destination == self.name);
        let waiting = found.map_or((0, 0), |one| (one.messages, one.deferred));
        let mut upstreams = status.upstreams.iter();
        let upstream = upstreams.find(|one| one.name == self.name).unwrap();
        match self.case.expected {
            Delivered | Bounced => waiting == (0, 0),
            Deferred => waiting == (1, 1),
            SenderRejected => {
                let rejected = upstream.sender_rejected.as_ref();
                let sender = format!("{}@home.example", self.name);
                waiting == (1, 1)
                    && upstream.state == UpstreamState::Ready
                    && rejected.is_some_and(|one| one.sender == sender && one.senders == 1)
            }
            Held(reason) => {
                let failure = upstream.failure.as_ref();
                waiting == (1, 0)
                    && upstream.state == UpstreamState::Failing
                    && failure.is_some_and(|failure| failure.reason == reason)
            }
        }
    }
}

/// A relay with a route to each scene and one for everything else, which tries again only when it is told to.
fn relay(scenes: &[Scene], home: &Hop) -> Relay {
    let mut relay = Relay::for_port(home.port);
    let delivery = &mut relay.config.delivery;
    let template = delivery.upstreams[0].clone();
    delivery.default_route = Target::Upstreams(vec![template.name.clone()]);
    for Scene { name, actor, .. } in scenes {
        delivery.upstreams.push(Upstream {
            name: name.clone(),
            port: actor.port(),
            ..template.clone()
        });
        delivery.routes.push(Route {
            name: name.clone(),
            matches: Match {
                recipients: vec![format!("{name}.example").parse().unwrap()],
                ..Match::default()
            },
            to: Target::Upstreams(vec![name.clone()]),
        });
    }
    delivery.retry.initial_seconds = 3600;
    delivery.retry.maximum_seconds = 3600;
    relay
}

async fn submit(relay: &Relay, scenes: &[Scene]) {
    let mut client = relay.login(ListenerName::Submission).await.unwrap();
    let mut sent: Vec<(&str, Vec<u8>)> = scenes
        .iter()
        .map(|scene| (scene.name.as_str(), scene.case.content()))
        .collect();
    // What takes long goes first: the others would be tried for the third time before anybody looks.
    sent.sort_by_key(|(_, content)| std::cmp::Reverse(content.len()));
    for (name, content) in sent {
        let (from, to) = (format!("{name}@home.example"), format!("b@{name}.example"));
        let reply = client.message(&from, &[&to], &content).await.unwrap();
        assert_eq!(reply.code, 250, "{reply:?}");
    }
}

/// Runs some scenes side by side: what becomes of the messages, then the mend, then what has arrived.
async fn check(manner: &'static str, scenes: Vec<Scene>) {
    let home = Hop::start(&["8BITMIME"], |_, _| None).await;
    let mut relay = relay(&scenes, &home);
    relay.start().await;
    submit(&relay, &scenes).await;
    // Seen once is enough: what is held goes on being tried, and is put off the third time.
    let mut pending: Vec<&Scene> = scenes.iter().collect();
    let patience = Instant::now() + PATIENCE;
    while !pending.is_empty() {
        let status = relay.status().await;
        pending.retain(|scene| !scene.shows(&status));
        let cases: Vec<&Case> = pending.iter().map(|scene| &scene.case).collect();
        assert!(
            Instant::now() < patience,
            "{manner}: {cases:#?} {status:#?}"
        );
    }
    scenes.iter().for_each(|scene| scene.actor.mend());
    relay.config.delivery.overrides.push(Override {
        name: "now".into(),
        matches: Match::default(),
        arrived_before: None,
        action: Action::Flush,
    });
    relay.write_config();
    relay.drained().await;
    let reports = home.reports();
    for Scene { name, case, actor } in &scenes {
        let told = format!("RCPT TO:<{name}@home.example>");
        let told = reports
            .iter()
            .filter(|report| report.recipients.contains(&told));
        let expected = (case.copies, usize::from(case.expected == Bounced));
        assert_eq!(
            (actor.copies(), told.count()),
            expected,
            "{manner}: {case:?}"
        );
    }
}

/// Runs all cases with all hops.
async fn check_all(cases: &'static [Case]) {
    let mut checks = Vec::new();
    for (manner, keywords) in MANNERS {
        let apt = cases.iter().filter_map(|case| match manner {
            "chunking" => case.chunked(),
            _ => Some(*case),
        });
        let apt: Vec<Case> = apt.collect();
        for some in apt.chunks(TOGETHER) {
            let mut scenes = Vec::new();
            for (number, case) in some.iter().enumerate() {
                scenes.push(Scene::with_hop(number, *case, keywords).await);
            }
            checks.push(check(manner, scenes));
        }
    }
    join_all(checks).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_refusal_is_for_now_or_for_good_as_its_code_says() {
    check_all(REFUSALS).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_hop_that_wants_no_mail_holds_it_and_costs_no_attempt() {
    check_all(GOODBYES).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_connection_that_ends_before_the_reply_loses_nothing() {
    check_all(ENDS).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn replies_that_are_none_are_never_taken_for_yes() {
    check_all(NONSENSE).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn aiosmtpd_is_understood_whatever_it_says() {
    let cases = [REFUSALS, ENDS].concat();
    let cases: Vec<Case> = cases.into_iter().filter(Case::is_for_aiosmtpd).collect();
    assert_eq!(cases.len(), 11);
    for some in cases.chunks(TOGETHER) {
        let mut scenes = Vec::new();
        for (number, case) in some.iter().enumerate() {
            scenes.push(Scene::with_aiosmtpd(number, *case).await);
        }
        check("aiosmtpd", scenes).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn silence_holds_up_nobody_elses_mail_and_no_message_is_lost_over_it() {
    let mut scenes = Vec::new();
    for (number, step) in SILENCE.iter().enumerate() {
        let copies = if *step == END { 2 } else { 1 };
        let case = case(step, Hang("2"), SILENT, copies);
        scenes.push(Scene::with_hop(number, case, &[]).await);
    }
    let home = Hop::start(&[], |_, _| None).await;
    let mut relay = relay(&scenes, &home);
    relay.start().await;
    submit(&relay, &scenes).await;
    for Scene { case, actor, .. } in &scenes {
        let Actor::Hop(hop) = actor else { continue };
        eventually(case.step, async || (hop.asked(case.step) > 0).then_some(())).await;
    }
    let mut client = relay.login(ListenerName::Submission).await.unwrap();
    for _ in 0..20 {
        let sent = client.message(
            "a@example.com",
            &["b@elsewhere.example"],
            b"Subject: y\r\n\r\n",
        );
        assert_eq!(sent.await.unwrap().code, 250);
    }
    eventually("everybody else's mail", async || {
        (home.count() == 20).then_some(())
    })
    .await;
    assert_eq!(relay.status().await.queue.messages, SILENCE.len() as u64);
    relay.kill();
    scenes.iter().for_each(|scene| scene.actor.mend());
    relay.start().await;
    relay.drained().await;
    for Scene { case, actor, .. } in &scenes {
        assert_eq!(actor.copies(), case.copies, "{case:?}");
    }
    assert_eq!(home.count(), 20, "nothing twice, and no reports");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_hop_that_does_not_greet_is_given_up_after_a_minute() {
    let hop = Hop::start(&[], |heard, _| (heard == CONNECT).then_some(Hang("22"))).await;
    let mut relay = Relay::for_port(hop.port);
    relay.start().await;
    let begin = Instant::now();
    let failure = eventually("the failure", async || {
        relay.status().await.upstreams.remove(0).failure
    })
    .await;
    assert_eq!(failure.reason, FailureReason::ConnectionTimedOut);
    assert!(begin.elapsed() > Duration::from_secs(30));
}
