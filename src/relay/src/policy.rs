//! Who may relay. Pure, and the only place where that is decided.
//!
//! A relay is closed: without a login or an address in a trusted network every recipient gets
//! 550 5.7.1. Where a login is required, a client without one hears 530 5.7.0 at MAIL already (`session/offer`). The decision rests on this one session alone; nothing about a peer is remembered
//! between sessions, so that one client's login can never open the door for another.

use std::net::IpAddr;

use ipnet::IpNet;
use postroad_config::AuthMode;

/// Whether the client may name recipients.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Relaying {
    /// It has proved who it is, or comes from a trusted network.
    Allowed,
    /// It must authenticate, which the listener offers (under TLS).
    AuthenticationNeeded,
    /// Nothing it could do here would help.
    Denied,
}

/// Decides for a client with this login state and address on a listener of this kind.
pub fn relaying(
    authenticated: bool,
    peer: IpAddr,
    auth: AuthMode,
    trusted_networks: &[IpNet],
) -> Relaying {
    // A v4 client of a v6 socket shows as ::ffff:a.b.c.d; networks are written as v4.
    let peer = peer.to_canonical();
    let trusted = trusted_networks
        .iter()
        .any(|network| network.contains(&peer));
    match auth {
        _ if authenticated => Relaying::Allowed,
        AuthMode::Required => Relaying::AuthenticationNeeded,
        AuthMode::Disabled | AuthMode::Optional if trusted => Relaying::Allowed,
        AuthMode::Optional => Relaying::AuthenticationNeeded,
        AuthMode::Disabled => Relaying::Denied,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn relays_for_logins_and_trusted_networks_only() {
        use AuthMode::{Disabled, Optional, Required};
        use Relaying::{Allowed, AuthenticationNeeded, Denied};
        let networks = ["10.1.0.0/16".parse().unwrap(), "fd00::/8".parse().unwrap()];
        let cases = [
            (true, "192.0.2.1", Required, Allowed),
            (true, "192.0.2.1", Optional, Allowed),
            (false, "192.0.2.1", Optional, AuthenticationNeeded),
            (false, "192.0.2.1", Required, AuthenticationNeeded),
            (false, "192.0.2.1", Disabled, Denied),
            (false, "10.1.2.3", Optional, Allowed),
            (false, "10.1.2.3", Disabled, Allowed),
            (false, "10.1.2.3", Required, AuthenticationNeeded),
            (false, "::ffff:10.1.2.3", Optional, Allowed),
            (false, "::ffff:10.2.2.3", Optional, AuthenticationNeeded),
            (false, "fd12::1", Optional, Allowed),
            (false, "fe80::1", Optional, AuthenticationNeeded),
            (false, "127.0.0.1", Optional, AuthenticationNeeded),
        ];
        for (authenticated, peer, auth, expected) in cases {
            let actual = relaying(authenticated, peer.parse().unwrap(), auth, &networks);
            assert_eq!(actual, expected, "{authenticated} {peer} {auth:?}");
        }
    }

    #[test]
    fn nobody_is_trusted_by_default() {
        for peer in ["127.0.0.1", "::1", "10.0.0.1"] {
            let actual = relaying(false, peer.parse().unwrap(), AuthMode::Optional, &[]);
            assert_eq!(actual, Relaying::AuthenticationNeeded);
        }
    }
}
