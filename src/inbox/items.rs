//! What an owner sees of the inbox: everything that a platform sent for the site, and how far the work on it is.

use entity::id::{ItemId, SiteId};
use entity::item;
use entity::kinds::ItemStatus;
use sea_orm::sea_query::Expr;
use sea_orm::{ColumnTrait, ConnectionTrait, DbErr, EntityTrait, QueryFilter, QueryOrder, QuerySelect};
use serde::{Deserialize, Serialize};

/// Which things to list.
#[derive(Debug, Default, Clone, Serialize, Deserialize)]
pub struct ItemFilter {
    /// So far.
    pub status: Option<ItemStatus>,
    /// Of this kind, in the words of the parser.
    pub kind: Option<String>,
}

/// Things of `site` from the newest, after `before`.
pub async fn list_items(
    db: &impl ConnectionTrait,
    site: SiteId,
    filter: &ItemFilter,
    before: Option<ItemId>,
    limit: u64,
) -> Result<Vec<item::Model>, DbErr> {
    let mut query = item::Entity::find().filter(item::Column::SiteId.eq(site));
    if let Some(status) = filter.status {
        query = query.filter(item::Column::Status.eq(status));
        if status != ItemStatus::Done {
            // In the words of the index of what is not done, or it would not be used.
            query = query.filter(Expr::cust("status <> 'DONE'"));
        }
    }
    if let Some(kind) = &filter.kind {
        query = query.filter(item::Column::Kind.eq(kind));
    }
    if let Some(before) = before {
        query = query.filter(item::Column::Id.lt(before));
    }
    query.order_by_desc(item::Column::Id).limit(limit).all(db).await
}

/// The thing `id`, if it is of `site`.
pub async fn find_item(
    db: &impl ConnectionTrait,
    site: SiteId,
    id: ItemId,
) -> Result<Option<item::Model>, DbErr> {
    item::Entity::find_by_id(id).filter(item::Column::SiteId.eq(site)).one(db).await
}
