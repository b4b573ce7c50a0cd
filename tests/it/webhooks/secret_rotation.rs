//! Rotation of what signs the headers, and of an app's key: no receiver ever rejects a delivery, whether it has the old
//! one, the new one, or a copy of the key set that it is allowed to have.

use entity::id::{ApiKeyId, SiteId, SubscriptionId};
use entity::subscription_secret;
use followpoints::access::Identity;
use followpoints::webhooks::signature_headers::HeaderSigner;
use followpoints::webhooks::standard::{Headers, HeadersError, VerifyingKey};
use followpoints::webhooks::{Job, secrets, subscriptions, trial};
use jsonwebtoken::jwk::JwkSet;
use jsonwebtoken::{Algorithm, DecodingKey, Validation};
use sea_orm::EntityTrait as _;
use serde_json::{Value, json};

use super::signature_headers::{accepts, header, subscribe_signed};
use super::{
    FOLLOWED, SUBSCRIPTIONS, advance_to, deliveries, delivery_of, installed_site, kid, new_follower,
    patch_subscription,
};
use crate::on_both;
use crate::support::client::Answer;
use crate::support::receiver::{Gate, Received, Receiver, Reply};
use crate::support::world::{Site, text};
use crate::support::{ADMIN_KEY, Backend, TestApp, TestDatabase, until};

const DAY_MS: i64 = 86_400_000;

async fn try_rotating(app: &TestApp, site: &Site, id: &str, body: &Value) -> Answer {
    let path = format!("{SUBSCRIPTIONS}/{id}/rotate-secret");
    app.call("POST", &path).key(ADMIN_KEY, &site.id).json(body).send().await
}

/// Rotates; gives the new secret and the new public key.
async fn rotate(app: &TestApp, site: &Site, id: &str, body: &Value) -> (String, String) {
    let answer = try_rotating(app, site, id, body).await;
    assert_eq!(answer.status.as_u16(), 200, "{}", answer.text);
    keys(&answer.json())
}

fn keys(answer: &Value) -> (String, String) {
    (text(&answer["signingSecret"]), text(&answer["webhookSubscription"]["signingPublicKey"]))
}

/// The last request that came after a new follow was sent.
async fn next(app: &TestApp, site: &Site, receiver: &Receiver, follower: &str) -> Received {
    let before = receiver.count();
    new_follower(app, site, follower).await;
    app.drain().await;
    assert!(receiver.count() > before, "nothing came");
    receiver.received().pop().unwrap()
}

async fn kept(app: &TestApp) -> usize {
    subscription_secret::Entity::find().all(app.app.db.read()).await.unwrap().len()
}

on_both! {
    async fn with_the_old_or_the_new_secret_a_receiver_accepts_every_delivery_of_the_overlap(app: &TestApp) {
        let (site, installed) = installed_site(app).await;
        let receiver = Receiver::start().await;
        let made = subscribe_signed(app, &site, &installed, &receiver.url, &["V1", "V1A"]).await;
        let id = text(&made["webhookSubscription"]["id"]);
        let old = keys(&made);
        // This one fails before the rotation and comes again and again after it.
        receiver.answer([Reply::status(500)]);
        let before = next(app, &site, &receiver, "u-0").await;
        for key in [&old.0, &old.1] {
            assert_eq!(accepts(app, key, &before), Ok(()));
        }
        let rotated = try_rotating(app, &site, &id, &json!({})).await.json();
        let new = keys(&rotated);
        assert_ne!((&old.0, &old.1), (&new.0, &new.1));
        let mut expected = made["webhookSubscription"].clone();
        expected["revision"] = json!("2");
        expected["signingPublicKey"] = json!(new.1);
        assert_eq!(rotated, json!({"webhookSubscription": expected, "signingSecret": new.0}));

        // In mid-retry: the event and the token are older than the rotation, the signatures are not.
        let waiting = deliveries(app, &site).await[0].clone();
        receiver.answer([Reply::status(500)]);
        advance_to(app, &waiting["nextAttemptDate"]);
        app.drain().await;
        let resent = receiver.received().pop().unwrap();
        assert_eq!((header(&resent, "webhook-id"), &resent.body), (header(&before, "webhook-id"), &before.body));
        let end = app.app.db.now().0 + DAY_MS - (app.app.db.now().0 - crate::support::START.0);
        let mut seen = vec![resent];
        for (number, wait) in [0, 1, 4_999, 5_001, 3_600_000].into_iter().enumerate() {
            app.clock.advance_ms(wait);
            let request = next(app, &site, &receiver, &format!("u-1-{number}")).await;
            for key in [&old.0, &old.1, &new.0, &new.1] {
                assert_eq!(accepts(app, key, &request), Ok(()), "{number}");
            }
            seen.push(request);
        }
        app.clock.advance_ms(end - 1 - app.app.db.now().0);
        let last = next(app, &site, &receiver, "u-2").await;
        for key in [&old.0, &old.1, &new.0, &new.1] {
            assert_eq!(accepts(app, key, &last), Ok(()));
        }
        for request in &seen {
            assert_eq!(header(request, "webhook-signature").split(' ').count(), 4);
        }
        app.clock.advance_ms(1);
        let after = next(app, &site, &receiver, "u-3").await;
        assert_eq!(header(&after, "webhook-signature").split(' ').count(), 2);
        for (old, new, scheme) in [(&old.0, &new.0, "v1"), (&old.1, &new.1, "v1a")] {
            assert_eq!(accepts(app, new, &after), Ok(()));
            assert_eq!(accepts(app, old, &after), Err(HeadersError::Mismatch(scheme)));
        }

        assert_eq!(kept(app).await, 4);
        let tx = app.app.db.write().await.unwrap();
        assert_eq!(secrets::delete_expired(&tx).await.unwrap(), 2);
        tx.commit().await.unwrap();
        assert_eq!(kept(app).await, 2);
        let cleaned = next(app, &site, &receiver, "u-4").await;
        assert_eq!(accepts(app, &new.0, &cleaned), Ok(()));
    }
}

on_both! {
    async fn without_overlap_the_very_next_try_has_the_new_secret_only_also_of_what_was_queued(app: &TestApp) {
        let (site, installed) = installed_site(app).await;
        let receiver = Receiver::start().await;
        let made = subscribe_signed(app, &site, &installed, &receiver.url, &["V1", "V1A"]).await;
        let id = text(&made["webhookSubscription"]["id"]);
        let old = keys(&made);
        receiver.answer([Reply::status(500)]);
        let before = next(app, &site, &receiver, "u-1").await;
        assert_eq!(accepts(app, &old.0, &before), Ok(()), "the old secret is now in memory");

        let new = rotate(app, &site, &id, &json!({"overlapSeconds": 0})).await;
        let fresh = next(app, &site, &receiver, "u-2").await;
        assert_eq!(header(&fresh, "webhook-signature").split(' ').count(), 2);
        assert_eq!(accepts(app, &new.0, &fresh), Ok(()));
        let waiting = delivery_that_waits(app, &site).await;
        advance_to(app, &waiting["nextAttemptDate"]);
        app.drain().await;
        let resent = receiver.received().pop().unwrap();
        assert_eq!(header(&resent, "webhook-id"), header(&before, "webhook-id"));
        let path = format!("{SUBSCRIPTIONS}/{id}/test");
        app.call("POST", &path).key(ADMIN_KEY, &site.id).ok().await;
        let tested = receiver.received().pop().unwrap();
        for request in [&resent, &tested] {
            assert_eq!(accepts(app, &new.0, request), Ok(()));
            assert_eq!(accepts(app, &new.1, request), Ok(()));
            assert_eq!(accepts(app, &old.0, request), Err(HeadersError::Mismatch("v1")));
            assert_eq!(accepts(app, &old.1, request), Err(HeadersError::Mismatch("v1a")));
        }
    }
}

on_both! {
    async fn what_is_queued_in_memory_at_a_rotation_without_overlap_goes_out_with_the_new_secret(app: &TestApp) {
        let (site, installed) = installed_site(app).await;
        let (receiver, gate) = (Receiver::start().await, Gate::closed());
        let made = subscribe_signed(app, &site, &installed, &receiver.url, &["V1"]).await;
        let id = text(&made["webhookSubscription"]["id"]);
        patch_subscription(app, &site, &id, &json!({"maxInFlight": 1, "timeoutMs": 15_000})).await;
        receiver.answer([Reply::status(200).behind(&gate)]);
        for number in 0..3 {
            new_follower(app, &site, &format!("u-{number}")).await;
        }
        receiver.wait_for(1).await;
        let rotated = try_rotating(app, &site, &id, &json!({"overlapSeconds": 0})).await.json();
        gate.open();
        app.drain().await;
        let new = text(&rotated["signingSecret"]);
        let said: Vec<_> = receiver.received().iter().map(|request| accepts(app, &new, request)).collect();
        assert_eq!(said, [Err(HeadersError::Mismatch("v1")), Ok(()), Ok(())], "the first was under way");
        assert!(deliveries(app, &site).await.iter().all(|row| row["status"] == "DELIVERED"));
    }
}

async fn delivery_that_waits(app: &TestApp, site: &Site) -> Value {
    let rows = deliveries(app, site).await;
    rows.into_iter().find(|row| row["status"] == "RETRYING").unwrap()
}

on_both! {
    async fn ten_replaced_secrets_sign_and_an_eleventh_is_refused_until_one_ends(app: &TestApp) {
        let (site, installed) = installed_site(app).await;
        let receiver = Receiver::start().await;
        let made = subscribe_signed(app, &site, &installed, &receiver.url, &["V1"]).await;
        let id = text(&made["webhookSubscription"]["id"]);
        let mut secrets = vec![text(&made["signingSecret"])];
        for number in 0..10 {
            let overlap = if number == 0 { 604_800 } else { 60 };
            let answer = try_rotating(app, &site, &id, &json!({"overlapSeconds": overlap})).await.json();
            secrets.push(text(&answer["signingSecret"]));
        }
        let request = next(app, &site, &receiver, "u-1").await;
        assert_eq!(header(&request, "webhook-signature").split(' ').count(), 11);
        for secret in &secrets {
            assert_eq!(accepts(app, secret, &request), Ok(()));
        }
        let full = try_rotating(app, &site, &id, &json!({"overlapSeconds": 1})).await;
        let what = "10 replaced secrets still sign; wait until the overlap of one ends, or rotate with overlapSeconds 0";
        let refusal = json!({"message": what, "details": {"applicationError": {
            "code": "TOO_MANY_SIGNING_SECRETS", "description": what, "data": {},
        }}});
        assert_eq!((full.status.as_u16(), full.json()), (428, refusal));
        let request = next(app, &site, &receiver, "u-2").await;
        assert_eq!(accepts(app, &secrets[10], &request), Ok(()), "a refused rotation changes nothing");

        app.clock.advance_ms(60_000);
        assert_eq!(try_rotating(app, &site, &id, &json!({"overlapSeconds": 1})).await.status.as_u16(), 200);
        let request = next(app, &site, &receiver, "u-3").await;
        let still = |secret: &String| accepts(app, secret, &request) == Ok(());
        let signing: Vec<usize> = (0..secrets.len()).filter(|index| still(&secrets[*index])).collect();
        assert_eq!(signing, [0, 10], "the first has a week, the last a second more");

        let answer = try_rotating(app, &site, &id, &json!({"overlapSeconds": 0})).await.json();
        let request = next(app, &site, &receiver, "u-4").await;
        assert_eq!(header(&request, "webhook-signature").split(' ').count(), 1, "none signs beside the new one");
        assert_eq!(accepts(app, &text(&answer["signingSecret"]), &request), Ok(()));
    }
}

on_both! {
    async fn a_rotation_needs_a_subscription_with_secrets_and_an_overlap_of_a_week_at_most(app: &TestApp) {
        let (site, installed) = installed_site(app).await;
        let plain = app.subscribe(&site, &installed, &[FOLLOWED], "https://hooks.example/").await;
        let none = try_rotating(app, &site, &plain, &json!({})).await;
        assert_eq!(none.error(), (428, "NO_SIGNING_SECRET".to_owned()));
        let unknown = try_rotating(app, &site, "01a1fae0-1eff-77b5-972a-09dcdce0937d", &json!({})).await;
        assert_eq!(unknown.error(), (404, "WEBHOOK_SUBSCRIPTION_NOT_FOUND".to_owned()));
        for (overlap, rule) in [(json!(-1), "MIN"), (json!(604_801), "MAX"), (json!("1"), "FORMAT")] {
            let refused = try_rotating(app, &site, &plain, &json!({"overlapSeconds": overlap})).await;
            assert_eq!(refused.violations(), [("overlapSeconds".to_owned(), rule.to_owned())]);
        }
        let made = subscribe_signed(app, &site, &installed, "https://hooks.example/", &["V1A"]).await;
        let id = text(&made["webhookSubscription"]["id"]);
        let rotated = try_rotating(app, &site, &id, &json!({"overlapSeconds": 604_800})).await.json();
        assert_eq!(rotated.get("signingSecret"), None, "it has no shared secret");
        let [old, new] = [&made, &rotated].map(|answer| text(&answer["webhookSubscription"]["signingPublicKey"]));
        assert_ne!(old, new);

        assert_eq!(kept(app).await, 2);
        app.call("DELETE", &format!("{SUBSCRIPTIONS}/{id}")).key(ADMIN_KEY, &site.id).ok().await;
        assert_eq!(kept(app).await, 0);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_clean_up_after_a_start_deletes_what_signs_no_more() {
    let app = TestApp::start_apart(TestDatabase::new(Backend::Sqlite).await.unwrap()).await;
    let (site, installed) = installed_site(&app).await;
    let made = subscribe_signed(&app, &site, &installed, "https://hooks.example/", &["V1"]).await;
    let id = text(&made["webhookSubscription"]["id"]);
    for overlap in [0, 60] {
        rotate_only(&app, &site, &id, overlap).await;
    }
    assert_eq!(kept(&app).await, 3);
    let app = app.restart_at_work().await;
    until("the clean-up comes", async || (kept(&app).await == 2).then_some(())).await;
    app.app.stop().await;
}

async fn rotate_only(app: &TestApp, site: &Site, id: &str, overlap: i64) {
    let answer = try_rotating(app, site, id, &json!({"overlapSeconds": overlap})).await;
    assert_eq!(answer.status.as_u16(), 200, "{}", answer.text);
}

/// A receiver as the documentation wants it: it keeps a copy of the key set for as long as `Cache-Control` allows.
struct KeySetReader {
    path: String,
    copy: JwkSet,
    read_at: i64,
}

impl KeySetReader {
    async fn read(app: &TestApp, app_id: &str) -> Self {
        let path = format!("/.well-known/jwks.json?appId={app_id}");
        let answer = app.call("GET", &path).send().await;
        assert_eq!(answer.headers["cache-control"], "public, max-age=300");
        Self { path, copy: serde_json::from_value(answer.json()).unwrap(), read_at: app.app.db.now().0 }
    }

    async fn accepts(&mut self, app: &TestApp, token: &str) -> bool {
        if app.app.db.now().0 - self.read_at >= 300_000 {
            let set = app.call("GET", &self.path).ok().await;
            self.copy = serde_json::from_value(set).unwrap();
            self.read_at = app.app.db.now().0;
        }
        let Some(key) = self.copy.find(&kid(token)) else { return false };
        let mut validation = Validation::new(Algorithm::RS256);
        // Its clock is not this machine's.
        (validation.validate_exp, validation.validate_aud) = (false, false);
        let key = DecodingKey::from_jwk(key).unwrap();
        jsonwebtoken::decode::<Value>(token, &key, &validation).is_ok()
    }
}

on_both! {
    async fn with_any_allowed_copy_of_the_key_set_a_receiver_accepts_every_token_around_a_rotation(app: &TestApp) {
        let (site, installed) = installed_site(app).await;
        let receiver = Receiver::start().await;
        let id = app.subscribe(&site, &installed, &[FOLLOWED], &receiver.url).await;
        app.clock.advance_ms(1_000);
        receiver.answer([Reply::status(500)]);
        // The worst copy: read at the last moment before the rotation.
        let mut copy = KeySetReader::read(app, &installed.id).await;
        assert!(copy.accepts(app, &next(app, &site, &receiver, "u-0").await.body).await);
        let path = format!("/admin/v1/apps/{}/rotate-key", installed.id);
        app.call("POST", &path).auth(ADMIN_KEY).ok().await;
        let waiting = delivery_of(app, &site, &id).await;

        let mut kids = Vec::new();
        for (number, wait) in [0, 150_000, 149_999, 1, 299_999, 1, DAY_MS].into_iter().enumerate() {
            app.clock.advance_ms(wait);
            if number == 1 {
                // The next two tries of the first event happen after the rotation.
                assert!(waiting["nextAttemptDate"].is_string());
                receiver.answer([Reply::status(500)]);
                app.drain().await;
                assert!(copy.accepts(app, &receiver.bodies().pop().unwrap()).await);
            }
            let from = receiver.count();
            new_follower(app, &site, &format!("u-1-{number}")).await;
            app.drain().await;
            for body in &receiver.bodies()[from..] {
                assert!(copy.accepts(app, body).await, "{number}");
                kids.push(kid(body));
            }
        }
        kids.sort_unstable();
        kids.dedup();
        assert_eq!(kids.len(), 2, "both keys have signed");
        assert_eq!(deliveries(app, &site).await.iter().filter(|row| row["status"] != "DELIVERED").count(), 0);
    }
}

on_both! {
    /// Another node that has the old secrets in memory. What it claims or makes after the rotation knows of it; what it had
    /// queued before is signed with the old ones for up to five seconds, which the overlap covers.
    async fn another_node_signs_with_the_new_secret_at_once_or_with_the_old_one_for_five_seconds(app: &TestApp) {
        let (site, installed) = installed_site(app).await;
        let made = subscribe_signed(app, &site, &installed, "https://hooks.example/", &["V1"]).await;
        let id = text(&made["webhookSubscription"]["id"]);
        let old = VerifyingKey::parse(&text(&made["signingSecret"])).unwrap();
        let other_node = HeaderSigner::new(app.app.db.clone(), app.app.sealer.clone());
        let job = || async {
            let (site, id) = (SiteId(site.id.parse().unwrap()), SubscriptionId(id.parse().unwrap()));
            let row = subscriptions::find_subscription(app.app.db.read(), site, id).await.unwrap().unwrap();
            trial::test_job(&app.app.db, row, &Identity::Key(ApiKeyId(uuid::Uuid::nil())))
        };
        let signed = |job: &Job| {
            let job = job.clone();
            let other_node = other_node.clone();
            async move {
                let headers = other_node.sign(&job, b"body").await.unwrap();
                headers.into_iter().map(|(_, value)| value.to_str().unwrap().to_owned()).collect::<Vec<_>>()
            }
        };
        let fits = |key: &VerifyingKey, headers: &[String]| {
            let [id, timestamp, signature] = headers else { panic!("{headers:?}") };
            key.verify(Headers { id, timestamp, signature }, b"body", app.app.db.now()).is_ok()
        };
        let queued = job().await;
        assert!(fits(&old, &signed(&queued).await));
        app.clock.advance_ms(1);
        let rotated = try_rotating(app, &site, &id, &json!({"overlapSeconds": 5})).await.json();
        let new = VerifyingKey::parse(&text(&rotated["signingSecret"])).unwrap();

        app.clock.advance_ms(4_998);
        let headers = signed(&queued).await;
        assert_eq!((fits(&old, &headers), fits(&new, &headers)), (true, false));
        app.clock.advance_ms(1);
        let headers = signed(&queued).await;
        assert_eq!((fits(&old, &headers), fits(&new, &headers)), (true, true));

        // One that knows the revision does not wait.
        let rotated = try_rotating(app, &site, &id, &json!({"overlapSeconds": 0})).await.json();
        let newest = VerifyingKey::parse(&text(&rotated["signingSecret"])).unwrap();
        let headers = signed(&job().await).await;
        assert_eq!((fits(&new, &headers), fits(&newest, &headers)), (false, true));
    }
}
