//! Everything that the database holds, as text.

use followpoints::db::Db;
use sea_orm::{ConnectionTrait as _, DatabaseBackend, Statement};

/// Every row of every table: the table's name, a colon, the cells. Text is as it is, bytes are in hexadecimal.
pub async fn dump(db: &Db) -> Vec<String> {
    let mut rows = Vec::new();
    for table in names(db, tables(db.backend())).await {
        let cells = match db.backend() {
            DatabaseBackend::Postgres => "row_to_json(t)::text".to_owned(),
            _ => {
                let columns = names(db, &format!("SELECT name FROM pragma_table_info('{table}')")).await;
                columns.iter().map(|name| format!("quote(\"{name}\")")).collect::<Vec<_>>().join("||','||")
            }
        };
        for row in names(db, &format!("SELECT {cells} AS name FROM \"{table}\" t")).await {
            rows.push(format!("{table}: {row}"));
        }
    }
    rows.sort_unstable();
    rows
}

fn tables(backend: DatabaseBackend) -> &'static str {
    match backend {
        DatabaseBackend::Postgres => {
            "SELECT relname::text AS name FROM pg_class WHERE relnamespace = 'public'::regnamespace \
             AND relkind IN ('r', 'p') AND NOT relispartition"
        }
        _ => "SELECT name FROM sqlite_master WHERE type = 'table'",
    }
}

/// The column `name` of the query `sql`.
async fn names(db: &Db, sql: &str) -> Vec<String> {
    let rows = db.read().query_all_raw(Statement::from_string(db.backend(), sql)).await.unwrap();
    rows.iter().map(|row| row.try_get::<String>("", "name").unwrap()).collect()
}
