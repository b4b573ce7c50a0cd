//! Calls of `TikTok`'s APIs, and what their answers mean. Each of the three has its own way to say that something went wrong.

use std::time::Duration;

use bytes::Bytes;
use http::header::{ACCEPT, AUTHORIZATION, CONTENT_TYPE};
use http::{HeaderName, HeaderValue, Method};
use serde_json::Value;

use crate::outbound::{Client, OutboundRequest};

/// One deadline for a call.
const CALL_TIMEOUT: Duration = Duration::from_secs(8);
/// An answer is no longer.
const ANSWER_BYTES_MAX: usize = 2 * 1024 * 1024;

/// Why `TikTok` did not do what it was asked. Its own words are not repeated, only its codes.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CallError {
    /// The token is no longer good.
    #[error("TikTok no longer accepts the token ({0})")]
    Dead(String),
    /// A permission was not given.
    #[error("TikTok says that a permission is missing ({0})")]
    Permission(String),
    /// Too many calls.
    #[error("TikTok wants fewer calls for a while")]
    Limited,
    /// Anything else that it will answer again.
    #[error("TikTok refused the request ({0})")]
    Refused(String),
    /// It may work later.
    #[error("TikTok cannot be reached at the moment ({0})")]
    Unavailable(String),
}

/// Calls `TikTok`. Cheap to clone.
#[derive(Clone)]
pub(super) struct Calls {
    client: Client,
}

impl Calls {
    pub(super) const fn new(client: Client) -> Self {
        Self { client }
    }

    /// Asks API for Business; gives the data of the answer.
    pub(super) async fn business(
        &self,
        url: &str,
        query: &[(&str, &str)],
        token: &str,
    ) -> Result<Value, CallError> {
        let headers = vec![(HeaderName::from_static("access-token"), secret(token)?)];
        let url = format!("{url}?{}", encoded(query));
        let (status, mut answer) = self.send(Method::GET, &url, headers, Bytes::new()).await?;
        business_problem(status, &answer).map_or_else(|| Ok(answer["data"].take()), Err)
    }

    /// Asks Login Kit on behalf of a member: with `body`, or without one; gives the data of the answer.
    pub(super) async fn display(
        &self,
        url: &str,
        body: Option<&Value>,
        token: &str,
    ) -> Result<Value, CallError> {
        let mut headers = vec![(AUTHORIZATION, secret(&format!("Bearer {token}"))?)];
        let (method, body) = match body {
            None => (Method::GET, Bytes::new()),
            Some(body) => {
                headers.push((CONTENT_TYPE, HeaderValue::from_static("application/json")));
                (Method::POST, body.to_string().into())
            }
        };
        let (status, mut answer) = self.send(method, url, headers, body).await?;
        display_problem(status, &answer).map_or_else(|| Ok(answer["data"].take()), Err)
    }

    /// Asks the token endpoint of Login Kit.
    pub(super) async fn tokens(&self, url: &str, form: &[(&str, &str)]) -> Result<Value, CallError> {
        let form_type = HeaderValue::from_static("application/x-www-form-urlencoded");
        let body = encoded(form).into();
        let (status, answer) = self.send(Method::POST, url, vec![(CONTENT_TYPE, form_type)], body).await?;
        tokens_problem(status, &answer).map_or(Ok(answer), Err)
    }

    /// Asks what everybody may; gives the answer.
    pub(super) async fn open(&self, url: &str) -> Result<Value, CallError> {
        let (status, answer) = self.send(Method::GET, url, Vec::new(), Bytes::new()).await?;
        match status {
            200 if answer.is_object() => Ok(answer),
            429 => Err(CallError::Limited),
            400..=499 => Err(CallError::Refused(format!("status {status}"))),
            _ => Err(CallError::Unavailable(format!("status {status}"))),
        }
    }

    /// Sends a request; redirects are not followed. The URL may hold what is nobody else's business.
    async fn send(
        &self,
        method: Method,
        url: &str,
        mut headers: Vec<(HeaderName, HeaderValue)>,
        body: Bytes,
    ) -> Result<(u16, Value), CallError> {
        headers.push((ACCEPT, HeaderValue::from_static("application/json")));
        let target = self.client.guard().check_url(url);
        let request = OutboundRequest {
            method,
            url: target.map_err(|problem| CallError::Unavailable(problem.to_string()))?,
            headers,
            body,
            timeout: CALL_TIMEOUT,
            body_max: ANSWER_BYTES_MAX,
            identity: None,
        };
        let answer = self.client.send(request).await.result;
        let answer = answer.map_err(|error| CallError::Unavailable(error.class().to_owned()))?;
        Ok((answer.status, serde_json::from_slice(&answer.body).unwrap_or(Value::Null)))
    }
}

fn secret(text: &str) -> Result<HeaderValue, CallError> {
    let mut value = HeaderValue::try_from(text).map_err(|_| CallError::Dead("unreadable".to_owned()))?;
    value.set_sensitive(true);
    Ok(value)
}

/// Parameters as they stand in a query or form.
pub(super) fn encoded(pairs: &[(&str, &str)]) -> String {
    url::form_urlencoded::Serializer::new(String::new()).extend_pairs(pairs).finish()
}

/// API for Business answers 200 and says in `code` what is so.
fn business_problem(status: u16, answer: &Value) -> Option<CallError> {
    match answer["code"].as_i64() {
        Some(0) => None,
        Some(code @ (40102 | 40104 | 40105)) => Some(CallError::Dead(code.to_string())),
        Some(code @ 40001) => Some(CallError::Permission(code.to_string())),
        Some(40100) => Some(CallError::Limited),
        Some(code) if code < 50000 => Some(CallError::Refused(code.to_string())),
        Some(code) => Some(CallError::Unavailable(code.to_string())),
        None if status == 429 => Some(CallError::Limited),
        None => Some(CallError::Unavailable(format!("status {status}"))),
    }
}

/// Login Kit answers with an error even when there is none: `ok`.
fn display_problem(status: u16, answer: &Value) -> Option<CallError> {
    let code = answer["error"]["code"].as_str();
    match (code, status) {
        (Some("ok"), 200) => None,
        (Some("access_token_invalid"), _) => Some(CallError::Dead("access_token_invalid".to_owned())),
        (Some("scope_not_authorized"), _) => Some(CallError::Permission("scope_not_authorized".to_owned())),
        (Some("rate_limit_exceeded"), _) | (_, 429) => Some(CallError::Limited),
        (None, _) | (Some(_), 500..) => Some(CallError::Unavailable(format!("status {status}"))),
        (Some(_), 401 | 403) => Some(CallError::Dead(format!("status {status}"))),
        (Some(_), _) => Some(CallError::Refused(format!("status {status}"))),
    }
}

/// The token endpoint has a flat form: `{"error", "error_description"}`, also beside status 200.
fn tokens_problem(status: u16, answer: &Value) -> Option<CallError> {
    let error = answer["error"].as_str().filter(|error| !error.is_empty());
    match (error, status) {
        (None, 200) if answer["access_token"].is_string() => None,
        (Some(error @ ("invalid_grant" | "access_denied")), _) => Some(CallError::Dead(error.to_owned())),
        (Some("rate_limit_exceeded"), _) | (_, 429) => Some(CallError::Limited),
        (Some("invalid_request" | "invalid_client" | "unauthorized_client"), _) => {
            Some(CallError::Refused(format!("status {status}")))
        }
        _ => Some(CallError::Unavailable(format!("status {status}"))),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn what_is_wrong_is_said_in_three_ways() {
        assert_eq!(business_problem(200, &json!({"code": 0, "message": "OK"})), None);
        assert_eq!(business_problem(200, &json!({"code": 40105})), Some(CallError::Dead("40105".to_owned())));
        assert_eq!(business_problem(200, &json!({"code": 40100})), Some(CallError::Limited));
        assert!(matches!(business_problem(502, &Value::Null), Some(CallError::Unavailable(_))));
        assert_eq!(display_problem(200, &json!({"error": {"code": "ok"}})), None);
        let error = |code: &str| json!({"data": {}, "error": {"code": code}});
        assert!(matches!(display_problem(401, &error("access_token_invalid")), Some(CallError::Dead(_))));
        assert!(matches!(
            display_problem(401, &error("scope_not_authorized")),
            Some(CallError::Permission(_))
        ));
        assert_eq!(display_problem(429, &error("rate_limit_exceeded")), Some(CallError::Limited));
        assert!(matches!(display_problem(200, &Value::Null), Some(CallError::Unavailable(_))));
        assert_eq!(tokens_problem(200, &json!({"access_token": "act.x"})), None);
        assert!(matches!(tokens_problem(400, &json!({"error": "invalid_grant"})), Some(CallError::Dead(_))));
        assert!(matches!(tokens_problem(500, &Value::Null), Some(CallError::Unavailable(_))));
        assert!(matches!(tokens_problem(200, &json!({})), Some(CallError::Unavailable(_))));
    }
}
