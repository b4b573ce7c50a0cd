//! Webhook number n fails, for n = 1, 2, 3 … until nothing is left to fail: whichever request it hits and however it
//! fails, nothing is lost, nothing is half-done and the same event keeps its id.

use std::collections::{BTreeMap, BTreeSet};

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use entity::event;
use entity::id::SiteId;
use followpoints::points::verify;
use sea_orm::{ColumnTrait as _, EntityTrait as _, QueryFilter as _};
use serde_json::{Value, json};

use crate::on_both;
use crate::support::receiver::{Gate, Received, Receiver, Reply};
use crate::support::world::{ALL_EVENTS, InstalledApp, Member, Site, text};
use crate::support::{ADMIN_KEY, ENOUGH, TestApp};

/// The first resend is due by then: a minute and its jitter.
const AFTER_FIRST_RESEND_MS: i64 = 66_001;
/// Requests of the scenario when nothing fails: four events for the first follow, three for the second, one for the third,
/// which gives no points; the second subscription takes two types of these.
const REQUESTS: usize = 8 + 4;

/// A way to fail, and what the attempt log says of it.
struct Failure {
    reply: Reply,
    status: Option<i64>,
    class: Option<&'static str>,
}

impl Failure {
    fn status(status: u16) -> Self {
        Self { reply: Reply::status(status), status: Some(i64::from(status)), class: None }
    }
}

/// A site with two subscriptions to one receiver.
struct Scene {
    site: Site,
    member: Member,
    subscriptions: [String; 2],
    receiver: Receiver,
}

impl Scene {
    async fn set(app: &TestApp, installed: &InstalledApp) -> Self {
        let site = app.site().await;
        let body = json!({"appInstance": {"appId": installed.id}});
        app.call("POST", "/admin/v1/app-instances").key(ADMIN_KEY, &site.id).json(&body).ok().await;
        let receiver = Receiver::start().await;
        let all = app.subscribe(&site, installed, &ALL_EVENTS, &receiver.url).await;
        let two = app.subscribe(&site, installed, &ALL_EVENTS[..2], &receiver.url).await;
        for id in [&all, &two] {
            let body = json!({"webhookSubscription": {"timeoutMs": 1_000}});
            let path = format!("/admin/v1/webhook-subscriptions/{id}");
            app.call("PATCH", &path).key(ADMIN_KEY, &site.id).json(&body).ok().await;
        }
        let member = app.member(&site, "u-1").await;
        Self { site, member, subscriptions: [all, two], receiver }
    }

    /// Three follows, then the resends that became due.
    async fn play(&self, app: &TestApp) {
        for channel in ["X", "INSTAGRAM", "FACEBOOK"] {
            app.follow(&self.member, channel).await;
            app.drain().await;
        }
        app.clock.advance_ms(AFTER_FIRST_RESEND_MS);
        app.drain().await;
    }

    async fn deliveries(&self, app: &TestApp) -> Vec<Value> {
        app.admin_list(&self.site, "/admin/v1/webhook-deliveries?limit=100", "webhookDeliveries").await
    }

    /// What must hold however the scenario went: every event for both subscriptions, points and ledger untouched.
    async fn check(&self, app: &TestApp) {
        let account = app.account(&self.member).await;
        assert_eq!(account["points"]["balance"], 80);
        assert_eq!(verify::verify(app.app.db.read(), |_| {}).await.unwrap().faults, []);

        let site = SiteId(self.site.id.parse().unwrap());
        let events = event::Entity::find().filter(event::Column::SiteId.eq(site)).all(app.app.db.read());
        let events: BTreeMap<String, String> =
            events.await.unwrap().into_iter().map(|event| (event.id.to_string(), event.event_type)).collect();
        assert_eq!(events.len(), 8);
        let expected: BTreeSet<(String, String)> = events
            .iter()
            .flat_map(|(event, kind)| {
                let [all, two] = &self.subscriptions;
                let both = ALL_EVENTS[..2].contains(&kind.as_str());
                [Some(all), both.then_some(two)].into_iter().flatten().map(|id| (event.clone(), id.clone()))
            })
            .collect();
        let deliveries = self.deliveries(app).await;
        let recorded: BTreeSet<_> = deliveries
            .iter()
            .map(|delivery| (text(&delivery["eventId"]), text(&delivery["subscriptionId"])))
            .collect();
        assert_eq!(recorded, expected);
        assert_eq!(deliveries.len(), expected.len());

        let mut tokens: BTreeMap<String, String> = BTreeMap::new();
        for received in self.receiver.received() {
            let id = event_id(&received);
            assert!(events.contains_key(&id), "{id} came, but never happened");
            let first = tokens.entry(id).or_insert_with(|| received.body.clone());
            assert_eq!(*first, received.body, "a repeat must be the same token");
        }
        assert_eq!(tokens.into_keys().collect::<Vec<_>>(), events.into_keys().collect::<Vec<_>>());
    }

    /// The one delivery that needed more than one attempt, with its attempts' status and class.
    async fn attempts_of_the_failed_one(&self, app: &TestApp) -> Vec<(Option<i64>, Option<String>)> {
        let deliveries = self.deliveries(app).await;
        let failed: Vec<_> = deliveries.iter().filter(|delivery| delivery["attemptCount"] != 1).collect();
        assert_eq!(failed.len(), 1, "{failed:?}");
        let path = format!("/admin/v1/webhook-deliveries/{}", text(&failed[0]["id"]));
        let delivery = app.call("GET", &path).key(ADMIN_KEY, &self.site.id).ok().await;
        let attempts = delivery["webhookDelivery"]["attempts"].as_array().cloned().unwrap();
        attempts
            .iter()
            .map(|attempt| {
                (attempt["statusCode"].as_i64(), attempt["errorClass"].as_str().map(str::to_owned))
            })
            .collect()
    }
}

fn event_id(received: &Received) -> String {
    let claims = received.body.split('.').nth(1).unwrap();
    let claims: Value = serde_json::from_slice(&URL_SAFE_NO_PAD.decode(claims).unwrap()).unwrap();
    text(&claims["jti"])
}

/// Plays the scenario with request `number` failing; says whether there was one.
async fn fails_at(app: &TestApp, installed: &InstalledApp, number: usize, failure: &Failure) -> bool {
    let scene = Scene::set(app, installed).await;
    let replies = (1..number).map(|_| Reply::status(200)).chain([failure.reply.clone()]);
    scene.receiver.answer(replies);

    scene.play(app).await;

    scene.check(app).await;
    for delivery in scene.deliveries(app).await {
        assert_eq!(delivery["status"], "DELIVERED", "with request {number} failing: {delivery}");
    }
    let count = scene.receiver.received().len();
    if number > REQUESTS {
        assert_eq!(count, REQUESTS);
        return false;
    }
    assert_eq!(count, REQUESTS + 1, "one request is repeated, and only one");
    let class = failure.class.map(str::to_owned);
    assert_eq!(scene.attempts_of_the_failed_one(app).await, [(failure.status, class), (Some(200), None)]);
    true
}

async fn fails_everywhere(app: &TestApp, failure: Failure) {
    let installed = app.installed_app(&app.site().await).await;
    let mut number = 1;
    while fails_at(app, &installed, number, &failure).await {
        number += 1;
    }
    assert_eq!(number, REQUESTS + 1);
}

on_both! {
    async fn g3_whichever_request_is_refused_it_is_repeated_and_nothing_else_is(app: &TestApp) {
        fails_everywhere(app, Failure::status(500)).await;
    }
}

on_both! {
    async fn g3_whichever_request_is_redirected_it_is_repeated_and_nothing_else_is(app: &TestApp) {
        let reply = Reply::status(302).header("location", "http://127.0.0.1:9/");
        fails_everywhere(app, Failure { reply, ..Failure::status(302) }).await;
    }
}

on_both! {
    async fn g3_whichever_request_hangs_it_is_repeated_and_nothing_else_is(app: &TestApp) {
        let failure = Failure { reply: Reply::hang(), status: None, class: Some("TIMEOUT") };
        fails_everywhere(app, failure).await;
    }
}

on_both! {
    /// 410 disables the subscription: what it had not got yet is kept, and is sent when it is enabled again.
    async fn g3_whichever_request_is_answered_gone_nothing_is_lost(app: &TestApp) {
        let installed = app.installed_app(&app.site().await).await;
        for number in 1..=REQUESTS {
            let scene = Scene::set(app, &installed).await;
            scene.receiver.answer((1..number).map(|_| Reply::status(200)).chain([Reply::status(410)]));
            app.follow(&scene.member, "X").await;
            app.drain().await;
            let gone = enable_again(app, &scene).await;
            for channel in ["INSTAGRAM", "FACEBOOK"] {
                app.follow(&scene.member, channel).await;
                app.drain().await;
            }
            let gone_later = enable_again(app, &scene).await;

            assert_eq!(gone + gone_later, 1, "with request {number}");
            // What happened while it was disabled is not recorded for it; what is recorded has arrived.
            for delivery in scene.deliveries(app).await {
                assert_eq!(delivery["status"], "DELIVERED", "with request {number}: {delivery}");
            }
            assert_eq!(app.account(&scene.member).await["points"]["balance"], 80);
        }
    }
}

/// Enables what was disabled and sends again what was given up; says how much that was.
async fn enable_again(app: &TestApp, scene: &Scene) -> usize {
    for id in &scene.subscriptions {
        let body = json!({"webhookSubscription": {"status": "ENABLED"}});
        let path = format!("/admin/v1/webhook-subscriptions/{id}");
        app.call("PATCH", &path).key(ADMIN_KEY, &scene.site.id).json(&body).ok().await;
    }
    let path = "/admin/v1/webhook-deliveries?status=EXHAUSTED";
    let given_up = app.admin_list(&scene.site, path, "webhookDeliveries").await;
    for delivery in &given_up {
        let path = format!("/admin/v1/webhook-deliveries/{}/redeliver", text(&delivery["id"]));
        app.call("POST", &path).key(ADMIN_KEY, &scene.site.id).ok().await;
    }
    app.drain().await;
    given_up.len()
}

on_both! {
    /// Requests that are under way together all hear 410, one after the other: only the first changes the subscription.
    async fn several_answers_gone_disable_a_subscription_once(app: &TestApp) {
        let site = app.site().await;
        let installed = app.installed_app(&site).await;
        let (receiver, first, gate) = (Receiver::start().await, Gate::closed(), Gate::closed());
        let id = app.subscribe(&site, &installed, &ALL_EVENTS, &receiver.url).await;
        let path = format!("/admin/v1/webhook-subscriptions/{id}");
        let body = json!({"webhookSubscription": {"timeoutMs": 15_000}});
        app.call("PATCH", &path).key(ADMIN_KEY, &site.id).json(&body).ok().await;
        receiver.answer([Reply::status(410).behind(&first)]);
        receiver.answer([(); 3].map(|()| Reply::status(410).behind(&gate)));
        let member = app.member(&site, "u-1").await;
        app.follow(&member, "X").await;
        receiver.wait_for(4).await;
        first.open();

        let disabled = async {
            loop {
                let read = app.call("GET", &path).key(ADMIN_KEY, &site.id).ok().await;
                if read["webhookSubscription"]["status"] == "DISABLED" {
                    return read;
                }
            }
        };
        let disabled = tokio::time::timeout(ENOUGH, disabled).await.unwrap();
        app.clock.advance_ms(1_000);
        gate.open();
        app.drain().await;

        assert_eq!(disabled["webhookSubscription"]["revision"], "3");
        assert_eq!(disabled["webhookSubscription"]["statusReason"], "the receiver answered 410 Gone");
        assert_eq!(app.call("GET", &path).key(ADMIN_KEY, &site.id).ok().await, disabled);
        assert_eq!(receiver.received().len(), 4);
    }
}
