//! Name lookup, behind a trait so that tests can answer what they like.

use std::io;
use std::net::IpAddr;

pub use futures_util::future::BoxFuture;

/// Finds the addresses of a name.
pub trait Resolve: Send + Sync {
    /// The addresses of `host`, in the order in which they should be tried.
    fn resolve(&self, host: &str) -> BoxFuture<'_, io::Result<Vec<IpAddr>>>;
}

/// The operating system's resolver.
#[derive(Clone, Copy, Debug, Default)]
pub struct SystemResolver;

impl Resolve for SystemResolver {
    fn resolve(&self, host: &str) -> BoxFuture<'_, io::Result<Vec<IpAddr>>> {
        let host = host.to_owned();
        Box::pin(async move {
            let found = tokio::net::lookup_host((host, 0)).await?;
            Ok(found.map(|address| address.ip()).collect())
        })
    }
}
