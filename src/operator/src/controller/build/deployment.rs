//! The Deployment of one replica.

use std::collections::BTreeMap;

use k8s_openapi::api::apps::v1::{Deployment, DeploymentSpec, DeploymentStrategy};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{LabelSelector, ObjectMeta};

use super::pod;
use crate::controller::validate::Validated;
use crate::names::ANNOTATION_TEMPLATE;

/// Old ReplicaSets are of no use: a rollback is an edit of the SmtpRelay.
const HISTORY: i32 = 1;

/// One pod, never two at once: two would share a queue.
pub(super) fn build(validated: &Validated, ordinal: u32, template: &str) -> Deployment {
    let id = &validated.id;
    let annotations = BTreeMap::from([(ANNOTATION_TEMPLATE.to_owned(), template.to_owned())]);
    Deployment {
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
            template: pod::template(validated, ordinal),
            ..DeploymentSpec::default()
        }),
        status: None,
    }
}
