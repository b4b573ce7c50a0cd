//! Many lists in one query.

use std::collections::HashMap;

use entity::followed_channel;
use entity::id::{AccountId, MemberId, SiteId};
use sea_orm::{ConnectionTrait, DbErr, FromQueryResult, QueryResult};

use super::{FollowError, ListResult, Subject};
use crate::rows::Rows;

const COLUMNS: &str = "a.id AS subject_account, a.member_id AS subject_member, f.*";

type Found = HashMap<(SiteId, Subject), Vec<followed_channel::Model>>;

/// What each subject follows, newest first. When the query fails, all of them do.
pub(super) async fn list_followed_channels(
    db: &impl ConnectionTrait,
    asked: &[(SiteId, Subject)],
) -> Vec<ListResult> {
    match read(db, asked).await {
        Ok(found) => asked.iter().map(|subject| Ok(found.get(subject).cloned())).collect(),
        Err(error) => {
            let error = FollowError::from(error);
            asked.iter().map(|_| Err(error.clone())).collect()
        }
    }
}

async fn read(db: &impl ConnectionTrait, asked: &[(SiteId, Subject)]) -> Result<Found, DbErr> {
    let mut members: Vec<(SiteId, MemberId)> = Vec::new();
    let mut accounts: Vec<(SiteId, AccountId)> = Vec::new();
    for (site, subject) in asked {
        match subject {
            Subject::Member(member) => members.push((*site, *member)),
            Subject::Account(account) => accounts.push((*site, *account)),
        }
    }
    members.sort_unstable();
    members.dedup();
    accounts.sort_unstable();
    accounts.dedup();
    let mut found = Found::new();
    if !members.is_empty() {
        let sql = format!(
            "SELECT {COLUMNS}, r.site_id AS subject_site FROM {{rows}} r JOIN account a \
             ON a.site_id = r.site_id AND a.member_id = r.member_id \
             LEFT JOIN followed_channel f ON f.account_id = a.id"
        );
        let rows = Rows::new(&members)
            .uuid("site_id", |(site, _)| site.0)
            .uuid("member_id", |(_, member)| member.0)
            .query(db, &sql)
            .await?;
        for row in rows {
            let subject = Subject::Member(row.try_get("", "subject_member")?);
            add(&mut found, &row, subject)?;
        }
    }
    if !accounts.is_empty() {
        let sql = format!(
            "SELECT {COLUMNS}, r.site_id AS subject_site FROM {{rows}} r JOIN account a \
             ON a.id = r.id AND a.site_id = r.site_id \
             LEFT JOIN followed_channel f ON f.account_id = a.id"
        );
        let rows = Rows::new(&accounts)
            .uuid("site_id", |(site, _)| site.0)
            .uuid("id", |(_, account)| account.0)
            .query(db, &sql)
            .await?;
        for row in rows {
            let subject = Subject::Account(row.try_get("", "subject_account")?);
            add(&mut found, &row, subject)?;
        }
    }
    for channels in found.values_mut() {
        channels.sort_unstable_by_key(|row| std::cmp::Reverse((row.created_at, row.id)));
    }
    Ok(found)
}

fn add(found: &mut Found, row: &QueryResult, subject: Subject) -> Result<(), DbErr> {
    let site: SiteId = row.try_get("", "subject_site")?;
    let channels = found.entry((site, subject)).or_default();
    if row.try_get::<Option<uuid::Uuid>>("", "id")?.is_some() {
        channels.push(followed_channel::Model::from_query_result(row, "")?);
    }
    Ok(())
}
