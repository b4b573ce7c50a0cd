//! Many members by external id in one query: what every request with a site's own token needs.

use std::collections::HashMap;

use entity::id::{MemberId, SiteId};
use sea_orm::DbErr;

use crate::db::Db;
use crate::db::lookup::Lookup;
use crate::rows::Rows;

type Key = (SiteId, String);

/// Finds members by external id, concurrent calls together. Cheap to clone.
#[derive(Clone)]
pub struct MemberLookup(Lookup<Key, MemberId>);

impl MemberLookup {
    /// Starts the worker.
    #[must_use]
    pub fn start(db: &Db) -> Self {
        Self(Lookup::start(db, read))
    }

    /// The member of `site` with this external id.
    pub async fn find(&self, site: SiteId, external_id: String) -> Result<Option<MemberId>, DbErr> {
        let key = (site, external_id);
        let found = self.0.find(vec![key.clone()]).await?;
        Ok(found.get(&key).copied())
    }
}

async fn read(db: Db, asked: Vec<Key>) -> Result<HashMap<Key, MemberId>, DbErr> {
    let rows = Rows::new(&asked)
        .uuid("site_id", |(site, _)| site.0)
        .text("external_id", |(_, external_id)| external_id.as_str())
        .query(
            db.read(),
            "SELECT m.id, m.site_id, m.external_id FROM {rows} r \
             JOIN member m ON m.site_id = r.site_id AND m.external_id = r.external_id",
        )
        .await?;
    rows.iter()
        .map(|row| {
            let key = (row.try_get("", "site_id")?, row.try_get("", "external_id")?);
            Ok((key, row.try_get("", "id")?))
        })
        .collect()
}
