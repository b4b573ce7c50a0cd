//! Admin API: the rules that reward activities.

use entity::id::{ActivityRuleId, Timestamp};
use poem_openapi::param::{Path, Query};
use poem_openapi::payload::Json;
use poem_openapi::types::MaybeUndefined;
use poem_openapi::{Object, OpenApi};
use serde_json::json;
use uuid::Uuid;

use super::names_api::{ActivityTypeName, MentionTypeName, PeriodName};
use super::rule_store::{self, Fault, RuleError, Terms, WORD_CHARS_MAX};
use super::rules::{Limits, PerMember, Requires, Rule};
use crate::app::App;
use crate::http::Tag;
use crate::http::auth::AdminCaller;
use crate::http::body::Body;
use crate::http::paging::{All, PageRequest, PagingMetadata};
use crate::http::problem::{Problem, Violation};
use crate::http::wire::{self, Empty, PlatformName};

/// The operations.
pub struct ActivityRulesApi {
    /// The running service.
    pub app: App,
}

/// How often a member may earn.
#[derive(Debug, Clone, Object)]
#[oai(rename = "ActivityRulePerMember")]
struct PerMemberJson {
    /// Awards …
    #[oai(validator(minimum(value = "1"), maximum(value = "1000000")))]
    count: u32,
    /// … within this time.
    every: PeriodName,
}

/// How much a rule may award in all.
#[derive(Debug, Clone, Object)]
#[oai(rename = "ActivityRuleTotal")]
struct TotalJson {
    /// Points.
    #[oai(validator(minimum(value = "1"), maximum(value = "1000000000000")))]
    points: i64,
}

/// How often and how much a rule awards.
#[derive(Debug, Clone, Object)]
#[oai(rename = "ActivityRuleLimits", rename_all = "camelCase", skip_serializing_if_is_none)]
struct LimitsJson {
    /// How often a member may earn; as often as they like if absent.
    per_member: Option<PerMemberJson>,
    /// How much it may award in all; without a limit if absent.
    total: Option<TotalJson>,
}

/// What must be so for an award.
#[derive(Debug, Clone, Object)]
#[oai(rename = "ActivityRuleRequires", rename_all = "camelCase", skip_serializing_if_is_none)]
struct RequiresJson {
    /// The member must have proven the handle; until then an activity is held.
    verified_handle: Option<bool>,
    /// The person must have so many followers. Where the platform does not tell, this is not met.
    #[oai(validator(minimum(value = "1"), maximum(value = "10000000000")))]
    followers_min: Option<i64>,
    /// All of these must be in the caption, message or comment, in whatever case; each up to 100 characters.
    #[oai(validator(max_items = 20))]
    caption_contains: Option<Vec<String>>,
}

/// What earns points for activities. What is optional and absent does not matter.
#[derive(Debug, Object)]
#[oai(rename_all = "camelCase", skip_serializing_if_is_none)]
struct ActivityRule {
    /// Its id.
    id: Uuid,
    /// Grows with every change, and awards name it; a number as text.
    revision: String,
    /// Which activities.
    #[oai(rename = "type")]
    kind: ActivityTypeName,
    /// On which platform.
    platform: Option<PlatformName>,
    /// How they mention the brand.
    mention_type: Option<MentionTypeName>,
    /// Points for one.
    points: i64,
    /// How often and how much.
    limits: Option<LimitsJson>,
    /// What must be so.
    requires: Option<RequiresJson>,
    /// Whether it counts.
    enabled: bool,
    /// Activities from this instant on.
    starts_at: Option<String>,
    /// Activities before this instant.
    ends_at: Option<String>,
    /// Points that it has awarded in all.
    awarded_points: i64,
    /// When it was made.
    created_date: String,
    /// When it last changed.
    updated_date: String,
}

impl From<Rule> for ActivityRule {
    fn from(Rule { row, limits, requires }: Rule) -> Self {
        let limits = (limits != Limits::default()).then(|| LimitsJson {
            per_member: limits
                .per_member
                .map(|limit| PerMemberJson { count: limit.count, every: limit.every.into() }),
            total: limits.total_points.map(|points| TotalJson { points }),
        });
        let requires = (requires != Requires::default()).then(|| RequiresJson {
            verified_handle: requires.verified_handle.then_some(true),
            followers_min: requires.followers_min,
            caption_contains: Some(requires.caption_contains).filter(|words| !words.is_empty()),
        });
        Self {
            id: row.id.0,
            revision: row.version.to_string(),
            kind: row.activity_type.into(),
            platform: row.platform.map(Into::into),
            mention_type: row.mention_type.map(Into::into),
            points: row.points,
            limits,
            requires,
            enabled: row.is_enabled,
            starts_at: row.starts_at.map(Timestamp::to_rfc3339),
            ends_at: row.ends_at.map(Timestamp::to_rfc3339),
            awarded_points: row.awarded_points,
            created_date: row.created_at.to_rfc3339(),
            updated_date: row.updated_at.to_rfc3339(),
        }
    }
}

/// A rule to make.
#[derive(Debug, Object)]
#[oai(rename_all = "camelCase")]
struct ActivityRuleInput {
    /// Which activities.
    #[oai(rename = "type")]
    kind: ActivityTypeName,
    /// On which platform; on any if absent.
    platform: Option<PlatformName>,
    /// With type `MENTIONED_YOU_SOCIAL`: how they mention the brand; in any way if absent.
    mention_type: Option<MentionTypeName>,
    /// Points for one.
    #[oai(validator(minimum(value = "1"), maximum(value = "9999999")))]
    points: i64,
    /// How often and how much; without a limit if absent. A thing earns once in any case.
    limits: Option<LimitsJson>,
    /// What must be so; nothing if absent.
    requires: Option<RequiresJson>,
    /// Whether it counts; `true` by default.
    enabled: Option<bool>,
    /// Activities from this instant on, RFC 3339.
    #[oai(validator(max_length = 40))]
    starts_at: Option<String>,
    /// Activities before this instant, RFC 3339.
    #[oai(validator(max_length = 40))]
    ends_at: Option<String>,
}

/// What is absent stays; `null` takes away what there is.
#[derive(Debug, Object)]
#[oai(rename_all = "camelCase")]
struct ActivityRuleLimitsUpdate {
    /// How often a member may earn.
    per_member: MaybeUndefined<PerMemberJson>,
    /// How much it may award in all.
    total: MaybeUndefined<TotalJson>,
}

/// What is absent stays; `null` takes away what there is.
#[derive(Debug, Object)]
#[oai(rename_all = "camelCase")]
struct ActivityRuleRequiresUpdate {
    /// The member must have proven the handle.
    verified_handle: MaybeUndefined<bool>,
    /// The person must have so many followers.
    #[oai(validator(minimum(value = "1"), maximum(value = "10000000000")))]
    followers_min: MaybeUndefined<i64>,
    /// All of these must be in the caption, message or comment; they take the place of those there are.
    #[oai(validator(max_items = 20))]
    caption_contains: MaybeUndefined<Vec<String>>,
}

/// What is absent stays; `null` takes away what there is.
#[derive(Debug, Object)]
#[oai(rename_all = "camelCase")]
struct ActivityRuleUpdate {
    /// The revision that was read; a newer one answers 409.
    #[oai(validator(max_length = 20))]
    revision: Option<String>,
    /// Which activities.
    #[oai(rename = "type")]
    kind: Option<ActivityTypeName>,
    /// On which platform.
    platform: MaybeUndefined<PlatformName>,
    /// With type `MENTIONED_YOU_SOCIAL`: how they mention the brand.
    mention_type: MaybeUndefined<MentionTypeName>,
    /// Points for one.
    #[oai(validator(minimum(value = "1"), maximum(value = "9999999")))]
    points: Option<i64>,
    /// How often and how much.
    limits: MaybeUndefined<ActivityRuleLimitsUpdate>,
    /// What must be so.
    requires: MaybeUndefined<ActivityRuleRequiresUpdate>,
    /// Whether it counts.
    enabled: Option<bool>,
    /// Activities from this instant on, RFC 3339.
    #[oai(validator(max_length = 40))]
    starts_at: MaybeUndefined<String>,
    /// Activities before this instant, RFC 3339.
    #[oai(validator(max_length = 40))]
    ends_at: MaybeUndefined<String>,
}

#[derive(Debug, Object)]
#[oai(rename_all = "camelCase")]
struct CreateActivityRuleRequest {
    activity_rule: ActivityRuleInput,
}

#[derive(Debug, Object)]
#[oai(rename_all = "camelCase")]
struct UpdateActivityRuleRequest {
    activity_rule: ActivityRuleUpdate,
}

#[derive(Debug, Object)]
#[oai(rename_all = "camelCase")]
struct ActivityRuleResponse {
    activity_rule: ActivityRule,
}

impl From<Rule> for ActivityRuleResponse {
    fn from(rule: Rule) -> Self {
        Self { activity_rule: rule.into() }
    }
}

#[derive(Debug, Object)]
#[oai(rename_all = "camelCase")]
struct ListActivityRulesResponse {
    activity_rules: Vec<ActivityRule>,
    paging_metadata: PagingMetadata,
}

impl From<PerMemberJson> for PerMember {
    fn from(json: PerMemberJson) -> Self {
        Self { count: json.count, every: json.every.into() }
    }
}

impl From<LimitsJson> for Limits {
    fn from(json: LimitsJson) -> Self {
        Self {
            per_member: json.per_member.map(Into::into),
            total_points: json.total.map(|total| total.points),
        }
    }
}

impl From<RequiresJson> for Requires {
    fn from(json: RequiresJson) -> Self {
        Self {
            verified_handle: json.verified_handle.unwrap_or(false),
            followers_min: json.followers_min,
            caption_contains: json.caption_contains.unwrap_or_default(),
        }
    }
}

/// Puts what `change` says into `place`.
fn put<T, U: From<T>>(place: &mut Option<U>, change: MaybeUndefined<T>) {
    match change {
        MaybeUndefined::Undefined => {}
        MaybeUndefined::Null => *place = None,
        MaybeUndefined::Value(value) => *place = Some(value.into()),
    }
}

/// What an update says of its optional dates.
fn date(text: MaybeUndefined<String>, field: &'static str) -> Result<MaybeUndefined<Timestamp>, Problem> {
    Ok(match text {
        MaybeUndefined::Undefined => MaybeUndefined::Undefined,
        MaybeUndefined::Null => MaybeUndefined::Null,
        MaybeUndefined::Value(text) => MaybeUndefined::Value(wire::instant(&text, field)?),
    })
}

impl ActivityRuleLimitsUpdate {
    fn apply(self, limits: &mut Limits) {
        put(&mut limits.per_member, self.per_member);
        match self.total {
            MaybeUndefined::Undefined => {}
            MaybeUndefined::Null => limits.total_points = None,
            MaybeUndefined::Value(total) => limits.total_points = Some(total.points),
        }
    }
}

impl ActivityRuleRequiresUpdate {
    fn apply(self, requires: &mut Requires) {
        if !self.verified_handle.is_undefined() {
            requires.verified_handle = self.verified_handle.take().unwrap_or(false);
        }
        put(&mut requires.followers_min, self.followers_min);
        if !self.caption_contains.is_undefined() {
            requires.caption_contains = self.caption_contains.take().unwrap_or_default();
        }
    }
}

const STARTS_AT: &str = "activityRule.startsAt";
const ENDS_AT: &str = "activityRule.endsAt";

impl ActivityRuleInput {
    fn terms(self) -> Result<Terms, Problem> {
        let date = |text: Option<String>, field| text.map(|text| wire::instant(&text, field)).transpose();
        Ok(Terms {
            kind: self.kind.into(),
            platform: self.platform.map(Into::into),
            mention_type: self.mention_type.map(Into::into),
            points: self.points,
            limits: self.limits.map(Into::into).unwrap_or_default(),
            requires: self.requires.map(Into::into).unwrap_or_default(),
            is_enabled: self.enabled.unwrap_or(true),
            starts_at: date(self.starts_at, STARTS_AT)?,
            ends_at: date(self.ends_at, ENDS_AT)?,
        })
    }
}

impl ActivityRuleUpdate {
    /// What it makes of the terms of a rule.
    fn change(self) -> Result<impl FnOnce(&mut Terms), Problem> {
        let starts_at = date(self.starts_at, STARTS_AT)?;
        let ends_at = date(self.ends_at, ENDS_AT)?;
        Ok(move |terms: &mut Terms| {
            terms.kind = self.kind.map_or(terms.kind, Into::into);
            put(&mut terms.platform, self.platform);
            put(&mut terms.mention_type, self.mention_type);
            terms.points = self.points.unwrap_or(terms.points);
            match self.limits {
                MaybeUndefined::Undefined => {}
                MaybeUndefined::Null => terms.limits = Limits::default(),
                MaybeUndefined::Value(limits) => limits.apply(&mut terms.limits),
            }
            match self.requires {
                MaybeUndefined::Undefined => {}
                MaybeUndefined::Null => terms.requires = Requires::default(),
                MaybeUndefined::Value(requires) => requires.apply(&mut terms.requires),
            }
            terms.is_enabled = self.enabled.unwrap_or(terms.is_enabled);
            put(&mut terms.starts_at, starts_at);
            put(&mut terms.ends_at, ends_at);
        })
    }
}

#[OpenApi(prefix_path = "/admin/v1", tag = "Tag::Sources")]
impl ActivityRulesApi {
    /// Create an activity rule
    ///
    /// It counts for what is recorded from now on. A thing earns once by the same rule, however often the platform tells of it.
    #[oai(path = "/activity-rules", method = "post", operation_id = "createActivityRule")]
    async fn create_activity_rule(
        &self,
        caller: AdminCaller,
        body: Body<CreateActivityRuleRequest>,
    ) -> Result<Json<ActivityRuleResponse>, Problem> {
        let site = caller.site()?;
        let terms = body.0.activity_rule.terms()?;
        let tx = self.app.db.write().await?;
        let rule = rule_store::create_rule(&tx, site, terms).await?;
        tx.commit().await?;
        Ok(Json(rule.into()))
    }

    /// List activity rules
    ///
    /// Newest first.
    #[oai(path = "/activity-rules", method = "get", operation_id = "listActivityRules")]
    async fn list_activity_rules(
        &self,
        caller: AdminCaller,
        /// Where to go on.
        cursor: Query<Option<String>>,
        /// Items of a page, 1 to 100.
        limit: Query<Option<u32>>,
    ) -> Result<Json<ListActivityRulesResponse>, Problem> {
        let site = caller.site()?;
        let page =
            PageRequest::new(cursor.0.as_deref(), limit.0, All::<ListActivityRulesResponse>::default())?;
        let before = page.after.map(ActivityRuleId);
        let rules = rule_store::list_rules(self.app.db.read(), site, before, page.rows()).await?;
        let (rules, paging_metadata) = page.finish(rules, |rule| rule.row.id.0);
        let activity_rules = rules.into_iter().map(ActivityRule::from).collect();
        Ok(Json(ListActivityRulesResponse { activity_rules, paging_metadata }))
    }

    /// Get an activity rule
    #[oai(path = "/activity-rules/:id", method = "get", operation_id = "getActivityRule")]
    async fn get_activity_rule(
        &self,
        caller: AdminCaller,
        /// The rule.
        id: Path<Uuid>,
    ) -> Result<Json<ActivityRuleResponse>, Problem> {
        let found = rule_store::find_rule(self.app.db.read(), caller.site()?, ActivityRuleId(id.0)).await?;
        Ok(Json(found.ok_or(RuleError::NotFound)?.into()))
    }

    /// Update an activity rule
    ///
    /// It counts for what is recorded from now on; what was awarded stays.
    #[oai(path = "/activity-rules/:id", method = "patch", operation_id = "updateActivityRule")]
    async fn update_activity_rule(
        &self,
        caller: AdminCaller,
        /// The rule.
        id: Path<Uuid>,
        body: Body<UpdateActivityRuleRequest>,
    ) -> Result<Json<ActivityRuleResponse>, Problem> {
        let whose = (caller.site()?, ActivityRuleId(id.0));
        let update = body.0.activity_rule;
        let revision = wire::revision(update.revision.as_deref(), "activityRule.revision")?;
        let change = update.change()?;
        let tx = self.app.db.write().await?;
        let rule = rule_store::change_rule(&tx, whose, revision, change).await?;
        tx.commit().await?;
        Ok(Json(rule.into()))
    }

    /// Delete an activity rule
    ///
    /// What it has awarded stays, and still names it.
    #[oai(path = "/activity-rules/:id", method = "delete", operation_id = "deleteActivityRule")]
    async fn delete_activity_rule(
        &self,
        caller: AdminCaller,
        /// The rule.
        id: Path<Uuid>,
    ) -> Result<Json<Empty>, Problem> {
        let site = caller.site()?;
        let tx = self.app.db.write().await?;
        rule_store::delete_rule(&tx, site, ActivityRuleId(id.0)).await?;
        tx.commit().await?;
        Ok(Json(Empty {}))
    }
}

impl From<Fault> for Violation {
    fn from(fault: Fault) -> Self {
        let word = |index: usize| format!("activityRule.requires.captionContains[{index}]");
        let text = fault.to_string();
        match fault {
            Fault::MentionType => Self::new("activityRule.mentionType", "FORMAT", text),
            Fault::Ends => Self::new(ENDS_AT, "FORMAT", text),
            Fault::EmptyWord(index) => Self::new(word(index), "REQUIRED_FIELD", text),
            Fault::LongWord(index) => {
                Self::new(word(index), "MAX_LENGTH", text).with(json!({"threshold": WORD_CHARS_MAX}))
            }
        }
    }
}

impl From<RuleError> for Problem {
    fn from(error: RuleError) -> Self {
        let text = error.to_string();
        match error {
            RuleError::NotFound => Self::not_found("ACTIVITY_RULE_NOT_FOUND", text),
            RuleError::StaleRevision => Self::stale_revision(),
            RuleError::TooMany => Self::precondition("TOO_MANY_ACTIVITY_RULES", text),
            RuleError::Terms(faults) => Self::validation(faults.into_iter().map(Violation::from).collect()),
            RuleError::Encode(cause) => Self::internal(cause),
            RuleError::Store(cause) => Self::from(cause),
        }
    }
}
