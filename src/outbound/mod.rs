//! HTTP requests to addresses that somebody else chose: webhooks and key sets.
//!
//! Every request to a URL that a site typed in goes through [`Client::send`]. What it guarantees:
//!
//! - **Nothing inside is reachable.** [`Guard`] judges a URL when it is saved and judges the resolved address again
//!   when the connection is made, and exactly the judged address is dialled, so a name that changes its mind between
//!   the two (DNS rebinding) gains nothing. Proxies and redirects do not exist here.
//! - **One deadline.** Name lookup, connecting, TLS, the answer's head and its body share the timeout of the request.
//! - **The head decides.** A body that drips, breaks off or never ends cannot change the status that came before it.
//! - **Bounded memory.** The head, the number of headers and the part of the body that is kept have limits.
//!
//! Time is measured with monotonic clocks only, because nothing that is measured here is stored as an instant.

mod client;
mod connector;
mod error;
mod guard;
mod resolve;
mod target;
mod tls;
mod watched;

pub use client::{Answer, Client, OutboundRequest};
pub use error::{BodyError, Phase, SendError};
pub use guard::{AllowListError, Guard};
pub use resolve::{BoxFuture, Resolve, SystemResolver};
pub use target::{TargetUrl, URL_LENGTH_MAX, UrlProblem};
pub use tls::{SetupError, trust};
