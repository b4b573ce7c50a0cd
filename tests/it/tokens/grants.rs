//! The shape of requests and answers of every grant.

use serde_json::{Value, json};

use super::{FOLLOWED, both, status};
use crate::on_both;
use crate::support::callers::{Everything, UNKNOWN_ID};

const PATHS: [&str; 4] = ["/oauth2/token", "/oauth/access", "/_api/oauth2/token", "/_api/oauth/access"];

/// Each grant with its fields in `snake_case`, and whether its answer has a refresh token.
fn grants(all: &Everything) -> Vec<(Vec<(&'static str, String)>, bool)> {
    vec![
        (vec![("grant_type", "anonymous".to_owned()), ("client_id", all.front_end.clone())], true),
        (
            vec![
                ("grant_type", "refresh_token".to_owned()),
                ("refresh_token", all.visitor_refresh.clone()),
                ("client_id", all.front_end.clone()),
            ],
            true,
        ),
        (
            vec![
                ("grant_type", "client_credentials".to_owned()),
                ("client_id", all.app.id.clone()),
                ("client_secret", all.app.secret.clone()),
                ("instance_id", all.app.instance_id.clone()),
            ],
            false,
        ),
        (
            vec![
                ("grant_type", "authorized_client".to_owned()),
                ("scope", "offline_access".to_owned()),
                ("member_id", all.member.id.clone()),
            ],
            true,
        ),
    ]
}

fn camel(name: &str) -> String {
    let mut parts = name.split('_');
    let mut out = parts.next().unwrap_or_default().to_owned();
    for part in parts {
        out.push_str(&part[..1].to_uppercase());
        out.push_str(&part[1..]);
    }
    out
}

fn form(fields: &[(String, String)]) -> String {
    url::form_urlencoded::Serializer::new(String::new()).extend_pairs(fields).finish()
}

fn object(fields: &[(String, String)]) -> Value {
    fields.iter().map(|(name, value)| (name.clone(), json!(value))).collect::<serde_json::Map<_, _>>().into()
}

on_both! {
    async fn every_grant_takes_json_and_forms_in_both_spellings_at_every_path(app: &TestApp) {
        let all = app.everything().await;
        let login = format!("{},{}", all.visitor, all.manager.secret);
        for path in PATHS {
            for (fields, has_refresh_token) in grants(&all) {
                let snake: Vec<_> =
                    fields.iter().map(|(name, text)| ((*name).to_owned(), text.clone())).collect();
                let camel: Vec<_> = fields.iter().map(|(name, text)| (camel(name), text.clone())).collect();
                for (kind, body) in [
                    ("application/json", object(&snake).to_string()),
                    ("application/json; charset=utf-8", object(&camel).to_string()),
                    ("application/x-www-form-urlencoded", form(&snake)),
                    ("application/x-www-form-urlencoded;charset=UTF-8", form(&camel)),
                ] {
                    let body = app.call("POST", path).auth(&login).text(kind, body).ok().await;
                    let mut expected = json!({
                        "access_token": body["access_token"], "token_type": "Bearer", "expires_in": 14400,
                    });
                    if has_refresh_token {
                        assert!(body["refresh_token"].is_string(), "{body}");
                        expected["refresh_token"] = body["refresh_token"].clone();
                    }
                    assert_eq!(body, expected, "{path} {kind} {fields:?}");
                    assert_eq!(status(app, body["access_token"].as_str().unwrap()).await, 200);
                }
            }
        }
    }
}

on_both! {
    async fn refused_grants_answer_as_rfc_6749_has_it(app: &TestApp) {
        let all = app.everything().await;
        let unknown_client = "the client is unknown or its secret is wrong";
        for (body, status, error, description) in [
            (json!({}), 400, "invalid_request", "grant_type is missing"),
            (json!({"grantType": 7}), 400, "invalid_request", "grant_type is missing"),
            (
                json!({"grantType": "password"}),
                400,
                "unsupported_grant_type",
                "grant type password is not supported",
            ),
            (json!({"grantType": "anonymous"}), 400, "invalid_request", "client_id is missing"),
            (
                json!({"grantType": "anonymous", "clientId": "shop"}),
                400,
                "invalid_request",
                "client_id is not a GUID",
            ),
            (
                json!({"grantType": "anonymous", "clientId": UNKNOWN_ID}),
                401,
                "invalid_client",
                unknown_client,
            ),
            (
                json!({"grantType": "anonymous", "clientId": all.app.id}),
                401,
                "invalid_client",
                unknown_client,
            ),
            (json!({"grantType": "refresh_token"}), 400, "invalid_request", "refresh_token is missing"),
            (
                json!({"grantType": "refresh_token", "refreshToken": "fpr_unknown"}),
                400,
                "invalid_grant",
                "the refresh token is unknown, expired or revoked",
            ),
            (
                json!({"grantType": "refresh_token", "refreshToken": all.visitor}),
                400,
                "invalid_grant",
                "the refresh token is unknown, expired or revoked",
            ),
            (
                json!({
                    "grantType": "client_credentials", "clientId": all.app.id,
                    "instanceId": all.app.instance_id,
                }),
                400,
                "invalid_request",
                "client_secret is missing",
            ),
            (json!({"grantType": "client_credentials"}), 400, "invalid_request", "client_id is missing"),
            (json!({"grantType": "authorized_client"}), 400, "invalid_request", "member_id is missing"),
        ] {
            let answer = app.token(&body).await;
            let expected = json!({"error": error, "error_description": description});
            assert_eq!(both(&answer), (status, expected), "{body}");
            assert!(answer.headers.contains_key("x-wix-request-id"));
        }
    }
}

on_both! {
    async fn an_empty_field_is_a_missing_one(app: &TestApp) {
        let all = app.everything().await;
        let good = json!({
            "grant_type": "client_credentials", "client_id": all.app.id, "client_secret": all.app.secret,
            "instance_id": all.app.instance_id,
        });
        for name in ["grant_type", "client_id", "client_secret", "instance_id"] {
            let mut body = good.clone();
            body[name] = json!("");
            let expected =
                json!({"error": "invalid_request", "error_description": format!("{name} is missing")});
            assert_eq!(both(&app.token(&body).await), (400, expected));
        }
        let empty_client =
            json!({"grantType": "refresh_token", "refreshToken": "", "clientId": all.front_end});
        let expected = json!({"error": "invalid_request", "error_description": "refresh_token is missing"});
        assert_eq!(both(&app.token(&empty_client).await), (400, expected));
    }
}

on_both! {
    async fn bodies_that_cannot_be_read_are_token_errors_too(app: &TestApp) {
        let send = |kind: &str, body: &str| app.call("POST", "/oauth2/token").text(kind, body).send();
        let wrong = |description: &str| json!({"error": "invalid_request", "error_description": description});
        let supported = "send the body as application/json or application/x-www-form-urlencoded";

        assert_eq!(both(&send("text/plain", "{}").await), (415, wrong(supported)));
        let broken = "the body is not JSON: EOF while parsing an object at line 1 column 1";
        assert_eq!(both(&send("application/json", "{").await), (400, wrong(broken)));
        assert_eq!(both(&send("application/json", "[]").await), (400, wrong("the body must be an object")));
        let large = format!("{{\"grantType\":\"{}\"}}", "a".repeat(1024 * 1024));
        assert_eq!(both(&send("application/json", &large).await), (413, wrong("the body is too large")));
        let deep = "[".repeat(100_000);
        assert_eq!(send("application/json", &deep).await.status.as_u16(), 400);
        let untyped = app.call("POST", "/oauth2/token").bytes("{}").send().await;
        assert_eq!(both(&untyped), (400, wrong("grant_type is missing")));
    }
}

on_both! {
    async fn answers_with_tokens_may_not_be_cached(app: &TestApp) {
        let all = app.everything().await;
        let of_member = format!("/admin/v1/members/{}/tokens", all.member.id);
        let of_nobody = format!("/admin/v1/members/{UNKNOWN_ID}/tokens");
        let members = [(of_member.as_str(), 200), (of_nobody.as_str(), 404)];
        let grant = json!({"grantType": "anonymous", "clientId": all.front_end});
        let nothing = Value::Null;
        let grants = PATHS.into_iter().flat_map(|path| [(path, &grant, 200), (path, &nothing, 400)]);
        let mut answers = Vec::new();
        for (path, body, status) in grants {
            answers.push((path, status, app.call("POST", path).json(body).send().await));
        }
        for (path, status) in members {
            answers.push((path, status, app.call("POST", path).auth(&all.admin.secret).send().await));
        }
        for (path, status, answer) in answers {
            assert_eq!(answer.status.as_u16(), status, "{path}: {}", answer.text);
            let cached = answer.headers.get("cache-control").map(|value| value.to_str().unwrap());
            assert_eq!(cached, Some("no-store"), "{path} with {status}");
        }
    }
}

on_both! {
    async fn g5_a_visitor_sees_an_empty_list_and_cannot_follow(app: &TestApp) {
        let all = app.everything().await;
        for token in [all.visitor.clone(), format!("Bearer {}", all.visitor)] {
            let listed = app.call("GET", FOLLOWED).auth(&token).ok().await;
            assert_eq!(listed, json!({"followedChannels": []}));
            let named = format!("{FOLLOWED}?accountId={}", all.account_id);
            assert_eq!(app.call("GET", &named).auth(&token).ok().await, json!({"followedChannels": []}));

            let wish = json!({"followedChannel": {"channel": "X", "accountId": all.account_id}});
            let refused = app.call("POST", FOLLOWED).auth(&token).json(&wish).send().await;
            let description = "a visitor has no account; sign in as a member";
            assert_eq!(
                both(&refused),
                (
                    403,
                    json!({"message": description, "details": {"applicationError": {
                        "code": "PERMISSION_DENIED", "description": description, "data": {},
                    }}})
                )
            );
        }
    }
}
