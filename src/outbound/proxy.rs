//! A forward proxy that the operator puts before the way out.
//!
//! The proxy is told addresses that the guard has judged and never names, so that it cannot be led elsewhere: `CONNECT` to
//! such an address for https, the address in the place of the host for plain http. The proxy itself is the operator's
//! choice and is not judged.

use std::fmt;
use std::net::{IpAddr, SocketAddr};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use hyper::header::HeaderValue;
use percent_encoding::percent_decode_str;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::time::{Instant, timeout};
use url::{Host, Url};

use super::dial::{dial, time_left};
use super::names::Names;
use super::{Phase, SendError};

/// The port of a proxy that names none, as for every URL.
const PORT_DEFAULT: u16 = 80;
/// How much a proxy may say before it opens a tunnel, in bytes.
const ANSWER_BYTES_MAX: usize = 8 * 1024;
const HEAD_END: &[u8] = b"\r\n\r\n";

/// A proxy that is not given as it should be. It says nothing of what was given, which may contain a password.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "it must be a URL of a host and a port like http://user:password@proxy.example:3128, and nothing after it"
)]
pub struct ProxyError;

/// A forward proxy. Cheap to clone; prints no credentials.
#[derive(Clone, PartialEq, Eq)]
pub struct Proxy {
    host: String,
    port: u16,
    authorization: Option<HeaderValue>,
}

impl fmt::Debug for Proxy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Proxy({}:{})", self.host, self.port)
    }
}

impl Proxy {
    /// Reads a URL `http://user:password@host:port`; user, password and port may be absent.
    pub fn parse(text: &str) -> Result<Self, ProxyError> {
        let url = Url::parse(text).map_err(|_| ProxyError)?;
        let is_bare = url.path() == "/" && url.query().is_none() && url.fragment().is_none();
        if url.scheme() != "http" || !is_bare || url.port() == Some(0) {
            return Err(ProxyError);
        }
        let host = match url.host().ok_or(ProxyError)? {
            Host::Domain(name) => name.to_owned(),
            Host::Ipv4(address) => address.to_string(),
            Host::Ipv6(address) => address.to_string(),
        };
        let port = url.port().unwrap_or(PORT_DEFAULT);
        let has_user = !url.username().is_empty() || url.password().is_some();
        let authorization = has_user.then(|| basic(&url)).transpose()?;
        Ok(Self { host, port, authorization })
    }

    /// The value of `Proxy-Authorization`, if it wants one.
    pub(super) fn authorization(&self) -> Option<&HeaderValue> {
        self.authorization.as_ref()
    }

    /// A connection to the proxy itself.
    pub(super) async fn connect(&self, names: &Names, deadline: Instant) -> Result<TcpStream, SendError> {
        let addresses = match self.host.parse::<IpAddr>() {
            Ok(address) => vec![address],
            Err(_) => match names.look_up(&self.host).end().await {
                Ok(found) => found.to_vec(),
                Err(reason) => {
                    tracing::warn!(proxy.host = self.host, %reason, "the proxy's name could not be looked up");
                    return Err(unreachable());
                }
            },
        };
        match dial(&addresses, self.port, deadline).await {
            Ok((stream, _)) => Ok(stream),
            Err(SendError::Connect { address, reason }) => {
                tracing::warn!(proxy.address = %address, %reason, "the proxy could not be reached");
                Err(unreachable())
            }
            Err(other) => Err(other),
        }
    }

    /// A connection through the proxy to the first of `addresses` that it can reach.
    pub(super) async fn tunnel(
        &self,
        names: &Names,
        (addresses, port): (&[IpAddr], u16),
        deadline: Instant,
    ) -> Result<(TcpStream, IpAddr), SendError> {
        let mut failure = SendError::Timeout(Phase::Connect);
        for (index, address) in addresses.iter().enumerate() {
            // Each address gets its share of what is left, so that one that swallows packets leaves time for the next.
            let share_count = u32::try_from(addresses.len() - index).unwrap_or(1);
            let opening = async {
                let stream = self.connect(names, deadline).await?;
                self.open_tunnel(stream, SocketAddr::new(*address, port)).await
            };
            match timeout(time_left(deadline) / share_count, opening).await {
                Ok(Ok(stream)) => return Ok((stream, *address)),
                Ok(Err(error)) => failure = error,
                Err(_) => {}
            }
        }
        Err(failure)
    }

    async fn open_tunnel(&self, mut stream: TcpStream, target: SocketAddr) -> Result<TcpStream, SendError> {
        let mut request = format!("CONNECT {target} HTTP/1.1\r\nhost: {target}\r\n").into_bytes();
        if let Some(authorization) = &self.authorization {
            request.extend_from_slice(b"proxy-authorization: ");
            request.extend_from_slice(authorization.as_bytes());
            request.extend_from_slice(b"\r\n");
        }
        request.extend_from_slice(b"\r\n");
        let broken = |_| SendError::Proxy("it closed the connection".to_owned());
        stream.write_all(&request).await.map_err(broken)?;
        let mut answer = Vec::new();
        while !answer.windows(HEAD_END.len()).any(|bytes| bytes == HEAD_END) {
            let room = ANSWER_BYTES_MAX.saturating_sub(answer.len());
            let count = (&mut stream).take(room as u64).read_buf(&mut answer).await.map_err(broken)?;
            if count == 0 {
                let is_full = answer.len() >= ANSWER_BYTES_MAX;
                let what = if is_full { "its answer is too long" } else { "it closed the connection" };
                return Err(SendError::Proxy(what.to_owned()));
            }
        }
        match status(&answer) {
            Some(200..=299) if answer.ends_with(HEAD_END) => Ok(stream),
            // Behind an open tunnel the receiver does not speak first.
            Some(200..=299) => Err(SendError::Proxy("its answer is not the opening of a tunnel".to_owned())),
            Some(status) => Err(SendError::Proxy(format!("it answered {status}"))),
            None => Err(SendError::Proxy("its answer is not HTTP".to_owned())),
        }
    }
}

fn unreachable() -> SendError {
    SendError::Proxy("it cannot be reached".to_owned())
}

fn status(answer: &[u8]) -> Option<u16> {
    let line = answer.split(|byte| *byte == b'\r').next()?;
    let line = std::str::from_utf8(line).ok()?;
    line.strip_prefix("HTTP/1.")?.split(' ').nth(1)?.parse().ok()
}

fn basic(url: &Url) -> Result<HeaderValue, ProxyError> {
    let decoded = |text: &str| percent_decode_str(text).collect::<Vec<u8>>();
    let mut pair = decoded(url.username());
    pair.push(b':');
    pair.extend(decoded(url.password().unwrap_or_default()));
    let mut value =
        HeaderValue::try_from(format!("Basic {}", STANDARD.encode(pair))).map_err(|_| ProxyError)?;
    value.set_sensitive(true);
    Ok(value)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Option<(String, u16, Option<String>)> {
        let proxy = Proxy::parse(text).ok()?;
        let authorization = proxy.authorization().map(|value| value.to_str().expect("ASCII").to_owned());
        Some((proxy.host.clone(), proxy.port, authorization))
    }

    #[test]
    fn a_proxy_is_a_host_a_port_and_perhaps_credentials() {
        for (text, host, port, authorization) in [
            ("http://proxy.example:8080", "proxy.example", 8080, None),
            ("http://proxy.example", "proxy.example", 80, None),
            ("http://10.0.0.1:80/", "10.0.0.1", 80, None),
            ("http://[fd00::1]:3128", "fd00::1", 3128, None),
            ("http://user:p%40ss@proxy.example:8080", "proxy.example", 8080, Some("Basic dXNlcjpwQHNz")),
        ] {
            let wanted = (host.to_owned(), port, authorization.map(str::to_owned));
            assert_eq!(read(text), Some(wanted), "{text}");
        }
        for text in [
            "",
            "proxy.example:8080",
            "https://proxy.example:8080",
            "socks5://proxy.example:1080",
            "http://",
            "http://proxy.example:0",
            "http://proxy.example:99999",
            "http://proxy.example/path",
            "http://proxy.example/?q",
            "http://proxy.example/#f",
        ] {
            assert_eq!(read(text), None, "{text}");
        }
    }

    #[test]
    fn neither_a_proxy_nor_a_mistake_in_it_shows_the_password() {
        let proxy = Proxy::parse("http://user:secret@proxy.example:1").expect("valid");
        assert_eq!(format!("{proxy:?}"), "Proxy(proxy.example:1)");
        assert!(!ProxyError.to_string().contains("secret"));
    }

    #[test]
    fn the_status_of_a_tunnel_is_that_of_its_first_line() {
        assert_eq!(status(b"HTTP/1.1 200 Connection established\r\n\r\n"), Some(200));
        assert_eq!(status(b"HTTP/1.0 407\r\n\r\n"), Some(407));
        assert_eq!(status(b"SSH-2.0\r\n\r\n"), None);
    }
}
