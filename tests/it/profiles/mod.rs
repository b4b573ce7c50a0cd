//! What is known of members on social platforms: handles, attributes, link codes, and the channels as a member sees them.

mod attributes;
mod channels;
mod erasure;
mod follows;
mod handles;
mod link_codes;

use entity::id::{ConnectionId, ItemId, MemberId, SiteId, Timestamp};
use entity::kinds::{ConnectionLogin, Platform};
use entity::{connection, member_handle, member_profile};
use followpoints::profiles::attributes::{Attributes, Facts};
use sea_orm::{ActiveModelTrait as _, ActiveValue::Set, EntityTrait as _};
use serde_json::{Value, json};
use uuid::Uuid;

use crate::support::client::Answer;
use crate::support::world::{Member, Site};
use crate::support::{START, TestApp};

const PROFILE: &str = "/me/v1/profile";
const CODES: &str = "/me/v1/link-codes";
/// The first instant of every test.
const NOW: &str = "2024-08-01T11:51:41.431Z";

fn id(text: &str) -> Uuid {
    text.parse().unwrap()
}

fn site_id(site: &Site) -> SiteId {
    SiteId(id(&site.id))
}

fn member_id(member: &Member) -> MemberId {
    MemberId(id(&member.id))
}

/// The member's own profile.
async fn profile(app: &TestApp, member: &Member) -> Value {
    app.call("GET", PROFILE).auth(&member.token).ok().await
}

/// The member changes its profile.
async fn patch(app: &TestApp, member: &Member, fields: Value) -> Answer {
    app.call("PATCH", PROFILE).auth(&member.token).json(&json!({"profile": fields})).send().await
}

/// The member claims `handle` on Instagram.
async fn claim(app: &TestApp, member: &Member, handle: &str) {
    assert_eq!(patch(app, member, json!({"instagramHandle": handle})).await.status.as_u16(), 200);
}

/// As if a message of `person` had proven the handle that the member claims.
async fn prove(
    app: &TestApp,
    site: &Site,
    member: &Member,
    platform: Platform,
    person: &str,
) -> Result<(), sea_orm::DbErr> {
    let tx = app.app.db.write().await?;
    let row = member_handle::ActiveModel {
        site_id: Set(site_id(site)),
        member_id: Set(member_id(member)),
        platform: Set(platform),
        person: Set(Some(person.to_owned())),
        person_account: Set(Some(String::new())),
        proven_at: Set(Some(tx.now())),
        proven_by: Set(Some(ItemId(tx.new_id()))),
        ..Default::default()
    };
    row.update(tx.conn()).await?;
    tx.commit().await
}

/// As if platforms had told about the member: Instagram that it has 1204 followers, is called Mia Lindqvist and follows the brand,
/// TikTok that it has 88 followers.
async fn tell(app: &TestApp, site: &Site, member: &Member) {
    let mut attributes = Attributes::default();
    let instagram = Facts {
        name: Some("Mia Lindqvist".to_owned()),
        followers: Some(1204),
        follows_brand: Some(true),
        ..Facts::default()
    };
    let at = START.plus_ms(-1_000);
    attributes.tell(Platform::Instagram, Some("mia.runs.oslo"), &instagram, "INSTAGRAM_MESSAGE", at);
    attributes.set("dm_keyword", "NORDBREW", "INSTAGRAM_MESSAGE", at);
    let tiktok = Facts { followers: Some(88), ..Facts::default() };
    attributes.tell(Platform::Tiktok, Some("miarunsoslo"), &tiktok, "TIKTOK_POST", at);
    let tx = app.app.db.write().await.unwrap();
    let row = member_profile::Model {
        site_id: site_id(site),
        member_id: member_id(member),
        attributes: attributes.to_json(),
        updated_at: tx.now(),
    };
    let row = member_profile::ActiveModel::from(row);
    member_profile::Entity::insert(row).exec_without_returning(tx.conn()).await.unwrap();
    tx.commit().await.unwrap();
}

/// What [`tell`] told of Instagram, as profiles show it.
fn told_of_instagram() -> Value {
    let of = |value: Value| json!({"value": value, "source": "INSTAGRAM_MESSAGE", "updatedDate": "2024-08-01T11:51:40.431Z"});
    json!({
        "dm_keyword": of(json!("NORDBREW")),
        "instagram_firstname": of(json!("Mia")),
        "instagram_followers": of(json!(1204)),
        "instagram_follows_you": of(json!(true)),
        "instagram_handle": of(json!("mia.runs.oslo")),
        "instagram_lastname": of(json!("Lindqvist")),
    })
}

/// The same of TikTok.
fn told_of_tiktok() -> Value {
    let of = |value: Value| json!({"value": value, "source": "TIKTOK_POST", "updatedDate": "2024-08-01T11:51:40.431Z"});
    json!({"tiktok_followers": of(json!(88)), "tiktok_handle": of(json!("miarunsoslo"))})
}

/// Whether the member has proven its Instagram handle, as profiles show it.
fn verified(is_verified: bool, at: &str) -> Value {
    json!({"instagram_verified": {"value": is_verified, "source": "FOLLOWPOINTS", "updatedDate": at}})
}

/// All of `maps` in one.
fn together(maps: &[Value]) -> Value {
    maps.iter().flat_map(|map| map.as_object().unwrap().clone()).collect::<serde_json::Map<_, _>>().into()
}

/// The brand's account `username` on `platform`, connected; since `dead_since` it no longer works.
async fn connect(
    app: &TestApp,
    site: &Site,
    platform: Platform,
    username: Option<&str>,
    dead_since: Option<Timestamp>,
) {
    let tx = app.app.db.write().await.unwrap();
    let id = ConnectionId(tx.new_id());
    let row = connection::Model {
        id,
        site_id: site_id(site),
        platform,
        login: ConnectionLogin::Facebook,
        external_id: id.to_string(),
        username: username.map(str::to_owned),
        page_id: None,
        owner_id: None,
        token: Some(b"sealed".to_vec()),
        refresh_token: None,
        token_issued_at: None,
        token_expires_at: None,
        missing_permissions: "[]".to_owned(),
        dead_since,
        problem: None,
        limited_until: None,
        last_item_at: None,
        poll_due_at: tx.now(),
        has_polled: false,
        check_due_at: tx.now(),
        created_at: tx.now(),
        updated_at: tx.now(),
    };
    let row = connection::ActiveModel::from(row);
    connection::Entity::insert(row).exec_without_returning(tx.conn()).await.unwrap();
    tx.commit().await.unwrap();
}
