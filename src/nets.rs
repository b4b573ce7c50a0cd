//! Lists of networks, as operators write them into settings.

use std::net::IpAddr;
use std::sync::Arc;

use ipnet::{IpNet, Ipv4Net};

/// Networks and single addresses. Cheap to clone; the default has none.
#[derive(Clone, Debug, Default)]
pub struct Nets(Arc<[IpNet]>);

/// An entry of a list that is not taken; each holds it as it was written.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NetsError {
    /// It cannot be read.
    #[error("`{0}` is neither an address nor a network such as 10.0.0.0/8")]
    Unreadable(String),
    /// Every address is in it.
    #[error("`{0}` has every address in it, so that nothing would be kept out")]
    Everything(String),
}

impl Nets {
    /// Reads a comma separated list of networks and bare addresses; blanks between commas are ignored.
    pub fn parse(list: &str) -> Result<Self, NetsError> {
        let entries = list.split(',').map(str::trim).filter(|entry| !entry.is_empty());
        entries.map(parse_entry).collect::<Result<_, _>>().map(Self)
    }

    /// Whether the address is in one of them; an IPv4-mapped one counts as IPv4.
    #[must_use]
    pub fn contain(&self, address: IpAddr) -> bool {
        let address = address.to_canonical();
        self.0.iter().any(|net| net.contains(&address))
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl From<IpAddr> for Nets {
    fn from(address: IpAddr) -> Self {
        Self([unmapped(address.into())].into())
    }
}

fn parse_entry(entry: &str) -> Result<IpNet, NetsError> {
    let net = entry.parse::<IpNet>().or_else(|_| entry.parse::<IpAddr>().map(IpNet::from));
    let net = net.map(unmapped).map_err(|_| NetsError::Unreadable(entry.to_owned()))?;
    if net.prefix_len() == 0 { Err(NetsError::Everything(entry.to_owned())) } else { Ok(net) }
}

/// Addresses are compared unmapped, so a network that is written in the mapped form has to be unmapped as well.
fn unmapped(net: IpNet) -> IpNet {
    let net = net.trunc();
    let (IpAddr::V6(address), Some(prefix)) = (net.addr(), net.prefix_len().checked_sub(96)) else {
        return net;
    };
    let Some(address) = address.to_ipv4_mapped() else {
        return net;
    };
    Ipv4Net::new(address, prefix).map_or(net, IpNet::V4)
}
