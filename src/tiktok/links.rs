//! Links to posts that members hand in: looked up where everybody may, and counted if the post is theirs.

use entity::id::{ItemId, MemberId, SiteId};
use entity::kinds::Platform;
use sea_orm::DbErr;

use super::Tiktok;
use super::adapters::oembed;
use super::calls::CallError;
use super::post::Post;
use crate::inbox::Call;
use crate::profiles::handles;
use crate::sources::intake::{Intake, IntakeError};

/// The entrance, as raw deliveries name it.
pub const SOURCE: &str = "tiktok/link";

/// Why a link does not count.
#[derive(Debug, thiserror::Error)]
pub enum LinkError {
    /// It is no link to a post.
    #[error("must be the https address of a post on tiktok.com, vm.tiktok.com or vt.tiktok.com")]
    NotAPost,
    /// The member claims no handle.
    #[error("say first which handle on TikTok is yours")]
    NoHandle,
    /// `TikTok` shows no such post.
    #[error("TikTok shows no such post to everybody")]
    NotVisible,
    /// `TikTok` does not answer.
    #[error("TikTok does not answer at the moment; try again later")]
    Unavailable,
    /// Somebody else made it.
    #[error("the post was made by another handle than yours")]
    SomebodyElses,
    /// It does not count.
    #[error("the post does not count: {0}")]
    TooOld(&'static str),
    /// The database failed.
    #[error("the database failed")]
    Store(#[from] DbErr),
    /// It could not be stored.
    #[error(transparent)]
    Intake(#[from] IntakeError),
}

impl Tiktok {
    /// Stores the post at `text` that `member` of `site` made; says what it is, and what was stored unless it was known.
    pub async fn hand_in(
        &self,
        intake: &Intake,
        (site, member): (SiteId, MemberId),
        text: &str,
    ) -> Result<(Post, Option<ItemId>), LinkError> {
        let link = oembed::link(text).ok_or(LinkError::NotAPost)?;
        let handles = handles::of_member(self.db.read(), site, member).await?;
        let own =
            handles.into_iter().find(|row| row.platform == Platform::Tiktok).ok_or(LinkError::NoHandle)?;
        let found = oembed::look_up(self, &link).await.map_err(|error| match error {
            CallError::Refused(_) => LinkError::NotVisible,
            _ => LinkError::Unavailable,
        })?;
        let post = found.ok_or(LinkError::NotVisible)?;
        if post.author_handle != own.handle {
            return Err(LinkError::SomebodyElses);
        }
        let early = post.is_before_claim(own.claimed_at);
        let early = early.then_some("it was posted before you said that the handle is yours");
        if let Some(reason) = post.is_too_old(self.db.now()).or(early) {
            return Err(LinkError::TooOld(reason));
        }
        let call = Call { source: SOURCE, body: link.as_str().into(), items: vec![post.item(site)] };
        let stored = intake.store(call).await?;
        Ok((post, stored.new.first().map(|(_, id)| *id)))
    }
}
