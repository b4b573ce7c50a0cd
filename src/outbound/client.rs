//! Sends one request and reads the bounded answer, all before one deadline.

use std::error::Error as _;
use std::fmt;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use http_body_util::{BodyExt, Full};
use hyper::body::{Body, Frame, Incoming};
use hyper::header::{self, HeaderMap, HeaderName, HeaderValue};
use hyper::http::Extensions;
use hyper::{Method, Request, Response};
use hyper_util::client::legacy::{self, connect::capture_connection};
use hyper_util::rt::{TokioExecutor, TokioTimer};
use tokio::time::{Instant, timeout};

use super::connector::{Attempt, Connector, time_left};
use super::error::describe_chain;
use super::tls::{self, SetupError};
use super::watched::Exchanges;
use super::{BodyError, Guard, Phase, Resolve, SendError, TargetUrl};

/// The longest deadline; longer ones are cut to it.
const TIMEOUT_MAX: Duration = Duration::from_mins(10);

/// How long an idle connection is kept: shorter than most receivers keep theirs.
const IDLE_TIMEOUT: Duration = Duration::from_secs(30);

const IDLE_PER_HOST_MAX: usize = 64;

/// The largest head of an answer, in bytes; also the size of a connection's buffer.
const HEAD_SIZE_MAX: usize = 32 * 1024;

/// These describe the connection or the framing, which the client does by itself.
const RESERVED_HEADERS: [HeaderName; 8] = [
    header::CONNECTION,
    header::CONTENT_LENGTH,
    header::EXPECT,
    header::HOST,
    header::TE,
    header::TRAILER,
    header::TRANSFER_ENCODING,
    header::UPGRADE,
];

type HttpClient = legacy::Client<Connector, Full<Bytes>>;

/// A request to somebody else's address.
#[derive(Clone, Debug)]
pub struct OutboundRequest {
    /// The method; anything but `CONNECT`.
    pub method: Method,
    /// Where it goes, as [`Guard::check_url`] accepted it.
    pub url: TargetUrl,
    /// The headers, user agent included; those that frame the message are added by the client and refused here.
    pub headers: Vec<(HeaderName, HeaderValue)>,
    /// The body; empty for none.
    pub body: Bytes,
    /// One deadline for name lookup, connecting, TLS, head and body. At most ten minutes.
    pub timeout: Duration,
    /// How many bytes of the answer's body are kept. Reading ends there and the connection is dropped.
    pub body_max: usize,
}

/// What the receiver answered.
#[derive(Clone, Debug)]
pub struct Answer {
    /// The status. It came whole, whatever became of the body.
    pub status: u16,
    /// The headers.
    pub headers: HeaderMap,
    /// The body as far as it was read.
    pub body: Bytes,
    /// Whether the body is longer than what was asked for.
    pub truncated: bool,
    /// Why the body is incomplete, if it is for a reason other than its length.
    pub body_error: Option<BodyError>,
    /// The time from the start of the request to the last byte that was read.
    pub elapsed: Duration,
}

/// Sends requests to addresses that the guard permits. Cloning is cheap, and clones share their connections.
#[derive(Clone)]
pub struct Client {
    guard: Guard,
    pooled: HttpClient,
    // Never reuses a connection: the second try of a request whose kept connection turned out dead must not be given
    // the next dead one.
    unpooled: HttpClient,
}

impl Client {
    /// A client that trusts Mozilla's roots and the certificates in `extra_roots` (PEM; empty for none).
    pub fn new(guard: Guard, resolver: Arc<dyn Resolve>, extra_roots: &[u8]) -> Result<Self, SetupError> {
        let config = tls::client_config(extra_roots)?;
        let connector = Connector::new(guard.clone(), resolver, config);
        Ok(Self {
            guard,
            pooled: http_client(connector.clone(), IDLE_PER_HOST_MAX),
            unpooled: http_client(connector, 0),
        })
    }

    /// The guard that judges the addresses, for checking URLs by the same rules.
    #[must_use]
    pub fn guard(&self) -> &Guard {
        &self.guard
    }

    /// Sends a request and reads the answer.
    ///
    /// Any answer whose head arrived in time is `Ok`, whatever its status. A request that met a kept connection which
    /// the receiver had meanwhile closed is sent once more at once, on a new connection and before the same deadline:
    /// a receiver may therefore, rarely, see a request twice.
    pub async fn send(&self, request: OutboundRequest) -> Result<Answer, SendError> {
        let started = Instant::now();
        let deadline = started + request.timeout.min(TIMEOUT_MAX);
        let response = match receive_head(&self.pooled, &request, deadline).await {
            Err(failure) if failure.is_stale => {
                tracing::debug!(url.host = request.url.host(), "a kept connection was dead, connecting anew");
                receive_head(&self.unpooled, &request, deadline).await
            }
            received => received,
        };
        let (head, incoming) = response.map_err(|failure| failure.error)?.into_parts();
        let mut reading = BodyReading::new(request.body_max);
        let is_read_in_time = timeout(time_left(deadline), reading.read(incoming)).await.is_ok();
        if !is_read_in_time {
            reading.error = Some(BodyError::Timeout);
        }
        Ok(Answer {
            status: head.status.as_u16(),
            headers: head.headers,
            body: reading.kept.into(),
            truncated: reading.is_truncated,
            body_error: reading.error,
            elapsed: started.elapsed(),
        })
    }
}

impl fmt::Debug for Client {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Client").field("guard", &self.guard).finish_non_exhaustive()
    }
}

fn http_client(connector: Connector, idle_per_host_max: usize) -> HttpClient {
    legacy::Client::builder(TokioExecutor::new())
        .pool_timer(TokioTimer::new())
        .pool_idle_timeout(IDLE_TIMEOUT)
        .pool_max_idle_per_host(idle_per_host_max)
        .http1_max_buf_size(HEAD_SIZE_MAX)
        .build(connector)
}

struct Failure {
    error: SendError,
    /// Whether a kept connection turned out dead before any byte of the answer came.
    is_stale: bool,
}

impl From<SendError> for Failure {
    fn from(error: SendError) -> Self {
        Self { error, is_stale: false }
    }
}

async fn receive_head(
    client: &HttpClient,
    request: &OutboundRequest,
    deadline: Instant,
) -> Result<Response<Incoming>, Failure> {
    let mut http_request = build_request(request)?;
    let connection = capture_connection(&mut http_request);
    let mut exchange = pin!(Attempt::scope(deadline, client.request(http_request)));
    match timeout(time_left(deadline), exchange.as_mut()).await {
        Ok(Ok(response)) => Ok(response),
        Ok(Err(error)) => Err(Failure { is_stale: is_stale(&error), error: describe_failure(&error) }),
        Err(_) => {
            let attempt = exchange.as_mut().take_value();
            let reached = attempt.map_or(Phase::ResponseHead, |attempt| attempt.phase());
            // A connection that another request gave back may have come before the one that was being opened.
            let has_connection = connection.connection_metadata().is_some();
            let phase = if has_connection { Phase::ResponseHead } else { reached };
            Err(SendError::Timeout(phase).into())
        }
    }
}

fn build_request(request: &OutboundRequest) -> Result<Request<Full<Bytes>>, SendError> {
    if request.method == Method::CONNECT {
        return Err(SendError::InvalidRequest("the method CONNECT is not supported".to_owned()));
    }
    let mut http_request = Request::new(Full::new(request.body.clone()));
    *http_request.method_mut() = request.method.clone();
    *http_request.uri_mut() = request.url.uri().clone();
    // One more for the host.
    let mut headers = HeaderMap::with_capacity(request.headers.len() + 1);
    for (name, value) in &request.headers {
        if RESERVED_HEADERS.contains(name) {
            return Err(SendError::InvalidRequest(format!("the header {name} is set by the client")));
        }
        let appended = headers.try_append(name.clone(), value.clone());
        appended.map_err(|_| SendError::InvalidRequest("it has too many headers".to_owned()))?;
    }
    *http_request.headers_mut() = headers;
    Ok(http_request)
}

fn is_stale(error: &legacy::Error) -> bool {
    let mut extras = Extensions::new();
    if let Some(connection) = error.connect_info() {
        connection.get_extras(&mut extras);
    }
    extras.get::<Exchanges>().is_some_and(Exchanges::is_silent_after_reuse)
}

fn describe_failure(error: &legacy::Error) -> SendError {
    let Some(cause) = error.source() else {
        return SendError::Protocol(error.to_string());
    };
    if let Some(own) = cause.downcast_ref::<SendError>() {
        return own.clone();
    }
    let Some(hyper_error) = cause.downcast_ref::<hyper::Error>() else {
        return SendError::Protocol(describe_chain(cause));
    };
    if hyper_error.is_user() {
        return SendError::InvalidRequest(describe_chain(cause));
    }
    SendError::Protocol(if hyper_error.is_parse() {
        format!("it is not HTTP/1.1 as expected ({})", describe_chain(cause))
    } else if hyper_error.is_incomplete_message() || hyper_error.is_canceled() || hyper_error.is_closed() {
        "the connection was closed before the answer was complete".to_owned()
    } else {
        describe_chain(cause)
    })
}

/// The body as far as it was read; outlives the reading, which may be cut off at any point.
struct BodyReading {
    kept: BytesMut,
    kept_max: usize,
    is_truncated: bool,
    error: Option<BodyError>,
}

impl BodyReading {
    fn new(kept_max: usize) -> Self {
        Self { kept: BytesMut::new(), kept_max, is_truncated: false, error: None }
    }

    /// Reads to the end, to the limit or to a failure. Dropping a body that has not ended drops its connection.
    async fn read(&mut self, mut incoming: Incoming) {
        let announced = usize::try_from(incoming.size_hint().lower()).unwrap_or(usize::MAX);
        self.kept.reserve(announced.min(self.kept_max));
        while let Some(frame) = incoming.frame().await {
            match frame.map(Frame::into_data) {
                Ok(Ok(data)) => self.keep(&data),
                // Trailers, which nobody asked for.
                Ok(Err(_)) => {}
                Err(error) => self.error = Some(BodyError::Broken(describe_chain(&error))),
            }
            if self.is_truncated || self.error.is_some() {
                return;
            }
        }
    }

    fn keep(&mut self, data: &[u8]) {
        let room = self.kept_max - self.kept.len();
        let (kept, rest) = data.split_at(data.len().min(room));
        self.kept.extend_from_slice(kept);
        self.is_truncated = !rest.is_empty();
    }
}
