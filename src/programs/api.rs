//! The Wix loyalty programs service, as far as this release has it.

use entity::id::{SiteId, Timestamp};
use entity::kinds::ProgramStatus;
use entity::program;
use poem_openapi::payload::Json;
use poem_openapi::types::MaybeUndefined;
use poem_openapi::{Object, OpenApi};

use super::ProgramChange;
use crate::access::{Caller, Scope};
use crate::app::App;
use crate::change::Change;
use crate::http::Tag;
use crate::http::auth::{ManagerCaller, OnSite, SiteCaller};
use crate::http::body::Body;
use crate::http::problem::Problem;
use crate::http::wire::ProgramStatusName;

/// The service's operations.
pub struct ProgramsApi {
    /// The running service.
    pub app: App,
}

/// What the points are called.
#[derive(Debug, Object)]
#[oai(rename_all = "camelCase", skip_serializing_if_is_none)]
struct PointDefinition {
    /// Up to 20 characters.
    #[oai(validator(max_length = 20))]
    custom_name: Option<String>,
}

/// A loyalty program (`wix.loyalty.v1.program`). One per site.
#[derive(Debug, Object)]
#[oai(rename_all = "camelCase")]
struct LoyaltyProgram {
    /// 2 to 50 characters.
    name: String,
    point_definition: PointDefinition,
    /// Members earn only while it is `ACTIVE`.
    status: ProgramStatusName,
    /// When it was made.
    created_date: String,
    /// When it last changed.
    updated_date: String,
}

impl From<program::Model> for LoyaltyProgram {
    fn from(row: program::Model) -> Self {
        Self {
            name: row.name,
            point_definition: PointDefinition { custom_name: row.point_name },
            status: row.status.into(),
            created_date: Timestamp::to_rfc3339(row.created_at),
            updated_date: Timestamp::to_rfc3339(row.updated_at),
        }
    }
}

#[derive(Debug, Object)]
#[oai(rename_all = "camelCase")]
struct LoyaltyProgramResponse {
    loyalty_program: LoyaltyProgram,
}

#[derive(Debug, Object)]
#[oai(rename_all = "camelCase")]
struct UpdateLoyaltyProgramRequest {
    loyalty_program: LoyaltyProgramUpdate,
}

/// What is absent stays.
#[derive(Debug, Object)]
#[oai(rename_all = "camelCase")]
struct LoyaltyProgramUpdate {
    /// 2 to 50 characters.
    #[oai(validator(min_length = 2, max_length = 50))]
    name: Option<String>,
    point_definition: Option<PointDefinitionUpdate>,
}

/// What is absent stays; null or nothing but spaces takes the name away.
#[derive(Debug, Object)]
#[oai(rename_all = "camelCase")]
struct PointDefinitionUpdate {
    /// Up to 20 characters.
    #[oai(nullable, validator(max_length = 20))]
    custom_name: MaybeUndefined<String>,
}

impl PointDefinitionUpdate {
    fn change(self) -> Change<String> {
        match self.custom_name {
            MaybeUndefined::Undefined => Change::Keep,
            MaybeUndefined::Value(name) if !name.trim().is_empty() => Change::Set(name),
            MaybeUndefined::Null | MaybeUndefined::Value(_) => Change::Remove,
        }
    }
}

#[OpenApi(prefix_path = "/loyalty-programs/v1", tag = "Tag::Programs")]
impl ProgramsApi {
    /// Get the loyalty program
    #[oai(path = "/program", method = "get", operation_id = "getLoyaltyProgram")]
    async fn get_loyalty_program(&self, caller: SiteCaller) -> Result<Json<LoyaltyProgramResponse>, Problem> {
        let site = match &*caller.0 {
            Caller::Visitor { site, .. } | Caller::Member { site, .. } => *site,
            Caller::App { .. } | Caller::ApiKey { .. } => caller.on_site(Scope::ReadLoyalty)?.site,
        };
        respond(super::find_program(self.app.db.read(), site).await?)
    }

    /// Update the loyalty program
    ///
    /// Only the fields that are given change.
    #[oai(path = "/program", method = "patch", operation_id = "updateLoyaltyProgram")]
    async fn update_loyalty_program(
        &self,
        caller: ManagerCaller,
        body: Body<UpdateLoyaltyProgramRequest>,
    ) -> Result<Json<LoyaltyProgramResponse>, Problem> {
        let OnSite { site, .. } = caller.0;
        let update = body.0.loyalty_program;
        let point_name = update.point_definition.map_or(Change::Keep, PointDefinitionUpdate::change);
        self.change(site, ProgramChange { name: update.name, point_name, status: None }).await
    }

    /// Activate the loyalty program
    ///
    /// From now on members earn points.
    #[oai(path = "/program/activate", method = "post", operation_id = "activateLoyaltyProgram")]
    async fn activate_loyalty_program(
        &self,
        caller: ManagerCaller,
    ) -> Result<Json<LoyaltyProgramResponse>, Problem> {
        let OnSite { site, .. } = caller.0;
        self.change(site, ProgramChange { status: Some(ProgramStatus::Active), ..Default::default() }).await
    }

    /// Pause the loyalty program
    ///
    /// Members keep their points but earn none.
    #[oai(path = "/program/pause", method = "post", operation_id = "pauseLoyaltyProgram")]
    async fn pause_loyalty_program(
        &self,
        caller: ManagerCaller,
    ) -> Result<Json<LoyaltyProgramResponse>, Problem> {
        let OnSite { site, .. } = caller.0;
        self.change(site, ProgramChange { status: Some(ProgramStatus::Paused), ..Default::default() }).await
    }
}

impl ProgramsApi {
    async fn change(
        &self,
        site: SiteId,
        change: ProgramChange,
    ) -> Result<Json<LoyaltyProgramResponse>, Problem> {
        let tx = self.app.db.write().await?;
        let row = super::change_program(&tx, site, change).await?;
        tx.commit().await?;
        respond(row)
    }
}

fn respond(row: Option<program::Model>) -> Result<Json<LoyaltyProgramResponse>, Problem> {
    let row = row.ok_or_else(|| Problem::not_found("SITE_NOT_FOUND", "there is no such site"))?;
    Ok(Json(LoyaltyProgramResponse { loyalty_program: row.into() }))
}
