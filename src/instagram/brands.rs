//! The brands' connections to Instagram, as far as understanding and polling need them.

use std::collections::HashMap;

use entity::connection;
use entity::id::{ConnectionId, SiteId, Timestamp};
use entity::kinds::Platform;
use sea_orm::sea_query::Expr;
use sea_orm::{
    ColumnTrait, Condition, ConnectionTrait, DbErr, EntityTrait, QueryFilter, QueryOrder, QuerySelect,
};

use super::graph::{Access, Graph};
use super::graph_error::GraphError;
use crate::connections::TOKEN_PURPOSE;
use crate::db::{Db, Tx};
use crate::seal::Sealer;

/// How long a connection rests that Meta has blocked, in milliseconds.
const BLOCKED_MS: i64 = 24 * 3_600_000;
/// How much older the last sign of life may be than it says, in milliseconds.
const SIGN_OF_LIFE_MS: i64 = 60_000;
/// Accounts that one query asks for.
const ACCOUNTS_MAX: usize = 256;

/// The connections of Instagram's accounts `accounts`, by account.
pub async fn of_accounts(
    db: &impl ConnectionTrait,
    accounts: &[String],
) -> Result<HashMap<String, connection::Model>, DbErr> {
    let mut found = HashMap::new();
    for part in accounts.chunks(ACCOUNTS_MAX) {
        let rows = connection::Entity::find()
            .filter(connection::Column::Platform.eq(Platform::Instagram))
            .filter(connection::Column::ExternalId.is_in(part.iter().map(String::as_str)))
            .all(db)
            .await?;
        found.extend(rows.into_iter().map(|row| (row.external_id.clone(), row)));
    }
    Ok(found)
}

/// Instagram's connections of `site`.
pub async fn of_site(db: &impl ConnectionTrait, site: SiteId) -> Result<Vec<connection::Model>, DbErr> {
    connection::Entity::find()
        .filter(connection::Column::Platform.eq(Platform::Instagram))
        .filter(connection::Column::SiteId.eq(site))
        .all(db)
        .await
}

/// Instagram's connections whose accounts are `accounts`, or that the person `owner` made.
pub async fn of_owner(
    db: &impl ConnectionTrait,
    owner: &str,
    accounts: &[String],
) -> Result<Vec<connection::Model>, DbErr> {
    let whose = Condition::any()
        .add(connection::Column::OwnerId.eq(owner))
        .add(connection::Column::ExternalId.is_in(accounts.iter().map(String::as_str)));
    connection::Entity::find()
        .filter(connection::Column::Platform.eq(Platform::Instagram))
        .filter(whose)
        .all(db)
        .await
}

/// What calls are made with for `row`, or why none can be made now.
pub fn access(sealer: &Sealer, row: &connection::Model, now: Timestamp) -> Result<Access, GraphError> {
    let dead = |why| GraphError::Dead { code: "none".to_owned(), why };
    if row.dead_since.is_some() {
        return Err(dead("the connection is dead"));
    }
    if let Some(until) = row.limited_until.filter(|until| *until > now) {
        return Err(GraphError::Throttled(until.0 - now.0));
    }
    let stored = row.token.as_deref().ok_or_else(|| dead("there is none"))?;
    let token = sealer.open(TOKEN_PURPOSE, stored).ok().and_then(|token| String::from_utf8(token).ok());
    let token = token.ok_or_else(|| dead("it was sealed under another key"))?;
    Ok(Access { connection: row.id, login: row.login, account: row.external_id.clone(), token })
}

/// The permissions that are missing.
#[must_use]
pub fn missing_permissions(row: &connection::Model) -> Vec<String> {
    serde_json::from_str(&row.missing_permissions).unwrap_or_default()
}

/// What is to be noted of a connection.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Notes {
    /// The token is refused; why, for people.
    pub dead: Option<String>,
    /// What is wrong, for people.
    pub problem: Option<String>,
    /// No calls before.
    pub limited_until: Option<Timestamp>,
    /// Permissions that turned out to be missing.
    pub missing: Vec<String>,
    /// Permissions that were given back.
    pub granted: Vec<String>,
    /// Something came from it.
    pub has_sent: bool,
}

impl Notes {
    /// Notes what `error` says of the connection itself; `permissions` are those that the call needs, the likeliest first.
    pub fn take(&mut self, error: &GraphError, permissions: &str, now: Timestamp) {
        match error {
            GraphError::Dead { .. } => self.dead = Some(error.to_string()),
            GraphError::Blocked => {
                self.problem = Some(error.to_string());
                self.limited_until = self.limited_until.max(Some(now.plus_ms(BLOCKED_MS)));
            }
            GraphError::Permission(_) => {
                self.problem = Some(format!("{error}: {permissions}"));
                let first = permissions.split(',').next().unwrap_or(permissions).to_owned();
                if !self.missing.contains(&first) {
                    self.missing.push(first);
                }
            }
            GraphError::MessagesOff => self.problem = Some(error.to_string()),
            _ => {}
        }
    }

    /// Notes until when the gate is closed.
    pub fn take_gate(&mut self, graph: &Graph, connection: ConnectionId, now: Timestamp) {
        self.limited_until = self.limited_until.max(graph.gate().closed_until(connection, now));
    }
}

/// Writes `notes` of `row`, unless nothing of them is news.
pub async fn note(db: &Db, row: &connection::Model, notes: &Notes) -> Result<(), DbErr> {
    let now = db.now();
    let known = missing_permissions(row);
    let mut missing = known.clone();
    missing.retain(|name| !notes.granted.contains(name));
    missing.extend(notes.missing.iter().filter(|name| !known.contains(name)).cloned());
    let is_alive = notes.has_sent && row.last_item_at.is_none_or(|at| at.plus_ms(SIGN_OF_LIFE_MS) <= now);
    let is_longer = notes.limited_until > row.limited_until;
    let is_problem = notes.problem.is_some() && notes.problem != row.problem;
    let is_dead = notes.dead.is_some() && row.dead_since.is_none();
    if !(is_alive || is_longer || is_problem || is_dead || missing != known) {
        return Ok(());
    }
    let tx = db.write().await?;
    let mut update = connection::Entity::update_many()
        .col_expr(connection::Column::UpdatedAt, Expr::value(tx.now().0))
        .filter(connection::Column::Id.eq(row.id));
    if is_alive {
        update = update.col_expr(connection::Column::LastItemAt, Expr::value(tx.now().0));
    }
    if is_longer {
        let until = notes.limited_until.map(|until| until.0);
        update = update.col_expr(connection::Column::LimitedUntil, Expr::value(until));
    }
    if missing != known {
        let text = serde_json::to_string(&missing).unwrap_or_else(|_| "[]".to_owned());
        update = update.col_expr(connection::Column::MissingPermissions, Expr::value(text));
    }
    let problem = if is_dead { notes.dead.as_ref() } else { notes.problem.as_ref() };
    if let Some(problem) = problem {
        tracing::warn!(connection = %row.id, account = %row.external_id, problem, "a connection has a problem");
        update = update.col_expr(connection::Column::Problem, Expr::value(problem.as_str()));
    }
    if is_dead {
        update = update.col_expr(connection::Column::DeadSince, Expr::value(tx.now().0));
        // Somebody may have connected it anew meanwhile.
        update = update.filter(same_token(row));
    }
    update.exec(tx.conn()).await?;
    tx.commit().await
}

/// Whether the connection still has the token of `row`.
fn same_token(row: &connection::Model) -> Condition {
    let token = connection::Column::Token;
    match &row.token {
        Some(sealed) => Condition::all().add(token.eq(sealed.clone())),
        None => Condition::all().add(token.is_null()),
    }
}

/// Takes connections whose tags are due, at most `max`, and makes them due again `every_ms` later.
pub async fn claim_polls(db: &Db, max: u64, every_ms: i64) -> Result<Vec<connection::Model>, DbErr> {
    let now = db.now();
    let due = |now: Timestamp| {
        let is_free = Condition::any()
            .add(connection::Column::LimitedUntil.is_null())
            .add(connection::Column::LimitedUntil.lte(now));
        connection::Entity::find()
            .filter(connection::Column::Platform.eq(Platform::Instagram))
            .filter(connection::Column::PollDueAt.lte(now))
            .filter(connection::Column::DeadSince.is_null())
            .filter(connection::Column::Token.is_not_null())
            .filter(is_free)
            .order_by_asc(connection::Column::PollDueAt)
            .limit(max)
    };
    // Most often there is nothing, and then nothing is written.
    if due(now).one(db.read()).await?.is_none() {
        return Ok(Vec::new());
    }
    let tx = db.write().await?;
    let rows = due(tx.now()).all(tx.conn()).await?;
    let mut taken = Vec::new();
    for row in rows {
        if take_poll(&tx, &row, every_ms).await? {
            taken.push(row);
        }
    }
    tx.commit().await?;
    Ok(taken)
}

/// Moves the time of the next poll ahead, unless another node has done so.
async fn take_poll(tx: &Tx, row: &connection::Model, every_ms: i64) -> Result<bool, DbErr> {
    let update = connection::Entity::update_many()
        .col_expr(connection::Column::PollDueAt, Expr::value(tx.now().plus_ms(every_ms).0))
        .filter(connection::Column::Id.eq(row.id))
        .filter(connection::Column::PollDueAt.eq(row.poll_due_at));
    Ok(update.exec(tx.conn()).await?.rows_affected > 0)
}

/// Notes that the tags of a connection were read once; says whether they had not been.
pub async fn mark_polled(tx: &Tx, connection: ConnectionId) -> Result<bool, DbErr> {
    let update = connection::Entity::update_many()
        .col_expr(connection::Column::HasPolled, Expr::value(true))
        .filter(connection::Column::Id.eq(connection))
        .filter(connection::Column::HasPolled.eq(false));
    Ok(update.exec(tx.conn()).await?.rows_affected > 0)
}
