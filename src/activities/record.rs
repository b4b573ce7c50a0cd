//! Writing what platforms told: many things together, everything that follows from them in one transaction.
//!
//! On PostgreSQL one transaction at a time does this for a site, so that two nodes see what the other has done: who is proven, what a rule has
//! awarded, whether somebody follows. Running it again for the same thing changes nothing.

use std::collections::{BTreeSet, HashMap, HashSet};

use entity::id::{AccountId, ItemId, MemberId, SiteId};
use entity::kinds::{ActivityOutcome, ActivityType, ItemStatus, Platform, ProgramStatus};
use entity::{activity, direct_reply, follow_change, item};
use sea_orm::DbErr;
use serde_json::{Map, Value};

use super::awarding::{Awarding, Outcome};
use super::conditions::{self, Fated, sightings};
use super::direct_replies;
use super::follow::{self, Seen};
use super::matching::{Match, Matching};
use super::profiles::Profiles;
use super::rules::Candidate;
use super::settling::{done, park};
use super::store::{self, Known, Written};
use super::{Fate, NewActivity, Sighting, Understood};
use crate::access::Identity;
use crate::db::{self, Db, Tx};
use crate::follows::batch::Batch;
use crate::follows::{FollowError, Subject};
use crate::inbox::{self, Arrivals, Settled};
use crate::profiles::attributes;
use crate::rows::{self, Write};
use crate::sites::config::{Configs, SiteConfigs};
use crate::webhooks::dispatcher::Dispatcher;
use crate::webhooks::event;
use crate::webhooks::outbox::FreshDeliveries;

/// Why nothing was written.
#[derive(Debug, thiserror::Error)]
pub enum RecordError {
    /// The database failed.
    #[error("the database failed: {0}")]
    Store(#[from] DbErr),
    /// An event could not be written as JSON.
    #[error("an event could not be encoded: {0}")]
    Encode(#[from] serde_json::Error),
    /// A follow could not be decided.
    #[error(transparent)]
    Follow(#[from] FollowError),
}

/// Writes what platforms told. Cheap to clone.
#[derive(Clone)]
pub struct Recorder {
    db: Db,
    configs: SiteConfigs,
    dispatcher: Dispatcher,
}

impl Recorder {
    /// One that writes to `db` and has the dispatcher tell it.
    #[must_use]
    pub const fn new(db: Db, configs: SiteConfigs, dispatcher: Dispatcher) -> Self {
        Self { db, configs, dispatcher }
    }

    /// The same on other connections.
    #[must_use]
    pub fn on(&self, db: Db) -> Self {
        Self { db, ..self.clone() }
    }

    /// Writes what comes of `understood`, together. If that fails as a whole, each is written alone, so that one that cannot be
    /// written spoils only itself: it is worked on again when its lease ends.
    pub async fn record(&self, understood: Vec<Understood>) -> Result<(), RecordError> {
        if understood.is_empty() {
            return Ok(());
        }
        match self.together(None, &understood).await {
            Ok(_) => Ok(()),
            Err(error) if understood.len() == 1 => Err(error),
            Err(error) => {
                tracing::warn!(%error, things = understood.len(), "things could not be recorded together; each is tried alone");
                for one in &understood {
                    if let Err(error) = self.together(None, std::slice::from_ref(one)).await {
                        tracing::error!(%error, item = %one.0.id, "a thing could not be recorded; it is tried again");
                    }
                }
                Ok(())
            }
        }
    }

    /// Stores `arrivals` and writes what comes of `understood`, which are among them, as far as they are new. Gives what was
    /// new. If this fails, nothing is stored.
    pub async fn take_in(
        &self,
        arrivals: &Arrivals,
        understood: &[Understood],
    ) -> Result<HashSet<ItemId>, RecordError> {
        self.together(Some(arrivals), understood).await
    }

    /// Gives what was new of `arrivals`, or without any which of `understood` were still to be worked on.
    async fn together(
        &self,
        arrivals: Option<&Arrivals>,
        understood: &[Understood],
    ) -> Result<HashSet<ItemId>, RecordError> {
        let mut tries = 0;
        loop {
            tries += 1;
            match self.once(arrivals, understood).await {
                Ok((ours, fresh)) => {
                    self.dispatcher.offer(fresh);
                    return Ok(ours);
                }
                Err(RecordError::Store(error)) if db::lost_a_race(&error) && tries < db::TRIES_MAX => {}
                Err(error) => return Err(error),
            }
        }
    }

    async fn once(
        &self,
        arrivals: Option<&Arrivals>,
        understood: &[Understood],
    ) -> Result<(HashSet<ItemId>, FreshDeliveries), RecordError> {
        let tx = self.db.write().await?;
        let mut understood: Vec<&Understood> = understood.iter().collect();
        let sites: BTreeSet<SiteId> = understood.iter().filter_map(|(_, fate)| fate.changes_site()).collect();
        let sites: Vec<SiteId> = sites.into_iter().collect();
        let configs = self.configs.load_in_turn(&tx, &sites).await?;
        let ours = match arrivals {
            Some(arrivals) => arrivals.insert_items(&tx).await?,
            None => inbox::hold_open(&tx, &understood).await?,
        };
        understood.retain(|(item, _)| ours.contains(&item.id));
        let fated: Vec<Fated<'_>> =
            understood.into_iter().map(|one| conditions::on_site(&configs, one)).collect();
        let mut work = Work::begin(&tx, configs, &fated, arrivals.is_none()).await?;
        for (item, fate) in fated {
            work.take(&tx, item, &fate).await?;
        }
        let received = arrivals.map(Arrivals::deliveries_write);
        let fresh = work.write(&tx, &self.dispatcher, received).await?;
        tx.commit().await?;
        Ok((ours, fresh))
    }
}

/// Everything that one transaction knows and will write.
struct Work {
    configs: Configs,
    batch: Batch,
    matching: Matching,
    matches: HashMap<ItemId, Result<Match, String>>,
    /// What does not count, and why.
    refused: HashMap<ItemId, &'static str>,
    profiles: Profiles,
    awarding: Awarding,
    known: Known,
    settled: Vec<Settled>,
    activities: Vec<Written>,
    follow_changes: Vec<follow_change::Model>,
    /// Persons who wrote and became known by it: what waits for that can be worked on.
    people: Vec<(Platform, String, String)>,
    /// Messages of which something is told that came after them: platform, account, key.
    changed_messages: Vec<(Platform, String, String)>,
    replies: Vec<direct_reply::Model>,
}

impl Work {
    /// Reads what is told and says who did it. With `again`, its things may have been worked on before.
    async fn begin(tx: &Tx, configs: Configs, fated: &[Fated<'_>], again: bool) -> Result<Self, RecordError> {
        let seen: Vec<&Sighting> = sightings(fated).map(|(_, sighting)| sighting).collect();
        let mut matching = Matching::read(tx, &seen).await?;
        let mut matches = HashMap::new();
        let mut refused = HashMap::new();
        let mut members: BTreeSet<(SiteId, MemberId)> = BTreeSet::new();
        for (item, sighting) in sightings(fated) {
            if let Some(reason) = matching.refuses(item, sighting) {
                refused.insert(item.id, reason);
                continue;
            }
            let found = matching.find(tx.now(), item, sighting);
            if let Ok(found) = &found {
                members.insert((sighting.site, found.member));
            }
            matches.insert(item.id, found);
        }
        let members: Vec<(SiteId, MemberId)> = members.into_iter().collect();
        let subjects: Vec<(SiteId, Subject)> =
            members.iter().map(|(site, member)| (*site, Subject::Member(*member))).collect();
        let mut batch = Batch::default();
        batch.read(tx, &subjects).await?;
        let mut awarding = Awarding::read(tx, &configs).await?;
        let mut things: Vec<(AccountId, String)> = Vec::new();
        for (item, sighting) in sightings(fated) {
            let Some(Ok(found)) = matches.get(&item.id) else { continue };
            let Some(account) = batch.existing(sighting.site, found.member) else { continue };
            let person = sighting.person.external_id.clone();
            let externals =
                sighting.activity.iter().map(|activity| activity.external_id.clone()).chain(person);
            things.extend(externals.map(|external| (account, external)));
        }
        things.sort_unstable();
        things.dedup();
        if !awarding.is_empty() {
            awarding.read_awards(tx, &things).await?;
        }
        let items: Vec<&item::Model> = sightings(fated).map(|(item, _)| item).collect();
        Ok(Self {
            profiles: Profiles::read(tx, &members).await?,
            known: Known::read(tx, &items, again).await?,
            configs,
            batch,
            matching,
            matches,
            refused,
            awarding,
            settled: Vec::new(),
            activities: Vec::new(),
            follow_changes: Vec::new(),
            people: Vec::new(),
            changed_messages: Vec::new(),
            replies: Vec::new(),
        })
    }

    /// Decides what becomes of `item`.
    async fn take(&mut self, tx: &Tx, item: &item::Model, fate: &Fate) -> Result<(), RecordError> {
        let settled = match fate {
            Fate::Ignored { site, reason } => done(tx, item, *site, Some(reason.clone())),
            Fate::Later { site, reason, after_ms } => Settled {
                status: ItemStatus::Waiting,
                due_at: tx.now().plus_ms(*after_ms),
                ..done(tx, item, *site, Some(reason.clone()))
            },
            Fate::Parked { site, reason } => park(tx, item, *site, None, reason.clone()),
            Fate::Changed { site, message_key, is_unsent } => {
                let (platform, account) = (item.platform, item.account.clone());
                self.changed_messages.push((platform, account, message_key.clone()));
                let what = if *is_unsent { "the message was unsent" } else { "the message was edited" };
                done(tx, item, Some(*site), Some(what.to_owned()))
            }
            Fate::Seen(sighting) => match self.refused.get(&item.id) {
                Some(reason) => done(tx, item, Some(sighting.site), Some((*reason).to_owned())),
                None => self.see(tx, item, sighting).await?,
            },
        };
        self.settled.push(settled);
        Ok(())
    }

    async fn see(
        &mut self,
        tx: &Tx,
        item: &item::Model,
        sighting: &Sighting,
    ) -> Result<Settled, RecordError> {
        let found =
            self.matches.get(&item.id).cloned().unwrap_or_else(|| Err("nobody was looked for".to_owned()));
        if let Ok(found) = &found {
            if !self.matching.is_outdated(item.id) {
                self.profiles.tell(sighting, found);
            }
            if found.code.is_some() {
                self.replies.extend(self.reply(tx, item, sighting));
            }
        }
        // Whoever is told of now can be told of in what waits. What has waited itself tells nobody: two things of somebody who stays
        // unknown would wake each other for ever.
        let is_known = found.is_ok() || sighting.person.handle.is_some();
        let tells = sighting.is_message && is_known && item.status != ItemStatus::Parked;
        if let Some(external) = sighting.person.external_id.clone().filter(|_| tells) {
            self.people.push((sighting.person.platform, sighting.person.account.clone(), external));
        }
        let mut waits: Option<String> = None;
        if let Some((follow, outcome)) = self.follow(tx, item, sighting, found.as_ref().ok()).await? {
            self.note(tx, item, sighting, &follow, &found, Some(outcome), &mut waits)?;
        }
        if let Some(activity) = &sighting.activity {
            self.note(tx, item, sighting, activity, &found, None, &mut waits)?;
        }
        let handle = sighting.person.handle.clone();
        Ok(match (waits, found) {
            (Some(reason), _) => park(tx, item, sighting.site, handle, reason),
            (None, found) => Settled { handle, ..done(tx, item, Some(sighting.site), found.err()) },
        })
    }

    /// What the owner wants the person to be answered, whose message has just proven who they are.
    fn reply(&self, tx: &Tx, item: &item::Model, sighting: &Sighting) -> Option<direct_reply::Model> {
        let channel = follow::channel(item.platform);
        let settings = self.configs.get(&sighting.site)?.settings(channel)?;
        Some(direct_reply::Model {
            item_id: item.id,
            site_id: sighting.site,
            account: item.account.clone(),
            person: sighting.person.external_id.clone()?,
            message: settings.link_reply.clone()?,
            attempts: 0,
            due_at: tx.now(),
            expires_at: sighting.occurred_at.plus_ms(direct_replies::WINDOW_MS),
        })
    }

    /// Notes whether the person follows the brand. Gives the activity if that is new, with what came of the follow.
    async fn follow(
        &mut self,
        tx: &Tx,
        item: &item::Model,
        sighting: &Sighting,
        found: Option<&Match>,
    ) -> Result<Option<(NewActivity, Outcome)>, RecordError> {
        let is_current = sighting.is_message && !self.matching.is_outdated(item.id);
        let Some(person) = self.matching.person(sighting) else { return Ok(None) };
        let Some(follows) = sighting.person.facts.follows_brand.filter(|_| is_current) else {
            return Ok(None);
        };
        let before = person.follows;
        if before != Some(follows) {
            (person.follows, person.follows_since) = (Some(follows), Some(tx.now()));
            self.follow_changes.push(follow_change::Model {
                id: tx.new_id(),
                site_id: sighting.site,
                platform: sighting.person.platform,
                person: person.external_id.clone(),
                member_id: found.map(|found| found.member),
                follows,
                item_id: item.id,
                seen_at: tx.now(),
            });
        }
        let external_id = person.external_id.clone();
        let seen = Seen { item: item.id, site: sighting.site, platform: sighting.person.platform };
        let outcome = match found {
            Some(found) if follows => {
                follow::register(tx, &self.configs, &mut self.batch, &seen, person, found)?
            }
            Some(found) => {
                if before == Some(true) {
                    follow::withdraw(tx, &self.configs, &mut self.batch, &seen, found.member).await?;
                }
                return Ok(None);
            }
            None => Outcome::ignored("nobody is known to have this handle"),
        };
        // Somebody who followed before and becomes known now has followed, too; and what waited may come to an end.
        let waited =
            self.known.activity(item.id, ActivityType::FollowedYou).is_some_and(|row| is_open(row.outcome));
        let is_news =
            follows && (before != Some(true) || waited || outcome.outcome == ActivityOutcome::Awarded);
        if !is_news {
            return Ok(None);
        }
        let platform = attributes::prefix(sighting.person.platform);
        let properties = Map::from_iter([
            ("platform".to_owned(), Value::from(platform)),
            ("source".to_owned(), Value::from("dm")),
        ]);
        let kind = ActivityType::FollowedYou;
        Ok(Some((NewActivity { kind, external_id, mention_type: None, properties }, outcome)))
    }

    /// Records `new`, or what has become of it since it was recorded. What keeps it waiting goes into `waits`.
    fn note(
        &mut self,
        tx: &Tx,
        item: &item::Model,
        sighting: &Sighting,
        new: &NewActivity,
        found: &Result<Match, String>,
        follow: Option<Outcome>,
        waits: &mut Option<String>,
    ) -> Result<(), RecordError> {
        let known = self.known.activity(item.id, new.kind);
        if known.as_ref().is_some_and(|row| !is_open(row.outcome)) {
            return Ok(());
        }
        let is_new = known.is_none();
        let mut row = known.unwrap_or_else(|| store::new_row(tx, item, sighting, new));
        if let Some(text) = self.known.changed_text(item) {
            row.properties = store::with_message(&row.properties, text.as_deref().unwrap_or_default());
            self.changed_messages.push((item.platform, item.account.clone(), item.item_key.clone()));
        }
        let was_told = row.member_id.is_some();
        let outcome = match found {
            Err(reason) => {
                Outcome { outcome: ActivityOutcome::Unmatched, reason: Some(reason.clone()), points: 0 }
            }
            Ok(found) => {
                row.member_id = Some(found.member);
                let by_rules = self.reward(tx, sighting, &row, found)?;
                match follow {
                    Some(follow) if !by_rules.is_better_than(&follow) => {
                        Outcome { points: follow.points + by_rules.points, ..follow }
                    }
                    follow => Outcome {
                        points: by_rules.points + follow.map_or(0, |follow| follow.points),
                        ..by_rules
                    },
                }
            }
        };
        row.account_id = row.member_id.and_then(|member| self.batch.existing(row.site_id, member));
        row.points += outcome.points;
        row.outcome = outcome.outcome;
        row.reason = outcome.reason;
        row.updated_at = tx.now();
        if let Some(member) = row.member_id.filter(|_| !was_told) {
            let told = event::activity_recorded(tx, &row, &Identity::Member(member))?;
            self.batch.tell(told);
        }
        if is_open(row.outcome) {
            *waits = row.reason.clone().or_else(|| Some("it waits".to_owned()));
        }
        self.activities.push((is_new, row));
        Ok(())
    }

    fn reward(
        &mut self,
        tx: &Tx,
        sighting: &Sighting,
        row: &activity::Model,
        found: &Match,
    ) -> Result<Outcome, RecordError> {
        let program = self.configs.get(&row.site_id).map_or(ProgramStatus::Draft, |config| config.program);
        if program != ProgramStatus::Active {
            return Ok(Outcome::ignored(format!("the loyalty program is {program}")));
        }
        let text = store::text(&row.properties);
        let candidate = Candidate {
            kind: row.activity_type,
            platform: row.platform,
            mention_type: row.mention_type,
            occurred_at: row.occurred_at,
            text: &text,
            followers: self.profiles.followers(sighting, found.member),
            is_verified: found.is_proven,
        };
        Ok(self.awarding.award(tx, &mut self.batch, row, found.member, &candidate)?)
    }

    /// Writes everything, and the calls that were `received`.
    async fn write(
        self,
        tx: &Tx,
        dispatcher: &Dispatcher,
        received: Option<Write>,
    ) -> Result<FreshDeliveries, RecordError> {
        self.matching.use_codes(tx).await?;
        let (freed, mut writes) = self.matching.writes();
        rows::write_all(tx.conn(), freed).await?;
        let proven = self.matching.changed_handles();
        let (of_batch, fresh) = self.batch.into_writes(tx, &self.configs, dispatcher).await?;
        writes.extend(received);
        writes.extend(of_batch);
        writes.extend(self.awarding.writes(tx));
        writes.extend(store::activities_writes(&self.activities));
        writes.push(store::follow_changes_write(&self.follow_changes));
        writes.push(self.profiles.write(tx));
        writes.push(direct_replies::writes(&self.replies, tx.now()));
        let mut settled = vec![inbox::settle(&self.settled)];
        if self.people.is_empty() && proven.is_empty() {
            writes.append(&mut settled);
        }
        rows::write_all(tx.conn(), writes).await?;
        for (platform, account, key) in &self.changed_messages {
            store::change_message(tx, (*platform, account, key)).await?;
        }
        // What waits is called before the things of this batch are settled, as some of these are among it.
        rows::write_all(tx.conn(), vec![inbox::unpark_people(tx, &self.people)]).await?;
        for row in proven {
            inbox::unpark_handle(tx, row.site_id, row.platform, &row.handle).await?;
        }
        rows::write_all(tx.conn(), settled).await?;
        Ok(fresh)
    }
}

/// Whether something can still come of an activity.
const fn is_open(outcome: ActivityOutcome) -> bool {
    matches!(outcome, ActivityOutcome::Held | ActivityOutcome::Unmatched)
}
