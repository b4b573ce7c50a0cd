//! Who calls: visitors, members, app instances and API keys; their tokens, and what each may do.
//!
//! - [`authenticator`] turns the `Authorization` header into a [`Caller`].
//! - [`tokens`] issues and verifies our own access tokens (`EdDSA`).
//! - [`issuers`] verifies a site's own member tokens; [`jwks`] fetches the keys of those that publish them.
//! - [`oauth`] is the token endpoint's grants; [`sign_out`] ends what they began; [`api_keys`] and [`oauth_clients`] are what
//!   owners manage.

pub mod api;
pub mod api_keys;
pub mod authenticator;
pub mod issuers;
pub mod jwks;
pub mod oauth;
pub mod oauth_client_api;
pub mod oauth_clients;
pub mod sign_out;
pub mod token_api;
pub mod token_info_api;
pub mod tokens;

use entity::id::{ApiKeyId, AppId, AppInstanceId, MemberId, OauthClientId, SiteId, VisitorId};
use serde::Serialize;

/// What a key or an app may do on a site.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Scope {
    /// Read accounts, follows and the program (Wix: Read Loyalty).
    ReadLoyalty,
    /// Change them too (Wix: Manage Loyalty).
    ManageLoyalty,
    /// Everything of the admin API on the site.
    SiteAdmin,
    /// Everything, on every site.
    InstanceAdmin,
}

impl Scope {
    /// Every scope.
    pub const ALL: [Self; 4] = [Self::ReadLoyalty, Self::ManageLoyalty, Self::SiteAdmin, Self::InstanceAdmin];

    /// The name on the wire.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::ReadLoyalty => "SCOPE.DC-LOYALTY.READ-LOYALTY",
            Self::ManageLoyalty => "SCOPE.DC-LOYALTY.MANAGE-LOYALTY",
            Self::SiteAdmin => "SCOPE.FOLLOWPOINTS.SITE-ADMIN",
            Self::InstanceAdmin => "SCOPE.FOLLOWPOINTS.INSTANCE-ADMIN",
        }
    }

    /// The scope that `name` names, or `None`.
    #[must_use]
    pub fn parse(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|scope| scope.as_str() == name)
    }

    /// Whether holding `self` is enough where `wanted` is asked for.
    #[must_use]
    pub const fn covers(self, wanted: Self) -> bool {
        match (self, wanted) {
            (Self::InstanceAdmin, _)
            | (Self::SiteAdmin, Self::SiteAdmin | Self::ManageLoyalty | Self::ReadLoyalty)
            | (Self::ManageLoyalty, Self::ManageLoyalty | Self::ReadLoyalty)
            | (Self::ReadLoyalty, Self::ReadLoyalty) => true,
            (Self::SiteAdmin | Self::ManageLoyalty | Self::ReadLoyalty, _) => false,
        }
    }
}

/// Whoever sent the request, as far as it is proven.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Caller {
    /// Somebody on the site who has not signed in.
    Visitor {
        /// The site.
        site: SiteId,
        /// The visitor.
        visitor: VisitorId,
        /// The front-end that asked for the token.
        client: OauthClientId,
    },
    /// A member of the site.
    Member {
        /// The site.
        site: SiteId,
        /// The member.
        member: MemberId,
    },
    /// An external system, through its installation on the site.
    App {
        /// The site.
        site: SiteId,
        /// The app.
        app: AppId,
        /// Its installation.
        instance: AppInstanceId,
        /// What it may do.
        scopes: Vec<Scope>,
    },
    /// An API key.
    ApiKey {
        /// The site: the key's own, or the one that `wix-site-id` names; none for instance-wide work.
        site: Option<SiteId>,
        /// The key.
        key: ApiKeyId,
        /// Whether the key is instance-wide.
        is_instance: bool,
        /// What it may do.
        scopes: Vec<Scope>,
    },
}

impl Caller {
    /// The site that the call is about.
    #[must_use]
    pub const fn site(&self) -> Option<SiteId> {
        match self {
            Self::Visitor { site, .. } | Self::Member { site, .. } | Self::App { site, .. } => Some(*site),
            Self::ApiKey { site, .. } => *site,
        }
    }

    /// Whether the caller holds a scope that covers `wanted`.
    #[must_use]
    pub fn has(&self, wanted: Scope) -> bool {
        match self {
            Self::Visitor { .. } | Self::Member { .. } => false,
            Self::App { scopes, .. } | Self::ApiKey { scopes, .. } => {
                scopes.iter().any(|scope| scope.covers(wanted))
            }
        }
    }

    /// How events name the caller.
    #[must_use]
    pub const fn identity(&self) -> Identity {
        match self {
            Self::Visitor { visitor, .. } => Identity::Visitor(*visitor),
            Self::Member { member, .. } => Identity::Member(*member),
            Self::App { app, .. } => Identity::App(*app),
            Self::ApiKey { key, .. } => Identity::Key(*key),
        }
    }
}

/// Who caused an event, in the words of the Wix envelope.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Identity {
    /// `ANONYMOUS_VISITOR`.
    Visitor(VisitorId),
    /// `MEMBER`.
    Member(MemberId),
    /// `APP`.
    App(AppId),
    /// `WIX_USER`: the holder of an API key.
    Key(ApiKeyId),
    /// `UNKNOWN`: no caller of ours, but a social platform that told of it.
    Platform,
}

#[derive(Serialize)]
#[serde(tag = "identityType", rename_all = "SCREAMING_SNAKE_CASE", rename_all_fields = "camelCase")]
enum IdentityJson {
    AnonymousVisitor { anonymous_visitor_id: VisitorId },
    Member { member_id: MemberId },
    App { app_id: AppId },
    WixUser { wix_user_id: ApiKeyId },
    Unknown,
}

impl Identity {
    /// The JSON text that events carry.
    #[must_use]
    pub fn to_json(&self) -> String {
        let json = match *self {
            Self::Visitor(id) => IdentityJson::AnonymousVisitor { anonymous_visitor_id: id },
            Self::Member(id) => IdentityJson::Member { member_id: id },
            Self::App(id) => IdentityJson::App { app_id: id },
            Self::Key(id) => IdentityJson::WixUser { wix_user_id: id },
            Self::Platform => IdentityJson::Unknown,
        };
        serde_json::to_string(&json).unwrap_or_default()
    }
}
