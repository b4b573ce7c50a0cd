//! Many rows as one statement parameter: the shape that lets a handful of statements serve a whole batch.
//!
//! A [`Rows`] is a small table held in memory. In SQL it is a derived table named by the caller: on PostgreSQL an
//! `UNNEST` over one array per column, on SQLite `VALUES` of one of a few fixed lengths. So the SQL text hardly ever depends
//! on the number of rows, and prepared statements are reused.

use std::collections::HashMap;
use std::fmt::Write as _;
use std::sync::{Arc, LazyLock, PoisonError, RwLock};

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

    fn split_off(&mut self, at: usize) -> Self {
        match self {
            Self::Uuid(cells) => Self::Uuid(cells.split_off(at)),
            Self::Int(cells) => Self::Int(cells.split_off(at)),
            Self::Text(cells) => Self::Text(cells.split_off(at)),
            Self::UuidOrNull(cells) => Self::UuidOrNull(cells.split_off(at)),
            Self::IntOrNull(cells) => Self::IntOrNull(cells.split_off(at)),
            Self::TextOrNull(cells) => Self::TextOrNull(cells.split_off(at)),
        }
    }

    fn into_values(self) -> Box<dyn Iterator<Item = Value> + Send> {
        match self {
            Self::Uuid(cells) => Box::new(cells.into_iter().map(Value::from)),
            Self::Int(cells) => Box::new(cells.into_iter().map(Value::from)),
            Self::Text(cells) => Box::new(cells.into_iter().map(Value::from)),
            Self::UuidOrNull(cells) => Box::new(cells.into_iter().map(Value::from)),
            Self::IntOrNull(cells) => Box::new(cells.into_iter().map(Value::from)),
            Self::TextOrNull(cells) => Box::new(cells.into_iter().map(Value::from)),
        }
    }
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
    pub async fn insert(mut self, db: &impl ConnectionTrait, table: &str, tail: &str) -> Result<(), DbErr> {
        let names = self.columns.iter().map(|(name, _)| *name).collect::<Vec<_>>().join(", ");
        // SQLite reads `SELECT … FROM r ON CONFLICT` as a join condition; `WHERE true` ends the select.
        let sql = format!("INSERT INTO {table} ({names}) SELECT {names} FROM {{rows}} AS r WHERE true{tail}");
        while self.items.len() > ROWS_MAX {
            let rest = self.split_off(ROWS_MAX);
            self.execute(db, &sql).await?;
            self = rest;
        }
        self.execute(db, &sql).await?;
        Ok(())
    }

    fn split_off(&mut self, at: usize) -> Self {
        let (items, rest) = self.items.split_at(at);
        self.items = items;
        let columns = self.columns.iter_mut().map(|(name, cells)| (*name, cells.split_off(at))).collect();
        Self { items: rest, columns }
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
            _ => self.values(),
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

    /// SQLite: a table of parameters, filled up with NULL to the next of a few sizes, so that a few texts serve every number
    /// of rows. The first column says which rows are real; it may not have absent cells.
    fn values(self) -> (String, Vec<Value>) {
        let rows = self.items.len();
        let padded = SIZES.into_iter().find(|size| *size >= rows).unwrap_or(rows);
        let mut select = String::new();
        for (index, (name, _)) in self.columns.iter().enumerate() {
            let comma = if index == 0 { "" } else { ", " };
            let _ = write!(select, "{comma}column{} AS {name}", index + 1);
        }
        let width = self.columns.len();
        let mut columns: Vec<_> = self.columns.into_iter().map(|(_, cells)| cells.into_values()).collect();
        let mut values = Vec::with_capacity(padded * width + 4);
        for _ in 0..rows {
            values.extend(columns.iter_mut().filter_map(Iterator::next));
        }
        for _ in rows..padded {
            values.extend(std::iter::repeat_n(Value::Int(None), width));
        }
        let source = format!(
            "(SELECT {select} FROM (VALUES {}) WHERE column1 IS NOT NULL)",
            placeholders(width, padded)
        );
        (source, values)
    }
}

/// Numbers of rows that have a text of their own on SQLite.
const SIZES: [usize; 5] = [1, 8, 32, 128, ROWS_MAX];
/// Rows inserted by one statement; more would need more parameters than SQLite takes.
const ROWS_MAX: usize = 512;

/// `(?1, ?2), (?3, ?4) …`, remembered: writing it takes longer than sending it.
fn placeholders(width: usize, rows: usize) -> Arc<str> {
    type Texts = HashMap<(usize, usize), Arc<str>>;
    static TEXTS: LazyLock<RwLock<Texts>> = LazyLock::new(RwLock::default);
    if let Some(text) = TEXTS.read().unwrap_or_else(PoisonError::into_inner).get(&(width, rows)) {
        return Arc::clone(text);
    }
    let mut text = String::new();
    for row in 0..rows {
        text.push_str(if row == 0 { "(" } else { ", (" });
        for column in 0..width {
            let comma = if column == 0 { "" } else { ", " };
            let _ = write!(text, "{comma}?{}", row * width + column + 1);
        }
        text.push(')');
    }
    let text: Arc<str> = text.into();
    if rows <= ROWS_MAX {
        TEXTS.write().unwrap_or_else(PoisonError::into_inner).insert((width, rows), Arc::clone(&text));
    }
    text
}
