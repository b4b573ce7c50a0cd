//! What platforms tell, put into the database as the pipeline would leave it.

use entity::id::{ActivityId, ActivityRuleId, ItemId, MemberId, SiteId};
use entity::kinds::{ActivityOutcome, ActivityType, ItemStatus, Platform};
use entity::{activity, activity_award, item};
use followpoints::db::Tx;
use sea_orm::{EntityTrait, IntoActiveModel, ModelTrait};
use uuid::Uuid;

use super::TestApp;
use super::world::Site;

/// A day in milliseconds.
pub const DAY_MS: i64 = 24 * 3_600_000;

pub fn guid(text: &str) -> Uuid {
    text.parse().unwrap()
}

/// A mention that was fetched now and is done with. Only `key` tells it from others.
pub fn item(tx: &Tx, site: &Site, key: &str) -> item::Model {
    item::Model {
        id: ItemId(tx.new_id()),
        platform: Platform::Instagram,
        account: format!("brand of {}", site.id),
        item_key: key.to_owned(),
        kind: "mention".to_owned(),
        person: Some("17841400000000001".to_owned()),
        handle: Some("nordfan".to_owned()),
        payload: r#"{"media_id":"m-1"}"#.to_owned(),
        occurred_at: Some(tx.now().plus_ms(-1_000)),
        delivery_id: None,
        site_id: Some(SiteId(guid(&site.id))),
        status: ItemStatus::Done,
        reason: None,
        attempts: 1,
        due_at: tx.now(),
        expires_at: None,
        received_at: tx.now(),
    }
}

/// What came of `item`: the activity of somebody who is not known here.
pub fn activity(tx: &Tx, item: &item::Model) -> activity::Model {
    activity::Model {
        site_id: item.site_id.unwrap(),
        id: ActivityId(tx.new_id()),
        item_id: item.id,
        activity_type: ActivityType::MentionedYou,
        platform: item.platform,
        external_id: format!("thing of {}", item.item_key),
        mention_type: None,
        member_id: None,
        account_id: None,
        person: item.person.clone(),
        handle: item.handle.clone(),
        properties: r#"{"caption":"New mug day #NordBrew","platform":"instagram"}"#.to_owned(),
        outcome: ActivityOutcome::Unmatched,
        reason: Some("nobody is known to have this handle".to_owned()),
        points: 0,
        occurred_at: item.occurred_at.unwrap(),
        created_at: tx.now(),
        updated_at: tx.now(),
    }
}

/// What `rule` awarded for `activity`, which has an account.
pub fn award(tx: &Tx, activity: &activity::Model, rule: &str, version: i64) -> activity_award::Model {
    activity_award::Model {
        rule_id: ActivityRuleId(guid(rule)),
        account_id: activity.account_id.unwrap(),
        external_id: activity.external_id.clone(),
        site_id: activity.site_id,
        rule_version: version,
        activity_id: activity.id,
        points: activity.points,
        awarded_at: tx.now(),
    }
}

/// Stores rows of one table.
pub async fn insert<M>(tx: &Tx, rows: impl IntoIterator<Item = M>)
where
    M: ModelTrait + IntoActiveModel<<M::Entity as EntityTrait>::ActiveModel>,
{
    let rows = rows.into_iter().map(IntoActiveModel::into_active_model);
    M::Entity::insert_many(rows).exec_without_returning(tx.conn()).await.unwrap();
}

impl TestApp {
    /// An activity of `member` with its item; gives the activity's id.
    pub async fn activity_of(&self, site: &Site, member: &str, key: &str) -> String {
        let tx = self.app.db.write().await.unwrap();
        let item = item(&tx, site, key);
        let row = activity::Model { member_id: Some(MemberId(guid(member))), ..activity(&tx, &item) };
        let id = row.id.to_string();
        insert(&tx, [item]).await;
        insert(&tx, [row]).await;
        tx.commit().await.unwrap();
        id
    }
}
