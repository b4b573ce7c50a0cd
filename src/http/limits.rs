//! Rate limits per caller: a bucket that refills steadily (GCRA), kept in memory per node.

use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

use entity::id::MemberId;
use quick_cache::sync::Cache;
use uuid::Uuid;

use super::client_address::{ClientAddress, network};
use crate::access::Caller;

/// What a member may have a platform asked: so much at once, and one more in so many nanoseconds. The platform's own limits are for all
/// members of all sites together.
const LOOKUPS_MAX: u64 = 20;
const LOOKUP_EVERY_NS: u64 = 180 * 1_000_000_000;
/// Callers whose buckets are remembered.
const BUCKETS_MAX: usize = 20_000;

/// A steady rate with a burst.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rate {
    /// Requests a second in the long run.
    pub per_second: u32,
    /// Requests at once.
    pub burst: u32,
}

/// The limits for each kind of caller.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rates {
    /// A member or visitor.
    pub member: Rate,
    /// An app instance or API key, and an address that has tokens described.
    pub client: Rate,
    /// An address at the token endpoint: IPv4, or a /64 of IPv6.
    pub address: Rate,
}

#[derive(Clone, PartialEq, Eq, Hash)]
enum Who {
    Caller(Uuid),
    /// At the token endpoint.
    Address(IpAddr),
    /// Where tokens are described.
    Introspector(IpAddr),
    /// A member that has a platform asked.
    Asking(Uuid),
}

/// The buckets. Cheap to clone.
#[derive(Clone)]
pub struct Limits(Arc<Inner>);

struct Inner {
    rates: Rates,
    start: Instant,
    /// Per caller: the time, in nanoseconds since `start`, at which its bucket will be full again.
    buckets: Cache<Who, Arc<AtomicU64>>,
}

impl Limits {
    /// Fresh buckets.
    #[must_use]
    pub fn new(rates: Rates) -> Self {
        Self(Arc::new(Inner { rates, start: Instant::now(), buckets: Cache::new(BUCKETS_MAX) }))
    }

    /// Counts a request of `caller`; when it is one too many, says after how many seconds to come back.
    pub fn check(&self, caller: &Caller) -> Result<(), u32> {
        let (who, rate) = match caller {
            Caller::Visitor { visitor, .. } => (visitor.0, self.0.rates.member),
            Caller::Member { member, .. } => (member.0, self.0.rates.member),
            Caller::App { instance, .. } => (instance.0, self.0.rates.client),
            Caller::ApiKey { key, .. } => (key.0, self.0.rates.client),
        };
        self.count(Who::Caller(who), rate)
    }

    /// The same for a member whose call asks a platform.
    pub fn check_lookup(&self, member: MemberId) -> Result<(), u32> {
        self.bucket(Who::Asking(member.0), LOOKUP_EVERY_NS, LOOKUPS_MAX)
    }

    /// The same for whoever has no token yet.
    pub fn check_address(&self, client: &ClientAddress) -> Result<(), u32> {
        self.count_address(client, Who::Address, self.0.rates.address)
    }

    /// The same for whoever has a token described, as a back end does for each of its own requests.
    pub fn check_introspector(&self, client: &ClientAddress) -> Result<(), u32> {
        self.count_address(client, Who::Introspector, self.0.rates.client)
    }

    fn count_address(&self, client: &ClientAddress, who: fn(IpAddr) -> Who, rate: Rate) -> Result<(), u32> {
        client.0.map_or(Ok(()), |address| self.count(who(network(address)), rate))
    }

    fn count(&self, who: Who, rate: Rate) -> Result<(), u32> {
        self.bucket(who, 1_000_000_000 / u64::from(rate.per_second.max(1)), u64::from(rate.burst.max(1)))
    }

    fn bucket(&self, who: Who, step: u64, burst: u64) -> Result<(), u32> {
        let now = u64::try_from(self.0.start.elapsed().as_nanos()).unwrap_or(u64::MAX);
        let bucket = match self.0.buckets.get(&who) {
            Some(bucket) => bucket,
            None => {
                let bucket = Arc::new(AtomicU64::new(0));
                self.0.buckets.insert(who, Arc::clone(&bucket));
                bucket
            }
        };
        take(&bucket, now, step, burst)
    }
}

/// One of a bucket in which there is room for `burst`, and for one more every `step` nanoseconds.
fn take(bucket: &AtomicU64, now: u64, step: u64, burst: u64) -> Result<(), u32> {
    let room = step * burst;
    let taken = bucket.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |full_at| {
        let next = full_at.max(now) + step;
        (next - now <= room).then_some(next)
    });
    taken.map(|_| ()).map_err(|full_at| {
        let wait = (full_at.max(now) + step).saturating_sub(now + room);
        u32::try_from(wait.div_ceil(1_000_000_000)).unwrap_or(u32::MAX)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bucket_gives_its_burst_then_its_rate() {
        let bucket = AtomicU64::new(0);
        let take = |bucket: &AtomicU64, now| take(bucket, now, 500_000_000, 3);
        let at = |ms: u64| ms * 1_000_000;
        for _ in 0..3 {
            assert_eq!(take(&bucket, at(1)), Ok(()));
        }
        assert_eq!(take(&bucket, at(1)), Err(1));
        assert_eq!(take(&bucket, at(499)), Err(1));
        assert_eq!(take(&bucket, at(501)), Ok(()));
        assert_eq!(take(&bucket, at(501)), Err(1));
        for _ in 0..3 {
            assert_eq!(take(&bucket, at(60_000)), Ok(()));
        }
        assert_eq!(take(&bucket, at(60_000)), Err(1));
    }
}
