//! Pages: newest first, the cursor says where to go on and holds the filters, so that the next page needs the cursor alone.

use std::marker::PhantomData;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use poem_openapi::Object;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use serde_json::json;
use uuid::Uuid;

use super::problem::{Problem, Violation};

/// Items of a page unless the caller says otherwise.
pub const LIMIT_DEFAULT: u32 = 50;
/// Items of a page at the most.
pub const LIMIT_MAX: u32 = 100;
/// Characters of a cursor.
const CURSOR_MAX: usize = 16_000;

/// Where a list goes on.
#[derive(Debug, Object)]
#[oai(skip_serializing_if_is_none)]
pub struct Cursors {
    /// Give this as `cursor` to get the next page; absent on the last page.
    pub next: Option<String>,
}

/// How much of a list this is.
#[derive(Debug, Object)]
#[oai(rename_all = "camelCase")]
pub struct PagingMetadata {
    /// Items on this page.
    pub count: u32,
    /// Where it goes on.
    pub cursors: Cursors,
    /// Whether there is a next page.
    pub has_next: bool,
}

/// A page asked for: at most `limit` items after `after`, filtered by `filter`.
#[derive(Debug)]
pub struct PageRequest<F> {
    /// The last item of the page before.
    pub after: Option<Uuid>,
    /// Items wanted.
    pub limit: u32,
    /// What the first page was filtered by.
    pub filter: F,
}

impl<F: Serialize + DeserializeOwned> PageRequest<F> {
    /// Reads `cursor` and `limit`; the filter of the cursor, if there is one, takes the place of `filter`.
    pub fn new(cursor: Option<&str>, limit: Option<u32>, filter: F) -> Result<Self, Problem> {
        let limit = limit.unwrap_or(LIMIT_DEFAULT);
        if limit == 0 || limit > LIMIT_MAX {
            let rule = if limit == 0 { "MIN" } else { "MAX" };
            let violation = Violation::new("limit", rule, format!("is between 1 and {LIMIT_MAX}"));
            let threshold = if limit == 0 { 1 } else { LIMIT_MAX };
            return Err(Problem::validation(vec![violation.with(json!({"threshold": threshold}))]));
        }
        let Some(cursor) = cursor else {
            return Ok(Self { after: None, limit, filter });
        };
        let (after, filter) = decode(cursor)
            .ok_or_else(|| Problem::invalid("cursor", "FORMAT", "is not a cursor of this list"))?;
        Ok(Self { after: Some(after), limit, filter })
    }

    /// How many rows to read: one more than wanted tells whether there is a next page.
    #[must_use]
    pub const fn rows(&self) -> u64 {
        self.limit as u64 + 1
    }

    /// Cuts `rows` to the page and says how it goes on; `id` gives the key that the list is ordered by.
    pub fn finish<T>(&self, mut rows: Vec<T>, id: impl Fn(&T) -> Uuid) -> (Vec<T>, PagingMetadata) {
        let has_next = rows.len() > self.limit as usize;
        rows.truncate(self.limit as usize);
        let next = rows.last().filter(|_| has_next).and_then(|row| encode(id(row), &self.filter));
        let count = u32::try_from(rows.len()).unwrap_or(u32::MAX);
        (rows, PagingMetadata { count, has_next: next.is_some(), cursors: Cursors { next } })
    }
}

/// The filter of a list that has none; `T` is what it lists.
#[derive(Debug)]
pub struct All<T>(PhantomData<T>);

impl<T> Default for All<T> {
    fn default() -> Self {
        Self(PhantomData)
    }
}

impl<T> Serialize for All<T> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_unit()
    }
}

impl<'de, T> Deserialize<'de> for All<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        <()>::deserialize(deserializer).map(|()| Self::default())
    }
}

fn encode<F: Serialize>(after: Uuid, filter: &F) -> Option<String> {
    serde_json::to_vec(&(list::<F>(), after, filter)).ok().map(|json| URL_SAFE_NO_PAD.encode(json))
}

/// What tells the cursors of a list from those of others: the name of its filter.
fn list<F>() -> &'static str {
    let name = std::any::type_name::<F>();
    name.rsplit("::").next().unwrap_or(name)
}

fn decode<F: DeserializeOwned>(cursor: &str) -> Option<(Uuid, F)> {
    if cursor.len() > CURSOR_MAX {
        return None;
    }
    let json = String::from_utf8(URL_SAFE_NO_PAD.decode(cursor).ok()?).ok()?;
    // A made-up cursor may hold the character that PostgreSQL cannot take.
    if json.contains("\\u0000") {
        return None;
    }
    let (name, after, filter): (String, Uuid, F) = serde_json::from_str(&json).ok()?;
    (name == list::<F>()).then_some((after, filter))
}
