//! How long what platforms sent is kept, and when nobody is waited for any longer.

use std::time::Duration;

use entity::id::{RawDeliveryId, Timestamp};
use entity::kinds::{ActivityOutcome, ItemStatus};
use entity::{activity, item, raw_delivery};
use followpoints::inbox::clean_up::{AT_ONCE, Removed, clean_up};
use sea_orm::{EntityTrait, PaginatorTrait, QueryOrder};

use super::ITEMS;
use crate::on_both;
use crate::support::sources::{DAY_MS, activity as unmatched, insert, item as sent};
use crate::support::{ADMIN_KEY, TestApp};

const KEPT: Duration = Duration::from_hours(24 * 90);

async fn clean(app: &TestApp) -> Removed {
    clean_up(&app.app.db, KEPT).await.unwrap()
}

fn delivery(id: uuid::Uuid, at: Timestamp) -> raw_delivery::Model {
    let id = RawDeliveryId(id);
    let body = Some(b"signed".to_vec());
    raw_delivery::Model {
        id,
        source: "instagram/facebook-login".to_owned(),
        body,
        item_count: 1,
        received_at: at,
    }
}

on_both! {
    async fn bytes_go_after_seven_days_and_what_is_done_with_after_ninety(app: &TestApp) {
        let site = app.site().await;
        let tx = app.app.db.write().await.unwrap();
        let (old, new) = (delivery(tx.new_id(), tx.now()), delivery(tx.new_id(), tx.now().plus_ms(1)));
        let pushed = item::Model { delivery_id: Some(old.id), ..sent(&tx, &site, "pushed") };
        let fetched = sent(&tx, &site, "fetched");
        let waiting = item::Model {
            status: ItemStatus::Waiting,
            delivery_id: Some(old.id),
            due_at: tx.now().plus_ms(1_000 * DAY_MS),
            ..sent(&tx, &site, "waiting")
        };
        let nobodys = unmatched(&tx, &pushed);
        let earned = activity::Model { outcome: ActivityOutcome::Awarded, ..unmatched(&tx, &fetched) };
        insert(&tx, [old, new]).await;
        insert(&tx, [pushed, fetched, waiting]).await;
        insert(&tx, [nobodys, earned.clone()]).await;
        tx.commit().await.unwrap();

        app.clock.advance_ms(7 * DAY_MS);
        assert_eq!(clean(app).await, Removed::default());
        app.clock.advance_ms(1);
        assert_eq!(clean(app).await, Removed { bodies: 1, ..Removed::default() });
        let bodies = raw_delivery::Entity::find().order_by_asc(raw_delivery::Column::ReceivedAt);
        let bodies: Vec<_> = bodies.all(app.app.db.read()).await.unwrap().into_iter().map(|row| row.body).collect();
        assert_eq!(bodies, [None, Some(b"signed".to_vec())]);

        app.clock.advance_ms(83 * DAY_MS - 1);
        assert_eq!(clean(app).await, Removed { bodies: 1, ..Removed::default() }, "ninety days are not over");
        app.clock.advance_ms(1);
        let removed = Removed { deliveries: 2, items: 1, emptied: 1, activities: 1, ..Removed::default() };
        assert_eq!(clean(app).await, removed);
        assert_eq!(clean(app).await, Removed::default(), "nothing is done twice");

        let left = item::Entity::find().order_by_asc(item::Column::Id).all(app.app.db.read()).await.unwrap();
        let left: Vec<_> = left.iter().map(|row| (row.item_key.as_str(), row.payload.as_str())).collect();
        let known = r#"{"media_id":"m-1"}"#;
        assert_eq!(left, [("fetched", ""), ("waiting", known)], "a poller still knows what it has seen");
        assert_eq!(activity::Entity::find().all(app.app.db.read()).await.unwrap(), std::slice::from_ref(&earned));
        let path = format!("/admin/v1/activities/{}", earned.id);
        let read = app.call("GET", &path).key(ADMIN_KEY, &site.id).ok().await;
        assert_eq!(read["sourceItem"].get("payload"), None);
        assert_eq!(read["sourceItem"]["kind"], "mention");
    }
}

on_both! {
    async fn who_has_not_come_forward_in_time_is_no_longer_waited_for(app: &TestApp) {
        let site = app.site().await;
        let tx = app.app.db.write().await.unwrap();
        let never = tx.now().plus_ms(1_000 * DAY_MS);
        let parked = |key: &str, ms: i64| item::Model {
            status: ItemStatus::Parked,
            reason: Some("nobody is known to have this handle".to_owned()),
            due_at: never,
            expires_at: Some(tx.now().plus_ms(ms)),
            ..sent(&tx, &site, key)
        };
        insert(&tx, [parked("soon", 30 * DAY_MS), parked("later", 30 * DAY_MS + 1)]).await;
        tx.commit().await.unwrap();
        app.clock.advance_ms(30 * DAY_MS - 1);
        assert_eq!(clean(app).await, Removed::default());
        app.clock.advance_ms(1);
        assert_eq!(clean(app).await, Removed { expired: 1, ..Removed::default() });
        let rows = app.admin_list(&site, ITEMS, "sourceItems").await;
        let said: Vec<_> = rows.iter().map(|row| (row["status"].as_str().unwrap(), row["reason"].as_str().unwrap())).collect();
        assert_eq!(said, [
            ("PARKED", "nobody is known to have this handle"),
            ("DONE", "nobody came forward within 30 days"),
        ]);
    }
}

on_both! {
    async fn much_is_taken_away_a_little_at_a_time(app: &TestApp) {
        let site = app.site().await;
        let much = 2 * usize::try_from(AT_ONCE).unwrap() + 7;
        for part in 0..much.div_ceil(500) {
            let tx = app.app.db.write().await.unwrap();
            let count = (much - part * 500).min(500);
            let deliveries: Vec<_> = (0..count).map(|_| delivery(tx.new_id(), tx.now())).collect();
            // Every third was fetched.
            let items: Vec<_> = (0..count)
                .map(|number| item::Model {
                    delivery_id: (number % 3 > 0).then_some(deliveries[number].id),
                    ..sent(&tx, &site, &format!("{part}:{number}"))
                })
                .collect();
            insert(&tx, items.iter().map(|item| unmatched(&tx, item))).await;
            insert(&tx, deliveries).await;
            insert(&tx, items).await;
            tx.commit().await.unwrap();
        }
        app.clock.advance_ms(90 * DAY_MS + 1);
        let much = u64::try_from(much).unwrap();
        let removed = clean(app).await;
        assert_eq!((removed.bodies, removed.deliveries, removed.activities), (much, much, much));
        assert_eq!(removed.items + removed.emptied, much);
        assert_eq!(item::Entity::find().count(app.app.db.read()).await.unwrap(), removed.emptied);
        assert_eq!(raw_delivery::Entity::find().count(app.app.db.read()).await.unwrap(), 0);
        assert_eq!(clean(app).await, Removed::default());
    }
}
