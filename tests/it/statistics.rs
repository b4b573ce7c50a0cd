//! PostgreSQL is told of tables that have grown, so that plans made while they were empty are made anew.

use std::sync::Arc;

use followpoints::clock::SystemClock;
use followpoints::db::Db;
use followpoints::ids::RandomIds;
use sea_orm::{ConnectionTrait as _, DatabaseBackend, Statement};

use crate::support::process::{LOOK, WAIT};
use crate::support::{Backend, TestDatabase};

/// So many members of the site, from number `first` on.
fn members(first: u32, count: u32) -> String {
    let last = first + count - 1;
    format!(
        "INSERT INTO member (id, site_id, external_id, contact_id, created_at, updated_at) \
         SELECT gen_random_uuid(), '00000000-0000-7000-8000-000000000001', n::text, gen_random_uuid(), 0, 0 \
         FROM generate_series({first}, {last}) n"
    )
}

/// What PostgreSQL believes of the number of members.
async fn believed(db: &Db) -> i64 {
    let sql = "SELECT reltuples::bigint AS rows FROM pg_class WHERE oid = 'member'::regclass";
    let row = db.read().query_one_raw(Statement::from_string(DatabaseBackend::Postgres, sql)).await;
    row.unwrap().unwrap().try_get("", "rows").unwrap()
}

/// Waits until a look finds that tables have grown: what was written is counted a moment later.
async fn grown(db: &Db) -> Vec<String> {
    let mut looks = tokio::time::interval(LOOK);
    let found = async {
        loop {
            looks.tick().await;
            let names = db.analyze_what_has_grown().await.unwrap();
            if !names.is_empty() {
                return names;
            }
        }
    };
    tokio::time::timeout(WAIT, found).await.expect("the growth is noticed")
}

#[tokio::test]
async fn tables_are_analysed_when_they_have_grown_threefold_and_only_then() {
    let Some(database) = TestDatabase::new(Backend::Postgres).await else { return };
    let (clock, ids) = (Arc::<SystemClock>::default(), Arc::<RandomIds>::default());
    let db = Db::open_beside(&database.url, clock, ids).await.unwrap();
    let write = async |sql: &str| {
        db.read().execute_unprepared(sql).await.unwrap();
    };
    write(
        "INSERT INTO site (id, name, config_version, settings_revision, auth_revision, created_at, updated_at) \
         VALUES ('00000000-0000-7000-8000-000000000001', 'Site', 1, 1, 1, 0, 0)",
    )
    .await;

    write(&members(0, 1_001)).await;
    assert_eq!(grown(&db).await, ["public.member"]);
    assert_eq!(believed(&db).await, 1_001);
    write(&members(2_000, 3_003)).await;
    assert_eq!(grown(&db).await, ["public.member"]);
    assert_eq!(believed(&db).await, 4_004);
    assert_eq!(db.analyze_what_has_grown().await.unwrap(), [""; 0]);
    db.close().await.unwrap();
}
