//! What is said of the way that mail takes, given what each replica has found.

use super::*;
use crate::controller::status::upstreams::verdict;
use crate::controller::status::voices::Verdict;

#[test]
fn an_upstream_is_ready_if_every_replica_that_has_tried_reaches_one() {
    for (replicas, holds, reason) in [
        (&[][..], None, "NoAnswer"),
        (&["?", "?"], None, "NotTried"),
        (&["+", "?"], Some(true), "Delivering"),
        (&["+", "+"], Some(true), "Delivering"),
        (&["+", "-"], Some(false), "AuthenticationFailed"),
        (&["-", "?"], Some(false), "AuthenticationFailed"),
        (&["--", "+?"], Some(false), "AuthenticationFailed"),
        (&["-?"], None, "NotTried"),
        (&["-+", "-+"], Some(true), "FallbackInUse"),
        (&["?+"], Some(true), "Delivering"),
        (&[""], None, "NotTried"),
    ] {
        let pods = (0..)
            .zip(replicas)
            .map(|(n, states)| pod(n, Some(says(states))))
            .collect();
        let found = found(pods);
        let verdict = upstreams_of(&found);
        assert_eq!(
            (verdict.holds, verdict.reason.as_str()),
            (holds, reason),
            "{replicas:?}"
        );
    }
}

fn upstreams_of(found: &Found) -> Verdict {
    let validated = prepare(&sample("minimal"), &nothing()).validated;
    verdict(&Voices::of(found), &validated)
}

#[test]
fn a_failing_upstream_is_named_with_what_it_said_and_to_whom() {
    for (replicas, message) in [
        (
            &[(1, "--")][..],
            "replica 1 cannot send through u0: u0 said 535; mail is kept and tried again",
        ),
        (
            &[(0, "-"), (1, "-")],
            "no replica can send through u0: u0 said 535; mail is kept and tried again",
        ),
        (
            &[(0, "-"), (1, "+"), (2, "-")],
            "replicas 0 and 2 cannot send through u0: u0 said 535; mail is kept and tried again",
        ),
        (
            &[(0, "-"), (1, "-"), (2, "-"), (3, "?")],
            "replicas 0, 1 and 2 cannot send through u0: u0 said 535; mail is kept and tried again",
        ),
        (
            &[(0, "-+"), (1, "-+")],
            "mail goes through another upstream: no replica can send through u0: u0 said 535",
        ),
        (
            &[(0, "++"), (1, "-+")],
            "mail goes through another upstream: replica 1 cannot send through u0: u0 said 535",
        ),
    ] {
        let pods = replicas
            .iter()
            .map(|&(ordinal, states)| pod(ordinal, Some(says(states))));
        assert_eq!(upstreams_of(&found(pods.collect())).message, message);
    }
}

#[test]
fn a_login_that_is_missing_is_named_by_its_secret() {
    let found = with(|status| {
        status.upstreams = upstreams("-");
        status.upstreams[0].name = "provider".into();
        status.upstreams[0].failure = Some(UpstreamFailure {
            reason: FailureReason::CredentialsMissing,
            message: "no login: /etc/postroad/upstreams/provider/username is not there".into(),
        });
    });
    let message = upstreams_of(&found).message;
    assert!(message.contains("Secret \"provider-login\""), "{message}");
    assert!(!message.contains("/etc/"), "{message}");
}
