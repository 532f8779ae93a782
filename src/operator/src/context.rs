//! What every visit shares. Nothing in here matters after a restart.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use kube::Client;

use crate::admin::Admin;
use crate::args::Settings;
use crate::controller::Resting;
use crate::credentials_file::Proofs;
use crate::events::Announcer;
use crate::health::Metrics;
use crate::retry::Failures;
use crate::watch::Caches;

pub(crate) struct Context {
    pub(crate) client: Client,
    pub(crate) settings: Settings,
    pub(crate) caches: Caches,
    pub(crate) announcer: Announcer,
    pub(crate) metrics: Metrics,
    pub(crate) admin: Admin,
    pub(crate) failures: Failures,
    pub(crate) applied: AppliedObjects,
    pub(crate) in_force: InForce,
    pub(crate) resting: Resting,
    pub(crate) proofs: Arc<Proofs>,
}

/// Entries after which [`AppliedObjects`] starts over: some MB.
const APPLIED_MAX: usize = 50_000;

/// What was applied, and which version came of it: what is unchanged on both sides is not applied again.
#[derive(Default)]
pub(crate) struct AppliedObjects(Mutex<HashMap<String, (String, String)>>);

impl AppliedObjects {
    /// Whether this content was applied to the object and nobody has changed it since.
    pub(crate) fn is_current(&self, object: &str, digest: &str, version: &str) -> bool {
        let applied = lock(&self.0);
        applied
            .get(object)
            .is_some_and(|(ours, theirs)| ours == digest && theirs == version)
    }

    pub(crate) fn record(&self, object: String, digest: String, version: String) {
        let mut applied = lock(&self.0);
        if applied.len() >= APPLIED_MAX {
            applied.clear();
        }
        applied.insert(object, (digest, version));
    }
}

/// Entries after which [`InForce`] starts over, deleted relays among them.
const RELAYS_MAX: usize = 50_000;

/// Which credentials file the replicas of a relay have in force.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub(crate) enum CredentialsInForce {
    /// Nobody has asked since the operator started, or a ready replica does not answer.
    #[default]
    Unknown,
    /// Not the same one everywhere, or no replica is ready.
    None,
    /// The one with this digest, in every ready replica.
    Everywhere(String),
}

/// [`CredentialsInForce`] of each relay, by namespace and name.
#[derive(Default)]
pub(crate) struct InForce(Mutex<HashMap<(String, String), CredentialsInForce>>);

impl InForce {
    pub(crate) fn get(&self, namespace: &str, name: &str) -> CredentialsInForce {
        let relays = lock(&self.0);
        let key = (namespace.to_owned(), name.to_owned());
        relays.get(&key).cloned().unwrap_or_default()
    }

    pub(crate) fn set(&self, namespace: &str, name: &str, state: CredentialsInForce) {
        let mut relays = lock(&self.0);
        if relays.len() >= RELAYS_MAX {
            relays.clear();
        }
        relays.insert((namespace.to_owned(), name.to_owned()), state);
    }

    pub(crate) fn forget(&self, namespace: &str, name: &str) {
        lock(&self.0).remove(&(namespace.to_owned(), name.to_owned()));
    }
}

/// These maps hold single facts: a panic while one is held leaves nothing half done.
pub(crate) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
