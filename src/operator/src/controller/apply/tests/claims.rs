//! Claims are deleted with what they are deleted for, and grow where they can.

use k8s_openapi::api::core::v1::PersistentVolumeClaim;

use super::*;

/// The two replicas of a relay without their pods, and the claim of the second one.
fn with_claim(change: impl FnOnce(&mut PersistentVolumeClaim)) -> Found {
    let mut found = serving(&prepare(&sample("minimal"), &nothing()));
    change(Arc::make_mut(found.claims.get_mut(&1).unwrap()));
    found
}

#[tokio::test]
async fn a_claim_that_may_hold_mail_goes_only_with_the_pod_that_has_mounted_it() {
    let never_bound = |claim: &mut PersistentVolumeClaim| {
        claim.spec.as_mut().unwrap().volume_name = None;
    };
    let lost = |claim: &mut PersistentVolumeClaim| {
        claim.status.get_or_insert_default().phase = Some("Lost".into());
    };
    let deletes = [
        "DELETE deployments/mail-1",
        "DELETE persistentvolumeclaims/mail-1",
    ];
    for (found, expected) in [
        (with_claim(|_| ()), &[][..]),
        (with_claim(never_bound), &deletes),
        (with_pods(with_claim(|_| ())), &deletes),
        (with_claim(lost), &[]),
        (with_pods(with_claim(lost)), &deletes),
        (
            with_pods(with_claim(|claim| {
                claim.metadata.creation_timestamp = None;
            })),
            &[],
        ),
    ] {
        let (server, told) = take_of(&found, Some(Step::Remove(1)), |server| server).await;
        let deleted = server.written().into_iter();
        let deleted: Vec<_> = deleted.filter(|line| line.starts_with("DELETE ")).collect();
        assert_eq!(deleted, expected);
        assert_eq!(told.is_empty(), expected.is_empty());
    }
}

/// The two replicas of a relay, of which the claim of the second one asks for this much.
fn with_size(size: &'static str) -> Found {
    with_claim(move |claim| {
        let resources = claim.spec.as_mut().unwrap().resources.as_mut().unwrap();
        let requests = resources.requests.as_mut().unwrap();
        requests.get_mut("storage").unwrap().0 = size.into();
    })
}

#[tokio::test]
async fn a_claim_that_cannot_grow_is_not_asked_at_each_visit() {
    let path = "PATCH persistentvolumeclaims/mail-1";
    let mut found = with_size("512Mi");
    let server = Server::of(&found).answering(path, 403, failure(403, "Forbidden").1);
    let server = Arc::new(server);
    let context = context(&server);
    let asked = || server.written().iter().filter(|line| *line == path).count();
    for told in [&["VolumeNotGrown"][..], &[], &[]] {
        assert_eq!(visit(&context, None, &found, None).await, told);
        assert_eq!(asked(), 1);
    }
    // Another claim of that name is another matter.
    let claim = Arc::make_mut(found.claims.get_mut(&1).unwrap());
    claim.metadata.uid = Some("another".into());
    visit(&context, None, &found, None).await;
    assert_eq!(asked(), 2);
}

#[tokio::test]
async fn claims_grow_and_never_shrink_and_one_that_cannot_holds_up_nothing() {
    let path = "PATCH persistentvolumeclaims/mail-1";
    let claim = || json!({"apiVersion": "v1", "kind": "PersistentVolumeClaim", "metadata": {}});
    // The relay asks for 1Gi.
    for (size, code, grows) in [
        ("512Mi", 200, true),
        ("1Gi", 200, false),
        ("2Gi", 200, false),
        ("1.5Gi", 200, false),
        ("512Mi", 403, true),
        ("512Mi", 422, true),
    ] {
        let (reason, told_of) = match code {
            403 => ("Forbidden", &["VolumeNotGrown", "ReplicaRestarted"][..]),
            422 => ("Invalid", &["VolumeNotGrown", "ReplicaRestarted"][..]),
            _ => ("", &["ReplicaRestarted"][..]),
        };
        let answer = match code {
            200 => claim(),
            code => failure(code, reason).1,
        };
        let (server, told) = take_of(&with_size(size), Some(Step::Restart(0)), |server| {
            server.answering(path, code, answer.clone())
        })
        .await;
        let patched = server.written().contains(&path.to_owned());
        assert_eq!(
            (patched, told.as_slice()),
            (grows, told_of),
            "{size} {code}"
        );
    }
}

#[tokio::test]
async fn a_copy_of_a_claim_with_its_labels_is_no_news() {
    let found = serving(&prepare(&sample("minimal"), &nothing()));
    let claims = found.claims.values().map(|claim| json!(claim.metadata));
    let mut copy = json!(found.claims[&1].metadata);
    copy["name"] = json!("mail-1-copy");
    let listed = list(claims.chain([copy]));
    let (_, told) = take(Some(Step::Restart(0)), |server| {
        server.answering("GET persistentvolumeclaims", 200, listed.clone())
    })
    .await;
    assert_eq!(told, ["ReplicaRestarted"]);
}
