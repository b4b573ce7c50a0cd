//! The hashtags whose posts count as mentions of a site's brand.

use std::collections::HashMap;

use entity::id::{SiteId, Timestamp};
use entity::tracked_hashtag;
use sea_orm::sea_query::OnConflict;
use sea_orm::{
    ColumnTrait, ConnectionTrait, DbErr, EntityTrait, PaginatorTrait as _, QueryFilter, QueryOrder as _,
    QuerySelect as _,
};
use uuid::Uuid;

use super::hashtags::{self, HASHTAG_MAX};
use crate::db::Tx;
use crate::sites::config;

/// Hashtags that a site may track.
pub const PER_SITE: u64 = 100;

/// Why a hashtag is not tracked.
#[derive(Debug, thiserror::Error)]
pub enum TrackError {
    /// It is none.
    #[error(
        "must be one word of letters, digits and _, with or without #, and have at most {HASHTAG_MAX} characters"
    )]
    NotAHashtag,
    /// The site has enough of them.
    #[error("a site tracks at most {PER_SITE} hashtags; delete one first")]
    TooMany,
    /// The database failed.
    #[error("the database failed")]
    Store(#[from] DbErr),
}

/// Tracks `text` on `site`, or finds that it is tracked.
pub async fn add(tx: &Tx, site: SiteId, text: &str) -> Result<tracked_hashtag::Model, TrackError> {
    let folded = hashtags::fold(text).ok_or(TrackError::NotAHashtag)?;
    // Two at once would count the same number.
    config::take_turns(tx, &[site]).await?;
    let of_site = tracked_hashtag::Entity::find().filter(tracked_hashtag::Column::SiteId.eq(site));
    if let Some(known) = tracked_hashtag::Entity::find_by_id((site, folded.clone())).one(tx.conn()).await? {
        return Ok(known);
    }
    if of_site.count(tx.conn()).await? >= PER_SITE {
        return Err(TrackError::TooMany);
    }
    let row = tracked_hashtag::Model {
        site_id: site,
        folded,
        id: tx.new_id(),
        hashtag: text.trim().to_owned(),
        created_at: tx.now(),
    };
    let key = [tracked_hashtag::Column::SiteId, tracked_hashtag::Column::Folded];
    tracked_hashtag::Entity::insert(tracked_hashtag::ActiveModel::from(row.clone()))
        .on_conflict(OnConflict::columns(key).do_nothing().to_owned())
        .exec_without_returning(tx.conn())
        .await?;
    config::touch(tx, site).await?;
    Ok(row)
}

/// Hashtags of `site` from the newest, after the one called `before`.
pub async fn list(
    db: &impl ConnectionTrait,
    site: SiteId,
    before: Option<Uuid>,
    limit: u64,
) -> Result<Vec<tracked_hashtag::Model>, DbErr> {
    let mut query = tracked_hashtag::Entity::find().filter(tracked_hashtag::Column::SiteId.eq(site));
    if let Some(before) = before {
        query = query.filter(tracked_hashtag::Column::Id.lt(before));
    }
    query.order_by_desc(tracked_hashtag::Column::Id).limit(limit).all(db).await
}

/// Since when each hashtag of `site` is tracked, folded.
pub async fn since(db: &impl ConnectionTrait, site: SiteId) -> Result<HashMap<String, Timestamp>, DbErr> {
    let rows =
        tracked_hashtag::Entity::find().filter(tracked_hashtag::Column::SiteId.eq(site)).all(db).await?;
    Ok(rows.into_iter().map(|row| (row.folded, row.created_at)).collect())
}

/// Tracks hashtag `id` of `site` no longer; says whether there was one.
pub async fn remove(tx: &Tx, site: SiteId, id: Uuid) -> Result<bool, DbErr> {
    let deleted = tracked_hashtag::Entity::delete_many()
        .filter(tracked_hashtag::Column::SiteId.eq(site))
        .filter(tracked_hashtag::Column::Id.eq(id))
        .exec(tx.conn())
        .await?;
    config::touch(tx, site).await?;
    Ok(deleted.rows_affected > 0)
}
