//! A brand that is connected to the stand-in, things that its webhooks brought, and what became of them.

use entity::id::{ItemId, SiteId, Timestamp};
use entity::kinds::{ConnectionLogin, ItemStatus, Platform};
use entity::{activity, connection, item};
use followpoints::activities::{Fate, Sighting};
use followpoints::connections::TOKEN_PURPOSE;
use followpoints::inbox::{self, NewItem};
use followpoints::sources::Understand as _;
use sea_orm::{ActiveModelTrait as _, ActiveValue::Set, ColumnTrait, EntityTrait, QueryFilter, QueryOrder};
use serde_json::{Value, json};

use crate::support::TestApp;
use crate::support::brand;
use crate::support::graph::{BRAND, Graph, INSTAGRAM_TOKEN, OWNER, PAGE, PAGE_TOKEN, payload};
use crate::support::world::Site;

/// Beyond the reach of the poller and the health check, which must not act before a test does.
pub const FAR: Timestamp = Timestamp(i64::MAX);

pub struct Stage<'a> {
    pub app: &'a TestApp,
    pub graph: Graph,
    pub site: Site,
}

impl<'a> Stage<'a> {
    /// A site whose brand is connected through Facebook.
    pub async fn new(app: &'a TestApp) -> Self {
        let stage = Self::alone(app).await;
        stage.connect(ConnectionLogin::Facebook).await;
        stage
    }

    /// A site whose brand is not connected.
    pub async fn alone(app: &'a TestApp) -> Self {
        Self { app, graph: Graph::of(app), site: app.site().await }
    }

    pub fn site_id(&self) -> SiteId {
        SiteId(self.site.id.parse().unwrap())
    }

    pub async fn connect(&self, login: ConnectionLogin) {
        let app = &self.app.app;
        let token = if login == ConnectionLogin::Facebook { PAGE_TOKEN } else { INSTAGRAM_TOKEN };
        let row = connection::Model {
            login,
            page_id: Some(PAGE.to_owned()),
            owner_id: Some(OWNER.to_owned()),
            token: Some(app.sealer.seal(TOKEN_PURPOSE, token.as_bytes()).unwrap()),
            ..brand::connection(self.app, self.site_id(), BRAND)
        };
        let tx = app.db.write().await.unwrap();
        let insert = connection::Entity::insert(connection::ActiveModel::from(row));
        insert.exec_without_returning(tx.conn()).await.unwrap();
        tx.commit().await.unwrap();
    }

    pub async fn connection(&self) -> connection::Model {
        connection::Entity::find().one(self.app.app.db.read()).await.unwrap().unwrap()
    }

    /// Changes the connection.
    pub async fn set(&self, change: impl FnOnce(&mut connection::ActiveModel)) {
        let mut row = connection::ActiveModel { id: Set(self.connection().await.id), ..Default::default() };
        change(&mut row);
        let tx = self.app.app.db.write().await.unwrap();
        row.update(tx.conn()).await.unwrap();
        tx.commit().await.unwrap();
    }

    /// The account is connected to another site from now on.
    pub async fn move_to(&self, other: &Site) {
        let other = SiteId(other.id.parse().unwrap());
        self.set(|row| row.site_id = Set(other)).await;
    }

    /// The things of a sample, as the splitter makes them, taken from the inbox for the first time.
    pub fn things(&self, sample: &str) -> Vec<item::Model> {
        self.things_of(&payload(sample))
    }

    pub fn things_of(&self, body: &Value) -> Vec<item::Model> {
        split(body).into_iter().map(|new| self.taken(new)).collect()
    }

    /// A thing as it is when it was taken for the first time.
    pub fn taken(&self, new: NewItem) -> item::Model {
        let now = self.app.app.db.now();
        item::Model {
            id: ItemId(self.app.app.db.new_id()),
            platform: new.platform,
            account: new.account,
            item_key: new.key,
            kind: new.kind,
            person: new.person,
            handle: new.handle,
            payload: new.payload,
            occurred_at: new.occurred_at,
            delivery_id: None,
            site_id: new.site,
            status: ItemStatus::Waiting,
            reason: None,
            attempts: 1,
            due_at: now,
            expires_at: None,
            received_at: now,
        }
    }

    /// What becomes of `things`, in their order.
    pub async fn fates(&self, things: Vec<item::Model>) -> Vec<Fate> {
        let order: Vec<ItemId> = things.iter().map(|item| item.id).collect();
        let mut understood = self.app.app.instagram.understand(things).await.unwrap();
        assert_eq!(understood.len(), order.len(), "everything is given back");
        understood.sort_by_key(|(item, _)| order.iter().position(|id| *id == item.id));
        understood.into_iter().map(|(_, fate)| fate).collect()
    }

    /// What becomes of the one thing of a sample.
    pub async fn fate(&self, sample: &str) -> Fate {
        let mut fates = self.fates(self.things(sample)).await;
        assert_eq!(fates.len(), 1);
        fates.remove(0)
    }

    /// The one thing of a sample, which is understood.
    pub async fn sighting(&self, sample: &str) -> Sighting {
        seen(self.fate(sample).await)
    }

    /// Puts the things of bodies into the inbox.
    pub async fn receive(&self, bodies: &[Value]) {
        let items: Vec<NewItem> = bodies.iter().flat_map(split).collect();
        let tx = self.app.app.db.write().await.unwrap();
        inbox::add(&tx, &items).await.unwrap();
        tx.commit().await.unwrap();
    }

    /// Works on everything that is due.
    pub async fn work(&self) {
        self.app.app.sources.work_off().await.unwrap();
    }

    /// Everything in the inbox by key: status and reason.
    pub async fn inbox(&self) -> Vec<(String, ItemStatus, Option<String>)> {
        let rows = item::Entity::find().order_by_asc(item::Column::ItemKey).all(self.app.app.db.read());
        rows.await.unwrap().into_iter().map(|row| (row.item_key, row.status, row.reason)).collect()
    }

    /// Type, external id, outcome and points of the site's activities, the oldest first.
    pub async fn activities(&self) -> Vec<(String, String, String, i64)> {
        let rows = self.activity_rows().await.into_iter();
        rows.map(|row| (row.activity_type.to_string(), row.external_id, row.outcome.to_string(), row.points))
            .collect()
    }

    pub async fn activity_rows(&self) -> Vec<activity::Model> {
        activity::Entity::find()
            .filter(activity::Column::SiteId.eq(self.site_id()))
            .order_by_asc(activity::Column::Id)
            .all(self.app.app.db.read())
            .await
            .unwrap()
    }
}

pub fn seen(fate: Fate) -> Sighting {
    match fate {
        Fate::Seen(sighting) => *sighting,
        other => panic!("it is not understood: {other:?}"),
    }
}

pub fn ignored(fate: &Fate) -> &str {
    match fate {
        Fate::Ignored { reason, .. } => reason,
        other => panic!("it is not ignored: {other:?}"),
    }
}

/// Why it is tried later, and after how many milliseconds.
pub fn later(fate: &Fate) -> (&str, i64) {
    match fate {
        Fate::Later { reason, after_ms, .. } => (reason, *after_ms),
        other => panic!("it is not tried later: {other:?}"),
    }
}

/// The properties of what was done.
pub fn properties(sighting: &Sighting) -> Value {
    Value::Object(sighting.activity.as_ref().expect("it is an activity").properties.clone())
}

/// A message of Mia's.
pub fn message(mid: &str, text: &str) -> Value {
    messaging(&json!({
        "sender": {"id": "5512034987760112"}, "recipient": {"id": BRAND}, "timestamp": 1_722_513_100_000_i64,
        "message": {"mid": mid, "text": text},
    }))
}

pub fn messaging(entry: &Value) -> Value {
    json!({"object": "instagram", "entry": [{"time": 1, "id": BRAND, "messaging": [entry]}]})
}

/// A mention in the caption of a post.
pub fn caption_mention(media: &str) -> Value {
    json!({"object": "instagram", "entry": [{"time": 1_722_513_100_i64, "id": BRAND, "changes": [
        {"field": "mentions", "value": {"media_id": media}},
    ]}]})
}

/// What the splitter makes of a body.
pub fn split(body: &Value) -> Vec<NewItem> {
    let body = body.get(0).unwrap_or(body);
    let mut items = Vec::new();
    for entry in body["entry"].as_array().unwrap() {
        let account = entry["id"].as_str().unwrap();
        for change in entry["changes"].as_array().into_iter().flatten() {
            let kind = change_kind(body["object"].as_str().unwrap(), account, change);
            let person = change["value"]["from"]["id"].as_str();
            let at = entry["time"].as_i64().unwrap() * 1000;
            items.push(new_item(account, kind, person, at, change));
        }
        for message in entry["messaging"].as_array().into_iter().flatten() {
            let sender = message["sender"]["id"].as_str().filter(|sender| *sender != account);
            let at = message["timestamp"].as_i64().unwrap();
            items.push(new_item(account, message_kind(message), sender, at, message));
        }
    }
    items
}

fn new_item(account: &str, kind: &str, person: Option<&str>, at: i64, payload: &Value) -> NewItem {
    let value = if payload["value"].is_object() { &payload["value"] } else { payload };
    let id = [
        &value["message"]["mid"],
        &value["message_edit"]["mid"],
        &value["comment_id"],
        &value["media_id"],
        &value["id"],
        &value["timestamp"],
    ];
    let id = id.into_iter().find(|id| !id.is_null()).unwrap_or(&payload["field"]);
    let id = id.as_str().map_or_else(|| id.to_string(), str::to_owned);
    NewItem {
        platform: Platform::Instagram,
        account: account.to_owned(),
        key: match kind {
            "message_unsend" => format!("unsend:{id}"),
            "message_edit" => format!("edit:{id}:{at}"),
            kind => format!("{kind}:{id}"),
        },
        kind: kind.to_owned(),
        person: person.map(str::to_owned),
        handle: None,
        site: None,
        occurred_at: Some(Timestamp(at)),
        payload: payload.to_string(),
    }
}

fn change_kind(object: &str, account: &str, change: &Value) -> &'static str {
    match change["field"].as_str().unwrap() {
        _ if object == "permissions" => "permissions",
        _ if account == "0" => "dashboard_test",
        "mentions" if change["value"]["comment_id"].is_string() => "mention_comment",
        "mentions" => "mention_caption",
        "comments" => "comment",
        "live_comments" => "live_comment",
        "story_insights" => "story_insights",
        _ => "unknown",
    }
}

fn message_kind(entry: &Value) -> &'static str {
    let message = &entry["message"];
    let keys = [
        ("message_edit", "message_edit"),
        ("reaction", "reaction"),
        ("read", "seen"),
        ("postback", "postback"),
        ("referral", "referral"),
        ("optin", "optin"),
        ("policy_enforcement", "policy_enforcement"),
    ];
    if message["is_echo"] == true {
        return "message_echo";
    }
    if message["is_deleted"] == true {
        return "message_unsend";
    }
    if message["attachments"][0]["type"] == "story_mention" {
        return "story_mention";
    }
    if message.is_object() {
        return "message";
    }
    keys.into_iter().find(|(key, _)| entry.get(key).is_some()).map_or("unknown", |(_, kind)| kind)
}
