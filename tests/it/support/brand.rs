//! A brand's account on Instagram that is connected, and a post that mentions it, as if both had come by the usual way.

use entity::id::{ActivityId, ConnectionId, ItemId, SiteId, Timestamp};
use entity::kinds::{ActivityOutcome, ActivityType, ConnectionLogin, ItemStatus, MentionType, Platform};
use entity::{activity, connection, item};
use followpoints::connections::TOKEN_PURPOSE;
use sea_orm::EntityTrait as _;

use super::TestApp;
use super::graph::PAGE_TOKEN;
use super::world::Site;

/// Beyond the reach of pollers and health checks.
const FAR: Timestamp = Timestamp(i64::MAX);
/// The post; the stand-in for the Graph API knows it.
const MEDIA: &str = "18055512345678901";

/// A connection of `site` through Facebook, to an account of its own.
pub fn connection(app: &TestApp, site: SiteId, account: &str) -> connection::Model {
    let now = app.app.db.now();
    connection::Model {
        id: ConnectionId(app.app.db.new_id()),
        site_id: site,
        platform: Platform::Instagram,
        login: ConnectionLogin::Facebook,
        external_id: account.to_owned(),
        username: Some("nordbrew.coffee".to_owned()),
        page_id: None,
        owner_id: None,
        token: Some(app.app.sealer.seal(TOKEN_PURPOSE, PAGE_TOKEN.as_bytes()).unwrap()),
        refresh_token: None,
        token_issued_at: Some(now),
        token_expires_at: None,
        missing_permissions: "[]".to_owned(),
        dead_since: None,
        problem: None,
        limited_until: None,
        last_item_at: None,
        poll_due_at: FAR,
        has_polled: true,
        check_due_at: FAR,
        created_at: now,
        updated_at: now,
    }
}

impl TestApp {
    /// Connects an account of `site` and records that a post mentions it; gives the activity's id.
    pub async fn mention(&self, site: &Site) -> String {
        let (db, now) = (&self.app.db, self.app.db.now());
        let site = SiteId(site.id.parse().unwrap());
        let account = format!("1784{}", site.0.as_u128() % 10_u128.pow(13));
        let item = ItemId(db.new_id());
        let thing = item::Model {
            id: item,
            platform: Platform::Instagram,
            account: account.clone(),
            item_key: format!("mention:{MEDIA}"),
            kind: "mention_caption".to_owned(),
            person: None,
            handle: Some("mia.runs.oslo".to_owned()),
            payload: format!(r#"{{"field":"mentions","value":{{"media_id":"{MEDIA}"}}}}"#),
            occurred_at: Some(now),
            delivery_id: None,
            site_id: Some(site),
            status: ItemStatus::Done,
            reason: None,
            attempts: 1,
            due_at: now,
            expires_at: None,
            received_at: now,
        };
        let done = activity::Model {
            site_id: site,
            id: ActivityId(db.new_id()),
            item_id: item,
            activity_type: ActivityType::MentionedYou,
            platform: Platform::Instagram,
            external_id: MEDIA.to_owned(),
            mention_type: Some(MentionType::Mention),
            member_id: None,
            account_id: None,
            person: None,
            handle: Some("mia.runs.oslo".to_owned()),
            properties: r#"{"platform":"instagram","mention_type":"mention","media_type":"post"}"#.to_owned(),
            outcome: ActivityOutcome::Unmatched,
            reason: None,
            points: 0,
            occurred_at: now,
            created_at: now,
            updated_at: now,
        };
        let id = done.id.to_string();
        let connected = connection(self, site, &account);
        let tx = db.write().await.unwrap();
        let insert = connection::Entity::insert(connection::ActiveModel::from(connected));
        insert.exec_without_returning(tx.conn()).await.unwrap();
        let insert = item::Entity::insert(item::ActiveModel::from(thing));
        insert.exec_without_returning(tx.conn()).await.unwrap();
        let insert = activity::Entity::insert(activity::ActiveModel::from(done));
        insert.exec_without_returning(tx.conn()).await.unwrap();
        tx.commit().await.unwrap();
        id
    }
}
