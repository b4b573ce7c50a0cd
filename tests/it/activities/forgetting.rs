//! What is forgotten while it is worked on: it does not come back.

use entity::deletion_request;
use entity::kinds::{ActivityType, ItemStatus, Platform};
use followpoints::activities::rules::{Limits, Requires};
use followpoints::profiles::erasure;
use followpoints::sites::config;
use sea_orm::{ConnectionTrait as _, DatabaseBackend, Statement};

use super::stage::{BRAND, MIA, Stage, member_id, site_id};
use crate::on_both;
use crate::support::dump::dump;
use crate::support::process::LOOK;
use crate::support::sources::insert;
use crate::support::{Backend, ENOUGH, TestApp};

/// Whoever connected the brand's account wants to be forgotten, and is.
async fn forget(app: &TestApp) {
    let tx = app.app.db.write().await.unwrap();
    let request = deletion_request::Model {
        code: "dl_test".to_owned(),
        platform: Platform::Instagram,
        owner_id: "10223344556677889".to_owned(),
        deleted_count: 1,
        accounts: format!("[\"{BRAND}\"]"),
        created_at: tx.now(),
        done_at: None,
    };
    insert(&tx, [request]).await;
    tx.commit().await.unwrap();
    assert_eq!(app.app.connections.forget_due().await.unwrap(), 1);
}

/// Rows with the words of the stage's messages.
async fn secrets(app: &TestApp) -> Vec<String> {
    dump(&app.app.db).await.into_iter().filter(|row| row.contains("secret words")).collect()
}

on_both! {
    async fn what_an_account_brought_is_not_recorded_once_it_is_forgotten(app: &TestApp) {
        let stage = Stage::new(app).await;
        let member = app.member(&stage.site, "u-1").await;
        stage.claim(&member, "mia.runs.oslo").await;
        let item = stage.item_of("message:m1", MIA.external).await;
        let seen = stage.message(&MIA, "m1", "secret words");
        forget(app).await;
        stage.again(&item, seen).await;

        assert_eq!(secrets(app).await, [""; 0]);
        assert!(stage.activity_rows().await.is_empty());
        let stored = stage.find_item(item.id).await;
        assert_eq!((stored.status, stored.payload.as_str(), stored.person), (ItemStatus::Done, "{}", None));
        assert_eq!(stored.reason.as_deref(), Some("whoever connected the account wants to be forgotten"));
    }
}

on_both! {
    async fn what_waits_of_a_member_ends_when_the_member_is_erased(app: &TestApp) {
        let stage = Stage::new(app).await;
        let member = app.member(&stage.site, "u-1").await;
        stage.claim(&member, "mia.runs.oslo").await;
        let requires = Requires { verified_handle: true, ..Requires::default() };
        stage.rule(ActivityType::DmYou, 25, Limits::default(), requires).await;
        stage.see("message:m1", stage.message(&MIA, "m1", "secret words")).await;
        let edit = stage.edit("m1", 1, "still secret words").await;
        let held = stage.activity_rows().await.remove(0);
        let waiting = stage.find_item(held.item_id).await;
        assert_eq!((held.outcome.as_str(), waiting.status.as_str()), ("HELD", "PARKED"));

        erasure::erase(&app.app.db, site_id(&stage.site), member_id(&member)).await.unwrap();
        stage.again(&waiting, stage.message(&MIA, "m1", "secret words")).await;

        let stored = stage.find_item(waiting.id).await;
        assert_eq!((stored.status, stored.payload.as_str(), stored.handle), (ItemStatus::Done, "{}", None));
        assert_eq!(stored.reason.as_deref(), Some("what is known of the member was erased"));
        assert_eq!(stage.find_item(edit.id).await.payload, "{}");
        let left = stage.activity_rows().await.remove(0);
        assert_eq!((left.properties.as_str(), left.handle, left.points), ("{}", None, 0));
    }
}

/// Waits until `count` transactions wait for the turn of a site.
async fn waiting(app: &TestApp, count: i64) {
    let sql = "SELECT count(*) AS waiting FROM pg_stat_activity WHERE datname = current_database() \
               AND wait_event_type = 'Lock' AND wait_event = 'advisory'";
    let mut looks = tokio::time::interval(LOOK);
    let seen = async {
        loop {
            looks.tick().await;
            let query = Statement::from_string(DatabaseBackend::Postgres, sql);
            let row = app.app.db.read().query_one_raw(query).await.unwrap().unwrap();
            if row.try_get::<i64>("", "waiting").unwrap() == count {
                return;
            }
        }
    };
    tokio::time::timeout(ENOUGH, seen).await.expect("they wait");
}

on_both! {
    /// Only PostgreSQL has several writers.
    async fn whoever_changes_what_was_recorded_waits_for_who_records(app: &TestApp) {
        if app.backend() == Backend::Sqlite {
            return;
        }
        let stage = Stage::new(app).await;
        let message = stage.see("message:m1", stage.message(&MIA, "m1", "secret words")).await;
        let tx = app.app.db.write().await.unwrap();
        config::take_turns(&tx, &[site_id(&stage.site)]).await.unwrap();
        let recorded = async {
            waiting(app, 2).await;
            tx.commit().await.unwrap();
        };
        tokio::join!(stage.unsend("m1"), forget(app), recorded);
        assert_eq!(stage.find_item(message.id).await.payload, "{}");
        let said = stage.activity_rows().await.remove(0).properties;
        assert!(!said.contains("secret"), "{said}");
    }
}
