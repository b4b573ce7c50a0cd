//! Subscriptions in bulk, with their endpoints and deliveries that wait, written past the service.

use std::ops::Range;

use uuid::Uuid;

use super::database::Database;
use super::fill::{START_MS, Thing, literal, series};

/// Resends of a delivery, five seconds apart.
const RESENDS: usize = 100;
/// When deliveries are due that are not yet: a year after the run, in milliseconds.
const LATER_MS: i64 = START_MS + 3 * 31_536_000_000;
const EVENT: &str = "wix.loyalty.socialmedia.v1.followed_channel_created";

/// What is written.
pub(crate) struct Fleet<'a> {
    /// Their numbers.
    pub(crate) numbers: Range<i64>,
    /// On how many sites they are; they are spread evenly.
    pub(crate) sites: i64,
    /// Where their events go, in turn.
    pub(crate) urls: [&'a str; 2],
    /// Each has one delivery that waits. That of every so manieth is due, the others' come later.
    pub(crate) due_every: i64,
}

/// The app and its installation that all belong to.
pub(crate) struct Owner {
    pub(crate) app: Uuid,
    pub(crate) instance: Uuid,
}

/// Writes it all; some event must be there already, and is copied.
pub(crate) fn add(database: &Database, owner: &Owner, fleet: &Fleet<'_>) {
    let kind = database.kind;
    let (numbers, sites) = (series(kind, &fleet.numbers), series(kind, &(0..fleet.sites)));
    let place = format!("(n % {})", fleet.sites);
    let (site, event) = (Thing::Site.sql(kind, &place), Thing::Event.sql(kind, &place));
    let (subscription, delivery) = (Thing::Subscription.sql(kind, "n"), Thing::Delivery.sql(kind, "n"));
    let delays = vec!["5"; RESENDS].join(",");
    let [one, other] = fleet.urls;
    let due = format!("CASE n % {} WHEN 0 THEN {START_MS} ELSE {LATER_MS} END", fleet.due_every);
    database.execute(&[
        format!(
            "INSERT INTO site (id, name, config_version, settings_revision, auth_revision, created_at, updated_at) \
             SELECT {id}, 'Site ' || n, 1, 1, 1, {START_MS}, {START_MS} FROM {sites}",
            id = Thing::Site.sql(kind, "n"),
        ),
        format!(
            "INSERT INTO event (site_id, id, event_type, entity_id, account_id, sequence, data, identity, occurred_at) \
             SELECT {site}, {id}, event_type, entity_id, account_id, sequence, data, identity, occurred_at \
             FROM (SELECT * FROM event LIMIT 1) AS t, {sites}",
            site = Thing::Site.sql(kind, "n"),
            id = Thing::Event.sql(kind, "n"),
        ),
        format!(
            "INSERT INTO subscription (id, site_id, app_id, app_instance_id, url, event_types, status, timeout_ms, \
             in_flight_max, revision, created_at, updated_at, retry_profile, retry_delays) \
             SELECT {subscription}, {site}, {app}, {instance}, CASE n % 2 WHEN 0 THEN '{one}' ELSE '{other}' END, \
             '[\"{EVENT}\"]', 'ENABLED', 1250, 8, 1, {START_MS}, {START_MS}, 'CUSTOM', '[{delays}]' FROM {numbers}",
            app = literal(kind, owner.app),
            instance = literal(kind, owner.instance),
        ),
        format!(
            "INSERT INTO delivery (site_id, id, subscription_id, event_id, status, attempt_count, schedule_step, \
             next_attempt_at, created_at) \
             SELECT {site}, {delivery}, {subscription}, {event}, 'PENDING', 0, 0, {due}, {START_MS} FROM {numbers}",
        ),
        format!(
            "INSERT INTO endpoint (subscription_id, site_id, fence, due_at, is_ordered, warned_percent) \
             SELECT {subscription}, {site}, 0, {due}, false, 0 FROM {numbers}",
        ),
    ]);
}
