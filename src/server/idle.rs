//! Connections that end when nothing moves on them.
//!
//! One timer per connection, which is set again only when it has run out: the traffic itself costs a look at the clock.
//! (poem's own `idle_timeout` wakes a task of its own at every read and every write.)

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use poem::http::uri::Scheme;
use poem::listener::{Acceptor, TcpAcceptor};
use poem::web::{LocalAddr, RemoteAddr};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio::time::{Instant, Interval};

/// Accepts connections that end after `limit` without a byte in either direction.
pub(super) struct IdleAcceptor {
    pub(super) inner: TcpAcceptor,
    pub(super) limit: Duration,
}

impl Acceptor for IdleAcceptor {
    type Io = IdleStream<TcpStream>;

    fn local_addr(&self) -> Vec<LocalAddr> {
        self.inner.local_addr()
    }

    async fn accept(&mut self) -> io::Result<(Self::Io, LocalAddr, RemoteAddr, Scheme)> {
        let (stream, local, remote, scheme) = self.inner.accept().await?;
        // The parts of a long answer go out as they are ready. A failure means that the client is gone, which the first
        // read tells.
        let _ = stream.set_nodelay(true);
        Ok((IdleStream::new(stream, self.limit), local, remote, scheme))
    }
}

/// A stream that reads as ended, and fails to write, once nothing has moved on it for a while.
pub(super) struct IdleStream<T> {
    inner: T,
    limit: Duration,
    moved_at: Instant,
    timer: Interval,
    /// Nothing has moved for too long; so it stays, however often it is asked.
    has_ended: bool,
}

impl<T> IdleStream<T> {
    fn new(inner: T, limit: Duration) -> Self {
        let moved_at = Instant::now();
        let timer = tokio::time::interval_at(moved_at + limit, limit);
        Self { inner, limit, moved_at, timer, has_ended: false }
    }

    /// Ready when nothing has moved for too long; else the task is woken when that may be.
    fn poll_idle(&mut self, context: &mut Context<'_>) -> Poll<()> {
        while !self.has_ended {
            ready!(self.timer.poll_tick(context));
            let ends_at = self.moved_at + self.limit;
            self.has_ended = Instant::now() >= ends_at;
            self.timer.reset_at(ends_at);
        }
        Poll::Ready(())
    }

    /// What a write came to.
    fn note<R>(&mut self, context: &mut Context<'_>, written: Poll<io::Result<R>>) -> Poll<io::Result<R>> {
        if written.is_ready() {
            self.moved_at = Instant::now();
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
            this.moved_at = Instant::now();
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
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, duplex};
    use tokio::time::{advance, timeout};

    use super::*;

    const LIMIT: Duration = Duration::from_secs(75);

    #[tokio::test(start_paused = true)]
    async fn a_stream_ends_when_nothing_moved_for_so_long() {
        let (near, mut far) = duplex(64);
        let mut near = IdleStream::new(near, LIMIT);
        let mut got = [0; 8];
        // Activity puts the end off, in either direction.
        advance(Duration::from_secs(50)).await;
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
        let mut near = IdleStream::new(near, LIMIT);
        let started = Instant::now();
        let written = near.write_all(b"more than there is room for").await;
        assert_eq!(written.map_err(|error| error.kind()), Err(io::ErrorKind::TimedOut));
        assert_eq!(started.elapsed().as_secs(), 75);
        drop(far);
    }
}
