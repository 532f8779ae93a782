//! The configuration file of the relay pods.
//!
//! A pod may run an earlier release than this operator: it keeps its image until its user changes or restarts the
//! relay. It refuses a file with a field that it does not know. So a field that is added to the file is left out
//! where its user has not asked for what it does, and no path in it may be one that earlier pods have not mounted.

mod delivery;

use std::path::PathBuf;

use ipnet::IpNet;
use postroad_api as api;
use postroad_config as config;

use super::Refusal;
use super::surroundings::Surroundings;
use crate::names::{
    KEY_AUTHORITY, KEY_CERTIFICATE, KEY_CREDENTIALS, KEY_PRIVATE, LISTENERS, PATH_ADMIN,
    PATH_CREDENTIALS, PATH_QUEUE, PATH_TLS, PORT_ADMIN, PORT_HEALTH, pod_port,
};
use crate::quantity;

/// One part in so many of the pod's share of the node's disk is left free: for what is damaged and kept aside, and for the
/// blocks that a file system takes beside the content.
const HEADROOM_PARTS: u64 = 8;

/// How long mail may be only on its way to stable storage in mode Relaxed if nothing is written, in milliseconds: ten syncs a
/// second cost a disk next to nothing.
const SYNC_MS: u32 = 100;

/// The index grows in such steps, in bytes: what is left over of the default pod makes none.
const INDEX_STEP_BYTES: u64 = 64 << 20;

/// The shortest prefixes of networks that are trusted, those of 10.0.0.0/8 and fc00::/7: nobody's own network is wider.
const WIDEST_IPV4: u8 = 8;
/// As [`WIDEST_IPV4`].
const WIDEST_IPV6: u8 = 7;

/// The file that the relay reads back as an equal value.
pub(super) fn render(config: &config::RelayConfig) -> Result<String, Refusal> {
    let text = config.render();
    text.map_err(|error| invalid(error.to_string()))
}

fn invalid(message: String) -> Refusal {
    Refusal {
        reason: "InvalidSpec",
        message,
    }
}

/// What the relay is told.
pub(super) fn resolve(
    spec: &api::SmtpRelaySpec,
    surroundings: Surroundings<'_>,
) -> Result<config::RelayConfig, Refusal> {
    let Surroundings {
        host,
        replicas,
        level,
    } = surroundings;
    let mut limits = limits(&spec.limits)?;
    check_storage(&spec.storage, limits.message_bytes)?;
    let spare = check_memory(spec.resources.as_ref(), limits.connections)?;
    if level >= config::LEVEL {
        limits.index_bytes += spare / INDEX_STEP_BYTES * INDEX_STEP_BYTES;
    }
    Ok(config::RelayConfig {
        version: config::VERSION,
        hostname: spec.hostname.as_deref().unwrap_or(host).to_owned(),
        listeners: listeners(&spec.listeners),
        tls: config::ServerTls {
            certificate: file(PATH_TLS, KEY_CERTIFICATE),
            key: file(PATH_TLS, KEY_PRIVATE),
        },
        access: access(&spec.access)?,
        limits,
        delivery: delivery::render(&spec.delivery, replicas)?,
        spool: config::Spool {
            directory: PATH_QUEUE.into(),
            persistent: spec.storage.kind == api::StorageType::Persistent,
            bytes_max: spool_bound(&spec.storage)?,
            mode: spool_mode(&spec.storage),
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

/// What a 250 promises.
pub(super) fn spool_mode(storage: &api::Storage) -> config::SpoolMode {
    match storage.mode.unwrap_or_default() {
        api::StorageMode::Durable => config::SpoolMode::Durable,
        api::StorageMode::Relaxed => config::SpoolMode::Relaxed {
            sync_ms: storage.sync_milliseconds.unwrap_or(SYNC_MS),
        },
        api::StorageMode::Passthrough => config::SpoolMode::Passthrough,
    }
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

/// Connections take memory as mail does; over the limit the kernel ends the pod. Gives what is left.
fn check_memory(resources: Option<&api::Resources>, connections: u32) -> Result<u64, Refusal> {
    let limits = resources.and_then(|resources| resources.limits.as_ref());
    let written = limits.and_then(|limits| limits.memory.as_deref());
    let limit = size(
        "resources.limits.memory",
        written.unwrap_or(api::MEMORY_LIMIT),
    )?;
    let needed = (api::MEMORY_MIB << 20) + u64::from(connections) * (api::CONNECTION_KIB << 10);
    let spare = limit.checked_sub(needed);
    spare.ok_or_else(|| invalid(api::MEMORY_TOO_SMALL.into()))
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
    let widest = match network {
        IpNet::V4(_) => WIDEST_IPV4,
        IpNet::V6(_) => WIDEST_IPV6,
    };
    if network.prefix_len() < widest {
        let message = format!(
            "access.trustedNetworks: {text} would make an open relay: /{widest} is the widest that may be trusted"
        );
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
        hold_seconds,
    } = limits;
    let message_bytes = size("limits.messageSize", message_size)?;
    Ok(config::Limits {
        message_bytes,
        recipients: *recipients,
        connections: *connections,
        connections_per_source: *connections_per_source,
        memory_bytes: config::memory::CONTENT_BYTES,
        index_bytes: config::memory::INDEX_BYTES,
        hold_seconds: *hold_seconds,
    })
}
