//! Everything read back and compared with the model, whose ids and instants are learned on the way.

use std::collections::{BTreeMap, BTreeSet};

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use entity::id::SiteId;
use entity::kinds::Channel;
use entity::{account, attempt, delivery, event, ledger_entry, subscription};
use followpoints::points::verify;
use sea_orm::{ColumnTrait as _, EntityTrait as _, QueryFilter as _, QueryOrder as _};
use serde_json::{Value, json};

use super::model::{Account, Expected, Site};
use super::outbox::Listening;
use super::receiver::Arrival;
use super::world::World;
use crate::support::client::Answer;
use crate::support::world::text;

/// Seconds that a webhook's token lives; a later resend is signed anew.
const TOKEN_LIFE_S: i64 = 300_000;

/// Whether `answer` is the one that the model foretold.
#[track_caller]
pub fn assert_answer(answer: &Answer, expected: &Expected) {
    let body = answer.json();
    match expected {
        Expected::Body(expected) => assert_eq!((answer.status.as_u16(), &body), (200, expected)),
        Expected::Refusal(status, code, data) => {
            let error = &body["details"]["applicationError"];
            let seen = (answer.status.as_u16(), &error["code"], &error["data"]);
            assert_eq!(seen, (*status, &json!(code), data));
        }
        Expected::Violation(field, rule) => {
            assert_eq!(answer.violations(), [((*field).to_owned(), (*rule).to_owned())]);
        }
    }
}

fn site_id(site: &Site) -> SiteId {
    SiteId(site.id.parse().unwrap())
}

impl World {
    /// Compares all that is stored, and what the receivers got.
    pub async fn check(&mut self) {
        for site in 0..self.model.sites.len() {
            self.check_events(site).await;
            self.check_deliveries(site).await;
            self.check_subscriptions(site).await;
            self.check_accounts(site).await;
        }
        for arrival in self.receivers.take() {
            self.check_arrival(&arrival);
        }
        for (path, (attempts, spare)) in self.model.requests() {
            let arrived = self.arrived.get(&path).copied().unwrap_or(0);
            assert!(
                (attempts..=attempts + spare).contains(&arrived),
                "{arrived} requests for {path:?}, on record are {attempts} and {spare} that crashes may have repeated"
            );
        }
    }

    async fn check_events(&mut self, number: usize) {
        let site = &self.model.sites[number];
        // What is told of receivers is not about members; of it the model knows nothing.
        let of_members = event::Column::AccountId.is_not_null();
        let query = event::Entity::find().filter(event::Column::SiteId.eq(site_id(site))).filter(of_members);
        let rows = query.order_by_asc(event::Column::Id).all(self.app().app.db.read()).await.unwrap();
        assert_eq!(rows.len(), site.events.len(), "events of site {number}");
        let known: BTreeSet<String> = site.events.iter().map(|event| event.id.clone()).collect();
        let fresh = rows.into_iter().filter(|row| !known.contains(&row.id.to_string()));
        let site = &mut self.model.sites[number];
        for (event, row) in site.events.iter_mut().filter(|event| event.id.is_empty()).zip(fresh) {
            event.id = row.id.to_string();
            assert_eq!(row.event_type, event.kind);
            assert_eq!(row.entity_id.to_string(), event.entity_id);
            assert_eq!(row.account_id.map(|id| id.to_string()).as_ref(), Some(&event.account_id));
            assert_eq!((row.sequence, row.occurred_at.0), (event.sequence, event.at));
            assert_eq!(serde_json::from_str::<Value>(&row.data).unwrap(), event.data());
            assert_eq!(serde_json::from_str::<Value>(&row.identity).unwrap(), event.identity);
        }
    }

    async fn check_deliveries(&mut self, number: usize) {
        let query = delivery::Entity::find();
        let query = query.filter(delivery::Column::SiteId.eq(site_id(&self.model.sites[number])));
        let rows = query.all(self.app().app.db.read()).await.unwrap();
        let attempts =
            attempt::Entity::find().filter(attempt::Column::SiteId.eq(site_id(&self.model.sites[number])));
        let attempts = attempts.all(self.app().app.db.read()).await.unwrap();
        let tried: BTreeMap<_, i64> =
            attempts.into_iter().map(|row| ((row.delivery_id, row.number), row.started_at.0)).collect();
        let site = &mut self.model.sites[number];
        assert_eq!(rows.len(), site.deliveries.len(), "deliveries of site {number}");
        let mut rows: BTreeMap<(String, String), delivery::Model> = rows
            .into_iter()
            .map(|row| ((row.event_id.to_string(), row.subscription_id.to_string()), row))
            .collect();
        for ((event, index), delivery) in &mut site.deliveries {
            let key = (site.events[*event].id.clone(), site.subscriptions[*index].id.clone());
            let row = rows.remove(&key).unwrap_or_else(|| panic!("no delivery of event {event} for {index}"));
            let seen = (row.status.as_str(), i64::from(row.attempt_count));
            match delivery.or_else.take() {
                Some(untried) if (untried.status, untried.attempts) == seen => *delivery = *untried,
                _ => {}
            }
            let expected = (delivery.status, delivery.attempts);
            assert_eq!(seen, expected, "delivery of event {event} for subscription {index} of site {number}");
            assert_eq!(row.created_at.0, delivery.created);
            delivery.tried = tried.get(&(row.id, row.attempt_count)).copied();
            assert_eq!(row.finished_at.is_none(), delivery.is_waiting());
            if delivery.is_waiting() {
                let due = row.next_attempt_at.0;
                assert!(delivery.due.contains(&due), "{due} is not in {:?}", delivery.due);
                delivery.due = due..=due;
            }
        }
        assert_eq!(rows.len(), 0);
    }

    async fn check_subscriptions(&self, number: usize) {
        let site = &self.model.sites[number];
        let query = subscription::Entity::find().filter(subscription::Column::SiteId.eq(site_id(site)));
        let rows = query.all(self.app().app.db.read()).await.unwrap();
        let stored: BTreeMap<String, (&str, i64)> =
            rows.iter().map(|row| (row.id.to_string(), (row.status.as_str(), row.revision))).collect();
        let expected = site.subscriptions.iter().filter_map(|subscription| {
            let status = match subscription.state {
                Listening::Enabled => "ENABLED",
                Listening::Disabled => "DISABLED",
                Listening::Deleted => return None,
            };
            Some((subscription.id.clone(), (status, subscription.revision)))
        });
        assert_eq!(stored, expected.collect(), "subscriptions of site {number}");
    }

    async fn check_accounts(&self, number: usize) {
        let site = &self.model.sites[number];
        let db = self.app().app.db.read();
        let rows =
            account::Entity::find().filter(account::Column::SiteId.eq(site_id(site))).all(db).await.unwrap();
        let query = ledger_entry::Entity::find().filter(ledger_entry::Column::SiteId.eq(site_id(site)));
        let entries = query.order_by_asc(ledger_entry::Column::Sequence).all(db).await.unwrap();
        let accounts = site.members.iter().filter_map(|member| member.account.as_ref());
        let accounts: BTreeMap<&str, &Account> =
            accounts.map(|account| (account.id.as_str(), account)).collect();
        assert_eq!(rows.len(), accounts.len(), "accounts of site {number}");
        for row in rows {
            let account = accounts[row.id.to_string().as_str()];
            assert_eq!(
                [
                    row.balance,
                    row.earned,
                    row.adjusted,
                    row.redeemed,
                    row.expired,
                    row.revision,
                    row.event_sequence
                ],
                [account.balance(), account.balance(), 0, 0, 0, account.revision, account.sequence]
            );
            let dates = (row.created_at.0, row.updated_at.0, row.last_activity_at.map(|at| at.0));
            assert_eq!(dates, (account.created, account.updated, account.active));
            let own = entries.iter().filter(|entry| entry.account_id == row.id);
            let amounts: Vec<i64> = own.clone().map(|entry| entry.amount).collect();
            assert_eq!(amounts, account.entries);
            let awarded: BTreeSet<&str> =
                own.filter_map(|entry| entry.channel).map(Channel::as_str).collect();
            assert_eq!(awarded.len(), account.entries.len(), "a channel was awarded twice");
        }
    }

    /// A request at a receiver: the event happened, for this site and app, and is told in the same words each time.
    fn check_arrival(&mut self, arrival: &Arrival) {
        *self.arrived.entry((arrival.site, arrival.subscription)).or_insert(0) += 1;
        let claims = arrival.token.split('.').nth(1).unwrap();
        let claims: Value = serde_json::from_slice(&URL_SAFE_NO_PAD.decode(claims).unwrap()).unwrap();
        let id = text(&claims["jti"]);
        let site = &self.model.sites[arrival.site];
        let number = site.events.iter().position(|event| event.id == id);
        let number = number.unwrap_or_else(|| panic!("{id} was told but never happened"));
        let is_recorded = site.deliveries.contains_key(&(number, arrival.subscription));
        assert!(
            is_recorded,
            "{id} was told to subscription {}, for which it is not recorded",
            arrival.subscription
        );
        let event = &site.events[number];
        assert_eq!(claims["aud"], self.installed.id);
        let envelope: Value = serde_json::from_str(claims["data"].as_str().unwrap()).unwrap();
        let inner = |name: &str| serde_json::from_str::<Value>(envelope[name].as_str().unwrap()).unwrap();
        assert_eq!(inner("data"), event.data());
        assert_eq!(inner("identity"), event.identity);
        assert_eq!(envelope["eventType"], event.kind);
        assert_eq!(envelope["instanceId"], self.instance(arrival.site));
        assert_eq!(envelope["accountInfo"], json!({"siteId": site.id}));
        if self.model.now.div_euclid(1_000) < event.at.div_euclid(1_000) + TOKEN_LIFE_S {
            let first = self.told.entry(id).or_insert_with(|| arrival.token.clone());
            assert_eq!(*first, arrival.token, "a resend is the very same token");
        }
    }

    /// The proof of the ledger, which reads everything itself.
    pub async fn check_ledger(&self) {
        let report = verify::verify(self.app().app.db.read(), |_| {}).await.unwrap();
        let accounts = self.model.sites.iter().flat_map(|site| &site.members);
        let accounts: Vec<&Account> = accounts.filter_map(|member| member.account.as_ref()).collect();
        let entries: usize = accounts.iter().map(|account| account.entries.len()).sum();
        let expected =
            verify::Report { accounts: accounts.len() as u64, entries: entries as u64, faults: Vec::new() };
        assert_eq!(report, expected);
    }
}
