//! A connection that remembers whether it is in the middle of an exchange.
//!
//! A kept connection may have been closed by the other side at the very moment a request is written to it. Such a
//! request was not answered with a single byte, which is what tells it apart from one that a receiver broke off; only
//! the former deserves an immediate second try. The HTTP library repeats what it had not begun to write, this covers
//! what it had.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};
use std::task::{Context, Poll};

use hyper_util::client::legacy::connect::{Connected, Connection};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

const FRESH: u8 = 0;
const ANSWERED: u8 = 1;
const WAITING_AGAIN: u8 = 2;

/// How far the exchanges on a connection have come; shared with whoever sent the request.
#[derive(Clone, Debug)]
pub(super) struct Exchanges(Arc<AtomicU8>);

impl Exchanges {
    fn new() -> Self {
        Self(Arc::new(AtomicU8::new(FRESH)))
    }

    /// Whether the connection has answered before and has been silent since the last request was written.
    pub(super) fn is_silent_after_reuse(&self) -> bool {
        self.0.load(Ordering::Acquire) == WAITING_AGAIN
    }

    fn note_write(&self) {
        // Only the connection's own task changes the state, so a load and a store suffice.
        if self.0.load(Ordering::Relaxed) == ANSWERED {
            self.0.store(WAITING_AGAIN, Ordering::Release);
        }
    }

    fn note_read(&self) {
        self.0.store(ANSWERED, Ordering::Release);
    }
}

/// A stream whose reads and writes are noted in [`Exchanges`].
#[derive(Debug)]
pub(super) struct Watched<S> {
    stream: S,
    exchanges: Exchanges,
}

impl<S> Watched<S> {
    pub(super) fn new(stream: S) -> Self {
        Self { stream, exchanges: Exchanges::new() }
    }
}

impl<S: Connection> Connection for Watched<S> {
    fn connected(&self) -> Connected {
        self.stream.connected().extra(self.exchanges.clone())
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
            self.exchanges.note_read();
        }
        polled
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Watched<S> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        self.exchanges.note_write();
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
        self.exchanges.note_write();
        Pin::new(&mut self.stream).poll_write_vectored(cx, bufs)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_silent_reused_connection_counts_as_stale() {
        let exchanges = Exchanges::new();
        exchanges.note_write();
        assert!(!exchanges.is_silent_after_reuse(), "a fresh connection");
        exchanges.note_read();
        assert!(!exchanges.is_silent_after_reuse(), "an answered one");
        exchanges.note_write();
        assert!(exchanges.is_silent_after_reuse(), "a second request without an answer");
        exchanges.note_read();
        assert!(!exchanges.is_silent_after_reuse(), "a second request with an answer");
    }
}
