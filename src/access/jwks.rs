//! Key sets of sites' own issuers: fetched through the guarded client, cached, fetched again when a token names an unknown
//! key (rotation), and never trusted beyond an hour when the issuer cannot be reached.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use entity::id::Timestamp;
use http::Method;
use jsonwebtoken::jwk::{Jwk, JwkSet};
use quick_cache::sync::Cache;
use tokio::sync::Mutex;

use crate::clock::Clock;
use crate::outbound::{Client, OutboundRequest};

/// Key sets kept in memory.
const SETS_MAX: usize = 1_000;
/// A set is used so long without asking again.
const FRESH_MS: i64 = 5 * 60_000;
/// A set is used so long when the issuer does not answer.
const STALE_MAX_MS: i64 = 60 * 60_000;
/// Pause between two fetches of the same set.
const REFETCH_MS: i64 = 10_000;
/// One deadline for a fetch.
const FETCH_TIMEOUT: Duration = Duration::from_secs(3);
/// A key set is no larger.
const SET_BYTES_MAX: usize = 64 * 1024;

#[derive(Default)]
struct Entry {
    keys: Vec<Jwk>,
    fetched_at: Option<Timestamp>,
    tried_at: Option<Timestamp>,
}

/// The key sets known. Cheap to clone.
#[derive(Clone)]
pub struct KeySets {
    client: Client,
    clock: Arc<dyn Clock>,
    sets: Arc<Cache<String, Arc<Mutex<Entry>>>>,
}

impl KeySets {
    /// Key sets fetched with `client`.
    #[must_use]
    pub fn new(client: Client, clock: Arc<dyn Clock>) -> Self {
        Self { client, clock, sets: Arc::new(Cache::new(SETS_MAX)) }
    }

    /// The key `kid` published at `url`; without a `kid`, the only key there. `None` when there is no such key or it
    /// cannot be known.
    pub async fn find(&self, url: &str, kid: Option<&str>) -> Option<Jwk> {
        let entry = self
            .sets
            .get_or_insert_with(url, || Ok::<_, std::convert::Infallible>(Arc::default()))
            .unwrap_or_default();
        // Held while fetching: callers that arrive meanwhile wait for the same answer.
        let mut entry = entry.lock().await;
        let now = self.clock.now();
        let age = |at: Option<Timestamp>| at.map_or(i64::MAX, |at| now.0.saturating_sub(at.0));
        let found = select(&entry.keys, kid);
        let must_ask = age(entry.fetched_at) >= FRESH_MS || found.is_none();
        if must_ask && age(entry.tried_at) >= REFETCH_MS {
            entry.tried_at = Some(now);
            if let Some(keys) = self.fetch(url).await {
                entry.keys = keys;
                entry.fetched_at = Some(now);
            }
        }
        if age(entry.fetched_at) >= STALE_MAX_MS {
            return None;
        }
        select(&entry.keys, kid)
    }

    async fn fetch(&self, url: &str) -> Option<Vec<Jwk>> {
        let target = self.client.guard().check_url(url).ok()?;
        let request = OutboundRequest {
            method: Method::GET,
            url: target,
            headers: vec![(http::header::ACCEPT, http::HeaderValue::from_static("application/json"))],
            body: Bytes::new(),
            timeout: FETCH_TIMEOUT,
            body_max: SET_BYTES_MAX,
            identity: None,
        };
        let answer = match self.client.send(request).await.result {
            Ok(answer) if answer.status == 200 && !answer.truncated && answer.body_error.is_none() => answer,
            Ok(answer) => {
                tracing::warn!(url, status = answer.status, "a key set could not be read");
                return None;
            }
            Err(error) => {
                tracing::warn!(url, %error, "a key set could not be fetched");
                return None;
            }
        };
        // One key of a kind that is not supported must not spoil the rest of the set.
        let set: serde_json::Value = serde_json::from_slice(&answer.body).ok()?;
        let keys = set.get("keys")?.as_array()?.clone();
        Some(
            JwkSet { keys: keys.into_iter().filter_map(|key| serde_json::from_value(key).ok()).collect() }
                .keys,
        )
    }
}

fn select(keys: &[Jwk], kid: Option<&str>) -> Option<Jwk> {
    match (kid, keys) {
        (Some(kid), _) => keys.iter().find(|key| key.common.key_id.as_deref() == Some(kid)).cloned(),
        (None, [only]) => Some(only.clone()),
        (None, _) => None,
    }
}
