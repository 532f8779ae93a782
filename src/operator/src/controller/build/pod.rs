//! The pod of one replica, under Pod Security `restricted`.
//!
//! Whatever the relay reloads by itself (configuration, certificates, logins) is mounted and stands
//! nowhere in the template, so that changing it replaces no pod. No `subPath`: such mounts are never
//! refreshed. What the relay reads only at its start is in an annotation as well: a Deployment
//! replaces its pod for another template, and for nothing else.
//!
//! What the user can change about a pod comes in by [`Inputs`] alone, what the operator fills in by
//! [`PodDefaults`].

mod volumes;

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::{
    Capabilities, Container, ContainerPort, HTTPGetAction, LocalObjectReference,
    PodSecurityContext, PodSpec, PodTemplateSpec, Probe, ResourceRequirements, SeccompProfile,
    SecurityContext, TopologySpreadConstraint,
};
use k8s_openapi::apimachinery::pkg::api::resource::Quantity;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{LabelSelector, ObjectMeta};
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
use postroad_api::{ANNOTATION_RESTARTED_AT, Amounts, MEMORY_LIMIT, Resources};
use postroad_config::{LEVEL, SpoolMode};

pub(in crate::controller) use volumes::lacks;

use super::inputs::Inputs;
use crate::controller::validate::PodDefaults;
use crate::names::{
    ANNOTATION_CONFIG_LEVEL, ANNOTATION_MODE, KEY_CONFIG, LISTENERS, PATH_CONFIG, PORT_ADMIN,
    PORT_HEALTH, RelayId, pod_port,
};

/// User and group of the image.
const USER: i64 = 65532;
/// The relay ends its sessions and deliveries within 52 seconds of SIGTERM.
const GRACE_SECONDS: i64 = 60;
const MEMORY_REQUEST: &str = "64Mi";
/// No limit: throttling an SMTP session only makes it longer.
const CPU_REQUEST: &str = "25m";

pub(super) fn template(
    id: &RelayId,
    ordinal: u32,
    inputs: &Inputs<'_>,
    defaults: &PodDefaults,
) -> PodTemplateSpec {
    PodTemplateSpec {
        metadata: Some(ObjectMeta {
            labels: Some(id.replica_labels(ordinal)),
            annotations: Some(annotations(inputs)),
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
            image_pull_secrets: pull_secrets(inputs),
            topology_spread_constraints: Some(vec![spread(id)]),
            containers: vec![container(inputs, defaults)],
            volumes: Some(volumes::volumes(id, ordinal, inputs)),
            ..PodSpec::default()
        }),
    }
}

fn annotations(inputs: &Inputs<'_>) -> BTreeMap<String, String> {
    let level = (ANNOTATION_CONFIG_LEVEL, LEVEL.to_string());
    let restarted = inputs.restarted_at;
    let restarted = restarted.map(|at| (ANNOTATION_RESTARTED_AT, at.to_owned()));
    [level, (ANNOTATION_MODE, mode(inputs.mode))]
        .into_iter()
        .chain(restarted)
        .map(|(name, value)| (name.to_owned(), value))
        .collect()
}

/// What a 250 promises, as it stands at the pod. The usual too: the template of an operator that did not know of this says nothing, whatever its
/// pod promises, and has to differ from each.
fn mode(mode: SpoolMode) -> String {
    match mode {
        SpoolMode::Durable => "Durable".into(),
        SpoolMode::Relaxed { sync_ms } => format!("Relaxed, {sync_ms} ms"),
        SpoolMode::Passthrough => "Passthrough".into(),
    }
}

fn container(inputs: &Inputs<'_>, defaults: &PodDefaults) -> Container {
    Container {
        name: "relay".into(),
        image: Some(inputs.image.unwrap_or(&defaults.image).to_owned()),
        image_pull_policy: defaults.image_pull_policy.clone(),
        command: Some(vec!["/postroad-relay".into()]),
        args: Some(vec![
            "--config".into(),
            format!("{PATH_CONFIG}/{KEY_CONFIG}"),
        ]),
        ports: Some(ports()),
        resources: Some(resources(inputs.resources)),
        security_context: Some(container_security()),
        // A queue of a million messages takes seconds to open, on a slow disk minutes.
        startup_probe: Some(probe("/livez", 1, 600)),
        liveness_probe: Some(probe("/livez", 10, 6)),
        readiness_probe: Some(probe("/readyz", 2, 2)),
        volume_mounts: Some(volumes::mounts(inputs)),
        // Why the relay ended stands at the end of its log; the status of the relay shows it.
        termination_message_policy: Some("FallbackToLogsOnError".into()),
        ..Container::default()
    }
}

fn pull_secrets(inputs: &Inputs<'_>) -> Option<Vec<LocalObjectReference>> {
    let names = inputs.image_pull_secrets.iter();
    let secrets: Vec<_> = names
        .map(|name| LocalObjectReference { name: name.clone() })
        .collect();
    (!secrets.is_empty()).then_some(secrets)
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

/// What is written, and the defaults where nothing is.
fn resources(written: Option<&Resources>) -> ResourceRequirements {
    let Resources { requests, limits } = written.cloned().unwrap_or_default();
    let defaults = |cpu: Option<&str>, memory: &str| Amounts {
        cpu: cpu.map(str::to_owned),
        memory: Some(memory.to_owned()),
    };
    ResourceRequirements {
        requests: Some(quantities(
            requests,
            defaults(Some(CPU_REQUEST), MEMORY_REQUEST),
        )),
        limits: Some(quantities(limits, defaults(None, MEMORY_LIMIT))),
        ..ResourceRequirements::default()
    }
}

fn quantities(written: Option<Amounts>, defaults: Amounts) -> BTreeMap<String, Quantity> {
    let Amounts { cpu, memory } = written.unwrap_or_default();
    let cpu = cpu.or(defaults.cpu).map(|cpu| ("cpu", cpu));
    let memory = memory.or(defaults.memory).map(|memory| ("memory", memory));
    cpu.into_iter()
        .chain(memory)
        .map(|(name, value)| (name.to_owned(), Quantity(value)))
        .collect()
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

fn spread(id: &RelayId) -> TopologySpreadConstraint {
    TopologySpreadConstraint {
        max_skew: 1,
        topology_key: "kubernetes.io/hostname".into(),
        when_unsatisfiable: "ScheduleAnyway".into(),
        label_selector: Some(LabelSelector {
            match_labels: Some(id.selector()),
            ..LabelSelector::default()
        }),
        ..TopologySpreadConstraint::default()
    }
}
