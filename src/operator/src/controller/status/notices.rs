//! What a change of conditions is worth saying as an event.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use postroad_api::ServiceType;

use super::conditions::{APPLY_FAILED, POD_NOT_STARTING, UPDATE_AVAILABLE};
use super::find;
use super::upstreams::NOT_NEEDED;
use crate::controller::validate::Validated;
use crate::events::Notice;

/// The events of a change.
pub(super) fn of(earlier: &[Condition], now: &[Condition]) -> Vec<Notice> {
    let mut notices = Vec::new();
    notices.extend(acceptance(earlier, now));
    notices.extend(starting(earlier, now));
    notices.extend(upstreams(earlier, now));
    notices.extend(queue(earlier, now));
    notices.extend(refusal(earlier, now));
    notices.extend(update(earlier, now));
    notices.extend(rejection(earlier, now));
    notices
}

/// What clients that are let in by their address mean on a Service that is reached from outside. Nobody can
/// see from here whether addresses get through.
pub(super) fn trust(validated: &Validated) -> Option<Notice> {
    let service = match validated.service_type {
        ServiceType::ClusterIP => return None,
        ServiceType::LoadBalancer | ServiceType::NodePort => validated.service_type.as_str(),
    };
    validated.trusts_networks.then(|| {
        let note = format!(
            "access.trustedNetworks is in force on a Service of type {service}: where a load balancer or proxy in \
             front of it hides the addresses of clients, everybody looks like it; make sure that none of the networks holds \
             such an address"
        );
        Notice::warning("TrustedNetworksReachable", "Accept", note)
    })
}

fn acceptance(earlier: &[Condition], now: &[Condition]) -> Option<Notice> {
    let before = find(earlier, "Accepted");
    let after = find(now, "Accepted")?;
    if before.is_some_and(|before| before.status == after.status && before.message == after.message)
    {
        return None;
    }
    Some(match after.status.as_str() {
        "True" => Notice::normal("Accepted", "Accept", after.message.clone()),
        _ => Notice::warning(
            "NotAccepted",
            "Accept",
            format!("{}: {}", after.reason, after.message),
        ),
    })
}

fn starting(earlier: &[Condition], now: &[Condition]) -> Option<Notice> {
    let after = arises(earlier, now, "Available", |condition| {
        condition.reason == POD_NOT_STARTING
    })?;
    let note = after.message.clone();
    Some(Notice::warning(POD_NOT_STARTING, "Start", note))
}

fn upstreams(earlier: &[Condition], now: &[Condition]) -> Option<Notice> {
    let before = find(earlier, "UpstreamReady").map(|c| (c.status.as_str(), c.reason.as_str()));
    let after = find(now, "UpstreamReady")?;
    match (before, after.status.as_str()) {
        (Some(("False", reason)), "False") if reason == after.reason => None,
        (_, "False") => {
            let note = format!("{}: {}", after.reason, after.message);
            Some(Notice::warning("UpstreamFailing", "Deliver", note))
        }
        // That nobody fails any more because nobody has tried is no recovery.
        (Some(("False", _)), "True") if after.reason != NOT_NEEDED => {
            let note = "Mail reaches a next hop again";
            Some(Notice::normal("UpstreamRecovered", "Deliver", note))
        }
        _ => None,
    }
}

fn queue(earlier: &[Condition], now: &[Condition]) -> Option<Notice> {
    let after = arises(earlier, now, "QueueHealthy", |condition| {
        condition.status == "False"
    })?;
    let note = format!("{}: {}", after.reason, after.message);
    Some(Notice::warning("QueueUnhealthy", "Keep", note))
}

fn refusal(earlier: &[Condition], now: &[Condition]) -> Option<Notice> {
    let after = arises(earlier, now, "Ready", |condition| {
        condition.reason == "ConfigurationRefused"
    })?;
    let note = after.message.clone();
    Some(Notice::warning("ConfigurationRefused", "Configure", note))
}

fn rejection(earlier: &[Condition], now: &[Condition]) -> Option<Notice> {
    let after = arises(earlier, now, "Progressing", |condition| {
        condition.reason == APPLY_FAILED
    })?;
    let note = after.message.clone();
    Some(Notice::warning(APPLY_FAILED, "Apply", note))
}

fn update(earlier: &[Condition], now: &[Condition]) -> Option<Notice> {
    let after = arises(earlier, now, "Progressing", |condition| {
        condition.reason == UPDATE_AVAILABLE
    })?;
    let note = after.message.clone();
    Some(Notice::normal(UPDATE_AVAILABLE, "Roll", note))
}

/// The condition, if it has become worth an event, or is so now for another reason.
fn arises<'a>(
    earlier: &[Condition],
    now: &'a [Condition],
    kind: &str,
    matters: fn(&Condition) -> bool,
) -> Option<&'a Condition> {
    let after = find(now, kind).filter(|condition| matters(condition))?;
    let before = find(earlier, kind).filter(|condition| matters(condition));
    before
        .is_none_or(|before| before.reason != after.reason)
        .then_some(after)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::controller::status::condition;

    fn upstream(holds: Option<bool>, reason: &str) -> Vec<Condition> {
        vec![condition(
            "UpstreamReady",
            holds,
            reason,
            "what was said",
            1,
        )]
    }

    #[test]
    fn failing_and_recovering_are_said_once() {
        let untried = upstream(None, "NotTried");
        let works = upstream(Some(true), "Delivering");
        let refused = upstream(Some(false), "ConnectionRefused");
        let login = upstream(Some(false), "AuthenticationFailed");
        for (before, after, reason) in [
            (&untried, &works, None),
            (&untried, &refused, Some("UpstreamFailing")),
            (&works, &refused, Some("UpstreamFailing")),
            (&refused, &refused, None),
            (&refused, &login, Some("UpstreamFailing")),
            (&login, &works, Some("UpstreamRecovered")),
            (&works, &works, None),
            (&refused, &upstream(Some(true), "Direct"), None),
        ] {
            let said: Vec<_> = of(before, after)
                .iter()
                .map(|notice| notice.reason)
                .collect();
            assert_eq!(
                said,
                reason.into_iter().collect::<Vec<_>>(),
                "{before:?} {after:?}"
            );
        }
    }

    #[test]
    fn the_first_acceptance_is_said_and_so_is_every_other_refusal() {
        let accepted = vec![condition("Accepted", Some(true), "Accepted", "in force", 1)];
        let missing = vec![condition("Accepted", Some(false), "SecretNotFound", "a", 1)];
        let other = vec![condition("Accepted", Some(false), "SecretNotFound", "b", 1)];
        for (before, after, reasons) in [
            (&Vec::new(), &accepted, vec!["Accepted"]),
            (&accepted, &accepted, vec![]),
            (&accepted, &missing, vec!["NotAccepted"]),
            (&missing, &other, vec!["NotAccepted"]),
            (&other, &accepted, vec!["Accepted"]),
        ] {
            let said: Vec<_> = of(before, after)
                .iter()
                .map(|notice| notice.reason)
                .collect();
            assert_eq!(said, reasons);
        }
    }
}
