//! The pod of one replica, under Pod Security `restricted`.
//!
//! Whatever the relay reloads by itself (configuration, certificates, logins) is mounted and stands
//! nowhere in the template, so that changing it replaces no pod. No `subPath`: such mounts are never
//! refreshed.

mod volumes;

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::{
    Capabilities, Container, ContainerPort, HTTPGetAction, PodSecurityContext, PodSpec,
    PodTemplateSpec, Probe, ResourceRequirements, SeccompProfile, SecurityContext,
    TopologySpreadConstraint,
};
use k8s_openapi::apimachinery::pkg::api::resource::Quantity;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{LabelSelector, ObjectMeta};
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;

use crate::controller::validate::Validated;
use crate::names::{KEY_CONFIG, LISTENERS, PATH_CONFIG, PORT_ADMIN, PORT_HEALTH, pod_port};

/// User and group of the image.
const USER: i64 = 65532;
/// The relay ends its sessions and deliveries within 52 seconds of SIGTERM.
const GRACE_SECONDS: i64 = 60;
/// Twice what the relay holds of messages: the rest is connections, the index and room.
const MEMORY_LIMIT: &str = "512Mi";
const MEMORY_REQUEST: &str = "64Mi";
/// No limit: throttling an SMTP session only makes it longer.
const CPU_REQUEST: &str = "25m";

pub(super) fn template(validated: &Validated, ordinal: u32) -> PodTemplateSpec {
    let id = &validated.id;
    PodTemplateSpec {
        metadata: Some(ObjectMeta {
            labels: Some(id.replica_labels(ordinal)),
            ..ObjectMeta::default()
        }),
        spec: Some(PodSpec {
            service_account_name: Some(id.name.clone()),
            automount_service_account_token: Some(false),
            enable_service_links: Some(false),
            hostname: Some(id.replica(ordinal)),
            subdomain: Some(id.headless()),
            termination_grace_period_seconds: Some(GRACE_SECONDS),
            security_context: Some(pod_security()),
            topology_spread_constraints: Some(vec![spread(validated)]),
            containers: vec![container(validated)],
            volumes: Some(volumes::volumes(validated, ordinal)),
            ..PodSpec::default()
        }),
    }
}

fn container(validated: &Validated) -> Container {
    Container {
        name: "relay".into(),
        image: Some(validated.image.clone()),
        image_pull_policy: validated.image_pull_policy.clone(),
        command: Some(vec!["/postroad-relay".into()]),
        args: Some(vec![
            "--config".into(),
            format!("{PATH_CONFIG}/{KEY_CONFIG}"),
        ]),
        ports: Some(ports()),
        resources: Some(resources()),
        security_context: Some(container_security()),
        // A queue of a million messages takes seconds to open, on a slow disk minutes.
        startup_probe: Some(probe("/livez", 1, 600)),
        liveness_probe: Some(probe("/livez", 10, 6)),
        readiness_probe: Some(probe("/readyz", 2, 2)),
        volume_mounts: Some(volumes::mounts(validated)),
        ..Container::default()
    }
}

/// All listeners, also those that are not served: switching one on replaces no pod.
fn ports() -> Vec<ContainerPort> {
    let listeners = LISTENERS.map(|listener| (listener.as_str(), pod_port(listener)));
    let others = [("health", PORT_HEALTH), ("admin", PORT_ADMIN)];
    listeners
        .into_iter()
        .chain(others)
        .map(|(name, port)| ContainerPort {
            name: Some(name.into()),
            container_port: i32::from(port),
            protocol: Some("TCP".into()),
            ..ContainerPort::default()
        })
        .collect()
}

fn resources() -> ResourceRequirements {
    let quantities = |pairs: &[(&str, &str)]| -> BTreeMap<String, Quantity> {
        pairs
            .iter()
            .map(|&(name, value)| (name.to_owned(), Quantity(value.to_owned())))
            .collect()
    };
    ResourceRequirements {
        requests: Some(quantities(&[
            ("cpu", CPU_REQUEST),
            ("memory", MEMORY_REQUEST),
        ])),
        limits: Some(quantities(&[("memory", MEMORY_LIMIT)])),
        ..ResourceRequirements::default()
    }
}

fn probe(path: &str, period_seconds: i32, failures: i32) -> Probe {
    Probe {
        http_get: Some(HTTPGetAction {
            path: Some(path.into()),
            port: IntOrString::String("health".into()),
            ..HTTPGetAction::default()
        }),
        period_seconds: Some(period_seconds),
        timeout_seconds: Some(2),
        failure_threshold: Some(failures),
        ..Probe::default()
    }
}

fn pod_security() -> PodSecurityContext {
    PodSecurityContext {
        run_as_non_root: Some(true),
        run_as_user: Some(USER),
        run_as_group: Some(USER),
        fs_group: Some(USER),
        // Going through a large queue file by file would delay every start.
        fs_group_change_policy: Some("OnRootMismatch".into()),
        seccomp_profile: Some(SeccompProfile {
            type_: "RuntimeDefault".into(),
            localhost_profile: None,
        }),
        ..PodSecurityContext::default()
    }
}

fn container_security() -> SecurityContext {
    SecurityContext {
        allow_privilege_escalation: Some(false),
        read_only_root_filesystem: Some(true),
        capabilities: Some(Capabilities {
            drop: Some(vec!["ALL".into()]),
            add: None,
        }),
        ..SecurityContext::default()
    }
}

fn spread(validated: &Validated) -> TopologySpreadConstraint {
    TopologySpreadConstraint {
        max_skew: 1,
        topology_key: "kubernetes.io/hostname".into(),
        when_unsatisfiable: "ScheduleAnyway".into(),
        label_selector: Some(LabelSelector {
            match_labels: Some(validated.id.selector()),
            ..LabelSelector::default()
        }),
        ..TopologySpreadConstraint::default()
    }
}
