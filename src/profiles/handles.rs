//! Handles: how they are written, who claims them, and who has proven them.

use entity::id::{MemberId, SiteId, Timestamp};
use entity::kinds::Platform;
use entity::{handle_claim, member_handle};
use sea_orm::sea_query::{Expr, OnConflict};
use sea_orm::{
    ActiveValue::Set, ColumnTrait, ConnectionTrait, DbErr, EntityTrait, QueryFilter, QueryOrder as _,
    QuerySelect as _, Select,
};

use super::attributes::prefix;
use crate::db::Tx;
use crate::inbox;

/// Characters of a handle; Instagram allows 30, TikTok 24.
pub const HANDLE_MAX: usize = 30;
/// Times that a member may change to another handle on a platform within [`CHANGES_MS`]: what waits for a handle is whoever's claims it first.
pub const CHANGES_MAX: usize = 5;
/// The time within which they are counted, in milliseconds: 30 days.
pub const CHANGES_MS: i64 = 30 * 24 * 3_600_000;

/// `text` as handles are compared: without spaces around it and a leading `@`, in lower case. `None` if it cannot be one: letters
/// without accents, digits, `.` and `_` are allowed.
#[must_use]
pub fn normalised(text: &str) -> Option<String> {
    let text = text.trim();
    let text = text.strip_prefix('@').unwrap_or(text);
    let fits = !text.is_empty()
        && text.len() <= HANDLE_MAX
        && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'_'));
    fits.then(|| text.to_ascii_lowercase())
}

/// The handles of `member`.
pub async fn of_member(
    db: &impl ConnectionTrait,
    site: SiteId,
    member: MemberId,
) -> Result<Vec<member_handle::Model>, DbErr> {
    member_handle::Entity::find()
        .filter(member_handle::Column::SiteId.eq(site))
        .filter(member_handle::Column::MemberId.eq(member))
        .order_by_asc(member_handle::Column::Platform)
        .all(db)
        .await
}

/// When `member` may claim another handle than the last one again, if that was changed so often that they may not now. Clearing the handle in
/// between changes nothing. Whoever claims afterwards in the same transaction calls [`super::hold`] first.
pub async fn may_change_at(
    tx: &Tx,
    (site, member): (SiteId, MemberId),
    platform: Platform,
    handle: &str,
) -> Result<Option<Timestamp>, DbErr> {
    let now = of_member(tx.conn(), site, member).await?;
    // One more than may be, as the first of all is no change.
    let last = claims(site, member, platform).limit(CHANGES_MAX as u64 + 1).all(tx.conn()).await?;
    let is_claimed = last.first().is_some_and(|claim| claim.handle.as_deref() == Some(handle));
    if is_claimed || now.iter().any(|row| row.platform == platform && row.handle == handle) {
        return Ok(None);
    }
    let oldest = last.get(CHANGES_MAX - 1).filter(|_| last.len() > CHANGES_MAX);
    let again_at = oldest.map(|claim| claim.claimed_at.plus_ms(CHANGES_MS));
    Ok(again_at.filter(|at| *at > tx.now()))
}

/// What `member` has claimed on `platform`, the last first.
fn claims(site: SiteId, member: MemberId, platform: Platform) -> Select<handle_claim::Entity> {
    handle_claim::Entity::find()
        .filter(handle_claim::Column::SiteId.eq(site))
        .filter(handle_claim::Column::MemberId.eq(member))
        .filter(handle_claim::Column::Platform.eq(platform))
        .order_by_desc(handle_claim::Column::Id)
}

/// Keeps that `member` claims `handle`, unless it is the one that they claimed last.
async fn remember(
    tx: &Tx,
    (site, member): (SiteId, MemberId),
    platform: Platform,
    handle: &str,
) -> Result<(), DbErr> {
    let last = claims(site, member, platform).one(tx.conn()).await?;
    if last.is_some_and(|claim| claim.handle.as_deref() == Some(handle)) {
        return Ok(());
    }
    let claim = handle_claim::Model {
        site_id: site,
        member_id: member,
        platform,
        id: tx.new_id(),
        handle: Some(handle.to_owned()),
        claimed_at: tx.now(),
    };
    handle_claim::Entity::insert(handle_claim::ActiveModel::from(claim))
        .exec_without_returning(tx.conn())
        .await?;
    Ok(())
}

/// Takes the handles from what is remembered of the claims of `member`. That there were claims stays, and counts.
pub(super) async fn forget_claims(tx: &Tx, site: SiteId, member: MemberId) -> Result<(), DbErr> {
    handle_claim::Entity::update_many()
        .col_expr(handle_claim::Column::Handle, Expr::val(None::<String>))
        .filter(handle_claim::Column::SiteId.eq(site))
        .filter(handle_claim::Column::MemberId.eq(member))
        .exec(tx.conn())
        .await?;
    Ok(())
}

/// Notes that `member` claims `handle`, which is normalised, or none. Another one than before is no longer proven, and what the
/// platform told about the one before is taken away. What waited for somebody to have it is worked on. Says whether anything
/// changed. Whoever may not be alone with the member calls [`super::hold`] first.
pub async fn claim(
    tx: &Tx,
    site: SiteId,
    member: MemberId,
    platform: Platform,
    handle: Option<&str>,
) -> Result<bool, DbErr> {
    let before = of_member(tx.conn(), site, member).await?;
    let before = before.iter().find(|row| row.platform == platform);
    if before.map(|row| row.handle.as_str()) == handle {
        return Ok(false);
    }
    super::forget(tx, site, member, platform).await?;
    let Some(handle) = handle else {
        member_handle::Entity::delete_by_id((site, member, platform)).exec(tx.conn()).await?;
        return Ok(true);
    };
    remember(tx, (site, member), platform, handle).await?;
    let row = member_handle::ActiveModel {
        site_id: Set(site),
        member_id: Set(member),
        platform: Set(platform),
        handle: Set(handle.to_owned()),
        person: Set(None),
        person_account: Set(None),
        proven_at: Set(None),
        proven_by: Set(None),
        claimed_at: Set(tx.now()),
    };
    let key =
        [member_handle::Column::SiteId, member_handle::Column::MemberId, member_handle::Column::Platform];
    let changed = [
        member_handle::Column::Handle,
        member_handle::Column::Person,
        member_handle::Column::PersonAccount,
        member_handle::Column::ProvenAt,
        member_handle::Column::ProvenBy,
        member_handle::Column::ClaimedAt,
    ];
    member_handle::Entity::insert(row)
        .on_conflict(OnConflict::columns(key).update_columns(changed).to_owned())
        .exec_without_returning(tx.conn())
        .await?;
    inbox::unpark_handle(tx, site, platform, handle).await?;
    Ok(true)
}

/// The name of the attribute by which a member claims a handle: `instagramHandle`, `tiktokHandle`.
#[must_use]
pub fn attribute(platform: Platform) -> String {
    format!("{}Handle", prefix(platform))
}

#[cfg(test)]
mod tests {
    use super::normalised;

    #[test]
    fn handles_are_compared_without_at_sign_and_case() {
        for (text, handle) in [
            ("@Mia.Runs_Oslo", Some("mia.runs_oslo")),
            ("  someoneelse.42 ", Some("someoneelse.42")),
            ("@", None),
            ("", None),
            ("mia runs", None),
            ("mía", None),
            ("https://www.tiktok.com/@mia", None),
            ("a234567890123456789012345678901", None),
        ] {
            assert_eq!(normalised(text).as_deref(), handle, "{text}");
        }
    }
}
