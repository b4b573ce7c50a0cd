//! Many lists in one query.

use entity::id::SiteId;
use sea_orm::{ConnectionTrait, DbErr, QueryResult};
use uuid::Uuid;

use super::{FollowError, Followed, ListResult, Subject};
use crate::db::Db;
use crate::rows::Rows;

/// What [`read_followed`] reads, by position, like the number of whoever asked behind it: finding names in every row costs more than
/// reading them.
const FOLLOWED: &str =
    "f.id, f.account_id, f.channel, f.source, f.evidence, f.evidence_at, f.created_at, r.n";
/// A member's row in the table of accounts is not needed: the index by member knows its id.
const OF_MEMBERS: &str = "FROM {rows} r JOIN account a ON a.site_id = r.site_id AND a.member_id = r.id \
     LEFT JOIN followed_channel f ON f.account_id = a.id";
/// An account that follows something exists; only for the others it is looked up, the key being NULL for the rest.
const OF_ACCOUNTS: &str = "FROM {rows} r \
     LEFT JOIN followed_channel f ON f.account_id = r.id AND f.site_id = r.site_id \
     LEFT JOIN account a ON a.site_id = CASE WHEN f.id IS NULL THEN r.site_id END AND a.id = r.id \
     WHERE f.id IS NOT NULL OR a.id IS NOT NULL";

/// Who asks: the place of the answer, the site, and the id of the member or the account.
type Asked = (usize, SiteId, Uuid);

/// What each subject follows, newest first. When a query fails, all of them do.
pub(super) async fn list_followed_channels(db: &Db, asked: &[(SiteId, Subject)]) -> Vec<ListResult> {
    match db.in_time(read_all(db.read(), asked)).await {
        Ok(found) => found.into_iter().map(Ok).collect(),
        Err(error) => {
            let error = FollowError::from(error);
            asked.iter().map(|_| Err(error.clone())).collect()
        }
    }
}

async fn read_all(
    db: &impl ConnectionTrait,
    asked: &[(SiteId, Subject)],
) -> Result<Vec<Option<Vec<Followed>>>, DbErr> {
    let mut members: Vec<Asked> = Vec::new();
    let mut accounts: Vec<Asked> = Vec::new();
    for (place, (site, subject)) in asked.iter().enumerate() {
        match subject {
            Subject::Member(member) => members.push((place, *site, member.0)),
            Subject::Account(account) => accounts.push((place, *site, account.0)),
        }
    }
    let mut found = vec![None; asked.len()];
    read(db, &mut found, &members, OF_MEMBERS).await?;
    read(db, &mut found, &accounts, OF_ACCOUNTS).await?;
    for followed in found.iter_mut().flatten() {
        followed.sort_unstable_by_key(|one| std::cmp::Reverse((one.created_at, one.id)));
    }
    Ok(found)
}

async fn read(
    db: &impl ConnectionTrait,
    found: &mut [Option<Vec<Followed>>],
    asked: &[Asked],
    source: &str,
) -> Result<(), DbErr> {
    if asked.is_empty() {
        return Ok(());
    }
    let rows = Rows::new(asked)
        .int("n", |(place, ..)| i64::try_from(*place).unwrap_or(i64::MAX))
        .uuid("site_id", |(_, site, _)| site.0)
        .uuid("id", |(.., id)| *id)
        .query(db, &format!("SELECT {FOLLOWED} {source}"))
        .await?;
    for row in rows {
        let place: i64 = row.try_get_by(7)?;
        if let Some(found) = usize::try_from(place).ok().and_then(|place| found.get_mut(place)) {
            found.get_or_insert_default().extend(read_followed(&row)?);
        }
    }
    Ok(())
}

/// What `row` tells, or `None` where an outer join found nothing.
fn read_followed(row: &QueryResult) -> Result<Option<Followed>, DbErr> {
    let Some(id) = row.try_get_by(0)? else { return Ok(None) };
    Ok(Some(Followed {
        id,
        account_id: row.try_get_by(1)?,
        channel: row.try_get_by(2)?,
        source: row.try_get_by(3)?,
        evidence: row.try_get_by(4)?,
        evidence_at: row.try_get_by(5)?,
        created_at: row.try_get_by(6)?,
    }))
}
