//! Instagram Login: a professional account without a Facebook page.

use entity::id::Timestamp;
use http::Method;
use serde_json::Value;

use super::calls::{CallError, Calls, id, name, with_query};
use super::facebook::{lists, token};
use super::login::{Candidate, LoginError, ends, missing};
use crate::sources::settings::MetaSettings;

/// What the login asks for.
const SCOPES: [&str; 3] =
    ["instagram_business_basic", "instagram_business_manage_messages", "instagram_business_manage_comments"];
/// Without it there is no account to connect.
pub(super) const NEEDED: &str = "instagram_business_basic";
/// What an account is subscribed to.
const FIELDS: &str = "comments,live_comments,mentions,messages,message_edit,message_reactions,messaging_postbacks,\
                      messaging_referral,messaging_seen";

/// Instagram's own Graph API with the operator's app.
pub(super) struct InstagramLogin<'a> {
    pub(super) calls: &'a Calls,
    pub(super) settings: &'a MetaSettings,
    /// Its id and secret.
    pub(super) app: (&'a str, &'a str),
}

/// A token that takes the place of another.
pub(super) struct Renewed {
    pub(super) token: String,
    pub(super) refresh_token: Option<String>,
    pub(super) expires_at: Option<Timestamp>,
}

impl InstagramLogin<'_> {
    /// Where the person logs in.
    pub(super) fn dialog(&self, redirect: &str, state: &str) -> String {
        let url = format!("{}/oauth/authorize", self.settings.urls.instagram);
        with_query(
            &url,
            &[
                ("client_id", self.app.0),
                ("redirect_uri", redirect),
                ("response_type", "code"),
                ("scope", &SCOPES.join(",")),
                ("state", state),
            ],
        )
    }

    /// The account of whoever came back with `code`.
    pub(super) async fn account(
        &self,
        redirect: &str,
        code: &str,
        now: Timestamp,
    ) -> Result<Candidate, LoginError> {
        let (client_id, client_secret) = self.app;
        let form = [
            ("client_id", client_id),
            ("client_secret", client_secret),
            ("grant_type", "authorization_code"),
            ("redirect_uri", redirect),
            // The platform puts it behind every code.
            ("code", code.trim_end_matches("#_")),
        ];
        let url = format!("{}/oauth/access_token", self.settings.urls.instagram_api);
        let answer = self.calls.form(&url, &form).await?;
        // Documented in a list, seen without.
        let short = answer["data"].get(0).unwrap_or(&answer);
        let granted = permissions(&short["permissions"]);
        let declined = missing(&SCOPES, &granted);
        if declined.iter().any(|scope| scope == NEEDED) {
            return Err(LoginError::Declined(vec![NEEDED.to_owned()]));
        }
        let query = [
            ("grant_type", "ig_exchange_token"),
            ("client_secret", client_secret),
            ("access_token", &token(short)?),
        ];
        let long = self.calls.tokens(&self.unversioned("access_token"), &query).await?;
        let token = token(&long)?;
        let query = [("fields", "user_id,username,id")];
        let me = self.calls.graph(Method::GET, &self.url("me"), &query, (&token, client_secret)).await?;
        Ok(Candidate {
            // `id` is the app's id of the person, `user_id` the one that webhooks name.
            id: id(&me["user_id"]).ok_or(LoginError::Answer("the id of the account"))?,
            username: name(&me["username"]),
            page: None,
            token,
            refresh_token: None,
            expires_at: ends(now, &long["expires_in"]),
            owner: id(&me["id"]).or_else(|| id(&short["user_id"])),
            missing: declined,
        })
    }

    /// A token that lasts another 60 days.
    pub(super) async fn refresh(&self, old: &str, now: Timestamp) -> Result<Renewed, CallError> {
        let query = [("grant_type", "ig_refresh_token"), ("access_token", old)];
        let answer = self.calls.tokens(&self.unversioned("refresh_access_token"), &query).await?;
        let token = token(&answer).map_err(|error| CallError::Unavailable(error.to_string()))?;
        Ok(Renewed { token, refresh_token: None, expires_at: ends(now, &answer["expires_in"]) })
    }

    /// Has the platform send what happens to the account.
    pub(super) async fn subscribe(&self, account: &str, token: &str) -> Result<(), CallError> {
        let query = [("subscribed_fields", FIELDS)];
        let url = self.url(&format!("{account}/subscribed_apps"));
        self.calls.graph(Method::POST, &url, &query, (token, self.app.1)).await.map(|_| ())
    }

    /// Whether it sends that.
    pub(super) async fn is_subscribed(&self, account: &str, token: &str) -> Result<bool, CallError> {
        let url = self.url(&format!("{account}/subscribed_apps"));
        let answer = self.calls.graph(Method::GET, &url, &[], (token, self.app.1)).await?;
        Ok(lists(&answer, self.app.0))
    }

    /// Has it send no more.
    pub(super) async fn unsubscribe(&self, account: &str, token: &str) -> Result<(), CallError> {
        let url = self.url(&format!("{account}/subscribed_apps"));
        self.calls.graph(Method::DELETE, &url, &[], (token, self.app.1)).await.map(|_| ())
    }

    fn url(&self, path: &str) -> String {
        format!("{}/{}/{path}", self.settings.urls.instagram_graph, self.settings.version)
    }

    fn unversioned(&self, path: &str) -> String {
        format!("{}/{path}", self.settings.urls.instagram_graph)
    }
}

/// Permissions in a list, or in one text with commas.
fn permissions(value: &Value) -> Vec<String> {
    match value {
        Value::Array(items) => items.iter().filter_map(name).collect(),
        Value::String(text) => text.split(',').map(|scope| scope.trim().to_owned()).collect(),
        _ => Vec::new(),
    }
}
