//! One RS256 token per event and app: the envelope of `reference` webhooks as the Wix SDK reads it. The body of a
//! webhook request is the compact JWS itself; its `data` claim, the envelope, the event and the identity are JSON texts
//! within JSON texts.
//!
//! The key that was active when the event happened signs, and `iat` is the event's time. Only the signature is stored, a fifth of
//! the token: a resend makes the rest again of the event and is the very same token. Should it come out otherwise, because the event
//! has lost its words or this program writes tokens in another way than the one that signed, it is signed anew.

use std::io;
use std::sync::Arc;

use aws_lc_rs::digest::{SHA256, digest};
use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::signature::RSA_PKCS1_SHA256;
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use bytes::Bytes;
use entity::id::{AppId, Timestamp};
use sea_orm::DbErr;
use serde::Serialize;
use uuid::Uuid;

use super::kept::Kept;
use super::signature_headers::HeaderSigner;
use super::{Job, OutgoingEvent, Signature, SignedToken};
use crate::apps::keys::{self, SigningKey};
use crate::db::Db;
use crate::seal::{SealError, Sealer};
use crate::sites::config::Target;
use crate::threads::Threads;

/// A token's life in seconds, as Wix issues it: longer than the whole schedule of resends.
pub const TOKEN_LIFE_S: i64 = 300_000;
/// Apps whose keys stay in memory.
const APPS_CACHED_MAX: usize = 1_000;
/// How long a set of keys is used before it is read again, in milliseconds.
pub(super) const KEYS_FRESH_MS: i64 = 5_000;

/// Why an event could not be signed.
#[derive(Debug, thiserror::Error)]
pub enum SigningError {
    /// The database failed.
    #[error("reading the app's keys failed")]
    Store(#[from] DbErr),
    /// The key cannot be opened.
    #[error(transparent)]
    Seal(#[from] SealError),
    /// The app has no key.
    #[error("app {0} has no signing key")]
    NoKey(AppId),
    /// The signature could not be made.
    #[error("the signature could not be made")]
    Sign,
}

struct AppKeys {
    read_at: Timestamp,
    keys: Vec<SigningKey>,
}

/// Signs events with the apps' keys. Cheap to clone.
#[derive(Clone)]
pub struct Signer {
    db: Db,
    sealer: Sealer,
    apps: Kept<AppId, AppKeys>,
    threads: Threads,
    /// Signs the headers of tries that want it.
    pub(super) headers: HeaderSigner,
}

#[derive(Serialize)]
struct Header<'a> {
    alg: &'static str,
    typ: &'static str,
    kid: &'a str,
}

#[derive(Serialize)]
struct Claims<'a> {
    data: String,
    iss: &'static str,
    aud: AppId,
    jti: &'a Uuid,
    iat: i64,
    exp: i64,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Envelope<'a> {
    event_type: &'a str,
    instance_id: Uuid,
    data: &'a str,
    identity: &'a str,
    account_info: AccountInfo,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct AccountInfo {
    site_id: Uuid,
}

/// The `iss` claim of webhooks.
pub const WEBHOOK_ISSUER: &str = "followpoints";

impl Signer {
    /// A signer that reads keys from `db` and opens them with `sealer`, with threads of its own.
    pub fn start(db: Db, sealer: Sealer) -> io::Result<Self> {
        Ok(Self {
            headers: HeaderSigner::new(db.clone(), sealer.clone()),
            db,
            sealer,
            apps: Kept::new(APPS_CACHED_MAX),
            threads: Threads::start("signatures")?,
        })
    }

    /// The token of the job's event for its app; made at most once per event and app, unless it has expired.
    pub async fn token(&self, job: &Job) -> Result<SignedToken, SigningError> {
        let token = job.token.token.get_or_try_init(|| self.first_token(job)).await?;
        let now = self.db.now();
        if token.signature.expires_at > now {
            return Ok(token.clone());
        }
        self.sign_new(job, now).await
    }

    async fn first_token(&self, job: &Job) -> Result<SignedToken, SigningError> {
        if let Some(signature) = &job.token.stored
            && let Some(token) = signed_before(signature, &job.event, &job.target)?
        {
            return Ok(SignedToken { token, signature: Arc::new(signature.clone()), stored: true });
        }
        self.sign_new(job, job.event.occurred_at).await
    }

    async fn sign_new(&self, job: &Job, at: Timestamp) -> Result<SignedToken, SigningError> {
        let key = self.key(job.target.app_id, at).await?;
        let (event, target) = (Arc::clone(&job.event), Arc::clone(&job.target));
        let signing = self.threads.run(move || sign(&key, &event, &target, at));
        signing.await.map_err(|_| SigningError::Sign)?
    }

    /// The key of `app` that signs at `at`: the newest that was active by then, else the oldest.
    async fn key(&self, app: AppId, at: Timestamp) -> Result<SigningKey, SigningError> {
        let fresh = |keys: &AppKeys| (self.db.now().0 - keys.read_at.0).abs() < KEYS_FRESH_MS;
        let read = async {
            let read_at = self.db.now();
            let keys = keys::signing_keys(self.db.read(), &self.sealer, app).await?;
            Ok::<_, SigningError>(AppKeys { read_at, keys })
        };
        let keys = self.apps.get(app, fresh, read).await?;
        let active = keys.keys.iter().rfind(|key| key.active_from <= at);
        active.or_else(|| keys.keys.first()).cloned().ok_or(SigningError::NoKey(app))
    }
}

fn sign(
    key: &SigningKey,
    event: &OutgoingEvent,
    target: &Target,
    at: Timestamp,
) -> Result<SignedToken, SigningError> {
    let iat = at.seconds();
    let mut token = signing_input(&key.id, event, target, iat)?;
    let input_hash = hash(&token);
    let mut signature = vec![0; key.pair.public_modulus_len()];
    key.pair
        .sign(&RSA_PKCS1_SHA256, &SystemRandom::new(), token.as_bytes(), &mut signature)
        .map_err(|_| SigningError::Sign)?;
    let signature = Signature {
        key_id: key.id.clone(),
        signature: URL_SAFE_NO_PAD.encode(&signature),
        input_hash,
        expires_at: Timestamp((iat + TOKEN_LIFE_S) * 1000),
    };
    complete(&mut token, &signature);
    Ok(SignedToken { token: Bytes::from(token), signature: Arc::new(signature), stored: false })
}

/// The token of `event` for `target` that has `signature`; `None` if something else was signed.
pub(super) fn signed_before(
    signature: &Signature,
    event: &OutgoingEvent,
    target: &Target,
) -> Result<Option<Bytes>, SigningError> {
    let iat = signature.expires_at.seconds() - TOKEN_LIFE_S;
    let mut token = signing_input(&signature.key_id, event, target, iat)?;
    if hash(&token) != signature.input_hash {
        return Ok(None);
    }
    complete(&mut token, signature);
    Ok(Some(Bytes::from(token)))
}

fn complete(token: &mut String, signature: &Signature) {
    token.push('.');
    token.push_str(&signature.signature);
}

/// Nobody gains by a text with the hash of another one: both are ours.
fn hash(input: &str) -> i64 {
    let digest = digest(&SHA256, input.as_bytes());
    digest.as_ref().first_chunk().map_or(0, |first| i64::from_be_bytes(*first))
}

/// The first two parts of the compact JWS, issued at `iat` in seconds.
fn signing_input(
    key_id: &str,
    event: &OutgoingEvent,
    target: &Target,
    iat: i64,
) -> Result<String, SigningError> {
    let text = |value: serde_json::Result<String>| value.map_err(|_| SigningError::Sign);
    let envelope = text(serde_json::to_string(&Envelope {
        event_type: &event.event_type,
        instance_id: target.app_instance_id.0,
        data: &event.data,
        identity: &event.identity,
        account_info: AccountInfo { site_id: target.site_id.0 },
    }))?;
    let claims = text(serde_json::to_string(&Claims {
        data: envelope,
        iss: WEBHOOK_ISSUER,
        aud: target.app_id,
        jti: &event.id.0,
        iat,
        exp: iat + TOKEN_LIFE_S,
    }))?;
    let header = text(serde_json::to_string(&Header { alg: "RS256", typ: "JWT", kid: key_id }))?;
    // With room for the signature of a key of 4,096 bits.
    let mut input = String::with_capacity((header.len() + claims.len()) * 4 / 3 + 700);
    URL_SAFE_NO_PAD.encode_string(header, &mut input);
    input.push('.');
    URL_SAFE_NO_PAD.encode_string(claims, &mut input);
    Ok(input)
}
