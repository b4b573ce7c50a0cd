//! Opens connections to addresses that the guard has judged, directly or through the operator's proxy.

use std::net::IpAddr;
use std::sync::Arc;

use rustls::pki_types::ServerName;
use tokio::net::TcpStream;
use tokio::time::Instant;
use tokio_rustls::TlsConnector;

use super::dial::dial;
use super::error::describe_chain;
use super::link::{Form, Link, Stream};
use super::names::Names;
use super::pool::Origin;
use super::timings::Course;
use super::tls::TlsConfigs;
use super::{ClientIdentity, Phase, Proxy, SendError};

/// Opens connections.
pub(super) struct Connector {
    pub(super) names: Arc<Names>,
    pub(super) tls: TlsConfigs,
    pub(super) proxy: Option<Proxy>,
}

impl Connector {
    /// A connection to whichever of `addresses`, which must have been judged, can be reached.
    pub(super) async fn open(
        &self,
        (origin, addresses): (&Origin, &[IpAddr]),
        identity: Option<&ClientIdentity>,
        deadline: Instant,
        course: &mut Course,
    ) -> Result<Link, SendError> {
        course.enter(Phase::Connect);
        let port = origin.authority.port_u16().unwrap_or(if origin.is_plain { 80 } else { 443 });
        let (stream, address, form) = match (&self.proxy, addresses) {
            (None, _) => {
                let (stream, address) = dial(addresses, port, deadline).await?;
                (stream, address, Form::Origin)
            }
            // The proxy is told the address with each request, and only its answer could say that it cannot be reached.
            (Some(proxy), [address, ..]) if origin.is_plain => {
                (proxy.connect(&self.names, deadline).await?, *address, Form::Absolute)
            }
            (Some(proxy), _) => {
                let (stream, address) = proxy.tunnel(&self.names, (addresses, port), deadline).await?;
                (stream, address, Form::Origin)
            }
        };
        let stream = if origin.is_plain {
            Stream::Plain(stream)
        } else {
            course.enter(Phase::Tls);
            self.encrypt(stream, origin, identity).await?
        };
        course.enter(Phase::ResponseHead);
        Link::open(stream, address, form).await
    }

    async fn encrypt(
        &self,
        stream: TcpStream,
        origin: &Origin,
        identity: Option<&ClientIdentity>,
    ) -> Result<Stream, SendError> {
        let host = origin.authority.host();
        let bare = host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(host);
        let name = ServerName::try_from(bare.to_owned())
            .map_err(|_| SendError::Tls(format!("{host} cannot be the name in a certificate")))?;
        let connector = TlsConnector::from(self.tls.config(identity));
        match connector.connect(name, stream).await {
            Ok(stream) => Ok(Stream::Tls(Box::new(stream))),
            Err(error) => Err(SendError::Tls(describe_chain(&error))),
        }
    }
}
