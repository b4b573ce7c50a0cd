//! Sites: the tenants. Making one makes its loyalty program, still a draft.

pub mod api;
pub mod config;

use entity::id::SiteId;
use entity::kinds::ProgramStatus;
use entity::{program, site};
use sea_orm::{
    ActiveModelTrait, ActiveValue::Set, ColumnTrait, ConnectionTrait, DbErr, EntityTrait, QueryFilter,
    QueryOrder, QuerySelect,
};

use crate::db::Tx;

/// Makes a site and its program.
pub async fn create_site(tx: &Tx, name: String) -> Result<site::Model, DbErr> {
    let model = site::Model {
        id: SiteId(tx.new_id()),
        config_version: 1,
        settings_revision: 1,
        auth_revision: 1,
        created_at: tx.now(),
        updated_at: tx.now(),
        name,
    };
    site::Entity::insert(site::ActiveModel::from(model.clone())).exec_without_returning(tx.conn()).await?;
    let program = program::Model {
        site_id: model.id,
        name: "Loyalty program".to_owned(),
        point_name: None,
        status: ProgramStatus::Draft,
        created_at: tx.now(),
        updated_at: tx.now(),
    };
    program::Entity::insert(program::ActiveModel::from(program)).exec_without_returning(tx.conn()).await?;
    Ok(model)
}

/// The site `id`.
pub async fn find_site(db: &impl ConnectionTrait, id: SiteId) -> Result<Option<site::Model>, DbErr> {
    site::Entity::find_by_id(id).one(db).await
}

/// Sites from the newest, after `before`; only `own` for a caller that has one.
pub async fn list_sites(
    db: &impl ConnectionTrait,
    own: Option<SiteId>,
    before: Option<SiteId>,
    limit: u64,
) -> Result<Vec<site::Model>, DbErr> {
    let mut query = site::Entity::find();
    if let Some(own) = own {
        query = query.filter(site::Column::Id.eq(own));
    }
    if let Some(before) = before {
        query = query.filter(site::Column::Id.lt(before));
    }
    query.order_by_desc(site::Column::Id).limit(limit).all(db).await
}

/// Renames a site; `None` for an unknown one.
pub async fn rename_site(tx: &Tx, id: SiteId, name: String) -> Result<Option<site::Model>, DbErr> {
    if find_site(tx.conn(), id).await?.is_none() {
        return Ok(None);
    }
    let change =
        site::ActiveModel { id: Set(id), name: Set(name), updated_at: Set(tx.now()), ..Default::default() };
    change.update(tx.conn()).await.map(Some)
}
