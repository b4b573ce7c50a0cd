//! Which addresses may be called.
//!
//! The rule is "globally reachable, or named by the operator". For IPv6 that is the global unicast block minus the
//! special ranges inside it; everything outside of it (loopback, private, link-local, the NAT64 prefixes, the old
//! IPv4-compatible form, what is not yet assigned) is refused without having to be listed. Forms that carry an IPv4
//! address inside an IPv6 one are refused whole, since where such a packet ends is the network's decision. The one
//! exception is the IPv4-mapped form, which the kernel treats as IPv4: it is unmapped and judged as IPv4.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnet::{Ipv4Net, Ipv6Net};

use crate::nets::{Nets, NetsError};

const fn v4(a: u8, b: u8, c: u8, d: u8, prefix: u8) -> Ipv4Net {
    Ipv4Net::new_assert(Ipv4Addr::new(a, b, c, d), prefix)
}

const fn v6(a: u16, b: u16, prefix: u8) -> Ipv6Net {
    Ipv6Net::new_assert(Ipv6Addr::new(a, b, 0, 0, 0, 0, 0, 0), prefix)
}

const REFUSED_V4: [Ipv4Net; 17] = [
    v4(0, 0, 0, 0, 8),          // this network; Linux connects 0.0.0.0 to itself
    v4(10, 0, 0, 0, 8),         // private
    v4(100, 64, 0, 0, 10),      // carrier-grade NAT
    v4(127, 0, 0, 0, 8),        // loopback
    v4(168, 63, 129, 16, 32),   // looks public, but is the host agent of an Azure machine
    v4(169, 254, 0, 0, 16),     // link-local, cloud metadata
    v4(172, 16, 0, 0, 12),      // private
    v4(192, 0, 0, 0, 24),       // protocol assignments
    v4(192, 0, 2, 0, 24),       // documentation
    v4(192, 88, 99, 0, 24),     // 6to4 relays
    v4(192, 168, 0, 0, 16),     // private
    v4(198, 18, 0, 0, 15),      // benchmarking
    v4(198, 51, 100, 0, 24),    // documentation
    v4(203, 0, 113, 0, 24),     // documentation
    v4(224, 0, 0, 0, 4),        // multicast
    v4(240, 0, 0, 0, 4),        // reserved
    v4(255, 255, 255, 255, 32), // broadcast
];

const GLOBAL_V6: Ipv6Net = v6(0x2000, 0, 3);

const REFUSED_V6: [Ipv6Net; 4] = [
    v6(0x2001, 0, 23),      // protocol assignments: Teredo, benchmarking, ORCHID
    v6(0x2001, 0x0db8, 32), // documentation
    v6(0x2002, 0, 16),      // 6to4
    v6(0x3fff, 0, 20),      // documentation
];

/// Decides which addresses may be called.
///
/// The default allows what is globally reachable and nothing else. Cloning is cheap.
#[derive(Clone, Debug, Default)]
pub struct Guard {
    allow: Nets,
}

impl Guard {
    /// A guard that allows these networks on top of what is globally reachable.
    #[must_use]
    pub const fn new(allow: Nets) -> Self {
        Self { allow }
    }

    /// The same with a list of networks as [`Nets::parse`] reads it.
    pub fn parse(list: &str) -> Result<Self, NetsError> {
        Nets::parse(list).map(Self::new)
    }

    /// Whether the address may be called at all.
    #[must_use]
    pub fn permits(&self, address: IpAddr) -> bool {
        is_global(address.to_canonical()) || self.is_allowed(address)
    }

    /// Whether the operator named the address; only such addresses may be called without TLS.
    #[must_use]
    pub fn is_allowed(&self, address: IpAddr) -> bool {
        self.allow.contain(address)
    }

    /// Whether the operator named any network.
    #[must_use]
    pub fn has_allowed_nets(&self) -> bool {
        !self.allow.is_empty()
    }
}

fn is_global(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(address) => !REFUSED_V4.iter().any(|net| net.contains(&address)),
        IpAddr::V6(address) => {
            GLOBAL_V6.contains(&address) && !REFUSED_V6.iter().any(|net| net.contains(&address))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn address(text: &str) -> IpAddr {
        text.parse().expect("the test gives an address")
    }

    /// Class, first address, last address.
    const SPECIAL: [(&str, &str, &str); 44] = [
        ("this network", "0.0.0.0", "0.255.255.255"),
        ("private 10", "10.0.0.0", "10.255.255.255"),
        ("carrier-grade NAT", "100.64.0.0", "100.127.255.255"),
        ("loopback", "127.0.0.0", "127.255.255.255"),
        ("azure host agent", "168.63.129.16", "168.63.129.16"),
        ("link-local", "169.254.0.0", "169.254.255.255"),
        ("cloud metadata", "169.254.169.254", "169.254.169.254"),
        ("private 172", "172.16.0.0", "172.31.255.255"),
        ("protocol assignments", "192.0.0.0", "192.0.0.255"),
        ("documentation 1", "192.0.2.0", "192.0.2.255"),
        ("6to4 relays", "192.88.99.0", "192.88.99.255"),
        ("private 192", "192.168.0.0", "192.168.255.255"),
        ("benchmarking", "198.18.0.0", "198.19.255.255"),
        ("documentation 2", "198.51.100.0", "198.51.100.255"),
        ("documentation 3", "203.0.113.0", "203.0.113.255"),
        ("multicast", "224.0.0.0", "239.255.255.255"),
        ("reserved", "240.0.0.0", "255.255.255.254"),
        ("broadcast", "255.255.255.255", "255.255.255.255"),
        ("unspecified", "::", "::"),
        ("loopback v6", "::1", "::1"),
        ("IPv4-compatible", "::2", "::ffff:ffff"),
        ("IPv4-compatible public", "::8.8.8.8", "::8.8.8.8"),
        ("mapped private", "::ffff:10.0.0.1", "::ffff:192.168.1.1"),
        ("mapped loopback", "::ffff:127.0.0.1", "::ffff:7f00:1"),
        ("mapped metadata", "::ffff:169.254.169.254", "::ffff:a9fe:a9fe"),
        ("translated", "::ffff:0:8.8.8.8", "::ffff:0:127.0.0.1"),
        ("NAT64", "64:ff9b::", "64:ff9b::ffff:ffff"),
        ("NAT64 public", "64:ff9b::8.8.8.8", "64:ff9b::7f00:1"),
        ("NAT64 local", "64:ff9b:1::", "64:ff9b:1:ffff:ffff:ffff:ffff:ffff"),
        ("discard", "100::", "100::ffff:ffff:ffff:ffff"),
        ("Teredo", "2001::", "2001:0:ffff:ffff:ffff:ffff:ffff:ffff"),
        ("benchmarking v6", "2001:2::", "2001:2:0:ffff:ffff:ffff:ffff:ffff"),
        ("ORCHID", "2001:10::", "2001:1f:ffff:ffff:ffff:ffff:ffff:ffff"),
        ("ORCHIDv2", "2001:20::", "2001:2f:ffff:ffff:ffff:ffff:ffff:ffff"),
        ("documentation v6", "2001:db8::", "2001:db8:ffff:ffff:ffff:ffff:ffff:ffff"),
        ("6to4", "2002::", "2002:ffff:ffff:ffff:ffff:ffff:ffff:ffff"),
        ("documentation v6 new", "3fff::", "3fff:fff:ffff:ffff:ffff:ffff:ffff:ffff"),
        ("segment routing", "5f00::", "5f00:ffff:ffff:ffff:ffff:ffff:ffff:ffff"),
        ("unique local", "fc00::", "fdff:ffff:ffff:ffff:ffff:ffff:ffff:ffff"),
        ("metadata v6", "fd00:ec2::254", "fd00:ec2::254"),
        ("link-local v6", "fe80::", "febf:ffff:ffff:ffff:ffff:ffff:ffff:ffff"),
        ("site-local", "fec0::", "feff:ffff:ffff:ffff:ffff:ffff:ffff:ffff"),
        ("multicast v6", "ff00::", "ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff"),
        ("unassigned", "4000::", "5eff::"),
    ];

    #[test]
    fn every_special_range_is_refused_at_both_ends() {
        let guard = Guard::default();
        for (class, first, last) in SPECIAL {
            assert!(!guard.permits(address(first)), "{class}: {first}");
            assert!(!guard.permits(address(last)), "{class}: {last}");
        }
    }

    #[test]
    fn neighbours_of_special_ranges_and_public_addresses_are_permitted() {
        let public = [
            "1.0.0.0",
            "9.255.255.255",
            "11.0.0.0",
            "100.63.255.255",
            "100.128.0.0",
            "126.255.255.255",
            "128.0.0.0",
            "168.63.129.15",
            "169.253.255.255",
            "169.255.0.0",
            "172.15.255.255",
            "172.32.0.0",
            "192.0.1.0",
            "192.0.3.0",
            "192.88.98.255",
            "192.167.255.255",
            "192.169.0.0",
            "198.17.255.255",
            "198.20.0.0",
            "198.51.99.255",
            "203.0.114.0",
            "223.255.255.255",
            "::ffff:8.8.8.8",
            "2001:200::",
            "2001:4860::8888",
            "2001:db7:ffff::",
            "2001:db9::",
            "2003::",
            "2606:4700::1111",
            "2a00::1",
            "3fff:1000::",
        ];
        let guard = Guard::default();
        for text in public {
            assert!(guard.permits(address(text)), "{text}");
            assert!(!guard.is_allowed(address(text)), "{text}");
        }
    }

    #[test]
    fn the_allow_list_opens_exactly_what_it_names() {
        let guard =
            Guard::parse(" 127.0.0.0/8, 10.1.2.3 ,,fd00:1::/32, 64:ff9b::/96,").expect("the list is valid");
        let opened = ["127.0.0.1", "::ffff:127.9.9.9", "10.1.2.3", "fd00:1::5", "64:ff9b::10.0.0.1"];
        for text in opened {
            assert!(guard.permits(address(text)) && guard.is_allowed(address(text)), "{text}");
        }
        for text in ["10.1.2.4", "::1", "fd00:2::5", "::127.0.0.1", "2002:7f00:1::", "169.254.169.254"] {
            assert!(!guard.permits(address(text)), "{text}");
        }
        assert!(guard.permits(address("8.8.8.8")));
    }

    #[test]
    fn a_mapped_network_is_read_as_ipv4_and_all_of_ipv6_does_not_open_ipv4() {
        let mapped = Guard::parse("::ffff:10.0.0.0/104").expect("the list is valid");
        assert!(mapped.permits(address("10.200.0.1")) && mapped.permits(address("::ffff:10.0.0.1")));
        assert!(!mapped.is_allowed(address("11.0.0.1")) && !mapped.permits(address("192.168.0.1")));
        let all_v6 = Guard::parse("::/1,8000::/1").expect("the list is valid");
        assert!(all_v6.permits(address("::1")));
        assert!(!all_v6.permits(address("::ffff:127.0.0.1")) && !all_v6.permits(address("127.0.0.1")));
    }

    #[test]
    fn an_unreadable_entry_is_named() {
        for entry in ["10.0.0.0/33", "localhost", "10.0.0", "[::1]", "10.0.0.0/8/8", "0x7f000001"] {
            let error = Guard::parse(&format!("127.0.0.1,{entry}")).expect_err("the entry is not valid");
            assert_eq!(error, NetsError::Unreadable(entry.to_owned()));
        }
        assert!(!Guard::parse(" , ").expect("blanks are an empty list").has_allowed_nets());
    }
}
