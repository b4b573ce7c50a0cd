//! The end of what is known of a member.

use entity::id::{ActivityId, EventId, ItemId, SiteId};
use entity::kinds::{ActivityOutcome, ActivityType, ItemStatus, Platform};
use entity::{activity, direct_reply, event, item, link_code, member_handle, member_profile, person};
use followpoints::db::Tx;
use sea_orm::EntityTrait as _;
use serde_json::{Value, json};

use super::{CODES, claim, member_id, profile, prove, site_id, tell};
use crate::on_both;
use crate::support::client::Answer;
use crate::support::dump::dump;
use crate::support::world::{Member, Site, text};
use crate::support::{ADMIN_KEY, TestApp};

async fn expunge(app: &TestApp, site: &Site, body: Value) -> Answer {
    app.call("POST", "/admin/v1/events/expunge").key(ADMIN_KEY, &site.id).json(&body).send().await
}

/// As if `person` of `handle` had sent `payload`; gives the id of what was sent.
async fn sent(tx: &Tx, site_id: SiteId, person: &str, handle: &str, payload: &str) -> ItemId {
    let now = tx.now();
    let row = person::Model {
        site_id,
        platform: Platform::Instagram,
        external_id: person.to_owned(),
        handle: Some(handle.to_owned()),
        follows: Some(true),
        follows_since: Some(now),
        last_message_at: Some(now),
        told_at: now,
        counted_for: None,
        is_count_proven: false,
        updated_at: now,
    };
    person::Entity::insert(person::ActiveModel::from(row)).exec_without_returning(tx.conn()).await.unwrap();
    let item_id = ItemId(tx.new_id());
    let row = item::Model {
        id: item_id,
        platform: Platform::Instagram,
        account: "17841460998877001".to_owned(),
        item_key: format!("message:{person}"),
        kind: "message".to_owned(),
        person: Some(person.to_owned()),
        handle: Some(handle.to_owned()),
        payload: payload.to_owned(),
        occurred_at: Some(now),
        delivery_id: None,
        site_id: Some(site_id),
        status: ItemStatus::Done,
        reason: None,
        attempts: 1,
        due_at: now,
        expires_at: None,
        received_at: now,
    };
    item::Entity::insert(item::ActiveModel::from(row)).exec_without_returning(tx.conn()).await.unwrap();
    item_id
}

/// As if `person` of `handle` had sent a message, seen as the member's activity, and told to the outside; gives its id.
async fn message(app: &TestApp, site: &Site, member: &Member, person: &str, handle: &str) -> ActivityId {
    let tx = app.app.db.write().await.unwrap();
    let (now, site_id) = (tx.now(), site_id(site));
    let payload = json!({"from": handle, "text": "I love mugs"}).to_string();
    let item_id = sent(&tx, site_id, person, handle, &payload).await;
    let id = ActivityId(tx.new_id());
    let row = activity::Model {
        site_id,
        id,
        item_id,
        activity_type: ActivityType::DmYou,
        platform: Platform::Instagram,
        external_id: format!("mid.{person}"),
        mention_type: None,
        member_id: Some(member_id(member)),
        account_id: None,
        person: Some(person.to_owned()),
        handle: Some(handle.to_owned()),
        properties: payload.clone(),
        outcome: ActivityOutcome::Ignored,
        reason: None,
        points: 0,
        occurred_at: now,
        created_at: now,
        updated_at: now,
    };
    activity::Entity::insert(activity::ActiveModel::from(row))
        .exec_without_returning(tx.conn())
        .await
        .unwrap();
    let row = event::Model {
        site_id,
        id: EventId(tx.new_id()),
        event_type: "followpoints.social.v1.activity_recorded".to_owned(),
        entity_id: id.0,
        account_id: None,
        sequence: 1,
        data: payload,
        identity: "{}".to_owned(),
        occurred_at: now,
    };
    event::Entity::insert(event::ActiveModel::from(row)).exec_without_returning(tx.conn()).await.unwrap();
    tx.commit().await.unwrap();
    id
}

/// A member of whom everything is known, under a handle of its own.
async fn known(app: &TestApp, site: &Site, name: &str) -> (Member, ActivityId) {
    let member = app.member(site, name).await;
    let handle = format!("handle.of.{name}").replace('-', "_");
    claim(app, &member, &handle).await;
    prove(app, site, &member, Platform::Instagram, &format!("person of {name}")).await.unwrap();
    tell(app, site, &member).await;
    app.call("POST", CODES).auth(&member.token).json(&json!({"channel": "INSTAGRAM"})).ok().await;
    let person = format!("person of {name}");
    let activity = message(app, site, &member, &person, &handle).await;
    reply_to(app, site, &person).await;
    (member, activity)
}

/// An answer that is not sent yet.
async fn reply_to(app: &TestApp, site: &Site, person: &str) {
    let tx = app.app.db.write().await.unwrap();
    let row = direct_reply::Model {
        item_id: ItemId(tx.new_id()),
        site_id: site_id(site),
        account: "brand".to_owned(),
        person: person.to_owned(),
        message: "Thanks!".to_owned(),
        attempts: 1,
        due_at: tx.now().plus_ms(60_000),
        expires_at: tx.now().plus_ms(3_600_000),
    };
    direct_reply::Entity::insert(direct_reply::ActiveModel::from(row))
        .exec_without_returning(tx.conn())
        .await
        .unwrap();
    tx.commit().await.unwrap();
}

on_both! {
    async fn a_member_is_expunged_with_everything_that_platforms_told(app: &TestApp) {
        let site = app.site().await;
        let (member, _) = known(app, &site, "u-1").await;
        let (neighbour, _) = known(app, &site, "u-2").await;
        app.follow(&member, "X").await;
        app.follow(&neighbour, "X").await;
        let before = profile(app, &neighbour).await;
        let neighbours: Vec<String> =
            dump(&app.app.db).await.into_iter().filter(|row| row.contains("u_2") || row.contains("u-2")).collect();

        // The account, the follow and its points tell four times, and the activity once.
        assert_eq!(expunge(app, &site, json!({"memberId": member.id})).await.json(), json!({"expungedCount": 5}));

        assert_eq!(profile(app, &member).await, json!({"profile": {"memberId": member.id, "attributes": {}}}));
        let rows = dump(&app.app.db).await;
        for trace in ["handle.of.u_1", "68616E646C652E6F662E755F31"] {
            assert!(!rows.iter().any(|row| row.contains(trace)), "{trace}");
        }
        assert_eq!(rows.iter().filter(|row| row.contains("I love mugs")).count(), 3, "the neighbour's");
        let db = app.app.db.read();
        assert_eq!(member_handle::Entity::find().all(db).await.unwrap().len(), 1);
        assert_eq!(member_profile::Entity::find().all(db).await.unwrap().len(), 1);
        assert_eq!(link_code::Entity::find().all(db).await.unwrap().len(), 1);
        let replies = direct_reply::Entity::find().all(db).await.unwrap();
        assert_eq!(replies.iter().map(|reply| reply.person.as_str()).collect::<Vec<_>>(), ["person of u-2"]);
        assert_eq!(activity::Entity::find().all(db).await.unwrap().len(), 2, "that there was something stays");
        assert_eq!(app.account(&member).await["points"]["balance"], 50);

        assert_eq!(profile(app, &neighbour).await, before);
        let after: Vec<String> =
            rows.into_iter().filter(|row| row.contains("u_2") || row.contains("u-2")).collect();
        assert_eq!(after, neighbours, "nothing of the neighbour changed");
        assert_eq!(app.call("GET", "/me/v1/channels").auth(&member.token).ok().await["channels"][2]["followed"], true);
    }
}

on_both! {
    async fn one_entity_is_expunged_alone(app: &TestApp) {
        let site = app.site().await;
        let (member, activity) = known(app, &site, "u-1").await;
        app.follow(&member, "X").await;
        let before = profile(app, &member).await;
        let body = json!({"entityId": activity.0});
        assert_eq!(expunge(app, &site, body).await.json(), json!({"expungedCount": 1}));
        let events = app.admin_list(&site, "/admin/v1/events?limit=100", "events").await;
        let gone: Vec<&Value> = events.iter().filter(|event| event["data"].get("expunged").is_some()).collect();
        assert_eq!((events.len(), gone.len()), (5, 1));
        assert_eq!(gone[0]["entityId"], json!(activity.0));
        assert_eq!(profile(app, &member).await, before, "the member is not concerned");
    }
}

on_both! {
    async fn exactly_one_is_named(app: &TestApp) {
        let site = app.site().await;
        let member = app.member(&site, "u-1").await;
        let account = text(&app.follow(&member, "X").await["accountId"]);
        for (body, field, rule) in [
            (json!({}), "accountId", "REQUIRED_FIELD"),
            (json!({"memberId": null}), "accountId", "REQUIRED_FIELD"),
            (json!({"accountId": account, "memberId": member.id}), "body", "FORMAT"),
            (json!({"memberId": member.id, "entityId": account}), "body", "FORMAT"),
            (json!({"accountId": account, "memberId": member.id, "entityId": account}), "body", "FORMAT"),
            (json!({"memberId": "u-1"}), "memberId", "FORMAT"),
            (json!({"entityId": 7}), "entityId", "FORMAT"),
        ] {
            let answer = expunge(app, &site, body.clone()).await;
            assert_eq!(answer.violations(), [(field.to_owned(), rule.to_owned())], "{body}");
        }
    }
}

on_both! {
    async fn g5_nobody_of_another_site_is_expunged(app: &TestApp) {
        let (site, other) = (app.site().await, app.site().await);
        let (member, activity) = known(app, &site, "u-1").await;
        app.follow(&member, "X").await;
        let before = dump(&app.app.db).await;
        for body in [json!({"memberId": member.id}), json!({"entityId": activity.0})] {
            assert_eq!(expunge(app, &other, body).await.json(), json!({"expungedCount": 0}));
        }
        assert_eq!(dump(&app.app.db).await, before);
    }
}
