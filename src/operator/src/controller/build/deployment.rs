//! The Deployment of one replica.
//!
//! It carries the pod template that it was made with, so that whoever comes later (a newer operator,
//! with other defaults) can mend it without replacing its pod.

use std::collections::BTreeMap;

use k8s_openapi::api::apps::v1::{Deployment, DeploymentSpec, DeploymentStrategy};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{LabelSelector, ObjectMeta};
use serde_json::Value;

use crate::names::{ANNOTATION_INPUTS, ANNOTATION_POD_TEMPLATE, RelayId};

/// Old ReplicaSets are of no use: a rollback is an edit of the SmtpRelay.
const HISTORY: i32 = 1;

/// What a Deployment was made of.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(super) struct Made {
    /// Digest of the [`Inputs`](super::inputs::Inputs).
    pub(super) inputs: String,
    /// The pod template. As JSON: one that a newer operator has made may have fields that this one
    /// does not know, and leaving them out would replace the pod.
    pub(super) template: Value,
}

impl Made {
    /// What a Deployment says of itself; `None` if it says nothing that can be read.
    pub(super) fn of(deployment: &Deployment) -> Option<Self> {
        let annotations = deployment.metadata.annotations.as_ref()?;
        let template = annotations.get(ANNOTATION_POD_TEMPLATE)?;
        let template: Value = serde_json::from_str(template).ok()?;
        template.is_object().then_some(())?;
        Some(Self {
            inputs: annotations.get(ANNOTATION_INPUTS)?.clone(),
            template,
        })
    }

    /// The image of the relay in the pod.
    pub(super) fn image(&self) -> &str {
        let image = self.template.pointer("/spec/containers/0/image");
        image.and_then(Value::as_str).unwrap_or_default()
    }

    /// The Deployment. One pod, never two at once: two would share a queue.
    pub(super) fn deployment(
        &self,
        id: &RelayId,
        ordinal: u32,
    ) -> Result<Value, serde_json::Error> {
        let template = serde_json::to_string(&self.template)?;
        let annotations = BTreeMap::from([
            (ANNOTATION_INPUTS.to_owned(), self.inputs.clone()),
            (ANNOTATION_POD_TEMPLATE.to_owned(), template),
        ]);
        let deployment = Deployment {
            metadata: ObjectMeta {
                labels: Some(id.replica_labels(ordinal)),
                annotations: Some(annotations),
                ..id.meta(id.replica(ordinal))
            },
            spec: Some(DeploymentSpec {
                replicas: Some(1),
                revision_history_limit: Some(HISTORY),
                selector: LabelSelector {
                    match_labels: Some(id.replica_selector(ordinal)),
                    ..LabelSelector::default()
                },
                strategy: Some(DeploymentStrategy {
                    type_: Some("Recreate".into()),
                    rolling_update: None,
                }),
                ..DeploymentSpec::default()
            }),
            status: None,
        };
        let mut deployment = serde_json::to_value(deployment)?;
        deployment["spec"]["template"] = self.template.clone();
        Ok(deployment)
    }
}
