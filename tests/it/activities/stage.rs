//! Things that a platform might have sent, as its module understands them, and what came of them.

use entity::id::{ActivityRuleId, ItemId, MemberId, RawDeliveryId, SiteId, Timestamp};
use entity::kinds::{ActivityType, ItemStatus, MentionType, Platform};
use entity::{
    account, activity, activity_rule, followed_channel, item, member_handle, member_profile, raw_delivery,
};
use followpoints::activities::record::Recorder;
use followpoints::activities::rules::{Limits, Requires};
use followpoints::activities::{Conditions, Fate, NewActivity, Person, Sighting};
use followpoints::profiles::attributes::{Attributes, Facts};
use followpoints::profiles::{handles, link_codes};
use followpoints::sites::config;
use sea_orm::{ColumnTrait, EntityTrait, QueryFilter, QueryOrder};
use serde_json::{Map, Value, json};
use uuid::Uuid;

use crate::support::TestApp;
use crate::support::sources;
use crate::support::world::{Member, Site};

/// The brand's account.
pub const BRAND: &str = "17841460998877001";
/// Beyond the reach of the worker, which must not take a test's things.
const FAR: Timestamp = Timestamp(i64::MAX);

/// A site with a brand on Instagram.
pub struct Stage<'a> {
    pub app: &'a TestApp,
    pub site: Site,
}

pub fn site_id(site: &Site) -> SiteId {
    SiteId(site.id.parse().unwrap())
}

pub fn member_id(member: &Member) -> MemberId {
    MemberId(member.id.parse().unwrap())
}

/// What is said about a person.
#[derive(Clone, Default)]
pub struct Says {
    pub external: Option<&'static str>,
    pub handle: Option<&'static str>,
    pub follows: Option<bool>,
    pub followers: Option<i64>,
}

pub const MIA: Says = Says {
    external: Some("5512034987760112"),
    handle: Some("mia.runs.oslo"),
    follows: None,
    followers: None,
};

impl<'a> Stage<'a> {
    pub async fn new(app: &'a TestApp) -> Self {
        Self { app, site: app.site().await }
    }

    pub fn recorder(&self) -> Recorder {
        let app = &self.app.app;
        Recorder::new(app.db.clone(), app.configs.clone(), app.dispatcher.clone())
    }

    /// Stores a thing of this key, as it would be after it was claimed.
    pub async fn item(&self, key: &str) -> item::Model {
        self.item_of(key, None).await
    }

    /// The same, of a person whom the platform named by its id.
    pub async fn item_of(&self, key: &str, person: Option<&str>) -> item::Model {
        let row = item::Model { person: person.map(str::to_owned), ..self.claimed(key) };
        self.insert(&row).await;
        row
    }

    fn claimed(&self, key: &str) -> item::Model {
        let now = self.app.app.db.now();
        item::Model {
            id: ItemId(self.app.app.db.new_id()),
            platform: Platform::Instagram,
            account: BRAND.to_owned(),
            item_key: key.to_owned(),
            kind: key.split(':').next().unwrap().to_owned(),
            person: None,
            handle: None,
            payload: json!({"message": {"mid": key, "text": "secret words", "attachments": []}}).to_string(),
            occurred_at: Some(now),
            delivery_id: None,
            site_id: None,
            status: ItemStatus::Waiting,
            reason: None,
            attempts: 1,
            due_at: FAR,
            expires_at: None,
            received_at: now,
        }
    }

    /// Records that the message `mid` was unsent.
    pub async fn unsend(&self, mid: &str) -> item::Model {
        let item = self.item(&format!("unsend:{mid}")).await;
        self.change(&item, mid, true).await;
        item
    }

    /// Records an edit of the message `mid`, which came in a call of its own.
    pub async fn edit(&self, mid: &str, number: u32, text: &str) -> item::Model {
        let app = &self.app.app;
        let delivery = raw_delivery::Model {
            id: RawDeliveryId(app.db.new_id()),
            source: "test".to_owned(),
            body: Some(text.as_bytes().to_vec()),
            item_count: 1,
            received_at: app.db.now(),
        };
        let edit = json!({"mid": mid, "text": text, "num_edit": number.to_string()});
        let row = item::Model {
            kind: "message_edit".to_owned(),
            payload: json!({"message_edit": edit}).to_string(),
            delivery_id: Some(delivery.id),
            ..self.claimed(&format!("edit:{mid}:{number}"))
        };
        let tx = app.db.write().await.unwrap();
        sources::insert(&tx, [delivery]).await;
        sources::insert(&tx, [row.clone()]).await;
        tx.commit().await.unwrap();
        self.change(&row, mid, false).await;
        row
    }

    async fn change(&self, item: &item::Model, mid: &str, is_unsent: bool) {
        let message_key = format!("message:{mid}");
        let fate = Fate::Changed { site: site_id(&self.site), message_key, is_unsent };
        self.recorder().record(vec![(item.clone(), fate)]).await.unwrap();
    }

    pub async fn insert(&self, row: &item::Model) {
        let tx = self.app.app.db.write().await.unwrap();
        let insert = item::Entity::insert(item::ActiveModel::from(row.clone()));
        insert.exec_without_returning(tx.conn()).await.unwrap();
        tx.commit().await.unwrap();
    }

    pub fn sighting(&self, says: &Says) -> Sighting {
        Sighting {
            site: site_id(&self.site),
            source: "INSTAGRAM_MESSAGE",
            person: Person {
                platform: Platform::Instagram,
                account: BRAND.to_owned(),
                external_id: says.external.map(str::to_owned),
                handle: says.handle.map(str::to_owned),
                is_signed_in: false,
                facts: Facts { follows_brand: says.follows, followers: says.followers, ..Facts::default() },
                told_at: self.app.app.db.now(),
            },
            activity: None,
            code_texts: Vec::new(),
            is_message: false,
            occurred_at: self.app.app.db.now(),
            conditions: Conditions::default(),
        }
    }

    /// A direct message.
    pub fn message(&self, says: &Says, mid: &str, text: &str) -> Sighting {
        let properties = json!({"platform": "instagram", "message": text});
        Sighting {
            activity: Some(new(ActivityType::DmYou, mid, None, &properties)),
            code_texts: vec![text.to_owned()],
            is_message: true,
            ..self.sighting(says)
        }
    }

    /// A post that mentions or tags the brand.
    pub fn post(&self, says: &Says, media: &str, how: MentionType, caption: &str) -> Sighting {
        let properties = json!({"platform": "instagram", "caption": caption, "media_type": "post"});
        Sighting {
            activity: Some(new(ActivityType::MentionedYou, media, Some(how), &properties)),
            source: "INSTAGRAM_POST",
            ..self.sighting(&Says { external: None, ..says.clone() })
        }
    }

    /// Records one sighting of a new thing.
    pub async fn see(&self, key: &str, sighting: Sighting) -> item::Model {
        let item = self.item(key).await;
        self.again(&item, sighting).await;
        item
    }

    /// Records it for a thing that is there already.
    pub async fn again(&self, item: &item::Model, sighting: Sighting) {
        let understood = vec![(item.clone(), Fate::Seen(Box::new(sighting)))];
        self.recorder().record(understood).await.unwrap();
    }

    pub async fn claim(&self, member: &Member, handle: &str) {
        let tx = self.app.app.db.write().await.unwrap();
        let (site, member) = (site_id(&self.site), member_id(member));
        handles::claim(&tx, site, member, Platform::Instagram, Some(handle)).await.unwrap();
        tx.commit().await.unwrap();
    }

    pub async fn code(&self, member: &Member) -> String {
        let tx = self.app.app.db.write().await.unwrap();
        let (site, member) = (site_id(&self.site), member_id(member));
        let (code, _) = link_codes::create(&tx, site, member, Platform::Instagram).await.unwrap();
        tx.commit().await.unwrap();
        code
    }

    pub async fn rule(&self, kind: ActivityType, points: i64, limits: Limits, requires: Requires) -> Uuid {
        let now = self.app.app.db.now();
        let row = activity_rule::Model {
            id: ActivityRuleId(self.app.app.db.new_id()),
            site_id: site_id(&self.site),
            version: 3,
            activity_type: kind,
            platform: None,
            mention_type: None,
            points,
            limits: serde_json::to_string(&limits).unwrap(),
            requires: serde_json::to_string(&requires).unwrap(),
            is_enabled: true,
            starts_at: None,
            ends_at: None,
            awarded_points: 0,
            created_at: now,
            updated_at: now,
        };
        let tx = self.app.app.db.write().await.unwrap();
        let insert = activity_rule::Entity::insert(activity_rule::ActiveModel::from(row.clone()));
        insert.exec_without_returning(tx.conn()).await.unwrap();
        config::touch(&tx, row.site_id).await.unwrap();
        tx.commit().await.unwrap();
        row.id.0
    }

    /// Every activity of the site, the oldest first: type, outcome, points, member.
    pub async fn activities(&self) -> Vec<(String, String, i64, Option<String>)> {
        let rows = self.activity_rows().await;
        rows.into_iter()
            .map(|row| {
                let member = row.member_id.map(|id| id.to_string());
                (row.activity_type.to_string(), row.outcome.to_string(), row.points, member)
            })
            .collect()
    }

    pub async fn activity_rows(&self) -> Vec<activity::Model> {
        activity::Entity::find()
            .filter(activity::Column::SiteId.eq(site_id(&self.site)))
            .order_by_asc(activity::Column::Id)
            .all(self.app.app.db.read())
            .await
            .unwrap()
    }

    pub async fn find_item(&self, id: ItemId) -> item::Model {
        item::Entity::find_by_id(id).one(self.app.app.db.read()).await.unwrap().unwrap()
    }

    pub async fn handle(&self, member: &Member) -> Option<member_handle::Model> {
        let key = (site_id(&self.site), member_id(member), Platform::Instagram);
        member_handle::Entity::find_by_id(key).one(self.app.app.db.read()).await.unwrap()
    }

    pub async fn attributes(&self, member: &Member) -> Map<String, Value> {
        let key = (site_id(&self.site), member_id(member));
        let row = member_profile::Entity::find_by_id(key).one(self.app.app.db.read()).await.unwrap();
        let attributes = row.map(|row| Attributes::parse(&row.attributes)).unwrap_or_default();
        attributes.0.into_iter().map(|(name, attribute)| (name, attribute.value)).collect()
    }

    /// Channel, source and evidence of everything that is followed on the site.
    pub async fn follows(&self) -> Vec<(String, String, String)> {
        let rows = followed_channel::Entity::find()
            .filter(followed_channel::Column::SiteId.eq(site_id(&self.site)))
            .order_by_asc(followed_channel::Column::Id)
            .all(self.app.app.db.read())
            .await
            .unwrap();
        rows.iter()
            .map(|row| (row.channel.to_string(), row.source.to_string(), row.evidence.to_string()))
            .collect()
    }

    pub async fn balance(&self, member: &Member) -> i64 {
        let of_member = account::Column::MemberId.eq(member_id(member));
        let row = account::Entity::find().filter(of_member).one(self.app.app.db.read()).await.unwrap();
        row.map_or(0, |row| row.balance)
    }

    /// Types of the site's events, the oldest first.
    pub async fn events(&self) -> Vec<String> {
        let mut rows = self.app.admin_list(&self.site, "/admin/v1/events?limit=100", "events").await;
        rows.reverse();
        rows.iter().map(|row| row["eventType"].as_str().unwrap().to_owned()).collect()
    }
}

fn new(kind: ActivityType, external: &str, how: Option<MentionType>, properties: &Value) -> NewActivity {
    let properties = properties.as_object().unwrap().clone();
    NewActivity { kind, external_id: external.to_owned(), mention_type: how, properties }
}

pub fn done(
    kind: &str,
    outcome: &str,
    points: i64,
    member: &Member,
) -> (String, String, i64, Option<String>) {
    (kind.to_owned(), outcome.to_owned(), points, Some(member.id.clone()))
}

pub fn follow(source: &str, evidence: &str) -> (String, String, String) {
    ("INSTAGRAM".to_owned(), source.to_owned(), evidence.to_owned())
}
