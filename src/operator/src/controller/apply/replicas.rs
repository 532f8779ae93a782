//! The steps of a rollout.
//!
//! A step is taken only on what it was decided on. Deployments are written and deleted, and claims
//! deleted, with the uid and the version that were seen; before anything is disrupted the whole
//! picture is compared ([`fresh`]), what is wanted included; and before mail could go with a pod or a
//! claim, the pod is asked once more. What has changed since is no error: the next visit decides anew.
//!
//! So two operators at once (a node that was lost comes back, an old one ends while a new one starts)
//! lose no mail and undo nothing of each other. They agree on what is wanted, because nothing of an
//! operator is in it, and both keep the pods that are there as they are. Of two that decide alike, the
//! second one comes too late. Two that hear different things of the pods may each replace another
//! replica in the moment between comparison and write: both are out of service for the time of a
//! restart, and no mail goes with that. Neither can delete a claim into which mail may have come since it
//! was found empty: its Deployment would be another one by then, or another version.

use std::collections::BTreeMap;

use jiff::Timestamp;
use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::core::v1::PersistentVolumeClaim;
use kube::api::{Patch, PatchParams};
use kube::{Api, ResourceExt as _};
use serde_json::{Value, json};

use super::ensure::{Outcome, delete, ensure_seen, failed};
use super::{Error, Seen, ensure, fresh};
use crate::certificate::Pair;
use crate::context::Context;
use crate::controller::build::{ReplicaObjects, claim_state, mount};
use crate::controller::dereference::{Found, FoundPod};
use crate::controller::validate::Validated;
use crate::events::Notice;
use crate::kind::Namespaced;
use crate::names::{ANNOTATION_DRAINING, ANNOTATION_DRAINING_POD, MANAGER_RELAY, RelayId};
use crate::quantity;
use crate::rollout::{Claim, Mount, Plan, Step};

pub(super) struct Steps<'a> {
    pub(super) context: &'a Context,
    pub(super) validated: &'a Validated,
    pub(super) found: &'a Found,
    /// `None` if it cannot be read: then no pod can be asked for anything.
    pub(super) authority: Option<&'a Pair>,
    pub(super) replicas: &'a BTreeMap<u32, ReplicaObjects>,
}

impl Steps<'_> {
    /// Takes the steps of a plan, and mends what was changed by hand in replicas that stay.
    pub(super) async fn take(&self, plan: &Plan) -> Result<Vec<Notice>, Error> {
        let mut notices = self.mend(plan).await?;
        let is_creation = |step: &Step| matches!(step, Step::Create(_));
        let is_fresh = plan.steps.iter().all(is_creation) || self.is_fresh().await?;
        for &step in &plan.steps {
            let may_be_taken = match step {
                Step::Create(_) => true,
                Step::Drain(_) => is_fresh,
                Step::Roll(_) | Step::Restart(_) | Step::Remove(_) => {
                    is_fresh && self.costs_no_mail(step).await
                }
            };
            if may_be_taken {
                notices.extend(self.step(step).await?);
            } else {
                tracing::debug!(?step, "put off: the cache is behind, or mail has come");
            }
        }
        Ok(notices)
    }

    /// Takes a step. Nothing is said of one that is put off.
    async fn step(&self, step: Step) -> Result<Option<Notice>, Error> {
        let (outcome, notice) = match step {
            Step::Create(ordinal) => {
                self.claim(ordinal).await?;
                let note = format!("Created replica {ordinal}");
                (
                    self.deployment(ordinal).await?,
                    Notice::normal("ReplicaCreated", "Create", note),
                )
            }
            Step::Roll(ordinal) => {
                let note = format!("Replacing the pod of replica {ordinal}");
                // The pod that is replaced may have done without one.
                self.claim(ordinal).await?;
                (
                    self.deployment(ordinal).await?,
                    Notice::normal("ReplicaRolled", "Roll", note),
                )
            }
            Step::Drain(ordinal) => return self.drain(ordinal).await,
            Step::Restart(ordinal) => {
                let note = format!("Replica {ordinal} starts anew");
                (
                    self.restart(ordinal).await?,
                    Notice::normal("ReplicaRestarted", "Restart", note),
                )
            }
            Step::Remove(ordinal) => {
                let note = format!("Replica {ordinal} holds no mail and is removed");
                (
                    self.remove(ordinal).await?,
                    Notice::normal("DrainFinished", "Remove", note),
                )
            }
        };
        Ok((outcome == Outcome::Done).then_some(notice))
    }

    /// Whether the mail of a replica outlives the step, or there still is none.
    ///
    /// A pod that was empty when it was asked may have started again since, and take mail. It is not ready within
    /// the moment between this question and the step.
    async fn costs_no_mail(&self, step: Step) -> bool {
        let ordinal = step.ordinal();
        let stays = matches!(self.claim_state(ordinal), Claim::Unbound | Claim::Present)
            && mount(self.found, ordinal) != Some(Mount::Pod);
        if stays && !matches!(step, Step::Remove(_)) {
            return true;
        }
        let pods = self.found.pods.iter().filter(|pod| pod.ordinal == ordinal);
        // What did not answer is decided on as such.
        for pod in pods.filter(|pod| pod.status.is_some()) {
            let (Some(authority), Some(address)) = (self.authority, pod.address) else {
                return false;
            };
            match self
                .context
                .admin
                .status(self.id(), authority, address)
                .await
            {
                Ok(status) if status.draining && status.queue.messages == 0 => {}
                Ok(_) | Err(_) => return false,
            }
        }
        true
    }

    async fn is_fresh(&self) -> Result<bool, Error> {
        fresh::is_fresh(&self.context.client, self.validated, self.found).await
    }

    /// Undoes what was changed by hand in replicas that nothing else happens to, and grows claims. Each keeps the
    /// pod that it was made with.
    async fn mend(&self, plan: &Plan) -> Result<Vec<Notice>, Error> {
        let mut notices = Vec::new();
        for (ordinal, objects) in self.replicas {
            let Some(existing) = self.found.deployments.get(ordinal) else {
                continue;
            };
            let stays = existing.metadata.deletion_timestamp.is_none() && !plan.touches(*ordinal);
            if let Some(kept) = objects.kept.as_ref().filter(|_| stays) {
                self.apply(*ordinal, kept).await?;
            }
            if let (Some(claim), Some(wanted)) = (self.found.claims.get(ordinal), &objects.claim) {
                notices.extend(self.grow(claim, wanted).await?);
            }
        }
        Ok(notices)
    }

    /// The Deployment as it is made today.
    async fn deployment(&self, ordinal: u32) -> Result<Outcome, Error> {
        match self.replicas.get(&ordinal) {
            Some(objects) => self.apply(ordinal, &objects.deployment).await,
            None => Ok(Outcome::Behind),
        }
    }

    async fn apply(&self, ordinal: u32, deployment: &Value) -> Result<Outcome, Error> {
        let existing = self.found.deployments.get(&ordinal).map(AsRef::as_ref);
        let seen = Seen::of_relay(self.id()).meta(existing);
        let name = self.id().replica(ordinal);
        let target = (self.id().namespace.as_str(), name.as_str());
        ensure_seen::<Deployment>(self.context, target, deployment.clone(), seen).await
    }

    /// Makes the claim if there is none. One that exists may be from another day, with another class:
    /// most of a claim cannot change, so it is taken as it is.
    async fn claim(&self, ordinal: u32) -> Result<(), Error> {
        let claim = self
            .replicas
            .get(&ordinal)
            .and_then(|objects| objects.claim.as_ref());
        match claim {
            Some(claim) if !self.found.claims.contains_key(&ordinal) => {
                ensure(self.context, claim, Seen::of_relay(self.id())).await
            }
            _ => Ok(()),
        }
    }

    /// Raises the request of a claim; lowering it is impossible. Some volumes cannot grow: nothing else waits for them, and they are
    /// asked again after pauses that become longer.
    async fn grow(
        &self,
        existing: &PersistentVolumeClaim,
        wanted: &PersistentVolumeClaim,
    ) -> Result<Option<Notice>, Error> {
        let Some(to) = growth(existing, wanted) else {
            return Ok(None);
        };
        let patch = json!({"spec": {"resources": {"requests": {"storage": to}}}});
        let name = existing.name_any();
        let this = format!("grow/{}/{to}", existing.uid().unwrap_or_default());
        if self.context.failures.is_waiting(&this) {
            return Ok(None);
        }
        let api: Api<PersistentVolumeClaim> = self.api();
        match api.patch(&name, &manager(), &Patch::Merge(patch)).await {
            Ok(_) => {
                self.context.metrics.wrote("PersistentVolumeClaim");
                Ok(None)
            }
            Err(kube::Error::Api(status)) if status.is_forbidden() || status.is_invalid() => {
                self.context.failures.failed(&this);
                Ok(self.not_grown(&name, to, status.message))
            }
            Err(source) => Err(failed::<PersistentVolumeClaim>("grow", &name, source)),
        }
    }

    /// Says that a claim does not grow, and why, unless this has been said.
    fn not_grown(&self, claim: &str, to: &str, why: String) -> Option<Notice> {
        let object = format!("grow/{}/{claim}", self.id().namespace);
        if self.context.applied.is_current(&object, to, &why) {
            return None;
        }
        let note = format!("Claim {claim} keeps its size, {to} is refused: {why}");
        self.context.applied.record(object, to.to_owned(), why);
        Some(Notice::warning("VolumeNotGrown", "Grow", note))
    }

    /// The annotations first: after a crash in between, the drain merely begins later than it says.
    async fn drain(&self, ordinal: u32) -> Result<Option<Notice>, Error> {
        let pod = self.found.pods.iter().find(|pod| pod.ordinal == ordinal);
        let (Some(authority), Some(pod)) = (self.authority, pod) else {
            return Ok(None);
        };
        let Some(address) = pod.address else {
            return Ok(None);
        };
        if self.note_drain(ordinal, pod).await? == Outcome::Behind {
            return Ok(None);
        }
        match self
            .context
            .admin
            .drain(self.id(), authority, address)
            .await
        {
            Ok(status) => {
                let waiting = status.queue.messages;
                let note = format!(
                    "Replica {ordinal} takes no more mail; {waiting} messages have yet to be delivered"
                );
                Ok(Some(Notice::normal("DrainStarted", "Drain", note)))
            }
            Err(error) => {
                let error = &error as &dyn std::error::Error;
                tracing::warn!(
                    ordinal,
                    error,
                    "cannot drain a replica; the next visit tries again"
                );
                Ok(None)
            }
        }
    }

    /// Writes down when which pod was told to drain, on the version of the Deployment that was seen. The pod is named
    /// because its successor has the same Deployment, and was told nothing.
    async fn note_drain(&self, ordinal: u32, pod: &FoundPod) -> Result<Outcome, Error> {
        let Some(seen) = self.found.deployments.get(&ordinal) else {
            return Ok(Outcome::Behind);
        };
        let now = Timestamp::now().strftime("%Y-%m-%dT%H:%M:%SZ").to_string();
        let patch = json!({"metadata": {
            "uid": seen.metadata.uid,
            "resourceVersion": seen.metadata.resource_version,
            "annotations": {
                ANNOTATION_DRAINING: now,
                ANNOTATION_DRAINING_POD: pod.pod.metadata.uid,
            },
        }});
        let name = self.id().replica(ordinal);
        let api: Api<Deployment> = self.api();
        match api
            .patch_metadata(&name, &manager(), &Patch::Merge(patch))
            .await
        {
            Ok(_) => {
                self.context.metrics.wrote("Deployment");
                Ok(Outcome::Done)
            }
            Err(kube::Error::Api(status)) if status.is_not_found() || status.is_conflict() => {
                tracing::debug!(name, "drain put off: the cache is behind");
                Ok(Outcome::Behind)
            }
            Err(source) => Err(failed::<Deployment>("annotate", &name, source)),
        }
    }

    /// Deletes the Deployment; it is made again when its pod is gone.
    async fn restart(&self, ordinal: u32) -> Result<Outcome, Error> {
        match self.found.deployments.get(&ordinal) {
            Some(seen) => delete(self.context, &self.api::<Deployment>(), &seen.metadata).await,
            None => Ok(Outcome::Behind),
        }
    }

    /// The Deployment first: a claim that is deleted while its Deployment lives would hold up the
    /// next pod. And only if it was the one that was seen: one that is made anew meanwhile may take
    /// mail, into the same claim. A claim that may hold mail goes only if that was the one that the pod
    /// has spoken for.
    async fn remove(&self, ordinal: u32) -> Result<Outcome, Error> {
        let state = self.claim_state(ordinal);
        let may_hold_mail = matches!(state, Claim::Present | Claim::Lost);
        if may_hold_mail && mount(self.found, ordinal) != Some(Mount::Claim) {
            return Ok(Outcome::Behind);
        }
        if self.found.deployments.contains_key(&ordinal)
            && self.restart(ordinal).await? == Outcome::Behind
        {
            return Ok(Outcome::Behind);
        }
        match self.found.claims.get(&ordinal) {
            Some(claim) if state != Claim::Terminating => {
                let api = self.api::<PersistentVolumeClaim>();
                delete(self.context, &api, &claim.metadata).await
            }
            _ => Ok(Outcome::Done),
        }
    }

    fn claim_state(&self, ordinal: u32) -> Claim {
        claim_state(self.found.claims.get(&ordinal).map(AsRef::as_ref))
    }

    const fn id(&self) -> &RelayId {
        &self.validated.id
    }

    fn api<K: Namespaced>(&self) -> Api<K> {
        Api::namespaced(self.context.client.clone(), &self.id().namespace)
    }
}

/// The size that a claim should ask for, if it should ask for more than it does. Without a volume it cannot.
fn growth<'a>(
    existing: &PersistentVolumeClaim,
    wanted: &'a PersistentVolumeClaim,
) -> Option<&'a str> {
    let to = requested(wanted)?;
    let is_more = quantity::bytes(to)? > quantity::bytes(requested(existing)?)?;
    (is_more && claim_state(Some(existing)) == Claim::Present).then_some(to)
}

fn requested(claim: &PersistentVolumeClaim) -> Option<&str> {
    let requests = claim.spec.as_ref()?.resources.as_ref()?.requests.as_ref()?;
    requests.get("storage").map(|quantity| quantity.0.as_str())
}

fn manager() -> PatchParams {
    PatchParams {
        field_manager: Some(MANAGER_RELAY.into()),
        ..PatchParams::default()
    }
}
