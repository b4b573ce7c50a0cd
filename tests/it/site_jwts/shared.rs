//! Two sites that trust the same provider for the same audience: a token must say which site it is for.

use serde_json::json;

use super::key_sets::set;
use super::{FOLLOWED, claims, issuer, known, status, trusting_site};
use crate::on_both;
use crate::support::keys;
use crate::support::receiver::Receiver;

on_both! {
    async fn g5_a_provider_of_two_sites_needs_the_site_header(app: &TestApp) {
        let key = keys::ed(keys::ED_PRIVATE);
        let token = key.sign(&claims("u-1"));
        let one = trusting_site(app, issuer("publicKeyPem", keys::ED_PUBLIC)).await;
        assert_eq!(status(app, &token).await, 200);
        let two = trusting_site(app, issuer("publicKeyPem", keys::ED_PUBLIC)).await;

        assert_eq!(status(app, &token).await, 401);
        let wish = json!({"followedChannel": {"channel": "X"}});
        for site in [&one, &two] {
            let call = app.call("POST", FOLLOWED).auth(&token).header("wix-site-id", &site.id).json(&wish);
            call.ok().await;
            assert_eq!(known(app, site).await, ["u-1"]);
        }
        let (of_one, of_two) = (
            app.admin_list(&one, "/admin/v1/members", "members").await,
            app.admin_list(&two, "/admin/v1/members", "members").await,
        );
        assert_ne!(of_one[0]["id"], of_two[0]["id"]);
    }
}

on_both! {
    async fn g5_a_site_that_claims_anothers_issuer_with_its_own_key_gains_and_takes_nothing(app: &TestApp) {
        let victim = trusting_site(app, issuer("publicKeyPem", keys::ED_PUBLIC)).await;
        let attacker = trusting_site(app, issuer("publicKeyPem", keys::EC_PUBLIC)).await;

        assert_eq!(status(app, &keys::ed(keys::ED_PRIVATE).sign(&claims("u-1"))).await, 200);
        assert_eq!(status(app, &keys::ec(keys::EC_PRIVATE).sign(&claims("u-2"))).await, 200);

        assert_eq!(known(app, &victim).await, ["u-1"]);
        assert_eq!(known(app, &attacker).await, ["u-2"]);
        let carried = keys::ec(keys::EC_PRIVATE).sign(&claims("u-1"));
        let answer = app.call("GET", FOLLOWED).auth(&carried).header("wix-site-id", &victim.id).send().await;
        assert_eq!(answer.error(), (401, "UNAUTHENTICATED".to_owned()));
    }
}

on_both! {
    async fn g5_a_provider_of_many_sites_is_asked_for_no_keys_until_the_site_is_named(app: &TestApp) {
        let key = keys::ed(keys::ED_PRIVATE);
        let mut sites = Vec::new();
        for _ in 0..9 {
            let server = Receiver::start().await;
            server.answer([set(&[key.jwk("k-1")])]);
            sites.push((trusting_site(app, issuer("jwksUrl", &server.url)).await, server));
        }
        let token = key.sign_as("k-1", &claims("u-1"));
        let asked = || sites.iter().map(|(_, server)| server.count()).collect::<Vec<_>>();

        assert_eq!(status(app, &token).await, 401);
        assert_eq!(asked(), [0; 9]);
        let (last, _) = &sites[8];
        app.call("GET", FOLLOWED).auth(&token).header("wix-site-id", &last.id).ok().await;
        assert_eq!(asked(), [0, 0, 0, 0, 0, 0, 0, 0, 1]);
        assert_eq!(known(app, last).await, ["u-1"]);
    }
}
