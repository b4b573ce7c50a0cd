//! What is to be sent, and the form that it takes on a connection.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http_body_util::Full;
use hyper::header::{self, HeaderMap, HeaderName, HeaderValue};
use hyper::http::uri::{Authority, PathAndQuery, Scheme};
use hyper::{Method, Request, Uri};
use serde_json::{Map, Value};

use super::link::Form;
use super::{ClientIdentity, Proxy, SendError, TargetUrl};

/// What is shown instead of a secret.
const MASK: &str = "***";

/// These describe the connection or the framing, which the client does by itself.
pub const RESERVED_HEADERS: [HeaderName; 11] = [
    header::CONNECTION,
    header::CONTENT_LENGTH,
    header::EXPECT,
    header::HOST,
    header::PROXY_AUTHORIZATION,
    header::TE,
    header::TRAILER,
    header::TRANSFER_ENCODING,
    header::UPGRADE,
    HeaderName::from_static("keep-alive"),
    HeaderName::from_static("proxy-connection"),
];

/// A request to somebody else's address.
#[derive(Clone, Debug)]
pub struct OutboundRequest {
    /// The method; anything but `CONNECT`.
    pub method: Method,
    /// Where it goes, as [`Guard::check_url`](super::Guard::check_url) accepted it.
    pub url: TargetUrl,
    /// The headers, user agent included; those that frame the message are added by the client and refused here.
    pub headers: Vec<(HeaderName, HeaderValue)>,
    /// The body; empty for none.
    pub body: Bytes,
    /// One deadline for name lookup, connecting, TLS, head and body. At most ten minutes.
    pub timeout: Duration,
    /// How many bytes of the answer's body are kept. Reading ends there and the connection is dropped.
    pub body_max: usize,
    /// The certificate to show to a receiver that asks for one.
    pub identity: Option<Arc<ClientIdentity>>,
}

impl OutboundRequest {
    /// The headers as they are sent, those that the client adds included; the values of `secret` ones are masked. A name that
    /// occurs several times has its values in one text.
    #[must_use]
    pub fn shown_headers(&self, secret: &[HeaderName]) -> Map<String, Value> {
        let mut shown = Map::new();
        for (name, value) in &self.headers {
            let value = String::from_utf8_lossy(value.as_bytes());
            let value = if secret.contains(name) { MASK } else { &value };
            match shown.get_mut(name.as_str()) {
                Some(Value::String(earlier)) => {
                    earlier.push_str(", ");
                    earlier.push_str(value);
                }
                _ => {
                    shown.insert(name.to_string(), value.into());
                }
            }
        }
        shown.insert(header::HOST.to_string(), self.authority().as_str().into());
        shown.insert(header::CONTENT_LENGTH.to_string(), self.body.len().to_string().into());
        shown
    }

    pub(super) fn is_plain(&self) -> bool {
        self.url.uri().scheme() != Some(&Scheme::HTTPS)
    }

    /// Host and port; a port that the scheme stands for is left out.
    pub(super) fn authority(&self) -> Authority {
        let authority = self.url.uri().authority().cloned();
        authority.unwrap_or_else(|| Authority::from_static("localhost"))
    }

    /// What does not depend on the connection.
    pub(super) fn checked_headers(&self) -> Result<HeaderMap, SendError> {
        if self.method == Method::CONNECT {
            return Err(SendError::InvalidRequest("the method CONNECT is not supported".to_owned()));
        }
        // Two more for the host and a proxy.
        let mut headers = HeaderMap::with_capacity(self.headers.len() + 2);
        for (name, value) in &self.headers {
            if RESERVED_HEADERS.contains(name) {
                return Err(SendError::InvalidRequest(format!("the header {name} is set by the client")));
            }
            let appended = headers.try_append(name.clone(), value.clone());
            appended.map_err(|_| SendError::InvalidRequest("it has too many headers".to_owned()))?;
        }
        Ok(headers)
    }

    /// The request for a connection that speaks HTTP/2, or HTTP/1.1 in this form.
    pub(super) fn on_connection(
        &self,
        mut headers: HeaderMap,
        is_http2: bool,
        form: Form,
        (address, proxy): (IpAddr, Option<&Proxy>),
    ) -> Result<Request<Full<Bytes>>, SendError> {
        let uri = self.url.uri();
        let path = || uri.path_and_query().cloned().unwrap_or_else(|| PathAndQuery::from_static("/"));
        let mut request = Request::new(Full::new(self.body.clone()));
        *request.method_mut() = self.method.clone();
        if is_http2 {
            // The library takes host and scheme from here.
            *request.uri_mut() = uri.clone();
        } else {
            let host = HeaderValue::from_str(self.authority().as_str());
            headers.insert(header::HOST, host.map_err(|error| SendError::InvalidRequest(error.to_string()))?);
            *request.uri_mut() = match form {
                Form::Origin => path().into(),
                Form::Absolute => absolute(address, uri.port_u16(), path())?,
            };
        }
        if let Some(authorization) = proxy.filter(|_| form == Form::Absolute).and_then(Proxy::authorization) {
            headers.insert(header::PROXY_AUTHORIZATION, authorization.clone());
        }
        *request.headers_mut() = headers;
        Ok(request)
    }
}

/// The target as a proxy is told it: by the address that was judged, since the proxy would look up a name anew.
fn absolute(address: IpAddr, port: Option<u16>, path: PathAndQuery) -> Result<Uri, SendError> {
    let port = port.unwrap_or(80);
    let authority = match address {
        IpAddr::V4(address) => format!("{address}:{port}"),
        IpAddr::V6(address) => format!("[{address}]:{port}"),
    };
    let uri = Uri::builder().scheme(Scheme::HTTP).authority(authority).path_and_query(path).build();
    uri.map_err(|error| SendError::InvalidRequest(error.to_string()))
}
