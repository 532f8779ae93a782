//! What a listener offers to its clients.

use postroad_config::{AuthMode, Listener, ListenerName, ListenerTls};
use postroad_smtp::server::{AuthOffer, FutureRelease, ServerConfig, TlsOffer};

use crate::clock;
use crate::live::Live;

pub(super) fn server_config(live: &Live, listener: &Listener) -> ServerConfig {
    let tls = match listener.tls {
        ListenerTls::Implicit => TlsOffer::Active,
        ListenerTls::Opportunistic if live.served.is_some() => TlsOffer::Offered,
        ListenerTls::Required if live.served.is_some() => TlsOffer::Required,
        // Without a certificate mail must not silently go in plaintext where TLS is required.
        ListenerTls::Required => TlsOffer::Unready,
        ListenerTls::Opportunistic | ListenerTls::Disabled => TlsOffer::Unavailable,
    };
    let auth = match listener.auth {
        AuthMode::Disabled => AuthOffer::Disabled,
        // Who may relay is decided at RCPT, by the policy.
        AuthMode::Optional => AuthOffer::UnderTls,
        // The policy lets in nobody without a login here: a client is told at MAIL, and so that it logs in (RFC 6409 §4.3, RFC 4954 §6).
        AuthMode::Required => AuthOffer::Required,
    };
    ServerConfig {
        tls,
        auth,
        message_bytes: live.config.limits.message_bytes,
        recipients: live.config.limits.recipients,
        future_release: future_release(live, listener.name),
        ..ServerConfig::new(live.config.hostname.clone())
    }
}

/// RFC 4865 §3: for submission only. Port 2525 is one by another name.
fn future_release(live: &Live, listener: ListenerName) -> Option<FutureRelease> {
    match listener {
        ListenerName::Smtp => None,
        ListenerName::Alternate | ListenerName::Submission | ListenerName::Submissions => {
            let seconds_max = live.config.hold_seconds()?;
            let now = clock::now_ms() / 1000;
            Some(FutureRelease {
                seconds_max,
                until_max: now.saturating_add(u64::from(seconds_max)),
            })
        }
    }
}
