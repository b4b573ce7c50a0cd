//! Serving: listen, answer, and stop without losing anything.

mod idle;

use std::net::SocketAddr;
use std::time::Duration;

use poem::listener::{Acceptor as _, Listener as _, TcpAcceptor, TcpListener};

use self::idle::IdleAcceptor;
use crate::app::App;
use crate::http;

/// How long running requests may take to end after a stop was asked for.
const DRAIN: Duration = Duration::from_secs(10);
/// Connections at the same time, if the system allows as many.
const CONNECTIONS_MAX: usize = 20_000;

/// Why it could not listen.
#[derive(Debug, thiserror::Error)]
#[error(
    "cannot listen on {address}: {source}; is the port taken? Choose another with FOLLOWPOINTS_LISTEN or --listen"
)]
pub struct ListenError {
    /// Where.
    pub address: SocketAddr,
    /// What the system said.
    #[source]
    pub source: std::io::Error,
}

/// A socket that accepts connections but does not answer yet.
pub struct Bound {
    acceptor: TcpAcceptor,
    address: SocketAddr,
}

impl Bound {
    /// Takes the port; with port 0 the system chooses one.
    pub async fn new(address: SocketAddr) -> Result<Self, ListenError> {
        let failed = |source| ListenError { address, source };
        let acceptor = TcpListener::bind(address).into_acceptor().await.map_err(failed)?;
        let local = acceptor.local_addr().into_iter().find_map(|at| at.as_socket_addr().copied());
        Ok(Self { acceptor, address: local.unwrap_or(address) })
    }

    /// Where it listens.
    #[must_use]
    pub const fn address(&self) -> SocketAddr {
        self.address
    }

    /// Answers until `stop` is done, lets running requests end, then stops the workers.
    pub async fn serve(self, app: &App, stop: impl Future<Output = ()>) -> std::io::Result<()> {
        let acceptor = IdleAcceptor::new(self.acceptor, connections_max());
        let served = poem::Server::new_with_acceptor(acceptor)
            .run_with_graceful_shutdown(http::endpoint(app), stop, Some(DRAIN))
            .await;
        app.stop().await;
        served
    }
}

/// Connections that leave file descriptors for the database and for what is sent. The process takes all that it may have.
fn connections_max() -> usize {
    #[cfg(unix)]
    {
        use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
        let Rlimit { current, maximum } = getrlimit(Resource::Nofile);
        let raised = setrlimit(Resource::Nofile, Rlimit { current: maximum, maximum });
        let files = if raised.is_ok() { maximum } else { current };
        let of_files = files
            .and_then(|files| usize::try_from(files).ok())
            .map_or(CONNECTIONS_MAX, |files| files / 4 * 3);
        of_files.clamp(1, CONNECTIONS_MAX)
    }
    #[cfg(not(unix))]
    CONNECTIONS_MAX
}

/// Done when the process is asked to stop: SIGTERM or Ctrl-C.
pub async fn stop_signal() {
    #[cfg(unix)]
    {
        use tokio::signal::unix::{SignalKind, signal};
        if let Ok(mut terminate) = signal(SignalKind::terminate()) {
            tokio::select! {
                _ = terminate.recv() => {}
                _ = tokio::signal::ctrl_c() => {}
            }
            return;
        }
    }
    let _ = tokio::signal::ctrl_c().await;
}
