//! Whether accepted mail reaches a next hop.
//!
//! Mail takes one of several ways: lists of upstreams that stand in for each other, one for each route that names some and one for
//! the rest, and directly to the mail exchangers of its recipients. One that leads nowhere is what is told first.

use postroad_config::status::{
    DirectStatus, FailureReason, UpstreamFailure, UpstreamState, UpstreamStatus,
};

use super::voices::{Verdict, Voices, nobody};
use crate::controller::build::lacks;
use crate::controller::dereference::FoundPod;
use crate::controller::validate::Validated;
use crate::names::{KEY_PASSWORD, KEY_USERNAME};

/// So many domains fail, and none works, before the fault is sought on this side: one or two may be out of order themselves.
const DOMAINS_MIN: u64 = 3;

/// Reason of `UpstreamReady`: nothing goes to an upstream, and no domain has been reached lately.
pub(super) const NOT_NEEDED: &str = "Direct";

/// False if one replica has found all upstreams of a way failing, with the reason of its first choice, or every domain.
/// True if every replica that has tried reaches at least one. Unknown if none has tried an upstream, or can before its pod is replaced.
pub(super) fn verdict(voices: &Voices<'_>, validated: &Validated) -> Verdict {
    let (mut stuck, mut detouring, mut sends) = (Failing::default(), Failing::default(), false);
    let mut awaiting = None;
    for (pod, status) in &voices.heard {
        let awaits = |upstream: &UpstreamStatus| awaits_pod(pod, upstream, validated);
        let awaited = status.upstreams.iter().find(|one| awaits(one));
        awaiting = awaiting.or(awaited.map(|upstream| (pod.ordinal, &upstream.name)));
        for names in &validated.ways.upstreams {
            match Way::of(names, &status.upstreams, awaits) {
                Way::None(first) => stuck.add(pod.ordinal, first.into()),
                Way::Detour(first) => detouring.add(pod.ordinal, first.into()),
                Way::Straight => sends = true,
                Way::Untried => {}
            }
        }
        if let Some(direct) = status.direct.as_ref().filter(|_| validated.ways.direct) {
            if is_stuck(direct) {
                stuck.add(pod.ordinal, direct.into());
            }
            sends |= direct.working > 0;
        }
    }
    let everybody = voices.heard.len() + voices.silent.len();
    if let Some(failure) = stuck.describe(everybody, validated) {
        let Failure { reason, message } = failure;
        let message = format!("{message}; mail is kept and tried again");
        Verdict::new(Some(false), reason, message)
    } else if let Some(Failure { message, .. }) = detouring.describe(everybody, validated) {
        let message = format!("mail goes through another upstream: {message}");
        Verdict::new(Some(true), "FallbackInUse", message)
    } else if voices.heard.is_empty() {
        nobody()
    } else if sends {
        Verdict::new(Some(true), "Delivering", "mail reaches a next hop")
    } else if let Some((ordinal, name)) = awaiting {
        let message = format!(
            "replica {ordinal} cannot send through {name} until its pod is replaced: it was made before a Secret was named there"
        );
        Verdict::new(None, "RollingOut", message)
    } else if validated.ways.upstreams.is_empty() {
        let message = "mail goes to each domain by itself; none was reached within the last hour";
        Verdict::new(Some(true), NOT_NEEDED, message)
    } else {
        Verdict::new(None, "NotTried", "no replica has tried an upstream yet")
    }
}

/// Whether an upstream fails only because the pod was made before a Secret was named for it: that is no failure, as long as the pod is going to be
/// replaced, which one that drains is not.
fn awaits_pod(pod: &FoundPod, upstream: &UpstreamStatus, validated: &Validated) -> bool {
    let Some(failure) = &upstream.failure else {
        return false;
    };
    let is_for_files = matches!(
        failure.reason,
        FailureReason::CredentialsMissing | FailureReason::TlsFailed
    );
    let is_replaced = pod.ordinal < validated.replicas && validated.pods_refused.is_none();
    let mut upstreams = validated.upstreams.iter();
    let files = upstreams.find(|files| files.name == upstream.name);
    is_for_files && is_replaced && files.is_some_and(|files| lacks(&pod.pod, files))
}

/// Whether mail reaches no domain at all.
const fn is_stuck(direct: &DirectStatus) -> bool {
    direct.working == 0 && direct.failing >= DOMAINS_MIN
}

/// What of it is looked at here: which domain failed last is not.
pub(super) fn shown_direct(direct: &DirectStatus) -> DirectStatus {
    DirectStatus {
        working: direct.working.min(1),
        failing: direct.failing.min(DOMAINS_MIN),
        failure: direct.failure.clone().filter(|_| is_stuck(direct)),
    }
}

/// How the mail of one replica goes.
enum Way<'a> {
    Straight,
    /// Not through this one, which is preferred.
    Detour(&'a UpstreamStatus),
    /// Through none; the first choice.
    None(&'a UpstreamStatus),
    Untried,
}

impl<'a> Way<'a> {
    /// What awaits another pod counts as untried.
    fn of(
        names: &[String],
        upstreams: &'a [UpstreamStatus],
        awaits: impl Fn(&UpstreamStatus) -> bool,
    ) -> Self {
        let upstreams: Vec<_> = names
            .iter()
            .filter_map(|name| upstreams.iter().find(|upstream| upstream.name == *name))
            .collect();
        let fails = |upstream: &&UpstreamStatus| {
            upstream.state == UpstreamState::Failing && !awaits(upstream)
        };
        let works = |upstream: &&UpstreamStatus| upstream.state == UpstreamState::Ready;
        match upstreams.iter().position(works) {
            Some(position) => {
                let mut preferred = upstreams.iter().take(position).copied();
                preferred.find(fails).map_or(Self::Straight, Self::Detour)
            }
            None if upstreams.iter().all(fails) => upstreams
                .first()
                .map_or(Self::Untried, |first| Self::None(first)),
            None => Self::Untried,
        }
    }
}

/// What fails.
#[derive(Clone, Copy)]
struct Fault<'a> {
    /// The upstream; `None` if it is direct delivery.
    upstream: Option<&'a str>,
    failure: Option<&'a UpstreamFailure>,
}

impl<'a> From<&'a UpstreamStatus> for Fault<'a> {
    fn from(upstream: &'a UpstreamStatus) -> Self {
        Self {
            upstream: Some(&upstream.name),
            failure: upstream.failure.as_ref(),
        }
    }
}

impl<'a> From<&'a DirectStatus> for Fault<'a> {
    fn from(direct: &'a DirectStatus) -> Self {
        Self {
            upstream: None,
            failure: direct.failure.as_ref(),
        }
    }
}

/// Replicas whose mail does not go a way, and what the first of them was told.
#[derive(Default)]
struct Failing<'a> {
    ordinals: Vec<u32>,
    first: Option<Fault<'a>>,
}

struct Failure<'a> {
    reason: &'a str,
    message: String,
}

impl<'a> Failing<'a> {
    fn add(&mut self, ordinal: u32, fault: Fault<'a>) {
        if !self.ordinals.contains(&ordinal) {
            self.ordinals.push(ordinal);
        }
        self.first.get_or_insert(fault);
    }

    fn describe(&self, everybody: usize, validated: &Validated) -> Option<Failure<'a>> {
        let Fault { upstream, failure } = self.first?;
        let who = cannot(&self.ordinals, everybody);
        let (reason, what) = match failure {
            Some(failure) => (
                failure.reason.as_str(),
                upstream
                    .and_then(|name| missing_login(failure.reason, name, validated))
                    .unwrap_or_else(|| failure.message.clone()),
            ),
            // The contract says that it is set.
            None => ("Failing", "no reason given".into()),
        };
        let message = match upstream {
            Some(name) => format!("{who} send through {name}: {what}"),
            None => format!("{who} reach the mail exchanger of any domain: {what}"),
        };
        Some(Failure { reason, message })
    }
}

/// Where the login comes from: the relay knows only the file that it has become.
fn missing_login(reason: FailureReason, upstream: &str, validated: &Validated) -> Option<String> {
    let mut upstreams = validated.upstreams.iter();
    let secret = upstreams
        .find(|files| files.name == upstream)?
        .login
        .as_ref()?;
    (reason == FailureReason::CredentialsMissing).then(|| {
        format!(
            "Secret {secret:?} has to have a value under {KEY_USERNAME:?} and under {KEY_PASSWORD:?}, and has not given both to the pods yet"
        )
    })
}

fn cannot(ordinals: &[u32], everybody: usize) -> String {
    match ordinals {
        [ordinal] => format!("replica {ordinal} cannot"),
        _ if ordinals.len() == everybody => "no replica can".to_owned(),
        [some @ .., last] => {
            let some: Vec<_> = some.iter().map(u32::to_string).collect();
            format!("replicas {} and {last} cannot", some.join(", "))
        }
        [] => "nobody can".to_owned(),
    }
}
