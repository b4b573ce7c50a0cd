//! The last step of a login: the account is subscribed to and stored, in the transaction that uses the invitation up.

use entity::id::ConnectionId;
use entity::kinds::{ConnectionLogin, InvitationStatus};
use entity::{connection, connection_invitation as invitation};
use sea_orm::{
    ActiveModelTrait as _, ColumnTrait as _, ConnectionTrait, DbErr, EntityTrait as _, IntoActiveModel as _,
    QueryFilter as _, QuerySelect as _,
};

use super::calls::CallError;
use super::flow::{Outcome, closed, unchanged};
use super::health::CHECK_EVERY_MS;
use super::login::Candidate;
use super::{Connections, REFRESH_PURPOSE, StoreError, TOKEN_PURPOSE, facebook, instagram_login, login};
use crate::db::{TRIES_MAX, Tx, lost_a_race};

/// What the owner of another site's account is told, and what stands with the invitation.
const ELSEWHERE: &str =
    "this account is connected to another site of this installation; it must be disconnected there first";

impl Connections {
    /// Connects `account` to the invitation's site.
    pub(super) async fn connect(
        &self,
        row: &invitation::Model,
        account: &Candidate,
    ) -> Result<Outcome, StoreError> {
        // Before the platform is told anything.
        if let Some(known) = by_account(self.db.read(), row, account).await?
            && known.site_id != row.site_id
        {
            return self.elsewhere(row).await;
        }
        let mut account = account.clone();
        match self.subscribe(row.login, &account).await {
            Ok(()) => {}
            // Declined, which must not keep what works without it from working.
            Err(CallError::Permission(_)) => {
                let scope = subscribing(row.login)
                    .filter(|scope| !account.missing.iter().any(|known| known == scope));
                account.missing.extend(scope.map(str::to_owned));
            }
            Err(error) => return self.failed(row, &error.to_string()).await,
        }
        for _ in 1..TRIES_MAX {
            match self.store(row, &account).await {
                // Somebody else connects the same account at this moment.
                Err(StoreError::Store(error)) if lost_a_race(&error) => {}
                Ok(Outcome::Elsewhere) => return self.elsewhere(row).await,
                stored => return stored,
            }
        }
        self.store(row, &account).await
    }

    async fn elsewhere(&self, row: &invitation::Model) -> Result<Outcome, StoreError> {
        self.fail(row, ELSEWHERE).await?;
        Ok(Outcome::Elsewhere)
    }

    async fn store(&self, row: &invitation::Model, account: &Candidate) -> Result<Outcome, StoreError> {
        let tx = self.db.write().await?;
        let current =
            invitation::Entity::find().filter(unchanged(row)).lock_exclusive().one(tx.conn()).await?;
        let Some(mut current) = current else {
            let now = invitation::Entity::find_by_id(row.id).one(tx.conn()).await?;
            return Ok(now.and_then(|row| closed(&row, tx.now())).unwrap_or(Outcome::Strange));
        };
        if let Some(closed) = closed(&current, tx.now()) {
            return Ok(closed);
        }
        let known = by_account(tx.conn(), row, account).await?;
        if known.as_ref().is_some_and(|known| known.site_id != row.site_id) {
            return Ok(Outcome::Elsewhere);
        }
        let connection = self.write(&tx, row, account, known).await?;
        current.status = InvitationStatus::Used;
        current.problem = None;
        current.candidates = None;
        current.connection_id = Some(connection);
        current.updated_at = tx.now();
        current.into_active_model().reset_all().update(tx.conn()).await?;
        tx.commit().await?;
        Ok(Outcome::Done { username: account.username.clone(), missing: account.missing.clone() })
    }

    /// Makes the connection, or renews the one `known`.
    async fn write(
        &self,
        tx: &Tx,
        row: &invitation::Model,
        account: &Candidate,
        known: Option<connection::Model>,
    ) -> Result<ConnectionId, StoreError> {
        let seal = |purpose, text: &str| self.sealer.seal(purpose, text.as_bytes());
        let is_new = known.is_none();
        let before = known.as_ref();
        let model = connection::Model {
            id: before.map_or_else(|| ConnectionId(tx.new_id()), |known| known.id),
            site_id: row.site_id,
            platform: row.platform,
            login: row.login,
            external_id: account.id.clone(),
            username: account.username.clone().or_else(|| before.and_then(|known| known.username.clone())),
            page_id: account.page.as_ref().map(|(id, _)| id.clone()),
            owner_id: account.owner.clone(),
            token: Some(seal(TOKEN_PURPOSE, &account.token)?),
            refresh_token: account
                .refresh_token
                .as_deref()
                .map(|text| seal(REFRESH_PURPOSE, text))
                .transpose()?,
            token_issued_at: Some(tx.now()),
            token_expires_at: account.expires_at,
            missing_permissions: serde_json::Value::from(account.missing.clone()).to_string(),
            dead_since: None,
            problem: None,
            limited_until: None,
            last_item_at: before.and_then(|known| known.last_item_at),
            poll_due_at: tx.now(),
            has_polled: before.is_some_and(|known| known.has_polled),
            check_due_at: tx.now().plus_ms(CHECK_EVERY_MS),
            created_at: before.map_or(tx.now(), |known| known.created_at),
            updated_at: tx.now(),
        };
        let id = model.id;
        if is_new {
            let model = connection::ActiveModel::from(model);
            connection::Entity::insert(model).exec_without_returning(tx.conn()).await?;
        } else {
            model.into_active_model().reset_all().update(tx.conn()).await?;
        }
        Ok(id)
    }

    /// Has the platform send what happens to the account; those of `TikTok` are subscribed to by app.
    pub(super) async fn subscribe(
        &self,
        login: ConnectionLogin,
        account: &Candidate,
    ) -> Result<(), CallError> {
        match (login, &account.page) {
            (ConnectionLogin::Facebook, Some((page, _))) => match self.facebook() {
                Some(facebook) => facebook.subscribe(page, &account.token).await,
                None => Ok(()),
            },
            (ConnectionLogin::Instagram, _) => match self.instagram_login() {
                Some(instagram) => instagram.subscribe(&account.id, &account.token).await,
                None => Ok(()),
            },
            (ConnectionLogin::Facebook, None) | (ConnectionLogin::TiktokBusiness, _) => Ok(()),
        }
    }

    /// Asks the platform to send no more for a connection that was deleted. It may fail: what still comes is for no account.
    pub(super) async fn unsubscribe(&self, row: &connection::Model) {
        let Some(token) = self.token(row) else { return };
        let done = match (row.login, &row.page_id) {
            (ConnectionLogin::Facebook, Some(page)) => match self.facebook() {
                Some(facebook) => facebook.unsubscribe(page, &token).await,
                None => Ok(()),
            },
            (ConnectionLogin::Instagram, _) => match self.instagram_login() {
                Some(instagram) => instagram.unsubscribe(&row.external_id, &token).await,
                None => Ok(()),
            },
            (ConnectionLogin::Facebook, None) | (ConnectionLogin::TiktokBusiness, _) => Ok(()),
        };
        if let Err(error) = done {
            tracing::info!(connection.id = %row.id, %error, "the platform was not told to send no more");
        }
    }
}

/// The permission that a subscription needs, where there is one.
pub(super) const fn subscribing(login: ConnectionLogin) -> Option<&'static str> {
    match login {
        ConnectionLogin::Facebook => Some(facebook::SUBSCRIBES),
        ConnectionLogin::Instagram => Some(instagram_login::NEEDED),
        ConnectionLogin::TiktokBusiness => None,
    }
}

/// The connection of an account, of whichever site, locked where that is possible.
async fn by_account(
    db: &impl ConnectionTrait,
    row: &invitation::Model,
    account: &Candidate,
) -> Result<Option<connection::Model>, DbErr> {
    connection::Entity::find()
        .filter(connection::Column::Platform.eq(login::platform(row.login)))
        .filter(connection::Column::ExternalId.eq(account.id.clone()))
        .lock_exclusive()
        .one(db)
        .await
}
