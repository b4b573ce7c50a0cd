//! The operator's apps at the platforms, from the environment.

use std::collections::BTreeMap;

/// Instagram's and Facebook's addresses and this installation's apps there.
#[derive(Clone, Default)]
pub struct MetaSettings {
    /// The app of Facebook Login.
    pub facebook: AppSettings,
    /// The app of Instagram Login.
    pub instagram: AppSettings,
    /// Facebook Login for Business's configuration, which takes the place of a list of scopes.
    pub config_id: Option<String>,
    /// Whether the apps are in development mode, in which only what their own testers do arrives. Meta tells no app so.
    pub is_development: bool,
    /// Minutes between two readings of what the brands are tagged on.
    pub tags_minutes: u32,
    /// Version of the Graph API: `v26.0`.
    pub version: String,
    /// Where they are reached.
    pub urls: MetaUrls,
}

/// Without a slash at the end.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct MetaUrls {
    /// Graph API of Facebook Login: `https://graph.facebook.com`.
    pub graph: String,
    /// Graph API of Instagram Login: `https://graph.instagram.com`.
    pub instagram_graph: String,
    /// Token endpoint of Instagram Login: `https://api.instagram.com`.
    pub instagram_api: String,
    /// Where people log in with Facebook: `https://www.facebook.com`.
    pub facebook: String,
    /// Where people log in with Instagram: `https://www.instagram.com`.
    pub instagram: String,
}

/// One app at a platform.
#[derive(Clone, Default)]
pub struct AppSettings {
    /// Its id; TikTok: its client key.
    pub id: Option<String>,
    /// Its secrets, the current one first: a platform may sign with any of them while they are exchanged.
    pub secrets: Vec<String>,
    /// What the platform shows when it looks whether a callback is ours.
    pub verify_token: Option<String>,
}

/// `TikTok`'s addresses and this installation's apps there.
#[derive(Clone, Default)]
pub struct TiktokSettings {
    /// The app of Login Kit and the developer platform.
    pub developer: AppSettings,
    /// The app of API for Business.
    pub business: AppSettings,
    /// Where they are reached.
    pub urls: TiktokUrls,
}

/// Without a slash at the end.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TiktokUrls {
    /// `https://open.tiktokapis.com`.
    pub api: String,
    /// `https://business-api.tiktok.com`.
    pub business: String,
    /// `https://www.tiktok.com`: login and oEmbed.
    pub www: String,
}

/// Both platforms.
#[derive(Clone, Default)]
pub struct PlatformSettings {
    /// Instagram.
    pub meta: MetaSettings,
    /// `TikTok`.
    pub tiktok: TiktokSettings,
}

/// A setting that cannot be used.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum PlatformSettingsError {
    /// Not an address.
    #[error("{0} is not a URL of http or https")]
    Url(&'static str),
    /// A secret that is no secret.
    #[error("{0} has a secret of fewer than {SECRET_MIN} characters")]
    Secret(&'static str),
    /// An app that nothing can be asked of.
    #[error("{0} is set, but {1} is not: the app needs both")]
    NoSecret(&'static str, &'static str),
    /// Not a version.
    #[error("FOLLOWPOINTS_META_VERSION must look like v26.0")]
    Version,
    /// Not a number of minutes.
    #[error("FOLLOWPOINTS_META_TAGS_MINUTES must be a whole number from 1 to 1440")]
    TagsMinutes,
    /// Not a mode.
    #[error("FOLLOWPOINTS_META_MODE must be live or development")]
    Mode,
}

/// Characters of a platform's secret.
const SECRET_MIN: usize = 16;

/// Every setting of the platforms with its default.
pub const NAMES: [(&str, &str); 22] = [
    ("FOLLOWPOINTS_META_APP_ID", ""),
    ("FOLLOWPOINTS_META_APP_SECRETS", ""),
    ("FOLLOWPOINTS_META_VERIFY_TOKEN", ""),
    ("FOLLOWPOINTS_META_CONFIG_ID", ""),
    ("FOLLOWPOINTS_META_INSTAGRAM_APP_ID", ""),
    ("FOLLOWPOINTS_META_INSTAGRAM_APP_SECRETS", ""),
    ("FOLLOWPOINTS_META_INSTAGRAM_VERIFY_TOKEN", ""),
    ("FOLLOWPOINTS_META_MODE", "live"),
    ("FOLLOWPOINTS_META_TAGS_MINUTES", "10"),
    ("FOLLOWPOINTS_META_VERSION", "v26.0"),
    ("FOLLOWPOINTS_META_GRAPH_URL", "https://graph.facebook.com"),
    ("FOLLOWPOINTS_META_INSTAGRAM_GRAPH_URL", "https://graph.instagram.com"),
    ("FOLLOWPOINTS_META_INSTAGRAM_API_URL", "https://api.instagram.com"),
    ("FOLLOWPOINTS_META_FACEBOOK_URL", "https://www.facebook.com"),
    ("FOLLOWPOINTS_META_INSTAGRAM_URL", "https://www.instagram.com"),
    ("FOLLOWPOINTS_TIKTOK_CLIENT_KEY", ""),
    ("FOLLOWPOINTS_TIKTOK_CLIENT_SECRETS", ""),
    ("FOLLOWPOINTS_TIKTOK_BUSINESS_APP_ID", ""),
    ("FOLLOWPOINTS_TIKTOK_BUSINESS_SECRETS", ""),
    ("FOLLOWPOINTS_TIKTOK_API_URL", "https://open.tiktokapis.com"),
    ("FOLLOWPOINTS_TIKTOK_BUSINESS_URL", "https://business-api.tiktok.com"),
    ("FOLLOWPOINTS_TIKTOK_URL", "https://www.tiktok.com"),
];

impl PlatformSettings {
    /// Reads and checks what is `given`, by name.
    pub fn new(given: &BTreeMap<String, String>) -> Result<Self, PlatformSettingsError> {
        let meta = MetaSettings {
            facebook: AppSettings {
                id: text(given, "FOLLOWPOINTS_META_APP_ID"),
                secrets: secrets(given, "FOLLOWPOINTS_META_APP_SECRETS")?,
                verify_token: text(given, "FOLLOWPOINTS_META_VERIFY_TOKEN"),
            },
            instagram: AppSettings {
                id: text(given, "FOLLOWPOINTS_META_INSTAGRAM_APP_ID"),
                secrets: secrets(given, "FOLLOWPOINTS_META_INSTAGRAM_APP_SECRETS")?,
                verify_token: text(given, "FOLLOWPOINTS_META_INSTAGRAM_VERIFY_TOKEN"),
            },
            config_id: text(given, "FOLLOWPOINTS_META_CONFIG_ID"),
            is_development: is_development(given)?,
            tags_minutes: tags_minutes(given)?,
            version: version(given)?,
            urls: MetaUrls {
                graph: url(given, "FOLLOWPOINTS_META_GRAPH_URL")?,
                instagram_graph: url(given, "FOLLOWPOINTS_META_INSTAGRAM_GRAPH_URL")?,
                instagram_api: url(given, "FOLLOWPOINTS_META_INSTAGRAM_API_URL")?,
                facebook: url(given, "FOLLOWPOINTS_META_FACEBOOK_URL")?,
                instagram: url(given, "FOLLOWPOINTS_META_INSTAGRAM_URL")?,
            },
        };
        let tiktok = TiktokSettings {
            developer: AppSettings {
                id: text(given, "FOLLOWPOINTS_TIKTOK_CLIENT_KEY"),
                secrets: secrets(given, "FOLLOWPOINTS_TIKTOK_CLIENT_SECRETS")?,
                verify_token: None,
            },
            business: AppSettings {
                id: text(given, "FOLLOWPOINTS_TIKTOK_BUSINESS_APP_ID"),
                secrets: secrets(given, "FOLLOWPOINTS_TIKTOK_BUSINESS_SECRETS")?,
                verify_token: None,
            },
            urls: TiktokUrls {
                api: url(given, "FOLLOWPOINTS_TIKTOK_API_URL")?,
                business: url(given, "FOLLOWPOINTS_TIKTOK_BUSINESS_URL")?,
                www: url(given, "FOLLOWPOINTS_TIKTOK_URL")?,
            },
        };
        for (app, id, secrets) in [
            (&meta.facebook, "FOLLOWPOINTS_META_APP_ID", "FOLLOWPOINTS_META_APP_SECRETS"),
            (
                &meta.instagram,
                "FOLLOWPOINTS_META_INSTAGRAM_APP_ID",
                "FOLLOWPOINTS_META_INSTAGRAM_APP_SECRETS",
            ),
            (&tiktok.developer, "FOLLOWPOINTS_TIKTOK_CLIENT_KEY", "FOLLOWPOINTS_TIKTOK_CLIENT_SECRETS"),
            (&tiktok.business, "FOLLOWPOINTS_TIKTOK_BUSINESS_APP_ID", "FOLLOWPOINTS_TIKTOK_BUSINESS_SECRETS"),
        ] {
            if app.id.is_some() && app.secrets.is_empty() {
                return Err(PlatformSettingsError::NoSecret(id, secrets));
            }
        }
        Ok(Self { meta, tiktok })
    }

    /// Those of this process's environment.
    pub fn from_env() -> Result<Self, PlatformSettingsError> {
        let given =
            NAMES.iter().filter_map(|(name, _)| Some(((*name).to_owned(), std::env::var(name).ok()?)));
        Self::new(&given.collect())
    }
}

fn text(given: &BTreeMap<String, String>, name: &'static str) -> Option<String> {
    given.get(name).map(|text| text.trim()).filter(|text| !text.is_empty()).map(str::to_owned)
}

fn secrets(
    given: &BTreeMap<String, String>,
    name: &'static str,
) -> Result<Vec<String>, PlatformSettingsError> {
    let text = text(given, name).unwrap_or_default();
    let secrets: Vec<String> =
        text.split(',').map(str::trim).filter(|secret| !secret.is_empty()).map(str::to_owned).collect();
    if secrets.iter().any(|secret| secret.len() < SECRET_MIN) {
        return Err(PlatformSettingsError::Secret(name));
    }
    Ok(secrets)
}

fn default(name: &str) -> &'static str {
    NAMES.iter().find(|(known, _)| *known == name).map_or("", |(_, default)| default)
}

fn url(given: &BTreeMap<String, String>, name: &'static str) -> Result<String, PlatformSettingsError> {
    let text = text(given, name).unwrap_or_else(|| default(name).to_owned());
    let url = url::Url::parse(&text).map_err(|_| PlatformSettingsError::Url(name))?;
    if !matches!(url.scheme(), "http" | "https") || url.query().is_some() || url.fragment().is_some() {
        return Err(PlatformSettingsError::Url(name));
    }
    Ok(text.trim_end_matches('/').to_owned())
}

fn is_development(given: &BTreeMap<String, String>) -> Result<bool, PlatformSettingsError> {
    match text(given, "FOLLOWPOINTS_META_MODE").as_deref() {
        None | Some("live") => Ok(false),
        Some("development") => Ok(true),
        Some(_) => Err(PlatformSettingsError::Mode),
    }
}

fn tags_minutes(given: &BTreeMap<String, String>) -> Result<u32, PlatformSettingsError> {
    let name = "FOLLOWPOINTS_META_TAGS_MINUTES";
    let minutes = text(given, name).unwrap_or_else(|| default(name).to_owned()).parse();
    minutes.ok().filter(|minutes| (1..=1_440).contains(minutes)).ok_or(PlatformSettingsError::TagsMinutes)
}

fn version(given: &BTreeMap<String, String>) -> Result<String, PlatformSettingsError> {
    let version = text(given, "FOLLOWPOINTS_META_VERSION")
        .unwrap_or_else(|| default("FOLLOWPOINTS_META_VERSION").to_owned());
    let numbers = version.strip_prefix('v').and_then(|rest| rest.split_once('.'));
    let is_number = |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    match numbers {
        Some((major, minor)) if is_number(major) && is_number(minor) => Ok(version),
        _ => Err(PlatformSettingsError::Version),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(name: &str, text: &str) -> Result<PlatformSettings, PlatformSettingsError> {
        PlatformSettings::new(&BTreeMap::from([(name.to_owned(), text.to_owned())]))
    }

    #[test]
    fn what_cannot_be_used_is_named() {
        for (name, text, expected) in [
            ("FOLLOWPOINTS_META_MODE", "dev", PlatformSettingsError::Mode),
            ("FOLLOWPOINTS_META_TAGS_MINUTES", "0", PlatformSettingsError::TagsMinutes),
            ("FOLLOWPOINTS_META_TAGS_MINUTES", "1441", PlatformSettingsError::TagsMinutes),
            ("FOLLOWPOINTS_META_TAGS_MINUTES", "ten", PlatformSettingsError::TagsMinutes),
            ("FOLLOWPOINTS_META_VERSION", "26", PlatformSettingsError::Version),
            (
                "FOLLOWPOINTS_META_APP_SECRETS",
                "short",
                PlatformSettingsError::Secret("FOLLOWPOINTS_META_APP_SECRETS"),
            ),
            ("FOLLOWPOINTS_TIKTOK_URL", "tiktok", PlatformSettingsError::Url("FOLLOWPOINTS_TIKTOK_URL")),
        ] {
            assert_eq!(read(name, text).err(), Some(expected), "{name}={text}");
        }
    }

    #[test]
    fn an_empty_setting_is_its_default() -> Result<(), PlatformSettingsError> {
        for name in ["FOLLOWPOINTS_META_MODE", "FOLLOWPOINTS_META_TAGS_MINUTES", "FOLLOWPOINTS_META_VERSION"]
        {
            let meta = read(name, " ")?.meta;
            assert_eq!(
                (meta.is_development, meta.tags_minutes, meta.version.as_str()),
                (false, 10, "v26.0"),
                "{name}"
            );
        }
        Ok(())
    }
}
