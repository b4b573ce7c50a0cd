//! Facebook Login for Business: an Instagram account through the Facebook page that it is linked to.

use entity::id::Timestamp;
use http::Method;
use serde_json::Value;

use super::calls::{CallError, Calls, id, name, with_query};
use super::login::{Candidate, LoginError, missing};
use crate::sources::settings::MetaSettings;

/// What the dialog asks for.
const SCOPES: [&str; 9] = [
    "instagram_basic",
    "instagram_manage_comments",
    "instagram_manage_messages",
    "instagram_manage_insights",
    "pages_show_list",
    "pages_manage_metadata",
    "pages_read_engagement",
    "pages_messaging",
    "business_management",
];
/// Without these there is no account to connect.
const NEEDED: [&str; 2] = ["instagram_basic", "pages_show_list"];
/// It only helps to find pages of a business, so nobody misses it once the account is found.
const ONLY_FINDS: &str = "business_management";
/// The permission that a subscription needs.
pub(super) const SUBSCRIBES: &str = "pages_manage_metadata";
/// What a page is subscribed to. Its edge takes fields of pages only; those of Instagram are chosen in the app's dashboard.
const PAGE_FIELDS: &str = "feed";
/// What is asked of every page.
const FIELDS: &str = "id,name,access_token,tasks,instagram_business_account{id,username}";
/// Items of one answer, answers of one list, businesses that are looked through, and accounts in all.
const LIST_LIMIT: &str = "100";
const LISTS_MAX: usize = 10;
const BUSINESSES_MAX: usize = 10;
const ACCOUNTS_MAX: usize = 100;

/// The Graph API with the operator's app.
pub(super) struct Facebook<'a> {
    pub(super) calls: &'a Calls,
    pub(super) settings: &'a MetaSettings,
    /// Its id and secret.
    pub(super) app: (&'a str, &'a str),
}

impl Facebook<'_> {
    /// Where the person logs in.
    pub(super) fn dialog(&self, redirect: &str, state: &str) -> String {
        let url = format!("{}/{}/dialog/oauth", self.settings.urls.facebook, self.settings.version);
        let scopes = SCOPES.join(",");
        let wanted = match &self.settings.config_id {
            Some(config) => ("config_id", config.as_str()),
            None => ("scope", scopes.as_str()),
        };
        let (client_id, _) = self.app;
        with_query(
            &url,
            &[
                ("client_id", client_id),
                ("redirect_uri", redirect),
                ("state", state),
                ("response_type", "code"),
                wanted,
            ],
        )
    }

    /// The accounts that whoever came back with `code` can connect.
    pub(super) async fn accounts(&self, redirect: &str, code: &str) -> Result<Vec<Candidate>, LoginError> {
        let token = self.user_token(redirect, code).await?;
        let owner = self.get("me", &[("fields", "id")], &token).await?;
        let owner = id(&owner["id"]).ok_or(LoginError::Answer("the id of the person"))?;
        let granted = self.get("me/permissions", &[], &token).await?;
        let granted: Vec<String> = granted["data"]
            .as_array()
            .into_iter()
            .flatten()
            .filter(|item| item["status"] == "granted")
            .filter_map(|item| name(&item["permission"]))
            .collect();
        let declined = missing(&NEEDED, &granted);
        if !declined.is_empty() {
            return Err(LoginError::Declined(declined));
        }
        let mut declined = missing(&SCOPES, &granted);
        declined.retain(|scope| scope != ONLY_FINDS);
        let mut pages = self.list("me/accounts", FIELDS, &token).await?;
        if !pages.iter().any(has_account) {
            pages = self.pages_of_businesses(&token).await?;
        }
        let mut found: Vec<Candidate> = Vec::new();
        for page in pages {
            let candidate = candidate(&page, &owner, &declined);
            let is_new = |new: &Candidate| found.iter().all(|known| known.id != new.id);
            found.extend(candidate.filter(is_new));
        }
        found.truncate(ACCOUNTS_MAX);
        if found.is_empty() { Err(LoginError::NoAccount) } else { Ok(found) }
    }

    /// A token of about 60 days: the tokens of pages that it gives do not end.
    async fn user_token(&self, redirect: &str, code: &str) -> Result<String, LoginError> {
        let url = self.url("oauth/access_token");
        let (client_id, client_secret) = self.app;
        let app = [("client_id", client_id), ("client_secret", client_secret)];
        let query = [app[0], app[1], ("redirect_uri", redirect), ("code", code)];
        let short = token(&self.calls.tokens(&url, &query).await?)?;
        let grant = ("grant_type", "fb_exchange_token");
        let query = [grant, app[0], app[1], ("fb_exchange_token", short.as_str())];
        token(&self.calls.tokens(&url, &query).await?)
    }

    /// The pages that businesses own or manage: `me/accounts` leaves them out where the person's role comes through a business.
    async fn pages_of_businesses(&self, token: &str) -> Result<Vec<Value>, LoginError> {
        let businesses = match self.list("me/businesses", "id,name", token).await {
            Err(CallError::Permission(_) | CallError::Refused(_)) => return Ok(Vec::new()),
            listed => listed?,
        };
        let mut pages = Vec::new();
        for business in businesses.iter().filter_map(|item| id(&item["id"])).take(BUSINESSES_MAX) {
            for edge in ["owned_pages", "client_pages"] {
                match self.list(&format!("{business}/{edge}"), FIELDS, token).await {
                    // Of one business the person may see less than of another.
                    Err(CallError::Permission(_) | CallError::Refused(_)) => {}
                    listed => pages.extend(listed?),
                }
            }
        }
        Ok(pages)
    }

    /// A whole list, or as much of it as is read.
    async fn list(&self, path: &str, fields: &str, token: &str) -> Result<Vec<Value>, CallError> {
        let (mut items, mut after) = (Vec::new(), None::<String>);
        for _ in 0..LISTS_MAX {
            let mut query = vec![("fields", fields), ("limit", LIST_LIMIT)];
            query.extend(after.as_deref().map(|after| ("after", after)));
            let mut answer = self.get(path, &query, token).await?;
            if let Value::Array(more) = answer["data"].take() {
                items.extend(more);
            }
            // `next` is an address with the token in it; the cursor alone says the same.
            let paging = &answer["paging"];
            after = paging.get("next").and_then(|_| paging["cursors"]["after"].as_str()).map(str::to_owned);
            if after.is_none() {
                break;
            }
        }
        Ok(items)
    }

    /// Has the platform send what happens to the page's account.
    pub(super) async fn subscribe(&self, page: &str, token: &str) -> Result<(), CallError> {
        let query = [("subscribed_fields", PAGE_FIELDS)];
        let url = self.url(&format!("{page}/subscribed_apps"));
        self.calls.graph(Method::POST, &url, &query, (token, self.app.1)).await.map(|_| ())
    }

    /// Whether it sends that.
    pub(super) async fn is_subscribed(&self, page: &str, token: &str) -> Result<bool, CallError> {
        let answer = self.get(&format!("{page}/subscribed_apps"), &[], token).await?;
        Ok(lists(&answer, self.app.0))
    }

    /// Has it send no more.
    pub(super) async fn unsubscribe(&self, page: &str, token: &str) -> Result<(), CallError> {
        let url = self.url(&format!("{page}/subscribed_apps"));
        self.calls.graph(Method::DELETE, &url, &[], (token, self.app.1)).await.map(|_| ())
    }

    async fn get(&self, path: &str, query: &[(&str, &str)], token: &str) -> Result<Value, CallError> {
        self.calls.graph(Method::GET, &self.url(path), query, (token, self.app.1)).await
    }

    fn url(&self, path: &str) -> String {
        format!("{}/{}/{path}", self.settings.urls.graph, self.settings.version)
    }
}

/// Whether the app `id` is among those that a page or account is subscribed to.
pub(super) fn lists(answer: &Value, app: &str) -> bool {
    let mut apps = answer["data"].as_array().into_iter().flatten();
    apps.any(|item| id(&item["id"]).as_deref() == Some(app))
}

/// The token of an answer.
pub(super) fn token(answer: &Value) -> Result<String, LoginError> {
    let token = answer["access_token"].as_str().filter(|token| !token.is_empty());
    token.map(str::to_owned).ok_or(LoginError::Answer("a token"))
}

fn has_account(page: &Value) -> bool {
    page["instagram_business_account"].is_object()
}

fn candidate(page: &Value, owner: &str, missing: &[String]) -> Option<Candidate> {
    let account = &page["instagram_business_account"];
    Some(Candidate {
        id: id(&account["id"])?,
        username: name(&account["username"]),
        page: Some((id(&page["id"])?, name(&page["name"]))),
        token: token(page).ok()?,
        refresh_token: None,
        expires_at: None::<Timestamp>,
        owner: Some(owner.to_owned()),
        missing: missing.to_vec(),
    })
}
