//! What earns points for activities: rules with limits and requirements.

use entity::activity_rule;
use entity::id::Timestamp;
use entity::kinds::{ActivityType, MentionType, Platform};
use serde::{Deserialize, Serialize};

/// The time within which a member's awards are counted. They are counted backwards from each award, so that no midnight lets somebody earn
/// twice.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Period {
    /// An hour.
    #[serde(rename = "PT1H")]
    Hour,
    /// A day.
    #[serde(rename = "P1D")]
    Day,
    /// Seven days.
    #[serde(rename = "P7D")]
    Week,
    /// Thirty days.
    #[serde(rename = "P30D")]
    Month,
    /// 365 days.
    #[serde(rename = "P365D")]
    Year,
    /// For ever.
    #[serde(rename = "EVER")]
    Ever,
}

impl Period {
    /// Every period, in the order of the documentation.
    pub const ALL: [Self; 6] = [Self::Hour, Self::Day, Self::Week, Self::Month, Self::Year, Self::Ever];

    /// The word on the wire: ISO 8601, or `EVER`.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Hour => "PT1H",
            Self::Day => "P1D",
            Self::Week => "P7D",
            Self::Month => "P30D",
            Self::Year => "P365D",
            Self::Ever => "EVER",
        }
    }

    /// The period that `text` names.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|period| period.as_str() == text)
    }

    /// After which instant awards count towards the limit at `now`.
    #[must_use]
    pub const fn since(self, now: Timestamp) -> Timestamp {
        const HOUR: i64 = 3_600_000;
        let ms = match self {
            Self::Hour => HOUR,
            Self::Day => 24 * HOUR,
            Self::Week => 7 * 24 * HOUR,
            Self::Month => 30 * 24 * HOUR,
            Self::Year => 365 * 24 * HOUR,
            Self::Ever => return Timestamp(i64::MIN),
        };
        now.plus_ms(-ms)
    }
}

/// How often a member may earn.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct PerMember {
    /// Awards …
    pub count: u32,
    /// … within this time.
    pub every: Period,
}

/// How often and how much a rule awards.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Limits {
    /// How often a member may earn.
    pub per_member: Option<PerMember>,
    /// Points in all.
    pub total_points: Option<i64>,
}

/// What must be so for an award.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Requires {
    /// The member must have proven the handle.
    pub verified_handle: bool,
    /// The person must have so many followers.
    pub followers_min: Option<i64>,
    /// All of these must be in the caption, the message or the comment, in whatever case.
    pub caption_contains: Vec<String>,
}

/// A rule, read.
#[derive(Debug, Clone)]
pub struct Rule {
    /// As it is stored.
    pub row: activity_rule::Model,
    /// Its limits.
    pub limits: Limits,
    /// Its requirements.
    pub requires: Requires,
}

/// What a rule looks at.
#[derive(Debug, Clone, Copy)]
pub struct Candidate<'a> {
    /// What was done.
    pub kind: ActivityType,
    /// Where.
    pub platform: Platform,
    /// How it mentions the brand.
    pub mention_type: Option<MentionType>,
    /// When it was done.
    pub occurred_at: Timestamp,
    /// The caption, message or comment.
    pub text: &'a str,
    /// Followers of the person, as far as they are known.
    pub followers: Option<i64>,
    /// Whether the member has proven the handle.
    pub is_verified: bool,
}

/// What a rule says to an activity.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verdict {
    /// It is not meant.
    NotMeant,
    /// It is meant, and something is missing that can still come.
    Held(String),
    /// It is meant and does not meet a requirement.
    Refused(String),
    /// It earns, if the limits allow it.
    Earns,
}

impl From<activity_rule::Model> for Rule {
    fn from(row: activity_rule::Model) -> Self {
        let limits = serde_json::from_str(&row.limits).unwrap_or_default();
        let requires = serde_json::from_str(&row.requires).unwrap_or_default();
        Self { row, limits, requires }
    }
}

impl Rule {
    /// What the rule says to `candidate`, limits aside.
    #[must_use]
    pub fn judge(&self, candidate: &Candidate<'_>) -> Verdict {
        let row = &self.row;
        let is_meant = row.is_enabled
            && row.activity_type == candidate.kind
            && row.platform.is_none_or(|platform| platform == candidate.platform)
            && (row.mention_type.is_none() || row.mention_type == candidate.mention_type)
            && row.starts_at.is_none_or(|start| start <= candidate.occurred_at)
            && row.ends_at.is_none_or(|end| candidate.occurred_at < end);
        if !is_meant {
            return Verdict::NotMeant;
        }
        if let Some(missing) = self.missing_text(candidate.text) {
            return Verdict::Refused(format!("the text does not contain {missing}"));
        }
        if let Some(least) = self.requires.followers_min {
            match candidate.followers {
                Some(followers) if followers >= least => {}
                Some(followers) => {
                    return Verdict::Refused(format!("{followers} followers, {least} are required"));
                }
                None => {
                    return Verdict::Refused(format!(
                        "the number of followers is not known, {least} are required"
                    ));
                }
            }
        }
        if self.requires.verified_handle && !candidate.is_verified {
            return Verdict::Held("the member has not proven the handle yet".to_owned());
        }
        Verdict::Earns
    }

    fn missing_text(&self, text: &str) -> Option<&str> {
        let text = text.to_lowercase();
        self.requires
            .caption_contains
            .iter()
            .find(|wanted| !text.contains(&wanted.to_lowercase()))
            .map(String::as_str)
    }
}

#[cfg(test)]
mod tests {
    use entity::id::{ActivityRuleId, SiteId};
    use uuid::Uuid;

    use super::*;

    fn rule(requires: Requires) -> Rule {
        let row = activity_rule::Model {
            id: ActivityRuleId(Uuid::nil()),
            site_id: SiteId(Uuid::nil()),
            version: 1,
            activity_type: ActivityType::MentionedYou,
            platform: Some(Platform::Instagram),
            mention_type: Some(MentionType::Tag),
            points: 25,
            limits: String::new(),
            requires: String::new(),
            is_enabled: true,
            starts_at: Some(Timestamp(100)),
            ends_at: Some(Timestamp(200)),
            awarded_points: 0,
            created_at: Timestamp(0),
            updated_at: Timestamp(0),
        };
        Rule { row, limits: Limits::default(), requires }
    }

    const TAG: Candidate<'static> = Candidate {
        kind: ActivityType::MentionedYou,
        platform: Platform::Instagram,
        mention_type: Some(MentionType::Tag),
        occurred_at: Timestamp(100),
        text: "New mug day #NordBrew",
        followers: None,
        is_verified: false,
    };

    #[test]
    fn a_rule_means_what_it_names_while_it_runs() {
        let rule = rule(Requires::default());
        assert_eq!(rule.judge(&TAG), Verdict::Earns);
        for other in [
            Candidate { kind: ActivityType::DmYou, ..TAG },
            Candidate { platform: Platform::Tiktok, ..TAG },
            Candidate { mention_type: Some(MentionType::Mention), ..TAG },
            Candidate { mention_type: None, ..TAG },
            Candidate { occurred_at: Timestamp(99), ..TAG },
            Candidate { occurred_at: Timestamp(200), ..TAG },
        ] {
            assert_eq!(rule.judge(&other), Verdict::NotMeant, "{other:?}");
        }
    }

    #[test]
    fn requirements_hold_refuse_or_let_pass() {
        let wants_text =
            rule(Requires { caption_contains: vec!["#nordbrew".to_owned()], ..Requires::default() });
        assert_eq!(wants_text.judge(&TAG), Verdict::Earns);
        assert!(matches!(wants_text.judge(&Candidate { text: "mug", ..TAG }), Verdict::Refused(_)));
        let wants_followers = rule(Requires { followers_min: Some(1_000), ..Requires::default() });
        assert!(matches!(wants_followers.judge(&TAG), Verdict::Refused(_)), "absent is not matched");
        assert!(matches!(
            wants_followers.judge(&Candidate { followers: Some(999), ..TAG }),
            Verdict::Refused(_)
        ));
        assert_eq!(wants_followers.judge(&Candidate { followers: Some(1_000), ..TAG }), Verdict::Earns);
        let wants_proof = rule(Requires { verified_handle: true, ..Requires::default() });
        assert!(matches!(wants_proof.judge(&TAG), Verdict::Held(_)));
        assert_eq!(wants_proof.judge(&Candidate { is_verified: true, ..TAG }), Verdict::Earns);
    }
}
