//! Paths, methods, parameters and headers that are wrong.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::json;

use super::{FOLLOWED, application, checked, violation};
use crate::on_both;
use crate::support::ADMIN_KEY;
use crate::support::callers::UNKNOWN_ID;
use crate::support::keys::encode_part;

on_both! {
    async fn unknown_paths_and_methods_are_told_apart(app: &TestApp) {
        let nothing = (404, application("NOT_FOUND", "there is nothing at this path"));
        for path in [
            "/",
            "/nothing",
            "/v1/followed-channels",
            "/admin",
            "/admin/v1/sites/",
            "/_api",
            "/_api/admin/v1/sites",
            "//admin/v1/sites",
            "/loyalty-social-media/v1",
            "/%2e%2e/etc/passwd",
            "/admin/v1/members/a/b/c",
        ] {
            let answer = app.call("GET", path).auth(ADMIN_KEY).send().await;
            assert_eq!(checked(&answer), nothing, "{path}");
        }
        let no_method = (405, application("METHOD_NOT_ALLOWED", "this path does not have this method"));
        let by_id = format!("/admin/v1/webhook-subscriptions/{UNKNOWN_ID}");
        for (method, path, allow) in [
            ("PUT", FOLLOWED, "GET, POST"),
            ("DELETE", FOLLOWED, "GET, POST"),
            ("PATCH", FOLLOWED, "GET, POST"),
            ("GET", "/oauth2/token", "POST"),
            ("POST", "/healthz", "GET"),
            ("POST", "/admin/v1/events", "GET"),
            ("POST", &by_id, "DELETE, GET, PATCH"),
            ("OPTIONS", FOLLOWED, "GET, POST"),
            ("TRACE", "/healthz", "GET"),
            ("PROPFIND", "/healthz", "GET"),
        ] {
            let answer = app.call(method, path).auth(ADMIN_KEY).send().await;
            assert_eq!(checked(&answer), no_method, "{method} {path}");
            assert_eq!(answer.headers["allow"], allow, "{method} {path}");
        }
    }
}

on_both! {
    async fn ids_that_are_not_guids_are_named(app: &TestApp) {
        let site = app.site().await;
        let data = json!({"expected": "GUID"});
        for id in [
            "u-1",
            "1",
            "null",
            "01a1fae0-1eff-77b5-972a-09dcdce0937",
            "%00",
            "%20",
            "a%2Fb",
            "01a1fae0-1eff-77b5-972a-09dcdce0937g",
        ] {
            for path in
                ["members", "sites", "apps", "app-instances", "webhook-subscriptions", "webhook-deliveries"]
            {
                let answer =
                    app.call("GET", &format!("/admin/v1/{path}/{id}")).key(ADMIN_KEY, &site.id).send().await;
                assert_eq!(
                    checked(&answer),
                    (400, violation("id", "FORMAT", "is not a GUID", &data)),
                    "{path}/{id}"
                );
            }
        }
        let not_utf8 = app.call("GET", "/admin/v1/members/%ff").key(ADMIN_KEY, &site.id).send().await;
        assert_eq!(checked(&not_utf8), (400, application("INVALID_ARGUMENT", "invalid path params")));
        for (path, field) in [
            ("/loyalty-social-media/v1/followed-channels?accountId=u-1", "accountId"),
            ("/loyalty-social-media/v1/followed-channels?accountId=", "accountId"),
            ("/loyalty-accounts/v1/accounts/fetch-by?memberId=u-1", "memberId"),
            ("/loyalty-accounts/v1/accounts/fetch-by?contactId=u-1", "contactId"),
            ("/admin/v1/webhook-deliveries?subscriptionId=u-1", "subscriptionId"),
            ("/admin/v1/webhook-deliveries?eventId=u-1", "eventId"),
            ("/.well-known/jwks.json?appId=u-1", "appId"),
        ] {
            let answer = app.call("GET", path).key(ADMIN_KEY, &site.id).send().await;
            assert_eq!(answer.violations(), [(field.to_owned(), "FORMAT".to_owned())], "{path}");
        }
    }
}

on_both! {
    async fn the_site_header_must_be_the_guid_of_a_site(app: &TestApp) {
        let site = app.site().await;
        let get = |site: &str| app.call("GET", FOLLOWED).key(ADMIN_KEY, site).send();
        for wrong in ["", "nordbrew", "1", &format!("{} x", site.id), &format!("{},{}", site.id, site.id)] {
            let answer = get(wrong).await;
            let expected = violation("wix-site-id", "FORMAT", "is not a GUID", &json!({}));
            assert_eq!(checked(&answer), (400, expected), "{wrong:?}");
        }
        let unknown = get(UNKNOWN_ID).await;
        assert_eq!(checked(&unknown), (404, application("SITE_NOT_FOUND", "there is no such site")));
        let which = app.call("GET", "/admin/v1/members").auth(ADMIN_KEY).send().await;
        let description = "an instance-wide key must say which site is meant";
        assert_eq!(
            checked(&which),
            (400, violation("wix-site-id", "REQUIRED_FIELD", description, &json!({})))
        );
    }
}

on_both! {
    async fn parameters_out_of_range_are_named(app: &TestApp) {
        let all = app.everything().await;
        for (query, field, rule) in [
            ("?limit=0", "limit", "MIN"),
            ("?limit=101", "limit", "MAX"),
            ("?limit=-1", "limit", "FORMAT"),
            ("?limit=4294967296", "limit", "FORMAT"),
            ("?limit=ten", "limit", "FORMAT"),
            ("?limit=", "limit", "FORMAT"),
            ("?limit=1.5", "limit", "FORMAT"),
            ("?cursor=x", "cursor", "FORMAT"),
            ("?cursor=", "cursor", "FORMAT"),
            ("?cursor=%00", "query", "FORMAT"),
            ("?externalId=a%00b", "query", "FORMAT"),
            ("?unknown=%00", "query", "FORMAT"),
        ] {
            let answer =
                app.call("GET", &format!("/admin/v1/members{query}")).auth(&all.admin.secret).send().await;
            assert_eq!(answer.violations(), [(field.to_owned(), rule.to_owned())], "{query}");
        }
        for (query, field, rule) in [
            ("?since=yesterday", "since", "FORMAT"),
            ("?since=2024-08-01", "since", "FORMAT"),
            ("?since=99999999-01-01T00:00:00Z", "since", "FORMAT"),
            ("?type=wix.unknown", "type", "INVALID_ENUM_VALUE"),
            ("?accountId=zz", "accountId", "FORMAT"),
        ] {
            let answer =
                app.call("GET", &format!("/admin/v1/events{query}")).auth(&all.admin.secret).send().await;
            assert_eq!(answer.violations(), [(field.to_owned(), rule.to_owned())], "{query}");
        }
        let states = ["PENDING", "RETRYING", "DELIVERED", "EXHAUSTED", "CANCELLED"];
        let of_states = format!("must be one of {}", states.join(", "));
        for (query, field, rule, description, data) in [
            ("?status=LOST", "status", "INVALID_ENUM_VALUE", of_states.as_str(), json!({"allowed": states})),
            ("?eventId=zz", "eventId", "FORMAT", "is not a GUID", json!({"expected": "GUID"})),
            ("?limit=x", "limit", "FORMAT", "must be an integer from 1 to 100", json!({"expected": "INTEGER"})),
            ("?limit=101", "limit", "MAX", "is between 1 and 100", json!({"threshold": 100})),
        ] {
            let path = format!("/admin/v1/webhook-deliveries{query}");
            let answer = app.call("GET", &path).auth(&all.admin.secret).send().await;
            assert_eq!(checked(&answer), (400, violation(field, rule, description, &data)), "{query}");
        }
        let both = format!("?memberId={}&contactId={}", all.member.id, all.member.contact_id);
        for query in ["", &both] {
            let path = format!("/loyalty-accounts/v1/accounts/fetch-by{query}");
            let answer = app.call("GET", &path).auth(&all.reader.secret).send().await;
            assert_eq!(answer.violations(), [("memberId".to_owned(), "ONE_OF_ALIGNMENT".to_owned())]);
        }
    }
}

on_both! {
    async fn a_cursor_that_somebody_made_up_does_no_harm(app: &TestApp) {
        let all = app.everything().await;
        let made_up = [
            ("/admin/v1/members", json!(["Filter", UNKNOWN_ID, {"external_id": "a\u{0}b"}])),
            ("/admin/v1/events", json!(["EventFilter", UNKNOWN_ID, {"event_type": "a\u{0}b", "since": null}])),
            ("/admin/v1/events", json!(["EventFilter", UNKNOWN_ID, {"event_type": null, "since": i64::MAX}])),
            ("/admin/v1/events", json!(["EventFilter", UNKNOWN_ID, {"event_type": null, "since": i64::MIN}])),
            ("/admin/v1/events", json!(["EventFilter", UNKNOWN_ID, null])),
            (
                "/admin/v1/webhook-deliveries",
                json!(["DeliveryFilter", UNKNOWN_ID, {"subscription": UNKNOWN_ID, "event": null, "status": "x"}]),
            ),
            ("/admin/v1/webhook-deliveries", json!(["DeliveryFilter", UNKNOWN_ID, {}])),
            ("/admin/v1/sites", json!(["()", "00000000-0000-0000-0000-000000000000", null])),
            ("/admin/v1/sites", json!(["()", "ffffffff-ffff-ffff-ffff-ffffffffffff", null])),
            ("/admin/v1/sites", json!(["()", 1, null])),
        ];
        let mut failed = Vec::new();
        for (path, text) in made_up {
            let cursor = URL_SAFE_NO_PAD.encode(text.to_string());
            let answer =
                app.call("GET", &format!("{path}?cursor={cursor}")).auth(&all.admin.secret).send().await;
            let status = checked(&answer).0;
            if status != 200 && status != 400 {
                failed.push(format!("{path} {text}: {status}"));
            }
        }
        assert_eq!(failed, Vec::<String>::new());
    }
}

on_both! {
    async fn a_cursor_is_good_for_its_own_list_only(app: &TestApp) {
        let all = app.everything().await;
        let key = &all.admin.secret;
        let page = async |path: String| app.call("GET", &path).auth(key).send().await;
        app.member(&all.site, "another").await;
        let first = page("/admin/v1/members?limit=1".to_owned()).await.json();
        let cursor = first["pagingMetadata"]["cursors"]["next"].as_str().unwrap();
        assert_eq!(checked(&page(format!("/admin/v1/members?cursor={cursor}")).await).0, 200);
        for list in ["events", "webhook-deliveries", "webhook-replays", "activities", "apps", "api-keys"] {
            let refused = page(format!("/admin/v1/{list}?cursor={cursor}")).await;
            assert_eq!(refused.violations(), [("cursor".to_owned(), "FORMAT".to_owned())], "{list}");
        }
    }
}

on_both! {
    async fn unreadable_credentials_are_nobodys_and_never_our_fault(app: &TestApp) {
        let site = app.site().await;
        let head = encode_part(&json!({"alg": "RS256", "typ": "JWT"}));
        for token in [
            "x".to_owned(),
            "a".repeat(8 * 1024 + 1),
            "a.b.c".to_owned(),
            "fpk_".to_owned(),
            "fpr_".to_owned(),
            ",".to_owned(),
            format!("{head}.{}.c2ln", "W10"),
            format!("{head}.{}.c2ln", encode_part(&json!({"iss": "i", "aud": vec!["a"; 1000]}))),
        ] {
            for site in ["", site.id.as_str()] {
                let mut call = app.call("GET", FOLLOWED).auth(&token);
                if !site.is_empty() {
                    call = call.header("wix-site-id", site);
                }
                let answer = call.send().await;
                let expected = application("UNAUTHENTICATED", "the token or key is not valid");
                assert_eq!(checked(&answer), (401, expected), "{}", &token[..token.len().min(200)]);
            }
        }
    }
}

on_both! {
    async fn an_idempotency_key_is_limited(app: &TestApp) {
        let site = app.site().await;
        let member = app.member(&site, "u-1").await;
        let wish = json!({"followedChannel": {"channel": "X"}});
        let send = |key: &str| {
            app.call("POST", FOLLOWED).auth(&member.token).header("idempotency-key", key).json(&wish).send()
        };
        for (wrong, rule) in [
            (String::new(), "MIN_LENGTH"),
            ("k".repeat(257), "MAX_LENGTH"),
            ("bestellung-größe-1".to_owned(), "FORMAT"),
        ] {
            let violations = send(&wrong).await.violations();
            assert_eq!(violations, [("Idempotency-Key".to_owned(), rule.to_owned())], "{wrong}");
        }
        assert_eq!(send(&"k".repeat(256)).await.status.as_u16(), 200);
    }
}

on_both! {
    async fn without_connections_callers_are_told_to_come_back_and_nothing_but_the_request_id(app: &TestApp) {
        let all = app.everything().await;
        let followed = format!("{FOLLOWED}?accountId={}", all.account_id);
        app.app.db.close().await.unwrap();
        for (method, path) in [
            ("GET", "/loyalty-programs/v1/program"),
            ("GET", followed.as_str()),
            ("GET", "/admin/v1/members"),
            ("POST", "/loyalty-programs/v1/program/pause"),
        ] {
            let answer = app
                .call(method, path)
                .auth(&all.admin.secret)
                .header("wix-site-id", &all.site.id)
                .send()
                .await;
            let (status, body) = checked(&answer);
            assert_eq!((status, body), (503, json!({"message": "", "details": {}})), "{path}");
            assert_eq!(answer.headers["retry-after"], "1", "{path}");
        }
        let answer = app.token(&json!({"grantType": "anonymous", "clientId": all.front_end})).await;
        let busy = json!({"error": "temporarily_unavailable", "error_description": "overloaded; try again"});
        assert_eq!(checked(&answer), (503, busy));
        assert_eq!(answer.headers["retry-after"], "1");
    }
}
