//! Connections, of which there are not more than the process can bear, and which end when nothing comes of them.
//!
//! Who connects has to send something soon, and what was begun has to be answered in time: bytes that come put the end off only once
//! until something was answered, so that a request that comes drop by drop ends as well.
//!
//! One timer per connection, which is set again only when it has run out: the traffic itself costs a look at the clock.
//! (poem's own `idle_timeout` wakes a task of its own at every read and every write.)

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use poem::http::uri::Scheme;
use poem::listener::{Acceptor, TcpAcceptor};
use poem::web::{LocalAddr, RemoteAddr};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::{Instant, Interval};

/// How long a new connection may say nothing.
const SILENT: Duration = Duration::from_secs(15);
/// Connections on which nothing was answered for this long are closed.
const IDLE: Duration = Duration::from_secs(75);
/// How long to wait before the next connection is accepted when the system had nothing left for one.
const PAUSE: Duration = Duration::from_millis(100);

/// Accepts connections that end when nothing comes of them.
pub(super) struct IdleAcceptor {
    inner: TcpAcceptor,
    /// Room for connections; who comes when there is none waits.
    room: Arc<Semaphore>,
    /// The last one could not be accepted.
    has_failed: bool,
}

impl IdleAcceptor {
    /// Accepts at most `connections_max` at the same time.
    pub(super) fn new(inner: TcpAcceptor, connections_max: usize) -> Self {
        Self { inner, room: Arc::new(Semaphore::new(connections_max)), has_failed: false }
    }
}

impl Acceptor for IdleAcceptor {
    type Io = IdleStream<TcpStream>;

    fn local_addr(&self) -> Vec<LocalAddr> {
        self.inner.local_addr()
    }

    async fn accept(&mut self) -> io::Result<(Self::Io, LocalAddr, RemoteAddr, Scheme)> {
        let permit = Arc::clone(&self.room).acquire_owned().await.map_err(io::Error::other)?;
        let accepted = self.inner.accept().await;
        if let Err(error) = &accepted {
            if !self.has_failed {
                tracing::warn!(%error, "a connection could not be accepted; are there too few file descriptors?");
            }
            let _ = tokio::time::timeout(PAUSE, std::future::pending::<()>()).await;
        }
        self.has_failed = accepted.is_err();
        let (stream, local, remote, scheme) = accepted?;
        // The parts of a long answer go out as they are ready. A failure means that the client is gone, which the first
        // read tells.
        let _ = stream.set_nodelay(true);
        Ok((IdleStream::new(stream, Some(permit)), local, remote, scheme))
    }
}

/// A stream that reads as ended, and fails to write, once nothing came of it for a while.
pub(super) struct IdleStream<T> {
    inner: T,
    /// When it ends unless something moves.
    ends_at: Instant,
    /// Something came since the last answer.
    is_asked: bool,
    timer: Interval,
    /// Nothing came of it for too long; so it stays, however often it is asked.
    has_ended: bool,
    /// Its part of the room.
    _permit: Option<OwnedSemaphorePermit>,
}

impl<T> IdleStream<T> {
    fn new(inner: T, permit: Option<OwnedSemaphorePermit>) -> Self {
        let ends_at = Instant::now() + SILENT;
        let timer = tokio::time::interval_at(ends_at, IDLE);
        Self { inner, ends_at, is_asked: false, timer, has_ended: false, _permit: permit }
    }

    /// Ready when nothing has moved for too long; else the task is woken when that may be.
    fn poll_idle(&mut self, context: &mut Context<'_>) -> Poll<()> {
        while !self.has_ended {
            ready!(self.timer.poll_tick(context));
            self.has_ended = Instant::now() >= self.ends_at;
            self.timer.reset_at(self.ends_at);
        }
        Poll::Ready(())
    }

    /// What a write came to.
    fn note<R>(&mut self, context: &mut Context<'_>, written: Poll<io::Result<R>>) -> Poll<io::Result<R>> {
        if written.is_ready() {
            self.ends_at = Instant::now() + IDLE;
            self.is_asked = false;
            return written;
        }
        ready!(self.poll_idle(context));
        Poll::Ready(Err(io::ErrorKind::TimedOut.into()))
    }
}

impl<T: AsyncRead + Unpin> AsyncRead for IdleStream<T> {
    fn poll_read(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        if let Poll::Ready(read) = Pin::new(&mut this.inner).poll_read(context, buffer) {
            if !this.is_asked {
                this.is_asked = true;
                this.ends_at = Instant::now() + IDLE;
            }
            return Poll::Ready(read);
        }
        // Nothing was put into the buffer: the end of the stream.
        this.poll_idle(context).map(Ok)
    }
}

impl<T: AsyncWrite + Unpin> AsyncWrite for IdleStream<T> {
    fn poll_write(self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        let written = Pin::new(&mut this.inner).poll_write(context, bytes);
        this.note(context, written)
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        parts: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        let written = Pin::new(&mut this.inner).poll_write_vectored(context, parts);
        this.note(context, written)
    }

    fn is_write_vectored(&self) -> bool {
        self.inner.is_write_vectored()
    }

    fn poll_flush(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().inner).poll_flush(context)
    }

    fn poll_shutdown(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().inner).poll_shutdown(context)
    }
}

#[cfg(test)]
mod tests {
    use poem::listener::Listener as _;
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, duplex};
    use tokio::time::{advance, timeout};

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_stream_ends_when_nothing_moved_for_so_long() {
        let (near, mut far) = duplex(64);
        let mut near = IdleStream::new(near, None);
        let mut got = [0; 8];
        // Activity puts the end off, in either direction.
        advance(Duration::from_secs(14)).await;
        far.write_all(b"one").await.expect("it is open");
        assert_eq!(near.read(&mut got).await.ok(), Some(3));
        advance(Duration::from_secs(50)).await;
        near.write_all(b"two").await.expect("it is open");
        let still = timeout(Duration::from_secs(74), near.read(&mut got)).await;
        assert!(still.is_err(), "74 s after the last byte it is open");
        let ended = timeout(Duration::from_secs(2), near.read(&mut got)).await;
        assert!(matches!(ended, Ok(Ok(0))), "76 s after it, it has ended: {ended:?}");
        let again = timeout(Duration::from_secs(1), near.read(&mut got)).await;
        assert!(matches!(again, Ok(Ok(0))), "who asks again hears the same at once: {again:?}");
    }

    #[tokio::test(start_paused = true)]
    async fn a_reader_who_stops_reading_ends_the_writer() {
        let (near, far) = duplex(4);
        let mut near = IdleStream::new(near, None);
        let started = Instant::now();
        let written = near.write_all(b"more than there is room for").await;
        assert_eq!(written.map_err(|error| error.kind()), Err(io::ErrorKind::TimedOut));
        assert_eq!(started.elapsed().as_secs(), 75);
        drop(far);
    }

    #[tokio::test(start_paused = true)]
    async fn who_says_nothing_or_asks_drop_by_drop_is_left() {
        let (near, far) = duplex(64);
        let started = Instant::now();
        assert!(matches!(IdleStream::new(near, None).read(&mut [0; 8]).await, Ok(0)));
        assert_eq!(started.elapsed().as_secs(), 15);
        drop(far);

        let (near, mut far) = duplex(64);
        let mut near = IdleStream::new(near, None);
        let started = Instant::now();
        let reading = tokio::spawn(async move {
            while near.read(&mut [0; 8]).await.is_ok_and(|read| read > 0) {}
            started.elapsed()
        });
        while far.write_all(b"x").await.is_ok() && !reading.is_finished() {
            let _ = timeout(Duration::from_secs(10), std::future::pending::<()>()).await;
        }
        assert_eq!(reading.await.ok().map(|took| took.as_secs()), Some(75));
    }

    #[tokio::test]
    async fn who_comes_when_there_is_no_room_waits_for_it() -> io::Result<()> {
        let inner = poem::listener::TcpListener::bind("127.0.0.1:0").into_acceptor().await?;
        let address = inner.local_addr()[0].as_socket_addr().copied().ok_or(io::ErrorKind::NotFound)?;
        let mut acceptor = IdleAcceptor::new(inner, 1);
        let _clients = (TcpStream::connect(address).await?, TcpStream::connect(address).await?);
        let (first, ..) = acceptor.accept().await?;
        let mut second = std::pin::pin!(acceptor.accept());
        assert!(futures_util::poll!(&mut second).is_pending());
        drop(first);
        second.await.map(|_| ())
    }
}
