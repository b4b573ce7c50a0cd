//! Handles: how they are written, who claims them, and who has proven them.

use entity::id::{MemberId, SiteId};
use entity::kinds::Platform;
use entity::member_handle;
use sea_orm::sea_query::OnConflict;
use sea_orm::{
    ActiveValue::Set, ColumnTrait, ConnectionTrait, DbErr, EntityTrait, QueryFilter, QueryOrder as _,
};

use super::attributes::prefix;
use crate::db::Tx;
use crate::inbox;

/// Characters of a handle; Instagram allows 30, TikTok 24.
pub const HANDLE_MAX: usize = 30;

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
