//! Posts that a provider pushes: each is judged by itself, and all that are new are stored together before the answer.

use std::collections::HashMap;

use entity::id::{ItemId, SiteId, Timestamp};
use entity::kinds::Platform;
use sea_orm::{ConnectionTrait, DbErr};
use serde_json::Value;

use super::post::{self, Post};
use crate::db::{Db, Tx};
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
    /// It is new, and nobody on the site has the handle so far.
    Unmatched,
    /// It does not count: it is too old, or older than the member's claim of the handle.
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

/// A post that was stored before.
struct Known {
    item: ItemId,
    payload: String,
}

/// What is known about the posts of a call.
struct Before {
    known: HashMap<String, Known>,
    claims: HashMap<String, Timestamp>,
}

/// The posts of a call as they are judged.
#[derive(Default)]
struct Judging {
    results: Vec<Pushed>,
    /// Posts to store, and where their keys are among them.
    new: Vec<Post>,
    places: HashMap<String, usize>,
    /// Counts of posts that were stored before.
    counts: HashMap<ItemId, (Post, Post)>,
}

/// Stores what is new of `posts`, which came in `body` for `site`; says for each in its order what became of it.
pub async fn push(
    db: &Db,
    intake: &Intake,
    site: SiteId,
    (body, posts): (Vec<u8>, &[Value]),
) -> Result<Vec<Pushed>, IntakeError> {
    let read: Vec<Result<Post, String>> = posts.iter().map(Post::read).collect();
    let good: Vec<&Post> = read.iter().flatten().collect();
    let (known, claims) = tokio::try_join!(known(db, site, &good), claims(db, site, &good))?;
    let before = Before { known, claims };
    let mut judging = Judging::default();
    for (value, post) in posts.iter().zip(read) {
        judging.judge(site, db.now(), &before, value, post);
    }
    let items = judging.new.iter().map(|post| post.item(site)).collect();
    let stored = intake.store(Call { source: SOURCE, body, items }).await?;
    let ids: HashMap<String, ItemId> = stored.new.into_iter().collect();
    for result in judging.results.iter_mut().filter(|result| is_new(result.status)) {
        let key = result.external_id.as_deref().map(|id| post::key(site, id)).unwrap_or_default();
        match ids.get(&key) {
            Some(id) => result.item = Some(*id),
            // Another call was faster.
            None => result.status = Status::Duplicate,
        }
    }
    if !judging.counts.is_empty() {
        let tx = db.write().await?;
        recount(&tx, site, judging.counts).await?;
        tx.commit().await?;
    }
    Ok(judging.results)
}

const fn is_new(status: Status) -> bool {
    matches!(status, Status::Accepted | Status::Unmatched)
}

impl Judging {
    fn judge(
        &mut self,
        site: SiteId,
        now: Timestamp,
        before: &Before,
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
                self.results.push(result);
                return;
            }
        };
        let key = post.key(site);
        if let Some(first) = self.places.get(&key).and_then(|place| self.new.get_mut(*place)) {
            take_counts(first, &post);
        } else if let Some(known) = before.known.get(&key) {
            let stored = serde_json::from_str::<Post>(&known.payload);
            if let Ok(stored) = stored {
                let (_, counted) = self.counts.entry(known.item).or_insert_with(|| (stored.clone(), stored));
                take_counts(counted, &post);
            }
        } else {
            let claimed_at = before.claims.get(&post.author_handle);
            let is_early = claimed_at.is_some_and(|at| post.is_before_claim(*at));
            let early = is_early.then_some("it was posted before the member claimed the handle");
            if let Some(reason) = post.is_too_old(now).or(early) {
                (result.status, result.reason) = (Status::TooOld, Some(reason.to_owned()));
            } else {
                result.status = if claimed_at.is_some() { Status::Accepted } else { Status::Unmatched };
                self.places.insert(key, self.new.len());
                self.new.push(post);
            }
        }
        self.results.push(result);
    }
}

/// Counts grow and shrink with time; what is not told stays.
fn take_counts(post: &mut Post, newer: &Post) {
    post.like_count = newer.like_count.or(post.like_count);
    post.comment_count = newer.comment_count.or(post.comment_count);
}

async fn known(db: &Db, site: SiteId, posts: &[&Post]) -> Result<HashMap<String, Known>, DbErr> {
    let mut known = HashMap::new();
    for part in posts.chunks(CLAIM_MAX) {
        let rows = Rows::new(part)
            .text("item_key", |post| post.key(site))
            .same_text("platform", Platform::Tiktok.as_str())
            .query(
                db.read(),
                // Not as a join: before PostgreSQL knows how many there are, it would read all of the platform's for it.
                "SELECT r.item_key, \
                 (SELECT i.id FROM item i WHERE i.platform = r.platform AND i.account = '' AND i.item_key = r.item_key) AS id, \
                 (SELECT i.payload FROM item i WHERE i.platform = r.platform AND i.account = '' AND i.item_key = r.item_key) \
                 AS payload FROM {rows} r",
            )
            .await?;
        for row in rows {
            let Some(item) = row.try_get("", "id")? else { continue };
            known.insert(row.try_get("", "item_key")?, Known { item, payload: row.try_get("", "payload")? });
        }
    }
    Ok(known)
}

/// When each handle of `posts` was claimed: by who has proven it, otherwise by whoever was first.
async fn claims(db: &Db, site: SiteId, posts: &[&Post]) -> Result<HashMap<String, Timestamp>, DbErr> {
    let mut handles: Vec<&str> = posts.iter().map(|post| post.author_handle.as_str()).collect();
    handles.sort_unstable();
    handles.dedup();
    claimed(db.read(), &handles.iter().map(|handle| (site, *handle)).collect::<Vec<_>>())
        .await
        .map(|claims| claims.into_iter().map(|((_, handle), at)| (handle, at)).collect())
}

/// When each of `handles` was claimed on its site: by who has proven it, otherwise by whoever was first.
pub async fn claimed(
    db: &impl ConnectionTrait,
    handles: &[(SiteId, &str)],
) -> Result<HashMap<(SiteId, String), Timestamp>, DbErr> {
    let mut found: HashMap<(SiteId, String), (bool, Timestamp)> = HashMap::new();
    for part in handles.chunks(CLAIM_MAX) {
        let rows = Rows::new(part)
            .uuid("site_id", |(site, _)| site.0)
            .text("handle", |(_, handle)| *handle)
            .same_text("platform", Platform::Tiktok.as_str())
            .query(
                db,
                "SELECT h.site_id, h.handle, h.person, h.claimed_at FROM {rows} r JOIN member_handle h \
                 ON h.site_id = r.site_id AND h.platform = r.platform AND h.handle = r.handle",
            )
            .await?;
        for row in rows {
            let person: Option<String> = row.try_get("", "person")?;
            // False is before true: a claim without proof comes after one with it.
            let claim = (person.is_none(), row.try_get::<Timestamp>("", "claimed_at")?);
            let best =
                found.entry((row.try_get("", "site_id")?, row.try_get("", "handle")?)).or_insert(claim);
            *best = claim.min(*best);
        }
    }
    Ok(found.into_iter().map(|(key, (_, at))| (key, at)).collect())
}

/// Notes how many like and comment on posts by now, there and in what was recorded of them. What they earned stays as it is.
async fn recount(tx: &Tx, site: SiteId, counts: HashMap<ItemId, (Post, Post)>) -> Result<(), DbErr> {
    let changed: Vec<(ItemId, Post)> = counts
        .into_iter()
        .filter(|(_, (before, after))| before != after)
        .map(|(id, (_, after))| (id, after))
        .collect();
    if changed.is_empty() {
        return Ok(());
    }
    config::take_turns(tx, &[site]).await?;
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
