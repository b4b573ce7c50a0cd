//! Forged, stretched and misdirected tokens. None is accepted, and none makes a member known.

use jsonwebtoken::{Algorithm, Header};
use serde_json::{Value, json};

use super::{FOLLOWED, asymmetric, claims, claims_with, issuer, known, status, trust, trusting_site};
use crate::on_both;
use crate::support::TestApp;
use crate::support::keys::{self, HMAC_SECRET, Key, encode_part};
use crate::support::world::Site;

/// Every token is refused as nobody's, and nobody has become known.
async fn all_refused(app: &TestApp, site: &Site, forged: &[(&str, String)]) {
    let mut accepted = Vec::new();
    for (name, token) in forged {
        let answer = app.call("GET", FOLLOWED).auth(token).send().await;
        if answer.error() != (401, "UNAUTHENTICATED".to_owned()) {
            accepted.push(format!("{name}: {} {}", answer.status, answer.text));
        }
    }
    assert_eq!(accepted, Vec::<String>::new());
    assert_eq!(known(app, site).await, Vec::<String>::new());
}

/// Tokens whose signature is not the provider's.
fn forged_signatures(good: &str, public: &str) -> Vec<(&'static str, String)> {
    let parts: Vec<&str> = good.split('.').collect();
    let (head, body, signature) = (parts[0], parts[1], parts[2]);
    let unsigned =
        |algorithm: &str| format!("{}.{body}.", encode_part(&json!({"alg": algorithm, "typ": "JWT"})));
    let with_public = keys::hmac(public.as_bytes());
    let trimmed = keys::hmac(public.trim().as_bytes());
    let admin = encode_part(&claims("admin"));
    let flipped = format!("{}{}", if signature.starts_with('A') { 'B' } else { 'A' }, &signature[1..]);
    vec![
        ("alg none", unsigned("none")),
        ("alg None", unsigned("None")),
        ("alg NONE", unsigned("NONE")),
        ("alg nOnE", unsigned("nOnE")),
        ("alg empty", unsigned("")),
        ("alg none with the old signature", format!("{}{signature}", unsigned("none"))),
        ("no alg", format!("{}.{body}.{signature}", encode_part(&json!({"typ": "JWT"})))),
        ("HS256 with the public key as the secret", with_public.sign(&claims("u-1"))),
        ("HS256 with the public key trimmed", trimmed.sign(&claims("u-1"))),
        ("HS512 with the public key", with_public.sign_with(&Header::new(Algorithm::HS512), &claims("u-1"))),
        ("HS256 with nothing", keys::hmac(b"").sign(&claims("u-1"))),
        ("a stranger's RSA key", keys::rsa(keys::STRANGER_RSA_PRIVATE).sign(&claims("u-1"))),
        ("a stranger's EC key", keys::ec(keys::STRANGER_EC_PRIVATE).sign(&claims("u-1"))),
        ("a stranger's Ed25519 key", keys::ed(keys::STRANGER_ED_PRIVATE).sign(&claims("u-1"))),
        ("other claims under the old signature", format!("{head}.{admin}.{signature}")),
        ("an altered signature", format!("{head}.{body}.{flipped}")),
        ("no signature", format!("{head}.{body}.")),
        ("two parts", format!("{head}.{body}")),
        ("four parts", format!("{good}.{signature}")),
        ("five parts", format!("{good}.{signature}.{signature}")),
        ("a cut signature", good[..good.len() - 4].to_owned()),
        ("padding", format!("{good}=")),
        ("only dots", "..".to_owned()),
    ]
}

/// Tokens of a stranger that bring their own key along.
fn brought_keys(stranger: &Key) -> Vec<(&'static str, String)> {
    let jwk = stranger.jwk("k-1");
    let with = |name: &str, value: Value| {
        let mut header = json!({"alg": stranger.algorithm, "typ": "JWT", "kid": "k-1"});
        header[name] = value;
        let header: Header = serde_json::from_value(header).unwrap();
        stranger.sign_with(&header, &claims("u-1"))
    };
    vec![
        ("its own jwk", with("jwk", jwk)),
        ("its own jku", with("jku", json!("https://stranger.example/jwks.json"))),
        ("its own x5u", with("x5u", json!("https://stranger.example/chain.pem"))),
    ]
}

/// Tokens of the provider that say something wrong.
fn wrong_claims(key: &Key) -> Vec<(&'static str, String)> {
    let with = |name: &str, value: Value| key.sign(&claims_with(name, value));
    vec![
        ("no iss", with("iss", Value::Null)),
        ("another iss", with("iss", json!("https://stranger.example"))),
        ("iss with a slash", with("iss", json!("https://id.example/"))),
        ("iss in capitals", with("iss", json!("https://ID.example"))),
        ("iss as a list", with("iss", json!(["https://id.example"]))),
        ("no aud", with("aud", Value::Null)),
        ("another aud", with("aud", json!("shop2"))),
        ("an empty list of aud", with("aud", json!([]))),
        ("a list without the aud", with("aud", json!(["a", "b"]))),
        ("aud as an object", with("aud", json!({"shop": true}))),
        ("no exp", with("exp", Value::Null)),
        ("exp as text", with("exp", json!("1722513701"))),
        ("exp of zero", with("exp", json!(0))),
        ("a negative exp", with("exp", json!(-1))),
        ("nbf as text", with("nbf", json!("now"))),
        ("iat as an object", with("iat", json!({}))),
        ("no sub", with("sub", Value::Null)),
        ("an empty sub", with("sub", json!(""))),
        ("sub as a list", with("sub", json!(["u-1"]))),
        ("sub of true", with("sub", json!(true))),
        ("sub with NUL", with("sub", json!("u-1\u{0}"))),
        ("sub of 257 characters", with("sub", json!("a".repeat(257)))),
        ("more than 8 KiB", with("name", json!("a".repeat(8 * 1024)))),
    ]
}

on_both! {
    async fn g5_no_forged_token_is_accepted_for_any_kind_of_key(app: &TestApp) {
        for (index, (key, public)) in asymmetric().into_iter().enumerate() {
            let site = trusting_site(app, issuer("publicKeyPem", public)).await;
            let mut forged = forged_signatures(&key.sign(&claims("u-1")), public);
            forged.extend(wrong_claims(&key));
            let strangers = [
                keys::rsa(keys::STRANGER_RSA_PRIVATE),
                keys::ec(keys::STRANGER_EC_PRIVATE),
                keys::ed(keys::STRANGER_ED_PRIVATE),
            ];
            forged.extend(brought_keys(&strangers[index]));
            for (other, (other_key, _)) in asymmetric().into_iter().enumerate() {
                if other != index {
                    forged.push(("the provider's key of another kind", other_key.sign(&claims("u-1"))));
                }
            }
            all_refused(app, &site, &forged).await;
            trust(app, &site, json!([])).await;
        }
    }
}

on_both! {
    async fn g5_no_forged_token_is_accepted_for_a_shared_secret(app: &TestApp) {
        let site = trusting_site(app, issuer("hmacSecret", HMAC_SECRET)).await;
        let key = keys::hmac(HMAC_SECRET.as_bytes());
        let mut forged = forged_signatures(&key.sign(&claims("u-1")), keys::RSA_PUBLIC);
        forged.extend(wrong_claims(&key));
        forged.push(("HS384", key.sign_with(&Header::new(Algorithm::HS384), &claims("u-1"))));
        forged.push(("HS512", key.sign_with(&Header::new(Algorithm::HS512), &claims("u-1"))));
        forged.push(("half of the secret", keys::hmac(&HMAC_SECRET.as_bytes()[..20]).sign(&claims("u-1"))));
        for (other, _) in asymmetric() {
            forged.push(("a key pair", other.sign(&claims("u-1"))));
        }
        all_refused(app, &site, &forged).await;
    }
}

on_both! {
    async fn g5_rsa_with_another_padding_is_refused(app: &TestApp) {
        let site = trusting_site(app, issuer("publicKeyPem", keys::RSA_PUBLIC)).await;
        let key = keys::rsa(keys::RSA_PRIVATE);
        let pss = [Algorithm::PS256, Algorithm::PS384, Algorithm::PS512]
            .map(|algorithm| ("PSS", key.sign_with(&Header::new(algorithm), &claims("u-1"))));
        all_refused(app, &site, &pss).await;
    }
}

on_both! {
    async fn g5_an_extension_that_must_be_understood_and_is_not_makes_a_token_invalid(app: &TestApp) {
        let site = trusting_site(app, issuer("publicKeyPem", keys::RSA_PUBLIC)).await;
        let key = keys::rsa(keys::RSA_PRIVATE);
        let with = |crit: Value, name: &str, value: Value| {
            let mut header = json!({"alg": "RS256", "typ": "JWT", "crit": crit});
            header[name] = value;
            let header: Header = serde_json::from_value(header).unwrap();
            key.sign_with(&header, &claims("u-1"))
        };
        let extended = [
            ("an extension of somebody's", with(json!(["bound-to"]), "bound-to", json!("device-7"))),
            ("RFC 7797", with(json!(["b64"]), "b64", json!(true))),
            ("one that is not even there", with(json!(["exp"]), "kid", json!("k-1"))),
        ];
        all_refused(app, &site, &extended).await;
    }
}

on_both! {
    async fn a_nul_in_a_token_is_nobodys_and_no_failure_of_ours(app: &TestApp) {
        let site = trusting_site(app, issuer("publicKeyPem", keys::ED_PUBLIC)).await;
        let (key, stranger) = (keys::ed(keys::ED_PRIVATE), keys::ed(keys::STRANGER_ED_PRIVATE));
        let with = |key: &Key, name: &str, text: &str| key.sign(&claims_with(name, json!(text)));
        let tokens = [
            ("in iss", with(&key, "iss", "https://id.example\u{0}")),
            ("in a stranger's iss", with(&stranger, "iss", "\u{0}")),
            ("in aud", with(&key, "aud", "shop\u{0}")),
            ("in sub", with(&key, "sub", "u-1\u{0}")),
            ("in kid", key.sign_as("k\u{0}", &claims_with("iss", json!("x\u{0}")))),
        ];
        all_refused(app, &site, &tokens).await;
    }
}

on_both! {
    async fn g5_tokens_made_for_something_else_are_no_access_tokens(app: &TestApp) {
        let all = app.everything().await;
        trust(app, &all.site, json!([issuer("publicKeyPem", keys::ED_PUBLIC)])).await;
        let webhook = all.receiver.received()[0].body.clone();
        assert_eq!(webhook.split('.').count(), 3, "{webhook}");
        let mut own = keys::decode_part(&all.member.token, 1);
        let header: Header = serde_json::from_value(keys::decode_part(&all.member.token, 0)).unwrap();
        let forged = keys::ed(keys::STRANGER_ED_PRIVATE).sign_with(&header, &own);
        let by_provider = keys::ed(keys::ED_PRIVATE).sign_with(&header, &own);
        own["kind"] = json!("visitor-refresh");
        let app_key = keys::hmac(all.app.public_key.as_bytes()).sign(&own);
        for (name, token) in [
            ("a webhook", webhook),
            ("a visitor's refresh token", all.visitor_refresh.clone()),
            ("a member's refresh token", all.member.refresh_token.clone()),
            ("an app's secret", all.app.secret.clone()),
            ("an app's id", all.app.id.clone()),
            ("a front-end's id", all.front_end.clone()),
            ("our claims under a stranger's key", forged),
            ("our claims under the trusted provider's key", by_provider),
            ("our claims under an app's public key", app_key),
        ] {
            assert_eq!(status(app, &token).await, 401, "{name}");
        }
    }
}

on_both! {
    async fn g5_a_token_cannot_be_carried_to_another_site(app: &TestApp) {
        let own = trusting_site(app, issuer("publicKeyPem", keys::ED_PUBLIC)).await;
        let other = app.site().await;
        let token = keys::ed(keys::ED_PRIVATE).sign(&claims("u-1"));

        let elsewhere = app.call("GET", FOLLOWED).auth(&token).header("wix-site-id", &other.id).send().await;
        assert_eq!(elsewhere.error(), (401, "UNAUTHENTICATED".to_owned()));
        assert_eq!(known(app, &other).await, Vec::<String>::new());
        assert_eq!(
            app.call("GET", FOLLOWED)
                .auth(&token)
                .header("wix-site-id", &own.id)
                .send()
                .await
                .status
                .as_u16(),
            200
        );
        // Our own token keeps its site, whatever the header says.
        let member = app.member(&own, "u-1").await;
        let row = app.follow(&member, "X").await;
        let listed =
            app.call("GET", FOLLOWED).auth(&member.token).header("wix-site-id", &other.id).ok().await;
        assert_eq!(listed, json!({"followedChannels": [row]}));
    }
}

on_both! {
    async fn a_token_of_an_untrusted_issuer_is_nobodys(app: &TestApp) {
        let site = app.site().await;
        let forged: Vec<_> =
            asymmetric().into_iter().map(|(key, _)| ("not trusted", key.sign(&claims("u-1")))).collect();
        all_refused(app, &site, &forged).await;
    }
}
