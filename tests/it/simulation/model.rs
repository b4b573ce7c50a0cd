//! What must be true: the rules once more, written down plainly over maps and lists, knowing nothing of the service's code.
//! Identifiers are learned from the first answer that has them and must stay the same ever after.

use std::collections::{BTreeMap, BTreeSet};

use chrono::{DateTime, SecondsFormat};
use serde_json::{Value, json};

use super::outbox::{Delivery, Listening, Subscription};

pub const CHANNELS: [&str; 5] = ["FACEBOOK", "INSTAGRAM", "LINKEDIN", "X", "TIKTOK"];

pub const FOLLOWED: &str = "wix.loyalty.socialmedia.v1.followed_channel_created";
pub const CREATED: &str = "wix.loyalty.v1.account_created";
pub const UPDATED: &str = "wix.loyalty.v1.account_updated";
pub const POINTS_UPDATED: &str = "wix.loyalty.v1.account_points_updated";

/// An instant as the wire has it.
pub fn date(ms: i64) -> String {
    DateTime::from_timestamp_millis(ms).unwrap().to_rfc3339_opts(SecondsFormat::Millis, true)
}

/// The answer that must come.
#[derive(Debug, Clone, PartialEq)]
pub enum Expected {
    /// 200 with exactly this body.
    Body(Value),
    /// Status, code and data of a broken rule.
    Refusal(u16, &'static str, Value),
    /// The field and the rule of a 400.
    Violation(&'static str, &'static str),
}

impl Expected {
    pub fn refusal(status: u16, code: &'static str) -> Self {
        Self::Refusal(status, code, json!({}))
    }
}

pub struct Channel {
    pub is_enabled: bool,
    pub has_page: bool,
    pub points: i64,
}

#[derive(Clone)]
pub struct Follow {
    pub id: String,
    pub account_id: String,
    pub channel: &'static str,
    pub created: i64,
    /// The idempotency key and who used it.
    pub key: Option<(String, Value)>,
}

impl Follow {
    pub fn json(&self) -> Value {
        json!({
            "id": self.id, "accountId": self.account_id, "channel": self.channel, "createdDate": date(self.created),
        })
    }
}

pub struct Account {
    pub id: String,
    pub member_id: String,
    pub contact_id: String,
    pub entries: Vec<i64>,
    pub revision: i64,
    /// Events so far.
    pub sequence: i64,
    pub created: i64,
    pub updated: i64,
    pub active: Option<i64>,
    pub follows: Vec<Follow>,
}

impl Account {
    pub fn balance(&self) -> i64 {
        self.entries.iter().sum()
    }

    pub fn json(&self) -> Value {
        let balance = self.balance();
        let mut json = json!({
            "id": self.id, "contactId": self.contact_id, "memberId": self.member_id,
            "points": {"balance": balance, "earned": balance, "adjusted": 0, "redeemed": 0, "expired": 0},
            "createdDate": date(self.created), "updatedDate": date(self.updated),
            "revision": self.revision.to_string(),
        });
        if let Some(active) = self.active {
            json["lastActivityDate"] = json!(date(active));
        }
        json
    }

    /// Newest first.
    pub fn list(&self) -> Vec<Value> {
        let mut follows: Vec<&Follow> = self.follows.iter().collect();
        follows.sort_by_key(|follow| std::cmp::Reverse((follow.created, &follow.id)));
        follows.into_iter().map(Follow::json).collect()
    }
}

pub struct Member {
    pub id: String,
    pub contact_id: String,
    pub external_id: String,
    pub account: Option<Account>,
}

/// Something that happened. Its id is learned when the log is read.
pub struct Event {
    pub id: String,
    pub kind: &'static str,
    pub entity_id: String,
    pub account_id: String,
    pub sequence: i64,
    pub at: i64,
    pub identity: Value,
    /// `createdEvent`, `updatedEvent` or `actionEvent`.
    body: (&'static str, Value),
}

impl Event {
    /// The event as webhooks carry it.
    pub fn data(&self) -> Value {
        let (fqdn, slug) = match self.kind {
            FOLLOWED => ("wix.loyalty.socialmedia.v1.followed_channel", "created"),
            CREATED => ("wix.loyalty.v1.account", "created"),
            UPDATED => ("wix.loyalty.v1.account", "updated"),
            _ => ("wix.loyalty.v1.account", "points_updated"),
        };
        let mut data = json!({
            "id": self.id, "entityFqdn": fqdn, "slug": slug, "entityId": self.entity_id, "eventTime": date(self.at),
            "triggeredByAnonymizeRequest": false, "originatedFrom": null,
            "entityEventSequence": self.sequence.to_string(),
        });
        data[self.body.0] = self.body.1.clone();
        data
    }
}

pub struct Site {
    pub id: String,
    pub program: &'static str,
    pub revision: i64,
    pub channels: BTreeMap<&'static str, Channel>,
    pub members: Vec<Member>,
    pub subscriptions: Vec<Subscription>,
    pub events: Vec<Event>,
    /// By event and subscription.
    pub deliveries: BTreeMap<(usize, usize), Delivery>,
}

/// Whose account a call is about.
#[derive(Debug, Clone, Copy)]
pub enum Subject {
    /// This member's, made if it is absent.
    Member(usize),
    /// The account of this member, by its id; `None` for an id that the site does not have.
    Account(Option<usize>),
}

/// What becomes of a wish to follow.
pub enum Decision {
    /// It is new for this member.
    New(usize),
    /// It changes nothing, and this comes back.
    Answer(Expected),
}

pub struct Model {
    pub now: i64,
    pub sites: Vec<Site>,
}

impl Site {
    /// A site as the tests make it: X gives 50 points, INSTAGRAM 30, FACEBOOK none, the program is active.
    pub fn new(id: String) -> Self {
        let channel = |name| Channel {
            is_enabled: ["X", "INSTAGRAM", "FACEBOOK"].contains(&name),
            has_page: ["X", "INSTAGRAM", "FACEBOOK"].contains(&name),
            points: match name {
                "X" => 50,
                "INSTAGRAM" => 30,
                _ => 0,
            },
        };
        Self {
            id,
            program: "ACTIVE",
            revision: 2,
            channels: CHANNELS.into_iter().map(|name| (name, channel(name))).collect(),
            members: Vec::new(),
            subscriptions: Vec::new(),
            events: Vec::new(),
            deliveries: BTreeMap::new(),
        }
    }

    fn account(&self, subject: Subject) -> Option<&Account> {
        match subject {
            Subject::Member(member) | Subject::Account(Some(member)) => self.members[member].account.as_ref(),
            Subject::Account(None) => None,
        }
    }

    /// The rule of the follow, in its order.
    pub fn decide(&self, subject: Subject, channel: &'static str, key: Option<&(String, Value)>) -> Decision {
        let refuse = |status, code, data| Decision::Answer(Expected::Refusal(status, code, data));
        let account = self.account(subject);
        let member = match (subject, account) {
            (Subject::Member(member), _) | (Subject::Account(Some(member)), Some(_)) => member,
            (Subject::Account(_), _) => return refuse(404, "ACCOUNT_NOT_FOUND", json!({})),
        };
        let follows = account.map(|account| account.follows.as_slice()).unwrap_or_default();
        if let Some(earlier) = follows.iter().find(|follow| key.is_some() && follow.key.as_ref() == key) {
            return if earlier.channel == channel {
                Decision::Answer(Expected::Body(json!({"followedChannel": earlier.json()})))
            } else {
                refuse(409, "IDEMPOTENCY_KEY_REUSED", json!({}))
            };
        }
        if self.program != "ACTIVE" {
            return refuse(428, "PROGRAM_NOT_ACTIVE", json!({"status": self.program}));
        }
        if !self.channels[channel].is_enabled {
            return refuse(428, "CHANNEL_NOT_ENABLED", json!({"channel": channel}));
        }
        match follows.iter().find(|follow| follow.channel == channel) {
            Some(earlier) => refuse(409, "ALREADY_EXISTS", json!({"followedChannel": earlier.json()})),
            None => Decision::New(member),
        }
    }

    /// What the subject's list shows.
    pub fn list(&self, subject: Subject) -> Expected {
        match (self.account(subject), subject) {
            (Some(account), _) => Expected::Body(json!({"followedChannels": account.list()})),
            (None, Subject::Member(_)) => Expected::Body(json!({"followedChannels": []})),
            (None, Subject::Account(_)) => Expected::refusal(404, "ACCOUNT_NOT_FOUND"),
        }
    }

    /// Why `member` gets no account now; `None` if it gets one.
    pub fn refuses_account(&self, member: usize) -> Option<Expected> {
        if self.program != "ACTIVE" {
            let data = json!({"status": self.program});
            return Some(Expected::Refusal(428, "PROGRAM_NOT_ACTIVE", data));
        }
        let account = self.members[member].account.as_ref()?;
        Some(Expected::Refusal(409, "ALREADY_EXISTS", json!({"accountId": account.id})))
    }

    /// Makes the account of `member` unless it is there.
    pub fn open_account(&mut self, now: i64, member: usize, id: &str, identity: &Value) {
        let member = &mut self.members[member];
        if member.account.is_some() {
            return;
        }
        let account = member.account.insert(Account {
            id: id.to_owned(),
            member_id: member.id.clone(),
            contact_id: member.contact_id.clone(),
            entries: Vec::new(),
            revision: 1,
            sequence: 0,
            created: now,
            updated: now,
            active: None,
            follows: Vec::new(),
        });
        let event = account_event(account, CREATED, now, identity);
        self.record(event);
    }

    /// Books what a new follow brings.
    pub fn follow(&mut self, now: i64, member: usize, follow: Follow, identity: &Value) {
        let points = self.channels[follow.channel].points;
        self.record(Event {
            id: String::new(),
            kind: FOLLOWED,
            entity_id: follow.id.clone(),
            account_id: follow.account_id.clone(),
            sequence: 1,
            at: now,
            identity: identity.clone(),
            body: ("createdEvent", json!({"entity": follow.json()})),
        });
        let account = self.members[member].account.as_mut().unwrap();
        account.follows.push(follow);
        if points == 0 {
            return;
        }
        account.entries.push(points);
        account.revision += 1;
        account.updated = now;
        account.active = Some(now);
        let events = [POINTS_UPDATED, UPDATED].map(|kind| account_event(account, kind, now, identity));
        for event in events {
            self.record(event);
        }
    }

    /// Adds an event, and a delivery for whoever listens.
    fn record(&mut self, event: Event) {
        let number = self.events.len();
        for (index, subscription) in self.subscriptions.iter().enumerate() {
            if subscription.state != Listening::Deleted && subscription.kinds.contains(event.kind) {
                self.deliveries.insert((number, index), Delivery::new(event.at));
            }
        }
        self.events.push(event);
    }

    pub fn member_named(&self, external_id: &str) -> Option<&Member> {
        self.members.iter().find(|member| member.external_id == external_id)
    }
}

fn account_event(account: &mut Account, kind: &'static str, now: i64, identity: &Value) -> Event {
    account.sequence += 1;
    let body = match kind {
        CREATED => ("createdEvent", json!({"entity": account.json()})),
        UPDATED => ("updatedEvent", json!({"currentEntity": account.json()})),
        _ => ("actionEvent", json!({"body": {"account": account.json()}})),
    };
    Event {
        id: String::new(),
        kind,
        entity_id: account.id.clone(),
        account_id: account.id.clone(),
        sequence: account.sequence,
        at: now,
        identity: identity.clone(),
        body,
    }
}

/// The event types whose bit is set, at least one.
pub fn kinds(mask: usize) -> BTreeSet<&'static str> {
    let all = [FOLLOWED, CREATED, UPDATED, POINTS_UPDATED];
    let named: BTreeSet<_> =
        all.into_iter().enumerate().filter(|(bit, _)| mask >> bit & 1 == 1).map(|(_, kind)| kind).collect();
    if named.is_empty() { BTreeSet::from([FOLLOWED]) } else { named }
}
