//! The envelope, byte for byte where it matters, and its signature.

use jsonwebtoken::jwk::JwkSet;
use jsonwebtoken::{Algorithm, DecodingKey, Validation};
use sea_orm::ConnectionTrait as _;
use serde_json::{Value, json};

use super::{FOLLOWED, installed_site, jws_header, kid, new_follower, unfold};
use crate::on_both;
use crate::support::TestApp;
use crate::support::receiver::{Receiver, Reply};
use crate::support::world::{ALL_EVENTS, InstalledApp, Member, Site, text};

const ACCOUNT_FQDN: &str = "wix.loyalty.v1.account";
const AT: &str = "2024-08-01T11:51:41.431Z";

/// Whether `key` proves that the token was signed for `installed`.
fn is_proven(token: &str, key: &DecodingKey, installed: &InstalledApp) -> bool {
    let mut validation = Validation::new(Algorithm::RS256);
    // The token's time is the test's clock, not the machine's.
    validation.validate_exp = false;
    validation.set_audience(&[&installed.id]);
    validation.set_issuer(&["followpoints"]);
    jsonwebtoken::decode::<Value>(token, key, &validation).is_ok()
}

fn pem_key(installed: &InstalledApp) -> DecodingKey {
    DecodingKey::from_rsa_pem(installed.public_key.as_bytes()).unwrap()
}

async fn published_key(app: &TestApp, kid: &str) -> DecodingKey {
    let set = app.call("GET", "/.well-known/jwks.json").send().await;
    assert_eq!(set.headers["cache-control"], "public, max-age=300");
    let set: JwkSet = serde_json::from_str(&set.text).unwrap();
    DecodingKey::from_jwk(set.find(kid).unwrap()).unwrap()
}

/// What one event must look like, with the JSON texts unfolded.
struct Expected<'a> {
    site: &'a Site,
    member: &'a Member,
    installed: &'a InstalledApp,
}

impl Expected<'_> {
    fn claims(&self, event_type: &str, event: &Value) -> Value {
        json!({
            "data": {
                "eventType": event_type,
                "instanceId": self.installed.instance_id,
                "data": event,
                "identity": {"identityType": "MEMBER", "memberId": self.member.id},
                "accountInfo": {"siteId": self.site.id},
            },
            "iss": "followpoints",
            "aud": self.installed.id,
            "jti": event["id"],
            "iat": 1_722_513_101,
            "exp": 1_722_813_101,
        })
    }

    fn account(&self, id: &Value, points: i64, revision: &str) -> Value {
        let mut account = json!({
            "id": id, "contactId": self.member.contact_id, "memberId": self.member.id,
            "points": {"balance": points, "earned": points, "adjusted": 0, "redeemed": 0, "expired": 0},
            "createdDate": AT, "updatedDate": AT, "revision": revision,
        });
        if points > 0 {
            account["lastActivityDate"] = json!(AT);
        }
        account
    }
}

/// The event in every envelope: what they all have around `body`.
fn event(id: &Value, (fqdn, slug): (&str, &str), entity: &Value, sequence: &str, body: &Value) -> Value {
    let mut event = json!({
        "id": id, "entityFqdn": fqdn, "slug": slug, "entityId": entity, "eventTime": AT,
        "triggeredByAnonymizeRequest": false, "originatedFrom": null, "entityEventSequence": sequence,
    });
    event.as_object_mut().unwrap().extend(body.as_object().unwrap().clone());
    event
}

on_both! {
    async fn every_event_type_arrives_in_exactly_this_envelope(app: &TestApp) {
        let (site, installed) = installed_site(app).await;
        let receiver = Receiver::start().await;
        app.subscribe(&site, &installed, &ALL_EVENTS, &receiver.url).await;
        let member = app.member(&site, "u-1").await;
        let row = app.follow(&member, "X").await;
        app.drain().await;

        let expected = Expected { site: &site, member: &member, installed: &installed };
        let account = &row["accountId"];
        let empty = expected.account(account, 0, "1");
        let earned = expected.account(account, 50, "2");
        let bodies = [
            (
                "wix.loyalty.v1.account_created",
                (ACCOUNT_FQDN, "created"),
                account,
                "1",
                json!({"createdEvent": {"entity": empty}}),
            ),
            (
                FOLLOWED,
                ("wix.loyalty.socialmedia.v1.followed_channel", "created"),
                &row["id"],
                "1",
                json!({"createdEvent": {"entity": row}}),
            ),
            (
                "wix.loyalty.v1.account_points_updated",
                (ACCOUNT_FQDN, "points_updated"),
                account,
                "2",
                json!({"actionEvent": {"body": {"account": earned}}}),
            ),
            (
                "wix.loyalty.v1.account_updated",
                (ACCOUNT_FQDN, "updated"),
                account,
                "3",
                json!({"updatedEvent": {"currentEntity": earned}}),
            ),
        ];
        let mut events = app.admin_list(&site, "/admin/v1/events", "events").await;
        events.reverse();
        let sent = receiver.bodies();
        assert_eq!((sent.len(), events.len()), (4, 4));
        for ((event_type, names, entity, sequence, body), listed) in bodies.into_iter().zip(&events) {
            let event = event(&listed["id"], names, entity, sequence, &body);
            let of_type = |token: &&String| unfold(token)["data"]["eventType"] == event_type;
            assert_eq!(unfold(sent.iter().find(of_type).unwrap()), expected.claims(event_type, &event));
            assert_eq!(
                listed,
                &json!({
                    "id": listed["id"], "eventType": event_type, "entityId": entity, "accountId": account,
                    "entityEventSequence": sequence, "eventDate": AT, "data": event,
                    "identity": {"identityType": "MEMBER", "memberId": member.id},
                })
            );
        }
    }
}

on_both! {
    async fn the_body_is_a_compact_rs256_jws_that_both_the_pem_and_the_key_set_prove(app: &TestApp) {
        let (site, installed) = installed_site(app).await;
        let stranger = app.installed_app(&site).await;
        let receiver = Receiver::start().await;
        app.subscribe(&site, &installed, &[FOLLOWED], &receiver.url).await;
        new_follower(app, &site, "u-1").await;
        app.drain().await;

        let sent = receiver.received();
        assert_eq!(sent.len(), 1);
        assert_eq!(sent[0].path, "/hook");
        assert_eq!(sent[0].headers["content-type"], "text/plain");
        let agent = format!("Followpoints/{}", env!("CARGO_PKG_VERSION"));
        assert_eq!(sent[0].headers["user-agent"], agent);
        let token = &sent[0].body;
        assert_eq!(
            jws_header(token),
            format!(r#"{{"alg":"RS256","typ":"JWT","kid":"{}"}}"#, installed.key_id)
        );

        assert!(is_proven(token, &pem_key(&installed), &installed));
        assert!(is_proven(token, &published_key(app, &kid(token)).await, &installed));
        assert!(!is_proven(token, &pem_key(&stranger), &installed));
        let (head, signature) = token.rsplit_once('.').unwrap();
        let (header, claims) = head.split_once('.').unwrap();
        let changed = format!("{header}.{}.{signature}", claims.replacen('a', "b", 1));
        assert!(!is_proven(&changed, &pem_key(&installed), &installed));
    }
}

on_both! {
    async fn an_event_is_signed_once_per_app_whatever_the_number_of_subscriptions(app: &TestApp) {
        let (site, installed) = installed_site(app).await;
        let other = app.installed_app(&site).await;
        let (one, two, third) = (Receiver::start().await, Receiver::start().await, Receiver::start().await);
        app.subscribe(&site, &installed, &[FOLLOWED], &one.url).await;
        app.subscribe(&site, &installed, &ALL_EVENTS, &two.url).await;
        app.subscribe(&site, &other, &[FOLLOWED], &third.url).await;
        new_follower(app, &site, "u-1").await;
        app.drain().await;

        let (sent, all, foreign) = (one.bodies(), two.bodies(), third.bodies());
        assert_eq!((sent.len(), all.len(), foreign.len()), (1, 4, 1));
        assert!(all.contains(&sent[0]));
        assert_ne!(sent[0], foreign[0]);
        assert!(is_proven(&foreign[0], &pem_key(&other), &other));
        assert!(!is_proven(&foreign[0], &pem_key(&installed), &other));
        let (mine, theirs) = (unfold(&sent[0]), unfold(&foreign[0]));
        assert_eq!(mine["data"]["data"], theirs["data"]["data"]);
        assert_eq!(text(&mine["data"]["instanceId"]), installed.instance_id);
        assert_eq!(text(&theirs["data"]["instanceId"]), other.instance_id);
    }
}

on_both! {
    async fn an_event_whose_words_have_changed_since_it_was_signed_is_signed_anew(app: &TestApp) {
        let (site, installed) = installed_site(app).await;
        let receiver = Receiver::start().await;
        receiver.answer([Reply::status(500), Reply::status(500)]);
        app.subscribe(&site, &installed, &[FOLLOWED], &receiver.url).await;
        new_follower(app, &site, "u-1").await;
        app.drain().await;

        // As another version of this program might have it.
        let tx = app.app.db.write().await.unwrap();
        let changed = "UPDATE event SET data = replace(data, '\"channel\":\"X\"', '\"channel\":\"Y\"')";
        tx.conn().execute_unprepared(changed).await.unwrap();
        tx.commit().await.unwrap();
        app.clock.advance_ms(66_000);
        app.drain().await;
        app.clock.advance_ms(660_000);
        app.drain().await;

        let bodies = receiver.bodies();
        let channel = |body: &str| unfold(body)["data"]["data"]["createdEvent"]["entity"]["channel"].clone();
        assert_eq!((channel(&bodies[0]), channel(&bodies[1])), (json!("X"), json!("Y")));
        assert!(bodies.iter().all(|body| is_proven(body, &pem_key(&installed), &installed)));
        assert_eq!(bodies[1..], [bodies[1].clone(), bodies[1].clone()], "the new one is kept");
    }
}
