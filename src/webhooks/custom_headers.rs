//! Headers that the owner of a subscription wants in every try: a token of the receiver's own, a name of the environment. They
//! may be secrets, so they are sealed, and only their names are shown.

use std::sync::Arc;

use entity::id::SiteId;
use http::{HeaderName, HeaderValue};
use quick_cache::sync::Cache;

use super::standard;
use crate::outbound::{RESERVED_HEADERS, SendError};
use crate::seal::{self, SealError, Sealer};
use crate::sites::config::Target;

/// Headers of a subscription.
pub const HEADERS_MAX: usize = 20;
/// Bytes of a value.
pub const VALUE_MAX: usize = 1_024;
/// Subscriptions whose headers stay open in memory.
const OPENED_MAX: usize = 1_000;
/// What a try says anyway.
const OWN: [HeaderName; 2] = [http::header::CONTENT_TYPE, http::header::USER_AGENT];

/// Names and values.
pub type Headers = Vec<(HeaderName, HeaderValue)>;

/// Why headers are not accepted.
#[derive(Debug, thiserror::Error)]
pub enum HeadersError {
    /// A name.
    #[error("{what}")]
    Name {
        /// Its place in the list.
        index: usize,
        /// What is wrong.
        what: &'static str,
    },
    /// A value.
    #[error("has a character that a header cannot have; visible ASCII and spaces are allowed")]
    Value {
        /// Its place in the list.
        index: usize,
    },
    /// It has no value, and none is stored.
    #[error("must not be empty")]
    NoValue {
        /// Its place in the list.
        index: usize,
    },
    /// They could not be sealed, or the stored ones not be opened.
    #[error(transparent)]
    Seal(#[from] SealError),
}

/// A header as it is given.
#[derive(Debug)]
pub struct GivenHeader {
    /// Its name.
    pub name: String,
    /// Its value; without one it keeps the one that is stored.
    pub value: Option<String>,
}

/// Checks `headers` of a subscription of `site`, which had those of `earlier`, and makes of them what is stored; nothing, if there
/// are none.
pub fn store(
    sealer: &Sealer,
    site: SiteId,
    headers: Vec<GivenHeader>,
    earlier: Option<&[u8]>,
) -> Result<Option<Vec<u8>>, HeadersError> {
    let keeps_some = headers.iter().any(|header| header.value.is_none());
    let earlier = earlier.filter(|_| keeps_some).map(|stored| open(sealer, site, stored)).transpose()?;
    let earlier = earlier.unwrap_or_default();
    let mut pairs: Vec<(String, String)> = Vec::with_capacity(headers.len());
    for (index, header) in headers.into_iter().enumerate() {
        let refused = |what| HeadersError::Name { index, what };
        let name = HeaderName::try_from(header.name)
            .map_err(|_| refused("is not the name of a header, like X-Environment"))?;
        let signed = [standard::ID_HEADER, standard::TIMESTAMP_HEADER, standard::SIGNATURE_HEADER];
        if OWN.contains(&name) || RESERVED_HEADERS.contains(&name) || signed.contains(&name.as_str()) {
            return Err(refused("is set by the service"));
        }
        let is_it = |(known, _): &&(String, String)| known == name.as_str();
        if pairs.iter().any(|pair| is_it(&pair)) {
            return Err(refused("stands there twice"));
        }
        let kept = || earlier.iter().find(is_it).map(|(_, value)| value.clone());
        let value = header.value.or_else(kept).ok_or(HeadersError::NoValue { index })?;
        HeaderValue::from_str(&value).map_err(|_| HeadersError::Value { index })?;
        pairs.push((name.as_str().to_owned(), value));
    }
    if pairs.is_empty() {
        return Ok(None);
    }
    let shown: Vec<&str> = pairs.iter().map(|(name, _)| name.as_str()).collect();
    let text = |value: serde_json::Result<String>| value.map_err(|_| HeadersError::Seal(SealError::Open));
    let values = sealer.seal(&purpose(site), text(serde_json::to_string(&pairs))?.as_bytes())?;
    Ok(seal::beside(&text(serde_json::to_string(&shown))?, &values))
}

/// The names of stored headers.
#[must_use]
pub fn names(stored: &[u8]) -> Vec<String> {
    seal::apart(stored).and_then(|(names, _)| serde_json::from_str(names).ok()).unwrap_or_default()
}

/// The names and values of stored headers.
fn open(sealer: &Sealer, site: SiteId, stored: &[u8]) -> Result<Vec<(String, String)>, SealError> {
    let (_, secret) = seal::apart(stored).ok_or(SealError::Open)?;
    let text = sealer.open(&purpose(site), secret)?;
    serde_json::from_slice(&text).map_err(|_| SealError::Open)
}

fn purpose(site: SiteId) -> String {
    format!("custom-headers:{site}")
}

/// Headers ready for use. Cheap to clone.
#[derive(Clone)]
pub struct CustomHeaders {
    sealer: Sealer,
    opened: Arc<Cache<Arc<[u8]>, Arc<Headers>>>,
}

impl CustomHeaders {
    /// Opens them with `sealer`.
    #[must_use]
    pub fn new(sealer: Sealer) -> Self {
        Self { sealer, opened: Arc::new(Cache::new(OPENED_MAX)) }
    }

    /// Those of `target`; opened when they are first used after a change.
    pub(super) fn of(&self, target: &Target) -> Result<Arc<Headers>, SendError> {
        let Some(stored) = &target.custom_headers else { return Ok(Arc::default()) };
        if let Some(headers) = self.opened.get(stored) {
            return Ok(headers);
        }
        let headers = Arc::new(self.open(target.site_id, stored).ok_or_else(|| {
            tracing::error!(
                subscription.id = %target.subscription_id,
                "custom headers cannot be opened: were they sealed under another FOLLOWPOINTS_MASTER_KEY?"
            );
            SendError::InvalidRequest("the custom headers of the subscription cannot be opened".to_owned())
        })?);
        self.opened.insert(Arc::clone(stored), Arc::clone(&headers));
        Ok(headers)
    }

    fn open(&self, site: SiteId, stored: &[u8]) -> Option<Headers> {
        open(&self.sealer, site, stored)
            .ok()?
            .iter()
            .map(|(name, value)| Some((HeaderName::try_from(name).ok()?, HeaderValue::from_str(value).ok()?)))
            .collect()
    }
}
