//! The configuration file of the relay pods.
//!
//! A pod may run an earlier release than this operator: it keeps its image until its user changes or restarts the
//! relay. It refuses a file with a field that it does not know. So a field that is added to the file is left out
//! where its user has not asked for what it does, and no path in it may be one that earlier pods have not mounted.

use std::path::PathBuf;

use ipnet::IpNet;
use postroad_api as api;
use postroad_config as config;

use super::Refusal;
use crate::names::{
    KEY_AUTHORITY, KEY_CERTIFICATE, KEY_CREDENTIALS, KEY_PASSWORD, KEY_PRIVATE, KEY_USERNAME,
    LISTENERS, PATH_ADMIN, PATH_CREDENTIALS, PATH_QUEUE, PATH_TLS, PATH_UPSTREAMS, PORT_ADMIN,
    PORT_HEALTH, pod_port,
};
use crate::quantity;

/// One part in so many of the pod's share of the node's disk is left free: for what is damaged and kept aside, and for the
/// blocks that a file system takes beside the content.
const HEADROOM_PARTS: u64 = 8;

/// The file that the relay reads back as an equal value.
pub(super) fn render(spec: &api::SmtpRelaySpec, hostname: &str) -> Result<String, Refusal> {
    let text = relay_config(spec, hostname)?.render();
    text.map_err(|error| invalid(error.to_string()))
}

fn invalid(message: String) -> Refusal {
    Refusal {
        reason: "InvalidSpec",
        message,
    }
}

fn relay_config(spec: &api::SmtpRelaySpec, hostname: &str) -> Result<config::RelayConfig, Refusal> {
    let limits = limits(&spec.limits)?;
    check_storage(&spec.storage, limits.message_bytes)?;
    check_memory(spec.resources.as_ref(), limits.connections)?;
    Ok(config::RelayConfig {
        version: config::VERSION,
        hostname: hostname.to_owned(),
        listeners: listeners(&spec.listeners),
        tls: config::ServerTls {
            certificate: file(PATH_TLS, KEY_CERTIFICATE),
            key: file(PATH_TLS, KEY_PRIVATE),
        },
        access: access(&spec.access)?,
        limits,
        delivery: delivery(&spec.delivery),
        spool: config::Spool {
            directory: PATH_QUEUE.into(),
            persistent: spec.storage.kind == api::StorageType::Persistent,
            bytes_max: spool_bound(&spec.storage)?,
        },
        admin: config::Admin {
            listen: any(PORT_ADMIN),
            certificate: file(PATH_ADMIN, KEY_CERTIFICATE),
            key: file(PATH_ADMIN, KEY_PRIVATE),
            client_ca: file(PATH_ADMIN, KEY_AUTHORITY),
        },
        health: config::Health {
            listen: any(PORT_HEALTH),
        },
    })
}

/// The kubelet ends a pod that takes more of its node's disk than it may, and mail goes with it: the relay has to stop before
/// that. A volume of its own needs no bound.
fn spool_bound(storage: &api::Storage) -> Result<Option<u64>, Refusal> {
    match storage.kind {
        api::StorageType::Persistent => Ok(None),
        api::StorageType::Ephemeral => {
            let size = size("storage.size", &storage.size)?;
            Ok(Some(size - size / HEADROOM_PARTS))
        }
    }
}

/// Messages of the largest size have to fit beside what the relay keeps free for outcomes.
fn check_storage(storage: &api::Storage, message_bytes: u64) -> Result<(), Refusal> {
    let fits = message_bytes.saturating_mul(api::MESSAGES_PER_VOLUME);
    if size("storage.size", &storage.size)? < fits {
        return Err(invalid(api::STORAGE_TOO_SMALL.into()));
    }
    Ok(())
}

/// The API cannot see the sum that it tells of.
const _: () = {
    use config::memory::{CONTENT_BYTES, INDEX_BYTES, PROGRAM_BYTES};
    assert!(api::MEMORY_MIB << 20 == CONTENT_BYTES + INDEX_BYTES + PROGRAM_BYTES);
};

/// Connections take memory as mail does; over the limit the kernel ends the pod.
fn check_memory(resources: Option<&api::Resources>, connections: u32) -> Result<(), Refusal> {
    let limits = resources.and_then(|resources| resources.limits.as_ref());
    let written = limits.and_then(|limits| limits.memory.as_deref());
    let limit = size(
        "resources.limits.memory",
        written.unwrap_or(api::MEMORY_LIMIT),
    )?;
    let needed = (api::MEMORY_MIB << 20) + u64::from(connections) * (api::CONNECTION_KIB << 10);
    if limit < needed {
        return Err(invalid(api::MEMORY_TOO_SMALL.into()));
    }
    Ok(())
}

fn size(field: &str, text: &str) -> Result<u64, Refusal> {
    quantity::bytes(text)
        .ok_or_else(|| invalid(format!("{field}: {text:?} is no size such as 50Mi")))
}

fn file(folder: &str, name: &str) -> PathBuf {
    PathBuf::from(folder).join(name)
}

fn any(port: u16) -> std::net::SocketAddr {
    (std::net::Ipv6Addr::UNSPECIFIED, port).into()
}

/// The listener of the spec that a name stands for.
pub(super) const fn listener(
    listeners: &api::Listeners,
    name: config::ListenerName,
) -> api::Listener {
    match name {
        config::ListenerName::Smtp => listeners.smtp,
        config::ListenerName::Submissions => listeners.submissions,
        config::ListenerName::Submission => listeners.submission,
        config::ListenerName::Alternate => listeners.alternate,
    }
}

fn listeners(listeners: &api::Listeners) -> Vec<config::Listener> {
    LISTENERS
        .into_iter()
        .map(|name| (name, listener(listeners, name)))
        .filter(|(_, listener)| listener.enabled)
        .map(|(name, listener)| config::Listener {
            name,
            listen: any(pod_port(name)),
            tls: match listener.tls {
                api::ListenerTls::Disabled => config::ListenerTls::Disabled,
                api::ListenerTls::Opportunistic => config::ListenerTls::Opportunistic,
                api::ListenerTls::Required => config::ListenerTls::Required,
                api::ListenerTls::Implicit => config::ListenerTls::Implicit,
            },
            auth: match listener.auth {
                api::AuthMode::Disabled => config::AuthMode::Disabled,
                api::AuthMode::Optional => config::AuthMode::Optional,
                api::AuthMode::Required => config::AuthMode::Required,
            },
        })
        .collect()
}

fn access(access: &api::Access) -> Result<config::Access, Refusal> {
    let trusted_networks = access
        .trusted_networks
        .iter()
        .map(|api::Network(text)| network(text))
        .collect::<Result<_, _>>()?;
    Ok(config::Access {
        trusted_networks,
        credentials: file(PATH_CREDENTIALS, KEY_CREDENTIALS),
    })
}

/// A network that is not so wide that everybody would be let in.
fn network(text: &str) -> Result<IpNet, Refusal> {
    let network: IpNet = text.parse().map_err(|_| {
        invalid(format!(
            "access.trustedNetworks: {text:?} is no network in CIDR notation such as 10.0.0.0/8"
        ))
    })?;
    if network.prefix_len() == 0 {
        let message = format!("access.trustedNetworks: {text} would make an open relay");
        return Err(Refusal {
            reason: "OpenRelay",
            message,
        });
    }
    Ok(network)
}

fn limits(limits: &api::Limits) -> Result<config::Limits, Refusal> {
    let api::Limits {
        message_size,
        recipients,
        connections,
        connections_per_source,
    } = limits;
    let message_bytes = size("limits.messageSize", message_size)?;
    Ok(config::Limits {
        message_bytes,
        recipients: *recipients,
        connections: *connections,
        connections_per_source: *connections_per_source,
        memory_bytes: config::memory::CONTENT_BYTES,
    })
}

fn delivery(delivery: &api::Delivery) -> config::Delivery {
    let api::Delivery { upstreams, retry } = delivery;
    let api::Retry {
        initial_seconds,
        maximum_seconds,
        lifetime_seconds,
    } = *retry;
    config::Delivery {
        upstreams: upstreams.iter().map(upstream).collect(),
        retry: config::Retry {
            initial_seconds: initial_seconds.into(),
            maximum_seconds: maximum_seconds.into(),
            lifetime_seconds: lifetime_seconds.into(),
        },
    }
}

fn upstream(upstream: &api::Upstream) -> config::Upstream {
    let folder = PathBuf::from(PATH_UPSTREAMS).join(&upstream.name);
    config::Upstream {
        name: upstream.name.clone(),
        host: upstream.host.clone(),
        port: upstream.port,
        tls: match upstream.tls_mode() {
            api::UpstreamTlsMode::Disabled => config::UpstreamTls::Disabled,
            api::UpstreamTlsMode::Opportunistic => config::UpstreamTls::Opportunistic,
            api::UpstreamTlsMode::Required => config::UpstreamTls::Required,
            api::UpstreamTlsMode::Implicit => config::UpstreamTls::Implicit,
        },
        ca: upstream
            .ca_secret()
            .map(|_| folder.join("ca").join(KEY_AUTHORITY)),
        auth: upstream.login_secret().map(|_| config::UpstreamAuth {
            username: folder.join("login").join(KEY_USERNAME),
            password: folder.join("login").join(KEY_PASSWORD),
        }),
        limits: upstream_limits(upstream.limits.as_ref()),
    }
}

fn upstream_limits(written: Option<&api::UpstreamLimits>) -> config::UpstreamLimits {
    let default = config::UpstreamLimits::default();
    let Some(api::UpstreamLimits {
        connections,
        messages_per_connection,
        recipients_per_message,
    }) = written
    else {
        return default;
    };
    config::UpstreamLimits {
        connections: connections.unwrap_or(default.connections),
        messages_per_connection: messages_per_connection.unwrap_or(default.messages_per_connection),
        recipients_per_message: recipients_per_message.unwrap_or(default.recipients_per_message),
    }
}
