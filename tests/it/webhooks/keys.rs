//! Rotation of an app's key: published at once, used later, and the old one stays for as long as anything that it
//! signed.

use serde_json::{Value, json};

use super::{DELIVERIES, FOLLOWED, advance_to, deliveries, installed_site, kid, new_follower};
use crate::on_both;
use crate::support::receiver::{Receiver, Reply};
use crate::support::world::{InstalledApp, text};
use crate::support::{ADMIN_KEY, TestApp};

/// The ids in the key set of one app, newest first.
async fn published(app: &TestApp, installed: &InstalledApp) -> Vec<String> {
    let set = app.call("GET", &format!("/.well-known/jwks.json?appId={}", installed.id)).ok().await;
    set["keys"].as_array().unwrap().iter().map(|key| text(&key["kid"])).collect()
}

async fn rotate(app: &TestApp, installed: &InstalledApp) -> Value {
    let path = format!("/admin/v1/apps/{}/rotate-key", installed.id);
    app.call("POST", &path).auth(ADMIN_KEY).ok().await["app"].clone()
}

on_both! {
    async fn a_new_key_is_published_at_once_signs_five_minutes_later_and_the_old_one_stays_on(app: &TestApp) {
        let (site, installed) = installed_site(app).await;
        let receiver = Receiver::start().await;
        app.subscribe(&site, &installed, &[FOLLOWED], &receiver.url).await;
        assert_eq!(published(app, &installed).await, [installed.key_id.as_str()]);
        app.clock.advance_ms(1_000);
        let rotated = rotate(app, &installed).await;
        let (old, new) = (installed.key_id.clone(), text(&rotated["keyId"]));
        assert_ne!(old, new);
        assert_ne!(rotated["publicKey"], installed.public_key.as_str());
        assert_eq!(
            rotated,
            json!({
                "id": installed.id, "name": "CRM sync", "keyId": new, "publicKey": rotated["publicKey"],
                "keyActiveDate": "2024-08-01T11:56:42.431Z", "createdDate": "2024-08-01T11:51:41.431Z",
                "updatedDate": "2024-08-01T11:51:41.431Z",
            })
        );
        assert_eq!(published(app, &installed).await, [new.clone(), old.clone()]);

        receiver.answer([Reply::status(500)]);
        app.clock.advance_ms(299_999);
        new_follower(app, &site, "u-1").await;
        app.drain().await;
        app.clock.advance_ms(1);
        new_follower(app, &site, "u-2").await;
        app.drain().await;
        let waiting =
            app.admin_list(&site, &format!("{DELIVERIES}?status=RETRYING"), "webhookDeliveries").await;
        advance_to(app, &waiting[0]["nextAttemptDate"]);
        app.drain().await;
        let bodies = receiver.bodies();
        let kids: Vec<String> = bodies.iter().map(|body| kid(body)).collect();
        assert_eq!(kids, [old.clone(), new.clone(), old.clone()], "a resend keeps the key of its event");
        assert_eq!(bodies[0], bodies[2]);

        // Active at 11:56:42.431, and 300 000 s after that nothing lives that the old one signed.
        let retires = json!("2024-08-04T23:16:42.431Z");
        advance_to(app, &retires);
        app.clock.advance_ms(-1);
        assert_eq!(published(app, &installed).await, [new.clone(), old]);
        app.clock.advance_ms(1);
        assert_eq!(published(app, &installed).await, [new.as_str()]);

        let first = text(&deliveries(app, &site).await[1]["id"]);
        app.call("POST", &format!("{DELIVERIES}/{first}/redeliver")).key(ADMIN_KEY, &site.id).ok().await;
        app.drain().await;
        assert_eq!(kid(&receiver.bodies()[3]), new, "what is signed anew is signed with a published key");
    }
}

on_both! {
    async fn two_rotations_in_a_row_keep_every_key_published_that_may_have_signed(app: &TestApp) {
        let (site, installed) = installed_site(app).await;
        let other = app.installed_app(&site).await;
        let receiver = Receiver::start().await;
        app.subscribe(&site, &installed, &[FOLLOWED], &receiver.url).await;
        app.clock.advance_ms(1_000);
        let second = text(&rotate(app, &installed).await["keyId"]);
        app.clock.advance_ms(10_000);
        let third = text(&rotate(app, &installed).await["keyId"]);
        let first = installed.key_id.clone();

        let mut kids = Vec::new();
        for (number, wait) in [0, 290_000, 9_999, 1].into_iter().enumerate() {
            app.clock.advance_ms(wait);
            new_follower(app, &site, &format!("u-{number}")).await;
            app.drain().await;
            kids.push(kid(receiver.bodies().last().unwrap()));
            assert_eq!(published(app, &installed).await, [third.clone(), second.clone(), first.clone()]);
        }
        assert_eq!(kids, [first, second.clone(), second, third]);
        assert_eq!(published(app, &other).await, [other.key_id.as_str()]);
        let all = app.call("GET", "/.well-known/jwks.json").ok().await;
        assert_eq!(all["keys"].as_array().unwrap().len(), 4);
    }
}
