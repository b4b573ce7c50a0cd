//! What owners see of follows: who told of them, and how well they are proven.

use std::collections::HashMap;

use entity::id::{AccountId, FollowedChannelId, MemberId, SiteId};
use entity::kinds::{Channel, Evidence};
use entity::{account, followed_channel};
use sea_orm::sea_query::Expr;
use sea_orm::{
    ColumnTrait, ConnectionTrait, DbErr, EntityTrait, QueryFilter, QueryOrder as _, QuerySelect as _, Select,
};
use serde::{Deserialize, Serialize};

use crate::db::Tx;

/// Which follows to list.
#[derive(Debug, Default, Clone, Copy, Serialize, Deserialize)]
pub struct FollowFilter {
    /// Of this account.
    pub account: Option<AccountId>,
    /// Of this channel.
    pub channel: Option<Channel>,
    /// So well proven.
    pub evidence: Option<Evidence>,
}

/// Follows of `site` from the newest, after `before`.
pub async fn list(
    db: &impl ConnectionTrait,
    site: SiteId,
    filter: FollowFilter,
    before: Option<FollowedChannelId>,
    limit: u64,
) -> Result<Vec<followed_channel::Model>, DbErr> {
    if let Some(account) = filter.account {
        return of_account(db, site, account, filter, before, limit).await;
    }
    // Channel by channel, as follows lie in order within each: an index that has them in order without would be one more to write.
    let mut rows = Vec::new();
    for channel in filter.channel.as_ref().map_or(Channel::ALL, std::slice::from_ref) {
        rows.extend(page(site, *channel, filter.evidence, before, limit).all(db).await?);
    }
    Ok(newest(rows, limit))
}

fn page(
    site: SiteId,
    channel: Channel,
    evidence: Option<Evidence>,
    before: Option<FollowedChannelId>,
    limit: u64,
) -> Select<followed_channel::Entity> {
    let mut query = followed_channel::Entity::find()
        .filter(followed_channel::Column::SiteId.eq(site))
        .filter(followed_channel::Column::Channel.eq(channel));
    if let Some(evidence) = evidence {
        query = query.filter(followed_channel::Column::Evidence.eq(evidence));
        if evidence != Evidence::Declared {
            // Said in so many words, or the databases do not see that the index of the few that are not serves this.
            query = query.filter(Expr::cust("evidence <> 'DECLARED'"));
        }
    }
    if let Some(before) = before {
        query = query.filter(followed_channel::Column::Id.lt(before));
    }
    query.order_by_desc(followed_channel::Column::Id).limit(limit)
}

fn newest(mut rows: Vec<followed_channel::Model>, limit: u64) -> Vec<followed_channel::Model> {
    rows.sort_unstable_by_key(|row| std::cmp::Reverse(row.id));
    rows.truncate(usize::try_from(limit).unwrap_or(usize::MAX));
    rows
}

/// The same of one account. It follows each channel once at most, so all of them are read by its key and chosen here:
/// asked for in order, SQLite would go through the follows of the whole site.
async fn of_account(
    db: &impl ConnectionTrait,
    site: SiteId,
    account: AccountId,
    filter: FollowFilter,
    before: Option<FollowedChannelId>,
    limit: u64,
) -> Result<Vec<followed_channel::Model>, DbErr> {
    let own = followed_channel::Entity::find().filter(followed_channel::Column::AccountId.eq(account));
    let mut rows = own.all(db).await?;
    rows.retain(|row| {
        row.site_id == site
            && filter.channel.is_none_or(|channel| row.channel == channel)
            && filter.evidence.is_none_or(|evidence| row.evidence == evidence)
            && before.is_none_or(|before| row.id < before)
    });
    Ok(newest(rows, limit))
}

/// Whose accounts `follows` of `site` are.
pub async fn members(
    db: &impl ConnectionTrait,
    site: SiteId,
    follows: &[followed_channel::Model],
) -> Result<HashMap<AccountId, MemberId>, DbErr> {
    let accounts = follows.iter().map(|follow| follow.account_id);
    let rows: Vec<(AccountId, MemberId)> = account::Entity::find()
        .select_only()
        .columns([account::Column::Id, account::Column::MemberId])
        .filter(account::Column::SiteId.eq(site))
        .filter(account::Column::Id.is_in(accounts))
        .into_tuple()
        .all(db)
        .await?;
    Ok(rows.into_iter().collect())
}

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

#[cfg(test)]
mod tests {
    use migration::{Migrator, MigratorTrait as _};
    use sea_orm::{Database, DatabaseBackend, QueryTrait as _, Statement};
    use uuid::Uuid;

    use super::*;

    #[tokio::test]
    async fn every_list_is_read_by_an_index_that_has_it_in_order() -> Result<(), DbErr> {
        let db = Database::connect("sqlite::memory:").await?;
        Migrator::up(&db, None).await?;
        for (evidence, index) in [
            (None, "followed_channel_page (site_id=? AND channel=? AND id<?)"),
            (Some(Evidence::Declared), "followed_channel_page (site_id=? AND channel=? AND id<?)"),
            (
                Some(Evidence::Verified),
                "followed_channel_evidence (site_id=? AND evidence=? AND channel=? AND id<?)",
            ),
        ] {
            let before = Some(FollowedChannelId(Uuid::max()));
            let query = page(SiteId(Uuid::nil()), Channel::X, evidence, before, 100);
            let query = query.build(DatabaseBackend::Sqlite);
            let explain = Statement { sql: format!("EXPLAIN QUERY PLAN {}", query.sql), ..query };
            let steps = db.query_all_raw(explain).await?;
            let steps: Vec<String> =
                steps.iter().map(|row| row.try_get("", "detail")).collect::<Result<_, _>>()?;
            assert_eq!(steps.len(), 1, "{steps:?}");
            assert!(steps[0].ends_with(index), "{steps:?}");
        }
        Ok(())
    }
}
