//! People who withdraw: they have removed the app at the platform, or want to be forgotten.

use entity::id::{SiteId, Timestamp};
use entity::kinds::{ConnectionLogin, Platform};
use entity::{connection, deletion_request};
use sea_orm::{
    ColumnTrait as _, Condition, ConnectionTrait, DbErr, EntityTrait as _, QueryFilter as _, QuerySelect as _,
};

use super::flow::is_token;
use super::signed_request::{self, Signed};
use super::{Connections, StoreError, mark_dead};
use crate::seal;

/// What the owner of a connection reads whose person has removed the app.
const REMOVED: &str = "the person who connected the account has removed the app; connect the account again";
/// What every confirmation code begins with.
const CODE_PREFIX: &str = "dl_";
/// How far our clock may be from the platform's, in milliseconds.
const CLOCK_ERROR_MS: i64 = 5 * 60_000;
/// Connections of one person that are dealt with.
const CONNECTIONS_MAX: u64 = 1_000;

impl Connections {
    /// What a signed request to the callback of `login` says; none if it is not signed by the platform.
    #[must_use]
    pub fn signed(&self, login: ConnectionLogin, text: &str) -> Option<Signed> {
        let secrets = match login {
            ConnectionLogin::Facebook => &self.settings.meta.facebook.secrets,
            ConnectionLogin::Instagram => &self.settings.meta.instagram.secrets,
            ConnectionLogin::TiktokBusiness => return None,
        };
        signed_request::verify(secrets, text)
    }

    /// Takes away the tokens of what this person has connected; says of how many connections.
    pub async fn deauthorize(&self, login: ConnectionLogin, signed: &Signed) -> Result<usize, StoreError> {
        let tx = self.db.write().await?;
        let rows = of_person(tx.conn(), login, signed).await?;
        for row in rows.iter().filter(|row| row.dead_since.is_none()) {
            mark_dead(&tx, row, REMOVED).await?;
        }
        tx.commit().await?;
        Ok(rows.len())
    }

    /// Deletes what this person has connected; what it brought is emptied later ([`Connections::forget_due`]). Gives the code under
    /// which they may look up that it was done.
    pub async fn forget(&self, login: ConnectionLogin, signed: &Signed) -> Result<String, StoreError> {
        let code = seal::new_secret(CODE_PREFIX)?;
        let tx = self.db.write().await?;
        let rows = of_person(tx.conn(), login, signed).await?;
        connection::Entity::delete_many()
            .filter(connection::Column::Id.is_in(rows.iter().map(|row| row.id)))
            .exec(tx.conn())
            .await?;
        let accounts: serde_json::Value = rows.iter().map(|row| row.external_id.as_str()).collect();
        let request = deletion_request::Model {
            code: code.clone(),
            platform: Platform::Instagram,
            owner_id: signed.user_id.clone(),
            deleted_count: i32::try_from(rows.len()).unwrap_or(i32::MAX),
            accounts: accounts.to_string(),
            created_at: tx.now(),
            done_at: rows.is_empty().then(|| tx.now()),
        };
        deletion_request::Entity::insert(deletion_request::ActiveModel::from(request))
            .exec_without_returning(tx.conn())
            .await?;
        tx.commit().await?;
        let sites: Vec<SiteId> = rows.iter().map(|row| row.site_id).collect();
        tracing::info!(?sites, count = rows.len(), "connections were deleted at their person's demand");
        Ok(code)
    }

    /// Where the person may look.
    #[must_use]
    pub fn deletion_url(&self, code: &str) -> String {
        format!("{}/privacy/deletion?code={code}", self.public_url)
    }

    /// What became of the demand with this code.
    pub async fn deletion(&self, code: &str) -> Result<Option<deletion_request::Model>, DbErr> {
        if !code.strip_prefix(CODE_PREFIX).is_some_and(is_token) {
            return Ok(None);
        }
        deletion_request::Entity::find_by_id(code).one(self.db.read()).await
    }
}

/// What the person had connected through `login` when the request was issued: one that is told again must not undo a later
/// login.
async fn of_person(
    db: &impl ConnectionTrait,
    login: ConnectionLogin,
    signed: &Signed,
) -> Result<Vec<connection::Model>, DbErr> {
    let mut person = Condition::any().add(connection::Column::OwnerId.eq(signed.user_id.clone()));
    if login == ConnectionLogin::Instagram {
        // Person and account are one there, and have two ids.
        person = person.add(connection::Column::ExternalId.eq(signed.user_id.clone()));
    }
    let mut rows = connection::Entity::find()
        .filter(connection::Column::Platform.eq(Platform::Instagram))
        .filter(connection::Column::Login.eq(login))
        .filter(person)
        .limit(CONNECTIONS_MAX)
        .lock_exclusive()
        .all(db)
        .await?;
    if let Some(issued) = signed.issued_at {
        let latest = Timestamp(issued.saturating_mul(1_000)).plus_ms(CLOCK_ERROR_MS);
        rows.retain(|row| row.created_at <= latest && connected_at(row) <= latest);
    }
    Ok(rows)
}

/// When somebody last logged in for this connection. A Facebook token is never renewed by itself; one of Instagram Login is,
/// and then only the first login is known.
fn connected_at(row: &connection::Model) -> Timestamp {
    match row.login {
        ConnectionLogin::Facebook => row.token_issued_at.unwrap_or(row.created_at),
        ConnectionLogin::Instagram | ConnectionLogin::TiktokBusiness => row.created_at,
    }
}
