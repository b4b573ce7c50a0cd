//! Admin API: sites.

use entity::id::SiteId;
use entity::site;
use poem_openapi::param::{Path, Query};
use poem_openapi::payload::Json;
use poem_openapi::{Object, OpenApi};
use uuid::Uuid;

use crate::app::App;
use crate::http::Tag;
use crate::http::auth::{AdminCaller, OperatorCaller};
use crate::http::body::Body;
use crate::http::paging::{All, PageRequest, PagingMetadata};
use crate::http::problem::Problem;

/// The operations.
pub struct SitesApi {
    /// The running service.
    pub app: App,
}

/// A site: one loyalty program, its settings, its members.
#[derive(Debug, Object)]
#[oai(rename_all = "camelCase")]
struct Site {
    /// Its id.
    id: Uuid,
    /// Shown to the owner.
    name: String,
    /// When it was made.
    created_date: String,
    /// When it last changed.
    updated_date: String,
}

impl From<site::Model> for Site {
    fn from(row: site::Model) -> Self {
        Self {
            id: row.id.0,
            name: row.name,
            created_date: row.created_at.to_rfc3339(),
            updated_date: row.updated_at.to_rfc3339(),
        }
    }
}

#[derive(Debug, Object)]
struct SiteRequest {
    site: SiteInput,
}

#[derive(Debug, Object)]
struct SiteInput {
    /// Shown to the owner.
    #[oai(validator(min_length = 1, max_length = 100))]
    name: String,
}

#[derive(Debug, Object)]
struct SiteResponse {
    site: Site,
}

#[derive(Debug, Object)]
#[oai(rename_all = "camelCase")]
struct ListSitesResponse {
    sites: Vec<Site>,
    paging_metadata: PagingMetadata,
}

#[OpenApi(prefix_path = "/admin/v1", tag = "Tag::Admin")]
impl SitesApi {
    /// Create a site
    ///
    /// Needs an instance-wide key. Its loyalty program is a draft until it is activated.
    #[oai(path = "/sites", method = "post", operation_id = "createSite")]
    async fn create_site(
        &self,
        _caller: OperatorCaller,
        body: Body<SiteRequest>,
    ) -> Result<Json<SiteResponse>, Problem> {
        let tx = self.app.db.write().await?;
        let row = super::create_site(&tx, body.0.site.name).await?;
        tx.commit().await?;
        Ok(Json(SiteResponse { site: row.into() }))
    }

    /// List sites
    ///
    /// Newest first. A key of one site sees that site.
    #[oai(path = "/sites", method = "get", operation_id = "listSites")]
    async fn list_sites(
        &self,
        caller: AdminCaller,
        /// Where to go on.
        cursor: Query<Option<String>>,
        /// Items of a page, 1 to 100.
        limit: Query<Option<u32>>,
    ) -> Result<Json<ListSitesResponse>, Problem> {
        let own = if caller.is_operator() { None } else { Some(caller.site()?) };
        let page = PageRequest::new(cursor.0.as_deref(), limit.0, All::<ListSitesResponse>::default())?;
        let rows = super::list_sites(self.app.db.read(), own, page.after.map(SiteId), page.rows()).await?;
        let (rows, paging_metadata) = page.finish(rows, |row| row.id.0);
        Ok(Json(ListSitesResponse { sites: rows.into_iter().map(Site::from).collect(), paging_metadata }))
    }

    /// Get a site
    #[oai(path = "/sites/:id", method = "get", operation_id = "getSite")]
    async fn get_site(
        &self,
        caller: AdminCaller,
        /// The site.
        id: Path<Uuid>,
    ) -> Result<Json<SiteResponse>, Problem> {
        let id = visible(&caller, id.0)?;
        let row = super::find_site(self.app.db.read(), id).await?.ok_or_else(not_found)?;
        Ok(Json(SiteResponse { site: row.into() }))
    }

    /// Rename a site
    #[oai(path = "/sites/:id", method = "patch", operation_id = "updateSite")]
    async fn update_site(
        &self,
        caller: AdminCaller,
        /// The site.
        id: Path<Uuid>,
        body: Body<SiteRequest>,
    ) -> Result<Json<SiteResponse>, Problem> {
        let id = visible(&caller, id.0)?;
        let tx = self.app.db.write().await?;
        let row = super::rename_site(&tx, id, body.0.site.name).await?.ok_or_else(not_found)?;
        tx.commit().await?;
        Ok(Json(SiteResponse { site: row.into() }))
    }
}

fn visible(caller: &AdminCaller, id: Uuid) -> Result<SiteId, Problem> {
    let id = SiteId(id);
    if caller.is_operator() || caller.site()? == id { Ok(id) } else { Err(not_found()) }
}

fn not_found() -> Problem {
    Problem::not_found("SITE_NOT_FOUND", "there is no such site")
}
