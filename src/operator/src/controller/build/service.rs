//! The Services: one for clients, and a headless one under which each replica has a name.

use k8s_openapi::api::core::v1::{Service, ServicePort, ServiceSpec};
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
use postroad_api::ServiceType;
use postroad_config::ListenerName;

use crate::controller::validate::Validated;
use crate::names::{pod_port, port_name};

/// The Service that clients use.
pub(super) fn front(validated: &Validated) -> Service {
    let id = &validated.id;
    let mut metadata = id.meta(id.name.clone());
    if !validated.service_annotations.is_empty() {
        metadata.annotations = Some(validated.service_annotations.clone());
    }
    Service {
        metadata,
        spec: Some(ServiceSpec {
            type_: Some(validated.service_type.as_str().into()),
            selector: Some(id.selector()),
            ports: Some(ports(validated, |_, number| number)),
            external_traffic_policy: external_traffic_policy(validated.service_type),
            ..ServiceSpec::default()
        }),
        status: None,
    }
}

/// Clients from outside must show with their own address: rewritten to that of a node, a stranger would look like a member of a
/// trusted network that holds the nodes, and all strangers like one source.
fn external_traffic_policy(service_type: ServiceType) -> Option<String> {
    match service_type {
        ServiceType::ClusterIP => None,
        ServiceType::LoadBalancer | ServiceType::NodePort => Some("Local".into()),
    }
}

/// The Service that gives each replica a name. Nothing translates its ports: they are those of the pods.
pub(super) fn headless(validated: &Validated) -> Service {
    let id = &validated.id;
    Service {
        metadata: id.meta(id.headless()),
        spec: Some(ServiceSpec {
            type_: Some("ClusterIP".into()),
            cluster_ip: Some("None".into()),
            selector: Some(id.selector()),
            ports: Some(ports(validated, |listener, _| pod_port(listener))),
            ..ServiceSpec::default()
        }),
        status: None,
    }
}

fn ports(validated: &Validated, number_of: impl Fn(ListenerName, u16) -> u16) -> Vec<ServicePort> {
    let listeners = validated.listeners.iter();
    listeners
        .map(|&(listener, number)| port(listener, number_of(listener, number)))
        .collect()
}

fn port(listener: ListenerName, number: u16) -> ServicePort {
    ServicePort {
        name: Some(port_name(listener).into()),
        port: i32::from(number),
        target_port: Some(IntOrString::Int(i32::from(pod_port(listener)))),
        // The server speaks first: a mesh that sniffs would wait for ever.
        app_protocol: Some("tcp".into()),
        protocol: Some("TCP".into()),
        ..ServicePort::default()
    }
}
