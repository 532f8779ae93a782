//! Applies what was built: accounts and secrets first, then what routes, the workload last.
//!
//! All writes are server-side apply with force, whole objects each, and are left out where neither
//! what is wanted nor what is there has changed. An object of the same name that was not made for
//! this relay is never touched ([`Error::Taken`]), also if it was made just now ([`Error::Meanwhile`]).
//!
//! Before anything is disrupted, the API server is asked whether the cache is up to date: a decision
//! on old news could take two replicas out of service. Deletes, and all writes to Deployments, name the
//! very version that was seen. If it is not that any more, the next visit decides anew.

mod ensure;
mod fresh;
mod replicas;

use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::core::v1::Secret;
use k8s_openapi::api::policy::v1::PodDisruptionBudget;
use kube::Api;
use kube::api::{Patch, PatchParams};
use serde_json::json;

use super::build::{self, Digests, Identity, Objects, Outdated, Prepared};
use super::dereference::{Found, FoundPod, owned_by};
use super::validate::{Certificate, Refusal, Validated};
use crate::context::Context;
use crate::events::Notice;
use crate::names::{ANNOTATION_CONTENT, MANAGER_RELAY, RelayId};
use crate::rollout::Plan;

pub(crate) use ensure::{Seen, ensure};

/// HTTP status of an API server that is busy.
const TOO_MANY_REQUESTS: u16 = 429;

/// Why something could not be applied.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Error {
    #[error("{kind} {name} exists and was not made for this object")]
    Taken { kind: String, name: String },
    /// The next visit decides anew.
    #[error("{kind} {name} was made or replaced by somebody meanwhile")]
    Meanwhile { kind: String, name: String },
    #[error("cannot encode {kind} {name}")]
    Encode {
        kind: String,
        name: String,
        source: serde_json::Error,
    },
    #[error("cannot {verb} {kind} {name}")]
    Api {
        verb: &'static str,
        kind: String,
        name: String,
        source: kube::Error,
    },
}

impl Error {
    /// What the user has to mend, if it is the user's.
    pub(super) fn refusal(&self) -> Option<Refusal> {
        let Self::Taken { kind, name } = self else {
            return None;
        };
        let message = format!(
            "{kind} {name:?} exists and was not made for this SmtpRelay: rename one of the two"
        );
        Some(Refusal {
            reason: "NameTaken",
            message,
        })
    }

    /// What to tell the user about the object, if the API server has answered at all, and what it says is no news
    /// that the next visit already knows.
    pub(super) fn rejection(&self) -> Option<Rejection> {
        let Self::Api {
            source: kube::Error::Api(status),
            ..
        } = self
        else {
            return None;
        };
        let is_passing = status.is_conflict() || status.code == TOO_MANY_REQUESTS;
        (!is_passing).then(|| Rejection {
            message: format!("{self}: {}", status.message),
            stays: (400..500).contains(&status.code),
        })
    }
}

/// What the API server says about an object that it does not take.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(super) struct Rejection {
    /// Names the object.
    pub(super) message: String,
    /// Whether it will say the same again until somebody changes something.
    pub(super) stays: bool,
}

/// A relay that is applied.
pub(super) struct Applied {
    pub(super) validated: Validated,
    pub(super) identity: Identity,
    pub(super) plan: Plan,
    pub(super) outdated: Outdated,
    pub(super) digests: Digests,
    pub(super) notices: Vec<Notice>,
}

/// Applies.
pub(super) async fn apply(
    context: &Context,
    prepared: Prepared,
    found: &Found,
) -> Result<Applied, Error> {
    let Prepared {
        validated,
        objects,
        identity,
        plan,
        outdated,
        digests,
        mut notices,
    } = prepared;
    let id = &validated.id;
    base(context, id, &objects, found).await?;
    if let Some(left) = leftover(&validated, found) {
        let api: Api<Secret> = Api::namespaced(context.client.clone(), &id.namespace);
        ensure::delete(context, &api, &left.metadata).await?;
    }
    let steps = replicas::Steps {
        context,
        validated: &validated,
        found,
        authority: build::authority(&identity),
        replicas: &objects.replicas,
    };
    notices.extend(steps.take(&plan).await?);
    refresh(context, id, &digests, &found.pods).await?;
    Ok(Applied {
        validated,
        identity,
        plan,
        outdated,
        digests,
        notices,
    })
}

/// The certificate that the relay no longer uses, since its user provides one. It goes when the last
/// pod that has it mounted is replaced: until then that pod could not start again without it.
fn leftover<'a>(validated: &Validated, found: &'a Found) -> Option<&'a Secret> {
    let name = validated.id.tls();
    match &validated.certificate {
        Certificate::Provided { secret } if *secret != name => {}
        // The user may well have named the one that was there.
        Certificate::Provided { .. } | Certificate::SelfSigned { .. } => return None,
    }
    let left = found.secret(&name)?;
    let is_ours = owned_by(&left.metadata, &validated.id.uid)
        && Seen::of_relay(&validated.id).is_ours(&left.metadata);
    let mut deployments = found.deployments.values();
    (is_ours && !deployments.any(|deployment| mounts(deployment, &name))).then_some(left)
}

fn mounts(deployment: &Deployment, secret: &str) -> bool {
    let pod = deployment
        .spec
        .as_ref()
        .and_then(|spec| spec.template.spec.as_ref());
    let volumes = pod
        .and_then(|pod| pod.volumes.as_deref())
        .unwrap_or_default();
    let mut secrets = volumes.iter().filter_map(|volume| volume.secret.as_ref());
    secrets.any(|source| source.secret_name.as_deref() == Some(secret))
}

/// Everything but the workload.
async fn base(
    context: &Context,
    id: &RelayId,
    objects: &Objects,
    found: &Found,
) -> Result<(), Error> {
    let Objects {
        service_account,
        secrets,
        config_map,
        services,
        budget,
        replicas: _,
    } = objects;
    let caches = &context.caches;
    let ours = Seen::of_relay(id);
    let account = caches.service_accounts.get(&id.namespace, &id.name);
    ensure(context, service_account, ours.meta(account.as_deref())).await?;
    for secret in secrets {
        let name = secret.metadata.name.as_deref().unwrap_or_default();
        ensure(context, secret, ours.meta(found.secret(name))).await?;
    }
    let existing = caches.config_maps.get(&id.namespace, &id.config());
    ensure(context, config_map, ours.meta(existing.as_deref())).await?;
    for service in services {
        let name = service.metadata.name.as_deref().unwrap_or_default();
        let existing = caches.services.get(&id.namespace, name);
        ensure(context, service, ours.meta(existing.as_deref())).await?;
    }
    let existing = caches.budgets.get(&id.namespace, &id.name);
    match (budget, existing) {
        (Some(budget), existing) => ensure(context, budget, ours.meta(existing.as_deref())).await,
        // Only one of ours is in the cache under our label.
        (None, Some(budget)) => {
            let api: Api<PodDisruptionBudget> =
                Api::namespaced(context.client.clone(), &id.namespace);
            ensure::delete(context, &api, &budget.metadata)
                .await
                .map(drop)
        }
        (None, None) => Ok(()),
    }
}

/// Touches the pods whose files have changed: the kubelet looks at a pod's volumes when the pod
/// changes, and otherwise only every minute or so.
async fn refresh(
    context: &Context,
    id: &RelayId,
    digests: &Digests,
    pods: &[FoundPod],
) -> Result<(), Error> {
    let api: Api<k8s_openapi::api::core::v1::Pod> =
        Api::namespaced(context.client.clone(), &id.namespace);
    for pod in pods {
        let Some(mark) = mark(digests, pod) else {
            continue;
        };
        let name = pod.pod.metadata.name.as_deref().unwrap_or_default();
        let patch = json!({"metadata": {"annotations": {ANNOTATION_CONTENT: mark}}});
        let params = PatchParams {
            field_manager: Some(MANAGER_RELAY.into()),
            ..PatchParams::default()
        };
        match api
            .patch_metadata(name, &params, &Patch::Merge(patch))
            .await
        {
            Ok(_) => context.metrics.wrote("Pod"),
            // It has gone meanwhile; the next one reads the new files from the start.
            Err(kube::Error::Api(status)) if status.is_not_found() => {}
            Err(source) => {
                return Err(ensure::failed::<k8s_openapi::api::core::v1::Pod>(
                    "patch", name, source,
                ));
            }
        }
    }
    Ok(())
}

/// The annotation that a pod should get, if it should get another one.
///
/// A pod that carries the right one and still has the old files in force was touched before the
/// kubelet knew the new content; a suffix that changes makes it look again.
fn mark(digests: &Digests, pod: &FoundPod) -> Option<String> {
    let annotations = pod.pod.metadata.annotations.as_ref();
    let current = annotations.and_then(|annotations| annotations.get(ANNOTATION_CONTENT));
    let Some(current) = current.filter(|current| current.starts_with(&digests.content)) else {
        return Some(digests.content.clone());
    };
    let status = pod.status.as_ref()?;
    let is_stale = status.config.refused.is_none() && !digests.are_in_force(status);
    is_stale.then(|| {
        let turns = current.len() - digests.content.len();
        // One dot, two dots, none: three marks in turn.
        format!("{}{}", digests.content, ".".repeat((turns + 1) % 3))
    })
}

#[cfg(test)]
mod tests;
