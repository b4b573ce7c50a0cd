//! The rules of a site, as its owner makes, changes and deletes them. Each change waits its turn with what records activities, so that an
//! award names the very rule that it was judged by.

use entity::activity_rule;
use entity::id::{ActivityRuleId, SiteId, Timestamp};
use entity::kinds::{ActivityType, MentionType, Platform};
use sea_orm::{
    ActiveModelTrait, ActiveValue::Set, ColumnTrait, ConnectionTrait, DbErr, EntityTrait, PaginatorTrait,
    QueryFilter, QueryOrder, QuerySelect,
};

use super::rules::{Limits, Requires, Rule};
use crate::db::Tx;
use crate::sites::config;

/// Rules of a site: each activity is judged by all of them.
pub const RULES_MAX: u64 = 100;
/// Words that a rule may want in a caption.
pub const WORDS_MAX: usize = 20;
/// Characters of such a word.
pub const WORD_CHARS_MAX: usize = 100;

/// What an owner says in a rule.
#[derive(Debug, Clone)]
pub struct Terms {
    /// Which activities.
    pub kind: ActivityType,
    /// On which platform; on any if absent.
    pub platform: Option<Platform>,
    /// How they mention the brand; in any way if absent.
    pub mention_type: Option<MentionType>,
    /// Points for one.
    pub points: i64,
    /// How often and how much.
    pub limits: Limits,
    /// What must be so.
    pub requires: Requires,
    /// Whether it counts.
    pub is_enabled: bool,
    /// From when on it counts.
    pub starts_at: Option<Timestamp>,
    /// Until when it counts.
    pub ends_at: Option<Timestamp>,
}

/// What is wrong with the terms of a rule.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Fault {
    /// Nothing but a mention has a way of mentioning.
    #[error("only goes with type MENTIONED_YOU_SOCIAL")]
    MentionType,
    /// It would never count.
    #[error("must be after startsAt")]
    Ends,
    /// This word of the caption says nothing.
    #[error("must not be empty")]
    EmptyWord(usize),
    /// This word of the caption is too long.
    #[error("has at most {WORD_CHARS_MAX} characters")]
    LongWord(usize),
}

/// Why a rule was not made or changed.
#[derive(Debug, thiserror::Error)]
pub enum RuleError {
    /// The site has no such rule.
    #[error("there is no such activity rule")]
    NotFound,
    /// Somebody changed it since.
    #[error("entity has already changed since the requested revision")]
    StaleRevision,
    /// The site has [`RULES_MAX`] rules.
    #[error("a site has at most {RULES_MAX} activity rules; delete one first")]
    TooMany,
    /// Its terms cannot be.
    #[error("the terms of the rule cannot be")]
    Terms(Vec<Fault>),
    /// Its terms could not be written as JSON.
    #[error("the rule could not be encoded")]
    Encode(#[from] serde_json::Error),
    /// The database failed.
    #[error("the database failed")]
    Store(#[from] DbErr),
}

impl Terms {
    /// Those of `rule`.
    #[must_use]
    pub fn of(rule: &Rule) -> Self {
        let row = &rule.row;
        Self {
            kind: row.activity_type,
            platform: row.platform,
            mention_type: row.mention_type,
            points: row.points,
            limits: rule.limits.clone(),
            requires: rule.requires.clone(),
            is_enabled: row.is_enabled,
            starts_at: row.starts_at,
            ends_at: row.ends_at,
        }
    }

    fn check(&self) -> Result<(), RuleError> {
        let mut faults = Vec::new();
        if self.mention_type.is_some() && self.kind != ActivityType::MentionedYou {
            faults.push(Fault::MentionType);
        }
        for (index, word) in self.requires.caption_contains.iter().enumerate() {
            if word.trim().is_empty() {
                faults.push(Fault::EmptyWord(index));
            } else if word.chars().count() > WORD_CHARS_MAX {
                faults.push(Fault::LongWord(index));
            }
        }
        if let (Some(start), Some(end)) = (self.starts_at, self.ends_at)
            && end <= start
        {
            faults.push(Fault::Ends);
        }
        if faults.is_empty() { Ok(()) } else { Err(RuleError::Terms(faults)) }
    }

    fn write(self, row: &mut activity_rule::ActiveModel) -> serde_json::Result<()> {
        row.activity_type = Set(self.kind);
        row.platform = Set(self.platform);
        row.mention_type = Set(self.mention_type);
        row.points = Set(self.points);
        row.limits = Set(serde_json::to_string(&self.limits)?);
        row.requires = Set(serde_json::to_string(&self.requires)?);
        row.is_enabled = Set(self.is_enabled);
        row.starts_at = Set(self.starts_at);
        row.ends_at = Set(self.ends_at);
        Ok(())
    }
}

/// Makes a rule of `site`.
pub async fn create_rule(tx: &Tx, site: SiteId, terms: Terms) -> Result<Rule, RuleError> {
    terms.check()?;
    config::take_turns(tx, &[site]).await?;
    let of_site = activity_rule::Entity::find().filter(activity_rule::Column::SiteId.eq(site));
    if of_site.count(tx.conn()).await? >= RULES_MAX {
        return Err(RuleError::TooMany);
    }
    let mut row = activity_rule::ActiveModel {
        id: Set(ActivityRuleId(tx.new_id())),
        site_id: Set(site),
        version: Set(1),
        awarded_points: Set(0),
        created_at: Set(tx.now()),
        updated_at: Set(tx.now()),
        ..Default::default()
    };
    terms.write(&mut row)?;
    config::touch(tx, site).await?;
    Ok(row.insert(tx.conn()).await?.into())
}

/// Changes the terms of the rule `id` of `site` and raises its version. With `revision`, only if that is still its version.
pub async fn change_rule(
    tx: &Tx,
    (site, id): (SiteId, ActivityRuleId),
    revision: Option<i64>,
    change: impl FnOnce(&mut Terms),
) -> Result<Rule, RuleError> {
    config::take_turns(tx, &[site]).await?;
    let rule = find_rule(tx.conn(), site, id).await?.ok_or(RuleError::NotFound)?;
    let version = rule.row.version;
    if revision.is_some_and(|revision| revision != version) {
        return Err(RuleError::StaleRevision);
    }
    let mut terms = Terms::of(&rule);
    change(&mut terms);
    terms.check()?;
    let mut row = activity_rule::ActiveModel {
        id: Set(id),
        version: Set(version + 1),
        updated_at: Set(tx.now()),
        ..Default::default()
    };
    terms.write(&mut row)?;
    config::touch(tx, site).await?;
    Ok(row.update(tx.conn()).await?.into())
}

/// Deletes the rule `id` of `site`. What it has awarded stays, and still names it.
pub async fn delete_rule(tx: &Tx, site: SiteId, id: ActivityRuleId) -> Result<(), RuleError> {
    config::take_turns(tx, &[site]).await?;
    find_rule(tx.conn(), site, id).await?.ok_or(RuleError::NotFound)?;
    activity_rule::Entity::delete_by_id(id).exec(tx.conn()).await?;
    config::touch(tx, site).await?;
    Ok(())
}

/// The rule `id` of `site`.
pub async fn find_rule(
    db: &impl ConnectionTrait,
    site: SiteId,
    id: ActivityRuleId,
) -> Result<Option<Rule>, DbErr> {
    let found =
        activity_rule::Entity::find_by_id(id).filter(activity_rule::Column::SiteId.eq(site)).one(db).await?;
    Ok(found.map(Rule::from))
}

/// Rules of `site` from the newest, after `before`.
pub async fn list_rules(
    db: &impl ConnectionTrait,
    site: SiteId,
    before: Option<ActivityRuleId>,
    limit: u64,
) -> Result<Vec<Rule>, DbErr> {
    let mut query = activity_rule::Entity::find().filter(activity_rule::Column::SiteId.eq(site));
    if let Some(before) = before {
        query = query.filter(activity_rule::Column::Id.lt(before));
    }
    let rows = query.order_by_desc(activity_rule::Column::Id).limit(limit).all(db).await?;
    Ok(rows.into_iter().map(Rule::from).collect())
}
