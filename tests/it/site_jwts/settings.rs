//! The trusted issuers as owners see and change them.

use serde_json::{Value, json};

use super::{AUDIENCE, ISSUER, SITE_AUTH, claims, issuer, status, trust, trusting_site};
use crate::on_both;
use crate::support::ADMIN_KEY;
use crate::support::TestApp;
use crate::support::keys::{self, HMAC_SECRET};
use crate::support::world::Site;

const SHORT: &str = "thirty-one-bytes-are-too-short.";

async fn read(app: &TestApp, site: &Site) -> Value {
    app.call("GET", SITE_AUTH).key(ADMIN_KEY, &site.id).ok().await
}

on_both! {
    async fn issuers_are_listed_in_order_with_everything_but_the_secret(app: &TestApp) {
        let site = app.site().await;
        let empty = json!({"siteAuth": {"revision": "1", "trustedIssuers": []}});
        assert_eq!(read(app, &site).await, empty);

        let body = json!({"siteAuth": {"revision": "1", "trustedIssuers": [
            {"issuer": "https://b.example", "audience": AUDIENCE, "publicKeyPem": keys::EC_PUBLIC},
            {"issuer": "https://a.example", "audience": AUDIENCE, "jwksUrl": "https://a.example/jwks.json",
             "memberIdClaim": "uid"},
            {"issuer": "https://c.example", "audience": AUDIENCE, "hmacSecret": HMAC_SECRET},
        ]}});
        let answer = app.call("PATCH", SITE_AUTH).key(ADMIN_KEY, &site.id).json(&body).ok().await;

        assert_eq!(
            answer,
            json!({"siteAuth": {"revision": "2", "trustedIssuers": [
                {"issuer": "https://b.example", "audience": AUDIENCE, "publicKeyPem": keys::EC_PUBLIC,
                 "hasHmacSecret": false, "memberIdClaim": "sub"},
                {"issuer": "https://a.example", "audience": AUDIENCE,
                 "jwksUrl": "https://a.example/jwks.json",
                 "hasHmacSecret": false, "memberIdClaim": "uid"},
                {"issuer": "https://c.example", "audience": AUDIENCE,
                 "hasHmacSecret": true, "memberIdClaim": "sub"},
            ]}})
        );
        assert_eq!(read(app, &site).await, answer);
    }
}

on_both! {
    async fn of_changes_at_the_same_moment_one_counts(app: &TestApp) {
        let site = trusting_site(app, issuer("publicKeyPem", keys::ED_PUBLIC)).await;
        let site_id = &site.id;
        let sent = (0..20).map(|number| {
            let issuer = json!({"issuer": format!("i-{number}"), "audience": "a", "hmacSecret": "x".repeat(32)});
            let body = json!({"siteAuth": {"revision": "2", "trustedIssuers": [issuer]}});
            async move { app.call("PATCH", SITE_AUTH).key(ADMIN_KEY, site_id).json(&body).send().await }
        });
        let answers = futures_util::future::join_all(sent).await;
        let counted = answers.iter().filter(|answer| answer.status.as_u16() == 200).count();
        let refused = answers.iter().filter(|answer| answer.status.as_u16() == 409).count();
        assert_eq!((counted, refused), (1, 19));
        assert_eq!(read(app, &site).await["siteAuth"]["trustedIssuers"].as_array().map(Vec::len), Some(1));
    }
}

on_both! {
    async fn a_stale_revision_changes_nothing(app: &TestApp) {
        let site = trusting_site(app, issuer("publicKeyPem", keys::ED_PUBLIC)).await;
        let before = read(app, &site).await;
        let send = |revision: &str| {
            let body = json!({"siteAuth": {"revision": revision, "trustedIssuers": []}});
            app.call("PATCH", SITE_AUTH).key(ADMIN_KEY, &site.id).json(&body).send()
        };
        let description = "entity has already changed since the requested revision";
        for stale in ["1", "3", "0", "-2"] {
            let answer = send(stale).await;
            assert_eq!(
                (answer.status.as_u16(), answer.json()),
                (
                    409,
                    json!({"message": description, "details": {"applicationError": {
                        "code": "ABORTED", "description": description, "data": {},
                    }}})
                )
            );
        }
        assert_eq!(send("two").await.violations(), [("siteAuth.revision".to_owned(), "FORMAT".to_owned())]);
        assert_eq!(read(app, &site).await, before);
        assert_eq!(send("2").await.status.as_u16(), 200);
    }
}

on_both! {
    async fn g8_a_stored_secret_is_kept_when_the_issuer_is_sent_without_it(app: &TestApp) {
        let site = trusting_site(app, issuer("hmacSecret", HMAC_SECRET)).await;
        let token = keys::hmac(HMAC_SECRET.as_bytes()).sign(&claims("u-1"));
        let shown = read(app, &site).await["siteAuth"]["trustedIssuers"].clone();

        // What was read is sent back as it was read.
        assert_eq!(trust(app, &site, shown.clone()).await.status.as_u16(), 200);
        assert_eq!(status(app, &token).await, 200);
        let renamed = json!([{"issuer": ISSUER, "audience": AUDIENCE, "memberIdClaim": "uid"}]);
        assert_eq!(trust(app, &site, renamed).await.status.as_u16(), 200);
        let mut by_uid = claims("u-1");
        by_uid["uid"] = json!("u-2");
        assert_eq!(status(app, &keys::hmac(HMAC_SECRET.as_bytes()).sign(&by_uid)).await, 200);

        let other_audience = json!([{"issuer": ISSUER, "audience": "another"}]);
        let expected = [("siteAuth.trustedIssuers[0]".to_owned(), "ONE_OF_ALIGNMENT".to_owned())];
        assert_eq!(trust(app, &site, other_audience).await.violations(), expected);
    }
}

on_both! {
    async fn issuers_that_could_not_work_are_refused_by_field(app: &TestApp) {
        let site = trusting_site(app, issuer("publicKeyPem", keys::ED_PUBLIC)).await;
        let before = read(app, &site).await;
        let good = issuer("publicKeyPem", keys::ED_PUBLIC);
        let mut two_keys = good.clone();
        two_keys["hmacSecret"] = json!(HMAC_SECRET);
        let mut own_name = good.clone();
        own_name["issuer"] = json!("followpoints");
        let cut = &keys::RSA_PUBLIC[..keys::RSA_PUBLIC.len() / 2];
        for (issuers, field, rule) in [
            (json!([own_name]), "[0].issuer", "FIELD_NOT_ALLOWED"),
            (json!([good, good]), "[1].issuer", "VALIDATION"),
            (json!([good, {"issuer": "https://x.example", "audience": "a"}]), "[1]", "ONE_OF_ALIGNMENT"),
            (json!([two_keys]), "[0]", "ONE_OF_ALIGNMENT"),
            (json!([issuer("hmacSecret", SHORT)]), "[0].hmacSecret", "MIN_LENGTH"),
            (json!([issuer("hmacSecret", "")]), "[0].hmacSecret", "MIN_LENGTH"),
            (json!([issuer("publicKeyPem", "")]), "[0].publicKeyPem", "FORMAT"),
            (json!([issuer("publicKeyPem", "ssh-ed25519 AAAA")]), "[0].publicKeyPem", "FORMAT"),
            (json!([issuer("publicKeyPem", cut)]), "[0].publicKeyPem", "FORMAT"),
            (json!([{"audience": "a"}]), "[0].issuer", "REQUIRED_FIELD"),
            (json!([{"issuer": "", "audience": "a"}]), "[0].issuer", "MIN_LENGTH"),
            (json!([{"issuer": "i"}]), "[0].audience", "REQUIRED_FIELD"),
            (json!(vec![good.clone(); 11]), "", "MAX_SIZE"),
        ] {
            let answer = trust(app, &site, issuers.clone()).await;
            let expected = [(format!("siteAuth.trustedIssuers{field}"), rule.to_owned())];
            assert_eq!(answer.violations(), expected, "{issuers}");
        }
        assert_eq!(read(app, &site).await, before);
    }
}

on_both! {
    async fn g8_a_private_key_pasted_by_mistake_is_refused_and_not_kept(app: &TestApp) {
        let site = app.site().await;
        let mut accepted = Vec::new();
        for (kind, private) in
            [("RSA", keys::RSA_PRIVATE), ("EC", keys::EC_PRIVATE), ("Ed25519", keys::ED_PRIVATE)]
        {
            let answer = trust(app, &site, json!([issuer("publicKeyPem", private)])).await;
            if answer.status.as_u16() != 400 {
                accepted.push(kind);
            }
        }
        assert_eq!(accepted, Vec::<&str>::new());
    }
}

on_both! {
    async fn an_issuer_that_is_no_longer_trusted_proves_nobody_from_the_next_call_on(app: &TestApp) {
        let site = trusting_site(app, issuer("publicKeyPem", keys::ED_PUBLIC)).await;
        let token = keys::ed(keys::ED_PRIVATE).sign(&claims("u-1"));
        assert_eq!(status(app, &token).await, 200);
        trust(app, &site, json!([])).await;
        assert_eq!(status(app, &token).await, 401);
        trust(app, &site, json!([issuer("publicKeyPem", keys::ED_PUBLIC)])).await;
        assert_eq!(status(app, &token).await, 200);
    }
}

on_both! {
    async fn g8_a_new_secret_takes_the_place_of_the_old_one_at_once(app: &TestApp) {
        let site = trusting_site(app, issuer("hmacSecret", HMAC_SECRET)).await;
        let old = keys::hmac(HMAC_SECRET.as_bytes()).sign(&claims("u-1"));
        assert_eq!(status(app, &old).await, 200);
        let secret = "another-shared-secret-of-enough-bytes-for-tests";
        assert_eq!(trust(app, &site, json!([issuer("hmacSecret", secret)])).await.status.as_u16(), 200);
        assert_eq!(status(app, &old).await, 401);
        assert_eq!(status(app, &keys::hmac(secret.as_bytes()).sign(&claims("u-1"))).await, 200);
    }
}
