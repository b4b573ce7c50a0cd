//! Tokens that are accepted, and the members that they make known.

use futures_util::future::join_all;
use jsonwebtoken::{Algorithm, Header};
use serde_json::{Value, json};

use super::{
    AUDIENCE, FOLLOWED, asymmetric, claims, claims_with, issuer, known, status, trust, trusting_site,
};
use crate::on_both;
use crate::support::TestApp;
use crate::support::keys::{self, HMAC_SECRET, Key};
use crate::support::receiver::{Receiver, Reply};
use crate::support::world::Site;

/// A first follow with a token of this provider makes the member known and awards the points.
async fn first_follow_works(app: &TestApp, site: &Site, key: &Key) {
    let mut claims = claims("u-1");
    claims["email"] = json!("member@example.com");
    claims["name"] = json!("Example Member");
    let token = key.sign(&claims);
    let wish = json!({"followedChannel": {"channel": "X"}});
    let followed = app.call("POST", FOLLOWED).auth(&token).json(&wish).ok().await;

    let members = app.admin_list(site, "/admin/v1/members", "members").await;
    let member = &members[0];
    assert_eq!(
        members,
        [json!({
            "id": member["id"], "contactId": member["contactId"], "externalId": "u-1",
            "email": "member@example.com", "name": "Example Member",
            "createdDate": "2024-08-01T11:51:41.431Z", "updatedDate": "2024-08-01T11:51:41.431Z",
        })]
    );
    let account = app.call("GET", "/loyalty-accounts/v1/accounts/my-account").auth(&token).ok().await;
    assert_eq!(account["account"]["memberId"], member["id"]);
    assert_eq!(account["account"]["points"]["balance"], 50);
    assert_eq!(account["account"]["id"], followed["followedChannel"]["accountId"]);

    // A later token of the same person, under another name: still the same member.
    claims["exp"] = json!(claims["exp"].as_i64().unwrap() + 60);
    claims["name"] = json!("Other Name");
    let listed = app.call("GET", FOLLOWED).auth(&key.sign(&claims)).ok().await;
    assert_eq!(listed, json!({"followedChannels": [followed["followedChannel"]]}));
    assert_eq!(app.admin_list(site, "/admin/v1/members", "members").await, members);
}

on_both! {
    async fn a_member_is_known_at_first_sight_by_the_providers_one_key(app: &TestApp) {
        for (key, public) in asymmetric() {
            let site = trusting_site(app, issuer("publicKeyPem", public)).await;
            first_follow_works(app, &site, &key).await;
            trust(app, &site, json!([])).await;
        }
    }
}

on_both! {
    async fn a_member_is_known_at_first_sight_by_a_published_key(app: &TestApp) {
        for (key, _) in asymmetric() {
            let server = Receiver::start().await;
            server.answer([Reply::status(200).body(json!({"keys": [key.jwk("k-1")]}).to_string())]);
            let site = trusting_site(app, issuer("jwksUrl", &server.url)).await;
            first_follow_works(app, &site, &key).await;
            assert_eq!(server.received().len(), 1);
            assert_eq!(server.received()[0].headers["accept"], "application/json");
            trust(app, &site, json!([])).await;
        }
    }
}

on_both! {
    async fn a_member_is_known_at_first_sight_by_a_shared_secret(app: &TestApp) {
        let site = trusting_site(app, issuer("hmacSecret", HMAC_SECRET)).await;
        first_follow_works(app, &site, &keys::hmac(HMAC_SECRET.as_bytes())).await;
    }
}

on_both! {
    async fn parallel_first_sights_make_one_member(app: &TestApp) {
        let site = trusting_site(app, issuer("publicKeyPem", keys::ED_PUBLIC)).await;
        let key = keys::ed(keys::ED_PRIVATE);
        let tokens: Vec<String> = (0..20)
            .map(|number| {
                let mut claims = claims("u-1");
                claims["jti"] = json!(number);
                key.sign(&claims)
            })
            .collect();

        let statuses = join_all(tokens.iter().map(|token| status(app, token))).await;

        assert_eq!(statuses, [200; 20]);
        assert_eq!(known(app, &site).await, ["u-1"]);
    }
}

on_both! {
    async fn a_member_made_by_the_owner_is_the_one_that_the_token_names(app: &TestApp) {
        let site = trusting_site(app, issuer("publicKeyPem", keys::ED_PUBLIC)).await;
        let member = app.member(&site, "u-1").await;
        let followed = app.follow(&member, "X").await;

        let token = keys::ed(keys::ED_PRIVATE).sign(&claims("u-1"));
        let listed = app.call("GET", FOLLOWED).auth(&token).ok().await;

        assert_eq!(listed, json!({"followedChannels": [followed]}));
        assert_eq!(known(app, &site).await, ["u-1"]);
    }
}

on_both! {
    async fn the_owner_chooses_the_claim_that_names_the_member(app: &TestApp) {
        let mut issuer = issuer("publicKeyPem", keys::ED_PUBLIC);
        issuer["memberIdClaim"] = json!("uid");
        let site = trusting_site(app, issuer).await;
        let key = keys::ed(keys::ED_PRIVATE);

        assert_eq!(status(app, &key.sign(&claims_with("uid", json!("customer-7")))).await, 200);
        assert_eq!(status(app, &key.sign(&claims_with("uid", json!(42)))).await, 200);
        assert_eq!(status(app, &key.sign(&claims("u-1"))).await, 401);

        assert_eq!(known(app, &site).await, ["customer-7", "42"]);
    }
}

on_both! {
    async fn what_the_standard_allows_is_accepted(app: &TestApp) {
        let site = trusting_site(app, issuer("publicKeyPem", keys::RSA_PUBLIC)).await;
        let key = keys::rsa(keys::RSA_PRIVATE);
        let untyped = Header { typ: None, ..Header::new(Algorithm::RS256) };
        let access = Header { typ: Some("at+jwt".to_owned()), ..Header::new(Algorithm::RS256) };
        let good = [
            ("several audiences", key.sign(&claims_with("aud", json!(["other", AUDIENCE])))),
            ("no iat", key.sign(&claims_with("iat", Value::Null))),
            ("exp with a fraction", key.sign(&claims_with("exp", json!(1_722_513_701.5)))),
            ("more claims", key.sign(&claims_with("roles", json!([{"a": [1, null]}])))),
            ("no typ", key.sign_with(&untyped, &claims("u-1"))),
            ("typ at+jwt", key.sign_with(&access, &claims("u-1"))),
            ("a kid that a single key has no use for", key.sign_as("k-9", &claims("u-1"))),
            ("RS384", key.sign_with(&Header::new(Algorithm::RS384), &claims("u-1"))),
            ("RS512", key.sign_with(&Header::new(Algorithm::RS512), &claims("u-1"))),
        ];
        for (name, token) in good {
            assert_eq!(status(app, &token).await, 200, "{name}");
            assert_eq!(status(app, &format!("Bearer {token}")).await, 200, "{name}, behind Bearer");
        }
        assert_eq!(known(app, &site).await, ["u-1"]);
    }
}

on_both! {
    async fn several_issuers_of_one_site_work_side_by_side(app: &TestApp) {
        let site = app.site().await;
        let mut second = issuer("publicKeyPem", keys::EC_PUBLIC);
        second["issuer"] = json!("https://second.example");
        trust(app, &site, json!([issuer("publicKeyPem", keys::ED_PUBLIC), second])).await;
        let mut of_second = claims("u-2");
        of_second["iss"] = json!("https://second.example");

        assert_eq!(status(app, &keys::ed(keys::ED_PRIVATE).sign(&claims("u-1"))).await, 200);
        assert_eq!(status(app, &keys::ec(keys::EC_PRIVATE).sign(&of_second)).await, 200);
        // Each with the other's key.
        assert_eq!(status(app, &keys::ec(keys::EC_PRIVATE).sign(&claims("u-3"))).await, 401);
        assert_eq!(status(app, &keys::ed(keys::ED_PRIVATE).sign(&of_second)).await, 401);
        assert_eq!(known(app, &site).await, ["u-1", "u-2"]);
    }
}

on_both! {
    async fn long_names_are_cut_and_what_is_no_text_is_left_out(app: &TestApp) {
        let site = trusting_site(app, issuer("publicKeyPem", keys::ED_PUBLIC)).await;
        let key = keys::ed(keys::ED_PRIVATE);
        let mut long = claims("u-1");
        long["name"] = json!("\u{1f37a}".repeat(300));
        long["email"] = json!({"not": "a text"});
        assert_eq!(status(app, &key.sign(&long)).await, 200);
        let members = app.admin_list(&site, "/admin/v1/members?externalId=u-1", "members").await;
        assert_eq!(members[0]["name"], json!("\u{1f37a}".repeat(256)));
        assert_eq!(members[0].get("email"), None);
    }
}

on_both! {
    async fn a_nul_in_a_name_does_not_keep_the_member_out(app: &TestApp) {
        let site = trusting_site(app, issuer("publicKeyPem", keys::ED_PUBLIC)).await;
        let key = keys::ed(keys::ED_PRIVATE);
        for (sub, name) in [("u-1", "name"), ("u-2", "email")] {
            let mut claims = claims(sub);
            claims[name] = json!("a\u{0}b");
            assert_eq!(status(app, &key.sign(&claims)).await, 200, "{name}");
        }
        assert_eq!(known(app, &site).await, ["u-1", "u-2"]);
    }
}

on_both! {
    async fn a_member_who_cannot_be_looked_up_for_want_of_a_connection_may_try_again(app: &TestApp) {
        trusting_site(app, issuer("publicKeyPem", keys::ED_PUBLIC)).await;
        let key = keys::ed(keys::ED_PRIVATE);
        assert_eq!(status(app, &key.sign(&claims("u-1"))).await, 200, "the issuer is known");
        app.app.db.close().await.unwrap();
        let answer = app.call("GET", FOLLOWED).auth(&key.sign(&claims("u-2"))).send().await;
        assert_eq!((answer.status.as_u16(), answer.json()), (503, json!({"message": "", "details": {}})));
        assert_eq!(answer.headers["retry-after"], "1");
    }
}
