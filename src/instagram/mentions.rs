//! Answering those who mention the brand.

use entity::id::{ActivityId, SiteId};
use entity::kinds::{ActivityType, ConnectionLogin, MentionType, Platform};
use entity::{activity, item};
use sea_orm::{ConnectionTrait, DbErr, EntityTrait};
use serde_json::Value;

use super::answers;
use super::brands::{self, Notes};
use super::graph_error::GraphError;
use super::understand::Instagram;

/// Characters of an answer, which is a comment on Instagram.
pub const REPLY_MAX: usize = 2_200;
/// What an answer needs.
const PERMISSIONS: &str = "instagram_manage_comments,instagram_basic,pages_read_engagement";

/// Why a mention was not answered.
#[derive(Debug, thiserror::Error)]
pub enum ReplyError {
    /// The site has no such activity.
    #[error("the site has no such activity")]
    NotFound,
    /// It is something else.
    #[error(
        "only a mention in the text of a post or reel on Instagram, or in a comment there, can be answered"
    )]
    NotAMention,
    /// The brand's account is not connected any more.
    #[error("the account that was mentioned is no longer connected")]
    NotConnected,
    /// It is connected in a way that cannot do this.
    #[error("mentions cannot be answered with Instagram Login; connect the account through Facebook")]
    WrongLogin,
    /// Instagram did not do it.
    #[error(transparent)]
    Graph(#[from] GraphError),
    /// The database failed.
    #[error("the database failed: {0}")]
    Store(#[from] DbErr),
}

/// What is answered: a post, or a comment below it.
struct Mention {
    media: String,
    comment: Option<String>,
}

impl Mention {
    fn of(row: &activity::Model) -> Option<Self> {
        let properties: Value = serde_json::from_str(&row.properties).unwrap_or_default();
        match (row.platform, row.activity_type, row.mention_type) {
            (Platform::Instagram, ActivityType::MentionedYou, Some(MentionType::Mention))
                if properties["media_type"] != "story" =>
            {
                Some(Self { media: row.external_id.clone(), comment: None })
            }
            (Platform::Instagram, ActivityType::CommentMentionedYou, _) => {
                let media = answers::id(&properties["media_id"])?;
                Some(Self { media, comment: Some(row.external_id.clone()) })
            }
            _ => None,
        }
    }
}

async fn find(
    db: &impl ConnectionTrait,
    site: SiteId,
    activity: ActivityId,
) -> Result<(Mention, String), ReplyError> {
    let row = activity::Entity::find_by_id((site, activity)).one(db).await?.ok_or(ReplyError::NotFound)?;
    let mention = Mention::of(&row).ok_or(ReplyError::NotAMention)?;
    let item = item::Entity::find_by_id(row.item_id).one(db).await?.ok_or(ReplyError::NotFound)?;
    Ok((mention, item.account))
}

impl Instagram {
    /// Answers the mention that is `activity` of `site` with `message`; gives the id of the comment.
    pub async fn reply(
        &self,
        site: SiteId,
        activity: ActivityId,
        message: &str,
    ) -> Result<String, ReplyError> {
        let (mention, account) = find(self.db().read(), site, activity).await?;
        let found = brands::of_accounts(self.db().read(), std::slice::from_ref(&account)).await?;
        let row = found.get(&account).filter(|row| row.site_id == site).ok_or(ReplyError::NotConnected)?;
        if row.login != ConnectionLogin::Facebook {
            return Err(ReplyError::WrongLogin);
        }
        let now = self.db().now();
        let access = brands::access(self.sealer(), row, now)?;
        let whom = (mention.media.as_str(), mention.comment.as_deref());
        let replied = self.graph().reply_to_mention(&access, whom, message).await;
        let mut notes = Notes::default();
        if let Err(error) = &replied {
            notes.take(error, PERMISSIONS, now);
        }
        notes.take_gate(self.graph(), row.id, now);
        brands::note(self.db(), row, &notes).await?;
        Ok(replied?)
    }
}
