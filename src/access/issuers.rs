//! A site's own member tokens: JWTs of issuers that the owner trusts, verified with the issuer's published keys, its one
//! public key, or a shared secret. The kind of key decides which algorithms are possible, never the token: `none` and
//! HMAC with a public key cannot be expressed.

use std::sync::Arc;

use entity::id::{ContactId, MemberId, SiteId, Timestamp, TrustedIssuerId};
use entity::{member, site, trusted_issuer};
use jsonwebtoken::jwk::{AlgorithmParameters, EllipticCurve, Jwk, PublicKeyUse};
use jsonwebtoken::{Algorithm, DecodingKey, Validation};
use quick_cache::sync::Cache;
use sea_orm::{
    ActiveModelTrait, ActiveValue::Set, ColumnTrait, ConnectionTrait, DbErr, EntityTrait, QueryFilter,
    QueryOrder,
};
use serde_json::{Map, Value};

use super::Caller;
use super::jwks::KeySets;
use super::tokens::OWN_ISSUER;
use crate::db::{Db, Tx};
use crate::members::{self, MemberLookup};
use crate::outbound::{Guard, UrlProblem};
use crate::seal::{SealError, Sealer};
use crate::sites::config;

/// Issuers of one site.
pub const ISSUERS_MAX: usize = 10;
/// Bytes of a shared secret at the least.
pub const HMAC_SECRET_MIN: usize = 32;
/// Clock difference that is forgiven, in seconds.
const LEEWAY_S: i64 = 30;
/// Sites that may trust the same issuer and audience before a token must name its site.
const CANDIDATES_MAX: usize = 8;

/// How an issuer's tokens are verified.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum IssuerKey {
    /// Keys published at this URL.
    JwksUrl(String),
    /// One public key, SPKI PEM.
    PublicKeyPem(String),
    /// A shared secret.
    HmacSecret(String),
    /// The secret stored before, unchanged.
    KeepSecret,
}

/// An issuer to trust.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewIssuer {
    /// The `iss` claim.
    pub issuer: String,
    /// What `aud` must contain.
    pub audience: String,
    /// How tokens are verified.
    pub key: IssuerKey,
    /// The claim that names the member.
    pub member_id_claim: String,
}

/// Why issuers were not stored.
#[derive(Debug, thiserror::Error)]
pub enum IssuerError {
    /// The site's settings changed since `revision` was read.
    #[error("entity has already changed since the requested revision")]
    StaleRevision,
    /// The name belongs to this service.
    #[error("issuer {OWN_ISSUER} is reserved")]
    ReservedName(usize),
    /// Two entries for one issuer and audience.
    #[error("issuer and audience appear twice")]
    Duplicate(usize),
    /// The key set's URL is not acceptable.
    #[error("{1}")]
    Url(usize, #[source] UrlProblem),
    /// The PEM holds no RSA, EC or Ed25519 public key.
    #[error("not a public key in PEM (SPKI) of type RSA, EC P-256 or P-384, or Ed25519")]
    PublicKey(usize),
    /// The secret is too short.
    #[error("a shared secret has at least {HMAC_SECRET_MIN} bytes")]
    Secret(usize),
    /// There is no secret to keep.
    #[error("exactly one of jwksUrl, publicKeyPem and hmacSecret is needed")]
    NoKey(usize),
    /// The database failed.
    #[error("the database failed")]
    Store(#[from] DbErr),
    /// The secret could not be sealed.
    #[error(transparent)]
    Seal(#[from] SealError),
}

/// The issuers that `site` trusts, in the order they were given, with the revision of the list.
pub async fn list_issuers(
    db: &impl ConnectionTrait,
    site: SiteId,
) -> Result<(i64, Vec<trusted_issuer::Model>), DbErr> {
    let revision = site::Entity::find_by_id(site).one(db).await?.map_or(0, |site| site.auth_revision);
    let issuers = trusted_issuer::Entity::find()
        .filter(trusted_issuer::Column::SiteId.eq(site))
        .order_by_asc(trusted_issuer::Column::Id)
        .all(db)
        .await?;
    Ok((revision, issuers))
}

/// Replaces the issuers that `site` trusts. With `revision`, only if nobody changed them since.
pub async fn replace_issuers(
    tx: &Tx,
    sealer: &Sealer,
    guard: &Guard,
    site: SiteId,
    change: (Option<i64>, Vec<NewIssuer>),
) -> Result<(), IssuerError> {
    let (revision, issuers) = change;
    config::hold_alone(tx, site).await?;
    let (current, before) = list_issuers(tx.conn(), site).await?;
    if revision.is_some_and(|revision| revision != current) {
        return Err(IssuerError::StaleRevision);
    }
    let mut rows: Vec<trusted_issuer::Model> = Vec::with_capacity(issuers.len());
    for (index, issuer) in issuers.into_iter().enumerate() {
        let is_same =
            |row: &&trusted_issuer::Model| row.issuer == issuer.issuer && row.audience == issuer.audience;
        if issuer.issuer == OWN_ISSUER {
            return Err(IssuerError::ReservedName(index));
        }
        if rows.iter().any(|row| is_same(&row)) {
            return Err(IssuerError::Duplicate(index));
        }
        let kept = before.iter().find(is_same).and_then(|row| row.hmac_secret.clone());
        let mut row = trusted_issuer::Model {
            id: TrustedIssuerId(tx.new_id()),
            site_id: site,
            issuer: issuer.issuer,
            audience: issuer.audience,
            jwks_url: None,
            public_key: None,
            hmac_secret: None,
            member_id_claim: issuer.member_id_claim,
            created_at: tx.now(),
        };
        match issuer.key {
            IssuerKey::JwksUrl(url) => {
                guard.check_url(&url).map_err(|problem| IssuerError::Url(index, problem))?;
                row.jwks_url = Some(url);
            }
            IssuerKey::PublicKeyPem(pem) => {
                pem_key(&pem).ok_or(IssuerError::PublicKey(index))?;
                row.public_key = Some(pem);
            }
            IssuerKey::HmacSecret(secret) if secret.len() < HMAC_SECRET_MIN => {
                return Err(IssuerError::Secret(index));
            }
            IssuerKey::HmacSecret(secret) => {
                row.hmac_secret = Some(sealer.seal(&purpose(site), secret.as_bytes())?);
            }
            IssuerKey::KeepSecret => row.hmac_secret = Some(kept.ok_or(IssuerError::NoKey(index))?),
        }
        rows.push(row);
    }
    trusted_issuer::Entity::delete_many()
        .filter(trusted_issuer::Column::SiteId.eq(site))
        .exec(tx.conn())
        .await?;
    for row in rows {
        trusted_issuer::Entity::insert(trusted_issuer::ActiveModel::from(row))
            .exec_without_returning(tx.conn())
            .await?;
    }
    site::ActiveModel {
        id: Set(site),
        auth_revision: Set(current + 1),
        updated_at: Set(tx.now()),
        ..Default::default()
    }
    .update(tx.conn())
    .await?;
    Ok(())
}

fn purpose(site: SiteId) -> String {
    format!("trusted-issuer:{site}")
}

/// Issuer names whose trust is remembered, unknown ones among them.
const ISSUERS_CACHED_MAX: usize = 10_000;
/// How long the trust in an issuer is remembered, in milliseconds: another node may change it.
const TRUST_FRESH_MS: i64 = 5_000;

/// Who trusts one issuer, as it was read.
struct Trust {
    read_at: Timestamp,
    entries: Vec<(trusted_issuer::Model, StoredKey)>,
}

/// How an issuer's tokens are verified, ready to use.
enum StoredKey {
    Published(String),
    Own(DecodingKey, &'static [Algorithm]),
    Unusable,
}

/// Verifies tokens of trusted issuers. Cheap to clone.
#[derive(Clone)]
pub struct Issuers {
    db: Db,
    sealer: Sealer,
    key_sets: KeySets,
    members: MemberLookup,
    trust: Arc<Cache<String, Arc<Trust>>>,
}

/// Whom a foreign token proved, and until when.
#[derive(Debug)]
pub struct ProvenMember {
    /// The member, known from now on.
    pub caller: Caller,
    /// The token's end.
    pub expires_at: Timestamp,
}

impl Issuers {
    /// A verifier over the issuers in `db`.
    #[must_use]
    pub fn new(db: Db, sealer: Sealer, key_sets: KeySets) -> Self {
        let members = MemberLookup::start(&db);
        Self { db, sealer, key_sets, members, trust: Arc::new(Cache::new(ISSUERS_CACHED_MAX)) }
    }

    /// Forgets who trusts whom, after a change on this node.
    pub fn forget(&self) {
        self.trust.clear();
    }

    async fn trust(&self, issuer: &str) -> Result<Arc<Trust>, DbErr> {
        let now = self.db.now();
        if let Some(trust) = self.trust.get(issuer)
            && (now.0 - trust.read_at.0).abs() < TRUST_FRESH_MS
        {
            return Ok(trust);
        }
        let rows = trusted_issuer::Entity::find()
            .filter(trusted_issuer::Column::Issuer.eq(issuer))
            .all(self.db.read())
            .await?;
        let entries = rows.into_iter().map(|row| (row.clone(), self.stored_key(&row))).collect();
        let trust = Arc::new(Trust { read_at: now, entries });
        self.trust.insert(issuer.to_owned(), Arc::clone(&trust));
        Ok(trust)
    }

    fn stored_key(&self, issuer: &trusted_issuer::Model) -> StoredKey {
        if let Some(url) = &issuer.jwks_url {
            return StoredKey::Published(url.clone());
        }
        if let Some((key, algorithms)) = issuer.public_key.as_deref().and_then(pem_key) {
            return StoredKey::Own(key, algorithms);
        }
        let sealed = issuer.hmac_secret.as_deref().unwrap_or_default();
        match self.sealer.open(&purpose(issuer.site_id), sealed) {
            Ok(secret) => StoredKey::Own(DecodingKey::from_secret(&secret), &[Algorithm::HS256]),
            Err(_) => StoredKey::Unusable,
        }
    }

    /// The member that `token` proves, if an issuer trusted by a site signed it; on first sight the member is made.
    /// `site` narrows the search to one site, which is needed when several trust the same issuer and audience.
    pub async fn verify(&self, token: &str, site: Option<SiteId>) -> Result<Option<ProvenMember>, DbErr> {
        let Ok(header) = jsonwebtoken::decode_header(token) else {
            return Ok(None);
        };
        let Some(claims) = unverified_claims(token) else {
            return Ok(None);
        };
        let issuer = claims.get("iss").and_then(Value::as_str).filter(|issuer| !issuer.contains('\0'));
        let Some(issuer) = issuer.filter(|_| !has_critical_extension(token)) else {
            return Ok(None);
        };
        let (trust, audiences) = (self.trust(issuer).await?, audiences(&claims));
        let is_meant = |row: &trusted_issuer::Model| {
            site.is_none_or(|site| site == row.site_id) && audiences.contains(&row.audience)
        };
        let candidates: Vec<_> = trust.entries.iter().filter(|(row, _)| is_meant(row)).collect();
        if candidates.len() > CANDIDATES_MAX {
            return Ok(None);
        }
        let mut proven: Option<(&trusted_issuer::Model, Map<String, Value>)> = None;
        for (candidate, stored) in candidates {
            let Some((key, algorithms)) = self.key(stored, header.kid.as_deref()).await else {
                continue;
            };
            if !algorithms.contains(&header.alg) {
                continue;
            }
            let Some(claims) = verified_claims(token, &key, header.alg, candidate) else {
                continue;
            };
            if proven.as_ref().is_some_and(|(other, _)| other.site_id != candidate.site_id) {
                // Two sites trust the same signer and audience: which is meant cannot be told.
                return Ok(None);
            }
            proven = Some((candidate, claims));
        }
        let Some((issuer, claims)) = proven else {
            return Ok(None);
        };
        self.member(issuer, &claims).await
    }

    async fn key(
        &self,
        stored: &StoredKey,
        kid: Option<&str>,
    ) -> Option<(DecodingKey, &'static [Algorithm])> {
        match stored {
            StoredKey::Published(url) => jwk_key(&self.key_sets.find(url, kid).await?),
            StoredKey::Own(key, algorithms) => Some((key.clone(), algorithms)),
            StoredKey::Unusable => None,
        }
    }

    async fn member(
        &self,
        issuer: &trusted_issuer::Model,
        claims: &Map<String, Value>,
    ) -> Result<Option<ProvenMember>, DbErr> {
        let now = self.db.now().seconds();
        let Some(exp) = claims.get("exp").and_then(whole_seconds) else {
            return Ok(None);
        };
        let is_early = |name: &str| {
            claims.get(name).is_some_and(|at| whole_seconds(at).is_none_or(|at| at > now + LEEWAY_S))
        };
        if now >= exp.saturating_add(LEEWAY_S) || is_early("nbf") || is_early("iat") {
            return Ok(None);
        }
        let Some(external_id) = claims.get(&issuer.member_id_claim).and_then(member_id) else {
            return Ok(None);
        };
        let text = |name: &str| {
            claims
                .get(name)
                .and_then(Value::as_str)
                .map(|text| text.chars().filter(|char| *char != '\0').take(members::TEXT_MAX).collect())
        };
        let site = issuer.site_id;
        let member = match self.members.find(site, external_id.clone()).await? {
            Some(member) => member,
            None => add(&self.db, site, external_id, (text("email"), text("name"))).await?,
        };
        Ok(Some(ProvenMember {
            caller: Caller::Member { site: issuer.site_id, member },
            expires_at: Timestamp(exp.saturating_add(LEEWAY_S).saturating_mul(1000)),
        }))
    }
}

async fn add(
    db: &Db,
    site: SiteId,
    external_id: String,
    (email, name): (Option<String>, Option<String>),
) -> Result<MemberId, DbErr> {
    let tx = db.write().await?;
    let model = member::Model {
        id: MemberId(tx.new_id()),
        site_id: site,
        external_id: Some(external_id),
        email,
        name,
        contact_id: ContactId(tx.new_id()),
        created_at: tx.now(),
        updated_at: tx.now(),
    };
    let (member, _) = members::add_if_absent(&tx, model).await?;
    tx.commit().await?;
    Ok(member.id)
}

fn member_id(claim: &Value) -> Option<String> {
    let id = match claim {
        Value::String(text) => text.clone(),
        Value::Number(number) => number.to_string(),
        _ => return None,
    };
    (!id.is_empty() && id.chars().count() <= members::TEXT_MAX && !id.contains('\0')).then_some(id)
}

fn whole_seconds(claim: &Value) -> Option<i64> {
    #[expect(clippy::cast_possible_truncation, reason = "a saturating cast is what is wanted of a fraction")]
    claim.as_i64().or_else(|| claim.as_f64().map(|seconds| seconds as i64))
}

fn audiences(claims: &Map<String, Value>) -> Vec<String> {
    match claims.get("aud") {
        Some(Value::String(one)) => vec![one.clone()],
        Some(Value::Array(many)) => {
            many.iter().filter_map(Value::as_str).take(16).map(str::to_owned).collect()
        }
        _ => Vec::new(),
    }
}

/// The claims without any proof: only good for finding out whose key to try.
fn unverified_claims(token: &str) -> Option<Map<String, Value>> {
    use base64::Engine as _;
    let payload = token.split('.').nth(1)?;
    let bytes = base64::engine::general_purpose::URL_SAFE_NO_PAD.decode(payload).ok()?;
    serde_json::from_slice(&bytes).ok()
}

/// Whether the header names extensions that must be understood (RFC 7515, 4.1.11): we understand none.
fn has_critical_extension(token: &str) -> bool {
    use base64::Engine as _;
    let header = token.split('.').next().unwrap_or("");
    let header = base64::engine::general_purpose::URL_SAFE_NO_PAD.decode(header).unwrap_or_default();
    serde_json::from_slice::<Map<String, Value>>(&header).is_ok_and(|header| header.contains_key("crit"))
}

fn verified_claims(
    token: &str,
    key: &DecodingKey,
    algorithm: Algorithm,
    issuer: &trusted_issuer::Model,
) -> Option<Map<String, Value>> {
    let mut validation = Validation::new(algorithm);
    // The library reads the machine's clock; times are checked against ours afterwards.
    validation.validate_exp = false;
    validation.validate_nbf = false;
    validation.set_issuer(&[&issuer.issuer]);
    validation.set_audience(&[&issuer.audience]);
    validation.set_required_spec_claims(&["iss", "aud", "exp"]);
    jsonwebtoken::decode(token, key, &validation).ok().map(|data| data.claims)
}

const RSA: &[Algorithm] = &[Algorithm::RS256, Algorithm::RS384, Algorithm::RS512];

fn pem_key(pem: &str) -> Option<(DecodingKey, &'static [Algorithm])> {
    if pem.contains("PRIVATE KEY") {
        return None;
    }
    let bytes = pem.as_bytes();
    if let Ok(key) = DecodingKey::from_rsa_pem(bytes) {
        return Some((key, RSA));
    }
    if let Ok(key) = DecodingKey::from_ed_pem(bytes) {
        return Some((key, &[Algorithm::EdDSA]));
    }
    let key = DecodingKey::from_ec_pem(bytes).ok()?;
    Some((key, &[Algorithm::ES256, Algorithm::ES384]))
}

fn jwk_key(jwk: &Jwk) -> Option<(DecodingKey, &'static [Algorithm])> {
    if jwk.common.public_key_use.as_ref().is_some_and(|usage| *usage != PublicKeyUse::Signature) {
        return None;
    }
    let algorithms: &'static [Algorithm] = match &jwk.algorithm {
        AlgorithmParameters::RSA(_) => RSA,
        AlgorithmParameters::EllipticCurve(key) if key.curve == EllipticCurve::P256 => &[Algorithm::ES256],
        AlgorithmParameters::EllipticCurve(key) if key.curve == EllipticCurve::P384 => &[Algorithm::ES384],
        AlgorithmParameters::OctetKeyPair(_) => &[Algorithm::EdDSA],
        _ => return None,
    };
    Some((DecodingKey::from_jwk(jwk).ok()?, algorithms))
}
