//! The work on what platforms sent: taken from the inbox, understood by the platform's own module, recorded.

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
use crate::db::Db;
use crate::inbox;

/// How often it looks, unless it is woken.
const TICK: Duration = Duration::from_millis(500);

/// What understands the words of one platform.
pub trait Understand: Send + Sync {
    /// Whose words.
    fn platform(&self) -> Platform;

    /// What `items` mean, each with its fate, in any order; looks up what the platform did not say. An item that is not
    /// given back is taken again when its lease ends.
    fn understand<'a>(
        &'a self,
        items: Vec<item::Model>,
    ) -> Pin<Box<dyn Future<Output = Result<Vec<Understood>, DbErr>> + Send + 'a>>;
}

/// The worker. Cheap to clone.
#[derive(Clone)]
pub struct Sources(Arc<Inner>);

struct Inner {
    db: Db,
    recorder: Recorder,
    platforms: Vec<Box<dyn Understand>>,
    wake: Notify,
    /// One round at a time: whoever asks for one when it ends has everything done that was due.
    working: Mutex<()>,
}

impl Sources {
    /// A worker that is not running yet.
    #[must_use]
    pub fn new(db: Db, recorder: Recorder, platforms: Vec<Box<dyn Understand>>) -> Self {
        Self(Arc::new(Inner { db, recorder, platforms, wake: Notify::new(), working: Mutex::new(()) }))
    }

    /// Works until the task is dropped.
    pub async fn run(self) {
        let mut ticks = tokio::time::interval(TICK);
        ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                _ = ticks.tick() => {}
                () = self.0.wake.notified() => {}
            }
            if let Err(error) = self.work_off().await {
                tracing::warn!(%error, "what platforms sent could not be worked on; the next tick tries again");
            }
        }
    }

    /// Looks now rather than at the next tick.
    pub fn wake(&self) {
        self.0.wake.notify_one();
    }

    /// Works on everything that is due; says how many things that were.
    pub async fn work_off(&self) -> Result<usize, RecordError> {
        let _working = self.0.working.lock().await;
        let mut done = 0;
        loop {
            let items = inbox::claim(&self.0.db).await?;
            if items.is_empty() {
                return Ok(done);
            }
            done += items.len();
            let understood = self.understand(items).await?;
            self.0.recorder.record(understood).await?;
        }
    }

    async fn understand(&self, items: Vec<item::Model>) -> Result<Vec<Understood>, DbErr> {
        let mut understood = Vec::with_capacity(items.len());
        let mut rest = items;
        for platform in &self.0.platforms {
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
