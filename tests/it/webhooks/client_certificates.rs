//! Receivers that know us by a client certificate.

use std::io;
use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;

use entity::subscription;
use followpoints::outbound::{BoxFuture, Resolve};
use sea_orm::EntityTrait as _;
use serde_json::{Value, json};

use super::{
    FOLLOWED, SUBSCRIPTIONS, delivery_of, installed_site, new_follower, patch_subscription, subscribe_with,
};
use crate::on_both;
use crate::support::certificates::{
    ClientAuth, ClientPair, ENCRYPTED_KEY, EXPIRED, KnowingReceiver, LOYALTY, OTHER, ROOT,
};
use crate::support::world::{Site, text};
use crate::support::{ADMIN_KEY, Options, TestApp};

/// Takes every name for 127.0.0.1.
struct Loopback;

impl Resolve for Loopback {
    fn resolve(&self, _: &str) -> BoxFuture<'_, io::Result<Vec<IpAddr>>> {
        Box::pin(async { Ok(vec![IpAddr::V4(Ipv4Addr::LOCALHOST)]) })
    }
}

fn options() -> Options {
    Options { extra_roots: ROOT.as_bytes(), resolver: Arc::new(Loopback), ..Options::default() }
}

fn given(pair: ClientPair) -> Value {
    json!({"certificatePem": pair.certificate, "privateKeyPem": pair.private_key})
}

fn shown(pair: ClientPair) -> Value {
    json!({
        "subject": pair.subject, "sha256Fingerprint": pair.fingerprint, "notAfter": "2120-01-01T00:00:00.000Z",
    })
}

async fn read(app: &TestApp, site: &Site, id: &str) -> Value {
    let path = format!("{SUBSCRIPTIONS}/{id}");
    app.call("GET", &path).key(ADMIN_KEY, &site.id).ok().await["webhookSubscription"].clone()
}

on_both! {
    options: options(),
    async fn a_subscription_shows_its_certificate_until_another_is_set_or_it_is_removed(app: &TestApp) {
        let (site, installed) = installed_site(app).await;
        let receiver = KnowingReceiver::start(ClientAuth::Required, false).await;
        let more = json!({"clientCertificate": given(LOYALTY), "timeoutMs": 10_000});
        let created = subscribe_with(app, &site, &installed, &receiver.url, &more).await;
        assert_eq!(created["clientCertificate"], shown(LOYALTY));
        let id = text(&created["id"]);
        new_follower(app, &site, "u-1").await;
        app.drain().await;
        assert_eq!(delivery_of(app, &site, &id).await["status"], "DELIVERED");

        let renamed = patch_subscription(app, &site, &id, &json!({"maxInFlight": 2})).await;
        assert_eq!(renamed["clientCertificate"], shown(LOYALTY), "another change leaves it");
        new_follower(app, &site, "u-2").await;
        app.drain().await;
        let other = patch_subscription(app, &site, &id, &json!({"clientCertificate": given(OTHER)})).await;
        assert_eq!(other["clientCertificate"], shown(OTHER));
        assert_eq!(read(app, &site, &id).await, other);
        new_follower(app, &site, "u-3").await;
        app.drain().await;
        assert_eq!(receiver.callers(), [LOYALTY, LOYALTY, OTHER].map(|pair| Some(pair.subject)));
        assert_eq!(receiver.connections(), 2, "one for each certificate");

        let without = patch_subscription(app, &site, &id, &json!({"clientCertificate": null})).await;
        assert_eq!(without.get("clientCertificate"), None);
        assert_eq!(read(app, &site, &id).await, without);
        let path = format!("{SUBSCRIPTIONS}/{id}/test");
        let tested = app.call("POST", &path).key(ADMIN_KEY, &site.id).ok().await;
        assert_eq!(tested["webhookTest"]["attempt"]["errorClass"], "TLS_FAILED");
        assert_eq!(receiver.callers().len(), 3);
    }
}

on_both! {
    async fn a_certificate_that_cannot_be_used_is_refused_by_the_field_that_is_wrong(app: &TestApp) {
        let (site, installed) = installed_site(app).await;
        let id = app.subscribe(&site, &installed, &[FOLLOWED], "https://hooks.example/").await;
        let before = read(app, &site, &id).await;
        let changed = |name: &str, value: Value| {
            let mut pair = given(LOYALTY);
            pair[name] = value;
            pair
        };
        let (certificate, key) = ("certificatePem", "privateKeyPem");
        for (pair, field, rule, what) in [
            (changed(certificate, Value::Null), ".certificatePem", "REQUIRED_FIELD", "must not be empty"),
            (changed(key, Value::Null), ".privateKeyPem", "REQUIRED_FIELD", "must not be empty"),
            (changed(certificate, json!("")), ".certificatePem", "MIN_LENGTH", "has at least 1 characters"),
            (changed(key, json!("x".repeat(16_385))), ".privateKeyPem", "MAX_LENGTH", "has at most 16384 characters"),
            (changed(certificate, json!("hello")), ".certificatePem", "FORMAT", "contains no certificate in PEM form"),
            (given(EXPIRED), ".certificatePem", "FORMAT", "expired on 2023-01-01T00:00:00.000Z"),
            (
                changed(key, json!(ENCRYPTED_KEY)),
                ".privateKeyPem",
                "FORMAT",
                "is not an unencrypted private key in PEM form",
            ),
            (changed(key, json!(OTHER.private_key)), ".privateKeyPem", "FORMAT", "does not belong to the certificate"),
            (json!("hello"), "", "FORMAT", "must be an object"),
        ] {
            let field = format!("webhookSubscription.clientCertificate{field}");
            let new = json!({
                "appId": installed.id, "eventTypes": [FOLLOWED], "url": "https://hooks.example/",
                "clientCertificate": pair,
            });
            for (method, path, body) in [
                ("POST", SUBSCRIPTIONS.to_owned(), new),
                ("PATCH", format!("{SUBSCRIPTIONS}/{id}"), json!({"clientCertificate": pair})),
            ] {
                let body = json!({"webhookSubscription": body});
                let refused = app.call(method, &path).key(ADMIN_KEY, &site.id).json(&body).send().await;
                assert_eq!(refused.status.as_u16(), 400, "{field}: {what}");
                assert_eq!(refused.violations(), [(field.clone(), rule.to_owned())]);
                assert_eq!(refused.json()["message"], format!("{field} {what}"));
            }
        }
        assert_eq!(read(app, &site, &id).await, before);
        assert_eq!(app.admin_list(&site, SUBSCRIPTIONS, "webhookSubscriptions").await, [before]);
    }
}

on_both! {
    options: options(),
    async fn a_certificate_that_was_read_can_be_sent_back_without_its_key(app: &TestApp) {
        let (site, installed) = installed_site(app).await;
        let receiver = KnowingReceiver::start(ClientAuth::Required, false).await;
        let more = json!({"clientCertificate": given(LOYALTY), "timeoutMs": 10_000});
        let created = subscribe_with(app, &site, &installed, &receiver.url, &more).await;
        let id = text(&created["id"]);
        let again = patch_subscription(app, &site, &id, &created).await;
        assert_eq!((&again["clientCertificate"], &again["revision"]), (&shown(LOYALTY), &json!("2")));
        let alone = json!({"clientCertificate": {"certificatePem": LOYALTY.certificate}});
        let again = patch_subscription(app, &site, &id, &alone).await;
        assert_eq!(again["clientCertificate"], shown(LOYALTY));
        new_follower(app, &site, "u-1").await;
        app.drain().await;
        assert_eq!(receiver.callers(), [Some(LOYALTY.subject)], "with the key that it had");

        let (certificate, key) = ("certificatePem", "privateKeyPem");
        for (other, missing) in [
            (shown(OTHER), vec![certificate, key]),
            (json!({}), vec![certificate, key]),
            (json!({"certificatePem": OTHER.certificate}), vec![key]),
            (json!({"privateKeyPem": LOYALTY.private_key, "sha256Fingerprint": LOYALTY.fingerprint}), vec![certificate]),
        ] {
            let body = json!({"webhookSubscription": {"clientCertificate": other}});
            let path = format!("{SUBSCRIPTIONS}/{id}");
            let refused = app.call("PATCH", &path).key(ADMIN_KEY, &site.id).json(&body).send().await;
            let field = |name: &str| format!("webhookSubscription.clientCertificate.{name}");
            let expected: Vec<_> =
                missing.into_iter().map(|name| (field(name), "REQUIRED_FIELD".to_owned())).collect();
            assert_eq!(refused.violations(), expected, "{other}");
        }
        assert_eq!(read(app, &site, &id).await, again);
    }
}

on_both! {
    async fn the_private_key_is_sealed_at_rest_and_never_answered(app: &TestApp) {
        let (site, installed) = installed_site(app).await;
        let more = json!({"clientCertificate": given(LOYALTY)});
        let created = subscribe_with(app, &site, &installed, "https://hooks.example/", &more).await;
        let row = subscription::Entity::find().one(app.app.db.read()).await.unwrap().unwrap();
        let stored = String::from_utf8_lossy(&row.client_identity.unwrap()).into_owned();
        assert!(stored.contains(LOYALTY.certificate.lines().nth(1).unwrap()), "everybody may see a certificate");
        // The last line is the public half, which stands in the certificate too.
        for secret in LOYALTY.private_key.lines().take(3) {
            assert!(!stored.contains(secret) && !created.to_string().contains(secret), "{secret}");
        }
    }
}

on_both! {
    options: options(),
    async fn a_key_that_cannot_be_opened_fails_the_try_and_says_so(app: &TestApp) {
        let (site, installed) = installed_site(app).await;
        let receiver = KnowingReceiver::start(ClientAuth::Optional, false).await;
        let more = json!({"clientCertificate": given(LOYALTY)});
        let created = subscribe_with(app, &site, &installed, &receiver.url, &more).await;
        let id = text(&created["id"]);
        let tx = app.app.db.write().await.unwrap();
        let row = subscription::Entity::find().one(tx.conn()).await.unwrap().unwrap();
        let mut stored = row.client_identity.unwrap();
        *stored.last_mut().unwrap() ^= 1;
        subscription::Entity::update_many()
            .col_expr(subscription::Column::ClientIdentity, sea_orm::sea_query::Expr::val(stored))
            .exec(tx.conn())
            .await
            .unwrap();
        tx.commit().await.unwrap();

        let path = format!("{SUBSCRIPTIONS}/{id}/test");
        let tested = app.call("POST", &path).key(ADMIN_KEY, &site.id).ok().await;
        let attempt = &tested["webhookTest"]["attempt"];
        assert_eq!(attempt["errorClass"], "TLS_FAILED");
        let what = "no encrypted connection (TLS): the client certificate of the subscription cannot be opened";
        assert_eq!(attempt["error"], what);
        assert_eq!((attempt.get("timings"), receiver.connections()), (None, 0));
    }
}
