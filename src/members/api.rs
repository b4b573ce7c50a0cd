//! Admin API: members and their tokens.

use entity::id::{MemberId, OauthClientId, SiteId};
use entity::member;
use poem_openapi::param::{Path, Query};
use poem_openapi::payload::Json;
use poem_openapi::types::MaybeUndefined;
use poem_openapi::{Object, OpenApi};
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::{MemberChange, NewMember};
use crate::access::oauth::GrantError;
use crate::access::sign_out::sign_out;
use crate::access::token_api::TokenResponse;
use crate::app::App;
use crate::http::Tag;
use crate::http::auth::AdminCaller;
use crate::http::body::{Body, OptionalBody};
use crate::http::paging::{PageRequest, PagingMetadata};
use crate::http::problem::Problem;
use crate::http::wire;

/// The operations.
pub struct MembersApi {
    /// The running service.
    pub app: App,
}

/// A member of a site.
#[derive(Debug, Object)]
#[oai(rename_all = "camelCase", skip_serializing_if_is_none)]
struct Member {
    /// Its id.
    id: Uuid,
    /// The site's own id of the person.
    external_id: Option<String>,
    /// E-mail address.
    email: Option<String>,
    /// Display name.
    name: Option<String>,
    /// The contact that Wix calls address it by.
    contact_id: Uuid,
    /// When it was made.
    created_date: String,
    /// When it last changed.
    updated_date: String,
}

impl From<member::Model> for Member {
    fn from(row: member::Model) -> Self {
        Self {
            id: row.id.0,
            external_id: row.external_id,
            email: row.email,
            name: row.name,
            contact_id: row.contact_id.0,
            created_date: row.created_at.to_rfc3339(),
            updated_date: row.updated_at.to_rfc3339(),
        }
    }
}

#[derive(Debug, Object)]
struct CreateMemberRequest {
    member: MemberFields,
}

#[derive(Debug, Object)]
#[oai(rename_all = "camelCase")]
struct MemberFields {
    /// The site's own id of the person: the same id is the same member.
    #[oai(validator(min_length = 1, max_length = 256))]
    external_id: Option<String>,
    /// E-mail address.
    #[oai(validator(min_length = 1, max_length = 256))]
    email: Option<String>,
    /// Display name.
    #[oai(validator(min_length = 1, max_length = 256))]
    name: Option<String>,
}

#[derive(Debug, Object)]
struct UpdateMemberRequest {
    member: MemberUpdate,
}

/// What is absent stays; `null` takes away what there is.
#[derive(Debug, Object)]
struct MemberUpdate {
    /// E-mail address.
    #[oai(validator(min_length = 1, max_length = 256))]
    email: MaybeUndefined<String>,
    /// Display name.
    #[oai(validator(min_length = 1, max_length = 256))]
    name: MaybeUndefined<String>,
}

#[derive(Debug, Object)]
struct MemberResponse {
    member: Member,
}

#[derive(Debug, Object)]
#[oai(rename_all = "camelCase")]
struct ListMembersResponse {
    members: Vec<Member>,
    paging_metadata: PagingMetadata,
}

#[derive(Debug, Default, Object)]
#[oai(rename_all = "camelCase")]
struct CreateMemberTokensRequest {
    /// The front-end that gets the tokens. With it a refresh token that was replaced works until its successor has been used, which
    /// the Wix SDK in a browser needs.
    client_id: Option<Uuid>,
}

#[derive(Debug, Object)]
#[oai(rename_all = "camelCase")]
struct DeleteMemberTokensResponse {
    /// Sign-ins that could have gone on until now.
    revoked_sign_in_count: u64,
}

#[derive(Debug, Serialize, Deserialize)]
struct Filter {
    external_id: Option<String>,
}

#[OpenApi(prefix_path = "/admin/v1", tag = "Tag::Admin")]
impl MembersApi {
    /// Create a member
    ///
    /// A member with the same `externalId` is given back unchanged.
    #[oai(path = "/members", method = "post", operation_id = "createMember")]
    async fn create_member(
        &self,
        caller: AdminCaller,
        body: Body<CreateMemberRequest>,
    ) -> Result<Json<MemberResponse>, Problem> {
        let site = caller.site()?;
        let fields = body.0.member;
        let new = NewMember { external_id: fields.external_id, email: fields.email, name: fields.name };
        let tx = self.app.db.write().await?;
        let (row, _) = super::create_member(&tx, site, new).await?;
        tx.commit().await?;
        Ok(Json(MemberResponse { member: row.into() }))
    }

    /// List members
    ///
    /// Newest first.
    #[oai(path = "/members", method = "get", operation_id = "listMembers")]
    async fn list_members(
        &self,
        caller: AdminCaller,
        /// Only the member with this external id.
        #[oai(name = "externalId")]
        external_id: Query<Option<String>>,
        /// Where to go on.
        cursor: Query<Option<String>>,
        /// Items of a page, 1 to 100.
        limit: Query<Option<u32>>,
    ) -> Result<Json<ListMembersResponse>, Problem> {
        let site = caller.site()?;
        let filter = Filter { external_id: external_id.0 };
        let page = PageRequest::new(cursor.0.as_deref(), limit.0, filter)?;
        let rows = match &page.filter.external_id {
            Some(id) => super::find_by_external_id(self.app.db.read(), site, id).await?.into_iter().collect(),
            None => {
                let before = page.after.map(MemberId);
                super::list_members(self.app.db.read(), site, before, page.rows()).await?
            }
        };
        let (rows, paging_metadata) = page.finish(rows, |row: &member::Model| row.id.0);
        let members = rows.into_iter().map(Member::from).collect();
        Ok(Json(ListMembersResponse { members, paging_metadata }))
    }

    /// Get a member
    #[oai(path = "/members/:id", method = "get", operation_id = "getMember")]
    async fn get_member(
        &self,
        caller: AdminCaller,
        /// The member.
        id: Path<Uuid>,
    ) -> Result<Json<MemberResponse>, Problem> {
        let row = self.find(caller.site()?, id.0).await?;
        Ok(Json(MemberResponse { member: row.into() }))
    }

    /// Update a member
    ///
    /// Corrects what is known of the person. `externalId` and `contactId` are who it is, and stay.
    #[oai(path = "/members/:id", method = "patch", operation_id = "updateMember")]
    async fn update_member(
        &self,
        caller: AdminCaller,
        /// The member.
        id: Path<Uuid>,
        body: Body<UpdateMemberRequest>,
    ) -> Result<Json<MemberResponse>, Problem> {
        let site = caller.site()?;
        let MemberUpdate { email, name } = body.0.member;
        let change = MemberChange { email: wire::change(email), name: wire::change(name) };
        let tx = self.app.db.write().await?;
        let row = super::change_member(&tx, site, MemberId(id.0), change).await?.ok_or_else(not_found)?;
        tx.commit().await?;
        Ok(Json(MemberResponse { member: row.into() }))
    }

    /// Create tokens for a member
    ///
    /// For sites that have no identity provider of their own: sign the person in, then fetch these for its browser. The
    /// refresh token rotates with every use. Without a body it belongs to no front-end.
    #[oai(path = "/members/:id/tokens", method = "post", operation_id = "createMemberTokens")]
    async fn create_member_tokens(
        &self,
        caller: AdminCaller,
        /// The member.
        id: Path<Uuid>,
        body: OptionalBody<CreateMemberTokensRequest>,
    ) -> Result<Json<TokenResponse>, Problem> {
        let site = caller.site()?;
        let client = body.0.client_id.map(OauthClientId);
        let granted = self.app.grants.member(site, MemberId(id.0), client).await;
        Ok(Json(granted.map_err(ungranted)?.into()))
    }

    /// Revoke a member's tokens
    ///
    /// Signs the person out everywhere: no refresh token that was issued until now works any more. Access tokens end by themselves,
    /// four hours after they were issued at the latest. Done again it answers that there was nothing to revoke.
    #[oai(path = "/members/:id/tokens", method = "delete", operation_id = "deleteMemberTokens")]
    async fn delete_member_tokens(
        &self,
        caller: AdminCaller,
        /// The member.
        id: Path<Uuid>,
    ) -> Result<Json<DeleteMemberTokensResponse>, Problem> {
        let site = caller.site()?;
        let member = self.find(site, id.0).await?;
        let revoked_sign_in_count = sign_out(&self.app.db, site, member.id).await?;
        Ok(Json(DeleteMemberTokensResponse { revoked_sign_in_count }))
    }
}

impl MembersApi {
    async fn find(&self, site: SiteId, id: Uuid) -> Result<member::Model, Problem> {
        super::find_member(self.app.db.read(), site, MemberId(id)).await?.ok_or_else(not_found)
    }
}

/// What a grant for a member refuses, in the words of this API.
fn ungranted(error: GrantError) -> Problem {
    match error {
        GrantError::InvalidGrant(_) => not_found(),
        GrantError::UnauthorizedClient(_) => {
            Problem::not_found("OAUTH_CLIENT_NOT_FOUND", "there is no such front-end")
        }
        GrantError::Store(cause) => cause.into(),
        GrantError::InvalidRequest(_)
        | GrantError::InvalidClient
        | GrantError::UnsupportedGrantType(_)
        | GrantError::Token => Problem::internal(error),
    }
}

fn not_found() -> Problem {
    Problem::not_found("MEMBER_NOT_FOUND", "there is no such member")
}
