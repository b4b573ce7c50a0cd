//! Liveness, readiness, metrics, request ids.

use std::collections::BTreeSet;

use base64::Engine as _;
use entity::{endpoint, node};
use followpoints::webhooks::endpoints::LEASE_MS;
use futures_util::future::join_all;
use sea_orm::ActiveValue::Set;
use sea_orm::{ActiveModelTrait as _, ConnectionTrait as _, EntityTrait as _, IntoActiveModel as _};
use serde_json::{Value, json};

use crate::on_both;
use crate::support::TestApp;
use crate::support::receiver::Receiver;
use crate::support::world::ALL_EVENTS;

/// Runs `sql` in a transaction of its own.
async fn change(app: &TestApp, sql: &str) {
    let tx = app.app.db.write().await.unwrap();
    tx.conn().execute_unprepared(sql).await.unwrap();
    tx.commit().await.unwrap();
}

/// Status, whether it says ready, and the checks that failed with what was seen.
async fn readiness(app: &TestApp) -> (u16, Value, Vec<(String, String)>) {
    let answer = app.call("GET", "/readyz").send().await;
    let body = answer.json();
    let text = |value: &Value| value.as_str().unwrap().to_owned();
    let checks = body["checks"].as_array().unwrap();
    let names: Vec<_> = checks.iter().map(|check| text(&check["name"])).collect();
    assert_eq!(names, ["database", "dispatcher", "deliveries"]);
    let failed = checks.iter().filter(|check| check["ok"] == false);
    let failed = failed.map(|check| (text(&check["name"]), text(&check["detail"]))).collect();
    (answer.status.as_u16(), body["ready"].clone(), failed)
}

on_both! {
    async fn a_service_in_order_is_alive_and_ready(app: &TestApp) {
        let alive = app.call("GET", "/healthz").send().await;
        assert_eq!((alive.status.as_u16(), alive.json()), (200, json!({"status": "ok"})));
        let body = app.call("GET", "/readyz").ok().await;
        let seen = body["checks"][1]["detail"].clone();
        assert_eq!(
            body,
            json!({"ready": true, "checks": [
                {"name": "database", "ok": true, "detail": "reachable and migrated"},
                {"name": "dispatcher", "ok": true, "detail": seen},
                {"name": "deliveries", "ok": true, "detail": "nothing is due"},
            ]})
        );
        assert!(seen.as_str().unwrap().starts_with("last look for due deliveries "), "{seen}");
    }
}

on_both! {
    async fn deliveries_that_nobody_takes_for_a_minute_are_not_ready(app: &TestApp) {
        let site = app.site().await;
        let installed = app.installed_app(&site).await;
        let receiver = Receiver::start().await;
        app.subscribe(&site, &installed, &ALL_EVENTS, &receiver.url).await;
        // They belong to a node that lives and does not look at them.
        let tx = app.app.db.write().await.unwrap();
        let (other, due) = (tx.new_id(), tx.now());
        let node = node::Model { id: other, session: 1, alive_until: due.plus_ms(LEASE_MS) };
        node::Entity::insert(node::ActiveModel::from(node)).exec_without_returning(tx.conn()).await.unwrap();
        let mut endpoint = endpoint::Entity::find().one(tx.conn()).await.unwrap().unwrap().into_active_model();
        (endpoint.owner, endpoint.due_at) = (Set(Some(other)), Set(due.plus_ms(-60_000)));
        endpoint.clone().update(tx.conn()).await.unwrap();
        tx.commit().await.unwrap();
        assert_eq!(readiness(app).await, (200, json!(true), Vec::new()));

        let tx = app.app.db.write().await.unwrap();
        endpoint.due_at = Set(due.plus_ms(-60_001));
        endpoint.update(tx.conn()).await.unwrap();
        tx.commit().await.unwrap();
        let failed = vec![("deliveries".to_owned(), "oldest due delivery waits for 60001 ms".to_owned())];
        assert_eq!(readiness(app).await, (503, json!(false), failed));
        let metrics = app.call("GET", "/metrics").send().await.text;
        assert!(metrics.contains("\nfollowpoints_webhook_oldest_due_seconds 60\n"), "{metrics}");
    }
}

on_both! {
    async fn a_schema_that_is_behind_is_not_ready(app: &TestApp) {
        change(
            app,
            "DELETE FROM seaql_migrations WHERE version = (SELECT max(version) FROM seaql_migrations)",
        )
        .await;
        let behind = "the database schema is 1 step(s) behind; run `followpoints migrate` with the same \
                                  FOLLOWPOINTS_DATABASE_URL";
        let failed = vec![("database".to_owned(), behind.to_owned())];
        assert_eq!(readiness(app).await, (503, json!(false), failed));
        assert_eq!(app.call("GET", "/healthz").send().await.status.as_u16(), 200);
    }
}

on_both! {
    async fn a_schema_of_a_newer_program_is_ready_while_this_one_runs_and_refused_at_a_start(app: &TestApp) {
        change(app, "INSERT INTO seaql_migrations (version, applied_at) VALUES ('m9999_from_the_future', 0)")
            .await;
        assert_eq!(readiness(app).await, (200, json!(true), Vec::new()));
        let refused = app.app.db.check_schema().await.unwrap_err().to_string();
        assert!(refused.ends_with("; was it made by a newer followpoints?"), "{refused}");
        change(app, "DELETE FROM seaql_migrations WHERE version = 'm0001_sites_and_members'").await;
        let (status, _, failed) = readiness(app).await;
        assert_eq!((status, failed.len()), (503, 1), "what is missing still matters");
        assert!(failed[0].1.starts_with("the database schema is 1 step(s) behind"), "{failed:?}");
    }
}

on_both! {
    async fn a_database_that_is_gone_is_not_ready_but_the_process_is_alive(app: &TestApp) {
        app.app.db.close().await.unwrap();
        let away = |name: &str| (name.to_owned(), "the database does not answer".to_owned());
        let failed = vec![away("database"), away("deliveries")];
        assert_eq!(readiness(app).await, (503, json!(false), failed));
        assert_eq!(app.call("GET", "/healthz").send().await.status.as_u16(), 200);
    }
}

on_both! {
    async fn metrics_come_without_what_only_the_database_knows_while_it_is_away(app: &TestApp) {
        let of_database =
            ["followpoints_webhook_oldest_due_seconds", "followpoints_webhook_failing_receivers"];
        let there = app.call("GET", "/metrics").send().await.text;
        app.app.db.close().await.unwrap();
        let answer = app.call("GET", "/metrics").send().await;
        assert_eq!(answer.status.as_u16(), 200, "{}", answer.text);
        for name in of_database {
            assert!(there.contains(&format!("\n{name} 0\n")), "{there}");
            assert!(!answer.text.contains(name), "{}", answer.text);
        }
        assert!(answer.text.contains("\nfollowpoints_webhook_jobs 0\n"), "{}", answer.text);
        assert_eq!(counted(app, "followpoints_http_requests_total{operation=\"getMetrics\",status=\"200\"}").await, 2);
    }
}

/// The value of a counter's line.
async fn counted(app: &TestApp, line: &str) -> u64 {
    let text = app.call("GET", "/metrics").send().await.text;
    let found = text.lines().find_map(|other| other.strip_prefix(line)?.strip_prefix(' '));
    found.map_or(0, |value| value.parse().unwrap())
}

on_both! {
    async fn metrics_count_requests_by_operation_and_status(app: &TestApp) {
        let all = app.everything().await;
        let followed = "/loyalty-social-media/v1/followed-channels";
        let good = "followpoints_http_requests_total{operation=\"listFollowedChannels\",status=\"200\"}";
        let refused = "followpoints_http_requests_total{operation=\"listFollowedChannels\",status=\"401\"}";
        let lost = "followpoints_http_requests_total{operation=\"none\",status=\"404\"}";
        let before = [counted(app, good).await, counted(app, refused).await, counted(app, lost).await];
        for _ in 0..3 {
            app.call("GET", followed).auth(&all.member.token).ok().await;
        }
        app.call("GET", followed).send().await;
        app.call("GET", "/nothing/at/all").send().await;
        let after = [counted(app, good).await, counted(app, refused).await, counted(app, lost).await];
        assert_eq!(after, [before[0] + 3, before[1] + 1, before[2] + 1]);
    }
}

on_both! {
    async fn metrics_are_prometheus_text_with_nobodys_id_in_it(app: &TestApp) {
        let all = app.everything().await;
        let answer = app.call("GET", "/metrics").send().await;
        assert!(answer.headers["content-type"].to_str().unwrap().starts_with("text/plain"));
        for (name, kind) in [
            ("followpoints_http_requests_total", "counter"),
            ("followpoints_http_request_seconds", "histogram"),
            ("followpoints_webhook_attempts_total", "counter"),
            ("followpoints_webhook_delivery_seconds", "histogram"),
            ("followpoints_webhook_jobs", "gauge"),
            ("followpoints_webhook_in_flight", "gauge"),
            ("followpoints_webhook_oldest_due_seconds", "gauge"),
            ("followpoints_webhook_failing_receivers", "gauge"),
        ] {
            assert!(answer.text.contains(&format!("# TYPE {name} {kind}\n")), "{name}");
            assert!(answer.text.contains(&format!("# HELP {name} ")), "{name}");
        }
        let delivered = "followpoints_webhook_attempts_total{error=\"\",outcome=\"delivered\"}";
        assert_eq!(counted(app, delivered).await, 1);
        for id in [&all.site.id, &all.member.id, &all.app.id] {
            assert!(!answer.text.contains(id.as_str()), "{id}");
        }
    }
}

on_both! {
    async fn every_answer_has_a_request_id_of_its_own(app: &TestApp) {
        let site = app.site().await;
        let member = app.member(&site, "u-1").await;
        let calls = (0..100).map(|number| match number % 4 {
            0 => app.call("GET", "/loyalty-social-media/v1/followed-channels").auth(&member.token).send(),
            1 => app.call("GET", "/nothing").header("x-wix-request-id", "mine").send(),
            2 => app.call("POST", "/oauth2/token").send(),
            _ => app.call("OPTIONS", "/healthz").header("access-control-request-method", "GET").send(),
        });
        let ids: BTreeSet<_> = join_all(calls)
            .await
            .iter()
            .map(|answer| {
                uuid::Uuid::try_parse(answer.headers["x-wix-request-id"].to_str().unwrap()).unwrap()
            })
            .collect();
        assert_eq!(ids.len(), 100);
    }
}

on_both! {
    async fn the_document_and_its_reader_come_from_the_binary(app: &TestApp) {
        let document = app.call("GET", "/openapi.json").ok().await;
        assert_eq!(document["openapi"], json!("3.1.0"));
        assert_eq!(&document, followpoints::http::openapi::document());
        assert_eq!(app.call("POST", "/docs").send().await.status.as_u16(), 405);
        let reader = app.call("GET", "/docs").send().await;
        assert_eq!(reader.status.as_u16(), 200);
        assert!(reader.headers["content-type"].to_str().unwrap().starts_with("text/html"));
        assert!(reader.text.contains("<title>Followpoints API"));
        for attribute in ["src=\"http", "href=\"http", "src=\"//", "href=\"//"] {
            assert!(
                !reader.text.contains(attribute),
                "the reader loads something from elsewhere: {attribute}"
            );
        }
    }
}

on_both! {
    async fn the_reader_calls_where_it_came_from_and_may_do_nothing_else(app: &TestApp) {
        let reader = app.call("GET", "/docs").send().await;
        assert!(reader.text.contains("\"servers\":[{"), "the document is in it");
        assert!(reader.text.contains("\"url\":\".\"}]"), "it calls below its own path");
        let document = app.call("GET", "/openapi.json").ok().await;
        assert_eq!(document["servers"], json!([{"url": "/"}]));

        let header = |name: &str| reader.headers[name].to_str().unwrap();
        assert_eq!((header("x-content-type-options"), header("referrer-policy")), ("nosniff", "no-referrer"));
        assert_eq!((header("x-frame-options"), header("cache-control")), ("DENY", "no-cache"));
        let hash = |text: &str| {
            let digest = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, text.as_bytes());
            format!(" 'sha256-{}'", base64::engine::general_purpose::STANDARD.encode(digest))
        };
        let between = |begin: &str, end: &str| {
            let after = reader.text.split_once(begin).unwrap().1;
            hash(after.split_once(end).unwrap().0)
        };
        let policy = format!(
            "default-src 'none'; script-src{}{}; style-src{}; img-src data:; connect-src 'self'; base-uri 'none'; \
             form-action 'none'; frame-ancestors 'none'",
            between("<script charset=\"UTF-8\">", "</script>"),
            between("</div>\n<script>", "</script>"),
            between("<style charset=\"UTF-8\">", "</style>"),
        );
        assert_eq!(header("content-security-policy"), policy);

        let known = |tag: &str| app.call("GET", "/docs").header("if-none-match", tag).send();
        let tag = header("etag").to_owned();
        let same = known(&tag).await;
        assert_eq!((same.status.as_u16(), same.text.as_str()), (304, ""));
        assert_eq!(same.headers["etag"].to_str().unwrap(), tag);
        assert_eq!(known(&format!("\"other\", W/{tag}")).await.status.as_u16(), 304);
        assert_eq!(known("\"other\"").await.status.as_u16(), 200);
    }
}
