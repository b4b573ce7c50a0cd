//! Posts that a provider pushes: each is judged by itself, and all that are new are stored together before the answer.

use std::collections::HashMap;
use std::collections::hash_map::Entry;

use entity::id::{ItemId, SiteId, Timestamp};
use entity::kinds::Platform;
use sea_orm::{ConnectionTrait, DbErr};
use serde_json::Value;

use super::Tiktok;
use super::claims::{Claim, Handle};
use super::post::{self, Post};
use crate::db::Tx;
use crate::inbox::{CLAIM_MAX, Call};
use crate::rows::{self, Rows};
use crate::sites::config;
use crate::sources::intake::{Intake, IntakeError};

/// The entrance, as raw deliveries name it.
pub const SOURCE: &str = "tiktok/posts";

/// What became of a post.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Status {
    /// It is new, and a member has the handle.
    Accepted,
    /// It was known before; its counts may have changed.
    Duplicate,
    /// It is new, and nobody on the site had the handle in time so far.
    Unmatched,
    /// It does not count: it is too old, or older than the claim of the member who has proven the handle.
    TooOld,
    /// It cannot be read.
    Invalid,
}

/// What became of one post of a call.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pushed {
    /// The platform's id of it, as far as it was told.
    pub external_id: Option<String>,
    /// What became of it.
    pub status: Status,
    /// What is stored of it.
    pub item: Option<ItemId>,
    /// Why, for people.
    pub reason: Option<String>,
}

/// The posts of a call as they are judged.
#[derive(Default)]
struct Judging {
    /// What became of each, with its key as far as it could be read.
    results: Vec<(Pushed, String)>,
    /// Posts to store, and where their keys are among them.
    new: Vec<Post>,
    places: HashMap<String, usize>,
    /// Posts that do not count by their time, unless they were stored in time.
    late: HashMap<String, Post>,
}

impl Tiktok {
    /// Stores what is new of `posts`, which came in `body` for `site`; says for each in its order what became of it.
    pub async fn push(
        &self,
        intake: &Intake,
        site: SiteId,
        (body, posts): (Vec<u8>, &[Value]),
    ) -> Result<Vec<Pushed>, IntakeError> {
        let read: Vec<Result<Post, String>> = posts.iter().map(Post::read).collect();
        let handles = read.iter().flatten().map(|post| (site, post.author_handle.clone())).collect();
        let claims = self.claims.find(handles).await?;
        let mut judging = Judging::default();
        for (value, post) in posts.iter().zip(read) {
            judging.judge(site, self.db.now(), &claims, value, post);
        }
        let items = judging.new.iter().map(|post| post.item(site)).collect();
        let stored = intake.store(Call { source: SOURCE, body, items }).await?;
        let before = judging.note_new(&stored.new.into_iter().collect(), site);
        let known = known(self.db.read(), before).await?;
        judging.note_known(&known);
        if !known.is_empty() {
            let tx = self.db.write().await?;
            recount(&tx, site, known.into_values().collect()).await?;
            tx.commit().await?;
        }
        Ok(judging.results.into_iter().map(|(pushed, _)| pushed).collect())
    }
}

const fn is_new(status: Status) -> bool {
    matches!(status, Status::Accepted | Status::Unmatched)
}

impl Judging {
    fn judge(
        &mut self,
        site: SiteId,
        now: Timestamp,
        claims: &HashMap<Handle, Claim>,
        value: &Value,
        post: Result<Post, String>,
    ) {
        let mut result = Pushed {
            external_id: post::external_id(value),
            status: Status::Duplicate,
            item: None,
            reason: None,
        };
        let post = match post {
            Ok(post) => post,
            Err(reason) => {
                (result.status, result.reason) = (Status::Invalid, Some(reason));
                self.results.push((result, String::new()));
                return;
            }
        };
        let key = post.key(site);
        if let Some(first) = self.places.get(&key).and_then(|place| self.new.get_mut(*place)) {
            take_counts(first, &post);
        } else {
            let claim = claims.get(&(site, post.author_handle.clone()));
            let in_time = claim.filter(|claim| !post.is_before_claim(claim.at));
            // What somebody only says takes nothing from whoever has the handle: the post waits for them.
            let is_early = in_time.is_none() && claim.is_some_and(|claim| !claim.is_only_said);
            let early = is_early.then_some("it was posted before the member claimed the handle");
            if let Some(reason) = post.is_too_old(now).or(early) {
                (result.status, result.reason) = (Status::TooOld, Some(reason.to_owned()));
                match self.late.entry(key.clone()) {
                    Entry::Occupied(mut first) => take_counts(first.get_mut(), &post),
                    Entry::Vacant(place) => drop(place.insert(post)),
                }
            } else {
                result.status = if in_time.is_some() { Status::Accepted } else { Status::Unmatched };
                self.places.insert(key.clone(), self.new.len());
                self.new.push(post);
            }
        }
        self.results.push((result, key));
    }

    /// Notes what is stored of those that are `new`; gives the others by key, which may have been stored before.
    fn note_new(&mut self, new: &HashMap<String, ItemId>, site: SiteId) -> HashMap<String, Post> {
        for (result, key) in self.results.iter_mut().filter(|(result, _)| is_new(result.status)) {
            result.item = new.get(key).copied();
            if result.item.is_none() {
                result.status = Status::Duplicate;
            }
        }
        let mut before = std::mem::take(&mut self.late);
        let posts = std::mem::take(&mut self.new).into_iter().map(|post| (post.key(site), post));
        before.extend(posts);
        before.retain(|key, _| !new.contains_key(key));
        before
    }

    /// What was stored in time is no less so for coming again late.
    fn note_known(&mut self, known: &HashMap<String, (ItemId, Post)>) {
        for (result, _) in self.results.iter_mut().filter(|(_, key)| known.contains_key(key)) {
            (result.status, result.reason) = (Status::Duplicate, None);
        }
    }
}

/// Counts grow and shrink with time; what is not told stays.
fn take_counts(post: &mut Post, newer: &Post) {
    post.like_count = newer.like_count.or(post.like_count);
    post.comment_count = newer.comment_count.or(post.comment_count);
}

/// Those of `posts` that are stored, by key, each with its item.
async fn known(
    db: &impl ConnectionTrait,
    mut posts: HashMap<String, Post>,
) -> Result<HashMap<String, (ItemId, Post)>, DbErr> {
    let keys: Vec<String> = posts.keys().cloned().collect();
    let mut known = HashMap::new();
    for part in keys.chunks(CLAIM_MAX) {
        let rows = Rows::new(part)
            .text("item_key", String::as_str)
            .same_text("platform", Platform::Tiktok.as_str())
            .query(
                db,
                // Not as a join: before PostgreSQL knows how many there are, it would read all of the platform's for it.
                "SELECT r.item_key, (SELECT i.id FROM item i WHERE i.platform = r.platform AND i.account = '' \
                 AND i.item_key = r.item_key) AS id FROM {rows} r",
            )
            .await?;
        for row in rows {
            let (key, item): (String, Option<ItemId>) =
                (row.try_get("", "item_key")?, row.try_get("", "id")?);
            if let (Some(item), Some(post)) = (item, posts.remove(&key)) {
                known.insert(key, (item, post));
            }
        }
    }
    Ok(known)
}

/// Notes how many like and comment on the posts by now, as the `newer` of each item says, there and in what was recorded of them. What they
/// earned stays as it is, and what was emptied stays empty.
async fn recount(tx: &Tx, site: SiteId, newer: Vec<(ItemId, Post)>) -> Result<(), DbErr> {
    config::take_turns(tx, &[site]).await?;
    let newer: HashMap<ItemId, Post> = newer.into_iter().collect();
    let items: Vec<ItemId> = newer.keys().copied().collect();
    let mut changed: Vec<(ItemId, Post)> = Vec::new();
    for part in items.chunks(CLAIM_MAX) {
        let rows = Rows::new(part)
            .uuid("id", |item| item.0)
            .query(tx.conn(), "SELECT i.id, i.payload FROM {rows} r JOIN item i ON i.id = r.id")
            .await?;
        for row in rows {
            let (item, payload): (ItemId, String) = (row.try_get("", "id")?, row.try_get("", "payload")?);
            let (Some(newer), Ok(stored)) = (newer.get(&item), serde_json::from_str::<Post>(&payload)) else {
                continue;
            };
            let mut counted = stored.clone();
            take_counts(&mut counted, newer);
            if counted != stored {
                changed.push((item, counted));
            }
        }
    }
    if changed.is_empty() {
        return Ok(());
    }
    let mut activities: Vec<(uuid::Uuid, String)> = Vec::new();
    for part in changed.chunks(CLAIM_MAX) {
        let rows = Rows::new(part)
            .uuid("item_id", |(id, _)| id.0)
            .same_uuid("site_id", site.0)
            .query(
                tx.conn(),
                "SELECT a.id, a.item_id, a.properties FROM {rows} r JOIN activity a \
                 ON a.item_id = r.item_id AND a.site_id = r.site_id",
            )
            .await?;
        for row in rows {
            let item: ItemId = row.try_get("", "item_id")?;
            let properties: String = row.try_get("", "properties")?;
            let Some((_, post)) = part.iter().find(|(id, _)| *id == item) else { continue };
            activities.push((row.try_get("", "id")?, recounted(&properties, post)));
        }
    }
    let items = Rows::new(&changed)
        .uuid("id", |(id, _)| id.0)
        .text("payload", |(_, post)| serde_json::to_string(post).unwrap_or_default())
        .write("UPDATE item SET payload = r.payload FROM {rows} AS r WHERE item.id = r.id");
    let properties = Rows::new(&activities)
        .uuid("id", |(id, _)| *id)
        .text("properties", |(_, properties)| properties.as_str())
        .same_uuid("site_id", site.0)
        .write(
            "UPDATE activity SET properties = r.properties FROM {rows} AS r \
             WHERE activity.site_id = r.site_id AND activity.id = r.id",
        );
    rows::write_all(tx.conn(), vec![items, properties]).await
}

fn recounted(properties: &str, post: &Post) -> String {
    let mut properties: Value = serde_json::from_str(properties).unwrap_or_default();
    if let Some(fields) = properties.as_object_mut() {
        for (name, count) in [("like_count", post.like_count), ("comments_count", post.comment_count)] {
            if let Some(count) = count {
                fields.insert(name.to_owned(), count.into());
            }
        }
    }
    properties.to_string()
}
