//! TikTok as a source: pushed posts, webhooks, polled accounts, members' logins and links.

mod hashtags;
mod links;
mod logins;
mod meaning;
mod noise;
mod polling;
mod pushed;
mod webhooks;

use aws_lc_rs::hmac;
use entity::id::{ConnectionId, SiteId, Timestamp};
use entity::kinds::{ActivityType, ConnectionLogin, ItemStatus, Platform};
use entity::{activity, connection, item};
use followpoints::activities::rule_store::{self, Terms};
use followpoints::activities::rules::{Limits, Requires};
use followpoints::connections::TOKEN_PURPOSE;
use followpoints::tiktok::words;
use sea_orm::{ActiveModelTrait as _, EntityTrait as _, IntoActiveModel as _, QueryOrder as _};
use serde_json::{Value, json};
use uuid::Uuid;

use crate::support::client::Answer;
use crate::support::tiktok::{BUSINESS_SECRET, payload};
use crate::support::world::Site;
use crate::support::{ADMIN_KEY, START, TestApp};

/// 2026-11-18T09:30:12Z, when the fixtures were made.
pub const NOW: Timestamp = Timestamp(1_794_994_212_000);
/// The brand's account in the fixtures.
pub const BRAND: &str = "bizopen_lv71B63CO60s5vUpiA4859r6";
pub const HOUR: i64 = 3_600_000;
pub const DAY: i64 = 24 * HOUR;

fn uuid(text: &str) -> Uuid {
    Uuid::parse_str(text).unwrap()
}

/// A site at the time of the fixtures that tracks their hashtag.
async fn brewery(app: &TestApp) -> Site {
    app.clock.advance_ms(NOW.0 - START.0);
    let site = app.site().await;
    track(app, &site, "#NordbrewCoffee").await;
    site
}

async fn track(app: &TestApp, site: &Site, hashtag: &str) -> Value {
    let body = json!({"tiktokHashtag": {"hashtag": hashtag}});
    app.call("POST", "/admin/v1/tiktok-hashtags").key(ADMIN_KEY, &site.id).json(&body).ok().await
}

/// Connects the brand's account of the fixtures to `site`.
async fn connect(app: &TestApp, site: &Site) {
    let tx = app.app.db.write().await.unwrap();
    let row = connection::Model {
        id: ConnectionId(tx.new_id()),
        site_id: SiteId(uuid(&site.id)),
        platform: Platform::Tiktok,
        login: ConnectionLogin::TiktokBusiness,
        external_id: BRAND.to_owned(),
        username: Some("nordbrew".to_owned()),
        page_id: None,
        owner_id: None,
        token: Some(app.app.sealer.seal(TOKEN_PURPOSE, b"act.business").unwrap()),
        refresh_token: None,
        token_issued_at: None,
        token_expires_at: None,
        missing_permissions: "[]".to_owned(),
        dead_since: None,
        problem: None,
        limited_until: None,
        last_item_at: None,
        poll_due_at: tx.now(),
        has_polled: false,
        check_due_at: tx.now().plus_ms(DAY),
        created_at: tx.now(),
        updated_at: tx.now(),
    };
    row.into_active_model().insert(tx.conn()).await.unwrap();
    tx.commit().await.unwrap();
}

/// A call to the entrance of API for Business as `name` has it, with other content.
async fn business_with(app: &TestApp, name: &str, change: impl FnOnce(&mut Value)) {
    let mut call = payload(name);
    let mut content: Value = serde_json::from_str(call["content"].as_str().unwrap()).unwrap();
    change(&mut content);
    call["content"] = content.to_string().into();
    send(app, BUSINESS, BUSINESS_SECRET, call.to_string().as_bytes()).await;
    work(app).await;
}

/// A rule that gives 25 points for each mention.
async fn reward_mentions(app: &TestApp, site: &Site) {
    let tx = app.app.db.write().await.unwrap();
    let terms = Terms {
        kind: ActivityType::MentionedYou,
        platform: None,
        mention_type: None,
        points: 25,
        limits: Limits::default(),
        requires: Requires::default(),
        is_enabled: true,
        starts_at: None,
        ends_at: None,
    };
    rule_store::create_rule(&tx, SiteId(uuid(&site.id)), terms).await.unwrap();
    tx.commit().await.unwrap();
}

/// Works on everything that came.
async fn work(app: &TestApp) {
    app.app.sources.work_off().await.unwrap();
}

async fn activities(app: &TestApp) -> Vec<activity::Model> {
    activity::Entity::find().order_by_asc(activity::Column::Id).all(app.app.db.read()).await.unwrap()
}

/// Type, outcome and points of every activity.
async fn outcomes(app: &TestApp) -> Vec<(&'static str, &'static str, i64)> {
    let rows = activities(app).await;
    rows.iter().map(|row| (row.activity_type.as_str(), row.outcome.as_str(), row.points)).collect()
}

async fn items(app: &TestApp) -> Vec<item::Model> {
    item::Entity::find().order_by_asc(item::Column::Id).all(app.app.db.read()).await.unwrap()
}

/// Kind, state and reason of every thing.
async fn states(app: &TestApp) -> Vec<(String, ItemStatus, String)> {
    let rows = items(app).await;
    rows.into_iter().map(|row| (row.kind, row.status, row.reason.unwrap_or_default())).collect()
}

/// `TikTok-Signature` of `body`, made now.
fn signature(app: &TestApp, secret: &str, body: &[u8]) -> String {
    signature_at(app.app.db.now(), secret, body)
}

fn signature_at(at: Timestamp, secret: &str, body: &[u8]) -> String {
    let time = at.seconds().to_string();
    let text = [time.as_bytes(), b".", body].concat();
    let key = hmac::Key::new(hmac::HMAC_SHA256, secret.as_bytes());
    format!("t={time},s={}", words::hex(hmac::sign(&key, &text).as_ref()))
}

const DEVELOPER: &str = "/ingest/tiktok/webhook";
const BUSINESS: &str = "/ingest/tiktok/business-webhook";

/// Calls an entrance as TikTok does.
async fn send(app: &TestApp, path: &str, secret: &str, body: &[u8]) -> Answer {
    let signature = signature(app, secret, body);
    let call = app.call("POST", path).header("tiktok-signature", &signature);
    call.text("application/json", body.to_vec()).send().await
}

/// Pushes a batch as an operator's provider.
async fn push(app: &TestApp, site: &Site, batch: &Value) -> Value {
    app.call("POST", "/ingest/tiktok/posts").key(ADMIN_KEY, &site.id).json(batch).ok().await
}

/// The statuses that a batch gets.
fn statuses(answer: &Value) -> Vec<&str> {
    answer["results"].as_array().unwrap().iter().map(|result| result["status"].as_str().unwrap()).collect()
}

/// A post made `hours` ago by `handle`, whose id says so too; `number` tells those of the same second apart.
fn post(app: &TestApp, handle: &str, hours: i64, number: u64) -> Value {
    let at = app.app.db.now().plus_ms(-hours * HOUR);
    let id = (u64::try_from(at.seconds()).unwrap() << 32) + number;
    json!({
        "external_id": id.to_string(), "author_handle": handle, "posted_at": at.to_rfc3339(),
        "caption": "Cortado #nordbrewcoffee", "like_count": 1, "comment_count": 0,
    })
}
