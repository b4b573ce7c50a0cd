//! The event about an activity: what it says, who hears of it, and where it is found.

use entity::activity;
use entity::id::{AccountId, MemberId};
use entity::kinds::{ActivityOutcome, MentionType, Platform};
use followpoints::access::Identity;
use followpoints::rows;
use followpoints::webhooks::{event, outbox};
use serde_json::{Value, json};

use super::{ACTIVITIES, AT};
use crate::on_both;
use crate::support::receiver::Receiver;
use crate::support::sources::{activity as unmatched, guid, insert, item};
use crate::support::world::{Site, text};
use crate::support::{ADMIN_KEY, TestApp};

const RECORDED: &str = "followpoints.social.v1.activity_recorded";

/// Records an activity with its event, as whoever takes in what platforms tell; gives the ids of both.
async fn record(
    app: &TestApp,
    site: &Site,
    key: &str,
    of: Option<(&str, &str)>,
    points: i64,
) -> (String, String) {
    let tx = app.app.db.write().await.unwrap();
    let sent = item(&tx, site, key);
    let row = activity::Model {
        member_id: of.map(|(member, _)| MemberId(guid(member))),
        account_id: of.map(|(_, account)| AccountId(guid(account))),
        mention_type: of.map(|_| MentionType::Tag),
        platform: if of.is_some() { Platform::Instagram } else { Platform::Tiktok },
        outcome: if points > 0 { ActivityOutcome::Awarded } else { ActivityOutcome::Unmatched },
        points,
        ..unmatched(&tx, &sent)
    };
    let told = event::activity_recorded(&tx, &row, &Identity::Platform).unwrap();
    let ids = (row.id.to_string(), told.id.to_string());
    insert(&tx, [sent]).await;
    let configs = app.app.configs.load(&tx, &[row.site_id]).await.unwrap();
    insert(&tx, [row]).await;
    let (writes, fresh) = outbox::prepare(&tx, &configs, &app.app.dispatcher, vec![told]).await.unwrap();
    rows::write_all(tx.conn(), writes).await.unwrap();
    tx.commit().await.unwrap();
    app.app.dispatcher.offer(fresh);
    ids
}

async fn events(app: &TestApp, site: &Site, query: &str) -> Vec<Value> {
    app.admin_list(site, &format!("/admin/v1/events?{query}"), "events").await
}

on_both! {
    async fn an_activity_is_told_with_all_that_is_known_of_it(app: &TestApp) {
        let site = app.site().await;
        let member = app.member(&site, "u-1").await;
        let account = app.new_account(&site, &member).await;
        let (id, event) = record(app, &site, "mention:1", Some((&member.id, &account)), 25).await;
        let entity = json!({
            "id": id, "type": "MENTIONED_YOU_SOCIAL", "platform": "INSTAGRAM", "externalId": "thing of mention:1",
            "mentionType": "tag", "memberId": member.id, "accountId": account, "handle": "nordfan",
            "properties": {"caption": "New mug day #NordBrew", "platform": "instagram"}, "outcome": "AWARDED",
            "reason": "nobody is known to have this handle", "points": 25,
            "occurredDate": "2024-08-01T11:51:40.431Z", "createdDate": AT,
        });
        let told = json!({
            "id": event, "eventType": RECORDED, "entityId": id, "accountId": account, "entityEventSequence": "1",
            "eventDate": AT, "identity": {"identityType": "UNKNOWN"},
            "data": {
                "id": event, "entityFqdn": "followpoints.social.v1.activity", "slug": "recorded", "entityId": id,
                "createdEvent": {"entity": entity}, "eventTime": AT, "triggeredByAnonymizeRequest": false,
                "originatedFrom": null, "entityEventSequence": "1",
            },
        });
        for query in [format!("type={RECORDED}"), format!("entityId={id}"), format!("accountId={account}&type={RECORDED}")] {
            assert_eq!(events(app, &site, &query).await, std::slice::from_ref(&told), "{query}");
        }
        let read = app.call("GET", &format!("{ACTIVITIES}/{id}")).key(ADMIN_KEY, &site.id).ok().await;
        assert_eq!(read["effects"]["eventIds"], json!([event]));

        let (id, _) = record(app, &site, "mention:2", None, 0).await;
        let told = events(app, &site, &format!("entityId={id}")).await.remove(0);
        assert_eq!(told.get("accountId"), None);
        assert_eq!(told["data"]["createdEvent"]["entity"], json!({
            "id": id, "type": "MENTIONED_YOU_SOCIAL", "platform": "TIKTOK", "externalId": "thing of mention:2",
            "handle": "nordfan", "properties": {"caption": "New mug day #NordBrew", "platform": "instagram"},
            "outcome": "UNMATCHED", "reason": "nobody is known to have this handle", "points": 0,
            "occurredDate": "2024-08-01T11:51:40.431Z", "createdDate": AT,
        }));
    }
}

on_both! {
    async fn receivers_hear_of_the_activities_that_they_want(app: &TestApp) {
        let site = app.site().await;
        let installed = app.installed_app(&site).await;
        let member = app.member(&site, "u-1").await;
        let account = app.new_account(&site, &member).await;
        let receiver = Receiver::start().await;
        let mut subscriptions = Vec::new();
        for (types, filter) in [
            (RECORDED, json!({})),
            ("followpoints.social.*", json!({"pointsMin": 25})),
            ("followpoints.*", json!({"pointsMax": 24})),
            ("*", json!({"channels": ["TIKTOK"]})),
            ("wix.loyalty.*", json!({})),
        ] {
            let body = json!({"webhookSubscription": {
                "appId": installed.id, "eventTypes": [types], "url": receiver.url, "filter": filter,
            }});
            let call = app.call("POST", "/admin/v1/webhook-subscriptions").key(ADMIN_KEY, &site.id).json(&body);
            subscriptions.push(text(&call.ok().await["webhookSubscription"]["id"]));
        }
        let (_, rich) = record(app, &site, "mention:1", Some((&member.id, &account)), 25).await;
        let (_, poor) = record(app, &site, "mention:2", None, 0).await;
        app.drain().await;
        let mut heard = Vec::new();
        for subscription in &subscriptions {
            let path = format!("/admin/v1/webhook-deliveries?subscriptionId={subscription}");
            let rows = app.admin_list(&site, &path, "webhookDeliveries").await;
            assert!(rows.iter().all(|row| row["status"] == "DELIVERED"), "{rows:?}");
            heard.push(rows.iter().map(|row| text(&row["eventId"])).collect::<Vec<_>>());
        }
        let both = vec![poor.clone(), rich.clone()];
        assert_eq!(heard, [both, vec![rich], vec![poor.clone()], vec![poor], vec![]]);
    }
}

on_both! {
    async fn what_the_log_says_of_an_account_ends_with_its_activities(app: &TestApp) {
        let site = app.site().await;
        let member = app.member(&site, "u-1").await;
        let account = app.new_account(&site, &member).await;
        let (id, event) = record(app, &site, "mention:1", Some((&member.id, &account)), 25).await;
        let body = json!({"accountId": account});
        app.call("POST", "/admin/v1/events/expunge").key(ADMIN_KEY, &site.id).json(&body).ok().await;
        let told = events(app, &site, &format!("entityId={id}")).await.remove(0);
        assert_eq!(told["data"], json!({
            "id": event, "entityId": id, "eventTime": AT, "entityEventSequence": "1", "expunged": true,
        }));
    }
}
