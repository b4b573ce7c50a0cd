//! The headers of Standard Webhooks on a try, for subscriptions that want them. The secrets stay in memory for a moment,
//! as the apps' keys do, and never longer than until a job comes that knows a later revision of its subscription: a node
//! that rotated, or claims or makes a delivery after a rotation elsewhere, signs with the new ones at once. What another
//! node has queued before signs with the old ones for as long as the moment lasts.

use std::sync::Arc;

use entity::id::{SubscriptionId, Timestamp};
use http::{HeaderName, HeaderValue};

use super::Job;
use super::kept::Kept;
use super::secrets::{self, LiveSecret, SecretError};
use super::signing::KEYS_FRESH_MS;
use super::standard::{ID_HEADER, SIGNATURE_HEADER, TIMESTAMP_HEADER, content};
use crate::db::Db;
use crate::seal::Sealer;

/// Subscriptions whose secrets stay in memory.
const SUBSCRIPTIONS_CACHED_MAX: usize = 10_000;

struct Known {
    read_at: Timestamp,
    /// They are those of this revision of the subscription, or of a later one.
    revision: i64,
    live: Vec<LiveSecret>,
}

/// Signs the headers of tries. Cheap to clone.
#[derive(Clone)]
pub struct HeaderSigner {
    db: Db,
    sealer: Sealer,
    subscriptions: Kept<SubscriptionId, Known>,
}

impl HeaderSigner {
    /// A signer that reads secrets from `db` and opens them with `sealer`.
    #[must_use]
    pub fn new(db: Db, sealer: Sealer) -> Self {
        Self { db, sealer, subscriptions: Kept::new(SUBSCRIPTIONS_CACHED_MAX) }
    }

    /// The headers of a try of `job` that is made now with `body`; none if its subscription wants none.
    pub async fn sign(&self, job: &Job, body: &[u8]) -> Result<Vec<(HeaderName, HeaderValue)>, SecretError> {
        if job.target.signature_headers.is_empty() {
            return Ok(Vec::new());
        }
        let known = self.known(job).await?;
        let now = self.db.now();
        let (id, timestamp) = (job.event.id.to_string(), now.seconds().to_string());
        let content = content(&id, &timestamp, body);
        let wanted = |one: &&LiveSecret| {
            job.target.signature_headers.contains(&one.secret.scheme())
                && one.until.is_none_or(|until| until > now)
        };
        let signatures: Vec<_> =
            known.live.iter().filter(wanted).map(|one| one.secret.sign(&content)).collect();
        if signatures.is_empty() {
            return Err(SecretError::NoSecret);
        }
        [(ID_HEADER, id), (TIMESTAMP_HEADER, timestamp), (SIGNATURE_HEADER, signatures.join(" "))]
            .into_iter()
            .map(|(name, value)| Ok((HeaderName::from_static(name), HeaderValue::try_from(value)?)))
            .collect()
    }

    async fn known(&self, job: &Job) -> Result<Arc<Known>, SecretError> {
        let (subscription, revision) = (job.target.subscription_id, job.target.revision);
        let holds = |known: &Known| {
            known.revision >= revision && (self.db.now().0 - known.read_at.0).abs() < KEYS_FRESH_MS
        };
        let read = async {
            let read_at = self.db.now();
            let live = secrets::live_secrets(self.db.read(), &self.sealer, subscription).await?;
            Ok(Known { read_at, revision, live })
        };
        self.subscriptions.get(subscription, holds, read).await
    }
}
