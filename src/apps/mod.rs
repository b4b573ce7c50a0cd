//! Apps, external systems with secrets and signing keys, and their installations on sites.

pub mod api;
pub mod keys;
pub mod secrets;

use entity::id::{AppId, AppInstanceId, SiteId};
use entity::{app, app_instance, subscription};
use sea_orm::{
    ColumnTrait, Condition, ConnectionTrait, DbErr, EntityTrait, QueryFilter, QueryOrder, QuerySelect,
};

use crate::access::Scope;
use crate::db::Tx;
use crate::sites::config;

/// What every installed app may do on the site.
pub const SCOPES: [Scope; 2] = [Scope::ReadLoyalty, Scope::ManageLoyalty];

/// Whose apps a caller sees: the operator sees all, a site sees those that it made and those installed on it.
#[derive(Debug, Clone, Copy)]
pub enum Viewer {
    /// An instance-wide key.
    Operator,
    /// A key of this site.
    Site(SiteId),
}

/// Stores a new app with `secret`.
pub async fn create_app(
    tx: &Tx,
    owner: Option<SiteId>,
    name: String,
    secret: &str,
) -> Result<app::Model, DbErr> {
    let model = app::Model {
        id: AppId(tx.new_id()),
        owner_site_id: owner,
        name,
        created_at: tx.now(),
        updated_at: tx.now(),
    };
    app::Entity::insert(app::ActiveModel::from(model.clone())).exec_without_returning(tx.conn()).await?;
    secrets::add(tx, model.id, secret).await?;
    Ok(model)
}

/// The app `id` if `viewer` may change it.
pub async fn find_own_app(
    db: &impl ConnectionTrait,
    viewer: Viewer,
    id: AppId,
) -> Result<Option<app::Model>, DbErr> {
    let query = app::Entity::find_by_id(id);
    match viewer {
        Viewer::Operator => query.one(db).await,
        Viewer::Site(site) => query.filter(app::Column::OwnerSiteId.eq(site)).one(db).await,
    }
}

/// The app `id` if `viewer` may see it.
pub async fn find_visible_app(
    db: &impl ConnectionTrait,
    viewer: Viewer,
    id: AppId,
) -> Result<Option<app::Model>, DbErr> {
    app::Entity::find_by_id(id).filter(visible(viewer)).one(db).await
}

/// Apps that `viewer` may see, from the newest, after `before`.
pub async fn list_apps(
    db: &impl ConnectionTrait,
    viewer: Viewer,
    before: Option<AppId>,
    limit: u64,
) -> Result<Vec<app::Model>, DbErr> {
    let mut query = app::Entity::find().filter(visible(viewer));
    if let Some(before) = before {
        query = query.filter(app::Column::Id.lt(before));
    }
    query.order_by_desc(app::Column::Id).limit(limit).all(db).await
}

fn visible(viewer: Viewer) -> Condition {
    match viewer {
        Viewer::Operator => Condition::all(),
        Viewer::Site(site) => {
            let installed = app_instance::Entity::find()
                .select_only()
                .column(app_instance::Column::AppId)
                .filter(app_instance::Column::SiteId.eq(site));
            Condition::any()
                .add(app::Column::OwnerSiteId.eq(site))
                .add(app::Column::Id.in_subquery(sea_orm::QueryTrait::into_query(installed)))
        }
    }
}

/// Installs `app` on `site`; an app that is there already keeps its installation.
pub async fn install(tx: &Tx, site: SiteId, app: AppId) -> Result<app_instance::Model, DbErr> {
    config::hold_alone(tx, site).await?;
    if let Some(existing) = find_instance_of(tx.conn(), site, app).await? {
        return Ok(existing);
    }
    let model = app_instance::Model {
        id: AppInstanceId(tx.new_id()),
        site_id: site,
        app_id: app,
        created_at: tx.now(),
    };
    app_instance::Entity::insert(app_instance::ActiveModel::from(model.clone()))
        .exec_without_returning(tx.conn())
        .await?;
    Ok(model)
}

/// The installation of `app` on `site`.
pub async fn find_instance_of(
    db: &impl ConnectionTrait,
    site: SiteId,
    app: AppId,
) -> Result<Option<app_instance::Model>, DbErr> {
    app_instance::Entity::find()
        .filter(app_instance::Column::SiteId.eq(site))
        .filter(app_instance::Column::AppId.eq(app))
        .one(db)
        .await
}

/// The installation `id` on `site`.
pub async fn find_instance(
    db: &impl ConnectionTrait,
    site: SiteId,
    id: AppInstanceId,
) -> Result<Option<app_instance::Model>, DbErr> {
    app_instance::Entity::find_by_id(id).filter(app_instance::Column::SiteId.eq(site)).one(db).await
}

/// Installations on `site` from the newest, after `before`.
pub async fn list_instances(
    db: &impl ConnectionTrait,
    site: SiteId,
    before: Option<AppInstanceId>,
    limit: u64,
) -> Result<Vec<app_instance::Model>, DbErr> {
    let mut query = app_instance::Entity::find().filter(app_instance::Column::SiteId.eq(site));
    if let Some(before) = before {
        query = query.filter(app_instance::Column::Id.lt(before));
    }
    query.order_by_desc(app_instance::Column::Id).limit(limit).all(db).await
}

/// Why an installation was not removed.
#[derive(Debug, thiserror::Error)]
pub enum UninstallError {
    /// The site has no such installation.
    #[error("there is no such installation")]
    NotFound,
    /// It still has webhook subscriptions.
    #[error("the installation has webhook subscriptions; delete them first")]
    HasSubscriptions,
    /// The database failed.
    #[error("the database failed")]
    Store(#[from] DbErr),
}

/// Removes the installation `id` from `site`. Its tokens stop working.
pub async fn uninstall(tx: &Tx, site: SiteId, id: AppInstanceId) -> Result<(), UninstallError> {
    config::touch(tx, site).await?;
    find_instance(tx.conn(), site, id).await?.ok_or(UninstallError::NotFound)?;
    let subscription = subscription::Entity::find()
        .filter(subscription::Column::AppInstanceId.eq(id))
        .one(tx.conn())
        .await?;
    if subscription.is_some() {
        return Err(UninstallError::HasSubscriptions);
    }
    app_instance::Entity::delete_by_id(id).exec(tx.conn()).await?;
    Ok(())
}
