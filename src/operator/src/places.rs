//! How many credentials a relay honours.
//!
//! A relay may be open to namespaces of other people, and all credentials of a relay end in one Secret. Unbounded,
//! whoever may create credentials in one of them could keep that Secret from being written, and so every other change
//! of the relay from being made. Those who were there first keep their place; what is over is refused, and the relay goes on.

use std::collections::HashMap;
use std::sync::Arc;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::Resource as _;
use postroad_api::SmtpRelay;

use crate::context::Context;
use crate::controller::honours;
use crate::names::RelayId;
use crate::watch::Credential;

/// So that it takes five namespaces to fill a relay, and one with an application per credential does not notice.
pub(crate) const NAMESPACE_MAX: usize = 200;
/// A Secret holds 1 MiB. An entry of the credentials file takes 300 bytes with the longest names, 440 with a second verifier
/// while a password is rotated: 440 kB. A visit reads as many Secrets, eight at once: a second or two of the minute it has.
pub(crate) const RELAY_MAX: usize = 1000;

/// Whether there is room for a credential.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Place {
    Taken,
    /// Its namespace has [`NAMESPACE_MAX`] older ones.
    NamespaceFull,
    /// The relay has [`RELAY_MAX`] older ones.
    RelayFull,
}

/// The credentials that have a place at a relay.
pub(crate) fn honoured(context: &Context, relay: &SmtpRelay, id: &RelayId) -> Vec<Arc<Credential>> {
    let candidates = candidates(context, relay, id);
    let places = assign(candidates.iter().map(|candidate| candidate.meta()));
    let places = candidates.iter().zip(places);
    places
        .filter(|(_, place)| *place == Place::Taken)
        .map(|(candidate, _)| Arc::clone(candidate))
        .collect()
}

/// The place of one credential.
pub(crate) fn of(
    context: &Context,
    relay: &SmtpRelay,
    id: &RelayId,
    credential: &ObjectMeta,
) -> Place {
    let candidates = candidates(context, relay, id);
    let places = assign(candidates.iter().map(|candidate| candidate.meta()));
    let mut places = candidates.iter().zip(places);
    let place = places.find(|(candidate, _)| candidate.meta().uid == credential.uid);
    // One that is not in the cache any more is about to go.
    place.map_or(Place::Taken, |(_, place)| place)
}

/// Every credential that the relay would honour.
fn candidates(context: &Context, relay: &SmtpRelay, id: &RelayId) -> Vec<Arc<Credential>> {
    context.caches.credentials.select(|credential| {
        credential.0.as_ref().is_ok_and(|credential| {
            credential.relay() == (id.name.as_str(), id.namespace.as_str())
                && honours(relay, credential)
                && credential.metadata.deletion_timestamp.is_none()
        })
    })
}

/// The places of credentials, in their order. Those without one take none away from others.
fn assign<'a>(metas: impl Iterator<Item = &'a ObjectMeta>) -> Vec<Place> {
    let metas: Vec<_> = metas.collect();
    let mut places = vec![Place::Taken; metas.len()];
    if metas.len() <= NAMESPACE_MAX {
        return places;
    }
    let mut by_age: Vec<_> = metas.iter().zip(&mut places).collect();
    by_age.sort_by_cached_key(|(meta, _)| {
        (
            meta.creation_timestamp.as_ref().map(|created| created.0),
            meta.namespace.clone(),
            meta.name.clone(),
        )
    });
    let mut of_relay = 0;
    let mut of_namespace: HashMap<_, usize> = HashMap::new();
    for (meta, place) in by_age {
        let in_namespace = of_namespace.entry(&meta.namespace).or_default();
        if *in_namespace >= NAMESPACE_MAX {
            *place = Place::NamespaceFull;
        } else if of_relay >= RELAY_MAX {
            *place = Place::RelayFull;
        } else {
            *in_namespace += 1;
            of_relay += 1;
        }
    }
    places
}

#[cfg(test)]
mod tests {
    use jiff::Timestamp;
    use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
    use postroad_config::{Credential, Credentials, SALT_BYTES, Verifier};

    use super::*;

    fn metas(namespace: &str, count: usize, created: i64) -> Vec<ObjectMeta> {
        let meta = |number| ObjectMeta {
            name: Some(format!("app-{number:04}")),
            namespace: Some(namespace.into()),
            creation_timestamp: Some(Time(Timestamp::from_second(created).unwrap())),
            ..ObjectMeta::default()
        };
        (0..count).map(meta).collect()
    }

    /// Those that have no place, by namespace and name.
    fn refused(metas: &[ObjectMeta]) -> Vec<(String, Place)> {
        let places = metas.iter().zip(assign(metas.iter()));
        let refused = places.filter(|(_, place)| *place != Place::Taken);
        let name = |meta: &ObjectMeta| {
            let part = |part: &Option<String>| part.clone().unwrap();
            format!("{}/{}", part(&meta.namespace), part(&meta.name))
        };
        refused.map(|(meta, place)| (name(meta), place)).collect()
    }

    #[test]
    fn the_youngest_of_a_namespace_that_is_full_have_no_place() {
        let mut all = metas("crowd", NAMESPACE_MAX, 2);
        assert_eq!(refused(&all), []);
        all.extend(metas("shop", 5, 3));
        assert_eq!(refused(&all), []);
        // Older than the crowd: it pushes out the last one of those that came at the same time.
        let mut older = metas("crowd", 1, 1);
        older[0].name = Some("older".into());
        all.extend(older);
        let last = format!("crowd/app-{:04}", NAMESPACE_MAX - 1);
        assert_eq!(refused(&all), [(last, Place::NamespaceFull)]);
        all.reverse();
        assert_eq!(refused(&all).len(), 1);
    }

    #[test]
    fn a_namespace_that_is_full_takes_no_place_away_from_others() {
        let mut all = metas("crowd", 20 * RELAY_MAX, 1);
        all.extend(metas("shop", NAMESPACE_MAX, 2));
        let refused = refused(&all);
        assert_eq!(refused.len(), 20 * RELAY_MAX - NAMESPACE_MAX);
        assert!(refused.iter().all(|(name, _)| name.starts_with("crowd/")));
    }

    #[test]
    fn a_relay_that_is_full_refuses_the_youngest() {
        let namespaces = RELAY_MAX / NAMESPACE_MAX;
        let mut all: Vec<_> = (0..namespaces)
            .flat_map(|number| metas(&format!("team-{number}"), NAMESPACE_MAX, 1))
            .collect();
        assert_eq!(refused(&all), []);
        all.extend(metas("late", 1, 2));
        assert_eq!(
            refused(&all),
            [("late/app-0000".to_owned(), Place::RelayFull)]
        );
    }

    #[test]
    fn the_file_of_a_relay_that_is_full_fits_into_a_secret_twice() {
        let verifier = Verifier::derive("x", [255; SALT_BYTES]);
        let credential = |number| Credential {
            username: format!("{}.{number:063}", "n".repeat(63)),
            verifiers: vec![verifier.clone(), verifier.clone()],
        };
        let credentials = (0..RELAY_MAX).map(credential).collect();
        let text = Credentials { credentials }.render().unwrap();
        assert!(2 * text.len() < 1 << 20, "{}", text.len());
    }
}
