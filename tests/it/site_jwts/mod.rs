//! A site's own member tokens: whose are accepted, and everything that is not.

mod attacks;
mod good;
mod key_sets;
mod settings;
mod shared;
mod times;

use serde_json::{Value, json};

use crate::support::START;
use crate::support::TestApp;
use crate::support::client::Answer;
use crate::support::keys;
use crate::support::world::Site;

const FOLLOWED: &str = "/loyalty-social-media/v1/followed-channels";
const SITE_AUTH: &str = "/admin/v1/site-auth";
const ISSUER: &str = "https://id.example";
const AUDIENCE: &str = "shop";
/// The second at which tests start.
const NOW: i64 = START.0 / 1000;

/// Claims of a good token, for ten minutes.
fn claims(sub: &str) -> Value {
    json!({"iss": ISSUER, "aud": AUDIENCE, "sub": sub, "iat": NOW, "exp": NOW + 600})
}

/// The same with one claim otherwise; `null` leaves it out.
fn claims_with(name: &str, value: Value) -> Value {
    let mut claims = claims("u-1");
    let fields = claims.as_object_mut().unwrap();
    if value.is_null() {
        fields.remove(name);
    } else {
        fields.insert(name.to_owned(), value);
    }
    claims
}

/// The provider as a trusted issuer; `name` says how its tokens are verified.
fn issuer(name: &str, value: &str) -> Value {
    let mut issuer = json!({"issuer": ISSUER, "audience": AUDIENCE});
    issuer[name] = json!(value);
    issuer
}

/// Replaces the issuers that the site trusts.
async fn trust(app: &TestApp, site: &Site, issuers: Value) -> Answer {
    let body = json!({"siteAuth": {"trustedIssuers": issuers}});
    app.call("PATCH", SITE_AUTH).key(crate::support::ADMIN_KEY, &site.id).json(&body).send().await
}

/// A site that trusts the provider.
async fn trusting_site(app: &TestApp, issuer: Value) -> Site {
    let site = app.site().await;
    let answer = trust(app, &site, json!([issuer])).await;
    assert_eq!(answer.status.as_u16(), 200, "{}", answer.text);
    site
}

/// Status of the member's list with this token.
async fn status(app: &TestApp, token: &str) -> u16 {
    app.call("GET", FOLLOWED).auth(token).send().await.status.as_u16()
}

/// The external ids of the site's members, oldest first.
async fn known(app: &TestApp, site: &Site) -> Vec<String> {
    let members = app.admin_list(site, "/admin/v1/members", "members").await;
    members.iter().rev().map(|member| member["externalId"].as_str().unwrap().to_owned()).collect()
}

/// The provider's key of each kind with its public half, by the name of its algorithm.
fn asymmetric() -> [(keys::Key, &'static str); 3] {
    [
        (keys::rsa(keys::RSA_PRIVATE), keys::RSA_PUBLIC),
        (keys::ec(keys::EC_PRIVATE), keys::EC_PUBLIC),
        (keys::ed(keys::ED_PRIVATE), keys::ED_PUBLIC),
    ]
}
