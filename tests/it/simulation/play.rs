//! Each step done for real, with the answer that the model foretells.

use serde_json::{Value, json};

use super::check::assert_answer;
use super::model::{CHANNELS, Decision, Expected, Follow, Member, Subject, date, kinds};
use super::outbox::{Listening, Mood, Subscription};
use super::receiver::RECEIVERS;
use super::steps::{By, Change, Step, Target};
use super::world::{Holder, Proof, World};
use crate::support::Backend;
use crate::support::callers::UNKNOWN_ID;
use crate::support::world::text;

const FOLLOWED_CHANNELS: &str = "/loyalty-social-media/v1/followed-channels";
const ACCOUNTS: &str = "/loyalty-accounts/v1/accounts";
const SUBSCRIPTIONS: &str = "/admin/v1/webhook-subscriptions";
/// What a crashed node had claimed is free for others after this time.
const LEASE_MS: i64 = 15_000;
/// Resends of the schedule, and longer than the longest wait between two of them with its jitter.
const RESENDS: usize = 12;
const LONGEST_WAIT_MS: i64 = 13 * 3_600_000;
/// Deliveries of each site that are sent once more at the end, whatever became of them.
const REDELIVERED_AT_THE_END: usize = 5;

/// Who calls, proven, and how events name them.
struct Caller {
    proof: Proof,
    is_alive: bool,
    identity: Value,
}

impl World {
    /// Does `step`, lets everything due be sent, and compares both sides.
    pub async fn take(&mut self, step: &Step) {
        let mut since = None;
        match *step {
            Step::Join { site, name } => self.join(site, name).await,
            Step::Follow { site, by, channel, key, old_token } => {
                self.follow(site, by, channel, key, old_token).await;
            }
            Step::List { site, by, old_token } => self.list(site, by, old_token).await,
            Step::ReadAccount { site, member } => self.read_account(site, member).await,
            Step::OpenAccount { site, of } => self.open_account(site, of).await,
            Step::Settings { .. } => self.settings(step).await,
            Step::Program { site, activate } => self.program(site, activate).await,
            Step::Clock { ms } => self.move_clock(ms).await,
            Step::Mood { receiver, mood } => self.receivers.set_mood(receiver, mood),
            Step::Subscribe { site, receiver, kinds } => self.subscribe(site, receiver, kinds).await,
            Step::Change { site, subscription, change } => self.change(site, subscription, change).await,
            Step::Unsubscribe { site, subscription } => self.unsubscribe(site, subscription).await,
            Step::Redeliver { site, delivery } => self.redeliver(site, delivery).await,
            Step::Restart { crash, follow } => {
                since = Some(self.model.now);
                if let Some((site, member, channel)) = follow {
                    self.follow(site, By::Member(member), channel, None, false).await;
                }
                if crash {
                    self.model.crash();
                }
                self.restart(crash).await;
                // What a crashed node had claimed is free at once on SQLite, which has no other node.
                if crash && self.app().backend() == Backend::Postgres {
                    self.move_clock(LEASE_MS + 1).await;
                }
            }
        }
        self.settle().await;
        let moods = self.receivers.moods();
        let disabled = self.disabled().await;
        self.model.settle(&moods, since.unwrap_or(self.model.now), &disabled);
        self.check().await;
    }

    async fn caller(&mut self, site: usize, by: By, old_token: bool) -> Caller {
        let holder = match by {
            By::Member(member) => Holder::Member(member),
            By::Visitor => Holder::Visitor,
            By::App(_) => Holder::App,
            By::Key(_) => {
                let identity =
                    json!({"identityType": "WIX_USER", "wixUserId": "00000000-0000-0000-0000-000000000000"});
                return Caller { proof: Proof::Key, is_alive: true, identity };
            }
        };
        let (proof, is_alive) = self.token(site, holder, old_token).await;
        let identity = match holder {
            Holder::Member(member) => {
                json!({"identityType": "MEMBER", "memberId": self.model.sites[site].members[member].id})
            }
            Holder::App => json!({"identityType": "APP", "appId": self.installed.id}),
            Holder::Visitor => Value::Null,
        };
        Caller { proof, is_alive, identity }
    }

    /// The account id that a call names, if it names one, and whose account that is.
    fn named(&self, site: usize, by: By) -> (Option<String>, Subject) {
        let target = match by {
            By::Member(member) => return (None, Subject::Member(member)),
            By::Visitor => return (None, Subject::Account(None)),
            By::App(target) | By::Key(target) => target,
        };
        // Who has no account is named by its member id, which is no account's.
        let id = |site: usize, member: usize| {
            let member = &self.model.sites[site].members[member];
            member.account.as_ref().map_or(&member.id, |account| &account.id).clone()
        };
        match target {
            Target::Own(member) => (Some(id(site, member)), Subject::Account(Some(member))),
            Target::Foreign(member) => (Some(id(1 - site, member)), Subject::Account(None)),
            Target::Unknown => (Some(UNKNOWN_ID.to_owned()), Subject::Account(None)),
            Target::Missing => (None, Subject::Account(None)),
        }
    }

    async fn join(&mut self, site: usize, name: usize) {
        let name = format!("u-{name}");
        let body = json!({"member": {"externalId": name}});
        let answer = self.call(("POST", "/admin/v1/members"), (site, &Proof::Key), Some(body), None).await;
        let member = answer.json()["member"].clone();
        let site = &mut self.model.sites[site];
        if let Some(known) = site.member_named(&name) {
            assert_eq!((&member["id"], &member["contactId"]), (&json!(known.id), &json!(known.contact_id)));
        } else {
            let (id, contact_id) = (text(&member["id"]), text(&member["contactId"]));
            site.members.push(Member { id, contact_id, external_id: name, account: None });
        }
    }

    async fn follow(
        &mut self,
        site: usize,
        by: By,
        channel: &'static str,
        key: Option<usize>,
        old_token: bool,
    ) {
        let Caller { proof, is_alive, identity } = self.caller(site, by, old_token).await;
        let (account, subject) = self.named(site, by);
        let mut body = json!({"followedChannel": {"channel": channel}});
        if let Some(account) = &account {
            body["followedChannel"]["accountId"] = json!(account);
        }
        let key = key.map(|key| format!("k-{key}"));
        let answer = self.call(("POST", FOLLOWED_CHANNELS), (site, &proof), Some(body), key.as_deref()).await;

        let key = key.map(|key| (key, identity.clone()));
        let decision = if !is_alive {
            Decision::Answer(Expected::refusal(401, "UNAUTHENTICATED"))
        } else if matches!(by, By::Visitor) {
            Decision::Answer(Expected::refusal(403, "PERMISSION_DENIED"))
        } else if account.is_some() && matches!(subject, Subject::Account(None)) {
            Decision::Answer(Expected::refusal(404, "ACCOUNT_NOT_FOUND"))
        } else if !CHANNELS.contains(&channel) {
            Decision::Answer(Expected::Violation("followedChannel.channel", "INVALID_ENUM_VALUE"))
        } else if matches!(by, By::App(Target::Missing) | By::Key(Target::Missing)) {
            Decision::Answer(Expected::Violation("followedChannel.accountId", "REQUIRED_FIELD"))
        } else {
            self.model.sites[site].decide(subject, channel, key.as_ref())
        };
        let member = match decision {
            Decision::Answer(expected) => return assert_answer(&answer, &expected),
            Decision::New(member) => member,
        };
        assert_eq!(answer.status.as_u16(), 200, "{}", answer.text);
        let row = answer.json()["followedChannel"].clone();
        let (id, account_id, created) = (text(&row["id"]), text(&row["accountId"]), self.model.now);
        let state = &mut self.model.sites[site];
        state.open_account(created, member, &account_id, &identity);
        let account_id = state.members[member].account.as_ref().unwrap().id.clone();
        let follow = Follow { id, account_id, channel, created, key };
        assert_answer(&answer, &Expected::Body(json!({"followedChannel": follow.json()})));
        state.follow(created, member, follow, &identity);
    }

    async fn list(&mut self, site: usize, by: By, old_token: bool) {
        let Caller { proof, is_alive, .. } = self.caller(site, by, old_token).await;
        let (account, subject) = self.named(site, by);
        let path = match account {
            Some(account) => format!("{FOLLOWED_CHANNELS}?accountId={account}"),
            None => FOLLOWED_CHANNELS.to_owned(),
        };
        let answer = self.call(("GET", &path), (site, &proof), None, None).await;
        let expected = if !is_alive {
            Expected::refusal(401, "UNAUTHENTICATED")
        } else if matches!(by, By::Visitor) {
            Expected::Body(json!({"followedChannels": []}))
        } else if matches!(by, By::App(Target::Missing) | By::Key(Target::Missing)) {
            Expected::Violation("accountId", "REQUIRED_FIELD")
        } else {
            self.model.sites[site].list(subject)
        };
        assert_answer(&answer, &expected);
    }

    async fn read_account(&mut self, site: usize, member: usize) {
        let (proof, _) = self.token(site, Holder::Member(member), false).await;
        let path = format!("{ACCOUNTS}/my-account");
        let answer = self.call(("GET", &path), (site, &proof), None, None).await;
        let account = self.model.sites[site].members[member].account.as_ref();
        let none = Expected::refusal(404, "ACCOUNT_NOT_FOUND");
        let expected = account.map_or(none, |account| Expected::Body(json!({"account": account.json()})));
        assert_answer(&answer, &expected);
    }

    async fn open_account(&mut self, site: usize, of: Target) {
        let (contact, member) = match of {
            Target::Own(member) => (self.model.sites[site].members[member].contact_id.clone(), Some(member)),
            Target::Foreign(member) => (self.model.sites[1 - site].members[member].contact_id.clone(), None),
            Target::Unknown | Target::Missing => (UNKNOWN_ID.to_owned(), None),
        };
        let Caller { proof, identity, .. } = self.caller(site, By::Key(of), false).await;
        let body = Some(json!({"contactId": contact}));
        let answer = self.call(("POST", ACCOUNTS), (site, &proof), body, None).await;
        let now = self.model.now;
        let state = &mut self.model.sites[site];
        let Some(member) = member else {
            return assert_answer(&answer, &Expected::refusal(404, "CONTACT_NOT_FOUND"));
        };
        if let Some(refusal) = state.refuses_account(member) {
            return assert_answer(&answer, &refusal);
        }
        let id = answer.json()["account"]["id"].clone();
        state.open_account(now, member, &text(&id), &identity);
        let account = state.members[member].account.as_ref().unwrap().json();
        assert_answer(&answer, &Expected::Body(json!({"account": account})));
    }

    async fn settings(&mut self, step: &Step) {
        let Step::Settings { site, channel, enabled, points, page, stale } = *step else { return };
        let revision = self.model.sites[site].revision;
        let mut change = json!({"type": channel});
        if let Some(enabled) = enabled {
            change["enabled"] = json!(enabled);
        }
        if let Some(points) = points {
            change["points"] = json!(points);
        }
        if page {
            change["id"] = json!("nordbrew");
        }
        let revision_sent = (revision - i64::from(stale)).to_string();
        let body = json!({"socialMediaSettings": {"revision": revision_sent, "channels": [change]}});
        let path = "/admin/v1/social-media-settings";
        let answer = self.call(("PATCH", path), (site, &Proof::Key), Some(body), None).await;

        let state = &mut self.model.sites[site];
        let settings = state.channels.get_mut(channel).unwrap();
        if stale {
            return assert_answer(&answer, &Expected::refusal(409, "ABORTED"));
        }
        if enabled.unwrap_or(settings.is_enabled) && !page && !settings.has_page {
            let field = "socialMediaSettings.channels[0].id";
            return assert_answer(&answer, &Expected::Violation(field, "REQUIRED_FIELD"));
        }
        settings.is_enabled = enabled.unwrap_or(settings.is_enabled);
        settings.points = points.unwrap_or(settings.points);
        settings.has_page |= page;
        state.revision += 1;
        assert_eq!(answer.json()["socialMediaSettings"]["revision"], state.revision.to_string());
    }

    async fn program(&mut self, site: usize, activate: bool) {
        let (verb, status) = if activate { ("activate", "ACTIVE") } else { ("pause", "PAUSED") };
        let path = format!("/loyalty-programs/v1/program/{verb}");
        let answer = self.call(("POST", &path), (site, &Proof::Key), None, None).await;
        assert_eq!(answer.json()["loyaltyProgram"]["status"], status);
        self.model.sites[site].program = status;
    }

    async fn subscribe(&mut self, site: usize, receiver: usize, mask: usize) {
        let kinds = kinds(mask);
        let url = self.receivers.url(receiver, site, self.model.sites[site].subscriptions.len());
        let body = json!({"webhookSubscription": {
            "appId": self.installed.id, "eventTypes": kinds, "url": url, "timeoutMs": 15_000,
        }});
        let answer = self.call(("POST", SUBSCRIPTIONS), (site, &Proof::Key), Some(body), None).await;
        let made = answer.json()["webhookSubscription"].clone();
        assert_eq!((&made["status"], &made["revision"]), (&json!("ENABLED"), &json!("1")));
        let id = text(&made["id"]);
        self.model.sites[site].subscriptions.push(Subscription::new(id, receiver, kinds));
    }

    async fn change(&mut self, site: usize, number: usize, change: Change) {
        let path = format!("{SUBSCRIPTIONS}/{}", self.model.sites[site].subscriptions[number].id);
        let body = match change {
            Change::Enable => json!({"status": "ENABLED"}),
            Change::Disable => json!({"status": "DISABLED"}),
            Change::Kinds(mask) => json!({"eventTypes": kinds(mask)}),
        };
        let body = json!({"webhookSubscription": body});
        let answer = self.call(("PATCH", &path), (site, &Proof::Key), Some(body), None).await;
        let subscription = &mut self.model.sites[site].subscriptions[number];
        if subscription.state == Listening::Deleted {
            return assert_answer(&answer, &Expected::refusal(404, "WEBHOOK_SUBSCRIPTION_NOT_FOUND"));
        }
        subscription.revision += 1;
        match change {
            Change::Enable => subscription.enable(),
            Change::Disable => subscription.state = Listening::Disabled,
            Change::Kinds(mask) => subscription.kinds = kinds(mask),
        }
        let revision = subscription.revision.to_string();
        assert_eq!(answer.json()["webhookSubscription"]["revision"], revision);
    }

    async fn unsubscribe(&mut self, site: usize, number: usize) {
        let path = format!("{SUBSCRIPTIONS}/{}", self.model.sites[site].subscriptions[number].id);
        let answer = self.call(("DELETE", &path), (site, &Proof::Key), None, None).await;
        let state = &mut self.model.sites[site];
        let subscription = &mut state.subscriptions[number];
        if subscription.state == Listening::Deleted {
            return assert_answer(&answer, &Expected::refusal(404, "WEBHOOK_SUBSCRIPTION_NOT_FOUND"));
        }
        subscription.state = Listening::Deleted;
        for ((_, of), delivery) in &mut state.deliveries {
            if *of == number && delivery.is_waiting() {
                delivery.status = "CANCELLED";
            }
        }
        assert_answer(&answer, &Expected::Body(json!({})));
    }

    async fn redeliver(&mut self, site: usize, number: usize) {
        let state = &self.model.sites[site];
        let Some(((event, of), _)) = state.deliveries.iter().nth(number) else {
            let path = format!("/admin/v1/webhook-deliveries/{UNKNOWN_ID}/redeliver");
            let answer = self.call(("POST", &path), (site, &Proof::Key), None, None).await;
            return assert_answer(&answer, &Expected::refusal(404, "WEBHOOK_DELIVERY_NOT_FOUND"));
        };
        let key = (*event, *of);
        let (event, subscription) = (state.events[key.0].id.clone(), state.subscriptions[key.1].id.clone());
        let kind = state.events[key.0].kind;
        let path = format!("/admin/v1/webhook-deliveries?eventId={event}&subscriptionId={subscription}");
        let listed = self.call(("GET", &path), (site, &Proof::Key), None, None).await.json();
        let id = text(&listed["webhookDeliveries"][0]["id"]);
        let path = format!("/admin/v1/webhook-deliveries/{id}/redeliver");
        let answer = self.call(("POST", &path), (site, &Proof::Key), None, None).await;

        let now = self.model.now;
        let state = &mut self.model.sites[site];
        if !state.subscriptions[key.1].is_enabled() {
            return assert_answer(&answer, &Expected::refusal(428, "WEBHOOK_SUBSCRIPTION_NOT_ENABLED"));
        }
        let delivery = state.deliveries.get_mut(&key).unwrap();
        delivery.status = if delivery.attempts == 0 { "PENDING" } else { "RETRYING" };
        delivery.step = 0;
        delivery.due = now..=now;
        let mut expected = json!({"webhookDelivery": {
            "id": id, "eventId": event, "eventType": kind, "subscriptionId": subscription, "status": delivery.status,
            "attemptCount": delivery.attempts, "createdDate": date(delivery.created), "nextAttemptDate": date(now),
        }});
        // How the newest try went is as it was before.
        if let Some(code) = listed["webhookDeliveries"][0].get("lastStatusCode") {
            expected["webhookDelivery"]["lastStatusCode"] = code.clone();
        }
        assert_answer(&answer, &Expected::Body(expected));
    }

    async fn enable_all(&mut self) {
        for site in 0..self.model.sites.len() {
            for subscription in 0..self.model.sites[site].subscriptions.len() {
                if self.model.sites[site].subscriptions[subscription].state == Listening::Disabled {
                    self.take(&Step::Change { site, subscription, change: Change::Enable }).await;
                }
            }
        }
    }

    /// The first receiver fails for good, the others get well, and time passes until nothing waits any more.
    pub async fn finish(&mut self) {
        for receiver in 0..RECEIVERS {
            let mood = if receiver == 0 { Mood::Fails(500, 0) } else { Mood::Accepts(200) };
            self.take(&Step::Mood { receiver, mood }).await;
        }
        self.enable_all().await;
        for site in 0..self.model.sites.len() {
            for delivery in 0..self.model.sites[site].deliveries.len().min(REDELIVERED_AT_THE_END) {
                self.take(&Step::Redeliver { site, delivery }).await;
            }
        }
        // Some receivers are given up meanwhile; then the owner insists once more.
        for _ in 0..2 * RESENDS {
            if self.model.waiting() > 0 {
                self.take(&Step::Clock { ms: LONGEST_WAIT_MS }).await;
                self.enable_all().await;
            }
        }
        assert_eq!(self.model.waiting(), 0, "everything is delivered, exhausted or cancelled");
        for site in 0..self.model.sites.len() {
            for member in 0..self.model.sites[site].members.len() {
                self.take(&Step::List { site, by: By::Member(member), old_token: false }).await;
                self.take(&Step::ReadAccount { site, member }).await;
            }
        }
        self.check_ledger().await;
    }
}
