//! What is known of members on social platforms: the handles that they claim, the proof of them, and the attributes that platforms tell.
//!
//! A member writes `instagramHandle` and `tiktokHandle`; everything else is written by platforms only. Absent stays absent: what a
//! platform did not say is never 0, false or empty.

pub mod api;
pub mod attributes;
pub mod erasure;
pub mod handles;
pub mod link_codes;
pub mod me_api;
pub mod widget;

use entity::id::{MemberId, SiteId, Timestamp};
use entity::kinds::{Channel, Platform};
use entity::{member, member_handle, member_profile};
use sea_orm::sea_query::LockType;
use sea_orm::{
    ActiveModelTrait as _, ActiveValue::Set, ConnectionTrait, DbErr, EntityTrait, QuerySelect as _,
};

use self::attributes::Attributes;
use crate::db::{self, Db, Tx};
use crate::sites::config;

/// What is known of a member on social platforms.
#[derive(Debug, Clone)]
pub struct Profile {
    /// Whose it is.
    pub member: MemberId,
    /// The handles that the member claims.
    pub handles: Vec<member_handle::Model>,
    /// What platforms told, and what follows from the handles.
    pub attributes: Attributes,
}

/// Why a profile was not read or changed.
#[derive(Debug, thiserror::Error)]
pub enum ProfileError {
    /// The site has no such member.
    #[error("there is no such member")]
    MemberNotFound,
    /// The member has changed to another handle too often.
    #[error("at most {} other handles in 30 days", handles::CHANGES_MAX)]
    TooManyHandles {
        /// Where.
        platform: Platform,
        /// When the next may be claimed.
        again_at: Timestamp,
    },
    /// The database failed.
    #[error("the database failed")]
    Store(#[from] DbErr),
}

/// Who changes a profile.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum By {
    /// The member, who may change to another handle only so often.
    Member,
    /// A key of the site's owner.
    Key,
}

/// The platform behind `channel`, if it tells us anything.
#[must_use]
pub const fn platform_of(channel: Channel) -> Option<Platform> {
    match channel {
        Channel::Instagram => Some(Platform::Instagram),
        Channel::Tiktok => Some(Platform::Tiktok),
        Channel::Facebook | Channel::Linkedin | Channel::X => None,
    }
}

/// The profile of `member`, empty if nothing is known.
pub async fn read(
    db: &impl ConnectionTrait,
    site: SiteId,
    member: MemberId,
) -> Result<Profile, ProfileError> {
    if member::Entity::find_by_id((site, member)).one(db).await?.is_none() {
        return Err(ProfileError::MemberNotFound);
    }
    let handles = handles::of_member(db, site, member).await?;
    let row = member_profile::Entity::find_by_id((site, member)).one(db).await?;
    let mut attributes = row.map(|row| Attributes::parse(&row.attributes)).unwrap_or_default();
    attributes.derive(&handles);
    Ok(Profile { member, handles, attributes })
}

/// Claims the handles of `changes`, each normalised, or none, for `member`; all of them or nothing. Gives the profile as it
/// then is.
pub async fn change(
    database: &Db,
    (site, member): (SiteId, MemberId),
    by: By,
    changes: &[(Platform, Option<String>)],
) -> Result<Profile, ProfileError> {
    let mut tries = 1;
    loop {
        match change_once(database, (site, member), by, changes).await {
            // What is parked for a handle may be worked on at the same moment.
            Err(ProfileError::Store(error)) if db::lost_a_race(&error) && tries < db::TRIES_MAX => tries += 1,
            done => return done,
        }
    }
}

async fn change_once(
    database: &Db,
    (site, member): (SiteId, MemberId),
    by: By,
    changes: &[(Platform, Option<String>)],
) -> Result<Profile, ProfileError> {
    let tx = database.write().await?;
    // Whatever is recorded meanwhile would be parked for a handle that it does not see.
    config::take_turns(&tx, &[site]).await?;
    if !hold(&tx, site, member).await? {
        return Err(ProfileError::MemberNotFound);
    }
    for (platform, handle) in changes {
        if let Some(handle) = handle.as_deref().filter(|_| by == By::Member)
            && let Some(again_at) = handles::may_change_at(&tx, (site, member), *platform, handle).await?
        {
            return Err(ProfileError::TooManyHandles { platform: *platform, again_at });
        }
        handles::claim(&tx, site, member, *platform, handle.as_deref()).await?;
    }
    let profile = read(tx.conn(), site, member).await?;
    tx.commit().await?;
    Ok(profile)
}

/// Keeps others from changing what is known of `member` until the transaction ends. Says whether there is such a member.
pub async fn hold(tx: &Tx, site: SiteId, member: MemberId) -> Result<bool, DbErr> {
    let query = member::Entity::find_by_id((site, member)).lock(LockType::NoKeyUpdate);
    Ok(query.one(tx.conn()).await?.is_some())
}

/// Takes away what `platform` told about `member`.
async fn forget(tx: &Tx, site: SiteId, member: MemberId, platform: Platform) -> Result<(), DbErr> {
    let row = member_profile::Entity::find_by_id((site, member)).lock_exclusive().one(tx.conn()).await?;
    let Some(row) = row else { return Ok(()) };
    let mut attributes = Attributes::parse(&row.attributes);
    if attributes.forget(platform) {
        let mut row = member_profile::ActiveModel::from(row);
        row.attributes = Set(attributes.to_json());
        row.updated_at = Set(tx.now());
        row.update(tx.conn()).await?;
    }
    Ok(())
}
