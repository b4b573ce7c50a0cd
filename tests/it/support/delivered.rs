//! Webhooks that the service really delivered, with all that a receiver has to verify them: one that is valid by this
//! machine's clock, one that has expired, and one for another app.

use followpoints::clock::{Clock as _, SystemClock};
use serde_json::json;

use super::receiver::{Received, Receiver};
use super::world::{ALL_EVENTS, InstalledApp, Site, text};
use super::{ADMIN_KEY, Backend, Options, TestApp, TestDatabase};

/// What was delivered, and to whom.
pub struct Delivered {
    /// The app that the webhooks are for, and its public key in PEM.
    pub app_id: String,
    pub public_key: String,
    /// The published keys of both apps.
    pub jwks: String,
    /// Of the signatures in the headers.
    pub secret: String,
    pub signing_public_key: String,
    /// Delivered just now.
    pub fresh: Received,
    /// Delivered in 2024.
    pub expired: Received,
    /// Delivered just now to the other app.
    pub foreign: Received,
    pub foreign_app_id: String,
}

/// Delivers them.
pub async fn deliver() -> Delivered {
    let database = TestDatabase::new(Backend::Sqlite).await.unwrap();
    let app = TestApp::start(database, Options::default()).await;
    let site = app.site().await;
    let (own, other) = (app.installed_app(&site).await, app.installed_app(&site).await);
    let (receiver, elsewhere) = (Receiver::start().await, Receiver::start().await);
    let (secret, signing_public_key) = subscribe(&app, &site, &own, &receiver).await;
    subscribe(&app, &site, &other, &elsewhere).await;
    let member = app.member(&site, "u-1").await;
    app.follow(&member, "X").await;
    app.drain().await;
    app.clock.advance_ms(SystemClock::default().now().0 - app.app.db.now().0);
    let member = app.member(&site, "u-2").await;
    app.follow(&member, "X").await;
    app.drain().await;
    let jwks = app.call("GET", "/.well-known/jwks.json").ok().await.to_string();
    app.app.stop().await;
    let mut requests = receiver.received();
    assert_eq!((requests.len(), elsewhere.count()), (2, 2));
    Delivered {
        app_id: own.id,
        public_key: own.public_key,
        jwks,
        secret,
        signing_public_key,
        fresh: requests.pop().unwrap(),
        expired: requests.pop().unwrap(),
        foreign: elsewhere.received().pop().unwrap(),
        foreign_app_id: other.id,
    }
}

async fn subscribe(app: &TestApp, site: &Site, own: &InstalledApp, receiver: &Receiver) -> (String, String) {
    let body = json!({"webhookSubscription": {
        "appId": own.id, "eventTypes": [ALL_EVENTS[0]], "url": receiver.url, "signatureHeaders": ["V1", "V1A"],
    }});
    let call = app.call("POST", "/admin/v1/webhook-subscriptions").key(ADMIN_KEY, &site.id).json(&body);
    let made = call.ok().await;
    (text(&made["signingSecret"]), text(&made["webhookSubscription"]["signingPublicKey"]))
}

/// One of the three headers.
pub fn header<'a>(request: &'a Received, name: &str) -> &'a str {
    request.headers[name].to_str().unwrap()
}

/// The token with its payload and signature kept and another header.
pub fn with_head(token: &str, head: &str) -> String {
    use base64::Engine as _;
    let (_, rest) = token.split_once('.').unwrap();
    format!("{}.{rest}", base64::engine::general_purpose::URL_SAFE_NO_PAD.encode(head))
}

/// The token as one without a signature, which says so.
pub fn unsigned(token: &str) -> String {
    let none = with_head(token, r#"{"alg":"none","typ":"JWT"}"#);
    let (content, _) = none.rsplit_once('.').unwrap();
    format!("{content}.")
}

/// The header and the signature of `token` around the payload of `other`.
pub fn tampered(token: &str, other: &str) -> String {
    let (head, rest) = token.split_once('.').unwrap();
    let (_, signature) = rest.split_once('.').unwrap();
    format!("{head}.{}.{signature}", other.split('.').nth(1).unwrap())
}
