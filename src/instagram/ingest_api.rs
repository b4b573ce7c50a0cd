//! Where Meta's webhooks come in, one entrance for each login flavour: each has its own product, verify token and secrets at
//! Meta. Not part of the OpenAPI document, because the platform says what it looks like.

use std::sync::Arc;

use poem::http::{StatusCode, header};
use poem::web::{Data, Json};
use poem::{Body, Endpoint, EndpointExt as _, Request, Response, RouteMethod, handler};
use serde_json::{Value, json};

use super::signature::{self, SIGNATURE_HEADER, SignatureError};
use super::{kinds::Kind, payload};
use crate::app::App;
use crate::http;
use crate::http::named::named;
use crate::http::problem::Problem;
use crate::inbox::Call;
use crate::seal;
use crate::sources::settings::{AppSettings, MetaSettings};

/// Bytes of a webhook. Meta sends up to 1,000 things in one.
pub const BODY_BYTES_MAX: usize = 4 * 1024 * 1024;
/// Characters of a challenge.
const CHALLENGE_MAX: usize = 256;

/// How brands log in, and with that which of our apps Meta speaks to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Login {
    /// Facebook Login: the app has Pages.
    Facebook,
    /// Instagram Login.
    Instagram,
}

impl Login {
    /// As raw deliveries name it.
    #[must_use]
    pub const fn source(self) -> &'static str {
        match self {
            Self::Facebook => "instagram/facebook-login",
            Self::Instagram => "instagram/instagram-login",
        }
    }

    const fn app(self, settings: &MetaSettings) -> &AppSettings {
        match self {
            Self::Facebook => &settings.facebook,
            Self::Instagram => &settings.instagram,
        }
    }

    const fn token_setting(self) -> &'static str {
        match self {
            Self::Facebook => "FOLLOWPOINTS_META_VERIFY_TOKEN",
            Self::Instagram => "FOLLOWPOINTS_META_INSTAGRAM_VERIFY_TOKEN",
        }
    }

    const fn secrets_setting(self) -> &'static str {
        match self {
            Self::Facebook => "FOLLOWPOINTS_META_APP_SECRETS",
            Self::Instagram => "FOLLOWPOINTS_META_INSTAGRAM_APP_SECRETS",
        }
    }
}

/// The entrance for the webhooks of `login`.
pub fn entrance(login: Login) -> impl Endpoint {
    let (verify, receive_call) = match login {
        Login::Facebook => ("verifyFacebookLoginCallback", "receiveFacebookLoginWebhook"),
        Login::Instagram => ("verifyInstagramLoginCallback", "receiveInstagramLoginWebhook"),
    };
    RouteMethod::new().get(named(verify, handshake)).post(named(receive_call, receive)).data(login)
}

/// Meta looks whether the callback is ours. The challenge goes back as it came.
#[handler]
fn handshake(
    request: &Request,
    Data(app): Data<&Arc<App>>,
    Data(login): Data<&Login>,
) -> Result<Response, Problem> {
    let source = login.source();
    let challenge =
        challenge(request.uri().query().unwrap_or_default(), app, *login).inspect_err(|problem| {
            let body = problem.body();
            let error = body["message"].as_str().unwrap_or_default();
            tracing::warn!(source, error, "the callback was not verified");
        })?;
    tracing::info!(source, "the platform has verified the callback");
    Ok(Response::builder()
        .content_type("text/plain")
        .header(header::X_CONTENT_TYPE_OPTIONS, "nosniff")
        .body(challenge))
}

/// The challenge in `query`, if it comes with our token, and only if it could not be anything else than one: nobody gets text of theirs
/// shown on this host.
fn challenge(query: &str, app: &App, login: Login) -> Result<String, Problem> {
    let expected = login.app(&app.platforms.meta).verify_token.as_deref().filter(|token| !token.is_empty());
    let Some(expected) = expected else { return Err(not_set(login.token_setting())) };
    let mode = parameter(query, "hub.mode")?;
    let token = parameter(query, "hub.verify_token")?;
    let challenge = parameter(query, "hub.challenge")?;
    if mode != "subscribe" {
        return Err(Problem::forbidden("hub.mode must be subscribe"));
    }
    if !seal::same(token.as_bytes(), expected.as_bytes()) {
        return Err(Problem::forbidden("hub.verify_token is not the one that is configured"));
    }
    let is_harmless = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-');
    if challenge.is_empty() || challenge.len() > CHALLENGE_MAX || !challenge.bytes().all(is_harmless) {
        let description = format!("must have 1 to {CHALLENGE_MAX} letters, digits, _ or -");
        return Err(Problem::invalid("hub.challenge", "FORMAT", description));
    }
    Ok(challenge)
}

/// A parameter that must stand there once.
fn parameter(query: &str, name: &'static str) -> Result<String, Problem> {
    let mut values = url::form_urlencoded::parse(query.as_bytes()).filter(|(known, _)| known == name);
    match (values.next(), values.next()) {
        (Some((_, value)), None) => Ok(value.into_owned()),
        (None, _) => Err(Problem::invalid(name, "REQUIRED_FIELD", "must not be missing")),
        (Some(_), Some(_)) => Err(Problem::invalid(name, "FORMAT", "must stand there once")),
    }
}

/// Takes in a webhook: the signature over the bytes as they came, then storing, then the answer. Nothing is read before the
/// signature holds, and whatever holds is answered with 200, because anything else would be sent again.
#[handler]
async fn receive(
    request: &Request,
    body: Body,
    Data(app): Data<&Arc<App>>,
    Data(login): Data<&Login>,
) -> Result<Json<Value>, Problem> {
    let secrets = &login.app(&app.platforms.meta).secrets;
    if secrets.is_empty() {
        return Err(not_set(login.secrets_setting()));
    }
    let header = request.headers().get(SIGNATURE_HEADER).and_then(|value| value.to_str().ok());
    let refuse = |error: SignatureError| {
        tracing::warn!(source = login.source(), %error, "a webhook was refused");
        Problem::forbidden(error.to_string())
    };
    if header.is_none() {
        return Err(refuse(SignatureError::Missing));
    }
    let body = http::body::read(body, BODY_BYTES_MAX).await?;
    let secret = signature::verify(header, &body, secrets).map_err(refuse)?;
    let items = payload::split(&body);
    let unknown = items.iter().filter(|item| item.kind == Kind::Unknown.as_str()).count();
    let received = items.len();
    let call = Call { source: login.source(), body: body.into(), items };
    let stored = app.intake.store(call).await.map_err(|error| {
        tracing::error!(source = login.source(), %error, "a webhook could not be stored; the platform sends it again");
        Problem::busy()
    })?;
    let new = stored.new.len();
    tracing::debug!(source = login.source(), secret, received, new, unknown, "a webhook was taken in");
    Ok(Json(json!({"received": received})))
}

fn not_set(setting: &str) -> Problem {
    let description = format!("this entrance is closed: {setting} is not set");
    Problem::new(StatusCode::FORBIDDEN, "NOT_CONFIGURED", description)
}
