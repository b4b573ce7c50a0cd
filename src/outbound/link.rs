//! One HTTP connection, ready for a request.

use std::future::poll_fn;
use std::net::IpAddr;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;
use std::{error, io};

use bytes::Bytes;
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::client::conn::{http1, http2};
use hyper::{Request, Response};
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio::sync::watch;
use tokio_rustls::client::TlsStream;

use super::SendError;
use super::error::describe_chain;
use super::watched::{Traffic, Watched};

/// The largest head of an answer, in bytes; also the size of a connection's buffer.
const HEAD_SIZE_MAX: u32 = 32 * 1024;

/// How much of one answer, and of all on a connection, may be on its way over HTTP/2 before we read it, in bytes.
const STREAM_WINDOW: u32 = 64 * 1024;
const CONNECTION_WINDOW: u32 = 1024 * 1024;

/// How long a connection may take to become ready for the next request once an answer was read.
const READY_TIMEOUT: Duration = Duration::from_millis(100);

/// A connection below HTTP.
#[derive(Debug)]
pub(super) enum Stream {
    Plain(TcpStream),
    Tls(Box<TlsStream<TcpStream>>),
}

/// What requests are handed to.
#[derive(Debug)]
pub(super) enum Sender {
    Http1(http1::SendRequest<Full<Bytes>>),
    /// With the number of requests that the receiver accepts at once.
    Http2(http2::SendRequest<Full<Bytes>>, Arc<AtomicUsize>),
}

/// How a plain request names its target: by itself, or to a proxy.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Form {
    Origin,
    Absolute,
}

/// Why the receiver ended a connection, if it was for our encryption or certificate; closed once it has ended.
pub(super) type Refusal = watch::Receiver<Option<String>>;

/// An open connection.
#[derive(Debug)]
pub(super) struct Link {
    pub(super) sender: Sender,
    /// The address that it leads to, as the guard judged it.
    pub(super) address: IpAddr,
    pub(super) form: Form,
    pub(super) traffic: Traffic,
    pub(super) refusal: Refusal,
    /// Counts who uses a connection that several requests share, the pool included.
    pub(super) users: Arc<()>,
    pub(super) is_reused: bool,
}

impl Link {
    /// Begins to speak HTTP.
    pub(super) async fn open(stream: Stream, address: IpAddr, form: Form) -> Result<Self, SendError> {
        let is_http2 = match &stream {
            Stream::Plain(_) => false,
            Stream::Tls(stream) => stream.get_ref().1.alpn_protocol() == Some(b"h2"),
        };
        let (stream, traffic) = Watched::new(stream);
        let io = TokioIo::new(stream);
        let (ended, refusal) = watch::channel(None);
        let failed = |error: hyper::Error| SendError::Protocol(describe_chain(&error));
        let sender = if is_http2 {
            let (sender, connection) = http2::Builder::new(TokioExecutor::new())
                .timer(TokioTimer::new())
                .initial_stream_window_size(STREAM_WINDOW)
                .initial_connection_window_size(CONNECTION_WINDOW)
                .max_header_list_size(HEAD_SIZE_MAX)
                .handshake(io)
                .await
                .map_err(failed)?;
            let streams_max = Arc::new(AtomicUsize::new(connection.current_max_send_streams()));
            tokio::spawn(drive(counted(connection, Arc::clone(&streams_max)), ended));
            Sender::Http2(sender, streams_max)
        } else {
            let (sender, connection) = http1::Builder::new()
                .max_buf_size(HEAD_SIZE_MAX as usize)
                .handshake(io)
                .await
                .map_err(failed)?;
            tokio::spawn(drive(connection, ended));
            Sender::Http1(sender)
        };
        Ok(Self { sender, address, form, traffic, refusal, users: Arc::default(), is_reused: false })
    }

    pub(super) const fn is_http2(&self) -> bool {
        matches!(self.sender, Sender::Http2(..))
    }

    /// Sends a request and waits for the head of the answer.
    pub(super) async fn send(
        &mut self,
        request: Request<Full<Bytes>>,
    ) -> Result<Response<Incoming>, hyper::Error> {
        match &mut self.sender {
            Sender::Http1(sender) => {
                self.traffic.ask();
                sender.send_request(request).await
            }
            Sender::Http2(sender, _) => sender.send_request(request).await,
        }
    }

    /// Whether a failure means only that a kept connection had died, so that the request deserves a new one.
    pub(super) fn is_stale(&self, failure: &hyper::Error) -> bool {
        if !self.is_reused || failure.is_user() {
            return false;
        }
        match self.sender {
            Sender::Http1(_) => self.traffic.first_byte().is_none(),
            Sender::Http2(..) => {
                failure.is_canceled() || failure.is_closed() || h2_cause(failure).is_none_or(is_of_connection)
            }
        }
    }

    /// What went wrong before the head of the answer was complete.
    pub(super) async fn describe(&self, failure: &hyper::Error) -> SendError {
        if failure.is_user() {
            return SendError::InvalidRequest(describe_chain(failure));
        }
        let mut refusal =
            tls_cause(failure).map(ToString::to_string).or_else(|| self.refusal.borrow().clone());
        if refusal.is_none() && (failure.is_canceled() || failure.is_closed()) {
            // A connection takes no more requests a moment before it has said why.
            let mut ended = self.refusal.clone();
            let said = tokio::time::timeout(READY_TIMEOUT, ended.wait_for(Option::is_some)).await;
            refusal = said.ok().and_then(|said| said.ok()?.clone());
        }
        if let Some(refusal) = refusal {
            return SendError::Tls(refusal);
        }
        SendError::Protocol(if failure.is_parse() {
            format!("it is not HTTP as expected ({})", describe_chain(failure))
        } else if failure.is_incomplete_message() || failure.is_canceled() || failure.is_closed() {
            "the connection was closed before the answer was complete".to_owned()
        } else {
            describe_chain(failure)
        })
    }

    /// Waits until the next request may be sent; false when the connection is of no more use.
    pub(super) async fn is_ready_again(&mut self) -> bool {
        match &mut self.sender {
            Sender::Http1(sender) => {
                sender.is_ready()
                    || matches!(tokio::time::timeout(READY_TIMEOUT, sender.ready()).await, Ok(Ok(())))
            }
            Sender::Http2(sender, _) => !sender.is_closed(),
        }
    }
}

/// Runs a connection to its end, and notes what the receiver said against our encryption.
async fn drive<C: Future<Output = hyper::Result<()>>>(connection: C, ended: watch::Sender<Option<String>>) {
    let mut connection = pin!(connection);
    if let Err(error) = connection.as_mut().await {
        tracing::debug!(%error, "a connection ended");
        if let Some(reason) = tls_cause(&error) {
            ended.send_replace(Some(reason.to_string()));
        }
    }
}

/// Tells on the way what the receiver says of the number of requests at once.
fn counted(
    mut connection: http2::Connection<TokioIo<Watched<Stream>>, Full<Bytes>, TokioExecutor>,
    streams_max: Arc<AtomicUsize>,
) -> impl Future<Output = hyper::Result<()>> {
    poll_fn(move |cx| {
        let polled = Pin::new(&mut connection).poll(cx);
        streams_max.store(connection.current_max_send_streams(), Ordering::Relaxed);
        polled
    })
}

/// A stream that the receiver refused before it looked at it fails like the connection: it may be sent again.
fn is_of_connection(error: &h2::Error) -> bool {
    error.is_io() || error.is_go_away() || error.reason() == Some(h2::Reason::REFUSED_STREAM)
}

/// A receiver that does not like our certificate may say so only after we have finished the handshake.
fn tls_cause(failure: &hyper::Error) -> Option<&rustls::Error> {
    let broken = cause_of::<io::Error>(failure).or_else(|| h2_cause(failure)?.get_io())?;
    broken.get_ref()?.downcast_ref()
}

fn h2_cause(failure: &hyper::Error) -> Option<&h2::Error> {
    cause_of(failure)
}

fn cause_of<E: error::Error + 'static>(failure: &hyper::Error) -> Option<&E> {
    let mut cause = error::Error::source(failure);
    while let Some(error) = cause {
        if let Some(own) = error.downcast_ref() {
            return Some(own);
        }
        cause = error.source();
    }
    None
}

impl AsyncRead for Stream {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Plain(stream) => Pin::new(stream).poll_read(cx, buf),
            Self::Tls(stream) => Pin::new(stream).poll_read(cx, buf),
        }
    }
}

impl AsyncWrite for Stream {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Self::Plain(stream) => Pin::new(stream).poll_write(cx, buf),
            Self::Tls(stream) => Pin::new(stream).poll_write(cx, buf),
        }
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Plain(stream) => Pin::new(stream).poll_flush(cx),
            Self::Tls(stream) => Pin::new(stream).poll_flush(cx),
        }
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Plain(stream) => Pin::new(stream).poll_shutdown(cx),
            Self::Tls(stream) => Pin::new(stream).poll_shutdown(cx),
        }
    }

    fn is_write_vectored(&self) -> bool {
        match self {
            Self::Plain(stream) => stream.is_write_vectored(),
            Self::Tls(stream) => stream.is_write_vectored(),
        }
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Self::Plain(stream) => Pin::new(stream).poll_write_vectored(cx, bufs),
            Self::Tls(stream) => Pin::new(stream).poll_write_vectored(cx, bufs),
        }
    }
}
