//! The story of one follow, told as it happens: every call goes to the service, every answer is compared with what it
//! should be, and the first that is not ends the story.

use std::collections::BTreeSet;
use std::fmt::Display;
use std::time::Duration;

use followpoints::points::verify;
use followpoints::webhooks::EventType;
use serde_json::{Value, json};
use tokio::time::{Instant, timeout, timeout_at};

use super::Stage;
use super::client::{Call, Reply};
use super::receiver::{Arrival, Webhook};
use super::screen::Screen;
use super::site::{FOLLOWED, FOLLOWED_CHANNELS, MY_ACCOUNT, OFF};

/// How long the webhooks of a follow may take, and how long the service may take to note what became of them.
const WEBHOOKS_WAIT_MAX: Duration = Duration::from_secs(10);

/// Plays the story; fails at the first step that is not as it should be.
pub(super) async fn tell(stage: &mut Stage, screen: &Screen) -> Result<(), String> {
    screen.heading("Followpoints demo: one follow and what comes of it");
    screen.fact("address", &stage.api.base);
    screen.fact("site", &format!("{}  {}", stage.site.id, stage.site.name));
    screen.fact("channels", &stage.site.channels_in_words());
    screen.fact("receiver", &stage.receiver.url);
    let mut story = Story { stage, screen, number: 0, title: "" };
    if let Err(reason) = story.play().await {
        screen.line(&format!("    {}  {reason}", screen.bad("FAILED")));
        return Err(format!("step {}, {}: {reason}", story.number, story.title));
    }
    screen.line("");
    let all = format!("All {} steps are as they should be.", story.number);
    screen.line(&screen.good(&all));
    Ok(())
}

/// How far the story is.
pub(super) struct Story<'a> {
    pub(super) stage: &'a mut Stage,
    screen: &'a Screen,
    number: u32,
    title: &'static str,
}

impl Story<'_> {
    async fn play(&mut self) -> Result<(), String> {
        self.look_before().await?;
        let followed = self.follow().await?;
        let account = self.earn().await?;
        self.look_after(&followed).await?;
        let events = self.hear(&followed, &account).await?;
        self.follow_again(&followed).await?;
        self.follow_what_is_off().await?;
        self.earn_no_more(&account).await?;
        self.record_no_more(&events).await?;
        self.deliver_all(&events).await?;
        self.play_social().await?;
        self.prove_ledger().await
    }

    async fn look_before(&mut self) -> Result<(), String> {
        self.begin("the member follows nothing yet");
        let call = Call::get(FOLLOWED_CHANNELS, &self.stage.site.member);
        let reply = self.stage.api.send(&call).await?;
        self.told(&call, &reply, &reply.body);
        same("status", &reply.status, &200)?;
        same("followedChannels", &reply.body["followedChannels"], &json!([]))?;
        self.ok("an empty list");
        Ok(())
    }

    /// Gives back the followed channel that was made.
    async fn follow(&mut self) -> Result<Value, String> {
        self.begin("the member follows a channel");
        let call = self.stage.site.follow(FOLLOWED);
        let reply = self.stage.api.send(&call).await?;
        self.told(&call, &reply, &reply.body);
        let followed = &reply.body["followedChannel"];
        same("status", &reply.status, &200)?;
        same("channel", &followed["channel"], &json!(FOLLOWED))?;
        self.ok("followed");
        Ok(followed.clone())
    }

    /// Gives back the account as it now is.
    async fn earn(&mut self) -> Result<Value, String> {
        self.begin("the member has the points that the owner set for it");
        let site = &self.stage.site;
        let call = Call::get(MY_ACCOUNT, &site.member);
        let reply = self.stage.api.send(&call).await?;
        let account = &reply.body["account"];
        self.told(&call, &reply, &json!({"account": {"points": account["points"]}}));
        let points = site.points(FOLLOWED).ok_or_else(|| format!("{FOLLOWED} is off"))?;
        same("status", &reply.status, &200)?;
        same("memberId", &account["memberId"], &json!(site.member_id))?;
        same("points", &account["points"], &points_earned(points))?;
        self.ok(&format!("{points} points, as the settings say"));
        Ok(account.clone())
    }

    async fn look_after(&mut self, followed: &Value) -> Result<(), String> {
        self.begin("the member follows that channel and no other");
        let call = Call::get(FOLLOWED_CHANNELS, &self.stage.site.member);
        let reply = self.stage.api.send(&call).await?;
        self.told(&call, &reply, &reply.body);
        same("status", &reply.status, &200)?;
        same("followedChannels", &reply.body["followedChannels"], &json!([followed]))?;
        self.ok("the one that was made");
        Ok(())
    }

    /// Gives back the ids of the events that the webhooks told of.
    async fn hear(&mut self, followed: &Value, account: &Value) -> Result<BTreeSet<String>, String> {
        self.begin("the webhooks arrive and are verified with the app's public key");
        let webhooks = self.collect().await?;
        let opened = as_opened(account);
        for (kind, expected) in EventType::LOYALTY.into_iter().zip([followed, &opened, account, account]) {
            let webhook = webhooks
                .iter()
                .find(|webhook| webhook.event_type == kind.as_str())
                .ok_or_else(|| format!("there was no {}", kind.as_str()))?;
            same(kind.as_str(), &webhook.entity, expected)?;
            same("siteId", &webhook.site_id, &self.stage.site.id)?;
            same("instanceId", &webhook.instance_id, &self.stage.site.instance_id)?;
        }
        self.ok("one of each type, and each says what the API answered");
        Ok(webhooks.into_iter().map(|webhook| webhook.event_id).collect())
    }

    async fn follow_again(&mut self, followed: &Value) -> Result<(), String> {
        self.begin("following the same channel again is refused");
        let call = self.stage.site.follow(FOLLOWED);
        let reply = self.stage.api.send(&call).await?;
        let error = &reply.body["details"]["applicationError"];
        self.told(&call, &reply, error);
        same("status", &reply.status, &409)?;
        same("code", &error["code"], &json!("ALREADY_EXISTS"))?;
        same("data", &error["data"]["followedChannel"], followed)?;
        self.ok("refused with the one that exists");
        Ok(())
    }

    async fn follow_what_is_off(&mut self) -> Result<(), String> {
        self.begin("following a channel that is off is refused");
        let call = self.stage.site.follow(OFF);
        let reply = self.stage.api.send(&call).await?;
        let error = &reply.body["details"]["applicationError"];
        self.told(&call, &reply, error);
        same("status", &reply.status, &428)?;
        same("code", &error["code"], &json!("CHANNEL_NOT_ENABLED"))?;
        same("data", &error["data"]["channel"], &json!(OFF))?;
        self.ok("refused");
        Ok(())
    }

    async fn earn_no_more(&mut self, account: &Value) -> Result<(), String> {
        self.begin("what was refused gave no points");
        let call = Call::get(MY_ACCOUNT, &self.stage.site.member);
        let reply = self.stage.api.send(&call).await?;
        let now = &reply.body["account"];
        self.told(&call, &reply, &json!({"account": {"points": now["points"]}}));
        same("status", &reply.status, &200)?;
        same("account", now, account)?;
        self.ok("the account is as it was");
        Ok(())
    }

    async fn record_no_more(&mut self, events: &BTreeSet<String>) -> Result<(), String> {
        self.begin("what was refused left no event behind");
        let call = Call::get("/admin/v1/events", &self.stage.site.key);
        let reply = self.stage.api.send(&call).await?;
        let rows = columns(&reply.body["events"], ["id", "eventType"]);
        self.told(&call, &reply, &rows);
        same("status", &reply.status, &200)?;
        same_ids("events", &rows, "id", events)?;
        self.ok("the events are those of the webhooks");
        Ok(())
    }

    async fn deliver_all(&mut self, events: &BTreeSet<String>) -> Result<(), String> {
        self.begin("every webhook is delivered and there is no other");
        self.settle().await?;
        let site = &self.stage.site;
        let path = format!("/admin/v1/webhook-deliveries?subscriptionId={}", site.subscription_id);
        let call = Call::get(path, &site.key);
        let reply = self.stage.api.send(&call).await?;
        let rows = columns(&reply.body["webhookDeliveries"], ["eventId", "status"]);
        self.told(&call, &reply, &rows);
        same("status", &reply.status, &200)?;
        same_ids("deliveries", &rows, "eventId", events)?;
        for row in rows.as_array().into_iter().flatten() {
            same("status", &row["status"], &json!("DELIVERED"))?;
        }
        while let Ok(arrival) = self.stage.receiver.arrivals.try_recv() {
            let webhook = verified(arrival)?;
            // A repeat is no news: webhooks come at least once.
            if !events.contains(&webhook.event_id) {
                return Err(format!("a further {} arrived", webhook.event_type));
            }
        }
        self.ok("delivered, each event once");
        Ok(())
    }

    async fn prove_ledger(&mut self) -> Result<(), String> {
        self.begin("the ledger proves the balance");
        let report = verify::verify(self.stage.service.app.db.read(), |_| {})
            .await
            .map_err(|error| format!("reading the ledger failed: {error}"))?;
        if let Some(fault) = report.faults.first() {
            return Err(fault.to_string());
        }
        same("accounts", &report.accounts, &1)?;
        same("entries", &report.entries, &3)?;
        self.ok("1 account, 3 entries, no fault");
        Ok(())
    }

    /// What has arrived, once everything is delivered.
    pub(super) async fn arrived(&mut self) -> Result<Vec<Webhook>, String> {
        self.settle().await?;
        let mut webhooks = Vec::new();
        while let Ok(arrival) = self.stage.receiver.arrivals.try_recv() {
            let webhook = verified(arrival)?;
            self.screen.line(&format!("    {}", self.screen.webhook(&webhook)));
            webhooks.push(webhook);
        }
        Ok(webhooks)
    }

    /// Waits until every outcome is noted: the service does so after the receiver has answered.
    async fn settle(&self) -> Result<(), String> {
        timeout(WEBHOOKS_WAIT_MAX, self.stage.service.app.dispatcher.drain())
            .await
            .map_err(|_| format!("deliveries were under way for {WEBHOOKS_WAIT_MAX:?}"))?
            .map_err(|error| format!("the database failed: {error}"))
    }

    /// Waits for the webhooks of the follow, in the order in which they come, repeats left out.
    async fn collect(&mut self) -> Result<Vec<Webhook>, String> {
        let deadline = Instant::now() + WEBHOOKS_WAIT_MAX;
        let mut webhooks: Vec<Webhook> = Vec::new();
        while webhooks.len() < EventType::LOYALTY.len() {
            let arrival = timeout_at(deadline, self.stage.receiver.arrivals.recv())
                .await
                .map_err(|_| {
                    let (some, all) = (webhooks.len(), EventType::LOYALTY.len());
                    format!("{some} of {all} webhooks arrived in {WEBHOOKS_WAIT_MAX:?}")
                })?
                .ok_or("the receiver has stopped")?;
            let webhook = verified(arrival)?;
            if webhooks.iter().all(|known| known.event_id != webhook.event_id) {
                self.screen.line(&format!("    {}", self.screen.webhook(&webhook)));
                webhooks.push(webhook);
            }
        }
        Ok(webhooks)
    }

    pub(super) fn begin(&mut self, title: &'static str) {
        self.number += 1;
        self.title = title;
        self.screen.line("");
        self.screen.heading(&format!("{:>2}  {title}", self.number));
    }

    /// Tells of a call and of what matters in the answer, or of all of it if that part is not there.
    pub(super) fn told(&self, call: &Call<'_>, reply: &Reply, part: &Value) {
        self.screen.line(&format!("    {call}"));
        let part = if part.is_null() { &reply.body } else { part };
        let Some(rows) = part.as_array() else {
            return self.screen.line(&format!("    {} {part}", reply.status));
        };
        self.screen.line(&format!("    {}", reply.status));
        for row in rows {
            self.screen.line(&format!("        {row}"));
        }
    }

    pub(super) fn ok(&self, what: &str) {
        self.screen.line(&format!("    {}  {what}", self.screen.good("ok")));
    }
}

pub(super) fn same<T: PartialEq + Display>(what: &str, seen: &T, expected: &T) -> Result<(), String> {
    if seen == expected { Ok(()) } else { Err(format!("{what}: expected {expected}, got {seen}")) }
}

/// Whether the `rows` are one for each of `events`, which `key` names.
fn same_ids(what: &str, rows: &Value, key: &str, events: &BTreeSet<String>) -> Result<(), String> {
    let mut ids: Vec<&Value> = rows.as_array().into_iter().flatten().map(|row| &row[key]).collect();
    ids.sort_by_key(|id| id.as_str());
    same(what, &json!(ids), &json!(events))
}

fn verified(arrival: Arrival) -> Result<Webhook, String> {
    match arrival {
        Arrival::Verified(webhook) => Ok(webhook),
        Arrival::Refused(reason) => Err(format!("a webhook could not be verified: {reason}")),
    }
}

/// The objects in `list` with the members `names` only.
fn columns(list: &Value, names: [&str; 2]) -> Value {
    let rows = list.as_array().into_iter().flatten();
    rows.map(|row| Value::from_iter(names.map(|name| (name, row[name].clone())))).collect()
}

fn points_earned(points: i64) -> Value {
    json!({"balance": points, "earned": points, "adjusted": 0, "redeemed": 0, "expired": 0})
}

/// What `account` was when it was made, before its first points.
fn as_opened(account: &Value) -> Value {
    let mut opened = account.clone();
    opened["points"] = points_earned(0);
    opened["updatedDate"] = account["createdDate"].clone();
    opened["revision"] = json!("1");
    if let Some(members) = opened.as_object_mut() {
        members.remove("lastActivityDate");
    }
    opened
}
