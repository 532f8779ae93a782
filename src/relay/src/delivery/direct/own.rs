//! What this relay is called and where it listens, so that its mail does not come back to it.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};

use postroad_config::RelayConfig;

/// What this relay is known as.
#[derive(Debug)]
pub(super) struct Own {
    hostname: String,
    /// The port at which mail exchangers are.
    port: u16,
    /// The addresses at which this relay listens on that port.
    listening: Vec<IpAddr>,
}

impl Own {
    pub(super) fn new(config: &RelayConfig) -> Self {
        let port = config.delivery.direct.port;
        let listeners = config.listeners.iter().map(|listener| listener.listen);
        Self {
            hostname: config.hostname.clone(),
            port,
            listening: listeners
                .filter(|listen| listen.port() == port)
                .map(|listen| listen.ip())
                .collect(),
        }
    }

    /// Whether this is the relay's name.
    pub(super) fn is_named(&self, name: &str) -> bool {
        name.eq_ignore_ascii_case(&self.hostname)
    }

    /// Whether a connection to this address would be to the relay.
    pub(super) fn is_at(&self, address: IpAddr) -> bool {
        let address = address.to_canonical();
        self.listening.iter().any(|listening| match listening {
            any if any.is_unspecified() => is_local(SocketAddr::new(address, self.port)),
            one => *one == address,
        })
    }
}

/// Whether an address is this machine's: a packet to it would come from it. Nothing is sent.
fn is_local(address: SocketAddr) -> bool {
    let any: IpAddr = match address {
        SocketAddr::V4(_) => Ipv4Addr::UNSPECIFIED.into(),
        SocketAddr::V6(_) => Ipv6Addr::UNSPECIFIED.into(),
    };
    let source = || {
        let socket = UdpSocket::bind((any, 0))?;
        socket.connect(address)?;
        socket.local_addr()
    };
    address.ip().is_loopback() || source().is_ok_and(|source| source.ip() == address.ip())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rig::Rig;

    #[test]
    fn the_relay_knows_itself_by_name_and_by_address_and_port() {
        let mut config = Rig::new(1 << 20).context.live().config.clone();
        config.hostname = "relay.example.com".into();
        config.delivery.direct.port = 2525;
        for (listen, at, expected) in [
            ("0.0.0.0:2525", "127.0.0.1", true),
            ("0.0.0.0:2525", "127.9.9.9", true),
            ("0.0.0.0:2525", "::ffff:127.0.0.1", true),
            ("[::]:2525", "::1", true),
            ("0.0.0.0:2525", "192.0.2.1", false),
            ("[::]:2525", "2001:db8::1", false),
            ("0.0.0.0:25", "127.0.0.1", false),
            ("127.0.0.1:2525", "127.0.0.1", true),
            ("127.0.0.1:2525", "127.0.0.2", false),
        ] {
            config.listeners[0].listen = listen.parse().unwrap();
            let own = Own::new(&config);
            assert!(own.is_named("Relay.Example.COM") && !own.is_named("example.com"));
            let at = at.parse().unwrap();
            assert_eq!(own.is_at(at), expected, "{listen} {at}");
        }
    }
}
