//! A connection that remembers when the answer to the last request began.
//!
//! A kept connection may have been closed by the other side at the very moment a request is written to it. Such a
//! request was not answered with a single byte, which is what tells it apart from one that a receiver broke off; only
//! the former deserves an immediate second try.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::Instant;

/// Nothing was read since the last request.
const SILENT: u64 = 0;

#[derive(Debug)]
struct Marks {
    opened: Instant,
    /// Microseconds since `opened`.
    asked: AtomicU64,
    /// The same, or [`SILENT`].
    answered: AtomicU64,
}

/// When a connection was asked and when it began to answer; shared with whoever sends the requests, one at a time.
#[derive(Clone, Debug)]
pub(super) struct Traffic(Arc<Marks>);

impl Traffic {
    fn new() -> Self {
        Self(Arc::new(Marks {
            opened: Instant::now(),
            asked: AtomicU64::new(0),
            answered: AtomicU64::new(SILENT),
        }))
    }

    /// Notes that a request begins.
    pub(super) fn ask(&self) {
        self.0.asked.store(self.now(), Ordering::Relaxed);
        self.0.answered.store(SILENT, Ordering::Release);
    }

    /// From the beginning of the last request to the first byte that came after it.
    pub(super) fn first_byte(&self) -> Option<Duration> {
        let answered = self.0.answered.load(Ordering::Acquire);
        let took = answered.saturating_sub(self.0.asked.load(Ordering::Relaxed));
        (answered != SILENT).then(|| Duration::from_micros(took))
    }

    fn note_read(&self) {
        // Only the connection's own task reads, so a load and a store suffice.
        if self.0.answered.load(Ordering::Acquire) == SILENT {
            self.0.answered.store(self.now(), Ordering::Release);
        }
    }

    fn now(&self) -> u64 {
        u64::try_from(self.0.opened.elapsed().as_micros()).unwrap_or(u64::MAX).max(SILENT + 1)
    }
}

/// A stream whose reads are noted in [`Traffic`].
#[derive(Debug)]
pub(super) struct Watched<S> {
    stream: S,
    traffic: Traffic,
}

impl<S> Watched<S> {
    pub(super) fn new(stream: S) -> (Self, Traffic) {
        let traffic = Traffic::new();
        (Self { stream, traffic: traffic.clone() }, traffic)
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Watched<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let filled_before = buf.filled().len();
        let polled = Pin::new(&mut self.stream).poll_read(cx, buf);
        if buf.filled().len() > filled_before {
            self.traffic.note_read();
        }
        polled
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Watched<S> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(cx, buf)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write_vectored(cx, bufs)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_byte_is_that_after_the_last_request() {
        let traffic = Traffic::new();
        traffic.ask();
        assert_eq!(traffic.first_byte(), None);
        traffic.note_read();
        let first = traffic.first_byte().expect("something was read");
        traffic.note_read();
        assert_eq!(traffic.first_byte(), Some(first), "later bytes change nothing");
        traffic.ask();
        assert_eq!(traffic.first_byte(), None, "a second request is not answered by the first answer");
    }
}
