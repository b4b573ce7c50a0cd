//! What a subscription is told of can be narrowed down by what events say, and tried before.

use serde_json::{Value, json};

use super::{SUBSCRIPTIONS, installed_site, patch_subscription, subscribe_with, unfold};
use crate::on_both;
use crate::support::receiver::Receiver;
use crate::support::world::{ALL_EVENTS, Site, text};
use crate::support::{ADMIN_KEY, TestApp};

/// What happened to whom: the types of the events, with the channel or the balance that each tells of.
fn told(receiver: &Receiver) -> Vec<(String, Value)> {
    let facts = receiver.bodies().into_iter().map(|body| {
        let envelope = unfold(&body)["data"].clone();
        let event = &envelope["data"];
        let account = [
            &event["createdEvent"]["entity"],
            &event["updatedEvent"]["currentEntity"],
            &event["actionEvent"]["body"]["account"],
        ];
        let channel = &event["createdEvent"]["entity"]["channel"];
        let balance = account.into_iter().find(|account| account["points"].is_object());
        let fact = balance.map_or_else(|| channel.clone(), |account| account["points"]["balance"].clone());
        (text(&envelope["eventType"]), fact)
    });
    let mut facts: Vec<_> = facts.collect();
    facts.sort_by_key(|(kind, fact)| (kind.clone(), fact.to_string()));
    facts
}

/// X for 50 points, then Instagram for 30.
async fn two_follows(app: &TestApp, site: &Site) {
    let member = app.member(site, "u-1").await;
    app.follow(&member, "X").await;
    app.follow(&member, "INSTAGRAM").await;
    app.drain().await;
}

on_both! {
    async fn a_filter_narrows_events_down_by_channel_and_balance(app: &TestApp) {
        let (site, installed) = installed_site(app).await;
        let (by_channel, by_points) = (Receiver::start().await, Receiver::start().await);
        let channel = json!({"eventTypes": ["wix.loyalty.socialmedia.*"], "filter": {"channels": ["X", "TIKTOK"]}});
        let made = subscribe_with(app, &site, &installed, &by_channel.url, &channel).await;
        assert_eq!(made["filter"], json!({"channels": ["X", "TIKTOK"]}));
        let points = json!({"eventTypes": ALL_EVENTS, "filter": {"pointsMin": 51, "pointsMax": 80}});
        let made = subscribe_with(app, &site, &installed, &by_points.url, &points).await;
        assert_eq!(made["filter"], points["filter"]);
        two_follows(app, &site).await;

        assert_eq!(told(&by_channel), [(ALL_EVENTS[0].to_owned(), json!("X"))]);
        // What says nothing of points passes.
        assert_eq!(told(&by_points), [
            (ALL_EVENTS[0].to_owned(), json!("INSTAGRAM")),
            (ALL_EVENTS[0].to_owned(), json!("X")),
            (ALL_EVENTS[3].to_owned(), json!(80)),
            (ALL_EVENTS[2].to_owned(), json!(80)),
        ]);
        let id = text(&made["id"]);
        let none = json!({"webhookSubscription": {"filter": {"pointsMin": 81, "pointsMax": 80}}});
        let path = format!("{SUBSCRIPTIONS}/{id}");
        let refused = app.call("PATCH", &path).key(ADMIN_KEY, &site.id).json(&none).send().await;
        let field = "webhookSubscription.filter.pointsMin".to_owned();
        assert_eq!(refused.violations(), [(field, "MAX".to_owned())]);
        let freed = patch_subscription(app, &site, &id, &json!({"filter": {}})).await;
        assert_eq!(freed.get("filter"), None);
        let kept = patch_subscription(app, &site, &id, &json!({"filter": {"channels": ["X"]}})).await;
        assert_eq!(patch_subscription(app, &site, &id, &json!({"timeoutMs": 500})).await["filter"], kept["filter"]);
    }
}

on_both! {
    async fn a_dry_run_says_what_would_be_sent_and_sends_nothing(app: &TestApp) {
        let (site, installed) = installed_site(app).await;
        let receiver = Receiver::start().await;
        two_follows(app, &site).await;
        let new = json!({"eventTypes": [ALL_EVENTS[0]], "filter": {"channels": ["X"]}});
        let id = text(&subscribe_with(app, &site, &installed, &receiver.url, &new).await["id"]);
        let path = format!("{SUBSCRIPTIONS}/{id}/dry-run");
        let run = async |body: Value| app.call("POST", &path).key(ADMIN_KEY, &site.id).json(&body).ok().await;
        let verdicts = |answer: &Value| -> Vec<(String, Value)> {
            let events = answer["events"].as_array().unwrap().iter();
            events.map(|event| (text(&event["eventType"]), event["refusedBy"].clone())).collect()
        };

        let own = run(json!({})).await;
        let refused = json!("EVENT_TYPES");
        // Newest first: the second follow's three events, then the first's four.
        assert_eq!(verdicts(&own), [
            (ALL_EVENTS[2].to_owned(), refused.clone()),
            (ALL_EVENTS[3].to_owned(), refused.clone()),
            (ALL_EVENTS[0].to_owned(), json!("FILTER")),
            (ALL_EVENTS[2].to_owned(), refused.clone()),
            (ALL_EVENTS[3].to_owned(), refused.clone()),
            (ALL_EVENTS[0].to_owned(), Value::Null),
            (ALL_EVENTS[1].to_owned(), refused),
        ]);
        assert_eq!((&own["matchCount"], &own["events"][5]["matches"]), (&json!(1), &json!(true)));
        let other = run(json!({"eventTypes": ["*"], "filter": {"pointsMin": 80}, "limit": 3})).await;
        assert_eq!((&other["matchCount"], other["events"].as_array().unwrap().len()), (&json!(3), 3));
        let wrong = app.call("POST", &path).key(ADMIN_KEY, &site.id).json(&json!({"eventTypes": ["*", "wix"]}));
        assert_eq!(wrong.send().await.violations(), [("eventTypes[1]".to_owned(), "INVALID_ENUM_VALUE".to_owned())]);
        app.drain().await;
        assert_eq!(receiver.count(), 0);
    }
}
