//! The RSA key pairs that sign an app's webhooks, and the key set that verifies them. A new key is published at once
//! but signs only after every cached copy of the key set has expired; the old one stays published for as long as a
//! token it signed can live.

use std::sync::Arc;

use aws_lc_rs::digest;
use aws_lc_rs::encoding::{AsDer, Pkcs8V1Der, PublicKeyX509Der};
use aws_lc_rs::rsa::KeySize;
use aws_lc_rs::signature::{KeyPair as _, RsaKeyPair};
use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use entity::app_key;
use entity::id::{AppId, Timestamp};
use sea_orm::{ColumnTrait, ConnectionTrait, DbErr, EntityTrait, ExprTrait as _, QueryFilter, QueryOrder};
use serde::Serialize;

use crate::db::Tx;
use crate::seal::{SealError, Sealer};
use crate::webhooks::signing::{SigningError, TOKEN_LIFE_S};

/// How long clients may keep the key set, in seconds; a new key waits as long before it signs.
pub const KEY_SET_MAX_AGE_S: i64 = 300;

/// A key ready to sign.
#[derive(Clone)]
pub struct SigningKey {
    /// The `kid`.
    pub id: String,
    /// From when it signs.
    pub active_from: Timestamp,
    /// The pair.
    pub pair: Arc<RsaKeyPair>,
}

/// A freshly generated pair, not stored yet.
pub struct GeneratedKey {
    id: String,
    public_key: String,
    private_key: Vec<u8>,
}

/// Why a key could not be made.
#[derive(Debug, thiserror::Error)]
#[error("the key pair could not be generated")]
pub struct GenerateError;

/// A public key as JSON Web Key (RFC 7517).
#[derive(Debug, Serialize, PartialEq, Eq)]
pub struct RsaJwk {
    /// `RSA`.
    pub kty: &'static str,
    /// `sig`.
    #[serde(rename = "use")]
    pub usage: &'static str,
    /// `RS256`.
    pub alg: &'static str,
    /// The key's id.
    pub kid: String,
    /// Modulus, base64url.
    pub n: String,
    /// Exponent, base64url.
    pub e: String,
}

/// Generates a 2048-bit pair; takes a noticeable time, so call it outside a transaction.
pub async fn generate() -> Result<GeneratedKey, GenerateError> {
    tokio::task::spawn_blocking(|| {
        let pair = RsaKeyPair::generate(KeySize::Rsa2048).map_err(|_| GenerateError)?;
        let private: Pkcs8V1Der<'static> = pair.as_der().map_err(|_| GenerateError)?;
        let public: PublicKeyX509Der<'static> = pair.public_key().as_der().map_err(|_| GenerateError)?;
        let (n, e) = components(&pair);
        Ok(GeneratedKey {
            id: thumbprint(&n, &e),
            public_key: pem(public.as_ref()),
            private_key: private.as_ref().to_vec(),
        })
    })
    .await
    .map_err(|_| GenerateError)?
}

/// Stores `key` as the newest of `app`, signing from `active_from`, and sets the end of its predecessors.
pub async fn add(
    tx: &Tx,
    sealer: &Sealer,
    app: AppId,
    key: GeneratedKey,
    active_from: Timestamp,
) -> Result<app_key::Model, AddKeyError> {
    let retires = active_from.plus_ms(TOKEN_LIFE_S * 1000);
    app_key::Entity::update_many()
        .col_expr(app_key::Column::PublishedUntil, sea_orm::sea_query::Expr::val(retires.0))
        .filter(app_key::Column::AppId.eq(app))
        .filter(app_key::Column::PublishedUntil.is_null())
        .exec(tx.conn())
        .await?;
    let model = app_key::Model {
        private_key: sealer.seal(&purpose(&key.id), &key.private_key)?,
        id: key.id,
        app_id: app,
        public_key: key.public_key,
        active_from,
        published_until: None,
        created_at: tx.now(),
    };
    app_key::Entity::insert(app_key::ActiveModel::from(model.clone()))
        .exec_without_returning(tx.conn())
        .await?;
    Ok(model)
}

/// Why a key could not be stored.
#[derive(Debug, thiserror::Error)]
pub enum AddKeyError {
    /// The database failed.
    #[error("storing the key failed")]
    Store(#[from] DbErr),
    /// It could not be sealed.
    #[error(transparent)]
    Seal(#[from] SealError),
}

/// The keys of `app` that may sign, oldest first.
pub async fn signing_keys(
    db: &impl ConnectionTrait,
    sealer: &Sealer,
    app: AppId,
) -> Result<Vec<SigningKey>, SigningError> {
    let rows = app_key::Entity::find()
        .filter(app_key::Column::AppId.eq(app))
        .order_by_asc(app_key::Column::ActiveFrom)
        .all(db)
        .await?;
    rows.into_iter()
        .map(|row| {
            let private = sealer.open(&purpose(&row.id), &row.private_key)?;
            let pair = RsaKeyPair::from_pkcs8(&private).map_err(|_| SigningError::Sign)?;
            Ok(SigningKey { id: row.id, active_from: row.active_from, pair: Arc::new(pair) })
        })
        .collect()
}

/// The newest key of `app`.
pub async fn newest_key(db: &impl ConnectionTrait, app: AppId) -> Result<Option<app_key::Model>, DbErr> {
    app_key::Entity::find()
        .filter(app_key::Column::AppId.eq(app))
        .order_by_desc(app_key::Column::CreatedAt)
        .order_by_desc(app_key::Column::ActiveFrom)
        .one(db)
        .await
}

/// Every key that may have signed a token still alive at `now`, of one app or of all.
pub async fn published_keys(
    db: &impl ConnectionTrait,
    app: Option<AppId>,
    now: Timestamp,
) -> Result<Vec<RsaJwk>, DbErr> {
    let mut query = app_key::Entity::find()
        .filter(app_key::Column::PublishedUntil.is_null().or(app_key::Column::PublishedUntil.gt(now.0)));
    if let Some(app) = app {
        query = query.filter(app_key::Column::AppId.eq(app));
    }
    let rows = query.order_by_desc(app_key::Column::CreatedAt).all(db).await?;
    Ok(rows.into_iter().filter_map(|row| jwk(row.id, &row.public_key)).collect())
}

fn jwk(kid: String, public_key: &str) -> Option<RsaJwk> {
    let der = STANDARD
        .decode(public_key.lines().filter(|line| !line.starts_with("-----")).collect::<String>())
        .ok()?;
    let key = aws_lc_rs::rsa::PublicKey::from_der(&der).ok()?;
    let (n, e) = (key.modulus(), key.exponent());
    Some(RsaJwk {
        kty: "RSA",
        usage: "sig",
        alg: "RS256",
        kid,
        n: URL_SAFE_NO_PAD.encode(n.big_endian_without_leading_zero()),
        e: URL_SAFE_NO_PAD.encode(e.big_endian_without_leading_zero()),
    })
}

fn purpose(kid: &str) -> String {
    format!("app-key:{kid}")
}

fn components(pair: &RsaKeyPair) -> (String, String) {
    let key = pair.public_key();
    (
        URL_SAFE_NO_PAD.encode(key.modulus().big_endian_without_leading_zero()),
        URL_SAFE_NO_PAD.encode(key.exponent().big_endian_without_leading_zero()),
    )
}

/// RFC 7638: SHA-256 of the key's required members in alphabetical order.
fn thumbprint(n: &str, e: &str) -> String {
    let canonical = format!(r#"{{"e":"{e}","kty":"RSA","n":"{n}"}}"#);
    URL_SAFE_NO_PAD.encode(digest::digest(&digest::SHA256, canonical.as_bytes()))
}

fn pem(der: &[u8]) -> String {
    let text = STANDARD.encode(der);
    let mut pem = String::from("-----BEGIN PUBLIC KEY-----\n");
    let mut rest = text.as_str();
    while !rest.is_empty() {
        let (line, more) = rest.split_at(rest.len().min(64));
        pem.push_str(line);
        pem.push('\n');
        rest = more;
    }
    pem.push_str("-----END PUBLIC KEY-----\n");
    pem
}
