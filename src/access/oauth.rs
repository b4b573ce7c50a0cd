//! The grants of the token endpoint.
//!
//! Refresh tokens of members rotate: each use gives a successor, and using a replaced one revokes its whole family. The
//! Wix SDK throws the successor away and comes back with the old token, so for tokens issued to a front-end (a family with a
//! `client_id`) a replaced token still works until its successor has been used; after that the rule is the same. Tokens that were
//! issued to no front-end become those of the front-end that uses them first.

use entity::id::{
    AppId, AppInstanceId, MemberId, OauthClientId, RefreshTokenId, SiteId, TokenFamilyId, VisitorId,
};
use entity::{app_instance, refresh_token};
use sea_orm::sea_query::Expr;
use sea_orm::{
    ActiveModelTrait, ActiveValue::Set, ColumnTrait, DbErr, EntityTrait, QueryFilter, QuerySelect,
};

use super::tokens::AccessTokens;
use super::{Caller, oauth_clients};
use crate::apps;
use crate::db::{Db, Tx};
use crate::members;
use crate::seal::{self, SealError};

/// Life of a member's refresh token in milliseconds; each rotation starts it anew.
const REFRESH_LIFE_MS: i64 = 90 * 86_400_000;
const REFRESH_PREFIX: &str = "fpr_";

/// Tokens as the token endpoint gives them.
#[derive(Debug)]
pub struct Tokens {
    /// The access token.
    pub access: String,
    /// The refresh token, where the grant has one.
    pub refresh: Option<String>,
}

/// Why a grant was refused; the names are RFC 6749's.
#[derive(Debug, thiserror::Error)]
pub enum GrantError {
    /// `invalid_request`.
    #[error("{0}")]
    InvalidRequest(String),
    /// `invalid_client`.
    #[error("the client is unknown or its secret is wrong")]
    InvalidClient,
    /// `invalid_grant`.
    #[error("{0}")]
    InvalidGrant(&'static str),
    /// `unauthorized_client`.
    #[error("{0}")]
    UnauthorizedClient(&'static str),
    /// `unsupported_grant_type`.
    #[error("grant type {0} is not supported")]
    UnsupportedGrantType(String),
    /// The database failed.
    #[error("the database failed")]
    Store(#[from] DbErr),
    /// No randomness or no signature.
    #[error("a token could not be made")]
    Token,
}

impl From<SealError> for GrantError {
    fn from(_: SealError) -> Self {
        Self::Token
    }
}

/// The grants. Cheap to clone.
#[derive(Clone)]
pub struct Grants {
    db: Db,
    tokens: AccessTokens,
}

impl Grants {
    /// Grants that issue `tokens`.
    #[must_use]
    pub const fn new(db: Db, tokens: AccessTokens) -> Self {
        Self { db, tokens }
    }

    /// `anonymous`: a new visitor of the front-end's site.
    pub async fn anonymous(&self, client: OauthClientId) -> Result<Tokens, GrantError> {
        let client = oauth_clients::find_oauth_client(self.db.read(), client)
            .await?
            .ok_or(GrantError::InvalidClient)?;
        self.visitor_tokens(client.site_id, VisitorId(self.db.new_id()), client.id)
    }

    fn visitor_tokens(
        &self,
        site: SiteId,
        visitor: VisitorId,
        client: OauthClientId,
    ) -> Result<Tokens, GrantError> {
        let caller = Caller::Visitor { site, visitor, client };
        let refresh = self.tokens.issue_visitor_refresh(site, visitor, client, self.db.now());
        Ok(Tokens { access: self.access(&caller)?, refresh: Some(refresh.ok_or(GrantError::Token)?) })
    }

    /// `refresh_token`, of a member or a visitor. `client`, when given, must be the one it was issued to, or one of the site for what was
    /// issued to none.
    pub async fn refresh(&self, token: &str, client: Option<OauthClientId>) -> Result<Tokens, GrantError> {
        const REFUSED: GrantError =
            GrantError::InvalidGrant("the refresh token is unknown, expired or revoked");
        if let Some(claims) = self.tokens.verify(token, self.db.now()) {
            let (site, visitor, issued_to) = claims.visitor_refresh().ok_or(REFUSED)?;
            if client.is_some_and(|client| client != issued_to) {
                return Err(REFUSED);
            }
            oauth_clients::find_oauth_client(self.db.read(), issued_to).await?.ok_or(REFUSED)?;
            return self.visitor_tokens(site, visitor, issued_to);
        }
        let tx = self.db.write().await?;
        let row = refresh_token::Entity::find()
            .filter(refresh_token::Column::TokenHash.eq(seal::hash(token).to_vec()))
            .lock_exclusive()
            .one(tx.conn())
            .await?
            .ok_or(REFUSED)?;
        let is_alive = row.revoked_at.is_none() && tx.now() < row.expires_at;
        let is_its_client = client.is_none_or(|client| row.client_id.is_none_or(|of| of == client));
        if !is_alive || !is_its_client {
            return Err(REFUSED);
        }
        if row.rotated_at.is_some() && !retire_unused_successor(&tx, &row).await? {
            revoke_family(&tx, row.family_id).await?;
            tx.commit().await?;
            tracing::warn!(token.family = %row.family_id, "a replaced refresh token was used again; its family is revoked");
            return Err(REFUSED);
        }
        let client = row.client_id.or(client);
        if let Some(client) = client {
            let found = oauth_clients::find_oauth_client(tx.conn(), client).await?;
            found.filter(|found| found.site_id == row.site_id).ok_or(REFUSED)?;
        }
        let member = row.member_id.ok_or(REFUSED)?;
        let (successor, refresh) = insert_refresh(&tx, row.site_id, member, client, row.family_id).await?;
        refresh_token::ActiveModel {
            id: Set(row.id),
            client_id: Set(client),
            rotated_at: Set(Some(tx.now())),
            successor_id: Set(Some(successor)),
            ..Default::default()
        }
        .update(tx.conn())
        .await?;
        tx.commit().await?;
        let access = self.access(&Caller::Member { site: row.site_id, member })?;
        Ok(Tokens { access, refresh: Some(refresh) })
    }

    /// Tokens for a member: the owner's call, or `authorized_client` with the front-end of the visitor.
    pub async fn member(
        &self,
        site: SiteId,
        member: MemberId,
        client: Option<OauthClientId>,
    ) -> Result<Tokens, GrantError> {
        members::find_member(self.db.read(), site, member)
            .await?
            .ok_or(GrantError::InvalidGrant("the site has no such member"))?;
        if let Some(client) = client {
            oauth_clients::find_oauth_client_of(self.db.read(), site, client)
                .await?
                .ok_or(GrantError::UnauthorizedClient("the front-end of the visitor token was removed"))?;
        }
        let tx = self.db.write().await?;
        let family = TokenFamilyId(tx.new_id());
        let (_, refresh) = insert_refresh(&tx, site, member, client, family).await?;
        tx.commit().await?;
        Ok(Tokens { access: self.access(&Caller::Member { site, member })?, refresh: Some(refresh) })
    }

    /// `client_credentials`: an app on one of the sites where it is installed.
    pub async fn client_credentials(
        &self,
        app: AppId,
        secret: &str,
        instance: AppInstanceId,
    ) -> Result<Tokens, GrantError> {
        if !apps::secrets::is_valid(self.db.read(), app, secret, self.db.now()).await? {
            return Err(GrantError::InvalidClient);
        }
        let instance = app_instance::Entity::find_by_id(instance)
            .filter(app_instance::Column::AppId.eq(app))
            .one(self.db.read())
            .await?
            .ok_or(GrantError::InvalidGrant("the app has no such instance"))?;
        let caller =
            Caller::App { site: instance.site_id, app, instance: instance.id, scopes: apps::SCOPES.to_vec() };
        Ok(Tokens { access: self.access(&caller)?, refresh: None })
    }

    fn access(&self, caller: &Caller) -> Result<String, GrantError> {
        self.tokens.issue(caller, self.db.new_id(), self.db.now()).ok_or(GrantError::Token)
    }
}

/// Revokes the successor of a replaced token, if the client cannot keep successors and never used it. Says whether that
/// is so.
async fn retire_unused_successor(tx: &Tx, row: &refresh_token::Model) -> Result<bool, DbErr> {
    let (Some(_), Some(successor)) = (row.client_id, row.successor_id) else {
        return Ok(false);
    };
    let retired = refresh_token::Entity::update_many()
        .col_expr(refresh_token::Column::RevokedAt, Expr::val(tx.now().0))
        .filter(refresh_token::Column::Id.eq(successor))
        .filter(refresh_token::Column::RotatedAt.is_null())
        .filter(refresh_token::Column::RevokedAt.is_null())
        .exec(tx.conn())
        .await?;
    Ok(retired.rows_affected == 1)
}

async fn revoke_family(tx: &Tx, family: TokenFamilyId) -> Result<(), DbErr> {
    refresh_token::Entity::update_many()
        .col_expr(refresh_token::Column::RevokedAt, Expr::val(tx.now().0))
        .filter(refresh_token::Column::FamilyId.eq(family))
        .filter(refresh_token::Column::RevokedAt.is_null())
        .exec(tx.conn())
        .await?;
    Ok(())
}

async fn insert_refresh(
    tx: &Tx,
    site: SiteId,
    member: MemberId,
    client: Option<OauthClientId>,
    family: TokenFamilyId,
) -> Result<(RefreshTokenId, String), GrantError> {
    let token = seal::new_secret(REFRESH_PREFIX)?;
    let id = RefreshTokenId(tx.new_id());
    let row = refresh_token::Model {
        id,
        family_id: family,
        site_id: site,
        member_id: Some(member),
        visitor_id: None,
        client_id: client,
        token_hash: seal::hash(&token).to_vec(),
        created_at: tx.now(),
        expires_at: tx.now().plus_ms(REFRESH_LIFE_MS),
        rotated_at: None,
        successor_id: None,
        revoked_at: None,
    };
    refresh_token::Entity::insert(refresh_token::ActiveModel::from(row))
        .exec_without_returning(tx.conn())
        .await?;
    Ok((id, token))
}

/// Deletes refresh tokens that have ended; they can never be used again.
pub async fn delete_expired(tx: &Tx) -> Result<u64, DbErr> {
    let deleted = refresh_token::Entity::delete_many()
        .filter(refresh_token::Column::ExpiresAt.lt(tx.now()))
        .exec(tx.conn())
        .await?;
    Ok(deleted.rows_affected)
}
