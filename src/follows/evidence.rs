//! The age of evidence: what a platform confirmed long ago may no longer be so.

use entity::followed_channel;
use entity::kinds::Evidence;
use sea_orm::sea_query::Expr;
use sea_orm::{ColumnTrait, DbErr, EntityTrait, QueryFilter};

use crate::db::Tx;

/// How long a platform's confirmation counts, in milliseconds: 180 days.
pub const FRESH_MS: i64 = 180 * 24 * 3_600_000;

/// Marks follows whose confirmation is older than [`FRESH_MS`]; the member's next message confirms them anew. Gives how many.
pub async fn make_stale(tx: &Tx) -> Result<u64, DbErr> {
    let marked = followed_channel::Entity::update_many()
        .col_expr(followed_channel::Column::Evidence, Expr::val(Evidence::Stale.as_str()))
        .filter(followed_channel::Column::Evidence.eq(Evidence::Verified))
        .filter(followed_channel::Column::EvidenceAt.lte(tx.now().plus_ms(-FRESH_MS)))
        .exec(tx.conn())
        .await?;
    Ok(marked.rows_affected)
}
