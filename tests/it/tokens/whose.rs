//! Whose a token is: the client's secret and instance, what a token says of itself, and the keys that prove it.

use jsonwebtoken::jwk::JwkSet;
use jsonwebtoken::{Algorithm, DecodingKey, Validation};
use serde_json::{Value, json};

use super::{FOLLOWED, both};
use crate::on_both;
use crate::support::callers::UNKNOWN_ID;
use crate::support::keys::decode_part;
use crate::support::{ADMIN_KEY, START};

const IAT: i64 = START.0 / 1000;

on_both! {
    async fn an_app_gets_tokens_with_its_own_secret_for_its_own_instances_only(app: &TestApp) {
        let (one, two) = (app.site().await, app.site().await);
        let (own, other) = (app.installed_app(&one).await, app.installed_app(&two).await);
        let send = |id: &str, secret: &str, instance: &str| {
            let body = json!({
                "grant_type": "client_credentials", "client_id": id, "client_secret": secret,
                "instance_id": instance,
            });
            async move { both(&app.token(&body).await) }
        };
        let unknown = json!({
            "error": "invalid_client", "error_description": "the client is unknown or its secret is wrong",
        });
        let no_instance =
            json!({"error": "invalid_grant", "error_description": "the app has no such instance"});

        assert_eq!(send(&own.id, &other.secret, &own.instance_id).await, (401, unknown.clone()));
        assert_eq!(send(&own.id, &own.id, &own.instance_id).await, (401, unknown.clone()));
        assert_eq!(send(UNKNOWN_ID, &own.secret, &own.instance_id).await, (401, unknown.clone()));
        assert_eq!(send(&other.id, &own.secret, &other.instance_id).await, (401, unknown));
        assert_eq!(send(&own.id, &own.secret, &other.instance_id).await, (400, no_instance.clone()));
        assert_eq!(send(&own.id, &own.secret, UNKNOWN_ID).await, (400, no_instance.clone()));
        assert_eq!(send(&own.id, &own.secret, &own.id).await, (400, no_instance));
        assert_eq!(send(&own.id, &own.secret, &own.instance_id).await.0, 200);
    }
}

on_both! {
    async fn token_info_says_whose_a_token_is(app: &TestApp) {
        let all = app.everything().await;
        let info = |token: String| async move {
            app.call("POST", "/oauth2/token-info").json(&json!({"token": token})).ok().await
        };
        let (exp, iat) = ((IAT + 14_400).to_string(), IAT.to_string());

        assert_eq!(
            info(all.member.token.clone()).await,
            json!({
                "active": true, "subjectType": "MEMBER", "subjectId": all.member.id, "exp": exp, "iat": iat,
                "siteId": all.site.id,
            })
        );
        assert_eq!(
            info(all.app_token.clone()).await,
            json!({
                "active": true, "subjectType": "APP", "subjectId": all.app.id, "exp": exp, "iat": iat,
                "clientId": all.app.id, "siteId": all.site.id, "instanceId": all.app.instance_id,
            })
        );
        let visitor = info(all.visitor.clone()).await;
        assert_eq!(
            visitor,
            json!({
                "active": true, "subjectType": "VISITOR", "subjectId": visitor["subjectId"], "exp": exp,
                "iat": iat, "clientId": all.front_end, "siteId": all.site.id,
            })
        );
        for token in [&all.visitor_refresh, &all.member.refresh_token, "garbage", ""] {
            assert_eq!(info(token.to_owned()).await, json!({"active": false}));
        }
    }
}

on_both! {
    async fn the_published_keys_verify_every_kind_of_own_token(app: &TestApp) {
        let all = app.everything().await;
        let set = app.call("GET", "/oauth2/jwks").ok().await;
        assert_eq!(set, app.call("GET", "/_api/oauth2/jwks").ok().await);
        let (kid, x) = (set["keys"][0]["kid"].clone(), set["keys"][0]["x"].clone());
        assert_eq!(
            set,
            json!({"keys": [
                {"kty": "OKP", "crv": "Ed25519", "use": "sig", "alg": "EdDSA", "kid": kid, "x": x},
            ]})
        );
        let set: JwkSet = serde_json::from_value(set).unwrap();
        let key = DecodingKey::from_jwk(&set.keys[0]).unwrap();
        let mut rules = Validation::new(Algorithm::EdDSA);
        rules.validate_exp = false;
        rules.set_audience(&["followpoints"]);
        rules.set_issuer(&["followpoints"]);

        for (token, kind) in
            [(&all.member.token, "member"), (&all.visitor, "visitor"), (&all.app_token, "app")]
        {
            let said = jsonwebtoken::decode::<Value>(token, &key, &rules).unwrap();
            assert_eq!(said.header.kid.as_deref(), kid.as_str());
            assert_eq!(said.claims["kind"], kind);
        }
        assert_eq!(decode_part(&all.member.token, 0), json!({"typ": "JWT", "alg": "EdDSA", "kid": kid}));
        let claims = decode_part(&all.member.token, 1);
        assert_eq!(
            claims,
            json!({
                "iss": "followpoints", "aud": "followpoints", "sub": all.member.id, "kind": "member",
                "site": all.site.id, "jti": claims["jti"], "iat": IAT, "exp": IAT + 14_400,
            })
        );
    }
}

on_both! {
    async fn the_header_takes_the_raw_token_or_bearer_and_empty_is_nobody(app: &TestApp) {
        let site = app.site().await;
        let token = app.member(&site, "u-1").await.token;
        for good in
            [token.clone(), format!("Bearer {token}"), format!("bearer {token}"), format!("  {token} ")]
        {
            assert_eq!(app.call("GET", FOLLOWED).auth(&good).send().await.status.as_u16(), 200, "{good}");
        }
        for empty in ["", " ", "Bearer", "Bearer "] {
            let answer = app.call("GET", FOLLOWED).auth(empty).send().await;
            assert_eq!(answer.error(), (401, "UNAUTHENTICATED".to_owned()), "{empty:?}");
            assert_eq!(answer.headers["www-authenticate"], "Bearer realm=\"followpoints\"");
        }
        let basic = app.call("GET", FOLLOWED).auth(&format!("Basic {token}")).send().await;
        assert_eq!(basic.error(), (401, "UNAUTHENTICATED".to_owned()));
    }
}

on_both! {
    async fn a_key_is_compared_whole(app: &TestApp) {
        let site = app.site().await;
        let cut = &ADMIN_KEY[..ADMIN_KEY.len() - 1];
        for wrong in [cut.to_owned(), format!("{ADMIN_KEY}0"), ADMIN_KEY.to_uppercase()] {
            let answer = app.call("GET", "/admin/v1/sites").key(&wrong, &site.id).send().await;
            assert_eq!(answer.error(), (401, "UNAUTHENTICATED".to_owned()), "{wrong}");
        }
    }
}
