//! Media that the brand is tagged on. No webhook tells of them, so they are read every few minutes; what is new becomes a thing of the
//! inbox, whose unique keys are the memory of what was seen.
//!
//! The order of the pages is not documented, and an old post can be tagged later: every time the same number of pages is read, and no
//! instant decides what is new. The first reading of a connection only marks.

use std::sync::Arc;
use std::time::Duration;

use entity::connection;
use entity::kinds::{ItemStatus, Platform};
use futures_util::{StreamExt as _, stream};
use sea_orm::DbErr;
use serde_json::Value;
use tokio::sync::Mutex;
use tokio::time::{Instant, MissedTickBehavior, interval_at};

use super::answers::Media;
use super::brands::{self, Notes};
use super::graph::Access;
use super::graph_error::GraphError;
use super::understand::Instagram;
use crate::db::Tx;
use crate::inbox::{self, NewItem, Settled, Stored};
use crate::rows;

/// Pages that are read each time.
pub const PAGES_MAX: usize = 5;
/// Pages that are read the first time: what is not marked then would count as new later.
pub const FIRST_PAGES_MAX: usize = 40;
/// How often it is looked whether some are due.
pub const TICK: Duration = Duration::from_secs(15);
/// Connections that one look takes.
const POLLS_MAX: u64 = 64;
/// Connections that are read at a time.
const POLLS_AT_ONCE: usize = 4;
/// What becomes of tags that are older than the connection.
pub const SEEN_BEFORE: &str = "seen before the account was connected";
/// What the tags' readings need.
const PERMISSIONS: &str = "instagram_manage_comments,instagram_basic";

/// Reads the tags of every connection. Cheap to clone.
#[derive(Clone)]
pub struct TagPoller {
    instagram: Instagram,
    /// Pause between two readings of a connection's tags, in milliseconds.
    every_ms: i64,
    /// One round at a time: whoever asks for one when it ends has everything read that was due.
    working: Arc<Mutex<()>>,
}

impl TagPoller {
    /// One that is not running yet, and reads every connection so often.
    #[must_use]
    pub fn new(instagram: Instagram, every_minutes: u32) -> Self {
        Self { instagram, every_ms: i64::from(every_minutes) * 60_000, working: Arc::default() }
    }

    /// Reads until the task is dropped, after `first` for the first time.
    pub async fn run(self, first: Duration) {
        let mut ticks = interval_at(Instant::now() + first, TICK);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            ticks.tick().await;
            if let Err(error) = self.poll_due().await {
                tracing::warn!(%error, "tags could not be read; the next tick tries again");
            }
        }
    }

    /// Reads the tags of every connection that is due; says how many media were new.
    pub async fn poll_due(&self) -> Result<usize, DbErr> {
        let _working = self.working.lock().await;
        let mut new = 0;
        loop {
            let due = brands::claim_polls(self.instagram.db(), POLLS_MAX, self.every_ms).await?;
            if due.is_empty() {
                return Ok(new);
            }
            let polls: Vec<_> = due.into_iter().map(|row| self.clone().poll(row)).collect();
            let mut polls = stream::iter(polls).buffer_unordered(POLLS_AT_ONCE);
            while let Some(found) = polls.next().await {
                new += found;
            }
        }
    }

    /// Reads the tags of one connection. If they cannot be stored, that must not keep the others waiting.
    async fn poll(self, row: connection::Model) -> usize {
        self.read_tags(&row).await.unwrap_or_else(|error| {
            tracing::warn!(connection = %row.id, %error, "tags could not be stored; they are read again when it is time");
            0
        })
    }

    async fn read_tags(&self, row: &connection::Model) -> Result<usize, DbErr> {
        let db = self.instagram.db();
        let now = db.now();
        let pages = if row.has_polled { PAGES_MAX } else { FIRST_PAGES_MAX };
        let (media, error) = match brands::access(self.instagram.sealer(), row, now) {
            Ok(access) => self.read(&access, pages).await,
            Err(error) => (Vec::new(), Some(error)),
        };
        let mut notes = Notes::default();
        if let Some(error) = &error {
            tracing::info!(connection = %row.id, %error, "the tags could not be read to the end");
            notes.take(error, PERMISSIONS, now);
        }
        notes.take_gate(self.instagram.graph(), row.id, now);
        brands::note(db, row, &notes).await?;
        // Half a first reading would make what it missed look new.
        if error.is_some() && !row.has_polled {
            return Ok(0);
        }
        let items: Vec<NewItem> = media.iter().filter_map(|media| new_item(row, media)).collect();
        let tx = db.write().await?;
        let stored = inbox::add(&tx, &items).await?;
        if !row.has_polled && brands::mark_polled(&tx, row.id).await? {
            let marked = marked(&tx, row, &stored);
            rows::write_all(tx.conn(), vec![inbox::settle(&marked)]).await?;
        }
        tx.commit().await?;
        Ok(stored.new.len())
    }

    /// The media of at most `pages` pages, and what kept it from reading on.
    async fn read(&self, access: &Access, pages: usize) -> (Vec<Value>, Option<GraphError>) {
        let (mut media, mut after) = (Vec::new(), None);
        for _ in 0..pages {
            match self.instagram.graph().tags(access, after.as_deref()).await {
                Ok(page) => {
                    media.extend(page.media);
                    if page.after.is_none() || page.after == after {
                        break;
                    }
                    after = page.after;
                }
                Err(error) => return (media, Some(error)),
            }
        }
        (media, None)
    }
}

fn new_item(row: &connection::Model, media: &Value) -> Option<NewItem> {
    let read = Media::read(media);
    Some(NewItem {
        platform: Platform::Instagram,
        account: row.external_id.clone(),
        key: format!("tag:{}", read.id?),
        kind: "tag".to_owned(),
        person: None,
        handle: read.handle,
        site: Some(row.site_id),
        occurred_at: read.posted_at,
        payload: media.to_string(),
    })
}

/// Tags that were there before the connection.
fn marked(tx: &Tx, row: &connection::Model, stored: &Stored) -> Vec<Settled> {
    let settled = stored.new.iter().map(|(_, id)| Settled {
        id: *id,
        site: Some(row.site_id),
        handle: None,
        status: ItemStatus::Done,
        reason: Some(SEEN_BEFORE.to_owned()),
        due_at: tx.now(),
        expires_at: None,
    });
    settled.collect()
}
