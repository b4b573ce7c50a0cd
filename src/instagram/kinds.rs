//! What Instagram sends, sorted by what can become of it.

/// What something in a webhook is. Its name is [`NewItem::kind`](crate::inbox::NewItem::kind).
///
/// The payload of those from `messages`, `standby` and the other fields of messaging is the messaging entry; of all others
/// it is the object `{"field", "value"}`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// A message to the brand.
    Message,
    /// The brand's own message, or one to itself.
    MessageEcho,
    /// A message was edited.
    MessageEdit,
    /// A message was unsent.
    MessageUnsend,
    /// A reaction to a message was set or taken back.
    Reaction,
    /// A message was read.
    Seen,
    /// A button was tapped.
    Postback,
    /// A link to the conversation was followed.
    Referral,
    /// Messages were allowed.
    Optin,
    /// A conversation was passed between apps.
    Handover,
    /// Meta objects to what the brand's app does.
    PolicyEnforcement,
    /// An answer was judged.
    ResponseFeedback,
    /// Somebody mentioned the brand in a story; one for each mention, whose payload has the attachment of that mention only.
    StoryMention,
    /// Somebody mentioned the brand in a caption.
    MentionCaption,
    /// Somebody mentioned the brand in a comment.
    MentionComment,
    /// A comment under the brand's media.
    Comment,
    /// A comment in the brand's broadcast.
    LiveComment,
    /// Numbers of a story that has ended.
    StoryInsights,
    /// Permissions were granted or revoked.
    Permissions,
    /// The test button of Meta's dashboard; it is about nobody.
    DashboardTest,
    /// Something else. A payload that is no JSON object, or a large one, is a text with its beginning.
    Unknown,
}

impl Kind {
    /// The name.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Message => "message",
            Self::MessageEcho => "message_echo",
            Self::MessageEdit => "message_edit",
            Self::MessageUnsend => "message_unsend",
            Self::Reaction => "reaction",
            Self::Seen => "seen",
            Self::Postback => "postback",
            Self::Referral => "referral",
            Self::Optin => "optin",
            Self::Handover => "handover",
            Self::PolicyEnforcement => "policy_enforcement",
            Self::ResponseFeedback => "response_feedback",
            Self::StoryMention => "story_mention",
            Self::MentionCaption => "mention_caption",
            Self::MentionComment => "mention_comment",
            Self::Comment => "comment",
            Self::LiveComment => "live_comment",
            Self::StoryInsights => "story_insights",
            Self::Permissions => "permissions",
            Self::DashboardTest => "dashboard_test",
            Self::Unknown => "unknown",
        }
    }
}
