//! Which addresses an MX record may lead to. Anybody can write any address into a record of a domain of theirs, or name one in a
//! literal, and send mail there: without a rule the relay would knock on port 25 of whatever its pod can reach, and tell how
//! it was answered. Pure.
//!
//! | the address | what follows |
//! |---|---|
//! | of the internet | it is tried |
//! | private: RFC 1918, RFC 6598, unique local IPv6 (RFC 4193), site-local IPv6, NAT64 for local use (RFC 8215) | it is tried if the configuration allows its network |
//! | loopback, link-local | the same, but the network has to be loopback or link-local itself: `0.0.0.0/0` does not allow them |
//! | unspecified, `0.0.0.0/8`, multicast, broadcast | nobody has it |
//!
//! An IPv6 address that stands for an IPv4 address (mapped, compatible, 6to4, NAT64) is judged as that one.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnet::IpNet;

/// The rule: what is allowed beside the internet.
#[derive(Clone, Debug, Default)]
pub struct Reach {
    allowed: Vec<IpNet>,
}

/// What the rule says of an address.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Judgement {
    /// It may be tried.
    Open,
    /// It could be somebody's, if the configuration said so.
    Barred,
    /// It is nobody's mail exchanger.
    Nobody,
}

/// Where an address is.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Place {
    Internet,
    Private,
    /// This machine, or its link.
    Local,
    Nowhere,
}

impl Reach {
    /// The internet and these networks.
    #[must_use]
    pub fn new(allowed: &[IpNet]) -> Self {
        Self {
            allowed: allowed.to_vec(),
        }
    }

    /// Whether an address may be tried.
    #[must_use]
    pub fn judge(&self, address: IpAddr) -> Judgement {
        match place(address) {
            Place::Internet => Judgement::Open,
            Place::Nowhere => Judgement::Nobody,
            Place::Private if self.allows(address, |_| true) => Judgement::Open,
            Place::Private => Judgement::Barred,
            Place::Local if self.allows(address, is_local) => Judgement::Open,
            Place::Local => Judgement::Nobody,
        }
    }

    fn allows(&self, address: IpAddr, counts: impl Fn(&IpNet) -> bool) -> bool {
        let forms = [address.to_canonical(), meant(address)];
        let mut networks = self.allowed.iter().filter(|network| counts(network));
        networks.any(|network| forms.iter().any(|form| network.contains(form)))
    }
}

/// Whether all of a network is local.
fn is_local(network: &IpNet) -> bool {
    let ends = [network.network(), network.broadcast()];
    ends.into_iter().all(|end| place(end) == Place::Local)
}

fn place(address: IpAddr) -> Place {
    match meant(address) {
        IpAddr::V4(address) => place_v4(address),
        IpAddr::V6(address) => place_v6(address),
    }
}

fn place_v4(address: Ipv4Addr) -> Place {
    match address.octets() {
        // RFC 1122 §3.2.1.3: this host on this network.
        [0, ..] => Place::Nowhere,
        _ if address.is_multicast() || address.is_broadcast() => Place::Nowhere,
        _ if address.is_loopback() || address.is_link_local() => Place::Local,
        // RFC 6598: between a carrier and its customers; some clouds give it to pods.
        [100, 64..=127, ..] => Place::Private,
        _ if address.is_private() => Place::Private,
        // RFC 2544, RFC 6890 §2.2.2 and RFC 1112 §4: for tests, for protocols, and reserved. Some networks give them to hosts of their own.
        [198, 18..=19, ..] | [192, 0, 0, _] | [240..=255, ..] => Place::Private,
        _ => Place::Internet,
    }
}

fn place_v6(address: Ipv6Addr) -> Place {
    match address.segments() {
        _ if address.is_unspecified() || address.is_multicast() => Place::Nowhere,
        _ if address.is_loopback() || address.is_unicast_link_local() => Place::Local,
        [0xfec0..=0xfeff, ..] | [0x64, 0xff9b, 1, ..] => Place::Private,
        _ if address.is_unique_local() => Place::Private,
        _ => Place::Internet,
    }
}

/// The IPv4 address that an IPv6 address stands for, if it does.
fn meant(address: IpAddr) -> IpAddr {
    let IpAddr::V6(v6) = address else {
        return address;
    };
    let v4 = |high: u16, low: u16| {
        IpAddr::V4(Ipv4Addr::from_bits(u32::from(high) << 16 | u32::from(low)))
    };
    match v6.segments() {
        // Mapped (RFC 4291 §2.5.5.2); compatible (§2.5.5.1), of which :: and ::1 are none.
        [0, 0, 0, 0, 0, 0xffff, high, low] => v4(high, low),
        [0, 0, 0, 0, 0, 0, high, low] if high > 0 => v4(high, low),
        // 6to4 (RFC 3056 §2), NAT64 (RFC 6052 §2.1).
        [0x2002, high, low, ..] => v4(high, low),
        [0x64, 0xff9b, 0, 0, 0, 0, high, low] => v4(high, low),
        _ => address,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn judged(allowed: &[&str], address: &str) -> Judgement {
        let networks: Vec<IpNet> = allowed.iter().map(|text| text.parse().unwrap()).collect();
        Reach::new(&networks).judge(address.parse().unwrap())
    }

    #[test]
    fn the_internet_is_open_and_nothing_else_is() {
        use Judgement::{Barred, Nobody, Open};
        for (address, expected) in [
            ("8.8.8.8", Open),
            ("100.63.255.255", Open),
            ("100.128.0.1", Open),
            ("172.15.0.1", Open),
            ("172.32.0.1", Open),
            ("192.0.2.1", Open),
            ("2001:db8::1", Open),
            ("::ffff:8.8.8.8", Open),
            ("64:ff9b::8.8.8.8", Open),
            ("2002:808:808::1", Open),
            ("10.0.0.1", Barred),
            ("172.16.0.1", Barred),
            ("172.31.255.255", Barred),
            ("192.168.1.1", Barred),
            ("100.64.0.1", Barred),
            ("100.127.255.255", Barred),
            ("fc00::1", Barred),
            ("fd12:3456::1", Barred),
            ("fec0::1", Barred),
            ("64:ff9b:1::1", Barred),
            ("198.18.0.1", Barred),
            ("198.19.255.255", Barred),
            ("198.20.0.1", Open),
            ("192.0.0.1", Barred),
            ("192.0.1.1", Open),
            ("240.0.0.1", Barred),
            ("255.255.255.254", Barred),
            ("::ffff:10.0.0.1", Barred),
            ("::ffff:192.168.1.1", Barred),
            ("::10.0.0.1", Barred),
            ("64:ff9b::10.0.0.1", Barred),
            ("2002:a00:1::1", Barred),
            ("127.0.0.1", Nobody),
            ("127.255.255.255", Nobody),
            ("169.254.169.254", Nobody),
            ("::1", Nobody),
            ("fe80::1", Nobody),
            ("febf::1", Nobody),
            ("::ffff:127.0.0.1", Nobody),
            ("::ffff:169.254.169.254", Nobody),
            ("64:ff9b::169.254.169.254", Nobody),
            ("0.0.0.0", Nobody),
            ("0.1.2.3", Nobody),
            ("::", Nobody),
            ("::ffff:0.0.0.0", Nobody),
            ("224.0.0.1", Nobody),
            ("255.255.255.255", Nobody),
            ("ff02::1", Nobody),
        ] {
            assert_eq!(judged(&[], address), expected, "{address}");
        }
    }

    #[test]
    fn what_is_allowed_is_open_and_wide_networks_hold_nothing_local() {
        use Judgement::{Barred, Nobody, Open};
        for (allowed, address, expected) in [
            (["10.1.0.0/16"], "10.1.2.3", Open),
            (["10.1.0.0/16"], "::ffff:10.1.2.3", Open),
            (["10.1.0.0/16"], "64:ff9b::10.1.2.3", Open),
            (["10.1.0.0/16"], "10.2.0.1", Barred),
            (["fd00:1::/32"], "fd00:1::1", Open),
            (["fd00:1::/32"], "fd00:2::1", Barred),
            (["64:ff9b:1::/48"], "64:ff9b:1::1", Open),
            (["0.0.0.0/0"], "192.168.1.1", Open),
            (["0.0.0.0/0"], "127.0.0.1", Nobody),
            (["0.0.0.0/0"], "169.254.169.254", Nobody),
            (["::/0"], "::1", Nobody),
            (["::/0"], "fe80::1", Nobody),
            (["126.0.0.0/7"], "127.0.0.1", Nobody),
            (["127.0.0.0/8"], "127.0.0.1", Open),
            (["127.0.0.0/8"], "::ffff:127.0.0.1", Open),
            (["127.0.0.2/32"], "127.0.0.1", Nobody),
            (["::1/128"], "::1", Open),
            (["0.0.0.0/8"], "0.0.0.0", Nobody),
        ] {
            assert_eq!(judged(&allowed, address), expected, "{allowed:?} {address}");
        }
    }
}
