//! Social-media settings.

use serde_json::{Value, json};

use crate::on_both;
use crate::support::world::{Site, text};
use crate::support::{ADMIN_KEY, TestApp};

const PATH: &str = "/admin/v1/social-media-settings";

async fn new_site(app: &TestApp) -> Site {
    let body = json!({"site": {"name": "Nordbrew"}});
    let made = app.call("POST", "/admin/v1/sites").auth(ADMIN_KEY).json(&body).ok().await;
    Site { id: text(&made["site"]["id"]) }
}

async fn read(app: &TestApp, site: &Site) -> Value {
    app.call("GET", PATH).key(ADMIN_KEY, &site.id).ok().await["socialMediaSettings"].clone()
}

/// `channel` with what a platform's settings are unless they were changed.
fn usual(mut channel: Value) -> Value {
    channel["unfollowPolicy"] = json!("KEEP");
    channel["reverseWithinDays"] = json!(30);
    channel["claimedHandleEarns"] = json!(true);
    channel
}

fn change(channels: &Value) -> Value {
    json!({"socialMediaSettings": {"channels": channels}})
}

on_both! {
    async fn a_new_site_has_all_five_channels_switched_off(app: &TestApp) {
        let site = new_site(app).await;
        assert_eq!(
            app.call("GET", PATH).key(ADMIN_KEY, &site.id).ok().await,
            json!({"socialMediaSettings": {"revision": "1", "channels": [
                {"type": "FACEBOOK", "enabled": false,
                 "unfollowPolicy": "KEEP", "reverseWithinDays": 30, "claimedHandleEarns": true},
                {"type": "INSTAGRAM", "enabled": false,
                 "unfollowPolicy": "KEEP", "reverseWithinDays": 30, "claimedHandleEarns": true},
                {"type": "LINKEDIN", "enabled": false,
                 "unfollowPolicy": "KEEP", "reverseWithinDays": 30, "claimedHandleEarns": true},
                {"type": "X", "enabled": false,
                 "unfollowPolicy": "KEEP", "reverseWithinDays": 30, "claimedHandleEarns": true},
                {"type": "TIKTOK", "enabled": false,
                 "unfollowPolicy": "KEEP", "reverseWithinDays": 30, "claimedHandleEarns": true},
            ]}})
        );
    }
}

on_both! {
    async fn named_channels_change_and_their_pages_follow_from_the_handles(app: &TestApp) {
        let site = new_site(app).await;
        let body = json!({"socialMediaSettings": {"revision": "1", "channels": [
            {"type": "TIKTOK", "enabled": true, "id": "@nordbrew", "points": 0},
            {"type": "X", "enabled": true, "id": "nordbrew", "points": 50},
            {"type": "LINKEDIN", "id": "nordbrew"},
            {"type": "INSTAGRAM", "enabled": true, "url": "https://instagram.example/brew", "points": 9_999_999},
        ]}});
        let changed = app.call("PATCH", PATH).key(ADMIN_KEY, &site.id).json(&body).ok().await;
        assert_eq!(
            changed,
            json!({"socialMediaSettings": {"revision": "2", "channels": [
                usual(json!({"type": "FACEBOOK", "enabled": false})),
                usual(json!({"type": "INSTAGRAM", "enabled": true, "url": "https://instagram.example/brew",
                             "points": 9_999_999})),
                usual(json!({"type": "LINKEDIN", "enabled": false, "id": "nordbrew",
                             "url": "https://www.linkedin.com/company/nordbrew"})),
                usual(json!({"type": "X", "enabled": true, "id": "nordbrew",
                             "url": "https://x.com/nordbrew", "points": 50})),
                usual(json!({"type": "TIKTOK", "enabled": true, "id": "@nordbrew",
                             "url": "https://www.tiktok.com/@nordbrew", "points": 0})),
            ]}})
        );
        assert_eq!(json!({"socialMediaSettings": read(app, &site).await}), changed);

        // What is absent stays; a new handle moves the page, a given page stays as given.
        let body = change(&json!([
            {"type": "X", "id": "nørd_brew.1"},
            {"type": "FACEBOOK", "id": "nordbrew", "url": "https://fb.example/nordbrew"},
            {"type": "TIKTOK", "enabled": false},
        ]));
        let changed = app.call("PATCH", PATH).key(ADMIN_KEY, &site.id).json(&body).ok().await;
        let channels = &changed["socialMediaSettings"]["channels"];
        assert_eq!(
            [&channels[0], &channels[3], &channels[4]],
            [
                &usual(json!({"type": "FACEBOOK", "enabled": false, "id": "nordbrew",
                              "url": "https://fb.example/nordbrew"})),
                &usual(json!({"type": "X", "enabled": true, "id": "nørd_brew.1",
                              "url": "https://x.com/n%C3%B8rd_brew.1", "points": 50})),
                &usual(json!({"type": "TIKTOK", "enabled": false, "id": "@nordbrew",
                              "url": "https://www.tiktok.com/@nordbrew", "points": 0})),
            ]
        );
    }
}

on_both! {
    async fn null_takes_a_handle_a_page_and_points_away(app: &TestApp) {
        let site = new_site(app).await;
        let set = async |channels: Value| {
            let body = change(&channels);
            let changed = app.call("PATCH", PATH).key(ADMIN_KEY, &site.id).json(&body).ok().await;
            changed["socialMediaSettings"]["channels"].clone()
        };
        set(json!([
            {"type": "X", "enabled": true, "id": "nordbrew", "points": 50},
            {"type": "FACEBOOK", "id": "nordbrew", "url": "https://fb.example/nordbrew"},
            {"type": "TIKTOK", "id": "nordbrew", "url": "https://tiktok.example/nordbrew"},
        ]))
        .await;
        let channels = set(json!([
            {"type": "X", "enabled": false, "id": null, "points": null},
            {"type": "FACEBOOK", "id": null},
            {"type": "TIKTOK", "url": null},
        ]))
        .await;
        assert_eq!(
            [&channels[0], &channels[3], &channels[4]],
            [
                &usual(json!({"type": "FACEBOOK", "enabled": false, "url": "https://fb.example/nordbrew"})),
                &usual(json!({"type": "X", "enabled": false})),
                &usual(json!({"type": "TIKTOK", "enabled": false, "id": "nordbrew",
                              "url": "https://www.tiktok.com/@nordbrew"})),
            ]
        );
        set(json!([{"type": "TIKTOK", "enabled": true}])).await;
        let body = change(&json!([{"type": "TIKTOK", "id": null}]));
        let refused = app.call("PATCH", PATH).key(ADMIN_KEY, &site.id).json(&body).send().await;
        let nowhere = ("socialMediaSettings.channels[0].id".to_owned(), "REQUIRED_FIELD".to_owned());
        assert_eq!(refused.violations(), [nowhere], "it is enabled");
    }
}

on_both! {
    async fn what_was_read_can_be_sent_back_with_another_handle(app: &TestApp) {
        let site = new_site(app).await;
        let set = async |channels: &Value| {
            let changed = app.call("PATCH", PATH).key(ADMIN_KEY, &site.id).json(&change(channels)).ok().await;
            changed["socialMediaSettings"]["channels"].clone()
        };
        let own = "https://fb.example/nordbrew";
        let mut channels = set(&json!([
            {"type": "X", "enabled": true, "id": "@nordbrew", "points": 50},
            {"type": "FACEBOOK", "id": "nordbrew", "url": own},
            {"type": "LINKEDIN", "id": "nordbrew"},
        ]))
        .await;
        assert_eq!(set(&channels).await, channels);

        (channels[0]["id"], channels[2]["id"], channels[3]["id"]) = (json!("brew"), Value::Null, json!("brew"));
        assert_eq!(channels[3]["url"], "https://x.com/nordbrew");
        let changed = set(&channels).await;
        assert_eq!(
            [&changed[0], &changed[2], &changed[3]],
            [
                &usual(json!({"type": "FACEBOOK", "enabled": false, "id": "brew", "url": own})),
                &usual(json!({"type": "LINKEDIN", "enabled": false})),
                &usual(json!({"type": "X", "enabled": true, "id": "brew", "url": "https://x.com/brew", "points": 50})),
            ]
        );
        // A page that is not the handle's was meant.
        let other = json!([{"type": "X", "id": "nordbrew", "url": "https://x.com/nordbrew/about"}]);
        assert_eq!(set(&other).await[3]["url"], "https://x.com/nordbrew/about");
    }
}

on_both! {
    async fn a_channel_that_leads_nowhere_cannot_be_enabled(app: &TestApp) {
        let site = new_site(app).await;
        let before = read(app, &site).await;
        let body = change(&json!([{"type": "X", "id": "nordbrew"}, {"type": "TIKTOK", "enabled": true}]));
        let answer = app.call("PATCH", PATH).key(ADMIN_KEY, &site.id).json(&body).send().await;
        let description = "channel TIKTOK needs an id (the handle) or a url before it can be enabled";
        assert_eq!(
            (answer.status.as_u16(), answer.json()),
            (
                400,
                json!({
                    "message": format!("socialMediaSettings.channels[1].id {description}"),
                    "details": {"validationError": {"fieldViolations": [{
                        "field": "socialMediaSettings.channels[1].id", "description": description,
                        "violatedRule": "REQUIRED_FIELD", "data": {},
                    }]}},
                })
            )
        );
        assert_eq!(read(app, &site).await, before, "the other channel did not change either");
    }
}

on_both! {
    async fn what_makes_no_page_is_no_handle_and_a_channel_is_named_once(app: &TestApp) {
        let site = new_site(app).await;
        let before = read(app, &site).await;
        let refused = async |channels: Value| {
            let call = app.call("PATCH", PATH).key(ADMIN_KEY, &site.id).json(&change(&channels));
            call.send().await.violations()
        };
        for handle in ["nord brew", "https://x.com/nordbrew", "a/b", "..", "a?b", "a#b", "a@b", "@", "a\tb"] {
            let violations = refused(json!([{"type": "X", "id": handle}])).await;
            let field = "socialMediaSettings.channels[0].id".to_owned();
            assert_eq!(violations, [(field, "FORMAT".to_owned())], "{handle}");
        }
        let twice = refused(json!([{"type": "X", "points": 1}, {"type": "X", "points": 2}])).await;
        assert_eq!(twice, [("socialMediaSettings.channels[1].type".to_owned(), "FORMAT".to_owned())]);
        assert_eq!(read(app, &site).await, before);
    }
}

on_both! {
    async fn what_platforms_tell_of_follows_counts_as_the_owner_says(app: &TestApp) {
        let site = new_site(app).await;
        let instagram = async |changes: Value| {
            let body = change(&json!([changes]));
            let changed = app.call("PATCH", PATH).key(ADMIN_KEY, &site.id).json(&body).ok().await;
            assert_eq!(changed["socialMediaSettings"], read(app, &site).await, "it is stored as it is answered");
            changed["socialMediaSettings"]["channels"][1].clone()
        };
        assert_eq!(
            instagram(json!({"type": "INSTAGRAM", "id": "nordbrew", "unfollowPolicy": "REVERSE",
                             "reverseWithinDays": 365, "claimedHandleEarns": false})).await,
            json!({"type": "INSTAGRAM", "enabled": false, "id": "nordbrew",
                   "url": "https://www.instagram.com/nordbrew", "unfollowPolicy": "REVERSE",
                   "reverseWithinDays": 365, "claimedHandleEarns": false})
        );
        // What is absent stays.
        assert_eq!(
            instagram(json!({"type": "INSTAGRAM", "enabled": true, "reverseWithinDays": 1})).await,
            json!({"type": "INSTAGRAM", "enabled": true, "id": "nordbrew",
                   "url": "https://www.instagram.com/nordbrew", "unfollowPolicy": "REVERSE",
                   "reverseWithinDays": 1, "claimedHandleEarns": false})
        );
        assert_eq!(
            instagram(json!({"type": "INSTAGRAM", "unfollowPolicy": "FLAG", "claimedHandleEarns": true})).await,
            json!({"type": "INSTAGRAM", "enabled": true, "id": "nordbrew",
                   "url": "https://www.instagram.com/nordbrew", "unfollowPolicy": "FLAG",
                   "reverseWithinDays": 1, "claimedHandleEarns": true})
        );
        assert_eq!(
            read(app, &site).await["channels"][4],
            usual(json!({"type": "TIKTOK", "enabled": false})),
            "the others stay as they were"
        );
    }
}

on_both! {
    async fn a_stale_revision_changes_nothing_and_none_is_not_asked_for(app: &TestApp) {
        let site = new_site(app).await;
        let send = |revision: Value| {
            let channels = json!([{"type": "X", "id": "nordbrew"}]);
            let body = json!({"socialMediaSettings": {"revision": revision, "channels": channels}});
            app.call("PATCH", PATH).key(ADMIN_KEY, &site.id).json(&body).send()
        };
        for stale in ["0", "2", "-1", "9223372036854775807"] {
            assert_eq!(send(json!(stale)).await.error(), (409, "ABORTED".to_owned()), "{stale}");
        }
        for malformed in ["", "one", "1.0", "9223372036854775808", " 1"] {
            let expected = [("socialMediaSettings.revision".to_owned(), "FORMAT".to_owned())];
            assert_eq!(send(json!(malformed)).await.violations(), expected, "{malformed:?}");
        }
        assert_eq!(read(app, &site).await["revision"], "1");
        assert_eq!(send(json!("1")).await.json()["socialMediaSettings"]["revision"], "2");
        assert_eq!(send(Value::Null).await.json()["socialMediaSettings"]["revision"], "3");
    }
}

on_both! {
    async fn of_parallel_changes_of_one_revision_one_succeeds(app: &TestApp) {
        let site = new_site(app).await;
        let calls = (0..10).map(|points| {
            let channels = json!([{"type": "X", "id": "a", "points": points}]);
            let body = json!({"socialMediaSettings": {"revision": "1", "channels": channels}});
            app.call("PATCH", PATH).key(ADMIN_KEY, &site.id).json(&body).send()
        });
        let mut statuses: Vec<_> =
            futures_util::future::join_all(calls).await.iter().map(|answer| answer.status.as_u16()).collect();
        statuses.sort_unstable();
        assert_eq!(statuses, [vec![200], vec![409; 9]].concat());
        assert_eq!(read(app, &site).await["revision"], "2");
    }
}

on_both! {
    async fn settings_out_of_range_are_named(app: &TestApp) {
        let site = new_site(app).await;
        let before = read(app, &site).await;
        for (channel, field, rule) in [
            (json!({"type": "X", "points": -1}), "points", "MIN"),
            (json!({"type": "X", "points": 10_000_000}), "points", "MAX"),
            (json!({"type": "X", "points": "50"}), "points", "FORMAT"),
            (json!({"type": "X", "id": ""}), "id", "MIN_LENGTH"),
            (json!({"type": "X", "id": "a".repeat(256)}), "id", "MAX_LENGTH"),
            (json!({"type": "X", "url": "x.com/nordbrew"}), "url", "FORMAT"),
            (json!({"type": "X", "url": "javascript:alert(1)"}), "url", "FORMAT"),
            (json!({"type": "X", "enabled": 1}), "enabled", "FORMAT"),
            (json!({"type": "X", "unfollowPolicy": "REVOKE"}), "unfollowPolicy", "INVALID_ENUM_VALUE"),
            (json!({"type": "X", "reverseWithinDays": 0}), "reverseWithinDays", "MIN"),
            (json!({"type": "X", "reverseWithinDays": 366}), "reverseWithinDays", "MAX"),
            (json!({"type": "X", "reverseWithinDays": "7"}), "reverseWithinDays", "FORMAT"),
            (json!({"type": "X", "claimedHandleEarns": "yes"}), "claimedHandleEarns", "FORMAT"),
            (json!({"type": "x"}), "type", "INVALID_ENUM_VALUE"),
            (json!({"type": "UNKNOWN_CHANNEL"}), "type", "INVALID_ENUM_VALUE"),
            (json!({}), "type", "REQUIRED_FIELD"),
        ] {
            let answer = app
                .call("PATCH", PATH)
                .key(ADMIN_KEY, &site.id)
                .json(&change(&json!([channel])))
                .send()
                .await;
            let expected = [(format!("socialMediaSettings.channels[0].{field}"), rule.to_owned())];
            assert_eq!(answer.violations(), expected, "{channel}");
        }
        let required = app
            .call("PATCH", PATH)
            .key(ADMIN_KEY, &site.id)
            .json(&json!({"socialMediaSettings": {}}))
            .send()
            .await;
        assert_eq!(
            required.violations(),
            [("socialMediaSettings.channels".to_owned(), "REQUIRED_FIELD".to_owned())]
        );
        assert_eq!(read(app, &site).await, before);
    }
}
