//! The definitions as they are installed.

use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::{
    CustomResourceDefinition, JSON, JSONSchemaProps, JSONSchemaPropsOrArray, JSONSchemaPropsOrBool,
};
use kube::CustomResourceExt as _;
use serde_json::json;

use crate::{SmtpCredential, SmtpRelay};

/// Both definitions, finished: [`SmtpRelay`], then [`SmtpCredential`].
#[must_use]
pub fn crds() -> [CustomResourceDefinition; 2] {
    [finish(SmtpRelay::crd()), finish(SmtpCredential::crd())]
}

fn finish(mut crd: CustomResourceDefinition) -> CustomResourceDefinition {
    let schemas = crd
        .spec
        .versions
        .iter_mut()
        .filter_map(|version| version.schema.as_mut()?.open_api_v3_schema.as_mut());
    for schema in schemas {
        if let Some(status) = schema
            .properties
            .as_mut()
            .and_then(|all| all.get_mut("status"))
        {
            status.default = Some(JSON(json!({"observedGeneration": -1})));
        }
        use_known_formats(schema);
    }
    crd
}

/// Kubernetes knows `int32` and `int64`; for anything else the API server warns whoever installs it.
fn use_known_formats(schema: &mut JSONSchemaProps) {
    schema.format = match schema.format.take().as_deref() {
        Some("uint8" | "uint16" | "int8" | "int16") => Some("int32".into()),
        Some("uint32" | "uint64" | "uint") => Some("int64".into()),
        other => other.map(Into::into),
    };
    if let Some(properties) = &mut schema.properties {
        properties.values_mut().for_each(use_known_formats);
    }
    if let Some(JSONSchemaPropsOrArray::Schema(items)) = &mut schema.items {
        use_known_formats(items);
    }
    if let Some(JSONSchemaPropsOrBool::Schema(values)) = &mut schema.additional_properties {
        use_known_formats(values);
    }
}

#[cfg(test)]
mod tests;
