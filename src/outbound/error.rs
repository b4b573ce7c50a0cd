//! What can go wrong with a request, in words for the person who owns the receiving end.

use std::fmt;
use std::io;
use std::net::{IpAddr, SocketAddr};

use super::UrlProblem;

/// The part of a request during which something happened.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Phase {
    /// Finding the addresses of the host's name.
    Dns,
    /// Opening the TCP connection.
    Connect,
    /// Agreeing on encryption and checking the certificate.
    Tls,
    /// Sending the request and waiting for the status and the headers.
    ResponseHead,
}

impl fmt::Display for Phase {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Phase::Dns => "looking up the host's name",
            Phase::Connect => "connecting",
            Phase::Tls => "agreeing on encryption (TLS)",
            Phase::ResponseHead => "waiting for the answer",
        })
    }
}

/// Why a request got no answer.
///
/// The texts name resolved addresses. Where the owner of the URL must not learn what a name means inside the
/// operator's network, show another text for a forbidden address.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SendError {
    /// The host is, or resolves only to, addresses that must not be called.
    #[error("the address {0} is not publicly reachable and must not be called")]
    ForbiddenAddress(IpAddr),
    /// The URL is plain http and the host resolves to an address that the operator has not allowed.
    #[error("the address {0} may only be called over https")]
    PlainHttp(IpAddr),
    /// The host's name has no address, or the lookup failed.
    #[error("the name {host} could not be looked up: {reason}")]
    Dns {
        /// The name.
        host: String,
        /// What the resolver said.
        reason: String,
    },
    /// No connection could be opened.
    #[error("no connection to {address}: {reason}")]
    Connect {
        /// The last address that was tried.
        address: SocketAddr,
        /// What the operating system said.
        reason: String,
    },
    /// The operator's proxy opened no connection. Nothing is said of where the proxy is.
    #[error("no connection through the proxy of this service: {0}")]
    Proxy(String),
    /// Encryption could not be agreed on, or the certificate was not accepted.
    #[error("no encrypted connection (TLS): {0}")]
    Tls(String),
    /// The deadline passed.
    #[error("the time ran out while {0}")]
    Timeout(Phase),
    /// What came back was not HTTP, was too large, or broke off before the head was complete.
    #[error("no usable answer: {0}")]
    Protocol(String),
    /// The URL is not one that may be called.
    #[error(transparent)]
    InvalidUrl(#[from] UrlProblem),
    /// The request cannot be sent as it is.
    #[error("the request cannot be sent: {0}")]
    InvalidRequest(String),
}

impl SendError {
    /// The kind of failure, as a stable name.
    #[must_use]
    pub fn class(&self) -> &'static str {
        match self {
            Self::ForbiddenAddress(_) | Self::PlainHttp(_) => "FORBIDDEN_ADDRESS",
            Self::Dns { .. } => "DNS_FAILED",
            Self::Connect { .. } | Self::Proxy(_) => "CONNECT_FAILED",
            Self::Tls(_) => "TLS_FAILED",
            Self::Timeout(_) => "TIMEOUT",
            Self::Protocol(_) => "PROTOCOL_ERROR",
            Self::InvalidUrl(_) | Self::InvalidRequest(_) => "INVALID_URL",
        }
    }

    pub(super) fn dns(host: &str, reason: impl fmt::Display) -> Self {
        Self::Dns { host: host.to_owned(), reason: reason.to_string() }
    }

    pub(super) fn connect(address: SocketAddr, error: &io::Error) -> Self {
        let reason = match error.kind() {
            io::ErrorKind::ConnectionRefused => "the connection was refused".to_owned(),
            io::ErrorKind::ConnectionReset => "the connection was reset".to_owned(),
            io::ErrorKind::HostUnreachable | io::ErrorKind::NetworkUnreachable => {
                "the address cannot be reached".to_owned()
            }
            _ => error.to_string(),
        };
        Self::Connect { address, reason }
    }
}

/// Why the body of an answer is incomplete. The status and the headers hold all the same.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BodyError {
    /// The deadline passed before the body ended.
    #[error("the time ran out while reading the body of the answer")]
    Timeout,
    /// The connection broke, or the body was not framed as announced.
    #[error("the body of the answer broke off: {0}")]
    Broken(String),
}

/// An error and its causes in one line, since the outermost text of an HTTP library rarely says what happened.
pub(super) fn describe_chain(error: &(dyn std::error::Error + 'static)) -> String {
    let mut text = error.to_string();
    let mut next = error.source();
    while let Some(cause) = next {
        let cause_text = cause.to_string();
        if !text.ends_with(&cause_text) {
            text.push_str(": ");
            text.push_str(&cause_text);
        }
        next = cause.source();
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_failure_has_its_stable_class() {
        let address = SocketAddr::from(([127, 0, 0, 1], 80));
        for (error, class) in [
            (SendError::ForbiddenAddress(address.ip()), "FORBIDDEN_ADDRESS"),
            (SendError::PlainHttp(address.ip()), "FORBIDDEN_ADDRESS"),
            (SendError::dns("a.example", "no such name"), "DNS_FAILED"),
            (
                SendError::connect(address, &io::Error::from(io::ErrorKind::ConnectionRefused)),
                "CONNECT_FAILED",
            ),
            (SendError::Proxy("it answered 403".to_owned()), "CONNECT_FAILED"),
            (SendError::Tls("bad certificate".to_owned()), "TLS_FAILED"),
            (SendError::Timeout(Phase::Tls), "TIMEOUT"),
            (SendError::Protocol("not HTTP".to_owned()), "PROTOCOL_ERROR"),
            (SendError::InvalidUrl(UrlProblem::TooLong), "INVALID_URL"),
            (SendError::InvalidRequest("CONNECT".to_owned()), "INVALID_URL"),
        ] {
            assert_eq!(error.class(), class);
            assert!(!error.to_string().is_empty());
        }
    }

    #[test]
    fn a_chain_of_causes_is_told_once() {
        let outer = io::Error::other(io::Error::other("the certificate expired"));
        assert_eq!(describe_chain(&outer), "the certificate expired");
        assert_eq!(
            describe_chain(&SendError::Timeout(Phase::Dns)),
            "the time ran out while looking up the host's name"
        );
    }
}
