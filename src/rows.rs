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
    Uuid(Vec<Uuid>),
    UuidOrNull(Vec<Option<Uuid>>),
    Int(Vec<i64>),
    IntOrNull(Vec<Option<i64>>),
    Text(Vec<String>),
    TextOrNull(Vec<Option<String>>),
}

impl Cells {
    /// PostgreSQL's element type, the array, and for a column with absent cells which are present: the driver cannot put
    /// NULL into an array.
    fn into_array(self) -> (&'static str, Value, Option<Value>) {
        fn array<C: Into<Value>>(ty: ArrayType, cells: Vec<C>) -> Value {
            Value::Array(ty, Some(Box::new(cells.into_iter().map(Into::into).collect())))
        }
        fn split<C: Into<Value> + Default>(ty: ArrayType, cells: Vec<Option<C>>) -> (Value, Option<Value>) {
            let present = cells.iter().map(Option::is_some).collect();
            let cells = cells.into_iter().map(Option::unwrap_or_default).collect();
            (array(ty, cells), Some(array(ArrayType::Bool, present)))
        }
        match self {
            Self::Uuid(cells) => ("uuid", array(ArrayType::Uuid, cells), None),
            Self::Int(cells) => ("bigint", array(ArrayType::BigInt, cells), None),
            Self::Text(cells) => ("text", array(ArrayType::String, cells), None),
            Self::UuidOrNull(cells) => {
                let (cells, present) = split(ArrayType::Uuid, cells);
                ("uuid", cells, present)
            }
            Self::IntOrNull(cells) => {
                let (cells, present) = split(ArrayType::BigInt, cells);
                ("bigint", cells, present)
            }
            Self::TextOrNull(cells) => {
                let (cells, present) = split(ArrayType::String, cells);
                ("text", cells, present)
            }
        }
    }

    fn write_json(&self, json: &mut String, row: usize) {
        let written = match self {
            Self::Uuid(cells) => write!(json, "\"{}\"", cells[row].as_simple()),
            Self::Int(cells) => write!(json, "{}", cells[row]),
            Self::Text(cells) => write_text(json, &cells[row]),
            Self::UuidOrNull(cells) => match cells[row] {
                Some(id) => write!(json, "\"{}\"", id.as_simple()),
                None => json.write_str("null"),
            },
            Self::IntOrNull(cells) => match cells[row] {
                Some(number) => write!(json, "{number}"),
                None => json.write_str("null"),
            },
            Self::TextOrNull(cells) => match &cells[row] {
                Some(text) => write_text(json, text),
                None => json.write_str("null"),
            },
        };
        debug_assert!(written.is_ok(), "writing to a string cannot fail");
    }
}

fn write_text(json: &mut String, text: &str) -> std::fmt::Result {
    json.write_str(&serde_json::to_string(text).map_err(|_| std::fmt::Error)?)
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
        Self { items, columns: Vec::new() }
    }

    /// Adds a column of ids.
    #[must_use]
    pub fn uuid(self, name: &'static str, cell: impl Fn(&'a T) -> Uuid) -> Self {
        self.add(name, |items| Cells::Uuid(items.iter().map(cell).collect()))
    }

    /// Adds a column of ids, some absent.
    #[must_use]
    pub fn uuid_or_null(self, name: &'static str, cell: impl Fn(&'a T) -> Option<Uuid>) -> Self {
        self.add(name, |items| Cells::UuidOrNull(items.iter().map(cell).collect()))
    }

    /// Adds a column of integers.
    #[must_use]
    pub fn int(self, name: &'static str, cell: impl Fn(&'a T) -> i64) -> Self {
        self.add(name, |items| Cells::Int(items.iter().map(cell).collect()))
    }

    /// Adds a column of integers, some absent.
    #[must_use]
    pub fn int_or_null(self, name: &'static str, cell: impl Fn(&'a T) -> Option<i64>) -> Self {
        self.add(name, |items| Cells::IntOrNull(items.iter().map(cell).collect()))
    }

    /// Adds a column of texts.
    #[must_use]
    pub fn text<S: Into<String>>(self, name: &'static str, cell: impl Fn(&'a T) -> S) -> Self {
        self.add(name, |items| Cells::Text(items.iter().map(|item| cell(item).into()).collect()))
    }

    /// Adds a column of texts, some absent.
    #[must_use]
    pub fn text_or_null<S: Into<String>>(
        self,
        name: &'static str,
        cell: impl Fn(&'a T) -> Option<S>,
    ) -> Self {
        self.add(name, |items| {
            Cells::TextOrNull(items.iter().map(|item| cell(item).map(Into::into)).collect())
        })
    }

    fn add(mut self, name: &'static str, cells: impl FnOnce(&'a [T]) -> Cells) -> Self {
        self.columns.push((name, cells(self.items)));
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
        let names = self.columns.iter().map(|(name, _)| *name).collect::<Vec<_>>().join(", ");
        // SQLite reads `SELECT … FROM r ON CONFLICT` as a join condition; `WHERE true` ends the select.
        self.execute(
            db,
            &format!("INSERT INTO {table} ({names}) SELECT {names} FROM {{rows}} AS r WHERE true{tail}"),
        )
        .await
    }

    /// Runs `sql`, in which `{rows}` stands for this table.
    pub async fn execute(self, db: &impl ConnectionTrait, sql: &str) -> Result<ExecResult, DbErr> {
        db.execute_raw(self.statement(db.get_database_backend(), sql, Vec::new())).await
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
        db.query_all_raw(self.statement(db.get_database_backend(), sql, more)).await
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
            let sign = if backend == DatabaseBackend::Postgres { '$' } else { '?' };
            sql = sql.replace(&format!("{{{}}}", index + 1), &format!("{sign}{number}"));
        }
        Statement::from_sql_and_values(backend, sql, values)
    }

    fn unnest(self) -> (String, Vec<Value>) {
        let (mut select, mut names, mut casts) = (String::new(), String::new(), String::new());
        let mut values = Vec::with_capacity(self.columns.len());
        for (index, (name, cells)) in self.columns.into_iter().enumerate() {
            let comma = if index == 0 { "" } else { ", " };
            let (cast, array, present) = cells.into_array();
            values.push(array);
            let _ = write!(names, "{comma}{name}");
            let _ = write!(casts, "{comma}${}::{cast}[]", values.len());
            if let Some(present) = present {
                values.push(present);
                let _ = write!(names, ", has_{name}");
                let _ = write!(casts, ", ${}::boolean[]", values.len());
                let _ = write!(select, "{comma}CASE WHEN has_{name} THEN {name} END AS {name}");
            } else {
                let _ = write!(select, "{comma}{name}");
            }
        }
        (format!("(SELECT {select} FROM UNNEST({casts}) AS u ({names}))"), values)
    }

    fn json_each(self) -> (String, Vec<Value>) {
        let mut select = String::new();
        for (index, (name, cells)) in self.columns.iter().enumerate() {
            let comma = if index == 0 { "" } else { ", " };
            let _ = match cells {
                Cells::Uuid(_) | Cells::UuidOrNull(_) => {
                    write!(select, "{comma}unhex(value->>{index}) AS {name}")
                }
                _ => write!(select, "{comma}value->>{index} AS {name}"),
            };
        }
        let mut json = String::from("[");
        for row in 0..self.items.len() {
            json.push_str(if row == 0 { "[" } else { ",[" });
            for (index, (_, cells)) in self.columns.iter().enumerate() {
                if index > 0 {
                    json.push(',');
                }
                cells.write_json(&mut json, row);
            }
            json.push(']');
        }
        json.push(']');
        (format!("(SELECT {select} FROM json_each(?1))"), vec![json.into()])
    }
}
