//! Opens TCP connections.

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use futures_util::StreamExt as _;
use futures_util::stream::FuturesUnordered;
use tokio::net::TcpStream;
use tokio::time::{Instant, timeout};

use super::{Phase, SendError};

/// How long an address may keep us waiting before the next one is tried beside it.
const NEXT_ADDRESS_AFTER: Duration = Duration::from_millis(250);

/// The time that is left until a deadline.
pub(super) fn time_left(deadline: Instant) -> Duration {
    deadline.saturating_duration_since(Instant::now())
}

/// A connection to whichever of `addresses` answers first. They are begun in order: the next one as soon as one fails, or
/// beside the others when these keep silent.
pub(super) async fn dial(
    addresses: &[IpAddr],
    port: u16,
    deadline: Instant,
) -> Result<(TcpStream, IpAddr), SendError> {
    let share = time_left(deadline) / u32::try_from(addresses.len()).unwrap_or(u32::MAX).max(1);
    let patience = share.min(NEXT_ADDRESS_AFTER);
    let mut rest = addresses.iter();
    let mut under_way = FuturesUnordered::new();
    let mut failure = SendError::Timeout(Phase::Connect);
    loop {
        if let Some(address) = rest.next() {
            under_way.push(connect(SocketAddr::new(*address, port)));
        }
        let ended = if rest.as_slice().is_empty() {
            under_way.next().await
        } else {
            match timeout(patience, under_way.next()).await {
                Ok(ended) => ended,
                Err(_) => continue,
            }
        };
        match ended {
            Some(Ok(stream)) => return Ok(stream),
            Some(Err(error)) => failure = error,
            None => return Err(failure),
        }
    }
}

async fn connect(address: SocketAddr) -> Result<(TcpStream, IpAddr), SendError> {
    let connecting = async {
        let stream = TcpStream::connect(address).await?;
        // Requests are written in one piece; waiting for more to send along only delays them.
        stream.set_nodelay(true)?;
        Ok(stream)
    };
    match connecting.await {
        Ok(stream) => Ok((stream, address.ip())),
        Err(error) => Err(SendError::connect(address, &error)),
    }
}
