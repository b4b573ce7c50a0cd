//! Invitations: links that connect one account each. Only a link's hash is stored.

use entity::connection_invitation as invitation;
use entity::id::{InvitationId, SiteId, Timestamp};
use entity::kinds::{ConnectionLogin, InvitationStatus, Platform};
use sea_orm::{
    ColumnTrait as _, ConnectionTrait, DbErr, EntityTrait as _, PaginatorTrait as _, QueryFilter as _,
    QueryOrder as _, QuerySelect as _,
};

use super::{Connections, StoreError, login};
use crate::db::Tx;
use crate::seal;

/// How long a link can be used, in milliseconds: 7 days.
pub const LIFE_MS: i64 = 7 * 24 * 3_600_000;
/// Links of a site that can be used at the same time.
pub const LIVING_MAX: u64 = 200;
/// How long an owner can see what became of a link, from its end on, in milliseconds: 30 days.
pub const KEPT_MS: i64 = 30 * 24 * 3_600_000;
/// Characters of what is random in a link, a state or a session.
pub(super) const TOKEN_LENGTH: usize = 43;

/// Why there is no invitation.
#[derive(Debug, thiserror::Error)]
pub enum InvitationError {
    /// The login does not belong to the platform.
    #[error("is not a login of {0}")]
    Login(Platform),
    /// The operator has no app there.
    #[error("this service has no app for this login; its operator must set {0} and its secret")]
    NotConfigured(&'static str),
    /// Too many links.
    #[error("a site can have at most {LIVING_MAX} invitations that can still be used; revoke some")]
    TooMany,
    /// Something inside.
    #[error(transparent)]
    Inside(#[from] StoreError),
}

/// How far an invitation is, for its owner.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Progress {
    /// As stored.
    Stored(InvitationStatus),
    /// Its time is over.
    Expired,
}

/// How far `row` is at `now`.
#[must_use]
pub fn progress(row: &invitation::Model, now: Timestamp) -> Progress {
    if row.status != InvitationStatus::Used && row.expires_at <= now {
        return Progress::Expired;
    }
    Progress::Stored(row.status)
}

/// The login that is meant where none is named.
#[must_use]
pub const fn default_login(platform: Platform) -> ConnectionLogin {
    match platform {
        Platform::Instagram => ConnectionLogin::Facebook,
        Platform::Tiktok => ConnectionLogin::TiktokBusiness,
    }
}

impl Connections {
    /// Makes an invitation of `site`; gives its link too, which cannot be had again.
    pub async fn invite(
        &self,
        tx: &Tx,
        site: SiteId,
        (platform, login): (Platform, ConnectionLogin),
    ) -> Result<(invitation::Model, String), InvitationError> {
        if login::platform(login) != platform {
            return Err(InvitationError::Login(platform));
        }
        if login::app(&self.settings, login).is_none() {
            return Err(InvitationError::NotConfigured(match login {
                ConnectionLogin::Facebook => "FOLLOWPOINTS_META_APP_ID",
                ConnectionLogin::Instagram => "FOLLOWPOINTS_META_INSTAGRAM_APP_ID",
                ConnectionLogin::TiktokBusiness => "FOLLOWPOINTS_TIKTOK_BUSINESS_APP_ID",
            }));
        }
        let living = invitation::Entity::find()
            .filter(invitation::Column::SiteId.eq(site))
            .filter(invitation::Column::Status.ne(InvitationStatus::Used))
            .filter(invitation::Column::ExpiresAt.gt(tx.now()))
            .count(tx.conn())
            .await
            .map_err(StoreError::from)?;
        if living >= LIVING_MAX {
            return Err(InvitationError::TooMany);
        }
        let token = seal::new_secret("").map_err(StoreError::from)?;
        let row = invitation::Model {
            id: InvitationId(tx.new_id()),
            site_id: site,
            platform,
            login,
            token_hash: seal::hash(&token).to_vec(),
            state_hash: None,
            status: InvitationStatus::Pending,
            problem: None,
            candidates: None,
            connection_id: None,
            expires_at: tx.now().plus_ms(LIFE_MS),
            created_at: tx.now(),
            updated_at: tx.now(),
        };
        invitation::Entity::insert(invitation::ActiveModel::from(row.clone()))
            .exec_without_returning(tx.conn())
            .await
            .map_err(StoreError::from)?;
        Ok((row, format!("{}/connect/{token}", self.public_url)))
    }
}

/// The invitation `id` of `site`.
pub async fn find(
    db: &impl ConnectionTrait,
    site: SiteId,
    id: InvitationId,
) -> Result<Option<invitation::Model>, DbErr> {
    invitation::Entity::find_by_id(id).filter(invitation::Column::SiteId.eq(site)).one(db).await
}

/// Invitations of `site` from the newest, after `before`.
pub async fn list(
    db: &impl ConnectionTrait,
    site: SiteId,
    before: Option<InvitationId>,
    limit: u64,
) -> Result<Vec<invitation::Model>, DbErr> {
    let mut query = invitation::Entity::find().filter(invitation::Column::SiteId.eq(site));
    if let Some(before) = before {
        query = query.filter(invitation::Column::Id.lt(before));
    }
    query.order_by_desc(invitation::Column::Id).limit(limit).all(db).await
}

/// Deletes invitations that ended long ago. Says how many.
pub async fn delete_expired(tx: &Tx) -> Result<u64, DbErr> {
    let deleted = invitation::Entity::delete_many()
        .filter(invitation::Column::ExpiresAt.lte(tx.now().plus_ms(-KEPT_MS)))
        .exec(tx.conn())
        .await?;
    Ok(deleted.rows_affected)
}

/// Takes an invitation of `site` back: its link leads nowhere, and a login that is under way connects nothing. Says whether there
/// was one.
pub async fn revoke(tx: &Tx, site: SiteId, id: InvitationId) -> Result<bool, DbErr> {
    let deleted = invitation::Entity::delete_many()
        .filter(invitation::Column::SiteId.eq(site))
        .filter(invitation::Column::Id.eq(id))
        .exec(tx.conn())
        .await?;
    Ok(deleted.rows_affected == 1)
}
