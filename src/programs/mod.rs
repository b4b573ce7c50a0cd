//! The loyalty program of a site: members earn only while it is active.

pub mod api;

use entity::id::SiteId;
use entity::kinds::ProgramStatus;
use entity::program;
use sea_orm::{ActiveModelTrait, ConnectionTrait, DbErr, EntityTrait, IntoActiveModel};

use crate::change::Change;
use crate::db::Tx;
use crate::sites::config;

/// A change to a program; what is `None` or kept stays.
#[derive(Debug, Default)]
pub struct ProgramChange {
    /// 2 to 50 characters.
    pub name: Option<String>,
    /// What the points are called.
    pub point_name: Change<String>,
    /// Start or pause it.
    pub status: Option<ProgramStatus>,
}

/// The program of `site`.
pub async fn find_program(db: &impl ConnectionTrait, site: SiteId) -> Result<Option<program::Model>, DbErr> {
    program::Entity::find_by_id(site).one(db).await
}

/// Changes the program of `site`; `None` for an unknown site.
pub async fn change_program(
    tx: &Tx,
    site: SiteId,
    change: ProgramChange,
) -> Result<Option<program::Model>, DbErr> {
    config::touch(tx, site).await?;
    let Some(mut row) = find_program(tx.conn(), site).await? else {
        return Ok(None);
    };
    if let Some(name) = change.name {
        row.name = name;
    }
    row.point_name = change.point_name.applied(row.point_name);
    if let Some(status) = change.status {
        row.status = status;
    }
    row.updated_at = tx.now();
    row.clone().into_active_model().reset_all().update(tx.conn()).await?;
    Ok(Some(row))
}
