//! What each pod asks of its node, and what it may use.

use kube::KubeSchema;
use serde::{Deserialize, Serialize};

/// A number of CPUs: whole ones, or thousandths with `m`.
const CPU: &str = "^([1-9][0-9]{0,5}m|[1-9][0-9]{0,2})$";

/// What each pod asks of its node, and what it may use. Whatever is not set is up to the operator.
#[derive(Clone, Debug, Default, Deserialize, Eq, KubeSchema, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
#[x_kube(
    validation = Rule::new(format!("!has(self.limits) || !has(self.limits.memory) || !self.limits.memory.matches('{}') || quantity(self.limits.memory).compareTo(quantity('512Mi')) >= 0", crate::relay::SIZE))
        .message("resources.limits.memory is too small for a relay, which holds mail and the index of its queue in memory: write 512Mi or more"),
    validation = Rule::new(format!("!has(self.limits) || !has(self.limits.cpu) || !self.limits.cpu.matches('{}') || quantity(self.limits.cpu).compareTo(quantity('100m')) >= 0", crate::relay::resources::CPU))
        .message("resources.limits.cpu is too small for a relay, whose clients would time out: write 100m or more, or leave it out"),
    validation = Rule::new(format!("!has(self.requests) || !has(self.requests.memory) || !self.requests.memory.matches('{0}') || quantity(self.requests.memory).compareTo(quantity(has(self.limits) && has(self.limits.memory) && self.limits.memory.matches('{0}') ? self.limits.memory : '512Mi')) <= 0", crate::relay::SIZE))
        .message("resources.requests.memory is more than resources.limits.memory, which is 512Mi if not set: raise the limit or lower the request"),
    validation = Rule::new(format!("!has(self.requests) || !has(self.requests.cpu) || !self.requests.cpu.matches('{0}') || !has(self.limits) || !has(self.limits.cpu) || !self.limits.cpu.matches('{0}') || quantity(self.requests.cpu).compareTo(quantity(self.limits.cpu)) <= 0", crate::relay::resources::CPU))
        .message("resources.requests.cpu is more than resources.limits.cpu: raise the limit, leave it out, or lower the request")
)]
pub struct Resources {
    /// What the node has to have free. `cpu: 25m` and `memory: 64Mi` if not set.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub requests: Option<Amounts>,

    /// What the pod may use at most. `memory: 512Mi`, the least that is taken here, and no limit of CPU if not set.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub limits: Option<Amounts>,
}

/// Amounts of CPU and memory.
#[derive(Clone, Debug, Default, Deserialize, Eq, KubeSchema, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Amounts {
    /// CPUs, such as `2`, or thousandths of one, such as `250m`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 16))]
    #[x_kube(validation = Rule::new(format!("self.matches('{}')", crate::relay::resources::CPU))
        .message("this is no number of CPUs: write 2 or, for a quarter of one, 250m"))]
    pub cpu: Option<String>,

    /// Memory, as a quantity such as `1Gi`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 16))]
    #[x_kube(validation = Rule::new(format!("self.matches('{}')", crate::relay::SIZE))
        .message("this is no size: write a number with a unit, such as 1Gi or 500M"))]
    pub memory: Option<String>,
}
