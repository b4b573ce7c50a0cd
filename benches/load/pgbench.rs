//! The other side on PostgreSQL: its own `pgbench` running the statements of one request, one transaction each.

use std::fmt::Write as _;
use std::ops::Range;
use std::process::Command;
use std::time::Duration;

use followpoints::clock::{Clock as _, SystemClock};
use uuid::Uuid;

use super::database::{Database, Kind, postgres_programs};
use super::event_rows::EventRow;
use super::fill::{START_MS, Thing, VERSION};
use super::service::POINTS;

/// Clients of pgbench.
pub(crate) const CLIENTS: i64 = 16;

/// The id whose halves are the variables `high` and `low` (plus `offset`).
fn id_sql(high: &str, low: &str, offset: i64) -> String {
    format!("encode(int8send(:{high}) || int8send(:{low}::bigint + {offset}), 'hex')::uuid")
}

/// One first follow of a member: the statements of the service's batch for one row. Whether the site's configuration is locked, as
/// the service does, can be chosen.
pub(crate) fn create_script(site: Uuid, events: &[EventRow], is_locked: bool) -> String {
    let member = id_sql("member_high", "member_low", 0);
    let id = |offset| id_sql("high", "low", offset);
    let now = START_MS;
    let (_, key) = site.as_u64_pair();
    let lock = if is_locked {
        format!("SELECT pg_advisory_xact_lock_shared({});\n", key.cast_signed())
    } else {
        String::new()
    };
    let mut script = String::new();
    let _ = write!(
        script,
        "\\set n :n + 1\n\
         \\set i :first + :client_id * :span + :n - 1\n\
         \\set member_high (({START_MS} + :i) << 16) | {VERSION}\n\
         \\set member_low {member_low} + :i\n\
         \\set high ((:ms + :n) << 16) | {VERSION}\n\
         \\set low {lowest} + random(0, {spread})\n\
         BEGIN;\n\
         {lock}\
         SELECT s.id, s.config_version FROM site s WHERE s.id = '{site}';\n\
         SELECT m.id AS found_member, m.site_id AS found_site, m.contact_id AS found_contact, a.* FROM member m \
         LEFT JOIN account a ON a.site_id = m.site_id AND a.member_id = m.id \
         WHERE m.site_id = '{site}' AND m.id = {member} \\gset m_\n\
         INSERT INTO account (id, site_id, member_id, contact_id, balance, earned, adjusted, redeemed, expired, \
         revision, event_sequence, ledger_sequence, last_activity_at, created_at, updated_at) VALUES \
         ({account}, '{site}', {member}, :m_found_contact, {POINTS}, {POINTS}, 0, 0, 0, 2, 3, 1, {now}, {now}, {now});\n\
         INSERT INTO followed_channel (id, site_id, account_id, channel, source, evidence, idempotency_key, created_at) \
         VALUES ({follow}, '{site}', {account}, 'X', 'API', 'DECLARED', NULL, {now});\n\
         INSERT INTO ledger_entry (id, site_id, account_id, sequence, amount, balance_after, entry_type, description, \
         channel, award_key, created_at) VALUES \
         ({entry}, '{site}', {account}, 1, {POINTS}, {POINTS}, 'EARN', 'Followed on X', 'X', 'follow' || ':' || 'X', {now});\n\
         INSERT INTO event (id, site_id, event_type, entity_id, account_id, sequence, data, identity, occurred_at) VALUES ",
        member_low = Thing::Member.low(),
        lowest = i64::MIN + 1,
        spread = i64::MAX / 2,
        account = id(0),
        follow = id(1),
        entry = id(2),
    );
    for (index, event) in (0_i64..).zip(events) {
        let _ = write!(
            script,
            "{comma}({id}, '{site}', '{kind}', {account}, {account}, {sequence}, '{data}', '{identity}', {now})",
            comma = if index == 0 { "" } else { ", " },
            id = id(3 + index),
            kind = event.kind,
            account = id(0),
            sequence = index + 1,
            data = quoted(&event.data),
            identity = quoted(&event.identity),
        );
    }
    script.push_str(";\nCOMMIT;\n");
    script
}

/// One list of a member's follows.
pub(crate) fn list_script(site: Uuid, members: &Range<i64>) -> String {
    format!(
        "\\set i random({first}, {last})\n\
         \\set member_high (({START_MS} + :i) << 16) | {VERSION}\n\
         \\set member_low {member_low} + :i\n\
         SELECT a.id AS subject_account, a.member_id AS subject_member, f.*, a.site_id AS subject_site \
         FROM account a LEFT JOIN followed_channel f ON f.account_id = a.id \
         WHERE a.site_id = '{site}' AND a.member_id = {member};\n",
        first = members.start,
        last = members.end - 1,
        member_low = Thing::Member.low(),
        member = id_sql("member_high", "member_low", 0),
    )
}

/// A text literal in which pgbench sees none of its variables.
fn quoted(text: &str) -> String {
    let mut quoted = String::with_capacity(text.len() + 16);
    let mut after_colon = false;
    for character in text.chars() {
        if after_colon && character.is_ascii_alphabetic() {
            quoted.push(' ');
        }
        after_colon = character == ':';
        quoted.push(character);
        if character == '\'' {
            quoted.push('\'');
        }
    }
    quoted
}

/// Runs `script` for `duration` and gives transactions a second. Each client has `span` numbers to itself from `first` on.
pub(crate) fn run(database: &Database, script: &str, duration: Duration, (first, span): (i64, i64)) -> f64 {
    assert!(database.kind == Kind::Postgres, "pgbench speaks to PostgreSQL");
    let path = database.dir().join("script.sql");
    std::fs::write(&path, script).expect("the script can be written");
    let out = Command::new(postgres_programs().join("pgbench"))
        .args(["-n", "-M", "prepared", "-c", &CLIENTS.to_string(), "-j", "2"])
        .args(["-T", &duration.as_secs().max(1).to_string()])
        .args(["-D", "n=0", "-D", &format!("ms={}", SystemClock::default().now().0)])
        .args(["-D", &format!("first={first}"), "-D", &format!("span={span}")])
        .arg("-f")
        .arg(&path)
        .arg(&database.url)
        .output()
        .expect("pgbench runs; it comes with PostgreSQL's contrib package");
    let text = String::from_utf8_lossy(&out.stdout);
    let errors = String::from_utf8_lossy(&out.stderr);
    assert!(out.status.success(), "pgbench failed: {errors}");
    let line = text.lines().find_map(|line| line.strip_prefix("tps = "));
    let figure = line.and_then(|line| line.split_whitespace().next()).and_then(|text| text.parse().ok());
    figure.unwrap_or_else(|| panic!("pgbench said: {text}{errors}"))
}
