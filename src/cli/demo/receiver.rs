//! An external system: takes webhooks and believes them only if the app's public key says so.

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;

use followpoints::webhooks::signing::WEBHOOK_ISSUER;
use jsonwebtoken::{Algorithm, DecodingKey, Validation};
use poem::http::StatusCode;
use poem::listener::{Acceptor as _, Listener as _, TcpListener};
use poem::{Endpoint, Request, Route};
use serde::Deserialize;
use serde_json::Value;
use tokio::sync::mpsc;
use tokio::task::JoinHandle;

/// The largest webhook.
const WEBHOOK_BYTES_MAX: usize = 1024 * 1024;
/// Webhooks that may wait to be looked at; then senders wait too.
const ARRIVALS_MAX: usize = 256;
/// Where they come in.
const PATH: &str = "/webhooks";

/// What came in.
pub(super) enum Arrival {
    /// A webhook from the service.
    Verified(Webhook),
    /// Something else, and why it was turned away.
    Refused(String),
}

/// What a webhook says, once it is verified.
pub(super) struct Webhook {
    /// The key that signed it.
    pub(super) key_id: String,
    /// Tells a repeat from something new.
    pub(super) event_id: String,
    pub(super) event_type: String,
    pub(super) instance_id: String,
    pub(super) site_id: String,
    /// What the event is about, as it then was.
    pub(super) entity: Value,
}

/// Knows the app's public key.
pub(super) struct Verifier {
    key_id: String,
    key: DecodingKey,
    validation: Validation,
}

#[derive(Deserialize)]
struct Claims {
    data: String,
    jti: String,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Envelope {
    event_type: String,
    instance_id: String,
    data: String,
    account_info: AccountInfo,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct AccountInfo {
    site_id: String,
}

impl Verifier {
    pub(super) fn new(app_id: &str, key_id: &str, public_key: &str) -> Result<Self, String> {
        let mut validation = Validation::new(Algorithm::RS256);
        validation.set_issuer(&[WEBHOOK_ISSUER]);
        validation.set_audience(&[app_id]);
        validation.set_required_spec_claims(&["iss", "aud", "exp"]);
        Ok(Self {
            key_id: key_id.to_owned(),
            key: DecodingKey::from_rsa_pem(public_key.as_bytes())
                .map_err(|error| format!("the app's public key cannot be read: {error}"))?,
            validation,
        })
    }

    /// The webhook in `token`, a compact JWS, or why it is not to be believed.
    fn verify(&self, token: &[u8]) -> Result<Webhook, String> {
        let header = jsonwebtoken::decode_header(token).map_err(|error| format!("not a token: {error}"))?;
        let key_id = header.kid.unwrap_or_default();
        if key_id != self.key_id {
            return Err(format!("signed with key {key_id:?}, not with the app's {:?}", self.key_id));
        }
        let claims = jsonwebtoken::decode::<Claims>(token, &self.key, &self.validation)
            .map_err(|error| format!("not the app's: {error}"))?
            .claims;
        let unreadable = |error: serde_json::Error| format!("signed, but unreadable: {error}");
        let envelope: Envelope = serde_json::from_str(&claims.data).map_err(unreadable)?;
        let event: Value = serde_json::from_str(&envelope.data).map_err(unreadable)?;
        if event["id"] != claims.jti.as_str() {
            return Err(format!("signed, but jti {} is not its event's {}", claims.jti, event["id"]));
        }
        // The last one is that of a test event.
        let entity = [
            "/createdEvent/entity",
            "/updatedEvent/currentEntity",
            "/actionEvent/body/account",
            "/actionEvent/body",
        ]
        .into_iter()
        .find_map(|pointer| event.pointer(pointer));
        Ok(Webhook {
            key_id,
            event_id: claims.jti,
            event_type: envelope.event_type,
            instance_id: envelope.instance_id,
            site_id: envelope.account_info.site_id,
            entity: entity.cloned().ok_or("signed, but without an entity")?,
        })
    }
}

/// The running receiver.
pub(super) struct Receiver {
    /// Where webhooks go.
    pub(super) url: String,
    /// What came in, in order.
    pub(super) arrivals: mpsc::Receiver<Arrival>,
    task: JoinHandle<std::io::Result<()>>,
}

impl Receiver {
    /// Listens on a free port of this machine.
    pub(super) async fn start(verifier: Verifier) -> Result<Self, String> {
        let failed = |error: std::io::Error| format!("the receiver cannot listen: {error}");
        let acceptor = TcpListener::bind(SocketAddr::from((Ipv4Addr::LOCALHOST, 0)))
            .into_acceptor()
            .await
            .map_err(failed)?;
        let address = acceptor
            .local_addr()
            .into_iter()
            .find_map(|at| at.as_socket_addr().copied())
            .ok_or("the receiver has no address")?;
        let (sender, arrivals) = mpsc::channel(ARRIVALS_MAX);
        let inbox = Inbox { verifier: Arc::new(verifier), arrivals: sender };
        let server = poem::Server::new_with_acceptor(acceptor);
        Ok(Self {
            url: format!("http://{address}{PATH}"),
            arrivals,
            task: tokio::spawn(server.run(Route::new().at(PATH, poem::post(inbox)))),
        })
    }
}

impl Drop for Receiver {
    fn drop(&mut self) {
        self.task.abort();
    }
}

struct Inbox {
    verifier: Arc<Verifier>,
    arrivals: mpsc::Sender<Arrival>,
}

impl Endpoint for Inbox {
    type Output = StatusCode;

    async fn call(&self, mut request: Request) -> poem::Result<StatusCode> {
        let token = request.take_body().into_bytes_limit(WEBHOOK_BYTES_MAX).await?;
        let (status, arrival) = match self.verifier.verify(&token) {
            Ok(webhook) => (StatusCode::OK, Arrival::Verified(webhook)),
            Err(reason) => (StatusCode::BAD_REQUEST, Arrival::Refused(reason)),
        };
        // Accepted only once it is on its way to be looked at; nobody looks any more when the demo ends.
        let _ = self.arrivals.send(arrival).await;
        Ok(status)
    }
}
