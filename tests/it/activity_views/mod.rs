//! What owners and members see of social activities: the rules that reward them, the activities themselves, the inbox behind
//! them, the event about each, and how long all of it is kept.

mod events;
mod lists;
mod retention;
mod rules;

/// Where rules are.
const RULES: &str = "/admin/v1/activity-rules";
/// Where activities are.
const ACTIVITIES: &str = "/admin/v1/activities";
/// Where the inbox is.
const ITEMS: &str = "/admin/v1/source-items";
/// What the clock says at the beginning.
const AT: &str = "2024-08-01T11:51:41.431Z";
