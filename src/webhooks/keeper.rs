//! The keeper of this node's endpoints: it keeps the node alive, takes endpoints that are due, reads their deliveries, and gives
//! back those without work.

use std::time::Duration;

use sea_orm::{DatabaseBackend, DbErr};

use super::claims::{self, ENDPOINTS_MAX};
use super::dispatcher::Dispatcher;
use super::endpoints::{self, CHANNEL, LEASE_MS, SESSION_LOCKS, TAKEN_MAX};
use super::{health, postponed, replays};

/// How often it looks, unless it is woken.
const TICK: Duration = Duration::from_millis(500);
/// How often a node says that it lives, in milliseconds.
const RENEW_MS: i64 = 1_000;
/// How often what the node owns is compared with the database, and all of it looked through, in milliseconds: whatever was
/// missed is found then.
const REVIEW_MS: i64 = LEASE_MS;
/// Times that one look reads what is due; then the node has to say again that it lives.
const ROUNDS_MAX: usize = 32;
/// Endpoints that one round reads when only those are left whose breaker is open.
const PROBES_READ: usize = 8;
/// Rest after a round that has found no first try: what has failed before has waited for a minute and more, and reading it leaves
/// room for everybody else.
const REST: Duration = Duration::from_millis(4);
/// Endpoints that one look compares.
const REVIEWED_AT_ONCE: usize = 512;

/// What a round has read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Read {
    Nothing,
    Resends,
    /// First tries, and perhaps others.
    FirstTries,
}

/// Looks again and again.
pub(super) async fn tick(dispatcher: Dispatcher) {
    let mut ticks = tokio::time::interval(TICK);
    ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            _ = ticks.tick() => {}
            () = dispatcher.0.wake.notified() => {}
        }
        if dispatcher.lock().is_stopping {
            return;
        }
        if let Err(error) = dispatcher.look().await {
            tracing::warn!(%error, "due deliveries could not be read; the next tick tries again");
        }
        dispatcher.beat();
    }
}

/// Looks whenever another node says that something is due, and forgets the subscriptions of which it says that they were deleted. The
/// tick covers what is missed of the former, the outcome of the next try what is missed of the latter.
pub(super) async fn listen(dispatcher: Dispatcher) {
    let woken = dispatcher.clone();
    let lock = (SESSION_LOCKS, dispatcher.0.session);
    let heard = move |said: &str| {
        if let Some(deleted) = endpoints::deleted_by(said) {
            woken.forget_deleted(deleted);
        }
        woken.wake();
    };
    dispatcher.0.keeper_db.listen(CHANNEL, lock, heard).await;
}

impl Dispatcher {
    /// Looks for due deliveries until there are no more, and says whether there were any.
    pub(super) async fn look(&self) -> Result<bool, DbErr> {
        // One look at a time: another's answer would be old by the time its deliveries are sent and written.
        let _looking = self.0.looking.lock().await;
        if self.lock().is_stopping {
            return Ok(false);
        }
        self.stay_alive().await?;
        // What was queued while this node's life had run out waits for somebody to start it.
        self.pump();
        self.review().await?;
        let db = &self.0.keeper_db;
        match db.in_time(health::review(db, &self.0.configs, self)).await {
            Ok(disabled) => disabled.into_iter().for_each(|subscription| self.requeue(subscription)),
            Err(error) => tracing::warn!(%error, "the health of receivers could not be reviewed"),
        }
        let has_gone_on = match db.in_time(replays::go_on(db)).await {
            Ok(has_gone_on) => has_gone_on,
            Err(error) => {
                tracing::warn!(%error, "a replay could not go on; the next look tries again");
                false
            }
        };
        let mut has_found = has_gone_on;
        while self.take_due().await? {}
        for round in 1..=ROUNDS_MAX {
            let Some(read) = self.read_due().await? else { break };
            has_found |= read != Read::Nothing;
            if round == ROUNDS_MAX {
                self.wake();
            } else if read != Read::FirstTries
                && tokio::time::timeout(REST, self.0.wake.notified()).await.is_ok()
            {
                // Whoever woke it wants the whole look.
                has_found = true;
                self.wake();
                break;
            }
        }
        if has_gone_on {
            // It takes its next step once everybody has had a turn.
            self.wake();
        }
        self.release_idle(false).await?;
        // Last, as it may have much to go through.
        Ok(self.notice_time().await? || has_found)
    }

    /// Has what a wrong clock put off sent, once it is right again. Says whether there is any.
    async fn notice_time(&self) -> Result<bool, DbErr> {
        let now = self.0.keeper_db.now();
        let before = self.lock().latest;
        let is_late =
            postponed::is_set_back(now, before) && postponed::bring_forward(&self.0.keeper_db).await?;
        self.lock().latest = now;
        if is_late {
            self.wake();
        }
        Ok(is_late)
    }

    /// Renews this node's life when it is time, and buries others. If it was itself taken for dead, it starts anew.
    async fn stay_alive(&self) -> Result<(), DbErr> {
        let db = &self.0.keeper_db;
        if db.backend() == DatabaseBackend::Sqlite {
            return Ok(());
        }
        let now = db.now();
        let node = {
            let state = self.lock();
            if now < state.renew_at && state.renew_at.0 - now.0 <= RENEW_MS {
                return Ok(());
            }
            state.node
        };
        db.in_time(db.keep_time()).await?;
        let node = match db.in_time(endpoints::renew(db, node)).await? {
            Some(alive_until) => {
                self.lock().alive_until = alive_until;
                node
            }
            None => {
                tracing::warn!("this node was taken for dead; it starts anew");
                let node = db.new_id();
                let alive_until = db.in_time(endpoints::enter(db, node, self.0.session)).await?;
                let mut state = self.lock();
                state.disown_all();
                (state.node, state.alive_until) = (node, alive_until);
                node
            }
        };
        // From before the renewal on: should the clock have jumped meanwhile, the life that it gave may be over.
        self.lock().renew_at = now.plus_ms(RENEW_MS);
        db.in_time(endpoints::bury_dead(db, node)).await
    }

    /// Looks through everything that is this node's, now and then, and through some at a time.
    async fn review(&self) -> Result<(), DbErr> {
        let now = self.0.keeper_db.now();
        let (node, after) = {
            let mut state = self.lock();
            if state.reviewed.is_none() {
                if now < state.review_at && state.review_at.0 - now.0 <= REVIEW_MS {
                    return Ok(());
                }
                state.review_at = now.plus_ms(REVIEW_MS);
            }
            (state.node, state.reviewed)
        };
        let db = &self.0.keeper_db;
        let owned = db.in_time(endpoints::owned_by(db, node, after, REVIEWED_AT_ONCE)).await?;
        let mut state = self.lock();
        state.reviewed =
            owned.last().filter(|_| owned.len() == REVIEWED_AT_ONCE).map(|owned| owned.subscription);
        for endpoint in owned {
            state.own(endpoint);
        }
        Ok(())
    }

    /// Takes endpoints that are due and nobody's, and says whether there were any.
    async fn take_due(&self) -> Result<bool, DbErr> {
        let node = {
            let state = self.lock();
            if state.room_of_new() == 0 || !state.is_alive(self.0.keeper_db.now()) {
                return Ok(false);
            }
            state.node
        };
        let taken = self.0.keeper_db.in_time(endpoints::take_due(&self.0.keeper_db, node)).await?;
        let mut state = self.lock();
        for endpoint in &taken {
            state.own(*endpoint);
        }
        Ok(!taken.is_empty())
    }

    /// Reads what is due of some endpoints, and says what there was; nothing if none are to be read.
    async fn read_due(&self) -> Result<Option<Read>, DbErr> {
        let wants = {
            let mut state = self.lock();
            let at_once = if state.wants_only_probes() { PROBES_READ } else { ENDPOINTS_MAX };
            state.wants(self.0.keeper_db.now(), at_once)
        };
        if wants.is_empty() {
            return Ok(None);
        }
        let db = &self.0.keeper_db;
        let found = db.in_time(claims::read_due(db, &wants, |due| self.lock().drop_held(due))).await;
        let (found, failed) = match found {
            Ok(found) => (Some(found), None),
            Err(error) => (None, Some(error)),
        };
        let has_first = found.iter().flat_map(|found| &found.jobs).any(|job| job.attempt_count == 0);
        let read = {
            let mut state = self.lock();
            let before = state.held.len();
            state.looked(&wants, found);
            if state.held.len() == before {
                Read::Nothing
            } else if has_first {
                Read::FirstTries
            } else {
                Read::Resends
            }
        };
        self.pump();
        failed.map_or(Ok(Some(read)), Err)
    }

    /// Gives back some of the endpoints that have had no work for a while, or all that have none now.
    pub(super) async fn release_idle(&self, all_at_once: bool) -> Result<(), DbErr> {
        let (node, idle) = {
            let mut state = self.lock();
            let idle =
                if all_at_once { state.all_idle() } else { state.idle(self.0.keeper_db.now(), TAKEN_MAX) };
            (state.node, idle)
        };
        let db = &self.0.keeper_db;
        db.in_time(endpoints::release(db, node, &idle, |idle| self.lock().disown_idle(idle))).await
    }
}
