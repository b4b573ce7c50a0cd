//! Opens connections, and only to addresses that the guard permits.
//!
//! The order is: find the addresses, drop those that must not be called, dial the rest one after the other, then TLS.
//! What is dialled is the judged address itself and not the name, so there is no second lookup that could differ.
//!
//! The HTTP library calls this from inside the request that wants a connection, but lets it run on by itself when
//! another connection became free first. Deadline and progress are therefore passed in a task-local [`Attempt`]: the
//! deadline is read at the start and holds wherever the rest runs; progress is noted only while the request waits.

use std::cell::Cell;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use futures_util::future::BoxFuture;
use hyper::Uri;
use hyper::http::uri::Scheme;
use hyper_rustls::{HttpsConnector, MaybeHttpsStream};
use hyper_util::rt::TokioIo;
use rustls::ClientConfig;
use tokio::net::TcpStream;
use tokio::task::futures::TaskLocalFuture;
use tokio::time::{Instant, timeout};
use tower_service::Service;

use super::error::describe_chain;
use super::watched::Watched;
use super::{Guard, Phase, Resolve, SendError};

/// How many addresses of a name are tried; a name with more is not meant to be called from one place.
const ADDRESSES_MAX: usize = 8;

/// Limits a connection that is opened outside of any request, which is not expected to happen.
const ORPHAN_TIMEOUT: Duration = Duration::from_secs(15);

tokio::task_local! {
    static ATTEMPT: Attempt;
}

/// What a request tells the connector, and what the connector tells the request.
#[derive(Debug)]
pub(super) struct Attempt {
    deadline: Instant,
    phase: Cell<Phase>,
}

impl Attempt {
    /// Runs a request, whose connecting then ends at `deadline`.
    pub(super) fn scope<F: Future>(deadline: Instant, request: F) -> TaskLocalFuture<Self, F> {
        // A connection from the pool needs no connecting: then the only thing to wait for is the answer.
        let phase = Cell::new(Phase::ResponseHead);
        ATTEMPT.scope(Self { deadline, phase }, request)
    }

    /// How far the request has come.
    pub(super) fn phase(&self) -> Phase {
        self.phase.get()
    }
}

/// The time that is left until a deadline.
pub(super) fn time_left(deadline: Instant) -> Duration {
    deadline.saturating_duration_since(Instant::now())
}

fn current_deadline() -> Instant {
    let deadline = ATTEMPT.try_with(|attempt| attempt.deadline);
    deadline.unwrap_or_else(|_| Instant::now() + ORPHAN_TIMEOUT)
}

fn enter(phase: Phase) {
    // Fails only when the request no longer waits for this connection, and then nobody asks for the phase.
    let _ = ATTEMPT.try_with(|attempt| attempt.phase.set(phase));
}

type Stream = MaybeHttpsStream<TokioIo<TcpStream>>;

/// A connection as the HTTP library wants it. The inner adapter turns the TLS stream into tokio's traits, where a
/// reader can see how much was read.
pub(super) type Connection = TokioIo<Watched<TokioIo<Stream>>>;

/// Opens plain and TLS connections.
#[derive(Clone)]
pub(super) struct Connector {
    https: HttpsConnector<Dialer>,
}

impl Connector {
    pub(super) fn new(guard: Guard, resolver: Arc<dyn Resolve>, config: ClientConfig) -> Self {
        Self { https: HttpsConnector::from((Dialer { guard, resolver }, config)) }
    }
}

impl Service<Uri> for Connector {
    type Response = Connection;
    type Error = SendError;
    type Future = BoxFuture<'static, Result<Connection, SendError>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), SendError>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, uri: Uri) -> Self::Future {
        let deadline = current_deadline();
        let connecting = self.https.call(uri);
        Box::pin(async move {
            let Ok(connected) = timeout(time_left(deadline), connecting).await else {
                let phase = ATTEMPT.try_with(Attempt::phase).unwrap_or(Phase::Connect);
                return Err(SendError::Timeout(phase));
            };
            let stream = connected.map_err(|error| match error.downcast::<SendError>() {
                Ok(error) => *error,
                // Everything that the dialer did not report itself comes from the TLS layer above it.
                Err(error) => SendError::Tls(describe_chain(error.as_ref())),
            })?;
            enter(Phase::ResponseHead);
            Ok(TokioIo::new(Watched::new(TokioIo::new(stream))))
        })
    }
}

/// Opens TCP connections to permitted addresses.
#[derive(Clone)]
struct Dialer {
    guard: Guard,
    resolver: Arc<dyn Resolve>,
}

impl Service<Uri> for Dialer {
    type Response = TokioIo<TcpStream>;
    type Error = SendError;
    type Future = BoxFuture<'static, Result<TokioIo<TcpStream>, SendError>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), SendError>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, uri: Uri) -> Self::Future {
        let dialer = self.clone();
        let deadline = current_deadline();
        Box::pin(async move { dialer.dial(&uri, deadline).await.map(TokioIo::new) })
    }
}

impl Dialer {
    async fn dial(&self, uri: &Uri, deadline: Instant) -> Result<TcpStream, SendError> {
        let is_plain = uri.scheme() != Some(&Scheme::HTTPS);
        let port = uri.port_u16().unwrap_or(if is_plain { 80 } else { 443 });
        let host = uri.host().unwrap_or_default();
        let found = self.find_addresses(host).await?;
        let permitted = self.permitted(&found, is_plain);
        if permitted.is_empty() {
            return Err(self.refusal(host, &found));
        }
        enter(Phase::Connect);
        let mut failure = SendError::Timeout(Phase::Connect);
        for (index, address) in permitted.iter().enumerate() {
            // Each address gets its share of what is left, so that one that swallows packets leaves time for the next.
            let share_count = u32::try_from(permitted.len() - index).unwrap_or(1);
            let limit = time_left(deadline) / share_count;
            match connect(SocketAddr::new(*address, port), limit).await {
                Ok(stream) => {
                    enter(if is_plain { Phase::ResponseHead } else { Phase::Tls });
                    return Ok(stream);
                }
                Err(error) => failure = error,
            }
        }
        Err(failure)
    }

    async fn find_addresses(&self, host: &str) -> Result<Vec<IpAddr>, SendError> {
        let bare = host.strip_prefix('[').and_then(|host| host.strip_suffix(']'));
        if let Ok(literal) = bare.unwrap_or(host).parse::<IpAddr>() {
            return Ok(vec![literal]);
        }
        enter(Phase::Dns);
        let found = self.resolver.resolve(host).await;
        found.map_err(|error| SendError::dns(host, error))
    }

    fn permitted(&self, found: &[IpAddr], is_plain: bool) -> Vec<IpAddr> {
        let canonical = found.iter().map(IpAddr::to_canonical);
        let permitted = canonical
            .filter(|address| self.guard.is_allowed(*address) || (!is_plain && self.guard.permits(*address)));
        permitted.take(ADDRESSES_MAX).collect()
    }

    /// Why none of the addresses can be dialled.
    fn refusal(&self, host: &str, found: &[IpAddr]) -> SendError {
        let Some(first) = found.first() else {
            return SendError::dns(host, "it has no address");
        };
        match found.iter().find(|address| self.guard.permits(**address)) {
            Some(public) => SendError::PlainHttp(public.to_canonical()),
            None => SendError::ForbiddenAddress(first.to_canonical()),
        }
    }
}

async fn connect(address: SocketAddr, limit: Duration) -> Result<TcpStream, SendError> {
    let connecting = async {
        let stream = TcpStream::connect(address).await?;
        // Requests are written in one piece; waiting for more to send along only delays them.
        stream.set_nodelay(true)?;
        Ok(stream)
    };
    match timeout(limit, connecting).await {
        Ok(connected) => connected.map_err(|error| SendError::connect(address, &error)),
        Err(_) => Err(SendError::Timeout(Phase::Connect)),
    }
}
