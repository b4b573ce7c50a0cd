//! A process that ends between any two steps: what was acknowledged is done after it, once.

use entity::id::SiteId;
use entity::kinds::ItemStatus;
use entity::{activity, connection, item};
use followpoints::inbox::LEASE_MS;
use followpoints::points::verify;
use sea_orm::EntityTrait as _;
use serde_json::{Value, json};

use super::{FACEBOOK_LOGIN, SIGNATURE, message, messaging, signature};
use crate::on_both_databases;
use crate::support::graph::{APP, BRAND, Fault, Graph};
use crate::support::world::{Member, Site, text};
use crate::support::{ADMIN_KEY, ENOUGH, Options, TestApp, brand};

/// The person of the samples, who follows the brand.
const PERSON: &str = "5512034987760112";

async fn connect(app: &TestApp, site: &Site) {
    let row = brand::connection(app, SiteId(site.id.parse().unwrap()), BRAND);
    let tx = app.app.db.write().await.unwrap();
    let insert = connection::Entity::insert(connection::ActiveModel::from(row));
    insert.exec_without_returning(tx.conn()).await.unwrap();
    tx.commit().await.unwrap();
}

async fn send(app: &TestApp, body: &Value) {
    let body = body.to_string();
    let header = signature(APP.1, body.as_bytes());
    let call = app.call("POST", FACEBOOK_LOGIN).header(SIGNATURE, &header);
    assert_eq!(call.text("application/json", body.as_bytes()).send().await.status.as_u16(), 200);
}

async fn balance(app: &TestApp, member: &Member) -> i64 {
    app.account(member).await["points"]["balance"].as_i64().unwrap_or(0)
}

on_both_databases! {
    async fn g1_g6_a_process_that_ends_in_the_middle_does_each_thing_once(database: TestDatabase) {
        let graph = Graph::start().await;
        let options = Options { platforms: graph.settings(), ..Options::default() };
        let app = TestApp::start_apart_with(database, options).await;
        let site = app.site().await;
        connect(&app, &site).await;
        let member = app.member(&site, "u-1").await;
        let asked = json!({"linkCode": {"channel": "INSTAGRAM"}});
        let code = app.call("POST", "/me/v1/link-codes").auth(&member.token).json(&asked).ok().await;
        let mut dm = message("m-1");
        dm["timestamp"] = app.app.db.now().0.into();
        dm["message"]["text"] = json!(text(&code["linkCode"]["code"]));
        let body = messaging(&[dm]);

        // It ends while the person is looked up.
        graph.fail(PERSON, Some(1), Fault::Hang);
        send(&app, &body).await;
        let asked = async {
            while graph.calls_about(PERSON).is_empty() {
                tokio::task::yield_now().await;
            }
        };
        tokio::time::timeout(ENOUGH, asked).await.expect("the person is looked up");
        let app = app.restart().await;
        assert!(activity::Entity::find().all(app.app.db.read()).await.unwrap().is_empty());

        // Until the lease ends nobody takes it again; then it is done.
        app.app.sources.work_off().await.unwrap();
        let waiting = item::Entity::find().one(app.app.db.read()).await.unwrap().unwrap();
        assert_eq!((waiting.status, waiting.attempts), (ItemStatus::Waiting, 1));
        app.clock.advance_ms(LEASE_MS);
        app.app.sources.work_off().await.unwrap();
        assert_eq!(balance(&app, &member).await, 30);

        // It ends once more, and the platform sends all of it again, in another batch.
        let app = app.restart().await;
        app.clock.advance_ms(LEASE_MS);
        send(&app, &body).await;
        send(&app, &json!([body])).await;
        app.app.sources.work_off().await.unwrap();
        assert_eq!(balance(&app, &member).await, 30);
        let rows = activity::Entity::find().all(app.app.db.read()).await.unwrap();
        let mut outcomes: Vec<_> = rows.iter().map(|row| (row.activity_type.as_str(), row.points)).collect();
        outcomes.sort_unstable();
        assert_eq!(outcomes, [("DM_YOU_SOCIAL", 0), ("FOLLOWED_YOU_SOCIAL", 30)]);
        let follows = app.call("GET", "/admin/v1/followed-channels").key(ADMIN_KEY, &site.id).ok().await;
        assert_eq!(follows["followedChannels"][0]["evidence"], "VERIFIED");
        let report = verify::verify(app.app.db.read(), |_| {}).await.unwrap();
        assert_eq!((report.entries, report.faults.len()), (1, 0));
        app.app.stop().await;
    }
}
