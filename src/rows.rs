//! Many rows as one statement parameter: the shape that lets a handful of statements serve a whole batch.
//!
//! A [`Rows`] is a small table held in memory. In SQL it is a derived table named by the caller: on PostgreSQL an
//! `UNNEST` over one array per column, on SQLite `VALUES` of one of a few fixed lengths. So the SQL text hardly ever depends
//! on the number of rows, and prepared statements are reused. What is the same in every row is one parameter.

use std::fmt::Write as _;

use sea_orm::sea_query::{ArrayType, Value};
use sea_orm::{ConnectionTrait, DatabaseBackend, DbErr, QueryResult, Statement};
use uuid::Uuid;

enum Cells {
    Bytes(Vec<Vec<u8>>),
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
            Self::Bytes(cells) => ("bytea", array(ArrayType::Bytes, cells), None),
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
            Self::Bytes(cells) => Self::Bytes(cells.split_off(at)),
            Self::Uuid(cells) => Self::Uuid(cells.split_off(at)),
            Self::Int(cells) => Self::Int(cells.split_off(at)),
            Self::Text(cells) => Self::Text(cells.split_off(at)),
            Self::UuidOrNull(cells) => Self::UuidOrNull(cells.split_off(at)),
            Self::IntOrNull(cells) => Self::IntOrNull(cells.split_off(at)),
            Self::TextOrNull(cells) => Self::TextOrNull(cells.split_off(at)),
        }
    }

    /// Puts the cells into `values`, `width` apart, from `first` on.
    fn spread(self, values: &mut [Value], first: usize, width: usize) {
        fn put<C: Into<Value>>(cells: Vec<C>, values: &mut [Value], first: usize, width: usize) {
            for (place, cell) in values.iter_mut().skip(first).step_by(width).zip(cells) {
                *place = cell.into();
            }
        }
        match self {
            Self::Bytes(cells) => put(cells, values, first, width),
            Self::Uuid(cells) => put(cells, values, first, width),
            Self::Int(cells) => put(cells, values, first, width),
            Self::Text(cells) => put(cells, values, first, width),
            Self::UuidOrNull(cells) => put(cells, values, first, width),
            Self::IntOrNull(cells) => put(cells, values, first, width),
            Self::TextOrNull(cells) => put(cells, values, first, width),
        }
    }
}

/// A table in memory, built column by column from a slice.
pub struct Rows<'a, T> {
    items: &'a [T],
    table: Table,
}

#[derive(Default)]
struct Table {
    columns: Vec<(&'static str, Cells)>,
    /// Columns with the same cell in every row: name, PostgreSQL's type, cell.
    constants: Vec<(&'static str, &'static str, Value)>,
    len: usize,
}

/// A statement over a [`Rows`] that writes, to be run alone or together with others by [`write_all`].
pub struct Write {
    sql: String,
    table: Table,
}

/// Runs `writes` in one round trip; those without rows are left out. None of them may build on what another writes:
/// PostgreSQL runs them as one statement, SQLite one after the other in no particular order.
pub async fn write_all(db: &impl ConnectionTrait, writes: Vec<Write>) -> Result<(), DbErr> {
    let writes: Vec<Write> = writes.into_iter().filter(|write| write.table.len > 0).collect();
    if writes.is_empty() {
        return Ok(());
    }
    match db.get_database_backend() {
        DatabaseBackend::Postgres => write_at_once(db, writes).await,
        _ => write_in_turn(db, writes).await,
    }
}

/// On SQLite as one command of several statements, each over at most [`PART_MAX`] rows: a statement over many parameters
/// costs memory for as long as it is kept prepared.
async fn write_in_turn(db: &impl ConnectionTrait, writes: Vec<Write>) -> Result<(), DbErr> {
    let (mut text, mut values) = (String::new(), Vec::new());
    for Write { sql, mut table } in writes {
        while table.len > PART_MAX {
            let rest = table.split_off(PART_MAX);
            db.execute_raw(table.statement(DatabaseBackend::Sqlite, &sql, &[])).await?;
            table = rest;
        }
        text.push_str(&table.in_order(&sql, &[], &mut values));
        text.push_str(";\n");
    }
    db.execute_raw(Statement::from_sql_and_values(DatabaseBackend::Sqlite, text, values)).await?;
    Ok(())
}

async fn write_at_once(db: &impl ConnectionTrait, mut writes: Vec<Write>) -> Result<(), DbErr> {
    let Some(last) = writes.pop() else { return Ok(()) };
    let (mut text, mut values) = (String::new(), Vec::new());
    for (index, write) in writes.into_iter().enumerate() {
        text.push_str(if index == 0 { "WITH " } else { ", " });
        let _ = write!(text, "w{index} AS ({})", write.table.numbered(&write.sql, &[], &mut values));
    }
    if !text.is_empty() {
        text.push(' ');
    }
    text.push_str(&last.table.numbered(&last.sql, &[], &mut values));
    db.execute_raw(Statement::from_sql_and_values(DatabaseBackend::Postgres, text, values)).await?;
    Ok(())
}

impl<'a, T> Rows<'a, T> {
    /// A table with one row per item and no columns yet.
    #[must_use]
    pub const fn new(items: &'a [T]) -> Self {
        Self { items, table: Table { columns: Vec::new(), constants: Vec::new(), len: items.len() } }
    }

    /// Adds a column of byte strings.
    #[must_use]
    pub fn bytes(self, name: &'static str, cell: impl Fn(&'a T) -> Vec<u8>) -> Self {
        self.add(name, |items| Cells::Bytes(items.iter().map(cell).collect()))
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

    /// Adds a column with the same id in every row.
    #[must_use]
    pub fn same_uuid(self, name: &'static str, cell: Uuid) -> Self {
        self.add_constant(name, "uuid", cell)
    }

    /// Adds a column with the same integer in every row.
    #[must_use]
    pub fn same_int(self, name: &'static str, cell: i64) -> Self {
        self.add_constant(name, "bigint", cell)
    }

    /// Adds a column with the same text in every row.
    #[must_use]
    pub fn same_text(self, name: &'static str, cell: &str) -> Self {
        self.add_constant(name, "text", cell)
    }

    fn add_constant(mut self, name: &'static str, ty: &'static str, cell: impl Into<Value>) -> Self {
        self.table.constants.push((name, ty, cell.into()));
        self
    }

    fn add(mut self, name: &'static str, cells: impl FnOnce(&'a [T]) -> Cells) -> Self {
        self.table.columns.push((name, cells(self.items)));
        self
    }

    /// To insert every row into `table`, whose columns have the names given here. `tail` is appended, for example
    /// ` ON CONFLICT DO NOTHING`.
    #[must_use]
    pub fn insert(self, table: &str, tail: &str) -> Write {
        let names = self.table.names().collect::<Vec<_>>().join(", ");
        // SQLite reads `SELECT … FROM r ON CONFLICT` as a join condition; `WHERE true` ends the select.
        let sql = format!("INSERT INTO {table} ({names}) SELECT {names} FROM {{rows}} AS r WHERE true{tail}");
        Write { sql, table: self.table }
    }

    /// To run `sql`, in which `{rows}` stands for this table, or for a part of it at a time.
    #[must_use]
    pub fn write(self, sql: &str) -> Write {
        Write { sql: sql.to_owned(), table: self.table }
    }

    /// Runs the query `sql`, in which `{rows}` stands for this table.
    pub async fn query(self, db: &impl ConnectionTrait, sql: &str) -> Result<Vec<QueryResult>, DbErr> {
        self.query_with(db, sql, &[]).await
    }

    /// Runs the query `sql`; `{1}`, `{2}` … stand for `more`.
    pub async fn query_with(
        self,
        db: &impl ConnectionTrait,
        sql: &str,
        more: &[Value],
    ) -> Result<Vec<QueryResult>, DbErr> {
        db.query_all_raw(self.table.statement(db.get_database_backend(), sql, more)).await
    }
}

impl Table {
    fn names(&self) -> impl Iterator<Item = &'static str> {
        let columns = self.columns.iter().map(|(name, _)| *name);
        columns.chain(self.constants.iter().map(|(name, ..)| *name))
    }

    fn split_off(&mut self, at: usize) -> Self {
        let columns = self.columns.iter_mut().map(|(name, cells)| (*name, cells.split_off(at))).collect();
        let rest = Self { columns, constants: self.constants.clone(), len: self.len - at };
        self.len = at;
        rest
    }

    fn statement(self, backend: DatabaseBackend, sql: &str, more: &[Value]) -> Statement {
        let mut values = Vec::new();
        let text = match backend {
            DatabaseBackend::Postgres => self.numbered(sql, more, &mut values),
            _ => self.in_order(sql, more, &mut values),
        };
        Statement::from_sql_and_values(backend, text, values)
    }

    /// PostgreSQL numbers its parameters: the arrays first, then `more`.
    fn numbered(self, sql: &str, more: &[Value], values: &mut Vec<Value>) -> String {
        let source = self.unnest(values);
        let mut text = sql.replacen("{rows}", &source, 1);
        for (index, value) in more.iter().enumerate() {
            values.push(value.clone());
            text = text.replace(&format!("{{{}}}", index + 1), &format!("${}", values.len()));
        }
        text
    }

    /// SQLite gets its parameters in the order of the text. They could be numbered there too, but a number is a name to
    /// it, and the driver looks every name up in a list of all.
    fn in_order(self, sql: &str, more: &[Value], values: &mut Vec<Value>) -> String {
        let (source, cells) = self.values();
        let mut cells = Some(cells);
        let mut text = String::with_capacity(sql.len() + source.len());
        let mut parts = sql.split('{');
        text.push_str(parts.next().unwrap_or_default());
        for part in parts {
            let (name, rest) = part.split_once('}').unwrap_or((part, ""));
            if name == "rows" {
                text.push_str(&source);
                values.extend(cells.take().into_iter().flatten());
            } else {
                text.push('?');
                let index = name.parse::<usize>().ok().and_then(|number| number.checked_sub(1));
                values.extend(index.and_then(|index| more.get(index)).cloned());
            }
            text.push_str(rest);
        }
        text
    }

    fn unnest(self, values: &mut Vec<Value>) -> String {
        let (mut select, mut names, mut casts) = (String::new(), String::new(), String::new());
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
        for (name, ty, cell) in self.constants {
            values.push(cell);
            let _ = write!(select, ", ${}::{ty} AS {name}", values.len());
        }
        format!("(SELECT {select} FROM UNNEST({casts}) AS u ({names}))")
    }

    /// SQLite: a table of parameters, filled up with NULL to the next of a few sizes, so that a few texts serve every number
    /// of rows. The first column says which rows are real; it may not have absent cells.
    ///
    /// `LIMIT` tells the planner how small the table is. It takes `VALUES` for billions of rows otherwise, and reads the
    /// other side of a join from end to end.
    fn values(self) -> (String, Vec<Value>) {
        let rows = self.len;
        let padded = SIZES.into_iter().find(|size| *size >= rows).unwrap_or(rows);
        let mut select = String::new();
        for (index, (name, _)) in self.columns.iter().enumerate() {
            let comma = if index == 0 { "" } else { ", " };
            let _ = write!(select, "{comma}column{} AS {name}", index + 1);
        }
        let width = self.columns.len();
        let before = self.constants.len();
        let mut values = vec![Value::Int(None); before + padded * width];
        for (place, (name, _, cell)) in values.iter_mut().zip(self.constants) {
            *place = cell;
            let _ = write!(select, ", ? AS {name}");
        }
        for (index, (_, cells)) in self.columns.into_iter().enumerate() {
            cells.spread(&mut values, before + index, width);
        }
        let row = format!("({}?),", "?,".repeat(width.saturating_sub(1)));
        let table = row.repeat(padded);
        let table = table.trim_end_matches(',');
        let source =
            format!("(SELECT {select} FROM (VALUES {table}) WHERE column1 IS NOT NULL LIMIT {padded})");
        (source, values)
    }
}

/// Numbers of rows that have a text of their own on SQLite.
const SIZES: [usize; 4] = [1, 8, PART_MAX, 256];
/// Rows that one statement writes on SQLite.
const PART_MAX: usize = 64;

#[cfg(test)]
mod tests {
    use sea_orm::Database;

    use super::*;

    async fn table() -> Result<sea_orm::DatabaseConnection, DbErr> {
        let db = Database::connect("sqlite::memory:").await?;
        db.execute_unprepared("CREATE TABLE t (id blob PRIMARY KEY, n bigint NOT NULL, s text)").await?;
        Ok(db)
    }

    fn items(count: i64) -> Vec<(Uuid, i64)> {
        (0..count).map(|index| (Uuid::from_u64_pair(1, index.unsigned_abs()), index)).collect()
    }

    fn rows(items: &[(Uuid, i64)]) -> Rows<'_, (Uuid, i64)> {
        Rows::new(items)
            .uuid("id", |(id, _)| *id)
            .int("n", |(_, n)| *n)
            .text_or_null("s", |(_, n)| (n % 2 == 0).then(|| n.to_string()))
    }

    #[tokio::test]
    async fn every_row_is_written_and_read_whatever_their_number() -> Result<(), DbErr> {
        for count in [0, 1, 2, 8, 9, 63, 64, 65, 200, 256, 257, 700] {
            let db = table().await?;
            let items = items(count);
            write_all(&db, vec![rows(&items).insert("t", "")]).await?;
            let sql = "SELECT t.n, t.s FROM {rows} r JOIN t ON t.id = r.id WHERE t.n >= {2} AND t.n < {1} \
                       AND {1} > {2} ORDER BY t.n";
            let (from, to) = (1_i64, 650_i64);
            let found = rows(&items).query_with(&db, sql, &[to.into(), from.into()]).await?;
            let found: Vec<(i64, Option<String>)> = found
                .iter()
                .map(|row| Ok((row.try_get("", "n")?, row.try_get("", "s")?)))
                .collect::<Result<_, DbErr>>()?;
            let expected: Vec<_> =
                (from..to.min(count)).map(|n| (n, (n % 2 == 0).then(|| n.to_string()))).collect();
            assert_eq!(found, expected, "{count} rows");
            let update = "UPDATE t SET n = r.n + 1000 FROM {rows} AS r WHERE t.id = r.id";
            write_all(&db, vec![rows(&items).write(update)]).await?;
            let changed = db.query_all_raw(Statement::from_string(
                DatabaseBackend::Sqlite,
                "SELECT n FROM t WHERE n >= 1000",
            ));
            assert_eq!(changed.await?.len(), items.len());
        }
        Ok(())
    }

    #[tokio::test]
    async fn the_database_looks_each_row_up_rather_than_read_the_whole_table() -> Result<(), DbErr> {
        let db = table().await?;
        for count in [1, 8, 40, 100, 500] {
            let items = items(count);
            for sql in [
                "EXPLAIN QUERY PLAN SELECT t.n FROM {rows} r JOIN t ON t.id = r.id",
                "EXPLAIN QUERY PLAN UPDATE t SET n = r.n FROM {rows} AS r WHERE t.id = r.id AND t.n = r.n",
            ] {
                let plan = rows(&items).query(&db, sql).await?;
                let plan: Vec<String> =
                    plan.iter().map(|row| row.try_get("", "detail")).collect::<Result<_, _>>()?;
                assert!(plan.iter().any(|step| step.starts_with("SEARCH t ")), "{count} rows: {plan:?}");
                assert!(!plan.iter().any(|step| step.starts_with("SCAN t")), "{count} rows: {plan:?}");
            }
        }
        Ok(())
    }
}
