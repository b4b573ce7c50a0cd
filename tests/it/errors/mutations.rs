//! Valid bodies, changed at random. Whatever comes of it is an answer in good form and never our fault. `SEED=7`
//! plays another run.

use serde_json::{Value, json};

use crate::on_both;
use crate::support::ADMIN_KEY;
use crate::support::dice::Dice;
use crate::support::document::operations;

/// Changed bodies of each operation.
const ROUNDS: u32 = 200;
/// Those whose success costs an RSA key pair.
const COSTLY: [&str; 1] = ["createApp"];
const COSTLY_ROUNDS: u32 = 40;

/// Changes JSON at random.
struct Mutator(Dice);

impl Mutator {
    fn value(&mut self) -> Value {
        let texts = [
            "",
            "\u{0}",
            "a\u{0}b",
            "X",
            "null",
            "\u{202e}\u{1f37a}",
            "' OR 1=1 --",
            "%00",
            "{}",
            "\\",
            "\u{fffe}",
            "01a1fae0-1eff-77b5-972a-09dcdce0937d",
            "00000000-0000-0000-0000-000000000000",
            "https://[::1",
            "http://\u{e9}\u{0}",
            "data:,x",
            "-----BEGIN PUBLIC KEY-----",
            "9223372036854775808",
            "-1",
            "1e5",
        ];
        match self.0.below(14) {
            0 => Value::Null,
            1 => json!(self.0.below(2) == 0),
            2 => json!(i64::MIN),
            3 => json!(i64::MAX),
            4 => json!(u64::MAX),
            5 => json!(f64::MAX),
            6 => json!(-0.5),
            7 => json!([]),
            8 => json!({}),
            9 => json!([[[[{"a": [null]}]]]]),
            10 => json!("\u{e9}".repeat(1 + self.0.below(20_000))),
            _ => json!(texts[self.0.below(texts.len())]),
        }
    }

    /// Changes one thing somewhere in `value`.
    fn change(&mut self, value: &mut Value) {
        match value {
            Value::Object(fields) if !fields.is_empty() && self.0.below(5) > 0 => {
                let name = fields.keys().nth(self.0.below(fields.len())).unwrap().clone();
                match self.0.below(6) {
                    0 => drop(fields.remove(&name)),
                    1 => {
                        let moved = fields.remove(&name).unwrap();
                        fields.insert(format!("{name}x"), moved);
                    }
                    2 => drop(fields.insert(name, self.value())),
                    _ => self.change(&mut fields[&name]),
                }
            }
            Value::Array(items) if !items.is_empty() && self.0.below(4) > 0 => {
                let index = self.0.below(items.len());
                match self.0.below(3) {
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

    /// The body as bytes, sometimes damaged beyond JSON.
    fn bytes(&mut self, body: &Value) -> Vec<u8> {
        let mut bytes = body.to_string().into_bytes();
        let at = self.0.below(bytes.len());
        match self.0.below(8) {
            0 => bytes.truncate(at),
            1 => bytes[at] = u8::try_from(self.0.below(256)).unwrap(),
            2 => bytes.insert(at, u8::try_from(self.0.below(256)).unwrap()),
            3 => bytes.extend_from_within(at..),
            _ => {}
        }
        bytes
    }
}

fn seed() -> u64 {
    std::env::var("SEED").ok().and_then(|text| text.parse().ok()).unwrap_or(1)
}

on_both! {
    options: crate::support::platforms_stood_in().await,
    async fn no_changed_body_is_our_fault(app: &TestApp) {
        let all = app.everything().await;
        let mut dice = Mutator(Dice(seed()));
        let mut wrong = Vec::new();
        for operation in operations() {
            let sample = all.sample(operation.id);
            let Some(body) = &sample.body else { continue };
            let rounds = if COSTLY.contains(&operation.id) { COSTLY_ROUNDS } else { ROUNDS };
            for round in 0..rounds {
                let mut changed = body.clone();
                for _ in 0..=dice.0.below(3) {
                    dice.change(&mut changed);
                }
                let bytes = dice.bytes(&changed);
                let auth = if round % 8 == 0 { &all.member.token } else { ADMIN_KEY };
                let path = operation.uri(&sample.id, "");
                let call = app.call(operation.method, &path).key(auth, &all.site.id);
                let answer = call.text("application/json", bytes.clone()).send().await;
                let json: Result<Value, _> = serde_json::from_str(&answer.text);
                if answer.status.is_server_error() || !json.is_ok_and(|json| json.is_object()) {
                    let text = String::from_utf8_lossy(&bytes).chars().take(500).collect::<String>();
                    wrong.push(format!(
                        "{} round {round}: {} {} for {text}",
                        operation.id, answer.status, answer.text
                    ));
                }
            }
        }
        assert_eq!(wrong, Vec::<String>::new(), "SEED={}", seed());
        let answer = app.call("GET", "/readyz").send().await;
        assert_eq!(answer.status.as_u16(), 200, "{}", answer.text);
    }
}
