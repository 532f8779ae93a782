//! What is said of the way that mail takes, given what each replica has found.

use k8s_openapi::api::core::v1::{PodSpec, Volume};
use postroad_config::status::DirectStatus;

use super::*;
use crate::controller::status::upstreams::verdict;
use crate::controller::status::voices::Verdict;
use crate::controller::validate::Ways;

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
    said_with(found, &[&UPSTREAMS], false)
}

/// What is said where mail takes these ways.
fn said_with(found: &Found, ways: &[&[&str]], direct: bool) -> Verdict {
    let mut validated = prepare(&sample("minimal"), &nothing()).validated;
    let names = |names: &&[&str]| names.iter().map(|&name| name.to_owned()).collect();
    validated.ways = Ways {
        upstreams: ways.iter().map(names).collect(),
        direct,
    };
    verdict(&Voices::of(found), &validated)
}

#[test]
fn each_way_that_leads_nowhere_shows() {
    let all: &[&[&str]] = &[&UPSTREAMS];
    let apart: &[&[&str]] = &[&["backup"], &["provider"]];
    let first: &[&[&str]] = &[&["provider"]];
    for (ways, states, holds, reason) in [
        (all, "-+", Some(true), "FallbackInUse"),
        (apart, "-+", Some(false), "AuthenticationFailed"),
        (apart, "+-", Some(false), "AuthenticationFailed"),
        (apart, "++", Some(true), "Delivering"),
        // What no mail goes through is of no concern.
        (first, "+-", Some(true), "Delivering"),
        (first, "-+", Some(false), "AuthenticationFailed"),
    ] {
        let found = found(vec![pod(0, Some(says(states)))]);
        let verdict = said_with(&found, ways, false);
        let said = (verdict.holds, verdict.reason.as_str());
        assert_eq!(said, (holds, reason), "{ways:?} {states}");
    }
}

/// A pod that delivers directly.
fn direct(working: u64, failing: u64) -> Found {
    let mut status = says("");
    status.direct = Some(DirectStatus {
        working,
        failing,
        failure: (failing > 0).then(|| UpstreamFailure {
            reason: FailureReason::ConnectionTimedOut,
            message: "mx.example.com:25 does not answer".into(),
        }),
    });
    found(vec![pod(0, Some(status))])
}

#[test]
fn direct_delivery_is_out_of_order_when_several_domains_fail_and_none_works() {
    for (working, failing, holds, reason) in [
        (0, 0, Some(true), "Direct"),
        (0, 2, Some(true), "Direct"),
        (0, 3, Some(false), "ConnectionTimedOut"),
        (1, 0, Some(true), "Delivering"),
        (1, 900, Some(true), "Delivering"),
    ] {
        let verdict = said_with(&direct(working, failing), &[], true);
        let said = (verdict.holds, verdict.reason.as_str());
        assert_eq!(said, (holds, reason), "{working} {failing}");
    }
    let message = said_with(&direct(0, 3), &[], true).message;
    let expected = "replica 0 cannot reach the mail exchanger of any domain: mx.example.com:25 does not answer; mail is kept and tried again";
    assert_eq!(message, expected);
    // A former configuration may still speak of it.
    let unused = said_with(&direct(0, 3), &[&UPSTREAMS], false);
    assert_eq!(unused.reason, "NotTried");
}

#[test]
fn a_failing_upstream_is_named_with_what_it_said_and_to_whom() {
    for (replicas, message) in [
        (
            &[(1, "--")][..],
            "replica 1 cannot send through provider: provider said 535; mail is kept and tried again",
        ),
        (
            &[(0, "-"), (1, "-")],
            "no replica can send through provider: provider said 535; mail is kept and tried again",
        ),
        (
            &[(0, "-"), (1, "+"), (2, "-")],
            "replicas 0 and 2 cannot send through provider: provider said 535; mail is kept and tried again",
        ),
        (
            &[(0, "-"), (1, "-"), (2, "-"), (3, "?")],
            "replicas 0, 1 and 2 cannot send through provider: provider said 535; mail is kept and tried again",
        ),
        (
            &[(0, "-+"), (1, "-+")],
            "mail goes through another upstream: no replica can send through provider: provider said 535",
        ),
        (
            &[(0, "++"), (1, "-+")],
            "mail goes through another upstream: replica 1 cannot send through provider: provider said 535",
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

/// A pod that mounts these, whose upstreams are in these states.
fn made_with(ordinal: u32, volumes: &[&str], states: &str, reason: FailureReason) -> FoundPod {
    let mut status = says(states);
    for failure in status
        .upstreams
        .iter_mut()
        .filter_map(|one| one.failure.as_mut())
    {
        failure.reason = reason;
    }
    let volumes = volumes.iter().map(|&name| Volume {
        name: name.into(),
        ..Volume::default()
    });
    let spec = PodSpec {
        volumes: Some(volumes.collect()),
        ..PodSpec::default()
    };
    FoundPod {
        pod: Arc::new(Pod {
            spec: Some(spec),
            ..Pod::default()
        }),
        ..pod(ordinal, Some(status))
    }
}

#[test]
fn a_pod_that_was_made_before_a_secret_was_named_is_replaced_and_not_told_of_as_failing() {
    use FailureReason::{AuthenticationFailed, CredentialsMissing, TlsFailed};
    const BOTH: &[&str] = &["config", "login-provider", "ca-provider"];
    const OLD: &[&str] = &["config", "login-provider"];
    for (old, reason, states, wanted, holds, said) in [
        (OLD, TlsFailed, ["-", "+"], 2, Some(true), "Delivering"),
        (
            &["ca-provider"],
            CredentialsMissing,
            ["-", "+"],
            2,
            Some(true),
            "Delivering",
        ),
        (OLD, TlsFailed, ["-", "-"], 2, Some(false), "TLSFailed"),
        (OLD, TlsFailed, ["-", "?"], 2, None, "RollingOut"),
        (OLD, TlsFailed, ["-+", "?"], 2, Some(true), "Delivering"),
        // It has been told of the Secret, and there is nothing in it, or something else is wrong.
        (BOTH, TlsFailed, ["-", "+"], 2, Some(false), "TLSFailed"),
        (
            OLD,
            AuthenticationFailed,
            ["-", "+"],
            2,
            Some(false),
            "AuthenticationFailed",
        ),
        // It drains, and nobody replaces it.
        (OLD, TlsFailed, ["+", "-"], 1, Some(false), "TLSFailed"),
    ] {
        let (first, second) = if wanted == 2 {
            (old, BOTH)
        } else {
            (BOTH, old)
        };
        let found = found(vec![
            made_with(0, first, states[0], reason),
            made_with(1, second, states[1], reason),
        ]);
        let mut validated = prepare(&sample("minimal"), &nothing()).validated;
        validated.replicas = wanted;
        validated.upstreams[0].authority = Some(("ca".into(), "ca.crt".into()));
        validated.ways.upstreams = vec![UPSTREAMS.map(str::to_owned).to_vec()];
        let voices = Voices::of(&found);
        let told = verdict(&voices, &validated);
        let case = format!("{old:?} {states:?}");
        assert_eq!((told.holds, told.reason.as_str()), (holds, said), "{case}");
        assert!(
            !told.message.contains("said 535") || holds == Some(false),
            "{case}"
        );
        // Its pods stay as they are.
        validated.pods_refused = Some(Refusal {
            reason: "ImageNotAllowed",
            message: String::new(),
        });
        if states[0] == "-" {
            assert_eq!(verdict(&voices, &validated).holds, Some(false), "{case}");
        }
    }
}
