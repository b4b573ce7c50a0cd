//! Sites and members.

use serde_json::{Value, json};

use super::pages;
use crate::on_both;
use crate::support::ADMIN_KEY;
use crate::support::callers::{SITE_ADMIN, UNKNOWN_ID};
use crate::support::world::text;

on_both! {
    async fn a_site_is_made_read_and_renamed(app: &TestApp) {
        let body = json!({"site": {"name": "Nordbrew"}});
        let made = app.call("POST", "/admin/v1/sites").auth(ADMIN_KEY).json(&body).ok().await;
        let id = text(&made["site"]["id"]);
        assert_eq!(
            made,
            json!({"site": {
                "id": id, "name": "Nordbrew", "createdDate": "2024-08-01T11:51:41.431Z",
                "updatedDate": "2024-08-01T11:51:41.431Z",
            }})
        );
        let path = format!("/admin/v1/sites/{id}");
        assert_eq!(app.call("GET", &path).auth(ADMIN_KEY).ok().await, made);

        app.clock.advance_ms(1_000);
        let body = json!({"site": {"name": "S\u{fc}dbrew \u{1f37a}"}});
        let renamed = app.call("PATCH", &path).auth(ADMIN_KEY).json(&body).ok().await;
        assert_eq!(
            renamed,
            json!({"site": {
                "id": id, "name": "S\u{fc}dbrew \u{1f37a}", "createdDate": "2024-08-01T11:51:41.431Z",
                "updatedDate": "2024-08-01T11:51:42.431Z",
            }})
        );
        assert_eq!(app.call("GET", &path).auth(ADMIN_KEY).ok().await, renamed);
        let unknown = app.call("GET", &format!("/admin/v1/sites/{UNKNOWN_ID}")).auth(ADMIN_KEY).send().await;
        assert_eq!(unknown.error(), (404, "SITE_NOT_FOUND".to_owned()));
    }
}

on_both! {
    async fn names_have_one_to_a_hundred_characters(app: &TestApp) {
        let site = app.site().await;
        let hundred = "\u{1f37a}".repeat(100);
        for (path, wrapper) in [
            ("/admin/v1/sites", "site"),
            ("/admin/v1/api-keys", "apiKey"),
            ("/admin/v1/oauth-clients", "oauthClient"),
            ("/admin/v1/apps", "app"),
        ] {
            let send = |name: Value| {
                let body = json!({wrapper: {"name": name}});
                app.call("POST", path).key(ADMIN_KEY, &site.id).json(&body).send()
            };
            let field = format!("{wrapper}.name");
            assert_eq!(send(Value::Null).await.violations(), [(field.clone(), "REQUIRED_FIELD".to_owned())]);
            assert_eq!(send(json!("")).await.violations(), [(field.clone(), "MIN_LENGTH".to_owned())]);
            let blank = send(json!(" \t\u{a0}")).await.violations();
            assert_eq!(blank, [(field.clone(), "REQUIRED_FIELD".to_owned())]);
            let long = format!("{hundred}a");
            assert_eq!(send(json!(long)).await.violations(), [(field.clone(), "MAX_LENGTH".to_owned())]);
            assert_eq!(send(json!(7)).await.violations(), [(field, "FORMAT".to_owned())]);
            assert_eq!(send(json!(hundred)).await.status.as_u16(), 200, "{path}");
        }
    }
}

on_both! {
    async fn the_same_external_id_is_the_same_member_unchanged(app: &TestApp) {
        let site = app.site().await;
        let send = |member: Value| {
            let call = app.call("POST", "/admin/v1/members").key(ADMIN_KEY, &site.id);
            let body = json!({"member": member});
            async move { call.json(&body).ok().await }
        };
        let first =
            send(json!({"externalId": "u-1", "email": "member@example.com", "name": "Example Member"})).await;
        let (id, contact) = (text(&first["member"]["id"]), text(&first["member"]["contactId"]));
        assert_eq!(
            first,
            json!({"member": {
                "id": id, "contactId": contact, "externalId": "u-1", "email": "member@example.com",
                "name": "Example Member", "createdDate": "2024-08-01T11:51:41.431Z",
                "updatedDate": "2024-08-01T11:51:41.431Z",
            }})
        );
        app.clock.advance_ms(1_000);
        assert_eq!(send(json!({"externalId": "u-1", "name": "Somebody Else"})).await, first);
        assert_eq!(send(json!({"externalId": "u-1"})).await, first);
        assert_eq!(
            app.call("GET", &format!("/admin/v1/members/{id}")).key(ADMIN_KEY, &site.id).ok().await,
            first
        );

        // Without one, each call makes another person.
        let (nameless, other) = (send(json!({})).await, send(json!({})).await);
        assert_ne!(nameless["member"]["id"], other["member"]["id"]);
        assert_eq!(
            nameless,
            json!({"member": {
                "id": nameless["member"]["id"], "contactId": nameless["member"]["contactId"],
                "createdDate": "2024-08-01T11:51:42.431Z", "updatedDate": "2024-08-01T11:51:42.431Z",
            }})
        );
        // External ids are compared to the letter.
        assert_ne!(send(json!({"externalId": "U-1"})).await["member"]["id"], json!(id));
        assert_ne!(send(json!({"externalId": "u-1 "})).await["member"]["id"], json!(id));
        let found = app.admin_list(&site, "/admin/v1/members?externalId=u-1", "members").await;
        assert_eq!(found, [first["member"].clone()]);
        let none = app.admin_list(&site, "/admin/v1/members?externalId=u-9", "members").await;
        assert_eq!(none, Vec::<Value>::new());
    }
}

on_both! {
    async fn a_members_fields_are_corrected_one_by_one_and_who_it_is_stays(app: &TestApp) {
        let (site, other) = (app.site().await, app.site().await);
        let member = app.member(&site, "u-1").await;
        let path = format!("/admin/v1/members/{}", member.id);
        let changed = |change: Value| app.call("PATCH", &path).key(ADMIN_KEY, &site.id).json(&json!({"member": change})).send();
        let mut expected = json!({"member": {
            "id": member.id, "contactId": member.contact_id, "externalId": "u-1", "email": "member@example.com",
            "name": "Example Member", "createdDate": "2024-08-01T11:51:41.431Z",
        }});
        // What is absent stays, null takes away, and who the person is cannot be said anew.
        for (change, field, value) in [
            (json!({"email": "new@example.com"}), "email", json!("new@example.com")),
            (json!({"name": "M\u{fc}ller \u{1f37a}"}), "name", json!("M\u{fc}ller \u{1f37a}")),
            (json!({"email": null}), "email", Value::Null),
            (json!({"externalId": "u-2", "contactId": UNKNOWN_ID, "id": UNKNOWN_ID}), "externalId", json!("u-1")),
            (json!({"name": null, "email": "again@example.com"}), "email", json!("again@example.com")),
        ] {
            app.clock.advance_ms(1_000);
            if change.get("name") == Some(&Value::Null) {
                expected["member"].as_object_mut().unwrap().remove("name");
            }
            match value {
                Value::Null => drop(expected["member"].as_object_mut().unwrap().remove(field)),
                value => expected["member"][field] = value,
            }
            let answer = changed(change).await.json();
            expected["member"]["updatedDate"] = answer["member"]["updatedDate"].clone();
            assert_eq!(answer, expected);
            assert_eq!(app.call("GET", &path).key(ADMIN_KEY, &site.id).ok().await, expected);
        }
        assert_eq!(expected["member"]["updatedDate"], "2024-08-01T11:51:46.431Z");

        for (change, field, rule) in [
            (json!({"email": ""}), "member.email", "MIN_LENGTH"),
            (json!({"email": "a".repeat(257)}), "member.email", "MAX_LENGTH"),
            (json!({"name": " "}), "member.name", "REQUIRED_FIELD"),
            (json!({"name": 7}), "member.name", "FORMAT"),
            (Value::Null, "member", "REQUIRED_FIELD"),
        ] {
            assert_eq!(changed(change).await.violations(), [(field.to_owned(), rule.to_owned())]);
        }
        let unknown = format!("/admin/v1/members/{UNKNOWN_ID}");
        for (path, site) in [(&path, &other), (&unknown, &site)] {
            let body = json!({"member": {"name": "Somebody Else"}});
            let refused = app.call("PATCH", path).key(ADMIN_KEY, &site.id).json(&body).send().await;
            assert_eq!(refused.error(), (404, "MEMBER_NOT_FOUND".to_owned()));
        }
        assert_eq!(app.call("GET", &path).key(ADMIN_KEY, &site.id).ok().await, expected);
    }
}

on_both! {
    async fn of_corrections_at_the_same_moment_none_takes_back_anothers_field(app: &TestApp) {
        let site = app.site().await;
        for number in 0..10 {
            let member = app.member(&site, &format!("u-{number}")).await;
            let path = format!("/admin/v1/members/{}", member.id);
            let changed = |change: Value| app.call("PATCH", &path).key(ADMIN_KEY, &site.id).json(&json!({"member": change})).ok();
            tokio::join!(changed(json!({"email": "new@example.com"})), changed(json!({"name": "New Name"})));
            let read = app.call("GET", &path).key(ADMIN_KEY, &site.id).ok().await;
            assert_eq!((&read["member"]["email"], &read["member"]["name"]), (&json!("new@example.com"), &json!("New Name")));
        }
    }
}

on_both! {
    async fn parallel_calls_for_one_external_id_make_one_member(app: &TestApp) {
        let site = app.site().await;
        let body = json!({"member": {"externalId": "u-1"}});
        let calls =
            (0..20).map(|_| app.call("POST", "/admin/v1/members").key(ADMIN_KEY, &site.id).json(&body).ok());
        let made = futures_util::future::join_all(calls).await;
        assert!(made.iter().all(|member| *member == made[0]), "{made:?}");
        assert_eq!(app.admin_list(&site, "/admin/v1/members", "members").await.len(), 1);
    }
}

on_both! {
    async fn lists_go_on_page_by_page_from_the_newest(app: &TestApp) {
        let site = app.site().await;
        let mut expected: Vec<String> = Vec::new();
        for number in 0..7 {
            expected.insert(0, app.member(&site, &format!("u-{number}")).await.id);
        }
        for (limit, sizes) in [(1, vec![1; 7]), (3, vec![3, 3, 1]), (7, vec![7]), (100, vec![7])] {
            let pages = pages(app, "/admin/v1/members", "members", (ADMIN_KEY, &site.id), limit).await;
            assert_eq!(pages.iter().map(Vec::len).collect::<Vec<_>>(), sizes);
            let ids: Vec<_> = pages.concat().iter().map(|member| text(&member["id"])).collect();
            assert_eq!(ids, expected, "limit {limit}");
        }
    }
}

on_both! {
    async fn what_is_added_while_paging_neither_repeats_nor_hides_anything(app: &TestApp) {
        let site = app.site().await;
        for number in 0..4 {
            app.member(&site, &format!("u-{number}")).await;
        }
        let first = app.call("GET", "/admin/v1/members?limit=2").key(ADMIN_KEY, &site.id).ok().await;
        app.member(&site, "late").await;
        let cursor = text(&first["pagingMetadata"]["cursors"]["next"]);
        let path = format!("/admin/v1/members?limit=2&cursor={cursor}");
        let second = app.call("GET", &path).key(ADMIN_KEY, &site.id).ok().await;
        let names: Vec<_> = [&first, &second]
            .iter()
            .flat_map(|page| page["members"].as_array().unwrap())
            .map(|member| text(&member["externalId"]))
            .collect();
        assert_eq!(names, ["u-3", "u-2", "u-1", "u-0"]);
    }
}

on_both! {
    async fn every_list_pages_and_keeps_its_filter_in_the_cursor(app: &TestApp) {
        let all = app.everything().await;
        let key = (all.admin.secret.as_str(), all.site.id.as_str());
        app.site_key(&all.site, SITE_ADMIN).await;
        app.front_end(&all.site, &[]).await;
        app.subscribe(&all.site, &all.app, &["wix.loyalty.v1.account_created"], &all.receiver.url).await;
        let other = app.installed_app(&all.site).await;
        app.subscribe(
            &all.site,
            &other,
            &["wix.loyalty.socialmedia.v1.followed_channel_created"],
            &all.receiver.url,
        )
        .await;
        app.follow(&all.member, "FACEBOOK").await;
        app.drain().await;
        let by_subscription = format!("/admin/v1/webhook-deliveries?subscriptionId={}", all.subscription_id);
        for (path, name, total) in [
            ("/admin/v1/api-keys", "apiKeys", 4),
            ("/admin/v1/oauth-clients", "oauthClients", 2),
            ("/admin/v1/apps", "apps", 2),
            ("/admin/v1/app-instances", "appInstances", 2),
            ("/admin/v1/webhook-subscriptions", "webhookSubscriptions", 3),
            ("/admin/v1/webhook-deliveries", "webhookDeliveries", 4),
            (&by_subscription, "webhookDeliveries", 3),
            ("/admin/v1/webhook-deliveries?status=DELIVERED", "webhookDeliveries", 3),
            ("/admin/v1/webhook-deliveries?status=EXHAUSTED", "webhookDeliveries", 0),
            ("/admin/v1/events", "events", 8),
            ("/admin/v1/events?type=wix.loyalty.socialmedia.v1.followed_channel_created", "events", 3),
            ("/admin/v1/events?since=2024-08-01T11:51:41.441Z", "events", 0),
        ] {
            let pages = pages(app, path, name, key, 1).await;
            let mut ids: Vec<_> = pages.concat().iter().map(|item| text(&item["id"])).collect();
            assert_eq!(ids.len(), total, "{path}");
            assert!(ids.is_sorted_by(|newer, older| newer > older), "{path}: {ids:?}");
            ids.dedup();
            assert_eq!(ids.len(), total, "{path} repeats itself");
        }
    }
}

on_both! {
    async fn the_operator_pages_through_all_sites_and_a_site_sees_itself(app: &TestApp) {
        let mut made = Vec::new();
        for _ in 0..5 {
            made.insert(0, app.site().await.id);
        }
        let site = crate::support::world::Site { id: made[2].clone() };
        let key = app.site_key(&site, SITE_ADMIN).await;
        let mut seen = Vec::new();
        let mut path = "/admin/v1/sites?limit=2".to_owned();
        loop {
            let body = app.call("GET", &path).auth(ADMIN_KEY).ok().await;
            seen.extend(body["sites"].as_array().unwrap().iter().map(|site| text(&site["id"])));
            let Some(cursor) = body["pagingMetadata"]["cursors"].get("next") else { break };
            path = format!("/admin/v1/sites?limit=2&cursor={}", cursor.as_str().unwrap());
        }
        assert_eq!(seen, made);
        let own = app.call("GET", "/admin/v1/sites").auth(&key.secret).ok().await;
        assert_eq!(own["sites"].as_array().unwrap().len(), 1);
        assert_eq!(own["sites"][0]["id"], json!(site.id));
        assert_eq!(own["pagingMetadata"], json!({"count": 1, "cursors": {}, "hasNext": false}));
    }
}
