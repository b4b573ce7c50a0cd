//! The Wix loyalty accounts service, as far as a synchronisation needs it.

use entity::id::{AccountId, ContactId, MemberId};
use poem_openapi::param::{Path, Query};
use poem_openapi::payload::Json;
use poem_openapi::{Object, OpenApi};
use serde_json::json;
use uuid::Uuid;

use super::{AccountKey, CreateAccountError};
use crate::access::{Caller, Scope};
use crate::app::App;
use crate::http::Tag;
use crate::http::auth::{ManagerCaller, MemberCaller, OnSite, ReaderCaller, SiteCaller};
use crate::http::body::Body;
use crate::http::problem::{Problem, Violation};
use crate::http::wire::Account;

/// The service's operations.
pub struct AccountsApi {
    /// The running service.
    pub app: App,
}

#[derive(Debug, Object)]
struct AccountResponse {
    account: Account,
}

#[derive(Debug, Object)]
#[oai(rename_all = "camelCase")]
struct CreateAccountRequest {
    /// The contact behind the account, as a member's `contactId`.
    contact_id: Uuid,
}

#[OpenApi(prefix_path = "/loyalty-accounts/v1", tag = "Tag::Accounts")]
impl AccountsApi {
    /// Create an account
    ///
    /// Makes the account of a contact before its first follow. The program must be active.
    #[oai(path = "/accounts", method = "post", operation_id = "createAccount")]
    async fn create_account(
        &self,
        caller: ManagerCaller,
        body: Body<CreateAccountRequest>,
    ) -> Result<Json<AccountResponse>, Problem> {
        let OnSite { site, identity } = caller.0;
        let contact = ContactId(body.0.contact_id);
        let App { db, configs, dispatcher, .. } = &self.app;
        let row = super::create_account(db, configs, dispatcher, site, contact, &identity).await?;
        Ok(Json(AccountResponse { account: row.into() }))
    }

    /// Get the current member's account
    #[oai(path = "/accounts/my-account", method = "get", operation_id = "getCurrentMemberAccount")]
    async fn get_current_member_account(
        &self,
        caller: MemberCaller,
    ) -> Result<Json<AccountResponse>, Problem> {
        let (site, member) = caller.0;
        self.respond(site, AccountKey::Member(member)).await
    }

    /// Get an account by member or contact
    #[oai(path = "/accounts/fetch-by", method = "get", operation_id = "getAccountBySecondaryId")]
    async fn get_account_by_secondary_id(
        &self,
        caller: ReaderCaller,
        /// The member; give this or `contactId`.
        #[oai(name = "memberId")]
        member_id: Query<Option<Uuid>>,
        /// The contact; give this or `memberId`.
        #[oai(name = "contactId")]
        contact_id: Query<Option<Uuid>>,
    ) -> Result<Json<AccountResponse>, Problem> {
        let OnSite { site, .. } = caller.0;
        let key = match (member_id.0, contact_id.0) {
            (Some(member), None) => AccountKey::Member(MemberId(member)),
            (None, Some(contact)) => AccountKey::Contact(ContactId(contact)),
            (Some(_), Some(_)) | (None, None) => {
                let violation = Violation::new(
                    "memberId",
                    "ONE_OF_ALIGNMENT",
                    "give exactly one of memberId and contactId",
                );
                return Err(Problem::validation(vec![violation]));
            }
        };
        self.respond(site, key).await
    }

    /// Get an account
    ///
    /// A member can get its own account only.
    #[oai(path = "/accounts/:id", method = "get", operation_id = "getAccount")]
    async fn get_account(
        &self,
        caller: SiteCaller,
        /// The account.
        id: Path<Uuid>,
    ) -> Result<Json<AccountResponse>, Problem> {
        let key = AccountKey::Id(AccountId(id.0));
        if let Caller::Member { site, member } = *caller.0 {
            let row = super::find_account(self.app.db.read(), site, key).await?;
            let own = row.filter(|row| row.member_id == member).ok_or_else(not_found)?;
            return Ok(Json(AccountResponse { account: own.into() }));
        }
        let OnSite { site, .. } = caller.on_site(Scope::ReadLoyalty)?;
        self.respond(site, key).await
    }
}

impl AccountsApi {
    async fn respond(
        &self,
        site: entity::id::SiteId,
        key: AccountKey,
    ) -> Result<Json<AccountResponse>, Problem> {
        let row = super::find_account(self.app.db.read(), site, key).await?.ok_or_else(not_found)?;
        Ok(Json(AccountResponse { account: row.into() }))
    }
}

fn not_found() -> Problem {
    Problem::not_found("ACCOUNT_NOT_FOUND", "there is no such account")
}

impl From<CreateAccountError> for Problem {
    fn from(error: CreateAccountError) -> Self {
        let text = error.to_string();
        match error {
            CreateAccountError::ContactNotFound(_) => Self::not_found("CONTACT_NOT_FOUND", text),
            CreateAccountError::ProgramNotActive(status) => {
                Self::precondition("PROGRAM_NOT_ACTIVE", text).with(json!({"status": status.as_str()}))
            }
            CreateAccountError::AlreadyExists(row) => {
                Self::conflict("ALREADY_EXISTS", text).with(json!({"accountId": row.id}))
            }
            CreateAccountError::Store(cause) => Self::from(cause),
            CreateAccountError::Encode(cause) => Self::internal(cause),
        }
    }
}
