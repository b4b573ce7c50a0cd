//! JSON as platforms send it: numbers stay the digits that came, because ids may be numbers beyond what a float holds.

use std::borrow::Cow;
use std::collections::BTreeMap;

use entity::id::Timestamp;
use serde_json::value::RawValue;

/// How deep a thing may be nested; real ones are six deep.
const DEPTH_MAX: usize = 64;
/// Characters of an id; real ones have up to 20.
const ID_MAX: usize = 128;
/// Numbers from here on are milliseconds since the epoch, smaller ones seconds: in seconds it is the year 5138.
const MILLISECONDS_FROM: i64 = 100_000_000_000;
/// Bytes of `\u0000`.
const ESCAPE_BYTES: usize = 6;

/// The fields of an object, each as it came.
pub(super) type Fields<'a> = BTreeMap<String, &'a RawValue>;

/// A value.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Json {
    Null,
    Bool(bool),
    /// As it was written.
    Number(String),
    Text(String),
    List(Vec<Self>),
    Object(BTreeMap<String, Self>),
}

impl Json {
    /// Reads a value; none if `text` is no JSON, is nested too deeply or has a number that no float holds, so that whatever is
    /// read here can be read by everybody.
    pub(super) fn read(text: &str) -> Option<Self> {
        let value: &RawValue = serde_json::from_str(text).ok()?;
        (depth(value.get()) <= DEPTH_MAX).then(|| Self::read_part(value.get())).flatten()
    }

    fn read_part(text: &str) -> Option<Self> {
        Some(match text.as_bytes().first()? {
            b'{' => {
                let read = |(name, value): (String, &RawValue)| Some((name, Self::read_part(value.get())?));
                Self::Object(fields(text)?.into_iter().map(read).collect::<Option<_>>()?)
            }
            b'[' => {
                let read = |value: &&RawValue| Self::read_part(value.get());
                Self::List(list(text)?.iter().map(read).collect::<Option<_>>()?)
            }
            b'"' => Self::Text(serde_json::from_str(text).ok()?),
            b't' => Self::Bool(true),
            b'f' => Self::Bool(false),
            b'n' => Self::Null,
            _ => {
                text.parse::<f64>().ok().filter(|number| number.is_finite())?;
                Self::Number(text.to_owned())
            }
        })
    }

    /// What stands at `path`; none if there is nothing or null.
    pub(super) fn at(&self, path: &[&str]) -> Option<&Self> {
        let mut value = self;
        for name in path {
            let Self::Object(fields) = value else { return None };
            value = fields.get(*name)?;
        }
        (*value != Self::Null).then_some(value)
    }

    /// The text at `path`, if it is one.
    pub(super) fn text_at(&self, path: &[&str]) -> Option<&str> {
        match self.at(path)? {
            Self::Text(text) => Some(text),
            _ => None,
        }
    }

    /// The text or number at `path`, as it was written.
    pub(super) fn word_at(&self, path: &[&str]) -> Option<&str> {
        match self.at(path)? {
            Self::Text(text) | Self::Number(text) => {
                Some(text).filter(|text| !text.is_empty()).map(String::as_str)
            }
            _ => None,
        }
    }

    /// The id at `path`: a whole number, or a text without spaces and foreign letters.
    pub(super) fn id_at(&self, path: &[&str]) -> Option<&str> {
        let is_id = |text: &&str| text.len() <= ID_MAX && text.bytes().all(|byte| byte.is_ascii_graphic());
        let is_whole = |text: &&str| text.bytes().all(|byte| byte.is_ascii_digit());
        match self.at(path)? {
            Self::Number(number) => Some(number.as_str()).filter(is_whole).filter(is_id),
            _ => self.word_at(path).filter(is_id),
        }
    }

    /// The time at `path`, in seconds or milliseconds, as a number or a text.
    pub(super) fn time_at(&self, path: &[&str]) -> Option<Timestamp> {
        let number: i64 = self.word_at(path)?.parse().ok().filter(|number| *number > 0)?;
        Some(Timestamp(if number < MILLISECONDS_FROM { number * 1000 } else { number }))
    }

    /// Whether `path` holds true.
    pub(super) fn is_true(&self, path: &[&str]) -> bool {
        self.at(path) == Some(&Self::Bool(true))
    }

    /// The same however it was written: without spaces, fields by name, letters as they are.
    pub(super) fn canonical(&self) -> String {
        let mut out = String::new();
        self.write(&mut out);
        out
    }

    fn write(&self, out: &mut String) {
        let quoted = |text: &str| serde_json::Value::from(text).to_string();
        match self {
            Self::Null => out.push_str("null"),
            Self::Bool(value) => out.push_str(if *value { "true" } else { "false" }),
            Self::Number(number) => out.push_str(number),
            Self::Text(text) => out.push_str(&quoted(text)),
            Self::List(values) => {
                out.push('[');
                for (index, value) in values.iter().enumerate() {
                    out.push_str(if index > 0 { "," } else { "" });
                    value.write(out);
                }
                out.push(']');
            }
            Self::Object(fields) => {
                out.push('{');
                for (index, (name, value)) in fields.iter().enumerate() {
                    out.push_str(if index > 0 { "," } else { "" });
                    out.push_str(&quoted(name));
                    out.push(':');
                    value.write(out);
                }
                out.push('}');
            }
        }
    }
}

/// How many arrays and objects are open at once in `text`, which is JSON.
fn depth(text: &str) -> usize {
    let (mut open, mut most) = (0_usize, 0);
    let (mut is_in_text, mut is_escaped) = (false, false);
    for byte in text.bytes() {
        match byte {
            _ if is_escaped => is_escaped = false,
            b'\\' => is_escaped = true,
            b'"' => is_in_text = !is_in_text,
            b'[' | b'{' if !is_in_text => {
                open += 1;
                most = most.max(open);
            }
            b']' | b'}' if !is_in_text => open = open.saturating_sub(1),
            _ => {}
        }
    }
    most
}

/// The fields of an object, if it is one.
pub(super) fn fields(text: &str) -> Option<Fields<'_>> {
    serde_json::from_str(text).ok()
}

/// The values of an array, if it is one.
pub(super) fn list(text: &str) -> Option<Vec<&RawValue>> {
    serde_json::from_str(text).ok()
}

/// The body as text that a parser and every database take: bytes that are no UTF-8, the character NUL and halves of surrogate
/// pairs become U+FFFD. The same bytes always give the same text.
pub(super) fn mended(body: &[u8]) -> Cow<'_, str> {
    let text = String::from_utf8_lossy(body);
    let has_nul = text.contains('\0');
    let text = if has_nul { Cow::Owned(text.replace('\0', "\u{fffd}")) } else { text };
    match broken_escapes(text.as_bytes()) {
        broken if broken.is_empty() => text,
        broken => {
            let mut bytes = text.into_owned().into_bytes();
            for at in broken {
                bytes[at..at + ESCAPE_BYTES].copy_from_slice(b"\\ufffd");
            }
            Cow::Owned(String::from_utf8(bytes).unwrap_or_default())
        }
    }
}

/// Where escapes stand that mean no character that can be stored.
fn broken_escapes(text: &[u8]) -> Vec<usize> {
    let (mut at, mut broken) = (0, Vec::new());
    while let Some(found) = text[at..].iter().position(|byte| *byte == b'\\') {
        at += found;
        match (escape(text, at), escape(text, at + ESCAPE_BYTES)) {
            (Some(0xd800..=0xdbff), Some(0xdc00..=0xdfff)) => at += 2 * ESCAPE_BYTES,
            (Some(0 | 0xd800..=0xdfff), _) => {
                broken.push(at);
                at += ESCAPE_BYTES;
            }
            // One letter, or four digits that are looked at as such.
            _ => at = text.len().min(at + 2),
        }
    }
    broken
}

/// The number of the escape of four digits that begins at `at`.
fn escape(text: &[u8], at: usize) -> Option<u32> {
    let escape = text.get(at..at + ESCAPE_BYTES)?.strip_prefix(b"\\u")?;
    escape.iter().try_fold(0, |sum, digit| Some(sum * 16 + char::from(*digit).to_digit(16)?))
}

#[cfg(test)]
mod tests {
    use super::{Json, mended};

    #[test]
    fn numbers_stay_as_they_were_written() {
        let text = r#"{"a":123456789012345678901234567890,"b":9007199254740993,"c":1.50,"d":-0}"#;
        let json = Json::read(text).unwrap();
        assert_eq!(json.canonical(), text);
        assert_eq!(json.id_at(&["a"]), Some("123456789012345678901234567890"));
        assert_eq!(json.id_at(&["b"]), Some("9007199254740993"));
        assert_eq!((json.id_at(&["c"]), json.id_at(&["d"])), (None, None));
    }

    #[test]
    fn the_canonical_form_does_not_depend_on_the_writer() {
        let one = Json::read(r#" {"b" : "https:\/\/x\u00e9" , "a":[1, {"d":null,"c":true}]} "#).unwrap();
        assert_eq!(one.canonical(), r#"{"a":[1,{"c":true,"d":null}],"b":"https://xé"}"#);
    }

    #[test]
    fn what_others_could_not_read_is_not_read() {
        for text in ["", "{", "1e999", "[1,]", "nul", r#"{"a":1}x"#, r#""\ud800""#, "NaN", "01"] {
            assert_eq!(Json::read(text), None, "{text}");
        }
        for (depth, is_read) in [(64, true), (65, false), (100_000, false)] {
            let text = format!("{}{}", "[".repeat(depth), "]".repeat(depth));
            assert_eq!(Json::read(&text).is_some(), is_read, "{depth}");
        }
        let brackets = "[{".repeat(100);
        let text = format!(r#"{{"a\\\"":"{brackets}\\","b":["\"{brackets}"]}}"#);
        assert!(Json::read(&text).is_some(), "{text}");
    }

    #[test]
    fn times_are_seconds_or_milliseconds() {
        let json = Json::read(r#"{"s":1794994212,"ms":1794994867215,"t":"1527459824","x":"soon","z":0,"f":1.5,"n":-3,"big":99999999999999999999}"#)
            .unwrap();
        let at = |name| json.time_at(&[name]).map(|time| time.0);
        assert_eq!((at("s"), at("ms")), (Some(1_794_994_212_000), Some(1_794_994_867_215)));
        assert_eq!(at("t"), Some(1_527_459_824_000));
        for name in ["x", "z", "f", "n", "big", "absent"] {
            assert_eq!(at(name), None, "{name}");
        }
    }

    #[test]
    fn only_what_means_no_character_is_mended() {
        for (text, expected) in [
            (r#""\ud83c\udf73""#, r#""\ud83c\udf73""#),
            (r#""\ud83c""#, r#""\ufffd""#),
            (r#""\uDF73\ud83c""#, r#""\ufffd\ufffd""#),
            (r#""\ud83c\ud83c\udf73""#, r#""\ufffd\ud83c\udf73""#),
            (r#""a\u0000b""#, r#""a\ufffdb""#),
            (r#""a\\u0000b""#, r#""a\\u0000b""#),
            (r#""a\\\u0000b""#, r#""a\\\ufffdb""#),
            (r#""\u00e4\u00""#, r#""\u00e4\u00""#),
            ("\\", "\\"),
            ("\0\\u", "\u{fffd}\\u"),
        ] {
            assert_eq!(mended(text.as_bytes()), expected, "{text}");
        }
        assert_eq!(mended(b"\"\xff\""), "\"\u{fffd}\"");
    }
}
