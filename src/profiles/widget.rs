//! What a page shows a member about the site's channels: what there is to follow, how, and what is followed already.

use entity::id::{MemberId, SiteId, Timestamp};
use entity::kinds::{Channel, Platform, ProgramStatus};
use entity::{connection, member_handle, site_channel};
use sea_orm::{
    ColumnTrait, ConnectionTrait, DbErr, EntityTrait, QueryFilter, QueryOrder as _, QuerySelect as _,
};

use super::{handles, platform_of};
use crate::channels;
use crate::follows::Followed;
use crate::programs;

/// Connections of a site that are looked at for the brand's handle.
const CONNECTIONS_MAX: u64 = 50;

/// How a member can follow a channel so that it counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Way {
    /// By sending the brand a direct message with a link code: the platform then says whether they follow.
    DirectMessage,
    /// By saying so.
    Declare,
}

/// An enabled channel as a member sees it.
#[derive(Debug, Clone)]
pub struct ChannelState {
    /// The owner's settings.
    pub settings: site_channel::Model,
    /// The member's follow, if there is one.
    pub follow: Option<Followed>,
    /// The handle that the member claims there, if any.
    pub handle: Option<member_handle::Model>,
    /// How it can be followed now, the best proven way first.
    pub ways: Vec<Way>,
}

/// What a site offers to a member.
#[derive(Debug, Clone)]
pub struct Offer {
    /// Whether follows are taken at all.
    pub program: ProgramStatus,
    /// The enabled channels.
    pub channels: Vec<ChannelState>,
}

/// What `site` offers to `member`, who has `follows`. A follow is refused unless the program is active, so there is no way to one
/// then.
pub async fn offer(
    db: &impl ConnectionTrait,
    site: SiteId,
    member: MemberId,
    follows: &[Followed],
) -> Result<Offer, DbErr> {
    let program = programs::find_program(db, site).await?.map_or(ProgramStatus::Draft, |row| row.status);
    let settings = channels::read_settings(db, site).await?.map(|(_, channels)| channels).unwrap_or_default();
    let handles = handles::of_member(db, site, member).await?;
    let connected = connected(db, site).await?;
    let enabled = settings.into_iter().filter(|row| row.enabled);
    let states = enabled.map(|settings| {
        let platform = platform_of(settings.channel);
        let tells = connected.iter().any(|brand| Some(brand.platform) == platform && brand.works);
        ChannelState {
            follow: follows.iter().find(|follow| follow.channel == settings.channel).cloned(),
            handle: handles.iter().find(|row| Some(row.platform) == platform).cloned(),
            ways: match (program, tells) {
                (ProgramStatus::Active, true) => vec![Way::DirectMessage, Way::Declare],
                (ProgramStatus::Active, false) => vec![Way::Declare],
                (ProgramStatus::Draft | ProgramStatus::Paused, _) => Vec::new(),
            },
            settings,
        }
    });
    Ok(Offer { program, channels: states.collect() })
}

/// The brand's account on a platform.
struct Brand {
    platform: Platform,
    username: Option<String>,
    works: bool,
}

/// The accounts that the owner connected, the oldest first.
async fn connected(db: &impl ConnectionTrait, site: SiteId) -> Result<Vec<Brand>, DbErr> {
    let rows: Vec<(Platform, Option<String>, Option<Timestamp>)> = connection::Entity::find()
        .select_only()
        .columns([connection::Column::Platform, connection::Column::Username, connection::Column::DeadSince])
        .filter(connection::Column::SiteId.eq(site))
        .order_by_asc(connection::Column::Id)
        .limit(CONNECTIONS_MAX)
        .into_tuple()
        .all(db)
        .await?;
    let brand = |(platform, username, dead): (_, _, Option<Timestamp>)| Brand {
        platform,
        username,
        works: dead.is_none(),
    };
    Ok(rows.into_iter().map(brand).collect())
}

/// The page that opens a direct message to the brand on Instagram, with `code` as its `ref`; `None` if the brand's handle
/// is not known. The connected account's name counts more than what the owner wrote in the settings.
pub async fn message_page(
    db: &impl ConnectionTrait,
    site: SiteId,
    code: &str,
) -> Result<Option<String>, DbErr> {
    let mut brands = connected(db, site).await?;
    // Stable: among those that work, and among those that do not, the oldest stays first.
    brands.sort_by_key(|brand| !brand.works);
    let mut on_instagram = brands.into_iter().filter(|brand| brand.platform == Platform::Instagram);
    let known = on_instagram.find_map(|brand| brand.username.as_deref().and_then(handles::normalised));
    let known = match known {
        Some(handle) => Some(handle),
        None => {
            let row = site_channel::Entity::find_by_id((site, Channel::Instagram)).one(db).await?;
            row.and_then(|row| row.handle).as_deref().and_then(handles::normalised)
        }
    };
    Ok(known.map(|handle| format!("https://ig.me/m/{handle}?ref={code}")))
}
