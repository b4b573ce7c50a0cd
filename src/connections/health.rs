//! Looking after connections: whether the platform still accepts the token and still sends, and tokens renewed before they end.

use entity::connection;
use entity::id::Timestamp;
use entity::kinds::ConnectionLogin;
use sea_orm::sea_query::{Expr, LockBehavior, LockType};
use sea_orm::{
    ActiveModelTrait as _, ColumnTrait as _, DbErr, EntityTrait as _, ExprTrait as _, IntoActiveModel as _,
    QueryFilter as _, QueryOrder as _, QuerySelect as _,
};

use super::calls::CallError;
use super::connecting::subscribing;
use super::instagram_login::Renewed;
use super::state::missing_permissions;
use super::{Connections, REFRESH_PURPOSE, StoreError, TOKEN_PURPOSE, mark_dead, open};

/// How often a connection is looked at, in milliseconds. Whoever looks has it for himself as long.
pub const CHECK_EVERY_MS: i64 = 3_600_000;
/// Connections that one look takes.
const LOOK_MAX: u64 = 20;
/// How old a token of Instagram Login must be to be renewed, in milliseconds: the platform refuses before.
const RENEWABLE_MS: i64 = 24 * 3_600_000;
/// How old it may become, in milliseconds.
const RENEW_MS: i64 = 7 * 24 * 3_600_000;
/// How long before its end it is renewed at the latest, and one of `TikTok` at all, in milliseconds.
const RENEW_BEFORE_MS: i64 = 7 * 24 * 3_600_000;
const RENEW_TIKTOK_BEFORE_MS: i64 = 12 * 3_600_000;
/// How long the accounts of a choice are kept that nobody makes, in milliseconds.
const CHOICE_MS: i64 = 3_600_000;

impl Connections {
    /// Looks after the connections whose time has come; says how many those were. Any number of nodes may do so at once.
    pub async fn check_due(&self) -> Result<usize, StoreError> {
        self.forget_choices().await?;
        let due = self.claim().await?;
        for row in &due {
            // One that cannot be stored must not keep the others waiting.
            if let Err(error) = self.check(row).await {
                tracing::warn!(connection.id = %row.id, %error, "a connection could not be looked after");
            }
        }
        Ok(due.len())
    }

    /// Accounts that nobody chose are tokens that nobody needs.
    async fn forget_choices(&self) -> Result<(), DbErr> {
        use entity::connection_invitation::{Column, Entity};
        let before = self.db.now().plus_ms(-CHOICE_MS);
        let old =
            || Entity::find().filter(Column::Candidates.is_not_null()).filter(Column::UpdatedAt.lte(before));
        if old().one(self.db.read()).await?.is_none() {
            return Ok(());
        }
        let tx = self.db.write().await?;
        Entity::update_many()
            .col_expr(Column::Candidates, Expr::val(None::<Vec<u8>>))
            .filter(Column::Candidates.is_not_null())
            .filter(Column::UpdatedAt.lte(before))
            .exec(tx.conn())
            .await?;
        tx.commit().await
    }

    async fn claim(&self) -> Result<Vec<connection::Model>, DbErr> {
        let due = |now: Timestamp| {
            connection::Entity::find()
                .filter(connection::Column::CheckDueAt.lte(now))
                .filter(connection::Column::DeadSince.is_null())
                .order_by_asc(connection::Column::CheckDueAt)
                .limit(LOOK_MAX)
        };
        // Most often there is nothing, and then nothing is written.
        if due(self.db.now()).one(self.db.read()).await?.is_none() {
            return Ok(Vec::new());
        }
        let tx = self.db.write().await?;
        let lock = (LockType::Update, LockBehavior::SkipLocked);
        let mut rows = due(tx.now()).lock_with_behavior(lock.0, lock.1).all(tx.conn()).await?;
        let next = tx.now().plus_ms(CHECK_EVERY_MS);
        connection::Entity::update_many()
            .col_expr(connection::Column::CheckDueAt, Expr::val(next.0))
            .filter(connection::Column::Id.is_in(rows.iter().map(|row| row.id)))
            .exec(tx.conn())
            .await?;
        tx.commit().await?;
        for row in &mut rows {
            row.check_due_at = next;
        }
        Ok(rows)
    }

    async fn check(&self, row: &connection::Model) -> Result<(), StoreError> {
        let now = self.db.now();
        if row.limited_until.is_some_and(|until| until > now) {
            return Ok(());
        }
        let Some(token) = self.token(row) else {
            let tx = self.db.write().await?;
            mark_dead(&tx, row, "the stored token cannot be opened").await?;
            return Ok(tx.commit().await?);
        };
        let renewed = match self.renew(row, &token, now).await {
            Ok(None) => None,
            // Stored before it is used: the old one may be good no longer.
            Ok(Some(new)) => match self.keep(row, new).await? {
                None => return Ok(()),
                kept => kept,
            },
            Err(error) => return self.note(row, &error).await,
        };
        let (row, token) =
            renewed.as_ref().map_or((row, token.as_str()), |(row, token)| (row, token.as_str()));
        match self.ask(row, token).await {
            Ok(()) => self.note_well(row).await,
            Err(error) => self.note(row, &error).await,
        }
    }

    /// A new token, if it is time for one.
    async fn renew(
        &self,
        row: &connection::Model,
        token: &str,
        now: Timestamp,
    ) -> Result<Option<Renewed>, CallError> {
        let is_over = row.token_expires_at.is_some_and(|end| end <= now);
        let ends_within = |ms| row.token_expires_at.is_some_and(|end| end.0 <= now.plus_ms(ms).0);
        let age = row.token_issued_at.map_or(i64::MAX, |at| now.0.saturating_sub(at.0));
        match row.login {
            // Tokens of pages do not end.
            ConnectionLogin::Facebook => Ok(None),
            // It can be renewed only while it is good.
            ConnectionLogin::Instagram if is_over => Err(CallError::Dead("it has ended".to_owned())),
            ConnectionLogin::Instagram => {
                let is_time = age >= RENEW_MS || ends_within(RENEW_BEFORE_MS);
                match self.instagram_login().filter(|_| is_time && age >= RENEWABLE_MS) {
                    Some(instagram) => instagram.refresh(token, now).await.map(Some),
                    None => Ok(None),
                }
            }
            ConnectionLogin::TiktokBusiness => {
                let refresh = open(&self.sealer, REFRESH_PURPOSE, row.refresh_token.as_deref());
                match (self.tiktok_business(), refresh) {
                    (Some(tiktok), Some(refresh)) if ends_within(RENEW_TIKTOK_BEFORE_MS) => {
                        tiktok.refresh(&refresh, now).await.map(Some)
                    }
                    (_, None) if is_over => Err(CallError::Dead("it has ended".to_owned())),
                    _ => Ok(None),
                }
            }
        }
    }

    /// Stores a new token; nothing if the connection was meanwhile deleted, or connected anew.
    async fn keep(
        &self,
        row: &connection::Model,
        new: Renewed,
    ) -> Result<Option<(connection::Model, String)>, StoreError> {
        let token = self.sealer.seal(TOKEN_PURPOSE, new.token.as_bytes())?;
        let refresh = new.refresh_token.as_deref();
        let refresh = refresh.map(|text| self.sealer.seal(REFRESH_PURPOSE, text.as_bytes())).transpose()?;
        let tx = self.db.write().await?;
        let current = connection::Entity::find_by_id(row.id)
            .filter(connection::Column::Token.eq(row.token.clone()))
            .lock_exclusive()
            .one(tx.conn())
            .await?;
        let Some(mut current) = current else { return Ok(None) };
        current.token = Some(token);
        current.refresh_token = refresh.or(current.refresh_token);
        current.token_issued_at = Some(tx.now());
        current.token_expires_at = new.expires_at;
        current.updated_at = tx.now();
        current.clone().into_active_model().reset_all().update(tx.conn()).await?;
        tx.commit().await?;
        Ok(Some((current, new.token)))
    }

    /// Whether the platform accepts the token and sends; it is asked to send where it does not.
    async fn ask(&self, row: &connection::Model, token: &str) -> Result<(), CallError> {
        match (row.login, &row.page_id) {
            (ConnectionLogin::Facebook, Some(page)) => {
                let Some(facebook) = self.facebook() else { return Ok(()) };
                if facebook.is_subscribed(page, token).await? {
                    return Ok(());
                }
                facebook.subscribe(page, token).await
            }
            (ConnectionLogin::Instagram, _) => {
                let Some(instagram) = self.instagram_login() else { return Ok(()) };
                if instagram.is_subscribed(&row.external_id, token).await? {
                    return Ok(());
                }
                instagram.subscribe(&row.external_id, token).await
            }
            // `TikTok` has nothing to ask; that the token was renewed tells.
            (ConnectionLogin::Facebook, None) | (ConnectionLogin::TiktokBusiness, _) => Ok(()),
        }
    }

    async fn note_well(&self, row: &connection::Model) -> Result<(), StoreError> {
        let mut missing = missing_permissions(row);
        let before = missing.len();
        // The platform has just done what needs it.
        missing.retain(|scope| subscribing(row.login) != Some(scope.as_str()));
        if row.problem.is_none() && row.limited_until.is_none() && missing.len() == before {
            return Ok(());
        }
        self.write_note(row, None, None, &missing).await
    }

    async fn note(&self, row: &connection::Model, error: &CallError) -> Result<(), StoreError> {
        let text = error.to_string();
        let mut missing = missing_permissions(row);
        match error {
            CallError::Dead(_) => {
                let tx = self.db.write().await?;
                mark_dead(&tx, row, &text).await?;
                Ok(tx.commit().await?)
            }
            CallError::Limited(ms) => {
                let until = self.db.now().plus_ms(*ms);
                self.write_note(row, Some(&text), Some(until), &missing).await
            }
            CallError::Permission(_) => {
                let scope =
                    subscribing(row.login).filter(|scope| !missing.iter().any(|known| known == scope));
                missing.extend(scope.map(str::to_owned));
                self.write_note(row, Some(&text), row.limited_until, &missing).await
            }
            CallError::Refused(_) | CallError::Unavailable(_) => {
                self.write_note(row, Some(&text), row.limited_until, &missing).await
            }
        }
    }

    async fn write_note(
        &self,
        row: &connection::Model,
        problem: Option<&str>,
        limited_until: Option<Timestamp>,
        missing: &[String],
    ) -> Result<(), StoreError> {
        let tx = self.db.write().await?;
        let missing = serde_json::Value::from(missing.to_vec()).to_string();
        // Only the columns that are told here: others count what comes.
        connection::Entity::update_many()
            .col_expr(connection::Column::Problem, Expr::val(problem.map(str::to_owned)))
            .col_expr(connection::Column::LimitedUntil, Expr::val(limited_until.map(|until| until.0)))
            .col_expr(connection::Column::MissingPermissions, Expr::val(missing))
            .col_expr(connection::Column::UpdatedAt, Expr::val(tx.now().0))
            .filter(connection::Column::Id.eq(row.id).and(connection::Column::Token.eq(row.token.clone())))
            .exec(tx.conn())
            .await?;
        Ok(tx.commit().await?)
    }
}
