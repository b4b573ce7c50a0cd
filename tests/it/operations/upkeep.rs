//! What the service takes away by itself, while nobody calls anything.

use std::time::Duration;

use entity::id::{DeliveryId, EventId, MemberId, RawDeliveryId, SiteId, SubscriptionId};
use entity::kinds::{DeliveryStatus, Evidence, ItemStatus, Platform};
use entity::{
    attempt, connection_invitation, delivery, event, followed_channel, item, link_code, raw_delivery,
    refresh_token,
};
use followpoints::db::Tx;
use followpoints::profiles::link_codes;
use followpoints::webhooks::partitions::WEEK_MS;
use followpoints::webhooks::retention::Retention;
use sea_orm::sea_query::Expr;
use sea_orm::{ColumnTrait as _, EntityTrait as _, PaginatorTrait as _, QueryFilter as _};
use serde_json::json;

use crate::on_both_databases;
use crate::support::sources::{self, guid, insert};
use crate::support::world::{ALL_EVENTS, Site, text};
use crate::support::{ADMIN_KEY, TestApp, until};

const HOUR_MS: i64 = 3_600_000;
const DAY: Duration = Duration::from_hours(24);
/// Much less than usual.
const KEPT: Retention =
    Retention { answers: DAY, deliveries: Duration::from_hours(48), events: Duration::from_hours(72) };

/// What there is to be taken away, or may stay.
#[derive(Debug, PartialEq, Eq)]
struct Left {
    refresh_tokens: u64,
    link_codes: u64,
    invitations: u64,
    verified_follows: u64,
    signed_bodies: u64,
    payloads: u64,
    events: u64,
    deliveries: u64,
    waiting_deliveries: u64,
    request_headers: u64,
}

async fn left(app: &TestApp) -> Left {
    let db = app.app.db.read();
    let verified = followed_channel::Column::Evidence.eq(Evidence::Verified);
    let waiting = delivery::Column::Status.eq(DeliveryStatus::Pending);
    let shown = attempt::Column::RequestHeaders.is_not_null();
    Left {
        refresh_tokens: refresh_token::Entity::find().count(db).await.unwrap(),
        link_codes: link_code::Entity::find().count(db).await.unwrap(),
        invitations: connection_invitation::Entity::find().count(db).await.unwrap(),
        verified_follows: followed_channel::Entity::find().filter(verified).count(db).await.unwrap(),
        signed_bodies: raw_delivery::Entity::find().count(db).await.unwrap(),
        payloads: item::Entity::find().filter(item::Column::Payload.ne("")).count(db).await.unwrap(),
        events: event::Entity::find().count(db).await.unwrap(),
        deliveries: delivery::Entity::find().count(db).await.unwrap(),
        waiting_deliveries: delivery::Entity::find().filter(waiting).count(db).await.unwrap(),
        request_headers: attempt::Entity::find().filter(shown).count(db).await.unwrap(),
    }
}

/// One of everything that ends.
async fn begin(app: &TestApp, site: &Site) {
    let member = app.member(site, "u-1").await;
    app.follow(&member, "X").await;
    app.invitation(site).await;
    let tx = app.app.db.write().await.unwrap();
    let (of_site, of_member) = (SiteId(guid(&site.id)), MemberId(guid(&member.id)));
    link_codes::create(&tx, of_site, of_member, Platform::Instagram).await.unwrap();
    followed_channel::Entity::update_many()
        .col_expr(followed_channel::Column::Evidence, Expr::val(Evidence::Verified.as_str()))
        .col_expr(followed_channel::Column::EvidenceItem, Expr::val(tx.new_id()))
        .col_expr(followed_channel::Column::EvidenceAt, Expr::val(tx.now().0))
        .exec(tx.conn())
        .await
        .unwrap();
    let signed = raw_delivery::Model {
        id: RawDeliveryId(tx.new_id()),
        source: "instagram/facebook-login".to_owned(),
        body: Some(b"signed".to_vec()),
        item_count: 1,
        received_at: tx.now(),
    };
    insert(&tx, [signed]).await;
    let nobodys = item::Model {
        status: ItemStatus::Parked,
        due_at: tx.now().plus_ms(100 * WEEK_MS),
        expires_at: Some(tx.now().plus_ms(HOUR_MS)),
        ..sources::item(&tx, site, "nobody's")
    };
    insert(&tx, [nobodys]).await;
    tx.commit().await.unwrap();
}

/// A delivery of now.
fn delivery(tx: &Tx, site: &Site, subscription: &str, status: DeliveryStatus) -> delivery::Model {
    delivery::Model {
        site_id: SiteId(guid(&site.id)),
        id: DeliveryId(tx.new_id()),
        subscription_id: SubscriptionId(guid(subscription)),
        event_id: EventId(tx.new_id()),
        status,
        attempt_count: 1,
        schedule_step: 1,
        next_attempt_at: tx.now(),
        order_key: None,
        created_at: tx.now(),
        finished_at: (status == DeliveryStatus::Delivered).then_some(tx.now()),
    }
}

/// An event of now that was delivered.
async fn deliver(app: &TestApp, site: &Site, subscription: &str) {
    let tx = app.app.db.write().await.unwrap();
    let delivered = delivery(&tx, site, subscription, DeliveryStatus::Delivered);
    let told = event::Model {
        site_id: delivered.site_id,
        id: delivered.event_id,
        event_type: ALL_EVENTS[0].to_owned(),
        entity_id: tx.new_id(),
        account_id: None,
        sequence: 1,
        data: "{}".to_owned(),
        identity: "{}".to_owned(),
        occurred_at: tx.now(),
    };
    let tried = attempt::Model {
        delivery_id: delivered.id,
        number: 1,
        site_id: delivered.site_id,
        started_at: tx.now(),
        duration_ms: 1,
        status_code: Some(200),
        error_class: None,
        error: None,
        response_headers: None,
        response_body: None,
        dns_us: None,
        connect_us: None,
        tls_us: None,
        first_byte_us: None,
        total_us: None,
        request_headers: Some("{}".to_owned()),
        late_at: None,
    };
    insert(&tx, [told]).await;
    insert(&tx, [delivered]).await;
    insert(&tx, [tried]).await;
    tx.commit().await.unwrap();
}

/// A subscription that is paused.
async fn paused(app: &TestApp, site: &Site) -> String {
    let installed = app.installed_app(site).await;
    let body = json!({"webhookSubscription": {
        "appId": installed.id, "eventTypes": ALL_EVENTS, "url": "https://hooks.example/", "status": "PAUSED",
    }});
    let call = app.call("POST", "/admin/v1/webhook-subscriptions").key(ADMIN_KEY, &site.id).json(&body);
    text(&call.ok().await["webhookSubscription"]["id"])
}

on_both_databases! {
    async fn what_has_ended_goes_by_itself_and_the_log_as_the_operator_says(database: TestDatabase) {
        let mut app = TestApp::start_apart(database).await;
        app.config.retention = KEPT;
        let site = app.site().await;
        begin(&app, &site).await;
        let subscription = paused(&app, &site).await;
        // Longer than any of it lasts. Nobody has made weeks for the log of so late: all of it goes row by row.
        app.clock.advance_ms(30 * WEEK_MS);
        let tx = app.app.db.write().await.unwrap();
        let held = delivery(&tx, &site, &subscription, DeliveryStatus::Pending);
        let ago = tx.now().plus_ms(-30 * 24 * HOUR_MS);
        let held = delivery::Model { created_at: ago, next_attempt_at: ago, ..held };
        insert(&tx, [held]).await;
        tx.commit().await.unwrap();
        // Of 80, 60 and 36 hours.
        for wait in [20, 24, 36] {
            deliver(&app, &site, &subscription).await;
            app.clock.advance_ms(wait * HOUR_MS);
        }
        assert_eq!(left(&app).await, Left {
            refresh_tokens: 1, link_codes: 1, invitations: 1, verified_follows: 1, signed_bodies: 1, payloads: 1,
            events: 7, deliveries: 4, waiting_deliveries: 1, request_headers: 3,
        });

        let app = app.restart_at_work().await;
        let expected = Left {
            refresh_tokens: 0, link_codes: 0, invitations: 0, verified_follows: 0, signed_bodies: 0, payloads: 0,
            // Those of 36 and 60 hours; the one of 36, and the one that is cancelled just now.
            events: 2, deliveries: 2, waiting_deliveries: 0, request_headers: 0,
        };
        until("all of it goes", async || (left(&app).await == expected).then_some(())).await;
        app.app.stop().await;
    }
}
