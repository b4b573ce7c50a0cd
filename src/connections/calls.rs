//! Calls of the platforms while an account is connected, and what their errors mean.

use std::fmt::Write as _;
use std::time::Duration;

use bytes::Bytes;
use http::header::{ACCEPT, AUTHORIZATION, CONTENT_TYPE};
use http::{HeaderMap, HeaderName, HeaderValue, Method};
use serde_json::Value;

use crate::outbound::{Client, OutboundRequest};

/// One deadline for a call: a login makes several, and a person waits.
const CALL_TIMEOUT: Duration = Duration::from_secs(6);
/// An answer is no longer.
const ANSWER_BYTES_MAX: usize = 1024 * 1024;
/// How long a platform is left alone that does not say how long it wants to be, in milliseconds.
const LIMITED_MS: i64 = 15 * 60_000;
/// The longest time that it may ask for, in milliseconds.
const LIMITED_MAX_MS: i64 = 24 * 3_600_000;
/// Characters of an id that a platform gives.
const ID_MAX: usize = 128;

/// Why a platform did not do what it was asked. Its own words are not repeated: they may be in any language and hold anything.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(super) enum CallError {
    /// The token is no longer good.
    #[error("the platform no longer accepts the token (code {0}); connect the account again")]
    Dead(String),
    /// A permission is missing.
    #[error("the platform says that a permission is missing (code {0})")]
    Permission(String),
    /// Too many calls; the milliseconds to wait.
    #[error("the platform wants fewer calls for a while")]
    Limited(i64),
    /// Anything else that it will answer again.
    #[error("the platform refused the request (code {0})")]
    Refused(String),
    /// It may work later.
    #[error("the platform cannot be reached at the moment: {0}")]
    Unavailable(String),
}

/// How a call is answered.
#[derive(Clone, Copy)]
enum Dialect {
    Graph,
    Tiktok,
}

/// Calls platforms. Cheap to clone.
#[derive(Clone)]
pub(super) struct Calls {
    client: Client,
}

impl Calls {
    pub(super) const fn new(client: Client) -> Self {
        Self { client }
    }

    /// Calls the Graph API, with a token and the proof that we hold the app's secret.
    pub(super) async fn graph(
        &self,
        method: Method,
        url: &str,
        query: &[(&str, &str)],
        (token, secret): (&str, &str),
    ) -> Result<Value, CallError> {
        let proof = proof(secret, token);
        let query: Vec<_> = query.iter().copied().chain([("appsecret_proof", proof.as_str())]).collect();
        let mut bearer = HeaderValue::try_from(format!("Bearer {token}"))
            .map_err(|_| CallError::Dead("unreadable".to_owned()))?;
        bearer.set_sensitive(true);
        let headers = vec![(AUTHORIZATION, bearer)];
        self.send((method, with_query(url, &query)), headers, Bytes::new(), Dialect::Graph).await
    }

    /// Asks an endpoint of the Graph API for tokens, with the parameters in the query.
    pub(super) async fn tokens(&self, url: &str, query: &[(&str, &str)]) -> Result<Value, CallError> {
        self.send((Method::GET, with_query(url, query)), Vec::new(), Bytes::new(), Dialect::Graph).await
    }

    /// The same with a form.
    pub(super) async fn form(&self, url: &str, form: &[(&str, &str)]) -> Result<Value, CallError> {
        let headers = vec![(CONTENT_TYPE, HeaderValue::from_static("application/x-www-form-urlencoded"))];
        let body = encoded(form).into();
        self.send((Method::POST, url.to_owned()), headers, body, Dialect::Graph).await
    }

    /// Posts JSON to `TikTok`; gives the data of the answer.
    pub(super) async fn tiktok(&self, url: &str, body: &Value) -> Result<Value, CallError> {
        let headers = vec![(CONTENT_TYPE, HeaderValue::from_static("application/json"))];
        let body = body.to_string().into();
        let mut answer = self.send((Method::POST, url.to_owned()), headers, body, Dialect::Tiktok).await?;
        Ok(answer["data"].take())
    }

    async fn send(
        &self,
        (method, url): (Method, String),
        mut headers: Vec<(HeaderName, HeaderValue)>,
        body: Bytes,
        dialect: Dialect,
    ) -> Result<Value, CallError> {
        headers.push((ACCEPT, HeaderValue::from_static("application/json")));
        let target = self.client.guard().check_url(&url);
        let request = OutboundRequest {
            method,
            // The problem of a URL is that of the setting; the URL itself holds secrets.
            url: target.map_err(|problem| CallError::Unavailable(problem.to_string()))?,
            headers,
            body,
            timeout: CALL_TIMEOUT,
            body_max: ANSWER_BYTES_MAX,
            identity: None,
        };
        let answer = self.client.send(request).await.result;
        let answer = answer.map_err(|error| CallError::Unavailable(error.class().to_owned()))?;
        let value = serde_json::from_slice(&answer.body).unwrap_or(Value::Null);
        let problem = match dialect {
            Dialect::Graph => graph_problem(answer.status, &answer.headers, &value),
            Dialect::Tiktok => tiktok_problem(answer.status, &value),
        };
        problem.map_or(Ok(value), Err)
    }
}

/// What an answer of the Graph API says went wrong, if anything did.
fn graph_problem(status: u16, headers: &HeaderMap, answer: &Value) -> Option<CallError> {
    let error = &answer["error"];
    // Instagram's token endpoint has an older form: `{"error_type", "code", "error_message"}`.
    let flat = answer.get("error_type").and(answer.get("code"));
    let Some(code) = error.get("code").or(flat).and_then(Value::as_i64) else {
        return if status == 200 && answer.is_object() {
            None
        } else if status == 429 {
            Some(CallError::Limited(regain_ms(headers)))
        } else {
            Some(CallError::Unavailable(format!("status {status}")))
        };
    };
    let text = match error["error_subcode"].as_i64() {
        Some(subcode) => format!("{code}, {subcode}"),
        None => code.to_string(),
    };
    if flat.is_some() {
        return Some(CallError::Refused(text));
    }
    Some(match code {
        102 | 190 => CallError::Dead(text),
        4 | 17 | 32 | 341 | 613 | 80002 => CallError::Limited(regain_ms(headers)),
        3 | 10 | 200..=299 => CallError::Permission(text),
        1 | 2 => CallError::Unavailable(format!("code {text}")),
        _ if error["is_transient"] == true || status >= 500 => CallError::Unavailable(format!("code {text}")),
        _ => CallError::Refused(text),
    })
}

/// `TikTok` answers 200 and says in `code` what is so.
fn tiktok_problem(status: u16, answer: &Value) -> Option<CallError> {
    match answer["code"].as_i64() {
        Some(0) => None,
        Some(code @ (40102 | 40104 | 40105)) => Some(CallError::Dead(code.to_string())),
        Some(code @ 40001) => Some(CallError::Permission(code.to_string())),
        Some(40100) => Some(CallError::Limited(LIMITED_MS)),
        Some(code @ 50000..) => Some(CallError::Unavailable(format!("code {code}"))),
        Some(code) => Some(CallError::Refused(code.to_string())),
        None => Some(CallError::Unavailable(format!("status {status}"))),
    }
}

/// How long the platform wants to be left alone: the longest of the minutes that it names.
fn regain_ms(headers: &HeaderMap) -> i64 {
    let usage = headers.get("x-business-use-case-usage").and_then(|value| value.to_str().ok());
    let usage: Value = usage.and_then(|text| serde_json::from_str(text).ok()).unwrap_or_default();
    let minutes = |entry: &Value| {
        let minutes = &entry["estimated_time_to_regain_access"];
        minutes.as_i64().or_else(|| minutes.as_str()?.parse().ok())
    };
    let accounts = usage.as_object().into_iter().flat_map(|accounts| accounts.values());
    let longest = accounts.filter_map(Value::as_array).flatten().filter_map(minutes).max().unwrap_or(0);
    if longest <= 0 { LIMITED_MS } else { longest.saturating_mul(60_000).min(LIMITED_MAX_MS) }
}

/// The proof that who sends `token` holds the app's secret.
fn proof(secret: &str, token: &str) -> String {
    hex(&hmac(secret, token.as_bytes()))
}

/// HMAC-SHA256.
pub(super) fn hmac(secret: &str, text: &[u8]) -> Vec<u8> {
    let key = aws_lc_rs::hmac::Key::new(aws_lc_rs::hmac::HMAC_SHA256, secret.as_bytes());
    aws_lc_rs::hmac::sign(&key, text).as_ref().to_vec()
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |mut text, byte| {
        let _ = write!(text, "{byte:02x}");
        text
    })
}

/// Parameters as they stand in a query or form.
pub(super) fn encoded(pairs: &[(&str, &str)]) -> String {
    url::form_urlencoded::Serializer::new(String::new()).extend_pairs(pairs).finish()
}

/// `url` with a query.
pub(super) fn with_query(url: &str, query: &[(&str, &str)]) -> String {
    format!("{url}?{}", encoded(query))
}

/// An id that a platform gives, as text or as a number, if it is one that may stand in a path and in a table.
pub(super) fn id(value: &Value) -> Option<String> {
    let text = match value {
        Value::String(text) => text.clone(),
        // Above 2^53, so never by way of a float.
        Value::Number(number) if number.is_u64() => number.to_string(),
        _ => return None,
    };
    is_id(&text).then_some(text)
}

/// Whether `text` can be an id of a platform.
pub(super) fn is_id(text: &str) -> bool {
    let fits = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_');
    !text.is_empty() && text.len() <= ID_MAX && text.bytes().all(fits)
}

/// A name for people, without what cannot be shown or stored.
pub(super) fn name(value: &Value) -> Option<String> {
    let text: String = value.as_str()?.chars().filter(|c| !c.is_control()).take(ID_MAX).collect();
    Some(text).filter(|text| !text.is_empty())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn error(code: i64) -> Value {
        json!({"error": {"message": "…", "type": "OAuthException", "code": code, "fbtrace_id": "A"}})
    }

    #[test]
    fn every_error_means_what_the_table_says() {
        let none = HeaderMap::new();
        for code in [190, 102] {
            assert_eq!(
                graph_problem(400, &none, &error(code)),
                Some(CallError::Dead(code.to_string())),
                "{code}"
            );
        }
        for code in [4, 17, 32, 341, 613, 80002] {
            assert_eq!(
                graph_problem(400, &none, &error(code)),
                Some(CallError::Limited(LIMITED_MS)),
                "{code}"
            );
        }
        for code in [3, 10, 200, 230, 299] {
            assert_eq!(
                graph_problem(403, &none, &error(code)),
                Some(CallError::Permission(code.to_string())),
                "{code}"
            );
        }
        for code in [1, 2] {
            assert!(
                matches!(graph_problem(500, &none, &error(code)), Some(CallError::Unavailable(_))),
                "{code}"
            );
        }
        assert_eq!(graph_problem(400, &none, &error(100)), Some(CallError::Refused("100".to_owned())));
        let flat = json!({"error_type": "OAuthException", "code": 400, "error_message": "used"});
        assert_eq!(graph_problem(400, &none, &flat), Some(CallError::Refused("400".to_owned())));
        assert!(matches!(graph_problem(502, &none, &Value::Null), Some(CallError::Unavailable(_))));
        assert!(matches!(graph_problem(200, &none, &Value::Null), Some(CallError::Unavailable(_))));
        assert_eq!(graph_problem(200, &none, &json!({"success": true})), None);
        assert_eq!(tiktok_problem(200, &json!({"code": 0})), None);
        assert_eq!(tiktok_problem(200, &json!({"code": 40105})), Some(CallError::Dead("40105".to_owned())));
        assert!(matches!(tiktok_problem(502, &Value::Null), Some(CallError::Unavailable(_))));
    }

    #[test]
    fn the_platform_says_how_long_it_wants_to_be_left_alone() {
        let regain = |text: &'static str| {
            let header = HeaderName::from_static("x-business-use-case-usage");
            regain_ms(&HeaderMap::from_iter([(header, HeaderValue::from_static(text))]))
        };
        assert_eq!(
            regain(r#"{"1784":[{"type":"instagram","estimated_time_to_regain_access":19}]}"#),
            19 * 60_000
        );
        assert_eq!(regain(r#"{"1784":[{"estimated_time_to_regain_access":"7"}]}"#), 7 * 60_000);
        assert_eq!(
            regain(r#"{"1784":[{"estimated_time_to_regain_access":99999999999999}]}"#),
            LIMITED_MAX_MS
        );
        for text in ["{}", "x", r#"{"1784":[{"estimated_time_to_regain_access":-1}]}"#, r#"{"1784":null}"#] {
            assert_eq!(regain(text), LIMITED_MS, "{text}");
        }
    }

    #[test]
    fn ids_are_text_whatever_they_were() {
        assert_eq!(id(&json!(17_841_460_998_877_001_u64)).as_deref(), Some("17841460998877001"));
        assert_eq!(id(&json!("17841460998877001")).as_deref(), Some("17841460998877001"));
        for strange in [
            json!(1.5),
            json!(-1),
            json!(""),
            json!("a/b"),
            json!("a\u{0}"),
            json!(null),
            json!("x".repeat(129)),
        ] {
            assert_eq!(id(&strange), None, "{strange}");
        }
    }
}
