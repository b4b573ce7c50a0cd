//! Our own access tokens: `EdDSA` (Ed25519) JWTs under a key of this installation, checked against our clock.

use std::sync::Arc;

use aws_lc_rs::digest;
use aws_lc_rs::signature::{Ed25519KeyPair, KeyPair as _};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use entity::id::{AppId, AppInstanceId, MemberId, OauthClientId, SiteId, Timestamp, VisitorId};
use entity::instance_key;
use jsonwebtoken::{Algorithm, DecodingKey, EncodingKey, Header, Validation};
use sea_orm::{DbErr, EntityTrait, sea_query::OnConflict};
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::{Caller, Scope};
use crate::db::Db;
use crate::seal::{SealError, Sealer};

/// Life of an access token in seconds, as Wix issues them.
pub const ACCESS_TOKEN_LIFE_S: i64 = 14_400;
/// Life of a visitor's refresh token in seconds.
const VISITOR_REFRESH_LIFE_S: i64 = 90 * 86_400;
/// The `iss` and `aud` of our own tokens; no site may trust an issuer of this name.
pub const OWN_ISSUER: &str = "followpoints";

const KEY_NAME: &str = "access-token";
const KEY_PURPOSE: &str = "instance-key:access-token";

/// What an own token says.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Claims {
    iss: String,
    aud: String,
    sub: Uuid,
    /// What kind of token it is.
    pub kind: TokenKind,
    site: SiteId,
    #[serde(skip_serializing_if = "Option::is_none")]
    client: Option<Uuid>,
    #[serde(skip_serializing_if = "Option::is_none")]
    instance: Option<AppInstanceId>,
    #[serde(skip_serializing_if = "Option::is_none")]
    scope: Option<String>,
    jti: Uuid,
    /// Issued at, in seconds.
    pub iat: i64,
    /// Ends at, in seconds.
    pub exp: i64,
}

/// What a token is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum TokenKind {
    /// A visitor's access token.
    Visitor,
    /// A visitor's refresh token: it grants nothing, so it needs no row in the database.
    VisitorRefresh,
    /// A member's access token.
    Member,
    /// An app instance's access token.
    App,
}

/// Why the installation's key could not be had.
#[derive(Debug, thiserror::Error)]
pub enum KeyError {
    /// The database failed.
    #[error("reading the installation's keys failed: {0}")]
    Store(#[from] DbErr),
    /// It cannot be opened.
    #[error(transparent)]
    Seal(#[from] SealError),
    /// It cannot be used.
    #[error("the installation's signing key is damaged")]
    Damaged,
}

/// Issues and verifies own tokens. Cheap to clone.
#[derive(Clone)]
pub struct AccessTokens(Arc<Inner>);

struct Inner {
    encoding: EncodingKey,
    decoding: DecodingKey,
    public: Vec<u8>,
    kid: String,
}

impl AccessTokens {
    /// Reads the installation's key, or makes it on the first start; nodes that start together agree on one.
    pub async fn load(db: &Db, sealer: &Sealer) -> Result<Self, KeyError> {
        let row =
            if let Some(row) = instance_key::Entity::find_by_id(KEY_NAME.to_owned()).one(db.read()).await? {
                row
            } else {
                let tx = db.write().await?;
                let document = Ed25519KeyPair::generate_pkcs8(&aws_lc_rs::rand::SystemRandom::new())
                    .map_err(|_| KeyError::Damaged)?;
                let pair = Ed25519KeyPair::from_pkcs8(document.as_ref()).map_err(|_| KeyError::Damaged)?;
                let row = instance_key::Model {
                    name: KEY_NAME.to_owned(),
                    private_key: sealer.seal(KEY_PURPOSE, document.as_ref())?,
                    public_key: pair.public_key().as_ref().to_vec(),
                    created_at: tx.now(),
                };
                instance_key::Entity::insert(instance_key::ActiveModel::from(row))
                    .on_conflict(OnConflict::column(instance_key::Column::Name).do_nothing().to_owned())
                    .exec_without_returning(tx.conn())
                    .await?;
                tx.commit().await?;
                instance_key::Entity::find_by_id(KEY_NAME.to_owned())
                    .one(db.read())
                    .await?
                    .ok_or(KeyError::Damaged)?
            };
        let private = sealer.open(KEY_PURPOSE, &row.private_key)?;
        Ok(Self(Arc::new(Inner {
            encoding: EncodingKey::from_ed_der(&private),
            decoding: DecodingKey::from_ed_der(&row.public_key),
            kid: thumbprint(&row.public_key),
            public: row.public_key,
        })))
    }

    /// The public key set (RFC 7517) as JSON.
    #[must_use]
    pub fn key_set(&self) -> serde_json::Value {
        serde_json::json!({"keys": [{
            "kty": "OKP", "crv": "Ed25519", "use": "sig", "alg": "EdDSA",
            "kid": self.0.kid, "x": URL_SAFE_NO_PAD.encode(&self.0.public),
        }]})
    }

    /// An access token for `caller`, or `None` for API keys, which are their own token.
    pub fn issue(&self, caller: &Caller, id: Uuid, now: Timestamp) -> Option<String> {
        let mut claims = Claims {
            iss: OWN_ISSUER.to_owned(),
            aud: OWN_ISSUER.to_owned(),
            sub: id,
            kind: TokenKind::Visitor,
            site: caller.site()?,
            client: None,
            instance: None,
            scope: None,
            jti: id,
            iat: now.seconds(),
            exp: now.seconds() + ACCESS_TOKEN_LIFE_S,
        };
        match caller {
            Caller::Visitor { visitor, client, .. } => {
                claims.sub = visitor.0;
                claims.client = Some(client.0);
            }
            Caller::Member { member, .. } => {
                claims.kind = TokenKind::Member;
                claims.sub = member.0;
            }
            Caller::App { app, instance, scopes, .. } => {
                claims.kind = TokenKind::App;
                claims.sub = app.0;
                claims.instance = Some(*instance);
                let names: Vec<_> = scopes.iter().map(|scope| scope.as_str()).collect();
                claims.scope = Some(names.join(" "));
            }
            Caller::ApiKey { .. } => return None,
        }
        self.sign(&claims)
    }

    /// A refresh token for a visitor.
    pub fn issue_visitor_refresh(
        &self,
        site: SiteId,
        visitor: VisitorId,
        client: OauthClientId,
        now: Timestamp,
    ) -> Option<String> {
        self.sign(&Claims {
            iss: OWN_ISSUER.to_owned(),
            aud: OWN_ISSUER.to_owned(),
            sub: visitor.0,
            kind: TokenKind::VisitorRefresh,
            site,
            client: Some(client.0),
            instance: None,
            scope: None,
            jti: visitor.0,
            iat: now.seconds(),
            exp: now.seconds() + VISITOR_REFRESH_LIFE_S,
        })
    }

    fn sign(&self, claims: &Claims) -> Option<String> {
        let mut header = Header::new(Algorithm::EdDSA);
        header.kid = Some(self.0.kid.clone());
        jsonwebtoken::encode(&header, claims, &self.0.encoding).ok()
    }

    /// The claims of `token` if it is ours and alive at `now`.
    #[must_use]
    pub fn verify(&self, token: &str, now: Timestamp) -> Option<Claims> {
        let mut validation = Validation::new(Algorithm::EdDSA);
        // The library reads the machine's clock; ours is asked below.
        validation.validate_exp = false;
        validation.set_issuer(&[OWN_ISSUER]);
        validation.set_audience(&[OWN_ISSUER]);
        validation.set_required_spec_claims(&["iss", "aud", "exp", "sub"]);
        let claims = jsonwebtoken::decode::<Claims>(token, &self.0.decoding, &validation).ok()?.claims;
        let is_alive = claims.iat <= now.seconds() + 1 && now.seconds() < claims.exp;
        is_alive.then_some(claims)
    }
}

impl Claims {
    /// Whom the claims describe; `None` for a token that is not an access token.
    #[must_use]
    pub fn caller(&self) -> Option<Caller> {
        match self.kind {
            TokenKind::Visitor => Some(Caller::Visitor {
                site: self.site,
                visitor: VisitorId(self.sub),
                client: OauthClientId(self.client?),
            }),
            TokenKind::VisitorRefresh => None,
            TokenKind::Member => Some(Caller::Member { site: self.site, member: MemberId(self.sub) }),
            TokenKind::App => Some(Caller::App {
                site: self.site,
                app: AppId(self.sub),
                instance: self.instance?,
                scopes: self.scope.as_deref().unwrap_or("").split(' ').filter_map(Scope::parse).collect(),
            }),
        }
    }

    /// Site, visitor and front-end of a visitor's refresh token; `None` for other tokens.
    #[must_use]
    pub fn visitor_refresh(&self) -> Option<(SiteId, VisitorId, OauthClientId)> {
        (self.kind == TokenKind::VisitorRefresh)
            .then(|| Some((self.site, VisitorId(self.sub), OauthClientId(self.client?))))
            .flatten()
    }
}

/// RFC 7638 for an Ed25519 key (RFC 8037).
fn thumbprint(public: &[u8]) -> String {
    let canonical = format!(r#"{{"crv":"Ed25519","kty":"OKP","x":"{}"}}"#, URL_SAFE_NO_PAD.encode(public));
    URL_SAFE_NO_PAD.encode(digest::digest(&digest::SHA256, canonical.as_bytes()))
}
