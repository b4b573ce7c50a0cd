//! Many members by external id in one query: what every request with a site's own token needs.

use std::collections::HashMap;
use std::sync::Arc;

use entity::id::{MemberId, SiteId};
use sea_orm::{ConnectionTrait, DbErr};

use crate::db::Db;
use crate::gather::{Gather, GatherLimits};
use crate::rows::Rows;

const LIMITS: GatherLimits = GatherLimits { batch_max: 256, queue_max: 4_096 };

type Key = (SiteId, String);
type Found = Result<Option<MemberId>, Arc<DbErr>>;

/// Finds members by external id, concurrent calls together. Cheap to clone.
#[derive(Clone)]
pub struct MemberLookup(Gather<Key, Found>);

impl MemberLookup {
    /// Starts the worker.
    #[must_use]
    pub fn start(db: &Db) -> Self {
        let db = db.clone();
        Self(Gather::start(LIMITS, move |asked: Vec<Key>, turn| {
            drop(turn);
            let db = db.clone();
            async move {
                match read(db.read(), &asked).await {
                    Ok(found) => asked.iter().map(|key| Ok(found.get(key).copied())).collect(),
                    Err(error) => {
                        let error = Arc::new(error);
                        asked.iter().map(|_| Err(Arc::clone(&error))).collect()
                    }
                }
            }
        }))
    }

    /// The member of `site` with this external id.
    pub async fn find(&self, site: SiteId, external_id: String) -> Result<Option<MemberId>, DbErr> {
        match self.0.call((site, external_id)).await {
            Ok(Ok(found)) => Ok(found),
            Ok(Err(error)) if !matches!(*error, DbErr::ConnectionAcquire(_)) => {
                Err(DbErr::Custom(error.to_string()))
            }
            // Too many callers are a shortage of connections, too.
            Ok(Err(_)) | Err(_) => Err(DbErr::ConnectionAcquire(sea_orm::ConnAcquireErr::Timeout)),
        }
    }
}

async fn read(db: &impl ConnectionTrait, asked: &[Key]) -> Result<HashMap<Key, MemberId>, DbErr> {
    let rows = Rows::new(asked)
        .uuid("site_id", |(site, _)| site.0)
        .text("external_id", |(_, external_id)| external_id.as_str())
        .query(
            db,
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
