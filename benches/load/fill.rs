//! Bulk filling with one statement per table. Ids look like the service's own: a time that grows, then a part that
//! tells apart.

use std::ops::Range;

use uuid::Uuid;

use super::database::{Database, Kind};
use super::service::POINTS;

/// The first instant in ids, in milliseconds: some time before any run.
pub(crate) const START_MS: i64 = 1_754_000_000_000;
/// The version nibble of a `UUIDv7` in the first half of an id.
pub(crate) const VERSION: i64 = 0x7000;
/// The variant bits in the second half.
const VARIANT: i64 = i64::MIN;

/// What an id names.
#[derive(Clone, Copy)]
pub(crate) enum Thing {
    Member = 1,
    Contact = 2,
    Account = 3,
    Follow = 4,
    Entry = 5,
    Site = 6,
    Subscription = 7,
    Event = 8,
    Delivery = 9,
}

impl Thing {
    /// The second half of the id of the thing with number 0.
    pub(crate) const fn low(self) -> i64 {
        VARIANT + ((self as i64) << 40)
    }

    /// The id of the thing with this number.
    pub(crate) fn id(self, number: i64) -> Uuid {
        let high = ((START_MS + number) << 16) | VERSION;
        Uuid::from_u64_pair(high.cast_unsigned(), (self.low() + number).cast_unsigned())
    }

    /// The same as an SQL expression over the integer expression `number`.
    pub(crate) fn sql(self, kind: Kind, number: &str) -> String {
        let (high, low) = (format!("(({START_MS} + {number}) << 16) | {VERSION}"), self.low());
        match kind {
            Kind::Sqlite => format!("unhex(printf('%016x%016x', {high}, {low} + {number}))"),
            Kind::Postgres => {
                format!("encode(int8send({high}) || int8send({low} + {number}), 'hex')::uuid")
            }
        }
    }
}

/// A site's id as a literal.
pub(crate) fn literal(kind: Kind, id: Uuid) -> String {
    match kind {
        Kind::Sqlite => format!("x'{}'", id.as_simple()),
        Kind::Postgres => format!("'{id}'::uuid"),
    }
}

/// The site's own id of the member with this number.
pub(crate) fn external_id(number: i64) -> String {
    format!("customer-{number}")
}

pub(crate) fn series(kind: Kind, numbers: &Range<i64>) -> String {
    let (first, end) = (numbers.start, numbers.end);
    match kind {
        Kind::Sqlite => format!(
            "(WITH RECURSIVE g(n) AS (SELECT {first} UNION ALL SELECT n + 1 FROM g WHERE n + 1 < {end}) \
             SELECT n FROM g) AS g"
        ),
        Kind::Postgres => format!("generate_series({first}::bigint, {end}::bigint - 1) AS g(n)"),
    }
}

/// Makes a site with nothing but its name, for baselines that run without the service.
pub(crate) fn add_site(database: &Database, site: Uuid) {
    let id = literal(database.kind, site);
    database.execute(&[format!(
        "INSERT INTO site (id, name, config_version, settings_revision, auth_revision, created_at, updated_at) \
         VALUES ({id}, 'Nordbrew', 3, 2, 2, {START_MS}, {START_MS})"
    )]);
}

/// Makes the members with `numbers`.
pub(crate) fn add_members(database: &Database, site: Uuid, numbers: &Range<i64>) {
    let kind = database.kind;
    database.execute(&[format!(
        "INSERT INTO member (id, site_id, external_id, email, name, contact_id, created_at, updated_at) \
         SELECT {member}, {site}, 'customer-' || n, 'customer-' || n || '@example.com', 'Customer ' || n, \
         {contact}, {START_MS} + n, {START_MS} + n FROM {series}",
        member = Thing::Member.sql(kind, "n"),
        contact = Thing::Contact.sql(kind, "n"),
        site = literal(kind, site),
        series = series(kind, numbers),
    )]);
}

/// Makes the accounts of members that exist, each of which follows `channels`, with its ledger.
pub(crate) fn add_accounts(database: &Database, site: Uuid, numbers: &Range<i64>, channels: &[&str]) {
    let kind = database.kind;
    let (site, series) = (literal(kind, site), series(kind, numbers));
    let account = Thing::Account.sql(kind, "n");
    let count = i64::try_from(channels.len()).unwrap_or(i64::MAX);
    let earned = POINTS * count;
    let mut statements = vec![format!(
        "INSERT INTO account (id, site_id, member_id, contact_id, balance, earned, adjusted, redeemed, expired, \
         revision, event_sequence, ledger_sequence, last_activity_at, created_at, updated_at) \
         SELECT {account}, {site}, {member}, {contact}, {earned}, {earned}, 0, 0, 0, \
         1 + {count}, 1 + 2 * {count}, {count}, {START_MS} + n, {START_MS} + n, {START_MS} + n FROM {series}",
        member = Thing::Member.sql(kind, "n"),
        contact = Thing::Contact.sql(kind, "n"),
    )];
    for (index, channel) in channels.iter().enumerate() {
        // Ids of one account's follows must differ too.
        let number = format!("(n * 8 + {index})");
        statements.push(format!(
            "INSERT INTO followed_channel (account_id, channel, id, site_id, source, evidence, created_at) \
             SELECT {account}, '{channel}', {id}, {site}, 'API', 'DECLARED', {START_MS} + n + {index} FROM {series}",
            id = Thing::Follow.sql(kind, &number),
        ));
        statements.push(format!(
            "INSERT INTO ledger_entry (account_id, sequence, id, site_id, amount, balance_after, entry_type, \
             description, channel, award_key, created_at) \
             SELECT {account}, {sequence}, {id}, {site}, {POINTS}, {POINTS} * {sequence}, 'EARN', \
             'Followed on {channel}', '{channel}', 'follow:{channel}', {START_MS} + n + {index} FROM {series}",
            sequence = index + 1,
            id = Thing::Entry.sql(kind, &number),
        ));
    }
    database.execute(&statements);
}
