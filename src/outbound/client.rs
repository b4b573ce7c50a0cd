//! Sends one request and reads the bounded answer, all before one deadline.

use std::fmt;
use std::net::IpAddr;
use std::sync::{Arc, Weak};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use http_body_util::BodyExt;
use hyper::body::{Body, Frame, Incoming};
use hyper::header::HeaderMap;
use tokio::time::{Instant, timeout};

use super::connector::Connector;
use super::error::describe_chain;
use super::link::Link;
use super::names::Names;
use super::pool::{Origin, Pool};
use super::timings::Course;
use super::tls::{SetupError, TlsConfigs};
use super::watched::Traffic;
use super::{
    BodyError, ClientIdentity, Guard, OutboundRequest, Phase, Proxy, Resolve, SendError, Timings, vetting,
};
use crate::clock::Clock;

/// The longest deadline; longer ones are cut to it.
const TIMEOUT_MAX: Duration = Duration::from_mins(10);

/// How long a connection may take to open before one that other requests give back is as welcome, and how often it is looked
/// for then. A receiver whose queue is full makes us wait a second or more.
const STALLED_AFTER: Duration = Duration::from_millis(400);
const LOOK_AGAIN_AFTER: Duration = Duration::from_millis(50);

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
}

/// How a request went.
#[derive(Clone, Debug)]
pub struct Sent {
    /// How long its parts took, whether it succeeded or failed.
    pub timings: Timings,
    /// What the receiver answered, or why there is no answer.
    pub result: Result<Answer, SendError>,
}

/// What a client is made of.
pub struct Setup<'a> {
    /// Judges the addresses.
    pub guard: Guard,
    /// Finds them.
    pub resolver: Arc<dyn Resolve>,
    /// Says how old what it found is.
    pub clock: Arc<dyn Clock>,
    /// Certificates to trust beside Mozilla's roots, in PEM; empty for none.
    pub extra_roots: &'a [u8],
    /// What all requests go through.
    pub proxy: Option<Proxy>,
}

/// Sends requests to addresses that the guard permits. Cloning is cheap, and clones share their connections.
#[derive(Clone)]
pub struct Client {
    guard: Guard,
    names: Arc<Names>,
    connector: Arc<Connector>,
    pool: Pool,
}

/// A request under way and what is known of it so far. It outlives the sending, which may be cut off at any point.
struct Exchange<'a> {
    request: &'a OutboundRequest,
    origin: Origin,
    deadline: Instant,
    course: Course,
    line: Line,
    reading: Option<BodyReading>,
}

/// The connection in use.
enum Line {
    None,
    Http1(Traffic),
    /// Weak, since who only watches a connection does not count as its user.
    Http2 {
        users: Weak<()>,
        first_byte: Option<Duration>,
    },
}

impl Client {
    /// A client that trusts Mozilla's roots and the certificates of its setup.
    pub fn new(setup: Setup<'_>) -> Result<Self, SetupError> {
        let Setup { guard, resolver, clock, extra_roots, proxy } = setup;
        let names = Arc::new(Names::new(resolver, clock));
        let connector =
            Arc::new(Connector { names: Arc::clone(&names), tls: TlsConfigs::new(extra_roots)?, proxy });
        Ok(Self { guard, names, connector, pool: Pool::default() })
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
    pub async fn send(&self, request: OutboundRequest) -> Sent {
        let limit = request.timeout.min(TIMEOUT_MAX);
        let mut exchange = Exchange {
            origin: Origin {
                is_plain: request.is_plain(),
                authority: request.authority(),
                identity: request.identity.as_deref().map(ClientIdentity::id),
            },
            request: &request,
            deadline: Instant::now() + limit,
            course: Course::start(),
            line: Line::None,
            reading: None,
        };
        let ended = timeout(limit, self.exchange(&mut exchange)).await;
        let Exchange { origin, course, line, mut reading, .. } = exchange;
        let failure = match ended {
            Ok(Ok(())) => None,
            Ok(Err(error)) => Some(error),
            Err(_) => {
                self.retire(&origin, &line);
                // An answer that was read to its end stays whole, though its connection was not ready in time.
                if let Some(reading) = reading.as_mut().filter(|reading| !reading.is_over) {
                    reading.error = Some(BodyError::Timeout);
                }
                Some(SendError::Timeout(course.phase()))
            }
        };
        let timings = course.end(match &line {
            Line::None => None,
            Line::Http1(traffic) => traffic.first_byte(),
            Line::Http2 { first_byte, .. } => *first_byte,
        });
        let result = match (reading, failure) {
            (Some(reading), _) => Ok(reading.answer()),
            (None, failure) => Err(failure.unwrap_or(SendError::Timeout(Phase::ResponseHead))),
        };
        Sent { timings, result }
    }

    async fn exchange(&self, exchange: &mut Exchange<'_>) -> Result<(), SendError> {
        let headers = exchange.request.checked_headers()?;
        let addresses = self.vetted_addresses(exchange).await?;
        let Some(kept) = self.pool.take(&exchange.origin, &addresses) else {
            return self.exchange_anew(&addresses, headers, exchange).await;
        };
        match self.exchange_on(kept, headers, exchange).await {
            Err(failure) if failure.is_stale => {}
            ended => return ended.map_err(|failure| failure.error),
        }
        tracing::debug!(
            url.host = exchange.request.url.host(),
            "a kept connection was dead, connecting anew"
        );
        self.retire(&exchange.origin, &exchange.line);
        exchange.course.repeat();
        exchange.line = Line::None;
        let headers = exchange.request.checked_headers()?;
        self.exchange_anew(&addresses, headers, exchange).await
    }

    async fn exchange_anew(
        &self,
        addresses: &[IpAddr],
        headers: HeaderMap,
        exchange: &mut Exchange<'_>,
    ) -> Result<(), SendError> {
        let Exchange { origin, request, deadline, course, .. } = exchange;
        let identity = request.identity.as_deref();
        let opening = self.connector.open((&*origin, addresses), identity, *deadline, course);
        // A connection that is opened is the exception, and the room that it needs is not for every request.
        let mut opening = Box::pin(opening);
        let mut patience = STALLED_AFTER;
        let link = loop {
            if let Ok(opened) = timeout(patience, opening.as_mut()).await {
                break opened?;
            }
            if let Some(given_back) = self.pool.take(origin, addresses) {
                break given_back;
            }
            patience = LOOK_AGAIN_AFTER;
        };
        drop(opening);
        self.pool.share(&exchange.origin, &link);
        self.exchange_on(link, headers, exchange).await.map_err(|failure| failure.error)
    }

    fn retire(&self, origin: &Origin, line: &Line) {
        if let Line::Http2 { users, .. } = line {
            self.pool.retire(origin, users);
        }
    }

    async fn vetted_addresses(&self, exchange: &mut Exchange<'_>) -> Result<Vec<IpAddr>, SendError> {
        let Exchange { request, origin, course, .. } = exchange;
        let host = request.url.host();
        let bare = host.strip_prefix('[').and_then(|host| host.strip_suffix(']'));
        if let Ok(literal) = bare.unwrap_or(host).parse::<IpAddr>() {
            return vetting::permitted(&self.guard, host, &[literal], origin.is_plain);
        }
        let lookup = self.names.look_up(host);
        let found = match lookup.known() {
            Some(found) => found,
            None => {
                course.enter(Phase::Dns);
                lookup.end().await
            }
        };
        let found = found.map_err(|reason| SendError::dns(host, reason))?;
        vetting::permitted(&self.guard, host, &found, origin.is_plain)
    }

    async fn exchange_on(
        &self,
        mut link: Link,
        headers: HeaderMap,
        exchange: &mut Exchange<'_>,
    ) -> Result<(), Failure> {
        let is_http2 = link.is_http2();
        let proxy = self.connector.proxy.as_ref();
        let request = exchange.request.on_connection(headers, is_http2, link.form, (link.address, proxy))?;
        exchange.course.enter(Phase::ResponseHead);
        exchange.line = if is_http2 {
            Line::Http2 { users: Arc::downgrade(&link.users), first_byte: None }
        } else {
            Line::Http1(link.traffic.clone())
        };
        let response = match link.send(request).await {
            Ok(response) => response,
            Err(error) => {
                return Err(Failure { is_stale: link.is_stale(&error), error: link.describe(&error).await });
            }
        };
        if let Line::Http2 { first_byte, .. } = &mut exchange.line {
            *first_byte = Some(exchange.course.in_phase());
        }
        let (head, incoming) = response.into_parts();
        let reading = exchange.reading.insert(BodyReading {
            status: head.status.as_u16(),
            headers: head.headers,
            kept: BytesMut::new(),
            kept_max: exchange.request.body_max,
            is_truncated: false,
            is_over: false,
            error: None,
        });
        reading.read(incoming).await;
        let is_whole = !reading.is_truncated && reading.error.is_none();
        if (is_whole || is_http2) && link.is_ready_again().await {
            self.pool.put(&exchange.origin, link);
        }
        Ok(())
    }
}

impl fmt::Debug for Client {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Client").field("guard", &self.guard).finish_non_exhaustive()
    }
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

/// An answer whose head has come, with the body as far as it was read.
struct BodyReading {
    status: u16,
    headers: HeaderMap,
    kept: BytesMut,
    kept_max: usize,
    is_truncated: bool,
    is_over: bool,
    error: Option<BodyError>,
}

impl BodyReading {
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
                break;
            }
        }
        self.is_over = true;
    }

    fn keep(&mut self, data: &[u8]) {
        let room = self.kept_max - self.kept.len();
        let (kept, rest) = data.split_at(data.len().min(room));
        self.kept.extend_from_slice(kept);
        self.is_truncated = !rest.is_empty();
    }

    fn answer(self) -> Answer {
        Answer {
            status: self.status,
            headers: self.headers,
            body: self.kept.into(),
            truncated: self.is_truncated,
            body_error: self.error,
        }
    }
}
