//! How receivers do: since when one fails, whom that is told, and when its subscription is disabled.
//!
//! Outcomes note in the endpoint's row what changes (`note`), in their own transaction; what follows from it for the
//! subscription and its site comes after (`review`), in a transaction that locks the site first, as all do that change
//! its configuration. Nothing is lost in between: the row says that it must be looked at.
//!
//! A receiver that has accepted nothing for [`FAILING_MS_MAX`], of which at least two deliveries were exhausted
//! [`EXHAUSTED_APART_MS`] apart, has its subscription disabled. Its owner is warned when half and when nine tenths of the time
//! are over: by operator events, which go to the site's other subscriptions.

use std::collections::HashMap;

use entity::id::{EventId, SiteId, SubscriptionId, Timestamp};
use entity::kinds::{EndpointNotice, SubscriptionStatus};
use entity::{endpoint, subscription};
use sea_orm::sea_query::Expr;
use sea_orm::{
    ColumnTrait, ConnectionTrait, DbErr, EntityTrait, ExprTrait as _, PaginatorTrait as _, QueryFilter,
    QueryOrder as _, QuerySelect as _,
};
use serde_json::{Value, json};

use super::delivery::{Outcome, Verdict};
use super::dispatcher::Dispatcher;
use super::event::{self, EventType, NewEvent};
use super::{endpoints, outbox};
use crate::access::Identity;
use crate::db::{Db, Tx};
use crate::rows::{self, Rows, Write};
use crate::sites::config::{self, SiteConfigs};

/// How long a receiver may fail before its subscription is disabled, in milliseconds: 5 days.
pub const FAILING_MS_MAX: i64 = 5 * 24 * 3_600_000;
/// How far apart two deliveries must have been exhausted by then.
pub const EXHAUSTED_APART_MS: i64 = 12 * 3_600_000;
/// Why such a subscription is disabled.
pub(super) const FAILED_FOR_LONG: &str = "the receiver has accepted nothing for 5 days";
/// Parts of that time, in percent, after which the owner is warned.
const WARNINGS: [i32; 2] = [50, 90];
/// When a receiver is looked at again whose time is over, but of which not enough was exhausted.
const AGAIN_MS: i64 = 600_000;
/// Endpoints that one look reviews.
const REVIEWED_MAX: u64 = 100;

/// How many receivers fail, of those whose subscription was not disabled for it.
pub async fn count_failing(db: &impl ConnectionTrait) -> Result<u64, DbErr> {
    endpoint::Entity::find().filter(endpoint::Column::CheckAt.is_not_null()).count(db).await
}

/// Notes in `endpoint` what `outcome` says of its receiver.
pub(super) fn note(endpoint: &mut endpoint::Model, outcome: &Outcome) {
    if endpoint.notice == Some(EndpointNotice::Gone) {
        // Whatever else was under way: it said that it is gone for good.
        return;
    }
    if outcome.verdict == Verdict::Delivered {
        if endpoint.failing_since.take().is_some() {
            endpoint.last_failure = None;
            endpoint.exhausted_first_at = None;
            endpoint.exhausted_last_at = None;
            endpoint.warned_percent = 0;
            endpoint.check_at = None;
        }
        if endpoint.told_at.is_some() {
            endpoint.notice = Some(EndpointNotice::Recovered);
            endpoint.check_at.get_or_insert(outcome.at);
        }
        return;
    }
    let since = *endpoint.failing_since.get_or_insert(outcome.at);
    let status = outcome.attempt.status_code.map(|code| code.to_string());
    endpoint.last_failure = outcome.attempt.error_class.clone().or(status);
    if endpoint.check_at.is_none() {
        endpoint.check_at = Some(next_check(since, endpoint.warned_percent));
    }
    if matches!(outcome.verdict, Verdict::Exhausted | Verdict::Gone) {
        endpoint.exhausted_first_at.get_or_insert(outcome.at);
        endpoint.exhausted_last_at = Some(outcome.at);
    }
    if outcome.verdict == Verdict::Gone {
        endpoint.notice = Some(EndpointNotice::Gone);
        endpoint.check_at = Some(outcome.at);
    }
}

/// When a receiver that fails since `since` must be looked at, of which `warned` percent were told.
fn next_check(since: Timestamp, warned: i32) -> Timestamp {
    let percent = WARNINGS.into_iter().find(|percent| *percent > warned).unwrap_or(100);
    since.plus_ms(FAILING_MS_MAX / 100 * i64::from(percent))
}

/// To store the health of `endpoints`.
pub(super) fn write(endpoints: &[endpoint::Model]) -> Write {
    let ms = |at: Option<Timestamp>| at.map(|at| at.0);
    Rows::new(endpoints)
        .uuid("id", |endpoint| endpoint.subscription_id.0)
        .int_or_null("failing_since", move |endpoint| ms(endpoint.failing_since))
        .text_or_null("last_failure", |endpoint| endpoint.last_failure.as_deref())
        .int_or_null("exhausted_first_at", move |endpoint| ms(endpoint.exhausted_first_at))
        .int_or_null("exhausted_last_at", move |endpoint| ms(endpoint.exhausted_last_at))
        .int("warned_percent", |endpoint| i64::from(endpoint.warned_percent))
        .int_or_null("told_at", move |endpoint| ms(endpoint.told_at))
        .text_or_null("notice", |endpoint| endpoint.notice.map(EndpointNotice::as_str))
        .int_or_null("check_at", move |endpoint| ms(endpoint.check_at))
        .write(
            "UPDATE endpoint SET failing_since = r.failing_since, last_failure = r.last_failure, exhausted_first_at = r.exhausted_first_at, \
             exhausted_last_at = r.exhausted_last_at, warned_percent = r.warned_percent, told_at = r.told_at, \
             notice = r.notice, check_at = r.check_at FROM {rows} AS r WHERE endpoint.subscription_id = r.id",
        )
}

/// Forgets how the receiver of `subscription` did: its owner has enabled it again, and it gets all the time anew. Who was told that it
/// fails is still told when it works, and at once if it does already.
pub(super) async fn reset(tx: &Tx, subscription: SubscriptionId) -> Result<(), DbErr> {
    endpoint::Entity::update_many()
        .col_expr(endpoint::Column::FailingSince, Expr::val(None::<i64>))
        .col_expr(endpoint::Column::LastFailure, Expr::val(None::<String>))
        .col_expr(endpoint::Column::ExhaustedFirstAt, Expr::val(None::<i64>))
        .col_expr(endpoint::Column::ExhaustedLastAt, Expr::val(None::<i64>))
        .col_expr(endpoint::Column::WarnedPercent, Expr::val(0))
        .col_expr(endpoint::Column::Notice, Expr::cust("CASE WHEN notice = 'RECOVERED' THEN notice END"))
        .col_expr(endpoint::Column::CheckAt, Expr::cust("CASE WHEN notice = 'RECOVERED' THEN check_at END"))
        .filter(endpoint::Column::SubscriptionId.eq(subscription))
        .exec(tx.conn())
        .await?;
    Ok(())
}

/// Draws the conclusions that are due, and gives the subscriptions whose queues must be forgotten: those that were disabled.
pub(super) async fn review(
    db: &Db,
    configs: &SiteConfigs,
    dispatcher: &Dispatcher,
) -> Result<Vec<SubscriptionId>, DbErr> {
    let due: Vec<(SubscriptionId, SiteId)> = endpoint::Entity::find()
        .select_only()
        .columns([endpoint::Column::SubscriptionId, endpoint::Column::SiteId])
        .filter(endpoint::Column::CheckAt.lte(db.now()))
        .order_by_asc(endpoint::Column::CheckAt)
        .limit(REVIEWED_MAX)
        .into_tuple()
        .all(db.read())
        .await?;
    let mut disabled = Vec::new();
    for (subscription, site) in due {
        let tx = db.write().await?;
        let review = Review { tx: &tx, configs, dispatcher, site, subscription };
        let (is_disabled, fresh) = review.conclude().await?;
        tx.commit().await?;
        if let Some(fresh) = fresh {
            dispatcher.offer(fresh);
        }
        disabled.extend(is_disabled.then_some(subscription));
    }
    Ok(disabled)
}

/// Since when the receivers of those of `subscriptions` fail that do.
pub async fn failing(
    db: &impl ConnectionTrait,
    subscriptions: &[SubscriptionId],
) -> Result<HashMap<SubscriptionId, Timestamp>, DbErr> {
    let rows = endpoint::Entity::find()
        .filter(endpoint::Column::SubscriptionId.is_in(subscriptions.iter().copied()))
        .filter(endpoint::Column::FailingSince.is_not_null())
        .all(db)
        .await?;
    Ok(rows.into_iter().filter_map(|row| Some((row.subscription_id, row.failing_since?))).collect())
}

struct Review<'a> {
    tx: &'a Tx,
    configs: &'a SiteConfigs,
    dispatcher: &'a Dispatcher,
    site: SiteId,
    subscription: SubscriptionId,
}

/// What follows from how a receiver does.
enum Conclusion {
    /// Nothing now.
    Wait,
    /// The owner is told.
    Tell(EventType),
    /// The subscription is disabled, and that told.
    Disable(&'static str),
}

impl Review<'_> {
    /// Whether the queue of the subscription must be forgotten, and what is to be sent after the commit.
    async fn conclude(&self) -> Result<(bool, Option<outbox::FreshDeliveries>), DbErr> {
        let Self { tx, site, subscription, .. } = *self;
        // First, as everything does that changes the site: then the endpoint.
        config::touch(tx, site).await?;
        let now = tx.now();
        let held = endpoints::hold(tx, &[subscription]).await?;
        let found = subscription::Entity::find_by_id(subscription).one(tx.conn()).await?;
        let (Some(mut endpoint), Some(row)) = (held.into_values().next(), found) else {
            return Ok((false, None));
        };
        if endpoint.check_at.is_none_or(|at| at > now) {
            return Ok((false, None));
        }
        // What its node keeps back because of it is free again, whatever follows.
        let was_gone = endpoint.notice == Some(EndpointNotice::Gone);
        let conclusion = judge(&mut endpoint, row.status, now);
        rows::write_all(tx.conn(), vec![write(std::slice::from_ref(&endpoint))]).await?;
        match conclusion {
            Conclusion::Wait => Ok((was_gone, None)),
            Conclusion::Tell(kind) => Ok((false, Some(self.tell(kind, &row, &endpoint).await?))),
            Conclusion::Disable(reason) => {
                let row = self.disable(row, reason).await?;
                Ok((true, Some(self.tell(EventType::SubscriptionDisabled, &row, &endpoint).await?)))
            }
        }
    }

    async fn disable(&self, row: subscription::Model, reason: &str) -> Result<subscription::Model, DbErr> {
        subscription::Entity::update_many()
            .col_expr(subscription::Column::Status, Expr::val(SubscriptionStatus::Disabled.as_str()))
            .col_expr(subscription::Column::StatusReason, Expr::val(reason))
            .col_expr(subscription::Column::HeldSince, Expr::val(self.tx.now().0))
            .col_expr(subscription::Column::UpdatedAt, Expr::val(self.tx.now().0))
            .col_expr(subscription::Column::Revision, Expr::col(subscription::Column::Revision).add(1))
            .filter(subscription::Column::Id.eq(row.id))
            .exec(self.tx.conn())
            .await?;
        endpoints::changed(self.tx, row.id, false).await?;
        let status = SubscriptionStatus::Disabled;
        Ok(subscription::Model { status, status_reason: Some(reason.to_owned()), ..row })
    }

    async fn tell(
        &self,
        kind: EventType,
        row: &subscription::Model,
        endpoint: &endpoint::Model,
    ) -> Result<outbox::FreshDeliveries, DbErr> {
        let Self { tx, configs, dispatcher, site, .. } = *self;
        let id = tx.new_id();
        let body = told(row, endpoint.failing_since, endpoint.last_failure.as_deref());
        let data = event::subscription_data(id, kind.slug(), row.id, &body, (tx.now_text(), tx.now().0));
        let event = NewEvent {
            id: EventId(id),
            site_id: site,
            kind,
            entity_id: row.id.0,
            account_id: None,
            sequence: tx.now().0,
            data,
            identity: Identity::App(row.app_id).to_json(),
        };
        let configs = configs.load(tx, &[site]).await?;
        let (writes, fresh) = outbox::prepare(tx, &configs, dispatcher, vec![event]).await?;
        rows::write_all(tx.conn(), writes).await?;
        Ok(fresh)
    }
}

/// A URL as other apps of the site are told it: what an app has put into its query may be a secret.
fn shown_url(url: &str) -> &str {
    url.split(['?', '#']).next().unwrap_or(url)
}

/// What an operator event says of a subscription, whose receiver fails since `failing_since` if it does.
pub(super) fn told(
    row: &subscription::Model,
    failing_since: Option<Timestamp>,
    last_failure: Option<&str>,
) -> Value {
    let mut subscription = json!({
        "id": row.id,
        "appId": row.app_id,
        "url": shown_url(&row.url),
        "status": row.status,
    });
    if let Some(fields) = subscription.as_object_mut() {
        if let Some(reason) = &row.status_reason {
            fields.insert("statusReason".to_owned(), json!(reason));
        }
        if let Some(since) = failing_since {
            let disabled = since.plus_ms(FAILING_MS_MAX);
            fields.insert("failingSinceDate".to_owned(), json!(since.to_rfc3339()));
            if row.status == SubscriptionStatus::Enabled {
                fields.insert("disabledFromDate".to_owned(), json!(disabled.to_rfc3339()));
            }
        }
        if let Some(failure) = last_failure {
            // Words of an error may say more of a receiver than other apps are to know.
            let (name, value) = match failure.parse::<u16>() {
                Ok(code) => ("lastStatusCode", json!(code)),
                Err(_) => ("lastErrorClass", json!(failure)),
            };
            fields.insert(name.to_owned(), value);
        }
    }
    json!({"subscription": subscription})
}

/// What follows at `now`, and what the endpoint has to say afterwards.
fn judge(endpoint: &mut endpoint::Model, status: SubscriptionStatus, now: Timestamp) -> Conclusion {
    let notice = endpoint.notice.take();
    endpoint.check_at = None;
    if notice == Some(EndpointNotice::Recovered) {
        endpoint.told_at = None;
        endpoint.check_at = endpoint.failing_since.map(|since| next_check(since, endpoint.warned_percent));
        return Conclusion::Tell(EventType::SubscriptionRecovered);
    }
    // Who does not get anything cannot fail, and has all the time again once it is enabled.
    let Some(since) = endpoint.failing_since.filter(|_| status == SubscriptionStatus::Enabled) else {
        return Conclusion::Wait;
    };
    if notice == Some(EndpointNotice::Gone) {
        return Conclusion::Disable("the receiver answered 410 Gone");
    }
    let failing_ms = now.0 - since.0;
    if failing_ms >= FAILING_MS_MAX {
        let exhausted = endpoint.exhausted_first_at.zip(endpoint.exhausted_last_at);
        if exhausted.is_some_and(|(first, last)| last.0 - first.0 >= EXHAUSTED_APART_MS) {
            return Conclusion::Disable(FAILED_FOR_LONG);
        }
        endpoint.check_at = Some(now.plus_ms(AGAIN_MS));
        return Conclusion::Wait;
    }
    let reached = |percent: &i32| failing_ms >= FAILING_MS_MAX / 100 * i64::from(*percent);
    let percent = WARNINGS.into_iter().rfind(reached).unwrap_or(0);
    let is_new = percent > endpoint.warned_percent;
    if is_new {
        endpoint.warned_percent = percent;
        endpoint.told_at = Some(now);
    }
    endpoint.check_at = Some(next_check(since, endpoint.warned_percent));
    if is_new { Conclusion::Tell(EventType::SubscriptionFailing) } else { Conclusion::Wait }
}
