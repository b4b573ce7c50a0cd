//! The work on what platforms sent: taken from the inbox, understood by the platform's own module, recorded. What needs no look at
//! the platform is recorded as it comes in ([`intake`]).

pub mod intake;
pub mod settings;

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use entity::item;
use entity::kinds::Platform;
use sea_orm::DbErr;
use tokio::sync::{Mutex, Notify};

use crate::activities::record::{RecordError, Recorder};
use crate::activities::{Fate, Understood};
use crate::db::{Db, OpenError};
use crate::inbox::{self, Arrivals, Call, Stored};
use crate::outages::Outage;

/// How often it looks, unless it is woken.
const TICK: Duration = Duration::from_millis(500);
/// Things that are recorded as they come in: whoever sent them waits for it.
const AT_ONCE_MAX: usize = 128;

/// What understands the words of one platform.
pub trait Understand: Send + Sync {
    /// Whose words.
    fn platform(&self) -> Platform;

    /// Whether [`Self::understand`] tells what `item` means from what is known here, without asking the platform and without
    /// changing anything.
    fn is_clear(&self, item: &item::Model) -> bool;

    /// What `items` mean, each with its fate, in any order; looks up what the platform did not say. An item that is not
    /// given back is taken again when its lease ends.
    fn understand<'a>(
        &'a self,
        items: Vec<item::Model>,
    ) -> Pin<Box<dyn Future<Output = Result<Vec<Understood>, DbErr>> + Send + 'a>>;
}

/// The worker. Cheap to clone.
#[derive(Clone)]
pub struct Sources {
    db: Db,
    recorder: Recorder,
    shared: Arc<Shared>,
}

struct Shared {
    platforms: Vec<Box<dyn Understand>>,
    wake: Notify,
    /// One round at a time: whoever asks for one when it ends has everything done that was due.
    working: Mutex<()>,
}

impl Sources {
    /// A worker that is not running yet.
    #[must_use]
    pub fn new(db: Db, recorder: Recorder, platforms: Vec<Box<dyn Understand>>) -> Self {
        Self {
            db,
            recorder,
            shared: Arc::new(Shared { platforms, wake: Notify::new(), working: Mutex::new(()) }),
        }
    }

    /// The same on connections of its own.
    async fn apart(&self) -> Result<Self, OpenError> {
        let db = self.db.for_worker(1).await?;
        Ok(Self { recorder: self.recorder.on(db.clone()), db, shared: Arc::clone(&self.shared) })
    }

    /// Works until the task is dropped.
    pub async fn run(self) {
        let mut ticks = tokio::time::interval(TICK);
        ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                _ = ticks.tick() => {}
                () = self.shared.wake.notified() => {}
            }
            if let Err(error) = self.work_off().await {
                tracing::warn!(%error, "what platforms sent could not be worked on; the next tick tries again");
            }
        }
    }

    /// Stores what came in `calls`, together if that works; says of each what was new. When this returns, they may be acknowledged.
    /// What is clear is done by then as well, unless it is much or cannot be recorded: then it is worked on like the rest.
    async fn store(&self, calls: Vec<Call>) -> Vec<Result<Stored, Arc<DbErr>>> {
        let mut arrivals = Arrivals::of(&self.db, calls);
        if let Some(stored) = self.store_and_record(&mut arrivals).await {
            return stored.into_iter().map(Ok).collect();
        }
        let stored = match self.db.in_time(inbox::store(&self.db, &arrivals)).await {
            Ok(stored) => stored.into_iter().map(Ok).collect(),
            Err(error) if arrivals.calls() == 1 || Outage::of(&error).is_some() => {
                let error = Arc::new(error);
                (0..arrivals.calls()).map(|_| Err(Arc::clone(&error))).collect()
            }
            Err(error) => {
                tracing::warn!(%error, calls = arrivals.calls(), "calls could not be stored together; each is tried alone");
                let mut stored = Vec::with_capacity(arrivals.calls());
                for alone in arrivals.apart() {
                    let alone = self.db.in_time(inbox::store(&self.db, &alone)).await;
                    let alone = alone.map(|of_calls| of_calls.into_iter().next().unwrap_or_default());
                    stored.push(alone.map_err(Arc::new));
                }
                stored
            }
        };
        self.wake();
        stored
    }

    /// Stores `arrivals` and records in the same transaction what comes of those that are clear; says of each call what was new. If
    /// nothing is clear, or that cannot be done, nothing is stored.
    async fn store_and_record(&self, arrivals: &mut Arrivals) -> Option<Vec<Stored>> {
        let is_clear = |item: &item::Model| {
            let platform = self.shared.platforms.iter().find(|platform| platform.platform() == item.platform);
            platform.is_some_and(|platform| platform.is_clear(item))
        };
        let mut clear: Vec<&mut item::Model> =
            arrivals.items.iter_mut().filter(|item| is_clear(item)).collect();
        if clear.is_empty() || clear.len() > AT_ONCE_MAX {
            return None;
        }
        for item in &mut clear {
            item.attempts = 1;
        }
        let clear: Vec<item::Model> = clear.into_iter().map(|item| item.clone()).collect();
        let is_rest = clear.len() < arrivals.items.len();
        let recorded = async {
            let understood = self.understand(clear).await?;
            self.recorder.take_in(arrivals, &understood).await
        };
        match self.db.in_time(Box::pin(recorded)).await {
            Ok(new) => {
                if is_rest {
                    self.wake();
                }
                Some(arrivals.stored(&new))
            }
            Err(error) => {
                tracing::warn!(%error, "what came in could not be recorded at once; it is worked on when it is stored");
                None
            }
        }
    }

    /// Looks now rather than at the next tick.
    pub fn wake(&self) {
        self.shared.wake.notify_one();
    }

    /// Works on everything that is due; says how many things that were.
    pub async fn work_off(&self) -> Result<usize, RecordError> {
        let _working = self.shared.working.lock().await;
        let mut done = 0;
        loop {
            let items = self.db.in_time(inbox::claim(&self.db)).await?;
            if items.is_empty() {
                return Ok(done);
            }
            done += items.len();
            let understood = self.understand(items).await?;
            self.db.in_time(Box::pin(self.recorder.record(understood))).await?;
        }
    }

    async fn understand(&self, items: Vec<item::Model>) -> Result<Vec<Understood>, DbErr> {
        let mut understood = Vec::with_capacity(items.len());
        let mut rest = items;
        for platform in &self.shared.platforms {
            let of_platform;
            (of_platform, rest) = rest.into_iter().partition(|item| item.platform == platform.platform());
            if !of_platform.is_empty() {
                understood.extend(platform.understand(of_platform).await?);
            }
        }
        let reason = || "nothing here understands this platform".to_owned();
        understood.extend(rest.into_iter().map(|item| {
            let site = item.site_id;
            (item, Fate::Ignored { site, reason: reason() })
        }));
        Ok(understood)
    }
}
