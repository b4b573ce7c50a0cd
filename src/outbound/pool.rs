//! Open connections between requests.
//!
//! A connection is found by where the request goes *and* by the address that it leads to: it is used only while that address
//! is among those that were judged for this very request. So neither a name that changed its mind nor a changed allow
//! list can be got around by a connection that is kept busy.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Duration;

use hyper::http::uri::Authority;
use tokio::time::Instant;

use super::link::{Form, Link, Refusal, Sender};
use super::watched::Traffic;

/// How long an idle connection is kept: shorter than most receivers keep theirs.
const IDLE_TIMEOUT: Duration = Duration::from_secs(30);
/// How often connections are looked for that were idle for so long.
const SWEEP_EVERY: Duration = Duration::from_secs(5);
/// Idle connections to one receiver.
const IDLE_PER_HOST_MAX: usize = 64;
/// Idle connections in all.
const IDLE_MAX: usize = 4_096;

/// Where requests go that may share connections.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct Origin {
    pub(super) is_plain: bool,
    /// Host and port; the host is also the name in the certificate.
    pub(super) authority: Authority,
    /// Whose client certificate is shown, if one is.
    pub(super) identity: Option<[u8; 32]>,
}

struct Kept {
    sender: Sender,
    address: IpAddr,
    form: Form,
    traffic: Traffic,
    refusal: Refusal,
    users: Arc<()>,
    since: Instant,
}

impl Kept {
    fn is_usable(&self, now: Instant) -> bool {
        match &self.sender {
            Sender::Http1(sender) => sender.is_ready() && now - self.since < IDLE_TIMEOUT,
            Sender::Http2(sender, streams_max) => {
                let streams = self.streams();
                let is_idle_too_long = streams == 0 && now - self.since >= IDLE_TIMEOUT;
                !sender.is_closed() && !is_idle_too_long && streams < streams_max.load(Ordering::Relaxed)
            }
        }
    }

    fn is_over(&self, now: Instant) -> bool {
        let is_closed = match &self.sender {
            Sender::Http1(sender) => sender.is_closed(),
            Sender::Http2(sender, _) => sender.is_closed(),
        };
        is_closed || (self.streams() == 0 && now - self.since >= IDLE_TIMEOUT)
    }

    /// Requests under way on a shared connection.
    fn streams(&self) -> usize {
        Arc::strong_count(&self.users) - 1
    }
}

#[derive(Default)]
struct State {
    by_origin: HashMap<Origin, Vec<Kept>>,
    count: usize,
    is_swept: bool,
}

/// The connections that are kept. Clones share them.
#[derive(Clone, Default)]
pub(super) struct Pool(Arc<Mutex<State>>);

impl Pool {
    /// A connection to `origin` that leads to one of `addresses`, the one used last.
    pub(super) fn take(&self, origin: &Origin, addresses: &[IpAddr]) -> Option<Link> {
        let mut state = self.lock();
        let State { by_origin, count, .. } = &mut *state;
        let kept = by_origin.get_mut(origin)?;
        let now = Instant::now();
        let found = kept.iter().rposition(|kept| addresses.contains(&kept.address) && kept.is_usable(now))?;
        if let Sender::Http2(sender, streams_max) = &kept[found].sender {
            let sender = Sender::Http2(sender.clone(), Arc::clone(streams_max));
            let kept = &mut kept[found];
            kept.since = now;
            return Some(Link {
                sender,
                address: kept.address,
                form: kept.form,
                traffic: kept.traffic.clone(),
                refusal: kept.refusal.clone(),
                users: Arc::clone(&kept.users),
                is_reused: true,
            });
        }
        let Kept { sender, address, form, traffic, refusal, users, .. } = kept.remove(found);
        *count -= 1;
        Some(Link { sender, address, form, traffic, refusal, users, is_reused: true })
    }

    /// Keeps a connection that is ready for another request, if there is room.
    pub(super) fn put(&self, origin: &Origin, link: Link) {
        let now = Instant::now();
        let mut state = self.lock();
        if !link.is_http2() {
            self.keep(&mut state, origin, link, now);
        } else if let Some(shared) = find_shared(&mut state, origin, &link.users) {
            shared.since = now;
        }
    }

    /// Lets other requests use a new connection too, unless there is such a one already.
    pub(super) fn share(&self, origin: &Origin, link: &Link) {
        let Sender::Http2(sender, streams_max) = &link.sender else { return };
        let now = Instant::now();
        let mut state = self.lock();
        let others = state.by_origin.get(origin);
        if others.is_some_and(|others| {
            others.iter().any(|kept| kept.address == link.address && kept.is_usable(now))
        }) {
            return;
        }
        let shared = Link {
            sender: Sender::Http2(sender.clone(), Arc::clone(streams_max)),
            address: link.address,
            form: link.form,
            traffic: link.traffic.clone(),
            refusal: link.refusal.clone(),
            users: Arc::clone(&link.users),
            is_reused: true,
        };
        self.keep(&mut state, origin, shared, now);
    }

    /// Gives a shared connection to nobody else, since it may be dead; requests that are under way on it go on.
    pub(super) fn retire(&self, origin: &Origin, users: &Weak<()>) {
        let mut state = self.lock();
        let State { by_origin, count, .. } = &mut *state;
        let Some(kept) = by_origin.get_mut(origin) else { return };
        let before = kept.len();
        kept.retain(|kept| Arc::as_ptr(&kept.users) != users.as_ptr());
        *count -= before - kept.len();
    }

    fn keep(&self, state: &mut State, origin: &Origin, link: Link, since: Instant) {
        let Link { sender, address, form, traffic, refusal, users, .. } = link;
        let State { by_origin, count, is_swept } = state;
        if *count >= IDLE_MAX {
            return;
        }
        let new = Kept { sender, address, form, traffic, refusal, users, since };
        match by_origin.get_mut(origin) {
            Some(kept) => {
                if kept.len() >= IDLE_PER_HOST_MAX {
                    *count -= kept.len();
                    kept.retain(|kept| !kept.is_over(since));
                    *count += kept.len();
                }
                if kept.len() >= IDLE_PER_HOST_MAX {
                    return;
                }
                kept.push(new);
            }
            None => {
                by_origin.insert(origin.clone(), vec![new]);
            }
        }
        *count += 1;
        if !*is_swept {
            *is_swept = true;
            tokio::spawn(sweep(Arc::downgrade(&self.0)));
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn find_shared<'a>(state: &'a mut State, origin: &Origin, users: &Arc<()>) -> Option<&'a mut Kept> {
    state.by_origin.get_mut(origin)?.iter_mut().find(|kept| Arc::ptr_eq(&kept.users, users))
}

/// Closes what was idle for too long, until nothing is kept or nobody has the pool any more.
async fn sweep(pool: Weak<Mutex<State>>) {
    let mut ticks = tokio::time::interval_at(Instant::now() + SWEEP_EVERY, SWEEP_EVERY);
    loop {
        ticks.tick().await;
        let Some(pool) = pool.upgrade() else { return };
        let now = Instant::now();
        let mut state = pool.lock().unwrap_or_else(PoisonError::into_inner);
        state.by_origin.retain(|_, kept| {
            kept.retain(|kept| !kept.is_over(now));
            !kept.is_empty()
        });
        state.count = state.by_origin.values().map(Vec::len).sum();
        if state.count == 0 {
            state.is_swept = false;
            return;
        }
    }
}
