//! Social-media settings: which of the five channels a site's members may follow, where, and for how many points.

pub mod api;

use entity::id::SiteId;
use entity::kinds::{Channel, UnfollowPolicy};
use entity::{site, site_channel};
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC};
use sea_orm::sea_query::OnConflict;
use sea_orm::{
    ActiveModelTrait, ActiveValue::Set, ColumnTrait, ConnectionTrait, DbErr, EntityTrait, QueryFilter,
};

use crate::change::Change;
use crate::db::Tx;
use crate::sites::config;

/// Until how many days after a follow its points are taken back, unless the owner says otherwise.
pub const REVERSE_WITHIN_DAYS: i32 = 30;

/// Bytes of a message on Instagram.
pub const LINK_REPLY_MAX: usize = 1_000;

/// A change to one channel; what is `None` stays.
#[derive(Debug, Clone)]
pub struct ChannelChange {
    /// Which channel.
    pub channel: Channel,
    /// Whether members may follow it.
    pub enabled: Option<bool>,
    /// The brand's user name there.
    pub handle: Change<String>,
    /// The brand's page; derived from the handle unless given.
    pub url: Change<String>,
    /// Points for a follow.
    pub points: Change<i64>,
    /// What becomes of the award when a member no longer follows.
    pub unfollow_policy: Option<UnfollowPolicy>,
    /// Until how many days after the follow points are taken back.
    pub reverse_within_days: Option<i32>,
    /// Whether a follow seen from a handle that is only claimed earns at once.
    pub claimed_handle_earns: Option<bool>,
    /// What a member is answered whose message proved their handle; nothing if empty.
    pub link_reply: Option<String>,
}

/// Why settings were not changed.
#[derive(Debug, thiserror::Error)]
pub enum ChangeError {
    /// There is no such site.
    #[error("there is no such site")]
    SiteNotFound,
    /// Somebody changed them since.
    #[error("entity has already changed since the requested revision")]
    StaleRevision,
    /// An enabled channel leads nowhere.
    #[error("channel {1} needs an id (the handle) or a url before it can be enabled")]
    NoHandle(usize, Channel),
    /// What no platform takes for a handle.
    #[error("is not a handle: give the name alone, without spaces, and the address of the page as url")]
    NotAHandle(usize),
    /// A channel is named twice.
    #[error("names a channel that was named before")]
    Twice(usize),
    /// The database failed.
    #[error("the database failed")]
    Store(#[from] DbErr),
}

/// The revision and all five channels of `site`, in the order of [`Channel::ALL`]; `None` for an unknown site.
pub async fn read_settings(
    db: &impl ConnectionTrait,
    site: SiteId,
) -> Result<Option<(i64, Vec<site_channel::Model>)>, DbErr> {
    let Some(row) = site::Entity::find_by_id(site).one(db).await? else {
        return Ok(None);
    };
    let stored = site_channel::Entity::find().filter(site_channel::Column::SiteId.eq(site)).all(db).await?;
    let channels = Channel::ALL
        .iter()
        .map(|channel| {
            stored.iter().find(|row| row.channel == *channel).cloned().unwrap_or(site_channel::Model {
                site_id: site,
                channel: *channel,
                enabled: false,
                handle: None,
                url: None,
                points: None,
                unfollow_policy: UnfollowPolicy::Keep,
                reverse_within_days: REVERSE_WITHIN_DAYS,
                claimed_handle_earns: true,
                link_reply: None,
            })
        })
        .collect();
    Ok(Some((row.settings_revision, channels)))
}

/// Changes the named channels of `site`. With `revision`, only if nobody changed the settings since.
pub async fn change_settings(
    tx: &Tx,
    site: SiteId,
    revision: Option<i64>,
    changes: &[ChannelChange],
) -> Result<(), ChangeError> {
    config::touch(tx, site).await?;
    let (current, mut channels) = read_settings(tx.conn(), site).await?.ok_or(ChangeError::SiteNotFound)?;
    if revision.is_some_and(|revision| revision != current) {
        return Err(ChangeError::StaleRevision);
    }
    for (index, change) in changes.iter().enumerate() {
        if changes[..index].iter().any(|other| other.channel == change.channel) {
            return Err(ChangeError::Twice(index));
        }
        if matches!(&change.handle, Change::Set(handle) if !is_handle(handle)) {
            return Err(ChangeError::NotAHandle(index));
        }
        let Some(row) = channels.iter_mut().find(|row| row.channel == change.channel) else {
            continue;
        };
        apply(row, change);
        if row.enabled && row.url.is_none() {
            return Err(ChangeError::NoHandle(index, row.channel));
        }
        site_channel::Entity::insert(site_channel::ActiveModel::from(row.clone()))
            .on_conflict(
                OnConflict::columns([site_channel::Column::SiteId, site_channel::Column::Channel])
                    .update_columns([
                        site_channel::Column::Enabled,
                        site_channel::Column::Handle,
                        site_channel::Column::Url,
                        site_channel::Column::Points,
                        site_channel::Column::UnfollowPolicy,
                        site_channel::Column::ReverseWithinDays,
                        site_channel::Column::ClaimedHandleEarns,
                        site_channel::Column::LinkReply,
                    ])
                    .to_owned(),
            )
            .exec_without_returning(tx.conn())
            .await?;
    }
    site::ActiveModel {
        id: Set(site),
        settings_revision: Set(current + 1),
        updated_at: Set(tx.now()),
        ..Default::default()
    }
    .update(tx.conn())
    .await?;
    Ok(())
}

fn apply(row: &mut site_channel::Model, change: &ChannelChange) {
    if let Some(enabled) = change.enabled {
        row.enabled = enabled;
    }
    let channel = row.channel;
    let page = |handle: Option<&str>| handle.map(|handle| page_of(channel, handle));
    let before = page(row.handle.as_deref());
    row.handle = change.handle.clone().applied(row.handle.take());
    let derived = page(row.handle.as_deref());
    row.url = match (&change.url, &change.handle) {
        // Who sends back what was read gives the page of the handle before, and means the handle's.
        (Change::Set(url), _) if before.as_ref() == Some(url) => derived,
        (Change::Set(url), _) => Some(url.clone()),
        (Change::Remove, _) | (Change::Keep, Change::Set(_)) => derived,
        // The page that was derived from it goes with it; one that was given stays.
        (Change::Keep, Change::Remove) => row.url.take().filter(|url| before.as_ref() != Some(url)),
        (Change::Keep, Change::Keep) => row.url.take(),
    };
    row.points = change.points.applied(row.points);
    row.unfollow_policy = change.unfollow_policy.unwrap_or(row.unfollow_policy);
    row.reverse_within_days = change.reverse_within_days.unwrap_or(row.reverse_within_days);
    row.claimed_handle_earns = change.claimed_handle_earns.unwrap_or(row.claimed_handle_earns);
    if let Some(reply) = &change.link_reply {
        row.link_reply = Some(reply.trim().to_owned()).filter(|reply| !reply.is_empty());
    }
}

/// What stands for itself in a path.
const IN_A_PATH: &AsciiSet = &NON_ALPHANUMERIC.remove(b'.').remove(b'-').remove(b'_').remove(b'~');

/// Whether `handle` may be one: no platform has any with a space or with what has a meaning in the address of a page.
fn is_handle(handle: &str) -> bool {
    let name = handle.trim().trim_start_matches('@');
    let is_odd = |char: char| char.is_whitespace() || char.is_control() || "/\\?#:@\"<>|".contains(char);
    !name.is_empty() && name != "." && name != ".." && !name.contains(is_odd)
}

/// The page of `handle` on `channel`; a leading `@` is not part of the handle.
fn page_of(channel: Channel, handle: &str) -> String {
    let handle = handle.trim().trim_start_matches('@');
    let handle = percent_encoding::utf8_percent_encode(handle, IN_A_PATH);
    match channel {
        Channel::Facebook => format!("https://www.facebook.com/{handle}"),
        Channel::Instagram => format!("https://www.instagram.com/{handle}"),
        Channel::Linkedin => format!("https://www.linkedin.com/company/{handle}"),
        Channel::X => format!("https://x.com/{handle}"),
        Channel::Tiktok => format!("https://www.tiktok.com/@{handle}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_page_is_derived_from_the_handle() {
        let pages: Vec<_> = Channel::ALL.iter().map(|channel| page_of(*channel, "@nordbrew")).collect();
        assert_eq!(
            pages,
            [
                "https://www.facebook.com/nordbrew",
                "https://www.instagram.com/nordbrew",
                "https://www.linkedin.com/company/nordbrew",
                "https://x.com/nordbrew",
                "https://www.tiktok.com/@nordbrew",
            ]
        );
        assert_eq!(page_of(Channel::X, "a/b?c"), "https://x.com/a%2Fb%3Fc");
    }
}
