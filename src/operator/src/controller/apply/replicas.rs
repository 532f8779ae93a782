//! The steps of a rollout.

use std::collections::BTreeMap;

use jiff::Timestamp;
use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::core::v1::PersistentVolumeClaim;
use kube::api::{ListParams, Patch, PatchParams};
use kube::{Api, ResourceExt as _};
use serde_json::json;

use super::ensure::{delete, failed};
use super::{Error, Seen, ensure};
use crate::certificate::Pair;
use crate::context::Context;
use crate::controller::build::ReplicaObjects;
use crate::controller::dereference::Found;
use crate::events::Notice;
use crate::names::{ANNOTATION_DRAINING, ANNOTATION_TEMPLATE, LABEL_RELAY, MANAGER_RELAY, RelayId};
use crate::quantity;
use crate::rollout::{Plan, Step};

pub(super) struct Steps<'a> {
    pub(super) context: &'a Context,
    pub(super) id: &'a RelayId,
    pub(super) found: &'a Found,
    /// `None` if it cannot be read: then no pod can be asked for anything.
    pub(super) authority: Option<&'a Pair>,
    pub(super) replicas: &'a BTreeMap<u32, ReplicaObjects>,
}

impl Steps<'_> {
    /// Takes the steps of a plan, and mends what was changed by hand in replicas that stay.
    pub(super) async fn take(&self, plan: &Plan) -> Result<Vec<Notice>, Error> {
        self.mend().await?;
        let disrupts =
            |step: &Step| matches!(step, Step::Roll(_) | Step::Restart(_) | Step::Remove(_));
        let may_disrupt = !plan.steps.iter().any(disrupts) || self.is_fresh().await?;
        let mut notices = Vec::new();
        for step in &plan.steps {
            if disrupts(step) && !may_disrupt {
                tracing::debug!(?step, "put off: the cache is behind");
                continue;
            }
            notices.extend(self.step(*step).await?);
        }
        Ok(notices)
    }

    async fn step(&self, step: Step) -> Result<Option<Notice>, Error> {
        match step {
            Step::Create(ordinal) => {
                self.claim(ordinal).await?;
                self.deployment(ordinal).await?;
                let note = format!("Created replica {ordinal}");
                Ok(Some(Notice::normal("ReplicaCreated", "Create", note)))
            }
            Step::Roll(ordinal) => {
                self.deployment(ordinal).await?;
                let note = format!("Replacing the pod of replica {ordinal}");
                Ok(Some(Notice::normal("ReplicaRolled", "Roll", note)))
            }
            Step::Drain(ordinal) => self.drain(ordinal).await,
            Step::Restart(ordinal) => {
                self.restart(ordinal).await?;
                let note = format!("Replica {ordinal} is wanted again: starting it anew");
                Ok(Some(Notice::normal("ReplicaRestarted", "Restart", note)))
            }
            Step::Remove(ordinal) => {
                self.remove(ordinal).await?;
                let note = format!("Replica {ordinal} holds no mail and is removed");
                Ok(Some(Notice::normal("DrainFinished", "Remove", note)))
            }
        }
    }

    /// Whether the Deployments in the cache are those of the API server.
    async fn is_fresh(&self) -> Result<bool, Error> {
        let api: Api<Deployment> = self.api();
        let labels = format!("{LABEL_RELAY}={}", self.id.name);
        let list = api
            .list_metadata(&ListParams::default().labels(&labels))
            .await
            .map_err(|source| failed::<Deployment>("list", &self.id.name, source))?;
        let mut live: Vec<_> = list.items.iter().map(version_of).collect();
        let mut cached: Vec<_> = self
            .found
            .deployments
            .values()
            .map(|deployment| version_of(deployment.as_ref()))
            .collect();
        live.sort();
        cached.sort();
        Ok(live == cached)
    }

    /// Applies Deployments whose template is the wanted one: nothing is replaced by that unless somebody
    /// has changed it by hand. And grows claims.
    async fn mend(&self) -> Result<(), Error> {
        for (ordinal, objects) in self.replicas {
            let Some(existing) = self.found.deployments.get(ordinal) else {
                continue;
            };
            let template = existing.annotations().get(ANNOTATION_TEMPLATE);
            let wanted = objects.deployment.annotations().get(ANNOTATION_TEMPLATE);
            if template == wanted && existing.metadata.deletion_timestamp.is_none() {
                self.deployment(*ordinal).await?;
            }
            if let (Some(claim), Some(wanted)) = (self.found.claims.get(ordinal), &objects.claim) {
                self.grow(claim, wanted).await?;
            }
        }
        Ok(())
    }

    async fn deployment(&self, ordinal: u32) -> Result<(), Error> {
        let Some(objects) = self.replicas.get(&ordinal) else {
            return Ok(());
        };
        let existing = self.found.deployments.get(&ordinal).map(AsRef::as_ref);
        let seen = Seen::of_relay(self.id).meta(existing);
        ensure(self.context, &objects.deployment, seen).await
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
                ensure(self.context, claim, Seen::of_relay(self.id)).await
            }
            _ => Ok(()),
        }
    }

    /// Raises the request of a claim; lowering it is impossible.
    async fn grow(
        &self,
        existing: &PersistentVolumeClaim,
        wanted: &PersistentVolumeClaim,
    ) -> Result<(), Error> {
        let (Some(from), Some(to)) = (requested(existing), requested(wanted)) else {
            return Ok(());
        };
        if quantity::bytes(to) <= quantity::bytes(from) {
            return Ok(());
        }
        let patch = json!({"spec": {"resources": {"requests": {"storage": to}}}});
        let name = existing.name_any();
        let api: Api<PersistentVolumeClaim> = self.api();
        api.patch(&name, &manager(), &Patch::Merge(patch))
            .await
            .map_err(|source| failed::<PersistentVolumeClaim>("grow", &name, source))?;
        self.context.metrics.wrote("PersistentVolumeClaim");
        Ok(())
    }

    /// The annotation first: after a crash in between, the drain merely begins later than it says.
    async fn drain(&self, ordinal: u32) -> Result<Option<Notice>, Error> {
        let pod = self.found.pods.iter().find(|pod| pod.ordinal == ordinal);
        let (Some(authority), Some(address)) = (self.authority, pod.and_then(|pod| pod.address))
        else {
            return Ok(None);
        };
        let name = self.id.replica(ordinal);
        let now = Timestamp::now().strftime("%Y-%m-%dT%H:%M:%SZ").to_string();
        let patch = json!({"metadata": {"annotations": {ANNOTATION_DRAINING: now}}});
        let api: Api<Deployment> = self.api();
        api.patch_metadata(&name, &manager(), &Patch::Merge(patch))
            .await
            .map_err(|source| failed::<Deployment>("annotate", &name, source))?;
        self.context.metrics.wrote("Deployment");
        match self.context.admin.drain(self.id, authority, address).await {
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
                    name,
                    error,
                    "cannot drain a replica; the next visit tries again"
                );
                Ok(None)
            }
        }
    }

    /// Deletes the Deployment; it is made again when its pod is gone.
    async fn restart(&self, ordinal: u32) -> Result<(), Error> {
        let name = self.id.replica(ordinal);
        delete(self.context, &self.api::<Deployment>(), &name).await
    }

    /// The Deployment first: a claim that is deleted while its Deployment lives would hold up the
    /// next pod.
    async fn remove(&self, ordinal: u32) -> Result<(), Error> {
        let name = self.id.replica(ordinal);
        if self.found.deployments.contains_key(&ordinal) {
            delete(self.context, &self.api::<Deployment>(), &name).await?;
        }
        if self.found.claims.contains_key(&ordinal) {
            delete(self.context, &self.api::<PersistentVolumeClaim>(), &name).await?;
        }
        Ok(())
    }

    fn api<K>(&self) -> Api<K>
    where
        K: kube::Resource<DynamicType = (), Scope = k8s_openapi::NamespaceResourceScope>,
    {
        Api::namespaced(self.context.client.clone(), &self.id.namespace)
    }
}

fn version_of(object: &impl kube::Resource) -> (Option<String>, Option<String>) {
    let meta = object.meta();
    (meta.name.clone(), meta.resource_version.clone())
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
