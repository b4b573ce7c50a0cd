//! What every try needs and the database has: kept in memory for a moment, and read again by one try for all that wait for it.

use std::convert::Infallible;
use std::hash::Hash;
use std::sync::Arc;

use quick_cache::sync::Cache;
use tokio::sync::Mutex;

/// Where a value is kept; whoever reads it has the lock.
type Place<V> = Arc<Mutex<Option<Arc<V>>>>;

/// Values by their keys. Cheap to clone.
pub(super) struct Kept<K, V>(Arc<Cache<K, Place<V>>>);

impl<K, V> Clone for Kept<K, V> {
    fn clone(&self) -> Self {
        Self(Arc::clone(&self.0))
    }
}

impl<K: Copy + Eq + Hash, V> Kept<K, V> {
    /// Room for so many values.
    pub(super) fn new(max: usize) -> Self {
        Self(Arc::new(Cache::new(max)))
    }

    /// The value of `key` if it still `holds`, and otherwise what `read` gives: one caller reads, the others wait and take what it
    /// has read. If it fails, the next one tries.
    pub(super) async fn get<E>(
        &self,
        key: K,
        holds: impl Fn(&V) -> bool,
        read: impl Future<Output = Result<V, E>>,
    ) -> Result<Arc<V>, E> {
        let Ok(place) = self.0.get_or_insert_with(&key, || Ok::<_, Infallible>(Place::default()));
        let mut kept = place.lock().await;
        if let Some(value) = kept.as_ref().filter(|value| holds(value)) {
            return Ok(Arc::clone(value));
        }
        let value = Arc::new(read.await?);
        *kept = Some(Arc::clone(&value));
        Ok(value)
    }
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use futures_util::future::join_all;
    use tokio::task::yield_now;

    use super::*;

    #[tokio::test]
    async fn one_reads_for_all_who_wait_and_after_a_failure_the_next() {
        let (kept, reads) = (Kept::<u8, usize>::new(10), Cell::new(0));
        let read = || async {
            yield_now().await;
            reads.set(reads.get() + 1);
            if reads.get() == 1 { Err("the first fails") } else { Ok(reads.get()) }
        };
        let got = join_all((0..100).map(|_| kept.get(7, |_| true, read()))).await;
        assert_eq!(got.iter().filter(|got| got.is_err()).count(), 1);
        assert!(got.iter().flatten().all(|value| **value == 2));
        assert_eq!(kept.get(7, |value| *value > 2, read()).await.as_deref(), Ok(&3), "it no longer held");
        assert_eq!(kept.get(8, |_| true, read()).await.as_deref(), Ok(&4), "another key");
        assert_eq!(reads.get(), 4);
    }
}
