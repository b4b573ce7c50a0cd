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

/// That somebody has claimed a handle.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Claim {
    /// Whether it is only said, and not proven.
    pub is_only_said: bool,
    /// When it was made.
    pub at: Timestamp,
}

/// Finds the claims of handles, concurrent calls together. Cheap to clone.
pub type Claims = Lookup<Handle, Claim>;

/// Starts the worker.
#[must_use]
pub fn start(db: &Db) -> Claims {
    Lookup::start(db, read)
}

/// The claim of each of `handles` on its site: of who has proven it, otherwise of whoever was first.
async fn read(db: Db, handles: Vec<Handle>) -> Result<HashMap<Handle, Claim>, DbErr> {
    let mut found: HashMap<Handle, Claim> = HashMap::new();
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
            let claim = Claim { is_only_said: person.is_none(), at: row.try_get("", "claimed_at")? };
            let best =
                found.entry((row.try_get("", "site_id")?, row.try_get("", "handle")?)).or_insert(claim);
            *best = claim.min(*best);
        }
    }
    Ok(found)
}
