//! Whether accepted mail reaches a next hop.

use postroad_config::status::{FailureReason, UpstreamState, UpstreamStatus};

use super::voices::{Verdict, Voices, nobody};
use crate::controller::validate::Validated;
use crate::names::{KEY_PASSWORD, KEY_USERNAME};

/// False if one replica has found all upstreams failing, with the reason of its first choice.
/// True if every replica that has tried reaches at least one. Unknown if none has tried.
pub(super) fn verdict(voices: &Voices<'_>, validated: &Validated) -> Verdict {
    let (mut stuck, mut detouring, mut sends) = (Failing::default(), Failing::default(), false);
    for (pod, status) in &voices.heard {
        match Way::of(&status.upstreams) {
            Way::None(first) => stuck.add(pod.ordinal, first),
            Way::Detour(first) => detouring.add(pod.ordinal, first),
            Way::Straight => sends = true,
            Way::Untried => {}
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
    } else if sends {
        Verdict::new(Some(true), "Delivering", "mail reaches an upstream")
    } else if voices.heard.is_empty() {
        nobody()
    } else {
        Verdict::new(None, "NotTried", "no replica has tried an upstream yet")
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
    fn of(upstreams: &'a [UpstreamStatus]) -> Self {
        let fails = |upstream: &UpstreamStatus| upstream.state == UpstreamState::Failing;
        let works = |upstream: &UpstreamStatus| upstream.state == UpstreamState::Ready;
        match upstreams.iter().position(works) {
            Some(position) => {
                let mut preferred = upstreams[..position].iter();
                let failing = preferred.find(|upstream| fails(upstream));
                failing.map_or(Self::Straight, Self::Detour)
            }
            None if upstreams.iter().all(fails) => {
                upstreams.first().map_or(Self::Untried, Self::None)
            }
            None => Self::Untried,
        }
    }
}

/// Replicas that cannot use an upstream, and what the first of them was told.
#[derive(Default)]
struct Failing<'a> {
    ordinals: Vec<u32>,
    first: Option<&'a UpstreamStatus>,
}

struct Failure<'a> {
    reason: &'a str,
    message: String,
}

impl<'a> Failing<'a> {
    fn add(&mut self, ordinal: u32, upstream: &'a UpstreamStatus) {
        if !self.ordinals.contains(&ordinal) {
            self.ordinals.push(ordinal);
        }
        self.first.get_or_insert(upstream);
    }

    fn describe(&self, everybody: usize, validated: &Validated) -> Option<Failure<'a>> {
        let upstream = self.first?;
        let who = cannot(&self.ordinals, everybody);
        let (reason, what) = match &upstream.failure {
            Some(failure) => (
                failure.reason.as_str(),
                missing_login(failure.reason, &upstream.name, validated)
                    .unwrap_or_else(|| failure.message.clone()),
            ),
            // The contract says that it is set.
            None => ("Failing", "no reason given".into()),
        };
        let message = format!("{who} send through {}: {what}", upstream.name);
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
