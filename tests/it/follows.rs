//! The follow: its rule in its order, its refusals, and G1, G2.

use futures_util::future::join_all;
use sea_orm::ConnectionTrait as _;
use serde_json::{Value, json};

use crate::on_both;
use crate::support::ADMIN_KEY;
use crate::support::world::{Member, text};

const PATH: &str = "/loyalty-social-media/v1/followed-channels";

fn wish(channel: &str) -> Value {
    json!({"followedChannel": {"channel": channel}})
}

on_both! {
    async fn a_follow_answers_the_entity_and_awards_the_channels_points(app: &TestApp) {
        let site = app.site().await;
        let member = app.member(&site, "u-1").await;

        let body = app.call("POST", PATH).auth(&member.token).json(&wish("X")).ok().await;

        let account = app.account(&member).await;
        let created = &body["followedChannel"];
        assert_eq!(
            body,
            json!({"followedChannel": {
                "id": created["id"], "accountId": account["id"], "channel": "X",
                "createdDate": "2024-08-01T11:51:41.431Z",
            }})
        );
        assert_eq!(
            account,
            json!({
                "id": account["id"], "contactId": member.contact_id, "memberId": member.id,
                "points": {"balance": 50, "earned": 50, "adjusted": 0, "redeemed": 0, "expired": 0},
                "lastActivityDate": "2024-08-01T11:51:41.431Z", "createdDate": "2024-08-01T11:51:41.431Z",
                "updatedDate": "2024-08-01T11:51:41.431Z", "revision": "2",
            })
        );
    }
}

on_both! {
    async fn g1_two_hundred_parallel_follows_make_one_row_one_award_one_event(app: &TestApp) {
        let site = app.site().await;
        let member = app.member(&site, "u-1").await;

        let calls = (0..200).map(|_| app.call("POST", PATH).auth(&member.token).json(&wish("X")).send());
        let answers = join_all(calls).await;

        let succeeded: Vec<_> = answers.iter().filter(|answer| answer.status.as_u16() == 200).collect();
        assert_eq!(succeeded.len(), 1);
        let row = succeeded[0].json()["followedChannel"].clone();
        for answer in answers.iter().filter(|answer| answer.status.as_u16() != 200) {
            assert_eq!(answer.error(), (409, "ALREADY_EXISTS".to_owned()));
            assert_eq!(answer.json()["details"]["applicationError"]["data"], json!({"followedChannel": row}));
        }
        let listed = app.call("GET", PATH).auth(&member.token).ok().await;
        assert_eq!(listed, json!({"followedChannels": [row]}));
        assert_eq!(app.account(&member).await["points"]["balance"], 50);
        let events = app.admin_list(&site, "/admin/v1/events", "events").await;
        let types: Vec<_> = events.iter().map(|event| text(&event["eventType"])).collect();
        assert_eq!(
            types,
            [
                "wix.loyalty.v1.account_updated",
                "wix.loyalty.v1.account_points_updated",
                "wix.loyalty.socialmedia.v1.followed_channel_created",
                "wix.loyalty.v1.account_created",
            ]
        );
    }
}

on_both! {
    async fn many_members_at_once_each_get_their_own_outcome(app: &TestApp) {
        let site = app.site().await;
        let mut members: Vec<Member> = Vec::new();
        for number in 0..30 {
            members.push(app.member(&site, &format!("u-{number}")).await);
        }

        let calls = members.iter().flat_map(|member| {
            ["X", "INSTAGRAM", "X", "TIKTOK"]
                .map(|channel| app.call("POST", PATH).auth(&member.token).json(&wish(channel)).send())
        });
        let answers = join_all(calls).await;

        let mut statuses: Vec<u16> = answers.iter().map(|answer| answer.status.as_u16()).collect();
        statuses.sort_unstable();
        assert_eq!(statuses, [vec![200; 60], vec![409; 30], vec![428; 30]].concat());
        for member in &members {
            let account = app.account(member).await;
            assert_eq!(account["points"]["balance"], 80);
            assert_eq!(account["revision"], "3");
            let listed = app.call("GET", PATH).auth(&member.token).ok().await;
            for row in listed["followedChannels"].as_array().unwrap() {
                assert_eq!(row["accountId"], account["id"]);
            }
        }
    }
}

on_both! {
    async fn refusals_come_in_the_order_of_the_rule_and_change_nothing(app: &TestApp) {
        let site = app.draft_site().await;
        let member = app.member(&site, "u-1").await;
        let send = |body: Value| app.call("POST", PATH).auth(&member.token).json(&body).send();

        let required = |field: &str| vec![(field.to_owned(), "REQUIRED_FIELD".to_owned())];
        assert_eq!(send(json!({})).await.violations(), required("followedChannel"));
        assert_eq!(send(json!({"followedChannel": null})).await.violations(), required("followedChannel"));
        assert_eq!(send(json!({"followedChannel": {}})).await.violations(), required("followedChannel.channel"));
        assert_eq!(
            send(wish("MYSPACE")).await.violations(),
            [("followedChannel.channel".to_owned(), "INVALID_ENUM_VALUE".to_owned())]
        );
        assert_eq!(
            send(json!({"followedChannel": {"channel": 7}})).await.violations(),
            [("followedChannel.channel".to_owned(), "FORMAT".to_owned())]
        );
        assert_eq!(
            send(json!([])).await.violations(),
            [("body".to_owned(), "FORMAT".to_owned())]
        );

        let not_active = send(wish("TIKTOK")).await;
        assert_eq!(
            not_active.json(),
            json!({"message": "the loyalty program is DRAFT", "details": {"applicationError": {
                "code": "PROGRAM_NOT_ACTIVE", "description": "the loyalty program is DRAFT", "data": {"status": "DRAFT"},
            }}})
        );
        assert_eq!(not_active.status.as_u16(), 428);

        app.call("POST", "/loyalty-programs/v1/program/activate").key(ADMIN_KEY, &site.id).ok().await;
        let not_enabled = send(wish("TIKTOK")).await;
        assert_eq!(not_enabled.status.as_u16(), 428);
        assert_eq!(
            not_enabled.json(),
            json!({"message": "channel TIKTOK is not enabled", "details": {"applicationError": {
                "code": "CHANNEL_NOT_ENABLED", "description": "channel TIKTOK is not enabled",
                "data": {"channel": "TIKTOK"},
            }}})
        );

        assert_eq!(app.admin_list(&site, "/admin/v1/events", "events").await, Vec::<Value>::new());
        let account = app.call("GET", "/loyalty-accounts/v1/accounts/my-account").auth(&member.token).send().await;
        assert_eq!(account.error(), (404, "ACCOUNT_NOT_FOUND".to_owned()));

        app.call("POST", "/loyalty-programs/v1/program/pause").key(ADMIN_KEY, &site.id).ok().await;
        let paused = send(wish("X")).await;
        assert_eq!(paused.json()["details"]["applicationError"]["data"], json!({"status": "PAUSED"}));
    }
}

on_both! {
    async fn read_only_fields_and_an_account_id_of_a_member_are_ignored(app: &TestApp) {
        let site = app.site().await;
        let (member, other) = (app.member(&site, "u-1").await, app.member(&site, "u-2").await);
        app.follow(&other, "X").await;
        let others = app.account(&other).await["id"].clone();

        let body = json!({"followedChannel": {
            "id": "not-a-guid", "accountId": others, "channel": "X", "createdDate": 17, "_unknown": [],
        }});
        let created = app.call("POST", PATH).auth(&member.token).json(&body).ok().await;

        assert_eq!(created["followedChannel"]["accountId"], app.account(&member).await["id"]);
        assert_eq!(created["followedChannel"]["createdDate"], "2024-08-01T11:51:41.431Z");

        let body = json!({"followedChannel": {"accountId": 17, "channel": "INSTAGRAM"}});
        app.call("POST", PATH).auth(&member.token).json(&body).ok().await;
    }
}

on_both! {
    async fn the_list_is_newest_first_and_empty_for_a_member_without_an_account(app: &TestApp) {
        let site = app.site().await;
        let member = app.member(&site, "u-1").await;
        let empty = app.call("GET", PATH).auth(&member.token).ok().await;
        assert_eq!(empty, json!({"followedChannels": []}));

        let first = app.follow(&member, "X").await;
        app.clock.advance_ms(1);
        let second = app.follow(&member, "FACEBOOK").await;
        app.clock.advance_ms(1);
        let third = app.follow(&member, "INSTAGRAM").await;

        let mounted_twice = format!("/_api{PATH}?unknown=key");
        let listed = app.call("GET", &mounted_twice).auth(&format!("Bearer {}", member.token)).ok().await;
        assert_eq!(listed, json!({"followedChannels": [third, second, first]}));
        assert_eq!(app.account(&member).await["points"]["balance"], 80);
    }
}

on_both! {
    async fn apps_and_keys_name_the_account(app: &TestApp) {
        let site = app.site().await;
        let member = app.member(&site, "u-1").await;
        let row = app.follow(&member, "X").await;
        let account = text(&row["accountId"]);
        let installed = app.installed_app(&site).await;
        let token = app.app_token(&installed).await;

        let path = format!("{PATH}?accountId={account}");
        assert_eq!(app.call("GET", &path).auth(&token).ok().await, json!({"followedChannels": [row]}));
        assert_eq!(app.call("GET", &path).key(ADMIN_KEY, &site.id).ok().await, json!({"followedChannels": [row]}));
        let missing = app.call("GET", PATH).auth(&token).send().await;
        assert_eq!(missing.violations(), [("accountId".to_owned(), "REQUIRED_FIELD".to_owned())]);
        let missing = app.call("POST", PATH).auth(&token).json(&wish("INSTAGRAM")).send().await;
        assert_eq!(missing.violations(), [("followedChannel.accountId".to_owned(), "REQUIRED_FIELD".to_owned())]);

        let body = json!({"followedChannel": {"channel": "INSTAGRAM", "accountId": account}});
        let created = app.call("POST", PATH).auth(&token).json(&body).ok().await;
        assert_eq!(created["followedChannel"]["accountId"], json!(account));
        let identity = app.admin_list(&site, "/admin/v1/events?limit=1", "events").await[0]["identity"].clone();
        assert_eq!(identity, json!({"identityType": "APP", "appId": installed.id}));

        let body = json!({"followedChannel": {"channel": "MYSPACE", "accountId": account}});
        let wrong = app.call("POST", PATH).auth(&token).json(&body).send().await;
        assert_eq!(wrong.violations(), [("followedChannel.channel".to_owned(), "INVALID_ENUM_VALUE".to_owned())]);
        for unknown in ["01a1fae0-1eff-77b5-972a-09dcdce0937d", &site.id] {
            let body = json!({"followedChannel": {"channel": "X", "accountId": unknown}});
            let answer = app.call("POST", PATH).auth(&token).json(&body).send().await;
            assert_eq!(answer.error(), (404, "ACCOUNT_NOT_FOUND".to_owned()));
            // Whose account it is comes first, whatever else is wrong.
            let body = json!({"followedChannel": {"channel": "MYSPACE", "accountId": unknown}});
            let answer = app.call("POST", PATH).auth(&token).json(&body).send().await;
            assert_eq!(answer.error(), (404, "ACCOUNT_NOT_FOUND".to_owned()));
            let path = format!("{PATH}?accountId={unknown}");
            let answer = app.call("GET", &path).auth(&token).send().await;
            assert_eq!(answer.error(), (404, "ACCOUNT_NOT_FOUND".to_owned()));
        }
    }
}

on_both! {
    async fn a_repeat_with_the_same_idempotency_key_gets_the_first_answer(app: &TestApp) {
        let site = app.site().await;
        let member = app.member(&site, "u-1").await;
        let send = |channel: &str, key: &str| {
            app.call("POST", PATH).auth(&member.token).header("idempotency-key", key).json(&wish(channel)).send()
        };

        let first = send("X", "k-1").await;
        app.call("POST", "/loyalty-programs/v1/program/pause").key(ADMIN_KEY, &site.id).ok().await;
        let again = send("X", "k-1").await;
        let other_channel = send("INSTAGRAM", "k-1").await;
        app.call("POST", "/loyalty-programs/v1/program/activate").key(ADMIN_KEY, &site.id).ok().await;
        let other_key = send("X", "k-2").await;

        assert_eq!(first.status.as_u16(), 200);
        assert_eq!((again.status.as_u16(), again.json()), (200, first.json()));
        assert_eq!(other_channel.error(), (409, "IDEMPOTENCY_KEY_REUSED".to_owned()));
        assert_eq!(other_key.error(), (409, "ALREADY_EXISTS".to_owned()));
        assert_eq!(app.account(&member).await["points"]["balance"], 50);
    }
}

on_both! {
    async fn a_change_of_settings_counts_for_the_very_next_follow(app: &TestApp) {
        let site = app.site().await;
        let (one, two) = (app.member(&site, "u-1").await, app.member(&site, "u-2").await);
        app.follow(&one, "X").await;

        let body = json!({"socialMediaSettings": {"channels": [{"type": "X", "points": 7}]}});
        app.call("PATCH", "/admin/v1/social-media-settings").key(ADMIN_KEY, &site.id).json(&body).ok().await;
        app.follow(&two, "X").await;

        assert_eq!(app.account(&two).await["points"]["balance"], 7);
    }
}

on_both! {
    async fn a_member_whose_account_was_removed_by_hand_gets_a_new_one(app: &TestApp) {
        let site = app.site().await;
        let settings = json!({"socialMediaSettings": {"revision": "2", "channels": [
            {"type": "X", "enabled": true, "id": "nordbrew", "points": 0},
        ]}});
        app.call("PATCH", "/admin/v1/social-media-settings").key(ADMIN_KEY, &site.id).json(&settings).ok().await;
        let member = app.member(&site, "u-1").await;
        let first = app.follow(&member, "X").await;
        for table in ["followed_channel", "account"] {
            app.app.db.read().execute_unprepared(&format!("DELETE FROM {table}")).await.unwrap();
        }

        let listed = app.call("GET", PATH).auth(&member.token).ok().await;
        assert_eq!(listed, json!({"followedChannels": []}));
        let second = app.follow(&member, "X").await;
        assert_ne!(first["accountId"], second["accountId"]);
        let listed = app.call("GET", PATH).auth(&member.token).ok().await;
        assert_eq!(listed, json!({"followedChannels": [second]}));
    }
}
