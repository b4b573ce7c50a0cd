//! The addresses of names, remembered for a while.
//!
//! What is remembered is what the resolver said and not what may be called: every use of an address is judged anew. A
//! name has one lookup at a time, whose answer goes to everybody who waits for it; it runs on when they give up, so that
//! a resolver that hangs is not asked again and again. Ages are told by the service's clock; an answer from the future,
//! as after a clock was put back, is too old.

use std::net::IpAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use entity::id::Timestamp;
use quick_cache::unsync::Cache;
use tokio::sync::{Semaphore, watch};
use tokio::time::timeout;

use super::Resolve;
use crate::clock::Clock;

/// How long the addresses of a name are used, in milliseconds.
const FOUND_MS: i64 = 30_000;
/// How long it is remembered that a name has no address, in milliseconds.
const NOT_FOUND_MS: i64 = 5_000;
/// Names that are remembered.
const NAMES_MAX: usize = 10_000;
/// Addresses of a name that are remembered.
const ADDRESSES_MAX: usize = 32;
/// Lookups at once: each takes a thread that others need too.
const LOOKUPS_MAX: usize = 128;
/// How long a lookup may take, whoever still waits for it.
const LOOKUP_TIMEOUT: Duration = Duration::from_secs(30);

/// What a lookup found, or why it found nothing.
pub(super) type Found = Result<Arc<[IpAddr]>, Arc<str>>;

#[derive(Clone, Debug)]
struct Known {
    found: Found,
    at: Timestamp,
}

impl Known {
    fn is_fresh(&self, now: Timestamp) -> bool {
        let lasts = if self.found.as_ref().is_ok_and(|addresses| !addresses.is_empty()) {
            FOUND_MS
        } else {
            NOT_FOUND_MS
        };
        (0..lasts).contains(&(now.0 - self.at.0))
    }
}

/// A lookup that has ended or is under way.
#[derive(Clone, Debug)]
pub(super) struct Lookup(watch::Receiver<Option<Known>>);

impl Lookup {
    /// What was found, if it is known already.
    pub(super) fn known(&self) -> Option<Found> {
        self.0.borrow().as_ref().map(|known| known.found.clone())
    }

    /// Waits for the end.
    pub(super) async fn end(mut self) -> Found {
        match self.0.wait_for(Option::is_some).await.as_deref() {
            Ok(Some(known)) => known.found.clone(),
            Ok(None) | Err(_) => Err("the lookup was cut off".into()),
        }
    }

    fn is_useful(&self, now: Timestamp) -> bool {
        match &*self.0.borrow() {
            Some(known) => known.is_fresh(now),
            // Without a sender nobody is looking any more.
            None => self.0.has_changed().is_ok(),
        }
    }
}

/// The names known, in front of the resolver.
pub(super) struct Names {
    resolver: Arc<dyn Resolve>,
    clock: Arc<dyn Clock>,
    lookups: Arc<Semaphore>,
    known: Mutex<Cache<Box<str>, Lookup>>,
}

impl Names {
    pub(super) fn new(resolver: Arc<dyn Resolve>, clock: Arc<dyn Clock>) -> Self {
        let lookups = Arc::new(Semaphore::new(LOOKUPS_MAX));
        Self { resolver, clock, lookups, known: Mutex::new(Cache::new(NAMES_MAX)) }
    }

    /// The lookup of `host`: the last one while it is fresh or under way, else a new one.
    pub(super) fn look_up(&self, host: &str) -> Lookup {
        let now = self.clock.now();
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(lookup) = known.get(host).filter(|lookup| lookup.is_useful(now)) {
            return lookup.clone();
        }
        let lookup = self.begin(host);
        known.insert(host.into(), lookup.clone());
        lookup
    }

    fn begin(&self, host: &str) -> Lookup {
        let (answer, lookup) = watch::channel(None);
        let (resolver, clock, lookups) =
            (Arc::clone(&self.resolver), Arc::clone(&self.clock), Arc::clone(&self.lookups));
        let host = host.to_owned();
        tokio::spawn(async move {
            let _permit = lookups.acquire().await;
            let found = match timeout(LOOKUP_TIMEOUT, resolver.resolve(&host)).await {
                Ok(Ok(addresses)) => Ok(addresses.into_iter().take(ADDRESSES_MAX).collect()),
                Ok(Err(error)) => Err(error.to_string().into()),
                Err(_) => Err("the resolver does not answer".into()),
            };
            answer.send_replace(Some(Known { found, at: clock.now() }));
        });
        Lookup(lookup)
    }
}

#[cfg(test)]
mod tests {
    use std::io;
    use std::sync::atomic::{AtomicUsize, Ordering};

    use futures_util::future::BoxFuture;
    use tokio::sync::Notify;

    use super::*;
    use crate::clock::ManualClock;

    const ADDRESS: IpAddr = IpAddr::V4(std::net::Ipv4Addr::LOCALHOST);

    /// Counts the lookups, which find nothing for names that begin with "no", and holds them back until told.
    #[derive(Default)]
    struct Counted {
        count: AtomicUsize,
        held: Option<Notify>,
    }

    impl Resolve for Counted {
        fn resolve(&self, host: &str) -> BoxFuture<'_, io::Result<Vec<IpAddr>>> {
            self.count.fetch_add(1, Ordering::SeqCst);
            let is_absent = host.starts_with("no");
            Box::pin(async move {
                if let Some(held) = &self.held {
                    held.notified().await;
                }
                if is_absent { Err(io::Error::other("no such name")) } else { Ok(vec![ADDRESS]) }
            })
        }
    }

    fn names(resolver: Counted) -> (Names, Arc<Counted>, Arc<ManualClock>) {
        let (resolver, clock) = (Arc::new(resolver), Arc::new(ManualClock::new(Timestamp(1_000_000))));
        (Names::new(resolver.clone(), clock.clone()), resolver, clock)
    }

    #[tokio::test]
    async fn an_answer_lasts_30_seconds_a_failure_5_and_nothing_outlives_a_clock_put_back() {
        for (host, lasts) in [("a.test", 30_000), ("no.test", 5_000)] {
            let (names, resolver, clock) = names(Counted::default());
            let asked = async || {
                let _ = names.look_up(host).end().await;
                resolver.count.load(Ordering::SeqCst)
            };
            assert_eq!(asked().await, 1);
            clock.advance_ms(lasts - 1);
            assert_eq!(asked().await, 1, "{host}");
            assert!(names.look_up(host).known().is_some());
            clock.advance_ms(1);
            assert_eq!(asked().await, 2, "{host}");
            clock.advance_ms(-1);
            assert_eq!(asked().await, 3, "{host}");
        }
    }

    #[tokio::test]
    async fn everybody_waits_for_one_lookup_which_outlives_whoever_began_it() {
        let (names, resolver, _) = names(Counted { held: Some(Notify::new()), ..Counted::default() });
        let impatient = timeout(Duration::from_millis(1), names.look_up("a.test").end()).await;
        assert!(impatient.is_err());
        let (one, two) = (names.look_up("a.test"), names.look_up("a.test"));
        assert!(one.known().is_none());
        resolver.held.as_ref().expect("it holds back").notify_one();
        assert_eq!((one.end().await, two.end().await), (Ok([ADDRESS].into()), Ok([ADDRESS].into())));
        assert_eq!(resolver.count.load(Ordering::SeqCst), 1);
    }

    #[tokio::test]
    async fn the_number_of_names_remembered_is_bounded() {
        let (names, resolver, _) = names(Counted::default());
        for number in 0..NAMES_MAX * 2 {
            let _ = names.look_up(&format!("{number}.test")).end().await;
        }
        assert_eq!(resolver.count.load(Ordering::SeqCst), NAMES_MAX * 2);
        assert!(names.known.lock().expect("not poisoned").len() <= NAMES_MAX);
    }
}
