//! Reading foreign JSON: what is absent, null, of another type or out of range is simply not there.

use std::fmt::Write as _;

use entity::id::Timestamp;
use serde_json::Value;

use crate::seal;

/// Characters of an id that `TikTok` gives; longer ones are none.
pub const ID_MAX: usize = 256;
/// Above this a time is in milliseconds: in seconds it would be in the year 5138.
const MILLISECONDS_FROM: i64 = 100_000_000_000;
/// The last instant that is taken for one: the year 9999.
const TIME_MAX_MS: i64 = 253_402_300_799_999;

/// The first of `names` that `value` has with anything in it.
#[must_use]
pub fn field<'a>(value: &'a Value, names: &[&str]) -> &'a Value {
    names.iter().filter_map(|name| value.get(name)).find(|value| !value.is_null()).unwrap_or(&Value::Null)
}

/// A text of at most `max` characters, cut there, without NUL, which PostgreSQL cannot hold, and spaces around it. Empty ones are none.
#[must_use]
pub fn text(value: &Value, max: usize) -> Option<String> {
    let text: String = value.as_str()?.trim().chars().filter(|c| *c != '\0').take(max).collect();
    Some(text).filter(|text| !text.is_empty())
}

/// An id, which is a text or a whole number: most have more digits than a float can hold.
#[must_use]
pub fn id(value: &Value) -> Option<String> {
    match value {
        Value::String(text) => Some(text.trim().to_owned()),
        Value::Number(number) if number.is_i64() || number.is_u64() => Some(number.to_string()),
        _ => None,
    }
    .filter(|id| !id.is_empty() && id.len() <= ID_MAX && !id.contains(char::is_control))
}

/// An id of something that there is: not 0.
#[must_use]
pub fn thing(value: &Value) -> Option<String> {
    id(value).filter(|id| id != "0")
}

/// A number of things: whole, and not negative.
#[must_use]
pub fn count(value: &Value) -> Option<i64> {
    let number = match value {
        Value::Number(number) => number.as_i64(),
        Value::String(text) => text.trim().parse().ok(),
        _ => None,
    };
    number.filter(|number| *number >= 0)
}

/// An instant: seconds or milliseconds since 1970 as a number or text, or RFC 3339.
#[must_use]
pub fn instant(value: &Value) -> Option<Timestamp> {
    if let Some(number) = count(value) {
        let ms = if number < MILLISECONDS_FROM { number * 1000 } else { number };
        return Some(Timestamp(ms)).filter(|at| at.0 > 0 && at.0 <= TIME_MAX_MS);
    }
    let at = chrono::DateTime::parse_from_rfc3339(value.as_str()?.trim()).ok()?;
    Some(Timestamp(at.timestamp_millis())).filter(|at| at.0 > 0 && at.0 <= TIME_MAX_MS)
}

/// `value` without NUL in its texts and names.
#[must_use]
pub fn scrubbed(value: Value) -> Value {
    let clean = |text: String| if text.contains('\0') { text.replace('\0', "") } else { text };
    match value {
        Value::String(text) => Value::String(clean(text)),
        Value::Array(items) => items.into_iter().map(scrubbed).collect(),
        Value::Object(fields) => {
            fields.into_iter().map(|(name, value)| (clean(name), scrubbed(value))).collect()
        }
        other => other,
    }
}

/// A short name of `parts`: the same for the same ones, and another for others.
#[must_use]
pub fn digest(parts: &[&str]) -> String {
    // Lengths keep ("a", "bc") and ("ab", "c") apart.
    let text = parts.iter().fold(String::new(), |mut text, part| {
        let _ = write!(text, "{}:{part}", part.len());
        text
    });
    hex(&seal::hash(&text))
}

/// Bytes in lower-case hexadecimal.
#[must_use]
pub fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |mut text, byte| {
        let _ = write!(text, "{byte:02x}");
        text
    })
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn ids_keep_all_their_digits() {
        let value: Value = serde_json::from_str(r#"{"id":7709406013564211501}"#).unwrap_or_default();
        assert_eq!(id(&value["id"]).as_deref(), Some("7709406013564211501"));
        assert_eq!(id(&json!("7573111122223333555")).as_deref(), Some("7573111122223333555"));
        for none in [json!(1.5), json!(1e30), json!(""), json!("a\u{0}"), json!(null), json!(["1"])] {
            assert_eq!(id(&none), None, "{none}");
        }
        assert_eq!(thing(&json!(0)), None);
    }

    #[test]
    fn times_are_in_seconds_milliseconds_or_words() {
        let at = Some(Timestamp(1_794_994_212_000));
        for value in [
            json!(1_794_994_212),
            json!("1794994212"),
            json!(1_794_994_212_000_i64),
            json!("2026-11-18T09:30:12Z"),
            json!("2026-11-18T10:30:12+01:00"),
        ] {
            assert_eq!(instant(&value), at, "{value}");
        }
        for none in
            [json!(0), json!(-5), json!(i64::MAX), json!(u64::MAX), json!(1e300), json!("soon"), json!({})]
        {
            assert_eq!(instant(&none), None, "{none}");
        }
    }
}
