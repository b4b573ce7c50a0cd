//! API keys: made once, shown once, kept as a hash.

use entity::api_key;
use entity::id::{ApiKeyId, SiteId};
use sea_orm::{ColumnTrait, ConnectionTrait, DbErr, EntityTrait, QueryFilter, QueryOrder, QuerySelect};

use super::Scope;
use crate::db::Tx;
use crate::seal;

/// Every key begins so, which tells it from a token and lets leaks be searched for.
pub const PREFIX: &str = "fpk_";

/// Makes a key with `secret`, of one site or instance-wide.
pub async fn create_api_key(
    tx: &Tx,
    site: Option<SiteId>,
    name: String,
    scopes: &[Scope],
    secret: &str,
) -> Result<api_key::Model, DbErr> {
    let names: Vec<_> = scopes.iter().map(|scope| scope.as_str()).collect();
    let model = api_key::Model {
        id: ApiKeyId(tx.new_id()),
        site_id: site,
        name,
        secret_hash: seal::hash(secret).to_vec(),
        scopes: serde_json::Value::from(names).to_string(),
        created_at: tx.now(),
    };
    api_key::Entity::insert(api_key::ActiveModel::from(model.clone()))
        .exec_without_returning(tx.conn())
        .await?;
    Ok(model)
}

/// The scopes of a key.
#[must_use]
pub fn scopes(key: &api_key::Model) -> Vec<Scope> {
    let names: Vec<String> = serde_json::from_str(&key.scopes).unwrap_or_default();
    names.iter().filter_map(|name| Scope::parse(name)).collect()
}

/// The key with this secret.
pub async fn find_by_secret(
    db: &impl ConnectionTrait,
    secret: &str,
) -> Result<Option<api_key::Model>, DbErr> {
    api_key::Entity::find().filter(api_key::Column::SecretHash.eq(seal::hash(secret).to_vec())).one(db).await
}

/// Keys of `site`, or the instance-wide ones, from the newest, after `before`.
pub async fn list_api_keys(
    db: &impl ConnectionTrait,
    site: Option<SiteId>,
    before: Option<ApiKeyId>,
    limit: u64,
) -> Result<Vec<api_key::Model>, DbErr> {
    let mut query = api_key::Entity::find().filter(of_site(site));
    if let Some(before) = before {
        query = query.filter(api_key::Column::Id.lt(before));
    }
    query.order_by_desc(api_key::Column::Id).limit(limit).all(db).await
}

/// Deletes a key; says whether there was one.
pub async fn delete_api_key(tx: &Tx, site: Option<SiteId>, id: ApiKeyId) -> Result<bool, DbErr> {
    let deleted = api_key::Entity::delete_many()
        .filter(of_site(site))
        .filter(api_key::Column::Id.eq(id))
        .exec(tx.conn())
        .await?;
    Ok(deleted.rows_affected == 1)
}

fn of_site(site: Option<SiteId>) -> sea_orm::sea_query::SimpleExpr {
    match site {
        Some(site) => api_key::Column::SiteId.eq(site),
        None => api_key::Column::SiteId.is_null(),
    }
}
