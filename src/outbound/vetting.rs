//! Which of a name's addresses are called, and in which order.

use std::net::IpAddr;

use super::{Guard, SendError};

/// How many addresses of a name are tried; a name with more is not meant to be called from one place.
const ADDRESSES_MAX: usize = 8;

/// The addresses among those `found` for `host` that may be called, IPv6 and IPv4 in turn, beginning with the family that
/// the resolver prefers.
pub(super) fn permitted(
    guard: &Guard,
    host: &str,
    found: &[IpAddr],
    is_plain: bool,
) -> Result<Vec<IpAddr>, SendError> {
    let canonical = found.iter().map(IpAddr::to_canonical);
    let permitted: Vec<IpAddr> = canonical
        .filter(|address| guard.is_allowed(*address) || (!is_plain && guard.permits(*address)))
        .collect();
    match permitted.first() {
        Some(first) if permitted.len() > 1 => Ok(in_turn(&permitted, first.is_ipv6())),
        Some(_) => Ok(permitted),
        None => Err(refusal(guard, host, found)),
    }
}

fn in_turn(addresses: &[IpAddr], is_ipv6_first: bool) -> Vec<IpAddr> {
    let (mut first, mut second): (Vec<IpAddr>, Vec<IpAddr>) =
        addresses.iter().partition(|address| address.is_ipv6() == is_ipv6_first);
    first.truncate(ADDRESSES_MAX);
    second.truncate(ADDRESSES_MAX);
    let mut seconds = second.into_iter();
    let mut ordered = Vec::with_capacity(ADDRESSES_MAX * 2);
    for address in first {
        ordered.push(address);
        ordered.extend(seconds.next());
    }
    ordered.extend(seconds);
    ordered.truncate(ADDRESSES_MAX);
    ordered
}

/// Why none of the addresses can be dialled.
fn refusal(guard: &Guard, host: &str, found: &[IpAddr]) -> SendError {
    let Some(first) = found.first() else {
        return SendError::dns(host, "it has no address");
    };
    match found.iter().find(|address| guard.permits(**address)) {
        Some(public) => SendError::PlainHttp(public.to_canonical()),
        None => SendError::ForbiddenAddress(first.to_canonical()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn addresses(texts: &[&str]) -> Vec<IpAddr> {
        texts.iter().map(|text| text.parse().expect("an address")).collect()
    }

    #[test]
    fn families_take_turns_and_forbidden_addresses_are_left_out() {
        for (found, wanted) in [
            (vec!["2600::1", "2600::2", "8.8.8.8", "10.0.0.1"], vec!["2600::1", "8.8.8.8", "2600::2"]),
            (vec!["8.8.8.8", "8.8.4.4", "2600::1"], vec!["8.8.8.8", "2600::1", "8.8.4.4"]),
            (vec!["::1", "::ffff:8.8.8.8"], vec!["8.8.8.8"]),
        ] {
            let permitted = permitted(&Guard::default(), "a.test", &addresses(&found), false);
            assert_eq!(permitted, Ok(addresses(&wanted)), "{found:?}");
        }
    }

    #[test]
    fn no_more_than_eight_are_tried_and_both_families_are_among_them() {
        let many: Vec<String> = (1..=20).map(|number| format!("2600::{number}")).collect();
        let mut found: Vec<&str> = many.iter().map(String::as_str).collect();
        found.push("8.8.8.8");
        let permitted = permitted(&Guard::default(), "a.test", &addresses(&found), false).expect("permitted");
        assert_eq!(permitted.len(), ADDRESSES_MAX);
        assert_eq!(permitted[..3], addresses(&["2600::1", "8.8.8.8", "2600::2"]));
    }
}
