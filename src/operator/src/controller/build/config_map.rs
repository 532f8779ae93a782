//! The configuration of the pods.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::ConfigMap;

use crate::controller::validate::Validated;
use crate::names::KEY_CONFIG;

pub(super) fn build(validated: &Validated) -> ConfigMap {
    ConfigMap {
        metadata: validated.id.meta(validated.id.config()),
        data: Some(BTreeMap::from([(
            KEY_CONFIG.to_owned(),
            validated.config.clone(),
        )])),
        ..ConfigMap::default()
    }
}
