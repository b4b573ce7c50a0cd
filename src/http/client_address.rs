//! Which address a request comes from: that of the connection, unless a trusted proxy made it.

use std::net::{IpAddr, Ipv6Addr, SocketAddr};
use std::sync::Arc;

use poem::{FromRequest, Request, RequestBody, Result};

use super::problem::Problem;
use crate::app::App;
use crate::nets::Nets;

/// The header in which each proxy puts the address that it was called from behind those of the proxies before it.
const FORWARDED_FOR: &str = "x-forwarded-for";

/// The address that a request comes from; `None` if the connection has none.
///
/// Where a trusted proxy made the connection, it is the last address in `X-Forwarded-For` that is not itself a trusted proxy's:
/// what stands before it was written by somebody unknown.
pub struct ClientAddress(pub Option<IpAddr>);

impl<'a> FromRequest<'a> for ClientAddress {
    async fn from_request(request: &'a Request, _: &mut RequestBody) -> Result<Self> {
        let app: &Arc<App> = request.data().ok_or_else(|| Problem::internal(std::fmt::Error))?;
        let connected = request.remote_addr().as_socket_addr().map(SocketAddr::ip);
        let forwarded = request.headers().get_all(FORWARDED_FOR);
        let forwarded = forwarded.iter().filter_map(|value| value.to_str().ok());
        Ok(Self(connected.map(|connected| client(connected, forwarded, &app.trusted_proxies))))
    }
}

fn client<'a>(
    connected: IpAddr,
    forwarded: impl DoubleEndedIterator<Item = &'a str>,
    trusted: &Nets,
) -> IpAddr {
    let mut client = connected;
    for entry in forwarded.rev().flat_map(|line| line.rsplit(',')) {
        if !trusted.contain(client) {
            break;
        }
        // What cannot be read hides whoever stands before it.
        let Some(before) = address(entry.trim()) else { break };
        client = before;
    }
    client.to_canonical()
}

/// An address with or without a port.
fn address(entry: &str) -> Option<IpAddr> {
    let bare = entry.strip_prefix('[').and_then(|entry| entry.strip_suffix(']')).unwrap_or(entry);
    bare.parse().ok().or_else(|| entry.parse::<SocketAddr>().ok().map(|address| address.ip()))
}

/// Whom limits count together: one IPv4 address, or the /64 of an IPv6 address, all of which belongs to one network.
#[must_use]
pub fn network(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V4(address) => address.into(),
        IpAddr::V6(address) => {
            let [a, b, c, d, ..] = address.segments();
            Ipv6Addr::new(a, b, c, d, 0, 0, 0, 0).into()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn client_of(connected: &str, forwarded: &[&str]) -> String {
        let trusted = Nets::parse("10.0.0.0/8,fd00::/8").expect("the list is valid");
        let connected = connected.parse().expect("the test gives an address");
        client(connected, forwarded.iter().copied(), &trusted).to_string()
    }

    #[test]
    fn only_a_trusted_proxy_is_believed() {
        assert_eq!(client_of("203.0.113.9", &["198.51.100.7"]), "203.0.113.9");
        assert_eq!(client_of("10.0.0.1", &["198.51.100.7"]), "198.51.100.7");
        assert_eq!(client_of("::ffff:10.0.0.1", &["198.51.100.7"]), "198.51.100.7", "IPv4 on an IPv6 socket");
        assert_eq!(client_of("10.0.0.1", &[]), "10.0.0.1", "the proxy speaks for itself");
    }

    #[test]
    fn what_stands_before_the_last_untrusted_address_is_not_believed() {
        assert_eq!(client_of("10.0.0.1", &["1.1.1.1, 198.51.100.7"]), "198.51.100.7");
        assert_eq!(client_of("10.0.0.1", &["1.1.1.1, 198.51.100.7, 10.2.2.2"]), "198.51.100.7");
        assert_eq!(client_of("10.0.0.1", &["1.1.1.1,198.51.100.7", "fd00::5"]), "198.51.100.7", "two lines");
        assert_eq!(client_of("10.0.0.1", &["10.3.3.3, 10.2.2.2"]), "10.3.3.3", "all are proxies");
        assert_eq!(client_of("10.0.0.1", &["1.1.1.1, unknown, 10.2.2.2"]), "10.2.2.2");
        assert_eq!(client_of("10.0.0.1", &["1.1.1.1, "]), "10.0.0.1");
    }

    #[test]
    fn an_entry_may_have_a_port() {
        for (entry, address) in [
            ("198.51.100.7:4711", "198.51.100.7"),
            ("2001:db8::7", "2001:db8::7"),
            ("[2001:db8::7]", "2001:db8::7"),
            ("[2001:db8::7]:4711", "2001:db8::7"),
        ] {
            assert_eq!(client_of("10.0.0.1", &[entry]), address);
        }
    }

    #[test]
    fn a_network_of_ipv6_counts_as_one() {
        let network = |text: &str| network(text.parse().expect("the test gives an address")).to_string();
        assert_eq!(network("2001:db8:1:2:3:4:5:6"), "2001:db8:1:2::");
        assert_eq!(network("2001:db8:1:3::6"), "2001:db8:1:3::");
        assert_eq!(network("198.51.100.7"), "198.51.100.7");
        assert_eq!(network("::ffff:198.51.100.7"), "198.51.100.7");
    }
}
