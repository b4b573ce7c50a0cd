//! What the rules of sites award for activities, within their limits.

use std::collections::HashMap;

use entity::id::{AccountId, ActivityId, ActivityRuleId, MemberId, SiteId, Timestamp};
use entity::kinds::ActivityOutcome;
use entity::{activity, activity_award};
use sea_orm::{DbErr, FromQueryResult as _};

use super::rules::{Candidate, Rule, Verdict};
use crate::access::Identity;
use crate::db::Tx;
use crate::follows::batch::Batch;
use crate::points::Booking;
use crate::rows::{Rows, Write};
use crate::sites::config::Configs;

/// Rows that one query looks up.
const PART_MAX: usize = 256;

/// What came of an activity, and why.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Outcome {
    /// In one word.
    pub outcome: ActivityOutcome,
    /// For people.
    pub reason: Option<String>,
    /// Points awarded now.
    pub points: i64,
}

impl Outcome {
    /// Whether this says more than `other`.
    #[must_use]
    pub const fn is_better_than(&self, other: &Self) -> bool {
        rank(self.outcome) < rank(other.outcome)
    }

    /// Nothing comes of it.
    #[must_use]
    pub fn ignored(reason: impl Into<String>) -> Self {
        Self { outcome: ActivityOutcome::Ignored, reason: Some(reason.into()), points: 0 }
    }
}

/// The rules of the sites of a batch, what they awarded before, and what they award now.
#[derive(Default)]
pub struct Awarding {
    rules: HashMap<SiteId, Vec<Rule>>,
    /// What was awarded for a thing: the rule and the activity.
    awarded: HashMap<(AccountId, String), Vec<(ActivityRuleId, ActivityId)>>,
    /// Awards within the time that a rule counts.
    counts: HashMap<(ActivityRuleId, AccountId), u64>,
    new: Vec<activity_award::Model>,
    /// Points that the rules award now.
    points: HashMap<ActivityRuleId, i64>,
}

impl Awarding {
    /// Takes the rules of the sites, and reads what those have awarded that have a limit to it.
    pub async fn read(tx: &Tx, configs: &Configs) -> Result<Self, DbErr> {
        let of_site = configs.iter().filter(|(_, config)| !config.rules.is_empty());
        let mut rules: HashMap<SiteId, Vec<Rule>> = of_site
            .map(|(site, config)| (*site, config.rules.iter().cloned().map(Rule::from).collect()))
            .collect();
        let mut limited: HashMap<ActivityRuleId, &mut Rule> = rules
            .values_mut()
            .flatten()
            .filter(|rule| rule.limits.total_points.is_some())
            .map(|rule| (rule.row.id, rule))
            .collect();
        let ids: Vec<ActivityRuleId> = limited.keys().copied().collect();
        for part in ids.chunks(PART_MAX) {
            let rows = Rows::new(part)
                .uuid("id", |id| id.0)
                .query(
                    tx.conn(),
                    "SELECT a.id, a.awarded_points FROM {rows} r JOIN activity_rule a ON a.id = r.id",
                )
                .await?;
            for row in rows {
                if let Some(rule) = limited.get_mut(&row.try_get("", "id")?) {
                    rule.row.awarded_points = row.try_get("", "awarded_points")?;
                }
            }
        }
        Ok(Self { rules, ..Self::default() })
    }

    /// Whether no site has any rules.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.rules.is_empty()
    }

    /// Reads what was awarded for these things before, and how often the rules have awarded these accounts.
    pub async fn read_awards(&mut self, tx: &Tx, things: &[(AccountId, String)]) -> Result<(), DbErr> {
        for part in things.chunks(PART_MAX) {
            let rows = Rows::new(part)
                .uuid("account_id", |(account, _)| account.0)
                .text("external_id", |(_, external)| external.as_str())
                .query(
                    tx.conn(),
                    "SELECT a.* FROM {rows} r JOIN activity_award a ON a.account_id = r.account_id \
                     AND a.external_id = r.external_id",
                )
                .await?;
            for row in rows {
                let row = activity_award::Model::from_query_result(&row, "")?;
                let thing = (row.account_id, row.external_id);
                self.awarded.entry(thing).or_default().push((row.rule_id, row.activity_id));
            }
        }
        let mut accounts: Vec<AccountId> = things.iter().map(|(account, _)| *account).collect();
        accounts.sort_unstable();
        accounts.dedup();
        let limited: Vec<(ActivityRuleId, Timestamp)> = self
            .rules
            .values()
            .flatten()
            .filter_map(|rule| Some((rule.row.id, rule.limits.per_member?.every.since(tx.now()))))
            .collect();
        for (rule, since) in limited {
            self.count(tx, rule, since, &accounts).await?;
        }
        Ok(())
    }

    async fn count(
        &mut self,
        tx: &Tx,
        rule: ActivityRuleId,
        since: Timestamp,
        accounts: &[AccountId],
    ) -> Result<(), DbErr> {
        for part in accounts.chunks(PART_MAX) {
            let rows = Rows::new(part)
                .uuid("account_id", |account| account.0)
                .same_uuid("rule_id", rule.0)
                .same_int("since", since.0)
                .query(
                    tx.conn(),
                    "SELECT a.account_id AS account_id, count(*) AS awards FROM {rows} r JOIN activity_award a \
                     ON a.rule_id = r.rule_id AND a.account_id = r.account_id AND a.awarded_at > r.since \
                     GROUP BY a.account_id",
                )
                .await?;
            for row in rows {
                let count: i64 = row.try_get("", "awards")?;
                self.counts.insert((rule, row.try_get("", "account_id")?), count.unsigned_abs());
            }
        }
        Ok(())
    }

    /// Awards what the rules of its site give for `row`, an activity of `member`.
    pub fn award(
        &mut self,
        tx: &Tx,
        batch: &mut Batch,
        row: &activity::Model,
        member: MemberId,
        candidate: &Candidate<'_>,
    ) -> serde_json::Result<Outcome> {
        let Some(mut rules) = self.rules.remove(&row.site_id) else {
            return Ok(Outcome::ignored("no rule rewards it"));
        };
        let mut tally = Tally::default();
        for rule in &mut rules {
            match rule.judge(candidate) {
                Verdict::NotMeant => {}
                Verdict::Held(reason) => tally.note(ActivityOutcome::Held, reason),
                Verdict::Refused(reason) => tally.note(ActivityOutcome::Ignored, reason),
                Verdict::Earns => self.try_rule(tx, batch, (row, member), rule, &mut tally)?,
            }
        }
        self.rules.insert(row.site_id, rules);
        Ok(tally.outcome())
    }

    fn try_rule(
        &mut self,
        tx: &Tx,
        batch: &mut Batch,
        (row, member): (&activity::Model, MemberId),
        rule: &mut Rule,
        tally: &mut Tally,
    ) -> serde_json::Result<()> {
        let identity = Identity::Member(member);
        let Some(account) = batch.account_of(tx, row.site_id, member, &identity)? else {
            tally.note(ActivityOutcome::Ignored, "the member is gone".to_owned());
            return Ok(());
        };
        let id = rule.row.id;
        let thing = (account, row.external_id.clone());
        // A post that is both mention and tag is one thing: what one of them earned, the other does not.
        let is_earned = |(by, activity): &(ActivityRuleId, ActivityId)| *by == id || *activity != row.id;
        if self.awarded.get(&thing).is_some_and(|before| before.iter().any(is_earned)) {
            tally.note(ActivityOutcome::AlreadyEarned, "this was rewarded before".to_owned());
            return Ok(());
        }
        let count = self.counts.entry((id, account)).or_default();
        if let Some(limit) = rule.limits.per_member.filter(|limit| *count >= u64::from(limit.count)) {
            let reason = format!("the member has earned {count} times within {}", limit.every.as_str());
            tally.note(ActivityOutcome::Capped, reason);
            return Ok(());
        }
        let points = rule.row.points;
        if rule.limits.total_points.is_some_and(|total| rule.row.awarded_points + points > total) {
            tally.note(ActivityOutcome::Capped, "the rule has awarded all its points".to_owned());
            return Ok(());
        }
        *count += 1;
        rule.row.awarded_points += points;
        *self.points.entry(id).or_default() += points;
        self.awarded.entry(thing).or_default().push((id, row.id));
        let booking = Booking {
            amount: points,
            description: format!("{} on {}", row.activity_type, row.platform),
            channel: None,
            key: format!("activity:{id}:{}", row.external_id),
        };
        batch.book(tx, account, booking, &identity)?;
        self.new.push(activity_award::Model {
            rule_id: id,
            account_id: account,
            external_id: row.external_id.clone(),
            site_id: row.site_id,
            rule_version: rule.row.version,
            activity_id: row.id,
            points,
            awarded_at: tx.now(),
        });
        tally.note(ActivityOutcome::Awarded, String::new());
        tally.points += points;
        Ok(())
    }

    /// To write the awards, and what the rules have awarded in all.
    #[must_use]
    pub fn writes(&self, tx: &Tx) -> Vec<Write> {
        let points: Vec<(&ActivityRuleId, &i64)> = self.points.iter().collect();
        let awards = Rows::new(&self.new)
            .uuid("rule_id", |row| row.rule_id.0)
            .uuid("account_id", |row| row.account_id.0)
            .text("external_id", |row| row.external_id.as_str())
            .uuid("site_id", |row| row.site_id.0)
            .int("rule_version", |row| row.rule_version)
            .uuid("activity_id", |row| row.activity_id.0)
            .int("points", |row| row.points)
            .same_int("awarded_at", tx.now().0)
            .insert("activity_award", "");
        let rules =
            Rows::new(&points).uuid("id", |(id, _)| id.0).int("points", |(_, points)| **points).write(
                "UPDATE activity_rule SET awarded_points = awarded_points + r.points FROM {rows} AS r \
                 WHERE activity_rule.id = r.id",
            );
        vec![awards, rules]
    }
}

/// What is best for the member comes first.
const fn rank(outcome: ActivityOutcome) -> u8 {
    match outcome {
        ActivityOutcome::Awarded => 0,
        ActivityOutcome::Held => 1,
        ActivityOutcome::AlreadyEarned => 2,
        ActivityOutcome::Capped => 3,
        ActivityOutcome::Unmatched => 4,
        ActivityOutcome::Ignored => 5,
    }
}

/// What several rules say together: what is best for the member counts.
#[derive(Default)]
struct Tally {
    best: Option<(ActivityOutcome, String)>,
    points: i64,
}

impl Tally {
    fn note(&mut self, outcome: ActivityOutcome, reason: String) {
        if self.best.as_ref().is_none_or(|(best, _)| rank(outcome) < rank(*best)) {
            self.best = Some((outcome, reason));
        }
    }

    fn outcome(self) -> Outcome {
        match self.best {
            None => Outcome::ignored("no rule rewards it"),
            Some((outcome, reason)) => Outcome {
                outcome,
                reason: Some(reason).filter(|reason| !reason.is_empty()),
                points: self.points,
            },
        }
    }
}
