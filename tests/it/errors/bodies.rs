//! Bodies that cannot be read, or say something impossible.

use serde_json::{Value, json};

use super::{FOLLOWED, application, checked, violation};
use crate::on_both;
use crate::support::ADMIN_KEY;
use crate::support::callers::UNKNOWN_ID;

const SUBSCRIPTIONS: &str = "/admin/v1/webhook-subscriptions";
const SETTINGS: &str = "/admin/v1/social-media-settings";

on_both! {
    async fn a_body_of_another_kind_is_refused(app: &TestApp) {
        let site = app.site().await;
        let member = app.member(&site, "u-1").await;
        let body = json!({"followedChannel": {"channel": "X"}}).to_string();
        let expected = (415, application("UNSUPPORTED_MEDIA_TYPE", "send the body as application/json"));
        for kind in [
            "text/plain",
            "application/x-www-form-urlencoded",
            "application/xml",
            "application/jsonp",
            "json",
            "",
        ] {
            let answer = app.call("POST", FOLLOWED).auth(&member.token).text(kind, body.clone()).send().await;
            assert_eq!(checked(&answer), expected, "{kind:?}");
        }
        let untyped = app.call("POST", FOLLOWED).auth(&member.token).bytes(body.clone()).send().await;
        assert_eq!(checked(&untyped), expected);
        let nothing = app.call("POST", FOLLOWED).auth(&member.token).send().await;
        assert_eq!(checked(&nothing), expected);
        for kind in [
            "application/json",
            "Application/JSON",
            "application/json; charset=utf-8",
            "application/json ;x=y",
        ] {
            let answer = app.call("POST", FOLLOWED).auth(&member.token).text(kind, "{}").send().await;
            assert_eq!(answer.status.as_u16(), 400, "{kind}");
        }
    }
}

on_both! {
    async fn a_body_is_limited_to_a_mebibyte(app: &TestApp) {
        let site = app.site().await;
        let member = app.member(&site, "u-1").await;
        let send = |body: String| {
            app.call("POST", FOLLOWED).auth(&member.token).text("application/json", body).send()
        };
        let wish = json!({"followedChannel": {"channel": "X"}}).to_string();
        let fits = format!("{wish}{}", " ".repeat(1024 * 1024 - wish.len()));

        let answer = send(format!("{fits} ")).await;
        assert_eq!(checked(&answer), (413, application("PAYLOAD_TOO_LARGE", "the body is too large")));
        assert_eq!(send(fits).await.status.as_u16(), 200);
    }
}

on_both! {
    async fn broken_json_is_told_where(app: &TestApp) {
        let site = app.site().await;
        let member = app.member(&site, "u-1").await;
        let send = |body: Vec<u8>| {
            app.call("POST", FOLLOWED).auth(&member.token).text("application/json", body).send()
        };
        for (body, line, column, reason) in [
            ("", 1, 0, "EOF while parsing a value at line 1 column 0"),
            ("{\"followedChannel\":\n {\"channel\" \"X\"}}", 2, 13, "expected `:` at line 2 column 13"),
            ("{} {}", 1, 4, "trailing characters at line 1 column 4"),
            ("{'a': 1}", 1, 2, "key must be a string at line 1 column 2"),
            ("\u{feff}{}", 1, 1, "expected value at line 1 column 1"),
            ("NaN", 1, 1, "expected value at line 1 column 1"),
            (
                "{\"a\": \"\u{1}\"}",
                1,
                8,
                "control character (\\u0000-\\u001F) found while parsing a string at line 1 column 8",
            ),
            ("{\"a\": \"\\ud800\"}", 1, 14, "unexpected end of hex escape at line 1 column 14"),
            ("{\"a\": 1e999}", 1, 11, "number out of range at line 1 column 11"),
        ] {
            let answer = send(body.as_bytes().to_vec()).await;
            let data = json!({"expected": "JSON", "line": line, "column": column});
            let expected = violation("body", "FORMAT", &format!("is not JSON: {reason}"), &data);
            assert_eq!(checked(&answer), (400, expected), "{body}");
        }
        for body in [b"\xff\xfe{}".to_vec(), b"{\"followedChannel\":{\"channel\":\"\xc3\x28\"}}".to_vec()] {
            let answer = send(body).await;
            assert_eq!(answer.violations(), [("body".to_owned(), "FORMAT".to_owned())]);
        }
    }
}

on_both! {
    async fn bottomless_and_enormous_bodies_are_refused_without_harm(app: &TestApp) {
        let site = app.site().await;
        let member = app.member(&site, "u-1").await;
        let deep_objects = "{\"a\":".repeat(100_000);
        let wide = format!("{{\"followedChannel\":{{\"channel\":[{}]}}}}", vec!["0"; 200_000].join(","));
        let digits = format!("{{\"followedChannel\":{{\"channel\":{}}}}}", "9".repeat(100_000));
        for body in ["[".repeat(100_000), deep_objects, wide, digits] {
            for path in [FOLLOWED, "/oauth2/token-info"] {
                let answer = app
                    .call("POST", path)
                    .auth(&member.token)
                    .text("application/json", body.clone())
                    .send()
                    .await;
                assert_eq!(answer.status.as_u16(), 400, "{}", answer.text);
                assert!(answer.text.len() < 2_000, "{} bytes", answer.text.len());
                checked(&answer);
            }
        }
    }
}

on_both! {
    async fn a_body_full_of_mistakes_gets_a_short_answer(app: &TestApp) {
        let site = app.site().await;
        let body = json!({"webhookSubscription": {
            "appId": UNKNOWN_ID, "url": "https://crm.example/hook", "eventTypes": vec!["wrong"; 100_000],
        }});
        let answer = app.call("POST", SUBSCRIPTIONS).key(ADMIN_KEY, &site.id).json(&body).send().await;
        let violations = answer.violations();
        assert_eq!(violations[0], ("webhookSubscription.eventTypes".to_owned(), "MAX_SIZE".to_owned()));
        assert!(violations.len() <= 50, "{} violations", violations.len());
        assert!(answer.text.len() < 50_000, "{} bytes", answer.text.len());
    }
}

on_both! {
    async fn what_is_wrong_is_named_by_its_path_at_any_depth(app: &TestApp) {
        let site = app.site().await;
        let send = |method: &str, path: &str, body: Value| {
            app.call(method, path).key(ADMIN_KEY, &site.id).json(&body).send()
        };

        let answer = send(
            "PATCH",
            SETTINGS,
            json!({"socialMediaSettings": {"revision": 1, "channels": [
                {"type": "X"}, {"type": "MYSPACE", "points": 1.5}, 7, {"enabled": "yes", "points": -1},
            ]}}),
        )
        .await;
        let path = |rest: &str| format!("socialMediaSettings.{rest}");
        assert_eq!(
            answer.violations(),
            [
                (path("revision"), "FORMAT".to_owned()),
                (path("channels[1].type"), "INVALID_ENUM_VALUE".to_owned()),
                (path("channels[1].points"), "FORMAT".to_owned()),
                (path("channels[2]"), "FORMAT".to_owned()),
                (path("channels[3].type"), "REQUIRED_FIELD".to_owned()),
                (path("channels[3].enabled"), "FORMAT".to_owned()),
                (path("channels[3].points"), "MIN".to_owned()),
            ]
        );
        let answer = send(
            "POST",
            SUBSCRIPTIONS,
            json!({"webhookSubscription": {
                "appId": "crm", "eventTypes": [], "url": "", "timeoutMs": 99, "maxInFlight": 257,
            }}),
        )
        .await;
        assert_eq!(
            checked(&answer).1["details"]["validationError"]["fieldViolations"],
            json!([
                {"field": "webhookSubscription.appId",
                 "description": "is not a GUID", "violatedRule": "FORMAT",
                 "data": {"expected": "GUID"}},
                {"field": "webhookSubscription.eventTypes", "description": "has at least 1 items",
                 "violatedRule": "MIN_SIZE", "data": {"threshold": 1}},
                {"field": "webhookSubscription.url", "description": "has at least 1 characters",
                 "violatedRule": "MIN_LENGTH", "data": {"threshold": 1}},
                {"field": "webhookSubscription.timeoutMs",
                 "description": "is at least 100", "violatedRule": "MIN",
                 "data": {"threshold": 100.0}},
                {"field": "webhookSubscription.maxInFlight",
                 "description": "is at most 256", "violatedRule": "MAX",
                 "data": {"threshold": 256.0}},
            ])
        );
        let channels = vec![json!({"type": "X"}); 6];
        let answer = send("PATCH", SETTINGS, json!({"socialMediaSettings": {"channels": channels}})).await;
        assert_eq!(answer.violations(), [(path("channels"), "MAX_SIZE".to_owned())]);
    }
}

on_both! {
    async fn numbers_beyond_every_limit_are_refused(app: &TestApp) {
        let site = app.site().await;
        for (number, rule) in [
            ("10000000", "MAX"),
            ("9223372036854775807", "MAX"),
            ("-9223372036854775808", "MIN"),
            ("9223372036854775808", "FORMAT"),
            ("1e18", "FORMAT"),
            ("1.0", "FORMAT"),
            ("1e308", "FORMAT"),
            ("-0.0", "FORMAT"),
        ] {
            let body = format!(
                "{{\"socialMediaSettings\":{{\"channels\":[{{\"type\":\"X\",\"points\":{number}}}]}}}}"
            );
            let answer = app
                .call("PATCH", SETTINGS)
                .key(ADMIN_KEY, &site.id)
                .text("application/json", body)
                .send()
                .await;
            let expected = [("socialMediaSettings.channels[0].points".to_owned(), rule.to_owned())];
            assert_eq!(answer.violations(), expected, "{number}");
        }
    }
}

on_both! {
    async fn the_character_nul_is_refused_in_every_text(app: &TestApp) {
        let all = app.everything().await;
        let nul = "a\u{0}b";
        for (method, path, body, field) in [
            ("POST", "/admin/v1/members", json!({"member": {"externalId": nul}}), "member.externalId"),
            ("POST", "/admin/v1/members", json!({"member": {"name": nul}}), "member.name"),
            ("POST", "/admin/v1/sites", json!({"site": {"name": nul}}), "site.name"),
            ("POST", "/admin/v1/api-keys", json!({"apiKey": {"name": nul}}), "apiKey.name"),
            ("POST", "/admin/v1/apps", json!({"app": {"name": nul}}), "app.name"),
            (
                "PATCH",
                "/loyalty-programs/v1/program",
                json!({"loyaltyProgram": {"name": nul}}),
                "loyaltyProgram.name",
            ),
            (
                "PATCH",
                SETTINGS,
                json!({"socialMediaSettings": {"channels": [{"type": "X", "id": nul}]}}),
                "socialMediaSettings.channels[0].id",
            ),
            (
                "POST",
                "/admin/v1/oauth-clients",
                json!({"oauthClient": {"name": "a", "allowedOrigins": [nul]}}),
                "oauthClient.allowedOrigins[0]",
            ),
            (
                "PATCH",
                "/admin/v1/site-auth",
                json!({"siteAuth": {"trustedIssuers": [{"issuer": nul, "audience": "a"}]}}),
                "siteAuth.trustedIssuers[0].issuer",
            ),
            (
                "POST",
                FOLLOWED,
                json!({"followedChannel": {"channel": "X", "accountId": nul}}),
                "followedChannel.accountId",
            ),
            ("POST", "/oauth2/token-info", json!({"token": nul}), "token"),
        ] {
            let answer = app.call(method, path).key(ADMIN_KEY, &all.site.id).json(&body).send().await;
            let expected = violation(field, "FORMAT", "must not contain the character NUL", &json!({}));
            assert_eq!(checked(&answer), (400, expected), "{path}");
        }
        for name in ["client_id", "client_secret", "instance_id", "refresh_token", "member_id", "grant_type"]
        {
            let mut body = json!({
                "grant_type": "client_credentials", "client_id": all.app.id, "client_secret": all.app.secret,
                "instance_id": all.app.instance_id, "refresh_token": "x", "member_id": all.member.id,
            });
            body[name] = json!(nul);
            for grant in ["client_credentials", "refresh_token", "authorized_client"] {
                if name != "grant_type" {
                    body["grant_type"] = json!(grant);
                }
                let status = app.token(&body).await.status.as_u16();
                assert!(status < 500, "{name} {grant}: {status}");
            }
        }
    }
}
