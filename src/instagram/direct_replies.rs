//! Sends the answers to those whose message has proven their handle. An answer is tried until Instagram accepts it, or takes none to that
//! message any more.

use std::collections::HashMap;
use std::time::Duration;

use entity::id::Timestamp;
use entity::{connection, direct_reply};
use futures_util::{StreamExt as _, stream};
use sea_orm::sea_query::{Expr, ExprTrait as _};
use sea_orm::{
    ColumnTrait as _, DbErr, EntityTrait as _, QueryFilter as _, QueryOrder as _, QuerySelect as _,
};
use tokio::time::{MissedTickBehavior, interval};

use super::brands::{self, Notes};
use super::graph_error::GraphError;
use super::understand::Instagram;

/// How long nobody else sends what is being sent, in milliseconds: longer than all of one look may take.
const LEASE_MS: i64 = 5 * 60_000;
/// Pause after the first try that failed, in milliseconds; it doubles from try to try.
const RETRY_MS: i64 = 30_000;
/// How often it doubles: up to 64 minutes.
const DOUBLINGS_MAX: u32 = 7;
/// Answers that one look takes.
const DUE_MAX: u64 = 64;
/// Answers that are sent at once.
const AT_ONCE: usize = 8;
/// How often it is looked whether some are due.
const TICK: Duration = Duration::from_secs(2);
/// What an answer needs.
const PERMISSIONS: &str = "instagram_manage_messages,instagram_business_manage_messages";

impl Instagram {
    /// Sends answers until the task is dropped.
    pub async fn answer(self) {
        let mut ticks = interval(TICK);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            ticks.tick().await;
            if let Err(error) = self.answer_due().await {
                tracing::warn!(%error, "answers could not be sent; the next tick tries again");
            }
        }
    }

    /// Sends the answers that are due; says how many were accepted. Any number of nodes may do so at once.
    pub async fn answer_due(&self) -> Result<usize, DbErr> {
        let _answering = self.answering.lock().await;
        let due = self.claim_replies().await?;
        if due.is_empty() {
            return Ok(0);
        }
        let mut accounts: Vec<String> = due.iter().map(|reply| reply.account.clone()).collect();
        accounts.sort_unstable();
        accounts.dedup();
        let brands = brands::of_accounts(self.db().read(), &accounts).await?;
        let sent: Vec<_> = due.into_iter().map(|reply| self.send_reply(&brands, reply)).collect();
        let mut sent = stream::iter(sent).buffer_unordered(AT_ONCE);
        let mut accepted = 0;
        while let Some(is_accepted) = sent.next().await {
            accepted += usize::from(is_accepted);
        }
        Ok(accepted)
    }

    /// Takes what is due for [`LEASE_MS`].
    async fn claim_replies(&self) -> Result<Vec<direct_reply::Model>, DbErr> {
        let found = direct_reply::Entity::find()
            .filter(direct_reply::Column::DueAt.lte(self.db().now()))
            .order_by_asc(direct_reply::Column::DueAt)
            .limit(DUE_MAX)
            .all(self.db().read())
            .await?;
        let mut taken = Vec::new();
        for row in found {
            match self.take_reply(&row).await {
                Ok(is_taken) => taken.extend(is_taken.then_some(row)),
                Err(error) if taken.is_empty() => return Err(error),
                // What is taken by then is sent all the same.
                Err(error) => {
                    tracing::warn!(%error, "not all that is due could be taken; the next look tries again");
                    break;
                }
            }
        }
        Ok(taken)
    }

    async fn take_reply(&self, row: &direct_reply::Model) -> Result<bool, DbErr> {
        let tx = self.db().write().await?;
        let update = direct_reply::Entity::update_many()
            .col_expr(direct_reply::Column::DueAt, Expr::value(tx.now().plus_ms(LEASE_MS)))
            .col_expr(direct_reply::Column::Attempts, Expr::col(direct_reply::Column::Attempts).add(1))
            .filter(direct_reply::Column::ItemId.eq(row.item_id))
            .filter(direct_reply::Column::DueAt.eq(row.due_at));
        let is_taken = update.exec(tx.conn()).await?.rows_affected == 1;
        tx.commit().await?;
        Ok(is_taken)
    }

    /// Sends one answer; says whether it was accepted. If that cannot be noted, it must not keep the others waiting.
    async fn send_reply(
        &self,
        brands: &HashMap<String, connection::Model>,
        reply: direct_reply::Model,
    ) -> bool {
        self.send_and_note(brands, &reply).await.unwrap_or_else(|error| {
            tracing::warn!(item = %reply.item_id, %error, "what became of an answer could not be noted; it is sent again");
            false
        })
    }

    async fn send_and_note(
        &self,
        brands: &HashMap<String, connection::Model>,
        reply: &direct_reply::Model,
    ) -> Result<bool, DbErr> {
        let now = self.db().now();
        let row = brands.get(&reply.account).filter(|row| row.site_id == reply.site_id);
        let Some(row) = row.filter(|_| now < reply.expires_at) else {
            tracing::info!(item = %reply.item_id, "an answer was not sent: it is too late, or the account is not connected");
            self.end_reply(reply).await?;
            return Ok(false);
        };
        let sent = match brands::access(self.sealer(), row, now) {
            Ok(access) => self.graph().send_message(&access, &reply.person, &reply.message).await,
            Err(error) => Err(error),
        };
        let mut notes = Notes::default();
        if let Err(error) = &sent {
            notes.take(error, PERMISSIONS, now);
        }
        notes.take_gate(self.graph(), row.id, now);
        brands::note(self.db(), row, &notes).await?;
        match sent.as_ref().map_err(|error| pause(error, reply.attempts)) {
            Err(Some(pause_ms)) => self.put_off(reply, now.plus_ms(pause_ms)).await?,
            Err(None) | Ok(_) => self.end_reply(reply).await?,
        }
        if let Err(error) = &sent {
            tracing::info!(item = %reply.item_id, %error, "an answer was not accepted");
        }
        Ok(sent.is_ok())
    }

    async fn put_off(&self, reply: &direct_reply::Model, until: Timestamp) -> Result<(), DbErr> {
        let tx = self.db().write().await?;
        direct_reply::Entity::update_many()
            .col_expr(direct_reply::Column::DueAt, Expr::value(until))
            .filter(direct_reply::Column::ItemId.eq(reply.item_id))
            .exec(tx.conn())
            .await?;
        tx.commit().await
    }

    async fn end_reply(&self, reply: &direct_reply::Model) -> Result<(), DbErr> {
        let tx = self.db().write().await?;
        direct_reply::Entity::delete_by_id(reply.item_id).exec(tx.conn()).await?;
        tx.commit().await
    }
}

/// How long to wait after `error`, in milliseconds; `None` if trying again would not help.
fn pause(error: &GraphError, attempts: i32) -> Option<i64> {
    match error {
        GraphError::Throttled(ms) | GraphError::Spread(ms) => Some(Ord::max(*ms, 1)),
        // The account may be connected anew within the day.
        GraphError::Temporary(_) | GraphError::Dead { .. } => {
            Some(RETRY_MS << Ord::min(attempts.unsigned_abs(), DOUBLINGS_MAX))
        }
        _ => None,
    }
}
