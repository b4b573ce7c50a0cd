//! Per-site settings of one social channel.

use sea_orm::entity::prelude::*;

use crate::id::SiteId;
use crate::kinds::{Channel, UnfollowPolicy};

/// Per-site settings of one social channel.
#[derive(Clone, Debug, PartialEq, Eq, DeriveEntityModel)]
#[sea_orm(table_name = "site_channel")]
pub struct Model {
    /// Its site.
    #[sea_orm(primary_key, auto_increment = false)]
    pub site_id: SiteId,
    /// Its channel.
    #[sea_orm(primary_key, auto_increment = false)]
    pub channel: Channel,
    /// Whether members may follow it.
    pub enabled: bool,
    /// The brand's user name there.
    pub handle: Option<String>,
    /// The brand's page there.
    pub url: Option<String>,
    /// Points for a follow; absent leaves it to the earning rule.
    pub points: Option<i64>,
    /// What becomes of the award when a member no longer follows.
    pub unfollow_policy: UnfollowPolicy,
    /// Until how many days after the follow points are taken back.
    pub reverse_within_days: i32,
    /// Whether a follow seen from a handle that is only claimed earns at once.
    pub claimed_handle_earns: bool,
    /// What a member is answered whose message proved their handle; absent for no answer.
    pub link_reply: Option<String>,
}

/// Relations are written as joins where they are used.
#[derive(Copy, Clone, Debug, EnumIter, DeriveRelation)]
pub enum Relation {}

impl ActiveModelBehavior for ActiveModel {}
