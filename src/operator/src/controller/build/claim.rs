//! The claim that holds a replica's queue.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::{
    PersistentVolumeClaim, PersistentVolumeClaimSpec, VolumeResourceRequirements,
};
use k8s_openapi::apimachinery::pkg::api::resource::Quantity;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;

use crate::controller::validate::{Storage, Validated};

/// Without an owner: it outlives the relay, so that mail which waits is there when the relay is
/// applied again.
pub(super) fn build(validated: &Validated, ordinal: u32) -> Option<PersistentVolumeClaim> {
    let Storage::Persistent { size, class } = &validated.storage else {
        return None;
    };
    let id = &validated.id;
    let requests = BTreeMap::from([("storage".to_owned(), Quantity(size.clone()))]);
    Some(PersistentVolumeClaim {
        metadata: ObjectMeta {
            name: Some(id.replica(ordinal)),
            namespace: Some(id.namespace.clone()),
            labels: Some(id.replica_labels(ordinal)),
            ..ObjectMeta::default()
        },
        spec: Some(PersistentVolumeClaimSpec {
            access_modes: Some(vec!["ReadWriteOnce".into()]),
            storage_class_name: class.clone(),
            resources: Some(VolumeResourceRequirements {
                requests: Some(requests),
                limits: None,
            }),
            ..PersistentVolumeClaimSpec::default()
        }),
        status: None,
    })
}
