//! The schema: every step can be taken, taken back and taken again, on both databases, and what the steps make is what
//! the entities say.

use std::collections::{BTreeMap, BTreeSet};

use followpoints::db::Db;
use migration::{Migrator, MigratorTrait as _};
use sea_orm::sea_query::ColumnType;
use sea_orm::{
    ColumnTrait, ConnectOptions, ConnectionTrait as _, Database, DatabaseConnection, EntityTrait,
    IdenStatic as _, Iterable as _, PrimaryKeyToColumn as _, QueryResult, Statement,
};
use tempfile::TempDir;

use crate::support::{Backend, postgres};

/// The framework's own table, which remembers the steps taken.
const STEPS_TABLE: &str = "seaql_migrations";

/// A database without a schema, removed at the end.
struct EmptyDatabase {
    url: String,
    backend: Backend,
    _dir: Option<TempDir>,
    _postgres: Option<postgres::Database>,
}

impl EmptyDatabase {
    fn new(backend: Backend) -> Option<Self> {
        match backend {
            Backend::Sqlite => {
                let dir = tempfile::tempdir().unwrap();
                let url = format!("sqlite://{}/test.db?mode=rwc", dir.path().display());
                Some(Self { url, backend, _dir: Some(dir), _postgres: None })
            }
            Backend::Postgres => {
                let database = postgres::create_empty_database()?;
                Some(Self { url: database.url.clone(), backend, _dir: None, _postgres: Some(database) })
            }
        }
    }

    async fn connect(&self) -> DatabaseConnection {
        let mut options = ConnectOptions::new(&self.url);
        options.max_connections(1).sqlx_logging(false);
        Database::connect(options).await.unwrap()
    }
}

/// Tables that lie by account in the database, where their rows are looked up, while the entities call each row by its id.
const KEYED_BY_ACCOUNT: [&str; 2] = ["followed_channel", "ledger_entry"];

/// A column: its type in the words of the database, whether it may be absent, its place in the primary key from 1, or 0.
type Column = (String, bool, i64);
/// Columns by table and name.
type Tables = BTreeMap<String, BTreeMap<String, Column>>;

async fn query(connection: &DatabaseConnection, sql: &str) -> Vec<QueryResult> {
    let statement = Statement::from_string(connection.get_database_backend(), sql);
    connection.query_all_raw(statement).await.unwrap()
}

fn text(row: &QueryResult, column: &str) -> String {
    row.try_get("", column).unwrap()
}

/// What the database holds besides the framework's table.
async fn migrated(connection: &DatabaseConnection, backend: Backend) -> Tables {
    let sql = match backend {
        Backend::Sqlite => {
            "SELECT m.name AS t, c.name AS c, lower(c.type) AS kind, \
             CASE WHEN c.\"notnull\" = 0 AND c.pk = 0 THEN 'YES' ELSE 'NO' END AS absent, c.pk AS key \
             FROM sqlite_master m JOIN pragma_table_info(m.name) c WHERE m.type = 'table'"
        }
        Backend::Postgres => {
            "SELECT c.table_name::text AS t, c.column_name::text AS c, c.data_type::text AS kind, \
             c.is_nullable::text AS absent, COALESCE(( \
               SELECT k.ordinal_position::bigint FROM information_schema.table_constraints p \
               JOIN information_schema.key_column_usage k USING (constraint_schema, constraint_name) \
               WHERE p.constraint_type = 'PRIMARY KEY' AND p.table_name = c.table_name \
               AND k.column_name = c.column_name), 0::bigint) AS key \
             FROM information_schema.columns c WHERE c.table_schema = 'public' \
             AND NOT (SELECT relispartition FROM pg_class WHERE oid = format('%I', c.table_name)::regclass)"
        }
    };
    let mut tables = Tables::new();
    for row in query(connection, sql).await {
        let column = (text(&row, "kind"), text(&row, "absent") == "YES", row.try_get("", "key").unwrap());
        tables.entry(text(&row, "t")).or_default().insert(text(&row, "c"), column);
    }
    tables.remove(STEPS_TABLE);
    tables
}

/// What an entity says of its table.
fn described<E: EntityTrait>(tables: &mut Tables, backend: Backend) {
    let key: Vec<String> = E::PrimaryKey::iter().map(|key| key.into_column().as_str().to_owned()).collect();
    let columns = E::Column::iter()
        .map(|column| {
            let (name, definition) = (column.as_str().to_owned(), column.def());
            let place =
                key.iter().position(|key| *key == name).map_or(0, |place| i64::try_from(place).unwrap() + 1);
            let kind = kind(definition.get_column_type(), backend).to_owned();
            (name, (kind, definition.is_null(), place))
        })
        .collect();
    tables.insert(E::default().table_name().to_owned(), columns);
}

fn kind(column_type: &ColumnType, backend: Backend) -> &'static str {
    match (column_type, backend) {
        (ColumnType::Uuid | ColumnType::VarBinary(_) | ColumnType::Blob, Backend::Sqlite) => "blob",
        (ColumnType::Uuid, Backend::Postgres) => "uuid",
        (ColumnType::VarBinary(_) | ColumnType::Blob, Backend::Postgres) => "bytea",
        (ColumnType::String(_) | ColumnType::Text | ColumnType::Enum { .. }, _) => "text",
        (ColumnType::BigInteger, _) => "bigint",
        (ColumnType::Integer, _) => "integer",
        (ColumnType::Boolean, _) => "boolean",
        (other, _) => panic!("the schema has no {other:?}"),
    }
}

/// Every entity there is, as `every_table_has_its_entity` makes sure.
fn all_described(backend: Backend) -> Tables {
    let mut tables = Tables::new();
    macro_rules! describe {
        ($($entity:ident)+) => { $(described::<entity::$entity::Entity>(&mut tables, backend);)+ };
    }
    describe!(
        account activity activity_award activity_rule api_key app app_instance app_key app_secret attempt connection
        connection_invitation deletion_request delivery direct_reply endpoint event follow_change followed_channel handle_claim
        instance_key item
        ledger_entry link_code member member_handle member_login member_profile node oauth_client person program raw_delivery
        refresh_token replay retention signed_event site site_channel subscription subscription_secret tracked_hashtag
        trusted_issuer
    );
    tables
}

async fn up_down_up(backend: Backend) {
    let Some(database) = EmptyDatabase::new(backend) else { return };
    let connection = database.connect().await;
    let steps = u32::try_from(Migrator::migrations().len()).unwrap();

    Migrator::up(&connection, None).await.unwrap();
    let first = migrated(&connection, backend).await;
    // Back one by one: each step undoes exactly what it did.
    for _ in 0..steps {
        Migrator::down(&connection, Some(1)).await.unwrap();
    }
    assert_eq!(migrated(&connection, backend).await, Tables::new());
    assert_eq!(leftovers(&connection, backend).await, Vec::<String>::new());

    for taken in 1..=steps {
        Migrator::up(&connection, Some(1)).await.unwrap();
        let applied = Migrator::get_applied_migrations(&connection).await.unwrap();
        assert_eq!(applied.len(), taken as usize);
    }
    assert_eq!(migrated(&connection, backend).await, first);
    Migrator::up(&connection, None).await.unwrap();
    assert_eq!(migrated(&connection, backend).await, first);
    connection.close().await.unwrap();
}

/// Triggers, indices and functions that outlived their table.
async fn leftovers(connection: &DatabaseConnection, backend: Backend) -> Vec<String> {
    let sql = match backend {
        Backend::Sqlite => {
            "SELECT name FROM sqlite_master WHERE tbl_name <> 'seaql_migrations' AND name NOT LIKE 'sqlite_%'"
        }
        Backend::Postgres => {
            "SELECT p.proname::text AS name FROM pg_proc p JOIN pg_namespace n ON n.oid = p.pronamespace \
             WHERE n.nspname = 'public'"
        }
    };
    query(connection, sql).await.iter().map(|row| text(row, "name")).collect()
}

#[tokio::test]
async fn every_step_goes_up_down_and_up_on_sqlite() {
    up_down_up(Backend::Sqlite).await;
}

#[tokio::test]
async fn every_step_goes_up_down_and_up_on_postgres() {
    up_down_up(Backend::Postgres).await;
}

async fn migrated_is_described(backend: Backend) {
    let Some(database) = EmptyDatabase::new(backend) else { return };
    Db::prepare(&database.url).await.unwrap();
    let connection = database.connect().await;

    let migrated = migrated(&connection, backend).await;
    let described = all_described(backend);

    assert_eq!(migrated.keys().collect::<Vec<_>>(), described.keys().collect::<Vec<_>>());
    for (table, columns) in described {
        if KEYED_BY_ACCOUNT.contains(&table.as_str()) {
            assert_eq!(migrated[&table]["account_id"].2, 1);
            assert_eq!(without_keys(&migrated[&table]), without_keys(&columns), "table {table}");
        } else {
            assert_eq!(migrated[&table], columns, "table {table}");
        }
    }
    connection.close().await.unwrap();
}

fn without_keys(columns: &BTreeMap<String, Column>) -> BTreeMap<&str, (&str, bool)> {
    columns.iter().map(|(name, (kind, absent, _))| (name.as_str(), (kind.as_str(), *absent))).collect()
}

#[tokio::test]
async fn the_migrated_schema_is_what_the_entities_say_on_sqlite() {
    migrated_is_described(Backend::Sqlite).await;
}

#[tokio::test]
async fn the_migrated_schema_is_what_the_entities_say_on_postgres() {
    migrated_is_described(Backend::Postgres).await;
}

/// Whatever language the database sorts by: keys are found by what they begin with.
#[tokio::test]
async fn every_text_on_postgres_is_compared_byte_by_byte() {
    let Some(database) = EmptyDatabase::new(Backend::Postgres) else { return };
    Db::prepare(&database.url).await.unwrap();
    let connection = database.connect().await;
    let sql = format!(
        "SELECT c.relname || '.' || a.attname AS name FROM pg_attribute a JOIN pg_class c ON c.oid = a.attrelid \
         JOIN pg_collation l ON l.oid = a.attcollation WHERE c.relnamespace = 'public'::regnamespace \
         AND c.relkind IN ('r', 'p') AND c.relname <> '{STEPS_TABLE}' AND a.attnum > 0 AND l.collname <> 'C'"
    );
    let otherwise: Vec<String> = query(&connection, &sql).await.iter().map(|row| text(row, "name")).collect();
    assert_eq!(otherwise, Vec::<String>::new());
    connection.close().await.unwrap();
}

#[test]
fn every_table_has_its_entity() {
    let folder = std::fs::read_dir(concat!(env!("CARGO_MANIFEST_DIR"), "/entity/src")).unwrap();
    let files: BTreeSet<String> = folder
        .map(|file| file.unwrap().path().file_stem().unwrap().to_str().unwrap().to_owned())
        .filter(|name| !["lib", "id", "kinds"].contains(&name.as_str()))
        .collect();
    assert_eq!(files, all_described(Backend::Sqlite).into_keys().collect());
}

/// A step that fails half-way, because something of its name is in the way, leaves nothing behind and can be taken
/// again.
async fn failing_step(backend: Backend) {
    let Some(database) = EmptyDatabase::new(backend) else { return };
    let connection = database.connect().await;
    assert!(Migrator::migrations().iter().all(|step| step.use_transaction() == Some(true)));
    // `attempt` is the last table that is made.
    connection.execute_unprepared("CREATE TABLE attempt (id integer)").await.unwrap();

    Db::prepare(&database.url).await.unwrap_err();

    let stopped_at = migrated(&connection, backend).await;
    assert_eq!(stopped_at["attempt"].keys().collect::<Vec<_>>(), ["id"]);
    for table in ["app", "subscription", "event", "delivery"] {
        assert!(!stopped_at.contains_key(table), "{table} was left behind");
    }
    connection.execute_unprepared("DROP TABLE attempt").await.unwrap();
    Db::prepare(&database.url).await.unwrap();
    assert_eq!(migrated(&connection, backend).await.len(), all_described(backend).len());
    connection.close().await.unwrap();
}

#[tokio::test]
async fn a_step_that_fails_leaves_nothing_behind_on_sqlite() {
    failing_step(Backend::Sqlite).await;
}

#[tokio::test]
async fn a_step_that_fails_leaves_nothing_behind_on_postgres() {
    failing_step(Backend::Postgres).await;
}

/// SQLite has one process; on PostgreSQL every node migrates when it starts.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nodes_that_start_together_on_an_empty_postgres_all_find_it_migrated() {
    let Some(database) = EmptyDatabase::new(Backend::Postgres) else { return };
    assert_eq!(database.backend, Backend::Postgres);

    let nodes = (0..4).map(|_| Db::prepare(&database.url));
    let prepared = futures_util::future::join_all(nodes).await;

    let failures: Vec<String> =
        prepared.into_iter().filter_map(|node| node.err().map(|error| error.to_string())).collect();
    assert_eq!(failures, Vec::<String>::new());
    let connection = database.connect().await;
    assert_eq!(migrated(&connection, Backend::Postgres).await.len(), all_described(Backend::Postgres).len());
    connection.close().await.unwrap();
}
