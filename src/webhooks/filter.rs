//! Filters: which events of its types a subscription wants, by what they say.

use entity::kinds::Channel;
use serde::{Deserialize, Serialize};
use serde_json::Value;

/// What an event must say. An event that says nothing of the matter passes.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Filter {
    /// The channel of a follow, or the platform of an activity, is one of these; any, if there are none.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub channels: Vec<Channel>,
    /// The account's balance after the event, or the points of an activity, are at least this.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub points_min: Option<i64>,
    /// The account's balance after the event, or the points of an activity, are at most this.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub points_max: Option<i64>,
}

impl Filter {
    /// Whether every event passes.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.channels.is_empty() && self.points_min.is_none() && self.points_max.is_none()
    }

    /// Whether no number of points passes.
    #[must_use]
    pub fn is_impossible(&self) -> bool {
        self.points_min.zip(self.points_max).is_some_and(|(min, max)| min > max)
    }

    /// Whether the event with this JSON text passes.
    #[must_use]
    pub fn passes(&self, data: &str) -> bool {
        if self.is_empty() {
            return true;
        }
        let event: Value = serde_json::from_str(data).unwrap_or_default();
        let account = ["/createdEvent/entity", "/updatedEvent/currentEntity", "/actionEvent/body/account"];
        // A follow has a channel, an activity the platform of the same name.
        let channel = ["channel", "platform"].iter().find_map(|name| {
            let place = format!("/createdEvent/entity/{name}");
            event.pointer(&place).and_then(Value::as_str).and_then(Channel::parse)
        });
        // An account has points with a balance, an activity points that it earned.
        let points = account.iter().find_map(|place| {
            let points = event.pointer(&format!("{place}/points"))?;
            points.as_i64().or_else(|| points.get("balance").and_then(Value::as_i64))
        });
        let channel_passes =
            channel.is_none_or(|channel| self.channels.is_empty() || self.channels.contains(&channel));
        let points_pass = points.is_none_or(|points| {
            self.points_min.is_none_or(|min| points >= min) && self.points_max.is_none_or(|max| points <= max)
        });
        channel_passes && points_pass
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const FOLLOW: &str = r#"{"createdEvent":{"entity":{"channel":"X","accountId":"a"}}}"#;
    const POINTS: &str = r#"{"actionEvent":{"body":{"account":{"points":{"balance":50}}}}}"#;
    const ACTIVITY: &str = r#"{"createdEvent":{"entity":{"platform":"TIKTOK","points":50}}}"#;
    const UPDATED: &str = r#"{"updatedEvent":{"currentEntity":{"points":{"balance":50}}}}"#;

    #[test]
    fn a_filter_looks_at_what_an_event_says_and_lets_the_rest_pass() {
        let x = Filter { channels: vec![Channel::X], ..Filter::default() };
        let tiktok = Filter { channels: vec![Channel::Tiktok], ..Filter::default() };
        let events = [FOLLOW, POINTS, UPDATED, ACTIVITY];
        assert_eq!(events.map(|event| x.passes(event)), [true, true, true, false]);
        assert_eq!(events.map(|event| tiktok.passes(event)), [false, true, true, true]);
        for (min, max, passes) in [
            (None, Some(50), true),
            (None, Some(49), false),
            (Some(50), None, true),
            (Some(51), None, false),
            (Some(50), Some(50), true),
        ] {
            let range = Filter { points_min: min, points_max: max, ..Filter::default() };
            assert_eq!(events.map(|event| range.passes(event)), [true, passes, passes, passes]);
        }
        assert!(Filter::default().passes("no JSON"));
    }
}
