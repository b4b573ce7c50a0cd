//! What the Graph API's errors mean, by their codes only: their texts are written for the owner of the token, in any language.

use http::HeaderMap;
use serde_json::Value;

use super::answers::number;
use super::usage::Usage;

/// How long a throttled connection rests if nobody says how long, in milliseconds.
pub const THROTTLED_MS: i64 = 15 * 60_000;
/// The same for the limit of a whole day (code 341).
const THROTTLED_FOR_A_DAY_MS: i64 = 3_600_000;
/// The longest rest that a platform may ask for, in milliseconds.
const THROTTLED_MAX_MS: i64 = 24 * 3_600_000;

/// Why the Graph API did not do what it was asked.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum GraphError {
    /// It may work in a moment: Meta's own trouble, the network, an answer that is none.
    #[error("Instagram cannot be reached at the moment ({0})")]
    Temporary(String),
    /// Too many calls: none for this many milliseconds.
    #[error("Instagram wants fewer calls for a while")]
    Throttled(i64),
    /// The call was not made, as too many are being made; it may be in this many milliseconds.
    #[error("calls of Instagram are spread over time, as its limit is near")]
    Spread(i64),
    /// The token is no longer accepted.
    #[error("Instagram no longer accepts the token (code {code}: {why}); reconnect the account")]
    Dead {
        /// Code and subcode.
        code: String,
        /// What happened to it.
        why: &'static str,
    },
    /// The app or the token may not do this.
    #[error("a permission is missing (code {0})")]
    Permission(String),
    /// The account's owner lets no app read its messages.
    #[error(
        "the account does not let apps read its messages: switch on Settings, Messages, Connected tools in Instagram"
    )]
    MessagesOff,
    /// The person has not written to the brand yet, which is their consent to be looked up.
    #[error("the person has not agreed to be looked up: they never wrote to the brand")]
    NoConsent,
    /// The thing was deleted, or cannot be seen.
    #[error("it is gone or cannot be seen")]
    Gone,
    /// The account knows no such person.
    #[error("Instagram knows no such person, or shows them to nobody")]
    Nobody,
    /// The person is not available.
    #[error("the person is not available")]
    Unavailable,
    /// The last message of the person is too old for an answer.
    #[error("the person's last message is more than 24 hours old")]
    OutsideWindow,
    /// Meta blocks the app or the account.
    #[error("Meta has blocked this for breaking its rules (code 368)")]
    Blocked,
    /// The request is wrong, or the code is not known: a fault of this program, or a new version of the API.
    #[error("Instagram did not understand the request (code {0})")]
    Refused(String),
}

/// What the answer says went wrong, if anything did. `usage` is what its headers say.
#[must_use]
pub fn problem(status: u16, body: Option<&Value>, usage: Usage) -> Option<GraphError> {
    let Some(body) = body.filter(|body| body.is_object()) else {
        return Some(without_code(status, usage));
    };
    let error = &body["error"];
    if let Some(code) = number(&error["code"]) {
        let subcode = number(&error["error_subcode"]).unwrap_or(0);
        let is_transient = error["is_transient"] == true || status >= 500;
        return Some(by_code(code, subcode, is_transient, usage));
    }
    // The token endpoints of Instagram Login have an older form.
    if let (Some(_), Some(code)) = (body.get("error_type"), number(&body["code"])) {
        return Some(GraphError::Refused(code.to_string()));
    }
    if status == 200 && error.is_null() { None } else { Some(without_code(status, usage)) }
}

fn without_code(status: u16, usage: Usage) -> GraphError {
    if status == 429 {
        return GraphError::Throttled(rest(usage, THROTTLED_MS));
    }
    GraphError::Temporary(format!("status {status}"))
}

fn by_code(code: i64, subcode: i64, is_transient: bool, usage: Usage) -> GraphError {
    let text = if subcode == 0 { code.to_string() } else { format!("{code}/{subcode}") };
    match (code, subcode) {
        (4 | 17 | 32 | 613 | 80002, _) => GraphError::Throttled(rest(usage, THROTTLED_MS)),
        (341, _) => GraphError::Throttled(rest(usage, THROTTLED_FOR_A_DAY_MS)),
        (102 | 190, _) => GraphError::Dead { code: text, why: why_dead(subcode) },
        (10, 2_534_022) => GraphError::OutsideWindow,
        (200, 2_534_041) => GraphError::MessagesOff,
        (230, _) => GraphError::NoConsent,
        (9010 | 110, _) | (100, 2_534_014 | 2_207_013) => GraphError::Nobody,
        (100, 33) => GraphError::Gone,
        (368, _) => GraphError::Blocked,
        (551, _) => GraphError::Unavailable,
        (3 | 10 | 200..=299, _) => GraphError::Permission(text),
        _ if is_transient || matches!(code, 1 | 2) => GraphError::Temporary(format!("code {text}")),
        _ => GraphError::Refused(text),
    }
}

const fn why_dead(subcode: i64) -> &'static str {
    match subcode {
        458 => "the app was removed",
        459 => "the person must log in to Facebook first",
        460 => "the password was changed",
        463 => "it has expired",
        464 => "the person has not confirmed their account",
        467 => "it is invalid",
        492 => "the person no longer has a role on the page",
        _ => "it is not valid",
    }
}

/// How long a connection rests.
fn rest(usage: Usage, otherwise: i64) -> i64 {
    if usage.regain_ms > 0 { usage.regain_ms.min(THROTTLED_MAX_MS) } else { otherwise }
}

/// What the headers of an answer say of the limits.
#[must_use]
pub fn usage(headers: &HeaderMap) -> Usage {
    let text = |name: &str| headers.get(name).and_then(|value| value.to_str().ok());
    Usage::parse(text("x-app-usage"), text("x-business-use-case-usage"))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn of(code: i64, subcode: i64) -> Option<GraphError> {
        let body = json!({"error": {
            "message": "…", "type": "OAuthException", "code": code, "error_subcode": subcode, "fbtrace_id": "A",
        }});
        problem(400, Some(&body), Usage::default())
    }

    #[test]
    fn every_code_of_the_table_means_what_the_table_says() {
        for code in [1, 2] {
            assert_eq!(of(code, 0), Some(GraphError::Temporary(format!("code {code}"))));
        }
        for code in [4, 17, 32, 613, 80002] {
            assert_eq!(of(code, 0), Some(GraphError::Throttled(THROTTLED_MS)), "{code}");
        }
        assert_eq!(of(341, 0), Some(GraphError::Throttled(THROTTLED_FOR_A_DAY_MS)));
        for subcode in [0, 458, 459, 460, 463, 464, 467, 492, 12345] {
            let found = of(190, subcode);
            assert!(
                matches!(found, Some(GraphError::Dead { why, .. }) if !why.is_empty()),
                "{subcode}: {found:?}"
            );
        }
        assert!(matches!(of(102, 0), Some(GraphError::Dead { .. })));
        for code in [3, 10, 200, 201, 229, 231, 299] {
            assert_eq!(of(code, 0), Some(GraphError::Permission(code.to_string())));
        }
        assert_eq!(of(10, 2_534_022), Some(GraphError::OutsideWindow));
        assert_eq!(of(200, 2_534_041), Some(GraphError::MessagesOff));
        assert_eq!(of(230, 0), Some(GraphError::NoConsent));
        for (code, subcode) in [(9010, 0), (100, 2_534_014), (110, 2_207_013), (100, 2_207_013), (110, 0)] {
            assert_eq!(of(code, subcode), Some(GraphError::Nobody), "{code}/{subcode}");
        }
        assert_eq!(of(100, 33), Some(GraphError::Gone));
        assert_eq!(of(100, 0), Some(GraphError::Refused("100".to_owned())));
        assert_eq!(of(368, 0), Some(GraphError::Blocked));
        assert_eq!(of(551, 0), Some(GraphError::Unavailable));
        assert_eq!(of(2500, 7), Some(GraphError::Refused("2500/7".to_owned())));
    }

    #[test]
    fn texts_quoted_codes_and_odd_bodies_decide_nothing() {
        let usage = Usage::default();
        let quoted = json!({"error": {"message": "用户", "code": "190", "error_subcode": "463"}});
        assert!(matches!(problem(400, Some(&quoted), usage), Some(GraphError::Dead { .. })));
        let transient = json!({"error": {"code": 77, "is_transient": true}});
        assert_eq!(problem(400, Some(&transient), usage), Some(GraphError::Temporary("code 77".to_owned())));
        let flat = json!({"error_type": "OAuthException", "code": 400, "error_message": "used"});
        assert_eq!(problem(400, Some(&flat), usage), Some(GraphError::Refused("400".to_owned())));
        for (status, body) in [
            (502, None),
            (200, None),
            (200, Some(json!([]))),
            (200, Some(json!({"error": "soon"}))),
            (400, Some(json!({"error": {"message": "no code"}}))),
            (403, Some(json!({"blocked": "by a proxy"}))),
        ] {
            let found = problem(status, body.as_ref(), usage);
            assert_eq!(found, Some(GraphError::Temporary(format!("status {status}"))), "{body:?}");
        }
        assert_eq!(problem(429, None, usage), Some(GraphError::Throttled(THROTTLED_MS)));
        assert_eq!(problem(200, Some(&json!({"id": "1"})), usage), None);
    }

    #[test]
    fn the_time_that_meta_names_is_honoured() {
        let body = json!({"error": {"code": 80002}});
        let usage = Usage { percent: 100, regain_ms: 19 * 60_000 };
        assert_eq!(problem(400, Some(&body), usage), Some(GraphError::Throttled(19 * 60_000)));
        let usage = Usage { percent: 100, regain_ms: i64::MAX };
        assert_eq!(problem(400, Some(&body), usage), Some(GraphError::Throttled(THROTTLED_MAX_MS)));
    }
}
