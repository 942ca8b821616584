//! Where a request may make this host connect to: the guard against requests forged through it.

use std::net::IpAddr;

use df_core::network::reached;
pub use df_core::network::{Cidr, CidrError};

/// On whose behalf a source is asked.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Trust {
    /// A user of this host, who could open the same connection without us.
    Local,
    /// Somebody on the network (a preheat, a triggered seed peer): held to the [`Egress`] rules.
    Network,
}

/// What requests from the network may connect to.
///
/// `deny` beats `allow`, `allow` beats the default. The default refuses every address that is no
/// ordinary unicast one (the special-purpose registries of IANA, RFC 6890), and the addresses at
/// which clouds keep their metadata; private networks are allowed, for origins live there.
#[derive(Clone, Default, PartialEq, Eq, Debug)]
pub struct Egress {
    /// Addresses allowed although the default refuses them.
    pub allow: Vec<Cidr>,
    /// Addresses refused in any case.
    pub deny: Vec<Cidr>,
}

impl Egress {
    /// Why a request may not connect to `address`, if it may not.
    pub fn refusal(&self, trust: Trust, address: IpAddr) -> Option<&'static str> {
        if trust == Trust::Local {
            return None;
        }
        let address = reached(address);
        let listed = |list: &[Cidr]| list.iter().any(|range| range.contains(address));
        if listed(&self.deny) {
            return Some("denied by the configuration");
        }
        if listed(&self.allow) {
            return None;
        }
        SPECIAL.iter().find(|(range, _)| range.contains(address)).map(|(_, why)| *why).or_else(|| {
            let ordinary = address.is_ipv4() || ORDINARY_V6.iter().any(|range| range.contains(address));
            (!ordinary).then_some("reserved")
        })
    }
}

/// Unicast addresses of IPv6: global ones and unique local ones.
const ORDINARY_V6: [Cidr; 2] = [Cidr::v6([0x2000, 0, 0, 0, 0, 0, 0, 0], 3), Cidr::v6([0xfc00, 0, 0, 0, 0, 0, 0, 0], 7)];

/// Refused by default, and why. The first match names the reason.
const SPECIAL: [(Cidr, &str); 26] = [
    (Cidr::v4([169, 254, 169, 254], 32), "a cloud's metadata service"),
    (Cidr::v4([100, 100, 100, 200], 32), "a cloud's metadata service"), // Alibaba
    (Cidr::v4([192, 0, 0, 192], 32), "a cloud's metadata service"),     // Oracle
    (Cidr::v4([168, 63, 129, 16], 32), "a cloud's metadata service"),   // Azure
    (Cidr::v6([0xfd00, 0xec2, 0, 0, 0, 0, 0, 0x254], 128), "a cloud's metadata service"), // AWS
    (Cidr::v6([0xfd20, 0xce, 0, 0, 0, 0, 0, 0x254], 128), "a cloud's metadata service"), // Google
    (Cidr::v6([0xfd00, 0x42, 0, 0, 0, 0, 0, 0x42], 128), "a cloud's metadata service"), // Scaleway
    (Cidr::v4([0, 0, 0, 0], 8), "unspecified"),
    (Cidr::v4([127, 0, 0, 0], 8), "loopback"),
    (Cidr::v4([169, 254, 0, 0], 16), "link-local"),
    (Cidr::v4([100, 64, 0, 0], 10), "shared by a carrier"),
    (Cidr::v4([192, 0, 0, 0], 24), "reserved"),
    (Cidr::v4([192, 0, 2, 0], 24), "for documentation"),
    (Cidr::v4([198, 51, 100, 0], 24), "for documentation"),
    (Cidr::v4([203, 0, 113, 0], 24), "for documentation"),
    (Cidr::v4([198, 18, 0, 0], 15), "for benchmarks"),
    (Cidr::v4([224, 0, 0, 0], 4), "multicast"),
    (Cidr::v4([240, 0, 0, 0], 4), "reserved or broadcast"),
    (Cidr::v6([0, 0, 0, 0, 0, 0, 0, 0], 128), "unspecified"),
    (Cidr::v6([0, 0, 0, 0, 0, 0, 0, 1], 128), "loopback"),
    (Cidr::v6([0xfe80, 0, 0, 0, 0, 0, 0, 0], 10), "link-local"),
    (Cidr::v6([0xff00, 0, 0, 0, 0, 0, 0, 0], 8), "multicast"),
    (Cidr::v6([0x2001, 0, 0, 0, 0, 0, 0, 0], 23), "reserved"), // Teredo among others
    (Cidr::v6([0x2001, 0xdb8, 0, 0, 0, 0, 0, 0], 32), "for documentation"),
    (Cidr::v6([0x2002, 0, 0, 0, 0, 0, 0, 0], 16), "reserved"), // 6to4 leads to any IPv4 address
    (Cidr::v6([0x3fff, 0, 0, 0, 0, 0, 0, 0], 20), "for documentation"),
];

#[cfg(test)]
mod tests {
    use std::net::{Ipv4Addr, Ipv6Addr};

    use proptest::prelude::*;

    use super::*;

    fn refusal(rules: &Egress, address: &str) -> Option<&'static str> {
        rules.refusal(Trust::Network, address.parse().unwrap())
    }

    #[test]
    fn the_default_refuses_what_is_no_ordinary_address_and_says_why() {
        let table = [
            ("0.0.0.0", "unspecified"),
            ("0.1.2.3", "unspecified"),
            ("127.0.0.1", "loopback"),
            ("127.255.255.255", "loopback"),
            ("169.254.0.1", "link-local"),
            ("169.254.169.254", "a cloud's metadata service"),
            ("100.100.100.200", "a cloud's metadata service"),
            ("168.63.129.16", "a cloud's metadata service"),
            ("100.64.0.1", "shared by a carrier"),
            ("100.127.255.255", "shared by a carrier"),
            ("192.0.2.1", "for documentation"),
            ("198.19.255.255", "for benchmarks"),
            ("224.0.0.1", "multicast"),
            ("239.255.255.255", "multicast"),
            ("240.0.0.1", "reserved or broadcast"),
            ("255.255.255.255", "reserved or broadcast"),
            ("::", "unspecified"),
            ("::1", "loopback"),
            ("fe80::1", "link-local"),
            ("febf::1", "link-local"),
            ("fec0::1", "reserved"),
            ("ff02::1", "multicast"),
            ("fd00:ec2::254", "a cloud's metadata service"),
            ("::ffff:127.0.0.1", "loopback"),
            ("::ffff:169.254.169.254", "a cloud's metadata service"),
            ("::127.0.0.1", "reserved"),
            ("64:ff9b::7f00:1", "loopback"),
            ("64:ff9b:1::1", "reserved"),
            ("2002:7f00:1::", "reserved"),
            ("2001:0:1::1", "reserved"),
            ("2001:db8::1", "for documentation"),
            ("100::1", "reserved"),
        ];
        for (address, why) in table {
            assert_eq!(refusal(&Egress::default(), address), Some(why), "{address}");
            assert_eq!(Egress::default().refusal(Trust::Local, address.parse().unwrap()), None, "{address}");
        }
    }

    #[test]
    fn the_default_allows_public_and_private_networks() {
        let table = [
            "10.0.0.1",
            "172.16.0.1",
            "172.31.255.255",
            "192.168.1.1",
            "9.9.9.9",
            "126.255.255.255",
            "128.0.0.1",
            "100.63.255.255",
            "100.128.0.1",
            "169.253.255.255",
            "223.255.255.255",
            "fc00::1",
            "fdff::1",
            "2606:4700::1",
            "2400::1",
            "::ffff:10.0.0.1",
            "64:ff9b::a00:1",
        ];
        for address in table {
            assert_eq!(refusal(&Egress::default(), address), None, "{address}");
        }
    }

    #[test]
    fn deny_beats_allow_and_allow_beats_the_default() {
        let list = |ranges: &[&str]| ranges.iter().map(|range| range.parse().unwrap()).collect();
        let rules = Egress { allow: list(&["127.0.0.0/8", "10.0.0.0/8", "::1"]), deny: list(&["10.1.0.0/16"]) };
        assert_eq!(refusal(&rules, "127.0.0.1"), None);
        assert_eq!(refusal(&rules, "::1"), None);
        assert_eq!(refusal(&rules, "10.2.0.1"), None);
        assert_eq!(refusal(&rules, "10.1.0.1"), Some("denied by the configuration"));
        assert_eq!(refusal(&rules, "::ffff:10.1.0.1"), Some("denied by the configuration"));
        assert_eq!(refusal(&rules, "169.254.1.1"), Some("link-local"));
    }

    #[test]
    fn networks_are_read_strictly() {
        let table = [
            ("10.0.0.0/8", Ok("10.0.0.0/8")),
            ("10.1.2.3", Ok("10.1.2.3/32")),
            ("0.0.0.0/0", Ok("0.0.0.0/0")),
            ("::/0", Ok("::/0")),
            ("fc00::/7", Ok("fc00::/7")),
            ("10.1.2.3/8", Err(CidrError::Length)),
            ("10.0.0.0/33", Err(CidrError::Length)),
            ("fc00::/129", Err(CidrError::Length)),
            ("10.0.0.0/", Err(CidrError::Malformed)),
            ("10.0.0.0/+8", Err(CidrError::Malformed)),
            ("10.0.0.0/8/8", Err(CidrError::Malformed)),
            ("10.0.0/8", Err(CidrError::Malformed)),
            ("host/8", Err(CidrError::Malformed)),
            ("", Err(CidrError::Malformed)),
            ("10.0.0.0/99999999999", Err(CidrError::Malformed)),
            ("::ffff:10.0.0.0/104", Err(CidrError::Embedded)),
        ];
        for (text, expected) in table {
            let read = text.parse::<Cidr>().map(|range| range.to_string());
            assert_eq!(read, expected.map(String::from), "{text:?}");
        }
    }

    proptest! {
        #[test]
        fn a_network_contains_exactly_the_addresses_with_its_prefix(a: u32, b: u32, len in 0u8..=32) {
            let mask = u32::MAX.checked_shl(32 - u32::from(len)).unwrap_or(0);
            let range: Cidr = format!("{}/{len}", Ipv4Addr::from_bits(a & mask)).parse().unwrap();
            prop_assert!(range.contains(Ipv4Addr::from_bits(a).into()));
            prop_assert_eq!(range.contains(Ipv4Addr::from_bits(b).into()), a & mask == b & mask);
            prop_assert!(!range.contains(Ipv6Addr::from_bits(u128::from(a)).into()));
        }
    }
}
