//! What a listener offers to its clients.

use postroad_config::{AuthMode, Listener, ListenerTls};
use postroad_smtp::server::{AuthOffer, ServerConfig, TlsOffer};

use crate::live::Live;

pub(super) fn server_config(live: &Live, listener: &Listener) -> ServerConfig {
    let tls = match listener.tls {
        ListenerTls::Implicit => TlsOffer::Active,
        ListenerTls::Opportunistic if live.served.is_some() => TlsOffer::Offered,
        ListenerTls::Required if live.served.is_some() => TlsOffer::Required,
        // Without a certificate mail must not silently go in plaintext where TLS is required: Required
        // refuses MAIL, and STARTTLS is answered with a failing handshake.
        ListenerTls::Required => TlsOffer::Required,
        ListenerTls::Opportunistic | ListenerTls::Disabled => TlsOffer::Unavailable,
    };
    let auth = match listener.auth {
        AuthMode::Disabled => AuthOffer::Disabled,
        // Who may relay is decided at RCPT, by the policy: a stranger gets the same 550 on every port.
        AuthMode::Optional | AuthMode::Required => AuthOffer::UnderTls,
    };
    ServerConfig {
        hostname: live.config.hostname.clone(),
        tls,
        auth,
        message_bytes: live.config.limits.message_bytes,
        recipients: live.config.limits.recipients,
    }
}
