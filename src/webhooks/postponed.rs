//! Deliveries that a wrong clock has put off: what it made or tried while it was ahead is due only when the time that it
//! showed has come. Once it is right again they are due at once.

use entity::id::{SubscriptionId, Timestamp};
use sea_orm::{ConnectionTrait as _, DbErr, Statement};

use super::endpoints::{self, TAKEN_MAX};
use crate::db::Db;
use crate::rows::{self, Rows};

/// By how many milliseconds clocks may differ, or one be set back, without anybody minding.
const ERROR_MS: i64 = 60_000;

/// Whether a delivery waits whose last try, or itself if there was none, was made at a time that is still to come.
fn is_put_off(now: Timestamp) -> String {
    let future = now.plus_ms(ERROR_MS).0;
    format!(
        "delivery.status IN ('PENDING', 'RETRYING') AND delivery.next_attempt_at > {future} \
         AND coalesce((SELECT a.started_at FROM attempt a WHERE a.delivery_id = delivery.id \
           AND a.number = delivery.attempt_count), delivery.created_at) > {future}"
    )
}

/// Whether the clock that now shows `now` has been set back since it showed `before`.
pub(super) const fn is_set_back(now: Timestamp, before: Timestamp) -> bool {
    now.0 < before.0.saturating_sub(ERROR_MS)
}

/// Makes due at once what was made or tried last at a time that is still to come, and has its owners look. Says whether there
/// was any.
pub(super) async fn bring_forward(db: &Db) -> Result<bool, DbErr> {
    let found = find(db).await?;
    for subscriptions in found.chunks(TAKEN_MAX) {
        let tx = db.write().await?;
        let due = Rows::new(subscriptions).uuid("id", |id| id.0).same_int("now", tx.now().0).write(&format!(
            "UPDATE delivery SET next_attempt_at = r.now FROM {{rows}} AS r \
             WHERE delivery.subscription_id = r.id AND {}",
            is_put_off(tx.now())
        ));
        rows::write_all(tx.conn(), vec![due]).await?;
        endpoints::poke(&tx, subscriptions).await?;
        tx.commit().await?;
    }
    if !found.is_empty() {
        tracing::warn!(
            subscriptions = found.len(),
            "the clock was set back; what it had put off is sent now"
        );
    }
    Ok(!found.is_empty())
}

/// Whose deliveries have been put off. Reads, as there are most often none.
async fn find(db: &Db) -> Result<Vec<SubscriptionId>, DbErr> {
    // Endpoint by endpoint, along the index of what waits for it.
    let sql = format!(
        "SELECT DISTINCT e.subscription_id FROM endpoint e CROSS JOIN delivery \
         WHERE delivery.subscription_id = e.subscription_id AND {}",
        is_put_off(db.now())
    );
    let rows = db.read().query_all_raw(Statement::from_string(db.backend(), sql)).await?;
    rows.iter().map(|row| row.try_get("", "subscription_id")).collect()
}
