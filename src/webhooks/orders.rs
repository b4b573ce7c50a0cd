//! Reading an ordered endpoint of which so much waits that a claim sees only the oldest: order by order, some at a time, so that
//! whatever fails holds up nothing but what stands behind it.

use entity::id::{SubscriptionId, Timestamp};
use sea_orm::sea_query::Value;
use sea_orm::{ConnectionTrait as _, DatabaseBackend, DbErr, QueryResult, Statement};
use uuid::Uuid;

use super::claims::{ORDERED_MAX, numbered};
use crate::db::Db;

/// Orders that are read at once.
const ORDERS_MAX: usize = 1_024;

/// Deliveries of an endpoint that wait and have an order.
const WAITING: &str =
    "d.subscription_id = ? AND d.status IN ('PENDING', 'RETRYING') AND d.order_key IS NOT NULL";

/// Some orders of an endpoint.
pub(super) struct Orders {
    /// For each its key, and its first delivery if that is due.
    pub(super) rows: Vec<QueryResult>,
    /// Whether there are others behind them.
    pub(super) has_more: bool,
}

/// Whether more waits of `subscription` than a claim looks at.
pub(super) async fn are_many(db: &Db, subscription: SubscriptionId) -> Result<bool, DbErr> {
    let text =
        format!("SELECT d.id FROM delivery d WHERE {WAITING} ORDER BY d.id LIMIT 1 OFFSET {ORDERED_MAX}");
    let row = db.read().query_one_raw(statement(db, &text, vec![subscription.0.into()])).await?;
    Ok(row.is_some())
}

/// The orders of `subscription` that come after `after`, or the first ones.
pub(super) async fn read(
    db: &Db,
    subscription: SubscriptionId,
    after: Option<Uuid>,
    now: Timestamp,
) -> Result<Orders, DbErr> {
    let next = |after: &str| {
        format!(
            "(SELECT d.order_key FROM delivery d WHERE {WAITING} AND d.order_key > {after} ORDER BY d.order_key LIMIT 1)"
        )
    };
    let text = format!(
        "WITH RECURSIVE orders (order_key, number) AS (SELECT {}, 1 UNION ALL \
           SELECT {}, orders.number + 1 FROM orders WHERE orders.order_key IS NOT NULL AND orders.number < {ORDERS_MAX}) \
         SELECT orders.order_key, f.site_id, f.id, f.event_id, f.attempt_count, f.schedule_step FROM orders \
         LEFT JOIN delivery f ON f.subscription_id = ? AND f.next_attempt_at <= ? AND f.id = (\
           SELECT d.id FROM delivery d WHERE {WAITING} AND d.order_key = orders.order_key ORDER BY d.id LIMIT 1) \
         WHERE orders.order_key IS NOT NULL \
           AND EXISTS (SELECT 1 FROM subscription s WHERE s.id = ? AND s.status = 'ENABLED') ORDER BY orders.number",
        next("?"),
        next("orders.order_key"),
    );
    let id = || Value::from(subscription.0);
    let values = vec![id(), after.unwrap_or_default().into(), id(), id(), now.0.into(), id(), id()];
    let rows = db.read().query_all_raw(statement(db, &text, values)).await?;
    Ok(Orders { has_more: rows.len() == ORDERS_MAX, rows })
}

fn statement(db: &Db, text: &str, values: Vec<Value>) -> Statement {
    let backend = db.backend();
    let text = if backend == DatabaseBackend::Postgres { numbered(text) } else { text.to_owned() };
    Statement::from_sql_and_values(backend, text, values)
}
