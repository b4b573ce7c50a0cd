//! The login of `TikTok` API for Business.

use entity::id::Timestamp;
use serde_json::{Value, json};

use super::calls::{CallError, Calls, id, with_query};
use super::facebook::token;
use super::instagram_login::Renewed;
use super::login::{Candidate, LoginError, ends, missing};
use crate::sources::settings::TiktokSettings;

/// What the login asks for.
const SCOPES: [&str; 8] = [
    "user.info.basic",
    "user.info.username",
    "user.info.stats",
    "user.info.profile",
    "user.account.type",
    "biz.brand.insights",
    "comment.list",
    "message.list.read",
];
/// Those that some feature needs.
const WANTED: [&str; 3] = ["biz.brand.insights", "comment.list", "message.list.read"];

/// API for Business with the operator's app.
pub(super) struct TiktokBusiness<'a> {
    pub(super) calls: &'a Calls,
    pub(super) settings: &'a TiktokSettings,
    /// Its id and secret.
    pub(super) app: (&'a str, &'a str),
}

impl TiktokBusiness<'_> {
    /// Where the person logs in.
    pub(super) fn dialog(&self, redirect: &str, state: &str) -> String {
        with_query(
            &format!("{}/v2/auth/authorize/", self.settings.urls.www),
            &[
                ("client_key", self.app.0),
                ("scope", &SCOPES.join(",")),
                ("response_type", "code"),
                ("redirect_uri", redirect),
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
        let body = json!({
            "client_id": self.app.0, "client_secret": self.app.1, "grant_type": "authorization_code",
            "auth_code": code, "redirect_uri": redirect,
        });
        let data = self.calls.tiktok(&self.url("tt_user/oauth2/token/"), &body).await?;
        let granted: Vec<String> =
            data["scope"].as_str().unwrap_or("").split(',').map(|scope| scope.trim().to_owned()).collect();
        let Renewed { token, refresh_token, expires_at } = renewed(&data, now)?;
        Ok(Candidate {
            id: id(&data["open_id"]).ok_or(LoginError::Answer("the id of the account"))?,
            username: None,
            page: None,
            token,
            refresh_token,
            expires_at,
            owner: id(&data["open_id"]),
            missing: missing(&WANTED, &granted),
        })
    }

    /// A new access token; the refresh token may be new too, and the old one is no longer good then.
    pub(super) async fn refresh(&self, old: &str, now: Timestamp) -> Result<Renewed, CallError> {
        let body = json!({
            "client_id": self.app.0, "client_secret": self.app.1, "grant_type": "refresh_token", "refresh_token": old,
        });
        let data = self.calls.tiktok(&self.url("tt_user/oauth2/refresh_token/"), &body).await?;
        renewed(&data, now).map_err(|error| CallError::Unavailable(error.to_string()))
    }

    fn url(&self, path: &str) -> String {
        format!("{}/open_api/v1.3/{path}", self.settings.urls.business)
    }
}

fn renewed(data: &Value, now: Timestamp) -> Result<Renewed, LoginError> {
    let refresh_token = data["refresh_token"].as_str().filter(|text| !text.is_empty()).map(str::to_owned);
    Ok(Renewed { token: token(data)?, refresh_token, expires_at: ends(now, &data["expires_in"]) })
}
