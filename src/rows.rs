//! Many rows as one statement parameter: the shape that lets a handful of statements serve a whole batch.
//!
//! A [`Rows`] is a small table held in memory. In SQL it is a derived table named by the caller: on PostgreSQL an
//! `UNNEST` over one array per column, on SQLite a `json_each` over one JSON text. The SQL text depends only on the
//! columns, never on the number of rows, so prepared statements are reused.

use std::fmt::Write as _;

use sea_orm::sea_query::{ArrayType, Value};
use sea_orm::{ConnectionTrait, DatabaseBackend, DbErr, ExecResult, QueryResult, Statement};
use uuid::Uuid;

enum Cells {
    Uuid(Vec<Option<Uuid>>),
    Int(Vec<Option<i64>>),
    Text(Vec<Option<String>>),
}

/// A table in memory, built column by column from a slice.
pub struct Rows<'a, T> {
    items: &'a [T],
    columns: Vec<(&'static str, Cells)>,
}

impl<'a, T> Rows<'a, T> {
    /// A table with one row per item and no columns yet.
    #[must_use]
    pub const fn new(items: &'a [T]) -> Self {
        Self {
            items,
            columns: Vec::new(),
        }
    }

    /// Adds a column of ids.
    #[must_use]
    pub fn uuid(self, name: &'static str, cell: impl Fn(&'a T) -> Uuid) -> Self {
        self.uuid_or_null(name, |item| Some(cell(item)))
    }

    /// Adds a column of ids, some absent.
    #[must_use]
    pub fn uuid_or_null(mut self, name: &'static str, cell: impl Fn(&'a T) -> Option<Uuid>) -> Self {
        self.columns
            .push((name, Cells::Uuid(self.items.iter().map(cell).collect())));
        self
    }

    /// Adds a column of integers.
    #[must_use]
    pub fn int(self, name: &'static str, cell: impl Fn(&'a T) -> i64) -> Self {
        self.int_or_null(name, |item| Some(cell(item)))
    }

    /// Adds a column of integers, some absent.
    #[must_use]
    pub fn int_or_null(mut self, name: &'static str, cell: impl Fn(&'a T) -> Option<i64>) -> Self {
        self.columns
            .push((name, Cells::Int(self.items.iter().map(cell).collect())));
        self
    }

    /// Adds a column of texts.
    #[must_use]
    pub fn text<S: Into<String>>(self, name: &'static str, cell: impl Fn(&'a T) -> S) -> Self {
        self.text_or_null(name, |item| Some(cell(item)))
    }

    /// Adds a column of texts, some absent.
    #[must_use]
    pub fn text_or_null<S: Into<String>>(
        mut self,
        name: &'static str,
        cell: impl Fn(&'a T) -> Option<S>,
    ) -> Self {
        let cells = self.items.iter().map(|item| cell(item).map(Into::into)).collect();
        self.columns.push((name, Cells::Text(cells)));
        self
    }

    /// Inserts every row into `table`, whose columns have the names given here. `tail` is appended, for example
    /// ` ON CONFLICT DO NOTHING`.
    pub async fn insert(
        self,
        db: &impl ConnectionTrait,
        table: &str,
        tail: &str,
    ) -> Result<ExecResult, DbErr> {
        let names = self
            .columns
            .iter()
            .map(|(name, _)| *name)
            .collect::<Vec<_>>()
            .join(", ");
        // SQLite reads `SELECT … FROM r ON CONFLICT` as a join condition; `WHERE true` ends the select.
        self.execute(
            db,
            &format!("INSERT INTO {table} ({names}) SELECT {names} FROM {{rows}} AS r WHERE true{tail}"),
        )
        .await
    }

    /// Runs `sql`, in which `{rows}` stands for this table.
    pub async fn execute(self, db: &impl ConnectionTrait, sql: &str) -> Result<ExecResult, DbErr> {
        db.execute_raw(self.statement(db.get_database_backend(), sql, Vec::new()))
            .await
    }

    /// Runs the query `sql`, in which `{rows}` stands for this table.
    pub async fn query(self, db: &impl ConnectionTrait, sql: &str) -> Result<Vec<QueryResult>, DbErr> {
        self.query_with(db, sql, Vec::new()).await
    }

    /// Runs the query `sql`; `{1}`, `{2}` … stand for `more`.
    pub async fn query_with(
        self,
        db: &impl ConnectionTrait,
        sql: &str,
        more: Vec<Value>,
    ) -> Result<Vec<QueryResult>, DbErr> {
        db.query_all_raw(self.statement(db.get_database_backend(), sql, more))
            .await
    }

    fn statement(self, backend: DatabaseBackend, sql: &str, more: Vec<Value>) -> Statement {
        let (source, mut values) = match backend {
            DatabaseBackend::Postgres => self.unnest(),
            _ => self.json_each(),
        };
        let mut sql = sql.replacen("{rows}", &source, 1);
        for (index, value) in more.into_iter().enumerate() {
            values.push(value);
            // Both back ends number parameters, so a value may be named more than once.
            let number = values.len();
            let sign = if backend == DatabaseBackend::Postgres {
                '$'
            } else {
                '?'
            };
            sql = sql.replace(&format!("{{{}}}", index + 1), &format!("{sign}{number}"));
        }
        Statement::from_sql_and_values(backend, sql, values)
    }

    fn unnest(self) -> (String, Vec<Value>) {
        let mut names = String::new();
        let mut casts = String::new();
        let mut values = Vec::with_capacity(self.columns.len());
        for (index, (name, cells)) in self.columns.into_iter().enumerate() {
            let comma = if index == 0 { "" } else { ", " };
            let (cast, ty, array): (_, _, Vec<Value>) = match cells {
                Cells::Uuid(cells) => (
                    "uuid",
                    ArrayType::Uuid,
                    cells.into_iter().map(Value::from).collect(),
                ),
                Cells::Int(cells) => (
                    "bigint",
                    ArrayType::BigInt,
                    cells.into_iter().map(Value::from).collect(),
                ),
                Cells::Text(cells) => (
                    "text",
                    ArrayType::String,
                    cells.into_iter().map(Value::from).collect(),
                ),
            };
            let _ = write!(names, "{comma}{name}");
            let _ = write!(casts, "{comma}${}::{cast}[]", index + 1);
            values.push(Value::Array(ty, Some(Box::new(array))));
        }
        (format!("(SELECT * FROM UNNEST({casts}) AS u ({names}))"), values)
    }

    fn json_each(self) -> (String, Vec<Value>) {
        let mut select = String::new();
        for (index, (name, cells)) in self.columns.iter().enumerate() {
            let comma = if index == 0 { "" } else { ", " };
            let _ = match cells {
                Cells::Uuid(_) => write!(select, "{comma}unhex(value->>{index}) AS {name}"),
                Cells::Int(_) | Cells::Text(_) => write!(select, "{comma}value->>{index} AS {name}"),
            };
        }
        let mut json = String::from("[");
        for row in 0..self.items.len() {
            json.push_str(if row == 0 { "[" } else { ",[" });
            for (index, (_, cells)) in self.columns.iter().enumerate() {
                if index > 0 {
                    json.push(',');
                }
                write_cell(&mut json, cells, row);
            }
            json.push(']');
        }
        json.push(']');
        (format!("(SELECT {select} FROM json_each(?1))"), vec![json.into()])
    }
}

fn write_cell(json: &mut String, cells: &Cells, row: usize) {
    match cells {
        Cells::Uuid(cells) => match cells[row] {
            Some(id) => {
                let _ = write!(json, "\"{}\"", id.as_simple());
            }
            None => json.push_str("null"),
        },
        Cells::Int(cells) => match cells[row] {
            Some(number) => {
                let _ = write!(json, "{number}");
            }
            None => json.push_str("null"),
        },
        Cells::Text(cells) => match &cells[row] {
            Some(text) => json.push_str(&serde_json::Value::from(text.as_str()).to_string()),
            None => json.push_str("null"),
        },
    }
}
