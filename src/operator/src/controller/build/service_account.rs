//! The ServiceAccount of the pods, which can do nothing.

use k8s_openapi::api::core::v1::ServiceAccount;

use crate::names::RelayId;

pub(super) fn build(id: &RelayId) -> ServiceAccount {
    ServiceAccount {
        metadata: id.meta(id.name.clone()),
        automount_service_account_token: Some(false),
        ..ServiceAccount::default()
    }
}
