//! What the logins of all platforms have in common: what they are asked for, and what they give.

use entity::id::Timestamp;
use entity::kinds::{ConnectionLogin, Platform};
use serde::{Deserialize, Serialize};

use super::calls::CallError;
use crate::sources::settings::{AppSettings, PlatformSettings};

/// An account that can be connected, with what it takes. Sealed while somebody chooses among several.
#[derive(Clone, Serialize, Deserialize)]
pub(super) struct Candidate {
    /// The platform's id of the account, as its webhooks name it.
    pub(super) id: String,
    pub(super) username: Option<String>,
    /// The Facebook page that it belongs to: id and name.
    pub(super) page: Option<(String, Option<String>)>,
    pub(super) token: String,
    pub(super) refresh_token: Option<String>,
    /// When the token ends.
    pub(super) expires_at: Option<Timestamp>,
    /// The app's id of the person who logged in.
    pub(super) owner: Option<String>,
    /// Permissions that were declined.
    pub(super) missing: Vec<String>,
}

/// Why a login gave no account, in words for whoever logged in.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(super) enum LoginError {
    /// Nothing works without these.
    #[error("the permission {} was not granted, and nothing works without it; try again and leave it ticked", .0.join(", "))]
    Declined(Vec<String>),
    /// None to connect.
    #[error(
        "no Instagram account was found: it must be a professional account that is linked to a Facebook page, you must manage \
         that page, and the page must be ticked in the dialog"
    )]
    NoAccount,
    /// Something is not where it belongs.
    #[error("the platform's answer lacks what is needed: {0}")]
    Answer(&'static str),
    /// It did not answer as it should.
    #[error(transparent)]
    Call(#[from] CallError),
    /// The operator has no app there.
    #[error("this service has no app at the platform; its operator must set one up")]
    NotConfigured,
    /// All together took too long.
    #[error("the platform did not answer in time; try again")]
    Late,
}

/// The platform that a login is of.
#[must_use]
pub(super) const fn platform(login: ConnectionLogin) -> Platform {
    match login {
        ConnectionLogin::Facebook | ConnectionLogin::Instagram => Platform::Instagram,
        ConnectionLogin::TiktokBusiness => Platform::Tiktok,
    }
}

/// The operator's app for a login: its id and its current secret.
pub(super) fn app(settings: &PlatformSettings, login: ConnectionLogin) -> Option<(&str, &str)> {
    let AppSettings { id, secrets, .. } = match login {
        ConnectionLogin::Facebook => &settings.meta.facebook,
        ConnectionLogin::Instagram => &settings.meta.instagram,
        ConnectionLogin::TiktokBusiness => &settings.tiktok.business,
    };
    Some((id.as_deref()?, secrets.first()?))
}

/// Where a person logs in.
pub(super) fn host(settings: &PlatformSettings, login: ConnectionLogin) -> &str {
    match login {
        ConnectionLogin::Facebook => &settings.meta.urls.facebook,
        ConnectionLogin::Instagram => &settings.meta.urls.instagram,
        ConnectionLogin::TiktokBusiness => &settings.tiktok.urls.www,
    }
}

/// The last part of the address that the platform sends people back to.
#[must_use]
pub(super) const fn callback(login: ConnectionLogin) -> &'static str {
    match login {
        ConnectionLogin::Facebook => "facebook",
        ConnectionLogin::Instagram => "instagram",
        ConnectionLogin::TiktokBusiness => "tiktok",
    }
}

/// Those of `wanted` that are not among `granted`.
pub(super) fn missing(wanted: &[&str], granted: &[String]) -> Vec<String> {
    let declined = wanted.iter().filter(|scope| !granted.iter().any(|granted| granted == *scope));
    declined.map(|scope| (*scope).to_owned()).collect()
}

/// When something ends that the platform says lasts so many seconds.
pub(super) fn ends(now: Timestamp, seconds: &serde_json::Value) -> Option<Timestamp> {
    let seconds = seconds.as_i64().or_else(|| seconds.as_str()?.parse().ok())?;
    (seconds > 0).then(|| now.plus_ms(seconds.saturating_mul(1_000)))
}
