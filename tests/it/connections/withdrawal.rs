//! People who remove the app or want to be forgotten.

use base64::Engine;
use base64::engine::general_purpose::{URL_SAFE, URL_SAFE_NO_PAD};
use entity::id::{ItemId, MemberId, SiteId};
use entity::kinds::{ConnectionLogin, ItemStatus, Platform};
use entity::{activity, item};
use followpoints::access::Identity;
use followpoints::connections::signed_request;
use followpoints::inbox::{self, Arrivals, Call, NewItem};
use followpoints::webhooks::event;
use sea_orm::{
    ColumnTrait as _, EntityTrait as _, IntoActiveModel as _, PaginatorTrait as _, QueryFilter as _,
};
use serde_json::{Value, json};

use super::Browser;
use crate::ingest::signature;
use crate::support::client::Answer;
use crate::support::dump::dump;
use crate::support::graph::{BRAND, payload};
use crate::support::sources;
use crate::support::world::{Member, Site, text};
use crate::support::{Options, TestApp, until};
use crate::{on_both, on_both_databases};

/// The secrets that the vectors are signed with.
const FACEBOOK_SECRET: &str = "0f1e2d3c4b5a69788796a5b4c3d2e1f0";
const INSTAGRAM_SECRET: &str = "a1b2c3d4e5f60718293a4b5c6d7e8f90";
/// Shortly before the vectors were issued.
const BEFORE_MS: i64 = 1_794_994_000_000;

fn options() -> Options {
    let mut options = Options::default();
    // The newer secret first: a request may still be signed with the older one.
    for (name, secrets) in [
        ("FOLLOWPOINTS_META_APP_SECRETS", format!("a-newer-secret-0123456789,{FACEBOOK_SECRET}")),
        ("FOLLOWPOINTS_META_INSTAGRAM_APP_SECRETS", INSTAGRAM_SECRET.to_owned()),
    ] {
        options.platforms.retain(|(known, _)| *known != name);
        options.platforms.push((name, secrets));
    }
    options
}

fn vector(name: &str) -> String {
    let vectors = payload("signed_request_vectors.json");
    let found = vectors["vectors"].as_array().unwrap().iter().find(|vector| vector["name"] == name);
    text(&found.unwrap()["signed_request"])
}

async fn send(app: &TestApp, path: &str, signed_request: &str) -> Answer {
    let path = format!("/ingest/instagram/{path}");
    Browser::new(app).post(&path, &[("signed_request", signed_request)]).await
}

#[test]
fn signed_requests_are_what_the_vectors_say() {
    let vectors = payload("signed_request_vectors.json");
    let mut seen = 0;
    for vector in vectors["vectors"].as_array().unwrap() {
        let read =
            signed_request::verify(&[text(&vector["secret"])], vector["signed_request"].as_str().unwrap());
        // Padding may or may not be tolerated; it is.
        let is_valid = vector["valid"].as_bool().unwrap_or(true);
        assert_eq!(read.is_some(), is_valid, "{}", vector["name"]);
        if let (Some(read), Some(payload)) = (read, vector.get("payload")) {
            assert_eq!(json!(read.user_id), payload["user_id"]);
            assert_eq!(json!(read.issued_at), payload["issued_at"]);
        }
        seen += 1;
    }
    assert_eq!(seen, 8);
    let good = vector("deauthorize_fb_login");
    let both = ["another-secret-012345".to_owned(), FACEBOOK_SECRET.to_owned()];
    assert!(signed_request::verify(&both, &good).is_some());
    assert!(signed_request::verify(&[], &good).is_none());
    assert!(signed_request::verify(&[String::new()], &good).is_none());
    for strange in
        ["", ".", "..", "a.b", &format!("{good}x"), &good[1..], &format!("{good}.{good}"), &"a".repeat(9_000)]
    {
        assert!(signed_request::verify(&both, strange).is_none(), "{strange}");
    }
}

/// A signed request with a payload of the test's own; `engine` writes both parts.
fn signed(payload: &str, engine: &impl Engine) -> String {
    let payload = engine.encode(payload);
    let digits = signature(INSTAGRAM_SECRET, payload.as_bytes());
    let digits = digits.strip_prefix("sha256=").unwrap();
    let pairs = (0..digits.len()).step_by(2);
    let mac: Vec<u8> = pairs.map(|at| u8::from_str_radix(&digits[at..at + 2], 16).unwrap()).collect();
    format!("{}.{payload}", engine.encode(mac))
}

#[test]
fn a_signed_request_must_name_the_algorithm_and_the_person() {
    let secrets = ["another-secret-000000".to_owned(), INSTAGRAM_SECRET.to_owned()];
    let read = |text: &str| signed_request::verify(&secrets, text);
    // Too large for any number of a program.
    let good =
        r#"{"user_id":8823456701234567890123,"algorithm":"hmac-sha256","issued_at":1794994212,"x":null}"#;
    for text in [signed(good, &URL_SAFE), signed(good, &URL_SAFE_NO_PAD)] {
        assert_eq!(read(&text).unwrap().user_id, "8823456701234567890123");
    }
    for payload in [
        r#"{"user_id":"1","algorithm":"none","issued_at":1}"#,
        r#"{"user_id":"1","algorithm":"HMAC-SHA1","issued_at":1}"#,
        r#"{"user_id":"1","issued_at":1}"#,
        r#"{"algorithm":"HMAC-SHA256","issued_at":1}"#,
        r#"{"user_id":null,"algorithm":"HMAC-SHA256","issued_at":1}"#,
        r#"{"user_id":"","algorithm":"HMAC-SHA256","issued_at":1}"#,
        r#"{"user_id":1.5,"algorithm":"HMAC-SHA256","issued_at":1}"#,
        r#"{"user_id":{"id":"1"},"algorithm":"HMAC-SHA256","issued_at":1}"#,
        "[]",
        "not json",
    ] {
        assert_eq!(read(&signed(payload, &URL_SAFE_NO_PAD)), None, "{payload}");
    }
}

on_both! {
    options: options(),
    async fn removing_the_app_takes_the_tokens_of_that_person_alone(app: &TestApp) {
        app.clock.advance_ms(BEFORE_MS - app.app.db.now().0);
        let (site, other) = (app.site().await, app.site().await);
        let theirs = app.store(app.blank_connection(&site, "17841460998870001")).await;
        let also = app.store(app.blank_connection(&other, "17841460998870002")).await;
        let mut row = app.blank_connection(&site, "17841460998870003");
        row.owner_id = Some("10223344556677880".to_owned());
        let another = app.store(row).await;
        let mut row = app.blank_connection(&site, "17841460998870004");
        row.login = ConnectionLogin::Instagram;
        let other_app = app.store(row).await;

        for (name, path) in [
            ("wrong_secret", "instagram-login/deauthorize"),
            ("deauthorize_ig_login", "facebook-login/deauthorize"),
            ("tampered", "facebook-login/deauthorize"),
            ("alg_none_empty_signature", "facebook-login/deauthorize"),
            ("no_dot", "facebook-login/deauthorize"),
            ("tampered", "facebook-login/data-deletion"),
        ] {
            let refused = send(app, path, &vector(name)).await;
            assert_eq!(refused.error(), (403, "PERMISSION_DENIED".to_owned()), "{name}");
        }
        let nothing = send(app, "facebook-login/deauthorize", "").await;
        assert_eq!(nothing.violations(), [("signed_request".to_owned(), "REQUIRED_FIELD".to_owned())]);
        assert!(app.stored_connections().await.iter().all(|row| row.dead_since.is_none()));

        let done = send(app, "facebook-login/deauthorize", &vector("deauthorize_fb_login")).await;
        assert_eq!((done.status.as_u16(), done.text.as_str()), (200, "{}"));
        for row in app.stored_connections().await {
            let is_theirs = row.id == theirs.id || row.id == also.id;
            assert_eq!((row.token.is_none(), row.dead_since.is_some()), (is_theirs, is_theirs), "{}", row.external_id);
            assert!(is_theirs || row == another || row == other_app);
        }
        let shown = app.connections(&other).await.remove(0);
        assert_eq!(shown["state"], "REVOKED");
        assert!(shown["problem"].as_str().unwrap().contains("has removed the app"));
        // Once more changes nothing.
        let before = app.stored_connections().await;
        send(app, "facebook-login/deauthorize", &vector("deauthorize_fb_login")).await;
        assert_eq!(app.stored_connections().await, before);
    }
}

on_both! {
    options: options(),
    async fn a_request_that_is_told_again_does_not_undo_a_later_login(app: &TestApp) {
        app.clock.advance_ms(BEFORE_MS - app.app.db.now().0);
        let site = app.site().await;
        app.clock.advance_ms(24 * 3_600_000);
        let row = app.store(app.blank_connection(&site, BRAND)).await;
        for name in ["facebook-login/deauthorize", "facebook-login/data-deletion"] {
            assert_eq!(send(app, name, &vector("deauthorize_fb_login")).await.status.as_u16(), 200);
        }
        assert_eq!(app.stored_connections().await, [row]);
    }
}

on_both! {
    options: options(),
    async fn whoever_wants_to_be_forgotten_can_see_that_it_was_done(app: &TestApp) {
        app.clock.advance_ms(BEFORE_MS - app.app.db.now().0);
        let site = app.site().await;
        app.store(app.blank_connection(&site, BRAND)).await;
        let mut row = app.blank_connection(&site, "17841460998870004");
        row.login = ConnectionLogin::Instagram;
        row.owner_id = Some("8823456701234567".to_owned());
        app.store(row).await;

        let answer = send(app, "facebook-login/data-deletion", &vector("data_deletion_fb_login")).await;
        assert_eq!(answer.status.as_u16(), 200);
        assert_eq!(answer.headers["content-type"], "application/json");
        let answer: Value = answer.json();
        let keys: Vec<_> = answer.as_object().unwrap().keys().cloned().collect();
        let expected: Vec<_> = payload("data_deletion_reply.json").as_object().unwrap().keys().cloned().collect();
        assert_eq!(keys, expected);
        let code = text(&answer["confirmation_code"]);
        assert!(code.starts_with("dl_"));
        assert_eq!(answer["url"], json!(format!("http://127.0.0.1/privacy/deletion?code={code}")));
        let left = app.stored_connections().await;
        assert_eq!(left.len(), 1);
        assert_eq!(left[0].login, ConnectionLogin::Instagram);

        let look = async || Browser::new(app).get(&format!("/privacy/deletion?code={code}")).await;
        let page = look().await;
        assert_eq!(page.status.as_u16(), 200);
        assert!(page.text.contains("is being carried out"), "{}", page.text);
        assert_eq!(app.app.connections.forget_due().await.unwrap(), 1);
        assert_eq!(app.app.connections.forget_due().await.unwrap(), 0);
        let page = look().await;
        assert!(page.text.contains("was carried out on"), "{}", page.text);
        assert!(page.text.contains(&code), "{}", page.text);
        assert!(!page.text.contains("10223344556677889"), "whose it was is not shown");
        for unknown in ["", "?code=", "?code=dl_x", &format!("?code={code}x"), "?code=%FF"] {
            let page = Browser::new(app).get(&format!("/privacy/deletion{unknown}")).await;
            assert_eq!(page.status.as_u16(), 404, "{unknown}");
        }

        // By either of the ids that a person of Instagram Login has.
        send(app, "instagram-login/data-deletion", &vector("deauthorize_ig_login")).await;
        assert_eq!(app.stored_connections().await, []);
    }
}

on_both_databases! {
    async fn demands_are_carried_out_by_themselves(database: TestDatabase) {
        let app = TestApp::start_apart_with(database, options()).await;
        app.clock.advance_ms(BEFORE_MS - app.app.db.now().0);
        let site = app.site().await;
        app.store(app.blank_connection(&site, BRAND)).await;
        let demanded = send(&app, "facebook-login/data-deletion", &vector("data_deletion_fb_login")).await.json();
        let path = format!("/privacy/deletion?code={}", text(&demanded["confirmation_code"]));
        let page = Browser::new(&app).get(&path).await;
        assert!(page.text.contains("is being carried out"), "{}", page.text);

        let app = app.restart_at_work().await;
        until("it is carried out", async || {
            let page = Browser::new(&app).get(&path).await;
            page.text.contains("was carried out on").then_some(())
        })
        .await;
        app.app.stop().await;
    }
}

/// Has it told that the member said this in the thing `of`.
async fn tell(app: &TestApp, site: &Site, member: &Member, of: ItemId) {
    let tx = app.app.db.write().await.unwrap();
    let mut row = sources::activity(&tx, &sources::item(&tx, site, "x"));
    row.item_id = of;
    row.member_id = Some(MemberId(member.id.parse().unwrap()));
    row.properties = json!({"message": "regret 7", "caption": "regret that"}).to_string();
    let told = event::activity_recorded(&tx, &row, &Identity::Member(row.member_id.unwrap())).unwrap();
    assert!(told.data.contains("regret 7"));
    activity::Entity::insert(row.into_active_model()).exec_without_returning(tx.conn()).await.unwrap();
    let person = entity::person::Model {
        site_id: told.site_id,
        platform: Platform::Instagram,
        external_id: "5512034987760112".to_owned(),
        handle: Some("regret.seven".to_owned()),
        follows: Some(true),
        follows_since: Some(tx.now()),
        last_message_at: Some(tx.now()),
        told_at: tx.now(),
        counted_for: None,
        is_count_proven: false,
        updated_at: tx.now(),
    };
    entity::person::Entity::insert(person.into_active_model())
        .exec_without_returning(tx.conn())
        .await
        .unwrap();
    let stored = entity::event::Model {
        site_id: told.site_id,
        id: told.id,
        event_type: told.kind.as_str().to_owned(),
        entity_id: told.entity_id,
        account_id: None,
        sequence: 1,
        data: told.data,
        identity: told.identity,
        occurred_at: tx.now(),
    };
    entity::event::Entity::insert(stored.into_active_model())
        .exec_without_returning(tx.conn())
        .await
        .unwrap();
    tx.commit().await.unwrap();
}

on_both! {
    options: options(),
    /// Deletion requests cover stored messages, too.
    async fn what_an_account_brought_is_forgotten_with_it(app: &TestApp) {
        app.clock.advance_ms(BEFORE_MS - app.app.db.now().0);
        let site = app.site().await;
        app.store(app.blank_connection(&site, BRAND)).await;
        let member = app.member(&site, "u-1").await;
        let said = |text: &str| json!({"message": {"mid": text, "text": text}}).to_string();
        let mut kept = Vec::new();
        // More than one step empties; some not worked on; and another account's.
        for number in 0..450 {
            let text = format!("regret {number}");
            let account = if number == 449 { "17841460998870004" } else { BRAND };
            let new = NewItem {
                platform: Platform::Instagram,
                account: account.to_owned(),
                key: format!("message:{number}"),
                kind: "message".to_owned(),
                person: Some("5512034987760112".to_owned()),
                handle: Some("mia.runs.oslo".to_owned()),
                site: Some(SiteId(site.id.parse().unwrap())),
                occurred_at: None,
                payload: said(&text),
            };
            let call = Call { source: "test", body: text.into(), items: vec![new] };
            let stored = inbox::store(&app.app.db, &Arrivals::of(&app.app.db, vec![call])).await.unwrap();
            kept.extend(stored.into_iter().flat_map(|stored| stored.new));
        }
        tell(app, &site, &member, kept[7].1).await;

        send(app, "facebook-login/data-deletion", &vector("data_deletion_fb_login")).await;
        // What comes afterwards, as somebody has connected the account again, is not meant.
        app.clock.advance_ms(1);
        let new = NewItem {
            platform: Platform::Instagram,
            account: BRAND.to_owned(),
            key: "message:later".to_owned(),
            kind: "message".to_owned(),
            person: None,
            handle: None,
            site: None,
            occurred_at: None,
            payload: said("regret later"),
        };
        let call = Call { source: "test", body: b"regret later".into(), items: vec![new] };
        inbox::store(&app.app.db, &Arrivals::of(&app.app.db, vec![call])).await.unwrap();
        assert_eq!(app.app.connections.forget_due().await.unwrap(), 1);

        let mut left: Vec<String> = Vec::new();
        for row in dump(&app.app.db).await {
            // As it is, and as bytes are written.
            let row = row.to_lowercase().replace("726567726574", "regret");
            left.extend(row.contains("regret").then(|| row.split(':').next().unwrap().to_owned()));
        }
        assert_eq!(left, ["item", "item", "raw_delivery", "raw_delivery"], "another account's, and the later one");
        let open = item::Entity::find()
            .filter(item::Column::Account.eq(BRAND))
            .filter(item::Column::ItemKey.ne("message:later"))
            .filter(item::Column::Status.ne(ItemStatus::Done));
        assert_eq!(open.count(app.app.db.read()).await.unwrap(), 0, "nothing of them is worked on any more");
    }
}
