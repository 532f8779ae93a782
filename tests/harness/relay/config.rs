//! What a relay is told unless a test says otherwise.

use std::path::Path;

use postroad_config::{
    Access, Admin, AuthMode, Delivery, Health, Limits, Listener, ListenerName, ListenerTls,
    RelayConfig, ServerTls, Spool, SpoolMode, VERSION,
};

use super::HOSTNAME;
use crate::free_port;

/// All four listeners on loopback, a spool in the directory, and nowhere to send to.
pub(super) fn without_upstreams(directory: &Path) -> RelayConfig {
    let path = |name: &str| directory.join(name);
    let local = || format!("127.0.0.1:{}", free_port()).parse().unwrap();
    let listener = |name, tls, auth| Listener {
        name,
        listen: local(),
        tls,
        auth,
    };
    RelayConfig {
        version: VERSION,
        hostname: HOSTNAME.into(),
        listeners: vec![
            listener(
                ListenerName::Smtp,
                ListenerTls::Opportunistic,
                AuthMode::Optional,
            ),
            listener(
                ListenerName::Submissions,
                ListenerTls::Implicit,
                AuthMode::Required,
            ),
            listener(
                ListenerName::Submission,
                ListenerTls::Opportunistic,
                AuthMode::Required,
            ),
            listener(
                ListenerName::Alternate,
                ListenerTls::Opportunistic,
                AuthMode::Optional,
            ),
        ],
        tls: ServerTls {
            certificate: path("tls.crt"),
            key: path("tls.key"),
        },
        access: Access {
            trusted_networks: Vec::new(),
            credentials: path("credentials.yaml"),
        },
        limits: Limits::default(),
        delivery: Delivery::default(),
        spool: Spool {
            directory: path("queue"),
            persistent: true,
            bytes_max: None,
            mode: SpoolMode::Durable,
        },
        admin: Admin {
            listen: local(),
            certificate: path("admin.crt"),
            key: path("admin.key"),
            client_ca: path("ca.crt"),
        },
        health: Health { listen: local() },
    }
}
