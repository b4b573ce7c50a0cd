//! Connections: the brand's accounts on platforms, with sealed tokens.
//!
//! An owner makes an invitation, whose link works once ([`invitations`]). Whoever opens it logs in at the platform
//! ([`flow`]), and the account that comes back is stored with its token in the transaction that uses the invitation up. From then on
//! [`health`] looks after it, until it is deleted or the platform says that the person has withdrawn ([`withdrawal`]); what it brought is
//! forgotten if they want that.

pub mod api;
mod calls;
pub mod connect_api;
mod connecting;
mod facebook;
pub mod flow;
mod forgetting;
pub mod health;
mod instagram_login;
pub mod invitation_api;
pub mod invitations;
mod login;
mod pages;
pub mod signed_request;
pub mod state;
mod tiktok_business;
pub mod withdrawal;
pub mod withdrawal_api;

use std::sync::Arc;

use entity::connection;
use entity::id::{ConnectionId, SiteId};
use sea_orm::sea_query::Expr;
use sea_orm::{
    ColumnTrait as _, ConnectionTrait, DbErr, EntityTrait as _, QueryFilter as _, QueryOrder as _,
    QuerySelect as _,
};

use self::calls::Calls;
use crate::db::{Db, Tx};
use crate::outbound::Client;
use crate::seal::{SealError, Sealer};
use crate::sources::settings::PlatformSettings;

/// What access tokens are sealed for.
pub const TOKEN_PURPOSE: &str = "connection-token";
/// What refresh tokens are sealed for.
pub const REFRESH_PURPOSE: &str = "connection-refresh";

/// Connects accounts and looks after them. Cheap to clone.
#[derive(Clone)]
pub struct Connections {
    db: Db,
    sealer: Sealer,
    calls: Calls,
    settings: Arc<PlatformSettings>,
    public_url: Arc<str>,
}

/// What went wrong inside.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// The database.
    #[error(transparent)]
    Store(#[from] DbErr),
    /// A token could not be sealed or opened.
    #[error(transparent)]
    Seal(#[from] SealError),
}

impl Connections {
    /// Connects accounts at the platforms of `settings`; people reach this service at `public_url`.
    #[must_use]
    pub fn new(db: Db, sealer: Sealer, client: Client, settings: PlatformSettings, public_url: &str) -> Self {
        Self {
            db,
            sealer,
            calls: Calls::new(client),
            settings: Arc::new(settings),
            public_url: public_url.into(),
        }
    }

    /// How the outside reaches this service, without a slash at the end.
    #[must_use]
    pub fn public_url(&self) -> &str {
        &self.public_url
    }

    /// Deletes a connection of `site` with its tokens, and asks the platform, which may fail, to send no more; says whether there
    /// was one.
    pub async fn delete(&self, site: SiteId, id: ConnectionId) -> Result<bool, DbErr> {
        let tx = self.db.write().await?;
        let Some(row) = find(tx.conn(), site, id).await? else { return Ok(false) };
        connection::Entity::delete_by_id(id).exec(tx.conn()).await?;
        tx.commit().await?;
        self.unsubscribe(&row).await;
        Ok(true)
    }

    /// The access token of a connection, if it has one that can be opened.
    fn token(&self, row: &connection::Model) -> Option<String> {
        open(&self.sealer, TOKEN_PURPOSE, row.token.as_deref())
    }
}

fn open(sealer: &Sealer, purpose: &str, stored: Option<&[u8]>) -> Option<String> {
    let token = sealer.open(purpose, stored?);
    if token.is_err() {
        tracing::warn!(purpose, "a stored token cannot be opened");
    }
    String::from_utf8(token.ok()?).ok()
}

/// The connection `id` of `site`.
pub async fn find(
    db: &impl ConnectionTrait,
    site: SiteId,
    id: ConnectionId,
) -> Result<Option<connection::Model>, DbErr> {
    connection::Entity::find_by_id(id).filter(connection::Column::SiteId.eq(site)).one(db).await
}

/// Connections of `site` from the newest, after `before`.
pub async fn list(
    db: &impl ConnectionTrait,
    site: SiteId,
    before: Option<ConnectionId>,
    limit: u64,
) -> Result<Vec<connection::Model>, DbErr> {
    let mut query = connection::Entity::find().filter(connection::Column::SiteId.eq(site));
    if let Some(before) = before {
        query = query.filter(connection::Column::Id.lt(before));
    }
    query.order_by_desc(connection::Column::Id).limit(limit).all(db).await
}

/// Takes the tokens of a connection away: it must be connected anew. One that was meanwhile is left as it is.
async fn mark_dead(tx: &Tx, row: &connection::Model, problem: &str) -> Result<(), DbErr> {
    connection::Entity::update_many()
        .col_expr(connection::Column::Token, Expr::val(None::<Vec<u8>>))
        .col_expr(connection::Column::RefreshToken, Expr::val(None::<Vec<u8>>))
        .col_expr(connection::Column::DeadSince, Expr::val(tx.now().0))
        .col_expr(connection::Column::Problem, Expr::val(problem))
        .col_expr(connection::Column::UpdatedAt, Expr::val(tx.now().0))
        .filter(connection::Column::Id.eq(row.id))
        .filter(connection::Column::Token.eq(row.token.clone()))
        .exec(tx.conn())
        .await?;
    Ok(())
}
