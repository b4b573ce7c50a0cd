//! Concurrent lookups as one query: what many requests ask for by key at the same time.

use std::collections::HashMap;
use std::hash::Hash;
use std::sync::Arc;

use sea_orm::{ConnAcquireErr, DbErr};

use super::Db;
use crate::gather::{Gather, GatherLimits};
use crate::outages::Outage;

const LIMITS: GatherLimits = GatherLimits { batch_max: 256, queue_max: 4_096 };

type Found<K, V> = Result<Arc<HashMap<K, V>>, Arc<DbErr>>;

/// Finds values by key. Cheap to clone.
pub struct Lookup<K, V>(Gather<Vec<K>, Found<K, V>>);

impl<K, V> Clone for Lookup<K, V> {
    fn clone(&self) -> Self {
        Self(self.0.clone())
    }
}

impl<K, V> Lookup<K, V>
where
    K: Eq + Hash + Ord + Send + Sync + 'static,
    V: Send + Sync + 'static,
{
    /// Starts the worker, as a task of the running runtime. `read` gets each key once, in order, and gives what it finds.
    pub fn start<F, R>(db: &Db, read: F) -> Self
    where
        F: Fn(Db, Vec<K>) -> R + Clone + Send + Sync + 'static,
        R: Future<Output = Result<HashMap<K, V>, DbErr>> + Send + 'static,
    {
        let db = db.clone();
        Self(Gather::start(LIMITS, move |asked: Vec<Vec<K>>| {
            let (db, read) = (db.clone(), read.clone());
            async move {
                let calls = asked.len();
                let mut keys: Vec<K> = asked.into_iter().flatten().collect();
                keys.sort_unstable();
                keys.dedup();
                // Everybody who asks later waits for this.
                let found = db.in_time(read(db.clone(), keys)).await.map(Arc::new).map_err(Arc::new);
                vec![found; calls]
            }
        }))
    }

    /// What is there for `keys`; there may be more in it. More callers than can wait are a shortage of connections.
    pub async fn find(&self, keys: Vec<K>) -> Result<Arc<HashMap<K, V>>, DbErr> {
        match self.0.call(keys).await {
            Ok(Ok(found)) => Ok(found),
            Ok(Err(error)) if Outage::of(&error).is_none() => Err(DbErr::Custom(error.to_string())),
            Ok(Err(_)) | Err(_) => Err(DbErr::ConnectionAcquire(ConnAcquireErr::Timeout)),
        }
    }
}
