//! Members' own logins with Login Kit: how one begins and ends, its tokens, and the proof of the member's handle.
//!
//! A refresh token works once. So a new one is stored before anything uses what came with it, only whoever holds the lease of a login renews its
//! tokens ([`super::poller`]), and only if the login still has the token that was used.
//!
//! Whoever comes back from `TikTok` need not be the member who began: anybody can be sent a link. So the callback only leads on to the
//! site's own page, and the login ends with a call that the same member makes.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use entity::id::{ItemId, MemberId, MemberLoginId, SiteId, Timestamp};
use entity::kinds::Platform;
use entity::{member_handle, member_login};
use sea_orm::sea_query::{Expr, OnConflict};
use sea_orm::{ColumnTrait as _, Condition, DbErr, EntityTrait as _, QueryFilter as _};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use url::Url;

use super::calls::{CallError, encoded};
use super::{Tiktok, words};
use crate::db::Tx;
use crate::inbox;
use crate::seal::{self, SealError};

/// What tokens are sealed for.
pub const TOKEN_PURPOSE: &str = "member-login";
/// What the state of a login under way is sealed for.
const STATE_PURPOSE: &str = "tiktok-login-state";
/// How long a login may take, in milliseconds.
pub const LOGIN_MS: i64 = 15 * 60_000;
/// How long before its end an access token is renewed, in milliseconds.
const RENEW_BEFORE_MS: i64 = 5 * 60_000;
/// Where `TikTok` sends the member back to.
pub const CALLBACK_PATH: &str = "/connect/tiktok/callback";
/// What the login asks for. The member may untick each.
const SCOPES: &str = "user.info.basic,user.info.profile,user.info.stats,video.list";
/// Seconds that an access token lives unless `TikTok` says so: the shortest that was ever documented.
const LIFE_S: i64 = 7_200;
/// The same of a refresh token.
const REFRESH_LIFE_S: i64 = 180 * 24 * 3_600;
/// Characters of what comes back in the callback.
const PARAMETER_MAX: usize = 2_000;

/// Why a login did not come about.
#[derive(Debug, thiserror::Error)]
pub enum LoginError {
    /// The operator has no app.
    #[error("this installation has no TikTok app")]
    NotConfigured,
    /// It is not the end of a login that this member began.
    #[error("this login is unknown, took too long, or was begun by somebody else; begin again")]
    State,
    /// `TikTok` did not take the code.
    #[error(transparent)]
    Call(#[from] CallError),
    /// No randomness, or another master key.
    #[error(transparent)]
    Seal(#[from] SealError),
    /// The database failed.
    #[error("the database failed")]
    Store(#[from] DbErr),
}

/// A login under way, as the state holds it: sealed, so that nobody can make one up.
#[derive(Serialize, Deserialize)]
struct State {
    site: SiteId,
    member: MemberId,
    verifier: String,
    /// The page of the site that the member comes back to.
    return_url: String,
    expires_at: Timestamp,
}

/// What the token endpoint gives.
struct Tokens {
    person: String,
    access: String,
    refresh: Option<String>,
    expires_at: Timestamp,
    refresh_expires_at: Timestamp,
    scopes: String,
}

impl Tokens {
    fn read(answer: &Value, now: Timestamp) -> Result<Self, CallError> {
        let missing = || CallError::Unavailable("the answer has no token".to_owned());
        let text = |name: &str| words::text(&answer[name], PARAMETER_MAX);
        let ends = |name: &str, life: i64| {
            let seconds = words::count(&answer[name]).unwrap_or(life).min(REFRESH_LIFE_S * 10);
            now.plus_ms(seconds * 1000)
        };
        Ok(Self {
            person: words::id(&answer["open_id"]).ok_or_else(missing)?,
            access: text("access_token").ok_or_else(missing)?,
            refresh: text("refresh_token"),
            expires_at: ends("expires_in", LIFE_S),
            refresh_expires_at: ends("refresh_expires_in", REFRESH_LIFE_S),
            scopes: text("scope").unwrap_or_default(),
        })
    }
}

/// The challenge of a code verifier as `TikTok` wants it: the digest in hexadecimal, where RFC 7636 has base64url.
#[must_use]
pub fn challenge(verifier: &str) -> String {
    words::hex(&seal::hash(verifier))
}

impl Tiktok {
    /// Where `member` logs in, to come back to `return_url`, and until when.
    pub fn begin_login(
        &self,
        site: SiteId,
        member: MemberId,
        return_url: &Url,
    ) -> Result<(String, Timestamp), LoginError> {
        let client_key = self.client()?.0;
        let expires_at = self.db.now().plus_ms(LOGIN_MS);
        let state = State {
            site,
            member,
            verifier: seal::new_secret("")?,
            return_url: return_url.to_string(),
            expires_at,
        };
        let challenge = challenge(&state.verifier);
        let state = serde_json::to_vec(&state).unwrap_or_default();
        let state = URL_SAFE_NO_PAD.encode(self.sealer.seal(STATE_PURPOSE, &state)?);
        let query = encoded(&[
            ("client_key", client_key),
            ("scope", SCOPES),
            ("response_type", "code"),
            ("redirect_uri", &self.redirect()),
            ("state", &state),
            ("code_challenge", &challenge),
            ("code_challenge_method", "S256"),
        ]);
        Ok((format!("{}/v2/auth/authorize/?{query}", self.settings.urls.www), expires_at))
    }

    /// The page of the site to which whoever came back with `state` is led on.
    #[must_use]
    pub fn return_url(&self, state: &str) -> Option<Url> {
        Url::parse(&self.state(state)?.return_url).ok()
    }

    /// Ends the login of `member` that came back with `state` and `code`: from now on the member's posts are read.
    pub async fn finish_login(
        &self,
        (site, member): (SiteId, MemberId),
        state: &str,
        code: &str,
    ) -> Result<(), LoginError> {
        let (client_key, secret) = self.client()?;
        let state = self.state(state).filter(|state| (state.site, state.member) == (site, member));
        let state = state.ok_or(LoginError::State)?;
        let form = [
            ("client_key", client_key),
            ("client_secret", secret),
            ("code", code),
            ("grant_type", "authorization_code"),
            ("redirect_uri", &self.redirect()),
            ("code_verifier", &state.verifier),
        ];
        let answer = self.calls.tokens(&self.token_url(), &form).await?;
        let tokens = Tokens::read(&answer, self.db.now())?;
        let tx = self.db.write().await?;
        let row = self.row(&tx, &state, &tokens)?;
        let key =
            [member_login::Column::SiteId, member_login::Column::MemberId, member_login::Column::Platform];
        let renewed = [
            member_login::Column::Person,
            member_login::Column::Handle,
            member_login::Column::Token,
            member_login::Column::RefreshToken,
            member_login::Column::TokenExpiresAt,
            member_login::Column::RefreshExpiresAt,
            member_login::Column::Scopes,
            member_login::Column::DeadSince,
            member_login::Column::PollDueAt,
            member_login::Column::HasPolled,
            member_login::Column::CreatedAt,
            member_login::Column::UpdatedAt,
        ];
        member_login::Entity::insert(member_login::ActiveModel::from(row))
            .on_conflict(OnConflict::columns(key).update_columns(renewed).to_owned())
            .exec_without_returning(tx.conn())
            .await?;
        tx.commit().await?;
        Ok(())
    }

    fn row(&self, tx: &Tx, state: &State, tokens: &Tokens) -> Result<member_login::Model, SealError> {
        let sealed = |text: &str| self.sealer.seal(TOKEN_PURPOSE, text.as_bytes());
        Ok(member_login::Model {
            id: MemberLoginId(tx.new_id()),
            site_id: state.site,
            member_id: state.member,
            platform: Platform::Tiktok,
            person: tokens.person.clone(),
            handle: None,
            token: Some(sealed(&tokens.access)?),
            refresh_token: tokens.refresh.as_deref().map(sealed).transpose()?,
            token_expires_at: tokens.expires_at,
            refresh_expires_at: tokens.refresh_expires_at,
            scopes: tokens.scopes.clone(),
            dead_since: None,
            poll_due_at: tx.now(),
            has_polled: false,
            created_at: tx.now(),
            updated_at: tx.now(),
        })
    }

    fn state(&self, text: &str) -> Option<State> {
        if text.len() > PARAMETER_MAX {
            return None;
        }
        let sealed = URL_SAFE_NO_PAD.decode(text).ok()?;
        let state: State = serde_json::from_slice(&self.sealer.open(STATE_PURPOSE, &sealed).ok()?).ok()?;
        (state.expires_at > self.db.now()).then_some(state)
    }

    /// The app's client key and secret.
    fn client(&self) -> Result<(&str, &str), LoginError> {
        let app = &self.settings.developer;
        app.id.as_deref().zip(app.secrets.first().map(String::as_str)).ok_or(LoginError::NotConfigured)
    }

    fn redirect(&self) -> String {
        format!("{}{CALLBACK_PATH}", self.public_url)
    }

    fn token_url(&self) -> String {
        format!("{}/v2/oauth/token/", self.settings.urls.api)
    }

    /// An access token of `login` that is good for a while; renewed if it must be. Whoever calls this holds the login's lease.
    pub(super) async fn access_token(&self, login: &member_login::Model) -> Result<String, LoginError> {
        let opened = |sealed: Option<&[u8]>| {
            let sealed = sealed.ok_or_else(|| CallError::Dead("no token".to_owned()))?;
            let text = self.sealer.open(TOKEN_PURPOSE, sealed)?;
            Ok::<_, LoginError>(String::from_utf8(text).map_err(|_| SealError::Open)?)
        };
        if login.token_expires_at > self.db.now().plus_ms(RENEW_BEFORE_MS) {
            return opened(login.token.as_deref());
        }
        let (client_key, secret) = self.client()?;
        let old = opened(login.refresh_token.as_deref())?;
        let form = [
            ("client_key", client_key),
            ("client_secret", secret),
            ("grant_type", "refresh_token"),
            ("refresh_token", &old),
        ];
        let answer = self.calls.tokens(&self.token_url(), &form).await?;
        let tokens = Tokens::read(&answer, self.db.now())?;
        let sealed = |text: &str| self.sealer.seal(TOKEN_PURPOSE, text.as_bytes());
        let refresh = sealed(tokens.refresh.as_deref().unwrap_or(&old))?;
        let tx = self.db.write().await?;
        let renewed = member_login::Entity::update_many()
            .col_expr(member_login::Column::Token, Expr::value(sealed(&tokens.access)?))
            .col_expr(member_login::Column::RefreshToken, Expr::value(refresh))
            .col_expr(member_login::Column::TokenExpiresAt, Expr::value(tokens.expires_at))
            .col_expr(member_login::Column::RefreshExpiresAt, Expr::value(tokens.refresh_expires_at))
            .col_expr(member_login::Column::UpdatedAt, Expr::value(tx.now()))
            .filter(member_login::Column::Id.eq(login.id))
            .filter(member_login::Column::RefreshToken.eq(login.refresh_token.clone()))
            .exec(tx.conn())
            .await?;
        tx.commit().await?;
        if renewed.rows_affected == 0 {
            return Err(CallError::Unavailable("the member has logged in again".to_owned()).into());
        }
        Ok(tokens.access)
    }
}

/// Ends the logins of `person` that began before `at`: their tokens are dropped, and the handles that they proved are only claimed
/// again. Gives the sites.
pub async fn end(tx: &Tx, person: &str, at: Timestamp) -> Result<Vec<SiteId>, DbErr> {
    // What the platform tells in whole seconds.
    let before = at.plus_ms(999);
    let ended = member_login::Entity::find()
        .filter(member_login::Column::Platform.eq(Platform::Tiktok))
        .filter(member_login::Column::Person.eq(person))
        .filter(member_login::Column::DeadSince.is_null())
        .filter(member_login::Column::CreatedAt.lte(before))
        .all(tx.conn())
        .await?;
    for login in &ended {
        kill(tx, login).await?;
        member_handle::Entity::update_many()
            .col_expr(member_handle::Column::Person, Expr::value(None::<String>))
            .col_expr(member_handle::Column::PersonAccount, Expr::value(None::<String>))
            .col_expr(member_handle::Column::ProvenAt, Expr::value(None::<Timestamp>))
            .col_expr(member_handle::Column::ProvenBy, Expr::value(None::<ItemId>))
            .filter(member_handle::Column::SiteId.eq(login.site_id))
            .filter(member_handle::Column::MemberId.eq(login.member_id))
            .filter(member_handle::Column::Platform.eq(Platform::Tiktok))
            .filter(member_handle::Column::Person.eq(person))
            .exec(tx.conn())
            .await?;
    }
    Ok(ended.into_iter().map(|login| login.site_id).collect())
}

/// Notes that `login` no longer works, unless the member has logged in again since it was read.
pub async fn kill(tx: &Tx, login: &member_login::Model) -> Result<(), DbErr> {
    member_login::Entity::update_many()
        .col_expr(member_login::Column::Token, Expr::value(None::<Vec<u8>>))
        .col_expr(member_login::Column::RefreshToken, Expr::value(None::<Vec<u8>>))
        .col_expr(member_login::Column::DeadSince, Expr::value(tx.now()))
        .col_expr(member_login::Column::UpdatedAt, Expr::value(tx.now()))
        .filter(member_login::Column::Id.eq(login.id))
        .filter(member_login::Column::CreatedAt.eq(login.created_at))
        .exec(tx.conn())
        .await?;
    Ok(())
}

/// Notes that `login` proves `handle`, as what is stored as `item` says. Says whether it does: the first proof of a handle on a site wins, and
/// one by direct message stays what it is.
pub async fn prove(tx: &Tx, login: &member_login::Model, handle: &str, item: ItemId) -> Result<bool, DbErr> {
    let rows = member_handle::Entity::find()
        .filter(member_handle::Column::SiteId.eq(login.site_id))
        .filter(member_handle::Column::Platform.eq(Platform::Tiktok))
        .filter(
            Condition::any()
                .add(member_handle::Column::MemberId.eq(login.member_id))
                .add(member_handle::Column::Person.eq(&login.person))
                .add(member_handle::Column::Handle.eq(handle)),
        )
        .all(tx.conn())
        .await?;
    let (own, others): (Vec<_>, Vec<_>) = rows.into_iter().partition(|row| row.member_id == login.member_id);
    if others.iter().any(|row| row.person.is_some()) {
        return Ok(false);
    }
    let own = own.into_iter().next();
    let proof = own.as_ref().and_then(|row| row.person.as_deref());
    if proof.is_some_and(|person| person != login.person) {
        return Ok(false);
    }
    if let Some(own) = own.as_ref().filter(|own| proof.is_some() && own.handle == handle) {
        return Ok(own.person.as_deref() == Some(&login.person));
    }
    let row = member_handle::Model {
        site_id: login.site_id,
        member_id: login.member_id,
        platform: Platform::Tiktok,
        handle: handle.to_owned(),
        person: Some(login.person.clone()),
        person_account: Some(String::new()),
        proven_at: Some(tx.now()),
        proven_by: Some(item),
        claimed_at: own.filter(|row| row.handle == handle).map_or(tx.now(), |row| row.claimed_at),
    };
    let key =
        [member_handle::Column::SiteId, member_handle::Column::MemberId, member_handle::Column::Platform];
    let proven = [
        member_handle::Column::Handle,
        member_handle::Column::Person,
        member_handle::Column::PersonAccount,
        member_handle::Column::ProvenAt,
        member_handle::Column::ProvenBy,
        member_handle::Column::ClaimedAt,
    ];
    member_handle::Entity::insert(member_handle::ActiveModel::from(row))
        .on_conflict(OnConflict::columns(key).update_columns(proven).to_owned())
        .exec_without_returning(tx.conn())
        .await?;
    inbox::unpark_handle(tx, login.site_id, Platform::Tiktok, handle).await?;
    Ok(true)
}
