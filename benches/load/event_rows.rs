//! What the service writes as events for one first follow, for baselines that write rows of the same content.

use super::database::Database;

/// One event's texts.
#[derive(Clone)]
pub(crate) struct EventRow {
    pub(crate) kind: String,
    pub(crate) data: String,
    pub(crate) identity: String,
}

/// The events that the database holds, oldest first.
pub(crate) fn read(database: &Database) -> Vec<EventRow> {
    let rows = database.query("SELECT event_type, data, identity FROM event ORDER BY id");
    rows.iter()
        .map(|row| {
            let text = |name: &str| row.try_get::<String>("", name).expect("a text");
            EventRow { kind: text("event_type"), data: text("data"), identity: text("identity") }
        })
        .collect()
}
