//! When members have claimed their handles: what was posted before does not count.

use std::collections::HashMap;

use entity::id::{SiteId, Timestamp};
use entity::kinds::Platform;
use sea_orm::DbErr;

use crate::db::Db;
use crate::db::lookup::Lookup;
use crate::inbox::CLAIM_MAX;
use crate::rows::Rows;

/// A handle on a site.
pub type Handle = (SiteId, String);

/// Finds when handles were claimed, concurrent calls together. Cheap to clone.
pub type Claims = Lookup<Handle, Timestamp>;

/// Starts the worker.
#[must_use]
pub fn start(db: &Db) -> Claims {
    Lookup::start(db, read)
}

/// When each of `handles` was claimed on its site: by who has proven it, otherwise by whoever was first.
async fn read(db: Db, handles: Vec<Handle>) -> Result<HashMap<Handle, Timestamp>, DbErr> {
    let mut found: HashMap<Handle, (bool, Timestamp)> = HashMap::new();
    for part in handles.chunks(CLAIM_MAX) {
        let rows = Rows::new(part)
            .uuid("site_id", |(site, _)| site.0)
            .text("handle", |(_, handle)| handle.as_str())
            .same_text("platform", Platform::Tiktok.as_str())
            .query(
                db.read(),
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
