//! The closed lists of words that columns hold. Stored as the very text that the API speaks.

use sea_orm::{DeriveActiveEnum, EnumIter};
use serde::{Deserialize, Serialize};

macro_rules! kinds {
    ($($(#[$doc:meta])* $name:ident { $($(#[$vdoc:meta])* $variant:ident = $text:literal),+ $(,)? })+) => {$(
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize, EnumIter, DeriveActiveEnum)]
        #[sea_orm(rs_type = "String", db_type = "Text")]
        pub enum $name {
            $(
                $(#[$vdoc])*
                #[serde(rename = $text)]
                #[sea_orm(string_value = $text)]
                $variant,
            )+
        }

        impl $name {
            /// Every value, in the order of the documentation.
            pub const ALL: &'static [Self] = &[$(Self::$variant),+];

            /// The text on the wire and in storage.
            #[must_use]
            pub const fn as_str(self) -> &'static str {
                match self { $(Self::$variant => $text),+ }
            }

            /// The value that `text` names, or `None`.
            #[must_use]
            pub fn parse(text: &str) -> Option<Self> {
                match text { $($text => Some(Self::$variant),)+ _ => None }
            }
        }

        impl std::fmt::Display for $name {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str(self.as_str())
            }
        }
    )+};
}

kinds! {
    /// A social channel (wix.loyalty.socialmedia.v1 `Channel`).
    Channel {
        /// Facebook.
        Facebook = "FACEBOOK",
        /// Instagram.
        Instagram = "INSTAGRAM",
        /// LinkedIn.
        Linkedin = "LINKEDIN",
        /// X.
        X = "X",
        /// TikTok.
        Tiktok = "TIKTOK",
    }
    /// Where the knowledge of a follow came from.
    FollowSource {
        /// A call of the REST API.
        Api = "API",
        /// Instagram told us.
        Instagram = "INSTAGRAM",
        /// TikTok told us.
        Tiktok = "TIKTOK",
    }
    /// How well a follow is proven.
    Evidence {
        /// The member or an app said so.
        Declared = "DECLARED",
        /// A message came from a handle that the member claims.
        ClaimedHandle = "CLAIMED_HANDLE",
        /// The platform confirmed it.
        Verified = "VERIFIED",
        /// It was verified long ago.
        Stale = "STALE",
        /// The platform says that it is over.
        Withdrawn = "WITHDRAWN",
    }
    /// State of a loyalty program (wix.loyalty.v1.program).
    ProgramStatus {
        /// Set up, never started.
        Draft = "DRAFT",
        /// Members earn points.
        Active = "ACTIVE",
        /// Members earn nothing for now.
        Paused = "PAUSED",
    }
    /// Kind of a ledger entry (wix.loyalty.transaction.v1).
    EntryType {
        /// Points for something done.
        Earn = "EARN",
        /// Points spent.
        Redeem = "REDEEM",
        /// A correction by hand.
        Adjust = "ADJUST",
        /// Spent points given back.
        Refund = "REFUND",
        /// Points that ran out.
        Expire = "EXPIRE",
    }
    /// Where the events of a subscription go.
    SubscriptionKind {
        /// To a URL, by HTTP.
        Webhook = "WEBHOOK",
        /// To the stream of the operator's NATS server.
        Nats = "NATS",
    }
    /// Whether a subscription receives events. They are recorded for it in any case.
    SubscriptionStatus {
        /// They are sent.
        Enabled = "ENABLED",
        /// They are held: the owner wants a break.
        Paused = "PAUSED",
        /// They are held: the owner or the receiver wants no more.
        Disabled = "DISABLED",
    }
    /// What becomes of held deliveries.
    HeldDeliveries {
        /// They are sent once the subscription is enabled.
        Release = "RELEASE",
        /// They are cancelled.
        Cancel = "CANCEL",
    }
    /// Which waits lie between the tries of a delivery.
    RetryProfile {
        /// Wix's twelve resends, 47 h 11 min in all.
        Wix = "WIX",
        /// The nine resends of the Standard Webhooks specification's example, 75 h 35 min in all.
        Standard = "STANDARD",
        /// The subscription's own.
        Custom = "CUSTOM",
    }
    /// In which order a subscription's deliveries are sent.
    DeliveryOrdering {
        /// In none: each as soon as it can be.
        Parallel = "PARALLEL",
        /// Those about one account one after the other.
        PerEntity = "PER_ENTITY",
        /// All one after the other.
        Strict = "STRICT",
    }
    /// What is to be told, and done, about a receiver.
    EndpointNotice {
        /// It works again.
        Recovered = "RECOVERED",
        /// It answered 410: its subscription is to be disabled.
        Gone = "GONE",
    }
    /// Which deliveries a replay is about.
    ReplayScope {
        /// Those that were exhausted or cancelled.
        Failed = "FAILED",
        /// Those that there are not: the subscription is newer than the event, or meant other events then.
        Missing = "MISSING",
        /// Both, and those that were accepted.
        All = "ALL",
    }
    /// How far a replay is.
    ReplayStatus {
        /// It goes through the events.
        Running = "RUNNING",
        /// It has been through all of them.
        Done = "DONE",
        /// It was ended before.
        Cancelled = "CANCELLED",
    }
    /// How a webhook is signed in its headers, as Standard Webhooks has it.
    SignatureScheme {
        /// HMAC-SHA256 with a shared secret.
        V1 = "V1",
        /// Ed25519.
        V1a = "V1A",
    }
    /// State of a delivery.
    DeliveryStatus {
        /// Not tried yet.
        Pending = "PENDING",
        /// Tried and failed; tried again at `nextAttemptDate`.
        Retrying = "RETRYING",
        /// The receiver accepted it.
        Delivered = "DELIVERED",
        /// Every try failed.
        Exhausted = "EXHAUSTED",
        /// Its subscription was deleted first.
        Cancelled = "CANCELLED",
    }
    /// A social platform that tells us what happens there.
    Platform {
        /// Instagram.
        Instagram = "INSTAGRAM",
        /// TikTok.
        Tiktok = "TIKTOK",
    }
    /// How far the work on one thing that a platform sent is.
    ItemStatus {
        /// It is worked on when it is due.
        Waiting = "WAITING",
        /// It waits for something that may never come, until it expires.
        Parked = "PARKED",
        /// Nothing more comes of it.
        Done = "DONE",
    }
    /// What a person did (White Label Loyalty's names, and two of our own).
    ActivityType {
        /// A post, reel, story or video mentions or tags the brand, or has a tracked hashtag.
        MentionedYou = "MENTIONED_YOU_SOCIAL",
        /// The person follows the brand.
        FollowedYou = "FOLLOWED_YOU_SOCIAL",
        /// The person sent the brand a direct message.
        DmYou = "DM_YOU_SOCIAL",
        /// The person commented on the brand's media.
        CommentedYou = "COMMENTED_YOU_SOCIAL",
        /// The person mentions the brand in a comment elsewhere.
        CommentMentionedYou = "COMMENT_MENTIONED_YOU_SOCIAL",
    }
    /// How a post mentions the brand.
    MentionType {
        /// By `@name` in its text, or by a sticker in a story.
        Mention = "mention",
        /// By a tag on the picture.
        Tag = "tag",
        /// By a tracked hashtag.
        Hashtag = "hashtag",
    }
    /// What came of an activity.
    ActivityOutcome {
        /// At least one rule awarded points.
        Awarded = "AWARDED",
        /// Its rule has awarded this very thing before.
        AlreadyEarned = "ALREADY_EARNED",
        /// A limit of its rule is reached.
        Capped = "CAPPED",
        /// It waits for the member to prove that the handle is theirs.
        Held = "HELD",
        /// Nobody on the site has this handle.
        Unmatched = "UNMATCHED",
        /// It earns nothing; the reason says why.
        Ignored = "IGNORED",
    }
    /// Which login connects a brand's account.
    ConnectionLogin {
        /// Facebook Login for Business: Instagram through a Facebook page.
        Facebook = "FACEBOOK",
        /// Instagram Login.
        Instagram = "INSTAGRAM",
        /// TikTok API for Business.
        TiktokBusiness = "TIKTOK_BUSINESS",
    }
    /// How far an invitation to connect an account is.
    InvitationStatus {
        /// Nobody has opened it.
        Pending = "PENDING",
        /// Its login is under way.
        Opened = "OPENED",
        /// An account was connected.
        Used = "USED",
        /// The login failed, or permissions are missing.
        Failed = "FAILED",
    }
    /// What becomes of a follow's award when the member no longer follows.
    UnfollowPolicy {
        /// Nothing.
        Keep = "KEEP",
        /// The follow is marked.
        Flag = "FLAG",
        /// It is marked, and a ledger entry takes the points back.
        Reverse = "REVERSE",
    }
}
