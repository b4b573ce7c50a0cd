//! How a connection is, worked out from its row.

use entity::connection;
use entity::id::Timestamp;
use entity::kinds::Platform;
use followpoints::connections::state::{self, Signs, State};
use serde_json::json;

use crate::on_both;
use crate::support::{ADMIN_KEY, Options};

const DAY_MS: i64 = 24 * 3_600_000;

type Change = fn(&mut connection::Model, Timestamp);

fn state(row: &connection::Model, is_development: bool, now: Timestamp) -> State {
    state::state(&Signs::from(row), is_development, now)
}

on_both! {
    async fn every_state_is_told_in_a_word_and_a_sentence(app: &TestApp) {
        let site = app.site().await;
        let mut cases: Vec<(Change, &str, &str)> = vec![
            (|_, _| {}, "CONNECTED", "The account is connected."),
            (
                |row, now| row.created_at = now.plus_ms(-7 * DAY_MS),
                "SILENT",
                "Nothing has arrived since 2024-07-25T11:51:41.431Z.",
            ),
            (
                |row, now| {
                    row.created_at = now.plus_ms(-100 * DAY_MS);
                    row.last_item_at = Some(now.plus_ms(-7 * DAY_MS));
                },
                "SILENT",
                "Nothing has arrived since 2024-07-25T11:51:41.431Z.",
            ),
            (
                |row, _| r#"["pages_messaging"]"#.clone_into(&mut row.missing_permissions),
                "PERMISSION_MISSING",
                "pages_messaging is missing",
            ),
            (
                |row, now| row.limited_until = Some(now.plus_ms(1)),
                "RATE_LIMITED",
                "goes on after 2024-08-01T11:51:41.432Z",
            ),
            (
                |row, now| row.token_expires_at = Some(now.plus_ms(7 * DAY_MS)),
                "TOKEN_EXPIRING",
                "The access ends at 2024-08-08T11:51:41.431Z",
            ),
            (|row, now| row.dead_since = Some(now), "REVOKED", "Reconnect the account with a new invitation."),
        ];
        // Each of them outweighs those before it.
        for count in 1..cases.len() {
            cases.push((cases[count].0, cases[count].1, cases[count].2));
        }
        for (index, (change, word, sentence)) in cases.iter().enumerate() {
            let mut row = app.blank_connection(&site, &format!("account-{index}"));
            let now = row.created_at;
            if index >= 7 {
                for (weaker, ..) in &cases[..index - 6] {
                    weaker(&mut row, now);
                }
            }
            change(&mut row, now);
            let row = app.store(row).await;
            let path = format!("/admin/v1/connections/{}", row.id);
            let shown = app.call("GET", &path).key(ADMIN_KEY, &site.id).ok().await["connection"].clone();
            assert_eq!(shown["state"], json!(word), "{index}");
            let told = shown["stateDescription"].as_str().unwrap();
            assert!(told.contains(sentence), "{index}: {told}");
        }
    }
}

on_both! {
    options: Options {
        platforms: vec![("FOLLOWPOINTS_META_MODE", "development".to_owned())],
        ..Options::default()
    },
    async fn the_operator_says_that_metas_app_is_in_development_mode(app: &TestApp) {
        let site = app.site().await;
        let cases: [(Change, &str); 4] = [
            (|_, _| {}, "DEVELOPMENT_MODE"),
            (|row, _| r#"["pages_messaging"]"#.clone_into(&mut row.missing_permissions), "DEVELOPMENT_MODE"),
            (|row, now| row.limited_until = Some(now.plus_ms(1)), "RATE_LIMITED"),
            (|row, _| row.platform = Platform::Tiktok, "CONNECTED"),
        ];
        for (index, (change, word)) in cases.into_iter().enumerate() {
            let mut row = app.blank_connection(&site, &format!("account-{index}"));
            let now = row.created_at;
            change(&mut row, now);
            let row = app.store(row).await;
            let path = format!("/admin/v1/connections/{}", row.id);
            let shown = app.call("GET", &path).key(ADMIN_KEY, &site.id).ok().await["connection"].clone();
            assert_eq!(shown["state"], json!(word), "{index}");
        }
        let metrics = app.call("GET", "/metrics").send().await.text;
        let counted: Vec<_> = metrics.lines().filter(|line| line.starts_with("followpoints_connections{")).collect();
        assert_eq!(counted.len(), 14, "every state of every platform: {counted:?}");
        let more: Vec<_> = counted.into_iter().filter(|line| !line.ends_with(" 0")).collect();
        assert_eq!(more, [
            r#"followpoints_connections{platform="INSTAGRAM",state="DEVELOPMENT_MODE"} 2"#,
            r#"followpoints_connections{platform="INSTAGRAM",state="RATE_LIMITED"} 1"#,
            r#"followpoints_connections{platform="TIKTOK",state="CONNECTED"} 1"#,
        ]);
    }
}

on_both! {
    async fn what_is_over_counts_no_more_and_what_renews_itself_is_not_late(app: &TestApp) {
        let site = app.site().await;
        let row = app.blank_connection(&site, "account");
        let now = row.created_at;
        let with = |change: Change| {
            let mut row = row.clone();
            change(&mut row, now);
            state(&row, false, now)
        };
        assert_eq!(with(|row, now| row.limited_until = Some(now)), State::Connected);
        assert_eq!(with(|row, now| row.token_expires_at = Some(now.plus_ms(7 * DAY_MS + 1))), State::Connected);
        assert_eq!(with(|row, now| row.created_at = now.plus_ms(1 - 7 * DAY_MS)), State::Connected);
        let refreshed = |row: &mut connection::Model, end| {
            row.refresh_token = Some(vec![1]);
            row.token_expires_at = Some(end);
        };
        let mut daily = row.clone();
        refreshed(&mut daily, now.plus_ms(1));
        assert_eq!(state(&daily, false, now), State::Connected, "a token of a day that is renewed by itself");
        refreshed(&mut daily, now);
        assert_eq!(state(&daily, false, now), State::TokenExpiring(now), "it was not renewed");
    }
}
