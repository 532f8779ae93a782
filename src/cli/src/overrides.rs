//! Changes `spec.delivery.overrides` of a relay: what the verbs that hold, flush and return mail do.
//!
//! What is done this way is part of the specification: whoever keeps that in a repository finds a difference there, and takes it up or
//! away. The list is changed as it stands, with the fields that this program does not know, and only if nobody has changed it
//! meanwhile.

use anyhow::{Context as _, bail, ensure};
use kube::Client;
use kube::api::{Api, ApiResource, DynamicObject, Patch, PatchParams};
use postroad_api::{Override, SmtpRelay};
use serde_json::{Value, json};

use crate::cluster::explain;

/// HTTP status of a change to what has changed meanwhile.
const CONFLICT: u16 = 409;

/// The operator writes the status, which counts as a change, every few seconds at most.
const TRIES: u32 = 10;

/// Reads the list, changes it and writes it back.
///
/// # Errors
/// What `change` or the API server says.
pub(crate) async fn edit(
    client: Client,
    namespace: &str,
    name: &str,
    change: impl Fn(&mut Vec<Value>) -> anyhow::Result<()>,
) -> anyhow::Result<()> {
    let resource = ApiResource::erase::<SmtpRelay>(&());
    let api: Api<DynamicObject> = Api::namespaced_with(client, namespace, &resource);
    for _ in 0..TRIES {
        let relay = api.get(name).await.map_err(explain)?;
        let mut overrides = listed(&relay.data);
        change(&mut overrides)?;
        let patch = json!({
            "metadata": {"resourceVersion": relay.metadata.resource_version},
            "spec": {"delivery": {"overrides": overrides}},
        });
        match api
            .patch(name, &PatchParams::default(), &Patch::Merge(patch))
            .await
        {
            Err(kube::Error::Api(status)) if status.code == CONFLICT => {}
            result => return result.map(drop).map_err(explain),
        }
    }
    bail!("somebody else changes it all the time")
}

fn listed(relay: &Value) -> Vec<Value> {
    let overrides = relay.pointer("/spec/delivery/overrides");
    overrides
        .and_then(Value::as_array)
        .cloned()
        .unwrap_or_default()
}

/// Puts an override first, where it counts before what stands there already. One of the same name that says the same is left where it
/// is, one that flushes is replaced.
///
/// # Errors
/// If another one has the name.
pub(crate) fn put(overrides: &mut Vec<Value>, wanted: &Override) -> anyhow::Result<()> {
    let fresh = serde_json::to_value(wanted).context("cannot write the override")?;
    let named = |found: &Value| found["name"] == fresh["name"];
    match overrides.iter().position(named) {
        Some(place) if overrides.get(place) == Some(&fresh) => return Ok(()),
        Some(place) if fresh["action"] == "Flush" && overrides[place]["action"] == "Flush" => {
            overrides.remove(place);
        }
        Some(_) => bail!(
            "it has another override {:?} already: release that one, or choose another --name",
            wanted.name
        ),
        None => {}
    }
    overrides.insert(0, fresh);
    Ok(())
}

/// Takes overrides away by name; all that hold and flush where no name is given. Gives the names of those that were there.
///
/// # Errors
/// If there is none of a name.
pub(crate) fn take(overrides: &mut Vec<Value>, names: &[String]) -> anyhow::Result<Vec<String>> {
    let name = |found: &Value| found["name"].as_str().unwrap_or_default().to_owned();
    if let Some(missing) = names
        .iter()
        .find(|wanted| !overrides.iter().any(|found| name(found) == **wanted))
    {
        ensure!(!overrides.is_empty(), "it has no overrides");
        let there: Vec<_> = overrides.iter().map(name).collect();
        bail!("it has no override {missing:?}, only {}", there.join(", "));
    }
    let goes = |found: &Value| match names {
        [] => found["action"] == "Hold" || found["action"] == "Flush",
        names => names.contains(&name(found)),
    };
    let taken = overrides
        .iter()
        .filter(|found| goes(found))
        .map(name)
        .collect();
    overrides.retain(|found| !goes(found));
    Ok(taken)
}

#[cfg(test)]
mod tests {
    use postroad_api::OverrideAction;

    use super::*;

    fn wanted(name: &str, action: OverrideAction) -> Override {
        Override {
            name: name.into(),
            action,
            matches: None,
            arrived_before: None,
            reason: None,
        }
    }

    fn names(overrides: &[Value]) -> Vec<&str> {
        overrides
            .iter()
            .map(|found| found["name"].as_str().unwrap())
            .collect()
    }

    #[test]
    fn what_is_put_last_counts_first_and_what_is_there_stays_as_it_is() {
        let mut overrides = vec![json!({"name": "theirs", "action": "Hold", "novel": [1]})];
        put(&mut overrides, &wanted("mine", OverrideAction::Hold)).unwrap();
        assert_eq!(names(&overrides), ["mine", "theirs"]);
        assert_eq!(overrides[0], json!({"name": "mine", "action": "Hold"}));
        assert_eq!(overrides[1]["novel"], json!([1]));
        // Once more changes nothing.
        let before = overrides.clone();
        put(&mut overrides, &wanted("mine", OverrideAction::Hold)).unwrap();
        assert_eq!(overrides, before);
    }

    #[test]
    fn a_name_that_is_taken_is_given_to_nothing_else() {
        let mut overrides = vec![json!({"name": "a", "action": "Hold"})];
        for action in [OverrideAction::Flush, OverrideAction::Bounce] {
            let error = put(&mut overrides, &wanted("a", action))
                .unwrap_err()
                .to_string();
            assert!(error.contains("another override \"a\""), "{error}");
        }
        assert_eq!(overrides.len(), 1);
    }

    #[test]
    fn a_flush_takes_the_place_of_the_one_before() {
        let mut overrides = Vec::new();
        for time in ["2027-01-15T08:00:00Z", "2027-01-15T09:00:00Z"] {
            let flush = Override {
                arrived_before: Some(time.into()),
                ..wanted("flush", OverrideAction::Flush)
            };
            put(&mut overrides, &flush).unwrap();
            assert_eq!(overrides.len(), 1);
            assert_eq!(overrides[0]["arrivedBefore"], time);
        }
    }

    #[test]
    fn release_takes_those_that_are_named_or_all_that_keep_mail() {
        let all = vec![
            json!({"name": "a", "action": "Hold"}),
            json!({"name": "b", "action": "Bounce"}),
            json!({"name": "c", "action": "Flush"}),
        ];
        for (wanted, taken, left) in [
            (&["b"][..], &["b"][..], &["a", "c"][..]),
            (&["a", "c"], &["a", "c"], &["b"]),
            (&[], &["a", "c"], &["b"]),
        ] {
            let mut overrides = all.clone();
            let wanted: Vec<_> = wanted.iter().map(|&name| name.to_owned()).collect();
            assert_eq!(take(&mut overrides, &wanted).unwrap(), taken);
            assert_eq!(names(&overrides), left);
        }
        let mut overrides = all.clone();
        let error = take(&mut overrides, &["a".into(), "x".into()]).unwrap_err();
        assert_eq!(error.to_string(), "it has no override \"x\", only a, b, c");
        assert_eq!(overrides, all);
        let error = take(&mut Vec::new(), &["x".into()]).unwrap_err();
        assert_eq!(error.to_string(), "it has no overrides");
    }
}
