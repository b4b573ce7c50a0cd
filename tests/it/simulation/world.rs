//! The real side: the service on its database, the callers with their tokens, the receivers; and the model beside it.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use entity::kinds::SubscriptionStatus;
use sea_orm::{ColumnTrait as _, ConnectionTrait as _, EntityTrait as _, QueryFilter as _, Statement};
use serde_json::{Value, json};

use super::model::{Model, Site};
use super::outbox::CLOCK_ERROR_MS;
use super::receiver::Receivers;
use crate::support::client::Answer;
use crate::support::world::{InstalledApp, text};
use crate::support::{ADMIN_KEY, ENOUGH, START, TestApp, TestDatabase};

/// Life of an access token.
const TOKEN_LIFE_S: i64 = 14_400;
/// How often it is looked whether everything due has been sent.
const LOOK: Duration = Duration::from_millis(2);

/// Whoever has a token.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Holder {
    Member(usize),
    App,
    Visitor,
}

struct Token {
    text: String,
    ends_s: i64,
}

/// How a call proves who calls.
pub enum Proof {
    Token(String),
    /// The admin key, for a site.
    Key,
}

pub struct World {
    app: Option<TestApp>,
    pub receivers: Receivers,
    pub model: Model,
    pub installed: InstalledApp,
    /// Front-end and installation of each site.
    ids: Vec<(String, String)>,
    tokens: BTreeMap<(usize, Holder), Token>,
    /// Requests that came so far, by site and subscription.
    pub arrived: BTreeMap<(usize, usize), i64>,
    /// The token that first told of an event, by the event's id.
    pub told: BTreeMap<String, String>,
    /// Every call of a step and its answer.
    pub transcript: Vec<String>,
}

impl World {
    /// Two sites with the same app and nobody there yet.
    pub async fn set(database: TestDatabase) -> Self {
        let app = TestApp::start_apart(database).await;
        let first = app.site().await;
        let installed = app.installed_app(&first).await;
        let second = app.site().await;
        let body = json!({"appInstance": {"appId": installed.id}});
        let call = app.call("POST", "/admin/v1/app-instances").key(ADMIN_KEY, &second.id).json(&body);
        let instances = [installed.instance_id.clone(), text(&call.ok().await["appInstance"]["id"])];
        let (mut ids, mut sites) = (Vec::new(), Vec::new());
        for (site, instance) in [first, second].into_iter().zip(instances) {
            ids.push((app.front_end(&site, &["https://shop.example"]).await, instance));
            sites.push(Site::new(site.id));
        }
        Self {
            app: Some(app),
            receivers: Receivers::start().await,
            model: Model { now: START.0, sites },
            installed,
            ids,
            tokens: BTreeMap::new(),
            arrived: BTreeMap::new(),
            told: BTreeMap::new(),
            transcript: Vec::new(),
        }
    }

    pub fn app(&self) -> &TestApp {
        self.app.as_ref().unwrap()
    }

    pub fn instance(&self, site: usize) -> &str {
        &self.ids[site].1
    }

    /// Sends a call of a step and writes both down.
    pub async fn call(
        &mut self,
        (method, path): (&str, &str),
        (site, proof): (usize, &Proof),
        body: Option<Value>,
        key: Option<&str>,
    ) -> Answer {
        let call = self.app().call(method, path);
        let mut call = match proof {
            Proof::Token(token) => call.auth(token),
            Proof::Key => call.key(ADMIN_KEY, &self.model.sites[site].id),
        };
        if let Some(key) = key {
            call = call.header("idempotency-key", key);
        }
        if let Some(body) = &body {
            call = call.json(body);
        }
        let answer = call.send().await;
        let line = format!("{method} {path} {body:?} {key:?} -> {} {}", answer.status, answer.text);
        self.transcript.push(line.replace(&self.receivers.base, "RECEIVERS"));
        answer
    }

    /// The holder's token, and whether it is alive. A new one is fetched unless the old one will do, dead or not.
    pub async fn token(&mut self, site: usize, holder: Holder, old_will_do: bool) -> (Proof, bool) {
        let now_s = self.model.now.div_euclid(1_000);
        if let Some(token) = self.tokens.get(&(site, holder)) {
            let is_alive = now_s < token.ends_s;
            if is_alive || old_will_do {
                return (Proof::Token(token.text.clone()), is_alive);
            }
        }
        let (front_end, instance) = &self.ids[site];
        let call = match holder {
            Holder::Member(member) => {
                let path = format!("/admin/v1/members/{}/tokens", self.model.sites[site].members[member].id);
                self.app().call("POST", &path).key(ADMIN_KEY, &self.model.sites[site].id)
            }
            Holder::App => self.app().call("POST", "/oauth2/token").json(&json!({
                "grant_type": "client_credentials", "client_id": self.installed.id,
                "client_secret": self.installed.secret, "instance_id": instance,
            })),
            Holder::Visitor => {
                let body = json!({"grantType": "anonymous", "clientId": front_end});
                self.app().call("POST", "/oauth2/token").json(&body)
            }
        };
        let fetched = text(&call.ok().await["access_token"]);
        let token = Token { text: fetched.clone(), ends_s: now_s + TOKEN_LIFE_S };
        self.tokens.insert((site, holder), token);
        (Proof::Token(fetched), true)
    }

    pub async fn move_clock(&mut self, ms: i64) {
        if ms < 0 {
            // The service notices what it has seen otherwise.
            self.app().drain().await;
        }
        self.app().clock.advance_ms(ms);
        self.model.now += ms;
        if ms < 0 {
            // A token from the future is not valid yet.
            self.tokens.clear();
            self.model.bring_forward();
        }
    }

    /// Ends the service, gracefully or in the middle of whatever it does, and starts it again on its database.
    pub async fn restart(&mut self, is_crash: bool) {
        let app = self.app.take().unwrap();
        if !is_crash {
            app.app.stop().await;
        }
        self.app = Some(app.restart().await);
    }

    /// Waits until nothing is due and nothing under way any more.
    pub async fn settle(&self) {
        let app = self.app();
        let db = app.app.db.read();
        let sql = format!(
            "SELECT (SELECT COUNT(*) FROM delivery d JOIN subscription s ON s.id = d.subscription_id \
               WHERE d.status IN ('PENDING', 'RETRYING') AND d.next_attempt_at <= {now} AND s.status = 'ENABLED') \
             + (SELECT COUNT(*) FROM delivery d LEFT JOIN attempt a ON a.delivery_id = d.id AND a.number = d.attempt_count \
               WHERE d.status IN ('PENDING', 'RETRYING') AND d.next_attempt_at > {future} \
                 AND coalesce(a.started_at, d.created_at) > {future}) \
             + (SELECT COUNT(*) FROM endpoint WHERE check_at <= {now}) AS due",
            now = self.model.now,
            future = self.model.now + CLOCK_ERROR_MS
        );
        let nothing_due = async {
            let mut looks = tokio::time::interval(LOOK);
            loop {
                looks.tick().await;
                let row = db.query_one_raw(Statement::from_string(db.get_database_backend(), &sql)).await;
                let due: i64 = row.unwrap().unwrap().try_get("", "due").unwrap();
                // What is under way for a subscription that a 410 has just disabled is no longer due.
                if due == 0 && app.app.dispatcher.health().held == 0 {
                    return;
                }
                app.app.dispatcher.wake();
            }
        };
        let is_sent = tokio::time::timeout(ENOUGH, nothing_due).await.is_ok();
        let stuck = if is_sent { String::new() } else { self.stuck().await };
        assert!(is_sent, "what is due is not sent: {stuck}");
    }

    /// The ids of the subscriptions that are disabled, by their owner or by the service.
    pub async fn disabled(&self) -> BTreeSet<String> {
        let is_disabled = entity::subscription::Column::Status.eq(SubscriptionStatus::Disabled);
        let query = entity::subscription::Entity::find().filter(is_disabled);
        let rows = query.all(self.app().app.db.read()).await.unwrap();
        rows.iter().map(|row| row.id.to_string()).collect()
    }

    /// What waits, and who is to see to it.
    async fn stuck(&self) -> String {
        let db = self.app().app.db.read();
        let (now, health) = (self.model.now, self.app().app.dispatcher.health());
        let waiting = entity::delivery::Column::FinishedAt.is_null();
        let deliveries = entity::delivery::Entity::find().filter(waiting).all(db).await;
        let endpoints = entity::endpoint::Entity::find().all(db).await;
        let nodes = entity::node::Entity::find().all(db).await;
        format!("at {now}, {health:?}, {deliveries:#?}, {endpoints:#?}, {nodes:#?}")
    }

    pub async fn stop(&self) {
        self.app().app.stop().await;
    }
}
