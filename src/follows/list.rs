//! Many lists in one query.

use std::collections::HashMap;

use entity::followed_channel;
use entity::id::{AccountId, MemberId, SiteId};
use sea_orm::{ConnectionTrait, DbErr};
use uuid::Uuid;

use super::{FOLLOW, FOLLOW_WIDTH, FollowError, ListResult, Subject, read_follow};
use crate::db::Db;
use crate::rows::Rows;

type Found = HashMap<(SiteId, Subject), Vec<followed_channel::Model>>;

/// A member's row in the table of accounts is not needed: the index by member knows its id.
const OF_MEMBERS: &str = "FROM {rows} r JOIN account a ON a.site_id = r.site_id AND a.member_id = r.id \
     LEFT JOIN followed_channel f ON f.account_id = a.id";
/// An account that follows something exists; only for the others it is looked up, the key being NULL for the rest.
const OF_ACCOUNTS: &str = "FROM {rows} r \
     LEFT JOIN followed_channel f ON f.account_id = r.id AND f.site_id = r.site_id \
     LEFT JOIN account a ON a.site_id = CASE WHEN f.id IS NULL THEN r.site_id END AND a.id = r.id \
     WHERE f.id IS NOT NULL OR a.id IS NOT NULL";

/// What each subject follows, newest first. When a query fails, all of them do.
pub(super) async fn list_followed_channels(db: &Db, asked: &[(SiteId, Subject)]) -> Vec<ListResult> {
    match db.in_time(read_all(db.read(), asked)).await {
        Ok(found) => asked.iter().map(|subject| Ok(found.get(subject).cloned())).collect(),
        Err(error) => {
            let error = FollowError::from(error);
            asked.iter().map(|_| Err(error.clone())).collect()
        }
    }
}

async fn read_all(db: &impl ConnectionTrait, asked: &[(SiteId, Subject)]) -> Result<Found, DbErr> {
    let mut members: Vec<(SiteId, Uuid)> = Vec::new();
    let mut accounts: Vec<(SiteId, Uuid)> = Vec::new();
    for (site, subject) in asked {
        match subject {
            Subject::Member(member) => members.push((*site, member.0)),
            Subject::Account(account) => accounts.push((*site, account.0)),
        }
    }
    let mut found = Found::with_capacity(asked.len());
    read(db, &mut found, members, OF_MEMBERS, |id| Subject::Member(MemberId(id))).await?;
    read(db, &mut found, accounts, OF_ACCOUNTS, |id| Subject::Account(AccountId(id))).await?;
    for channels in found.values_mut() {
        channels.sort_unstable_by_key(|row| std::cmp::Reverse((row.created_at, row.id)));
    }
    Ok(found)
}

async fn read(
    db: &impl ConnectionTrait,
    found: &mut Found,
    mut asked: Vec<(SiteId, Uuid)>,
    source: &str,
    subject: impl Fn(Uuid) -> Subject,
) -> Result<(), DbErr> {
    if asked.is_empty() {
        return Ok(());
    }
    asked.sort_unstable();
    asked.dedup();
    let rows = Rows::new(&asked)
        .uuid("site_id", |(site, _)| site.0)
        .uuid("id", |(_, id)| *id)
        .query(db, &format!("SELECT {FOLLOW}, r.site_id, r.id {source}"))
        .await?;
    for row in rows {
        let of = (row.try_get_by(FOLLOW_WIDTH)?, subject(row.try_get_by(FOLLOW_WIDTH + 1)?));
        found.entry(of).or_default().extend(read_follow(&row)?);
    }
    Ok(())
}
