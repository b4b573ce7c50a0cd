//! Webhooks, changed at random. Whatever they are, they are taken apart and stored, and answered with 200 if they are signed.
//! `SEED=7` plays another run.

use std::collections::HashSet;

use entity::item;
use followpoints::inbox::{KEY_MAX, NewItem};
use followpoints::instagram::payload::{ITEMS_MAX, split};
use sea_orm::{EntityTrait as _, PaginatorTrait as _};
use serde_json::{Value, json};

use super::{deliver, options, webhooks};
use crate::on_both;
use crate::support::dice::Dice;

/// Changed bodies that are only taken apart.
const ROUNDS: usize = 6_000;
/// Changed bodies that are sent.
const SENT: usize = 800;

/// Changes JSON at random.
pub struct Mutator(Dice);

impl Mutator {
    fn byte(&mut self) -> u8 {
        u8::try_from(self.0.below(256)).unwrap()
    }

    /// A value; `"raw:…"` is written without the quotation marks.
    fn value(&mut self) -> Value {
        let texts = [
            "",
            "\u{0}",
            "a\u{0}b",
            "0",
            "story_mention",
            "17841460998877001",
            "raw:1e999",
            "raw:-0",
            "raw:123456789012345678901234567890",
            "raw:1.5e3",
            "raw:18446744073709551616",
            "raw:nul",
            "\u{202e}\u{1f37a}\u{fffe}",
            "' OR 1=1 --",
            "https://x.example/?asset_id=",
            "9223372036854775807",
        ];
        match self.0.below(13) {
            0 => Value::Null,
            1 => json!(self.0.below(2) == 0),
            2 => json!(i64::MIN),
            3 => json!(u64::MAX),
            4 => json!(-0.5),
            5 => json!([]),
            6 => json!({}),
            7 => json!("\u{e9}".repeat(1 + self.0.below(3_000))),
            8 => {
                let depth = [3, 63, 64, 65, 127, 128, 129, 5_000][self.0.below(8)];
                json!(format!("raw:{}{}", "[".repeat(depth), "]".repeat(depth)))
            }
            _ => json!(texts[self.0.below(texts.len())]),
        }
    }

    /// Changes one thing somewhere in `value`.
    pub fn change(&mut self, value: &mut Value) {
        match value {
            Value::Object(fields) if !fields.is_empty() && self.0.below(6) > 0 => {
                let name = fields.keys().nth(self.0.below(fields.len())).unwrap().clone();
                match self.0.below(8) {
                    0 => drop(fields.remove(&name)),
                    1 => {
                        let moved = fields.remove(&name).unwrap();
                        let names = ["message", "reaction", "read", "field", "value", "changes", "a\u{0}"];
                        fields.insert(names[self.0.below(names.len())].to_owned(), moved);
                    }
                    2 => drop(fields.insert(name, self.value())),
                    _ => self.change(&mut fields[&name]),
                }
            }
            Value::Array(items) if !items.is_empty() && self.0.below(6) > 0 => {
                let index = self.0.below(items.len());
                match self.0.below(4) {
                    0 => drop(items.remove(index)),
                    1 => items.extend(vec![items[index].clone(); self.0.below(30)]),
                    _ => self.change(&mut items[index]),
                }
            }
            Value::String(text) if self.0.below(3) == 0 => {
                let inserted = self.value();
                let at = text.char_indices().map(|(at, _)| at).nth(self.0.below(text.len())).unwrap_or(0);
                text.insert_str(at, inserted.as_str().unwrap_or("\u{0}"));
            }
            other => *other = self.value(),
        }
    }

    /// A webhook, changed as JSON, as text and as bytes.
    fn webhook(&mut self, samples: &[Value]) -> Vec<u8> {
        let mut value = samples[self.0.below(samples.len())].clone();
        if self.0.below(3) == 0 {
            let other = samples[self.0.below(samples.len())]["entry"].as_array().cloned().unwrap_or_default();
            if let Some(entries) = value.get_mut("entry").and_then(Value::as_array_mut) {
                entries.extend(other);
            }
        }
        for _ in 0..self.0.below(4) {
            self.change(&mut value);
        }
        let mut text = value.to_string();
        while let Some((before, rest)) = text.split_once("\"raw:") {
            let (raw, after) = rest.split_once('"').unwrap();
            text = format!("{before}{raw}{after}");
        }
        let mut bytes = text.into_bytes();
        for _ in 0..self.0.below(3) {
            let at = self.0.below(bytes.len());
            match self.0.below(8) {
                0 => bytes.truncate(at),
                1 if !bytes.is_empty() => bytes[at] ^= 1 << self.0.below(8),
                2 => bytes.insert(at, self.byte()),
                3 => drop(bytes.splice(at..at, *br"\ud83c")),
                4 => drop(bytes.splice(at..at, *br"\u0000")),
                5 => bytes.extend_from_within(at..),
                _ => {}
            }
        }
        bytes
    }
}

/// From the seed that is asked for.
pub fn dice() -> (Mutator, u64) {
    let seed = std::env::var("SEED").ok().and_then(|text| text.parse().ok()).unwrap_or(1);
    println!("SEED={seed}");
    (Mutator(Dice(seed)), seed)
}

fn samples() -> Vec<Value> {
    webhooks().into_iter().map(|(_, body)| serde_json::from_slice(&body).unwrap()).collect()
}

fn has_nul(value: &Value) -> bool {
    match value {
        Value::String(text) => text.contains('\0'),
        Value::Array(values) => values.iter().any(has_nul),
        Value::Object(fields) => fields.iter().any(|(name, value)| name.contains('\0') || has_nul(value)),
        _ => false,
    }
}

/// What must be so of everything that is taken apart.
fn check(items: &[NewItem]) -> Result<(), String> {
    let mut keys = HashSet::new();
    for item in items {
        let texts = [&item.account, &item.key, &item.kind, &item.payload];
        let persons = [&item.person, &item.handle].into_iter().flatten();
        if texts.into_iter().chain(persons).any(|text| text.contains('\0')) {
            return Err("a text has NUL".to_owned());
        }
        if item.key.len() > KEY_MAX || !item.key.is_ascii() {
            return Err(format!("key {}", item.key));
        }
        if !keys.insert((&item.account, &item.key)) {
            return Err(format!("twice {}", item.key));
        }
        let payload: Value = serde_json::from_str(&item.payload).map_err(|error| error.to_string())?;
        if !payload.is_object() && item.kind != "unknown" || has_nul(&payload) {
            return Err(format!("payload of {}: {payload}", item.kind));
        }
    }
    if items.len() > ITEMS_MAX { Err("too many".to_owned()) } else { Ok(()) }
}

#[test]
fn no_changed_webhook_breaks_the_splitter() {
    let ((mut dice, seed), samples) = (dice(), samples());
    let mut kinds = HashSet::new();
    for round in 0..ROUNDS {
        let body = dice.webhook(&samples);
        let items = split(&body);
        let found = check(&items);
        assert_eq!(found, Ok(()), "SEED={seed} round {round}: {}", String::from_utf8_lossy(&body));
        assert!(items == split(&body), "SEED={seed} round {round}: not the same twice");
        kinds.extend(items.into_iter().map(|item| item.kind));
    }
    // Many were still what they had been.
    assert_eq!(kinds.len(), 19, "{kinds:?}");
}

on_both! {
    options: options(),
    async fn no_changed_webhook_is_our_fault(app: &TestApp) {
        let ((mut dice, seed), samples) = (dice(), samples());
        for round in 0..SENT {
            let body = dice.webhook(&samples);
            let answer = deliver(app, &body).await;
            let expected = json!({"received": split(&body).len()});
            assert!(
                answer.status.as_u16() == 200 && answer.json() == expected,
                "SEED={seed} round {round}: {} {} for {}",
                answer.status,
                answer.text,
                String::from_utf8_lossy(&body)
            );
        }
        let count = item::Entity::find().count(app.app.db.read()).await.unwrap();
        assert!(count > 300, "{count}");
    }
}
