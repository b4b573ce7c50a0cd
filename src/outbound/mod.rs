//! HTTP requests to addresses that somebody else chose: webhooks and key sets.
//!
//! Every request to a URL that a site typed in goes through [`Client::send`]. What it guarantees:
//!
//! - **Nothing inside is reachable.** [`Guard`] judges a URL when it is saved and judges the resolved addresses again for
//!   every request. Exactly a judged address is dialled or named to a proxy, and a kept connection is used only if it leads
//!   to one, so a name that changes its mind between the two (DNS rebinding) gains nothing. Redirects do not exist here.
//! - **One deadline.** Name lookup, connecting, TLS, the answer's head and its body share the timeout of the request.
//! - **The head decides.** A body that drips, breaks off or never ends cannot change the status that came before it.
//! - **Bounded memory.** The head, the number of headers and the part of the body that is kept have limits.
//!
//! Deadlines and timings are measured with monotonic clocks; only the age of a looked up name is told by the service's.

mod client;
mod connector;
mod dial;
mod error;
mod guard;
mod identity;
mod link;
mod names;
mod pool;
mod proxy;
mod request;
mod resolve;
mod target;
mod timings;
mod tls;
mod vetting;
mod watched;
mod x509;

pub use client::{Answer, Client, Sent, Setup};
pub use error::{BodyError, Phase, SendError};
pub use guard::Guard;
pub use identity::{ClientIdentity, IdentityError};
pub use proxy::{Proxy, ProxyError};
pub use request::{OutboundRequest, RESERVED_HEADERS};
pub use resolve::{BoxFuture, Resolve, SystemResolver};
pub use target::{TargetUrl, URL_LENGTH_MAX, UrlProblem};
pub use timings::Timings;
pub use tls::{SetupError, trust};
pub use x509::CertificateFacts;
