//! The Service in front of the pods.

use std::collections::BTreeMap;

use kube::KubeSchema;
use schemars::{JsonSchema, Schema};
use serde::{Deserialize, Serialize};
use serde_json::Value;

/// The Service in front of the pods.
#[derive(Clone, Debug, Deserialize, Eq, KubeSchema, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Service {
    /// How clients reach it.
    #[serde(rename = "type", default = "Service::default_type")]
    pub kind: ServiceType,

    /// Annotations of the Service, for load balancers.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    #[schemars(extend("maxProperties" = 32), transform = bound_values)]
    #[x_kube(validation = Rule::new("self.all(key, !key.startsWith('postroad.dev/'))")
        .message("annotations that start with postroad.dev/ are the operator's own: leave them out"))]
    pub annotations: BTreeMap<String, String>,
}

/// Longest value of an annotation; the clouds' own are well below.
const ANNOTATION_MAX: u32 = 1024;

fn bound_values(schema: &mut Schema) {
    if let Some(Value::Object(values)) = schema.get_mut("additionalProperties") {
        values.insert("maxLength".into(), ANNOTATION_MAX.into());
    }
}

impl Service {
    const fn default_type() -> ServiceType {
        ServiceType::ClusterIP
    }
}

impl Default for Service {
    fn default() -> Self {
        Self {
            kind: Self::default_type(),
            annotations: BTreeMap::new(),
        }
    }
}

/// How clients reach a Service, as in the core API.
#[derive(Clone, Copy, Debug, Deserialize, Eq, JsonSchema, PartialEq, Serialize)]
pub enum ServiceType {
    /// Inside the cluster only.
    ClusterIP,
    /// Through a load balancer of the cloud.
    LoadBalancer,
    /// Through a port on every node.
    NodePort,
}

impl ServiceType {
    /// The type as the core API spells it.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::ClusterIP => "ClusterIP",
            Self::LoadBalancer => "LoadBalancer",
            Self::NodePort => "NodePort",
        }
    }
}
