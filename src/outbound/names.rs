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
/// Lookups at once of names that were found the last time, and of all others: each takes a thread that others need too. However many
/// names cannot be found, those that could be do not wait for them.
const LOOKUPS_MAX: [usize; 2] = [64, 64];
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
    found: Arc<Semaphore>,
    others: Arc<Semaphore>,
    known: Mutex<Cache<Box<str>, Lookup>>,
}

impl Names {
    pub(super) fn new(resolver: Arc<dyn Resolve>, clock: Arc<dyn Clock>) -> Self {
        let [found, others] = LOOKUPS_MAX.map(|max| Arc::new(Semaphore::new(max)));
        Self { resolver, clock, found, others, known: Mutex::new(Cache::new(NAMES_MAX)) }
    }

    /// The lookup of `host`: the last one while it is fresh or under way, else a new one.
    pub(super) fn look_up(&self, host: &str) -> Lookup {
        let now = self.clock.now();
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        let last = known.get(host);
        if let Some(lookup) = last.filter(|lookup| lookup.is_useful(now)) {
            return lookup.clone();
        }
        let was_found = last.is_some_and(|lookup| matches!(lookup.known(), Some(Ok(_))));
        let [lookup, remembered] = self.begin(host, if was_found { &self.found } else { &self.others });
        known.insert(host.into(), remembered);
        lookup
    }

    /// Gives the lookup twice: one to wait for and one to be remembered.
    fn begin(&self, host: &str, permits: &Arc<Semaphore>) -> [Lookup; 2] {
        let (answer, lookup) = watch::channel(None);
        let both = [lookup.clone(), lookup].map(Lookup);
        let (resolver, clock, permits) =
            (Arc::clone(&self.resolver), Arc::clone(&self.clock), Arc::clone(permits));
        let host = host.to_owned();
        tokio::spawn(async move {
            let _permit = permits.acquire().await;
            // Only what is remembered still listens: whoever wanted it has given up, and the next one begins anew.
            if answer.receiver_count() < 2 {
                return;
            }
            let found = match timeout(LOOKUP_TIMEOUT, resolver.resolve(&host)).await {
                Ok(Ok(addresses)) => Ok(addresses.into_iter().take(ADDRESSES_MAX).collect()),
                Ok(Err(error)) => Err(error.to_string().into()),
                Err(_) => Err("the resolver does not answer".into()),
            };
            answer.send_replace(Some(Known { found, at: clock.now() }));
        });
        both
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

    /// Never answers for names that begin with "slow".
    #[derive(Default)]
    struct PartlySlow(AtomicUsize);

    impl Resolve for PartlySlow {
        fn resolve(&self, host: &str) -> BoxFuture<'_, io::Result<Vec<IpAddr>>> {
            if host.starts_with("slow") {
                self.0.fetch_add(1, Ordering::SeqCst);
                return Box::pin(std::future::pending());
            }
            Box::pin(async { Ok(vec![ADDRESS]) })
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_name_that_was_found_does_not_wait_for_those_that_are_not() {
        let (resolver, clock) =
            (Arc::new(PartlySlow::default()), Arc::new(ManualClock::new(Timestamp(1_000_000))));
        let names = Names::new(resolver.clone(), clock.clone());
        assert_eq!(names.look_up("a.test").end().await, Ok([ADDRESS].into()));
        let slow: Vec<Lookup> =
            (0..500).map(|number| names.look_up(&format!("slow-{number}.test"))).collect();
        clock.advance_ms(FOUND_MS);
        let again = timeout(Duration::from_millis(1), names.look_up("a.test").end()).await;
        assert_eq!(again, Ok(Ok([ADDRESS].into())));
        // Those whom nobody waits for any more are not looked up at all: the next one has its turn at once.
        assert_eq!(resolver.0.load(Ordering::SeqCst), LOOKUPS_MAX[1]);
        drop(slow);
        tokio::time::advance(LOOKUP_TIMEOUT).await;
        let new = timeout(Duration::from_millis(1), names.look_up("b.test").end()).await;
        assert_eq!(new, Ok(Ok([ADDRESS].into())));
        assert_eq!(resolver.0.load(Ordering::SeqCst), LOOKUPS_MAX[1]);
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
