//! Foreign bytes, changed at random: no panic, no 5xx, and whatever was taken in is worked off. `SEED=7` plays another run.

use entity::kinds::ItemStatus;
use serde_json::Value;

use super::{BUSINESS, DEVELOPER, HOUR, brewery, connect, send, states, work};
use crate::on_both;
use crate::support::ADMIN_KEY;
use crate::support::dice::Dice;
use crate::support::tiktok::{BUSINESS_SECRET, DEVELOPER_SECRET, Tiktok, options, payload};

/// Changed bodies of each fixture.
const ROUNDS: usize = 60;
const WEBHOOKS: [(&str, &str, &str); 10] = [
    (BUSINESS, BUSINESS_SECRET, "business_webhook_im_receive_msg"),
    (BUSINESS, BUSINESS_SECRET, "business_webhook_im_receive_msg_not_follower"),
    (BUSINESS, BUSINESS_SECRET, "business_webhook_im_send_msg"),
    (BUSINESS, BUSINESS_SECRET, "business_webhook_comment_update"),
    (BUSINESS, BUSINESS_SECRET, "business_webhook_brand_mention_video"),
    (BUSINESS, BUSINESS_SECRET, "business_webhook_brand_mention_comment"),
    (DEVELOPER, DEVELOPER_SECRET, "webhook_authorization_removed"),
    (DEVELOPER, DEVELOPER_SECRET, "webhook_authorization_removed_reason_text"),
    (DEVELOPER, DEVELOPER_SECRET, "webhook_portability_ready"),
    (DEVELOPER, DEVELOPER_SECRET, "webhook_video_publish_completed"),
];

/// Lists of what concerns a brand, and an answer with some.
const LISTS: [(&str, &str); 2] = [
    ("/open_api/v1.3/business/mention/video/list/", "business_mention_video_list"),
    ("/open_api/v1.3/business/mention/hashtag/video/list/", "business_mention_hashtag_video_list"),
];

/// Changes JSON at random.
struct Mutator(Dice);

impl Mutator {
    fn word(&mut self) -> Value {
        const WORDS: [&str; 16] = [
            "null",
            "true",
            "-1",
            "0",
            "9223372036854775808",
            "18446744073709551616",
            "1e308",
            "\"\"",
            "\"\\u0000\"",
            "[]",
            "{}",
            "\"a\\u0000b\"",
            "[[{\"id\":null}]]",
            "\"\u{202e}\u{1f37a}\"",
            "253402300800000",
            "\"２０２６\"",
        ];
        serde_json::from_str(WORDS[self.0.below(WORDS.len())]).unwrap()
    }

    /// Changes one thing somewhere; texts that hold JSON are opened first.
    fn change(&mut self, value: &mut Value) {
        match value {
            Value::Object(fields) if !fields.is_empty() && self.0.below(6) > 0 => {
                let name = fields.keys().nth(self.0.below(fields.len())).unwrap().clone();
                match self.0.below(5) {
                    0 => drop(fields.remove(&name)),
                    1 => drop(fields.insert(name, self.word())),
                    _ => self.change(&mut fields[&name]),
                }
            }
            Value::Array(items) if !items.is_empty() && self.0.below(5) > 0 => {
                let index = self.0.below(items.len());
                self.change(&mut items[index]);
            }
            Value::String(text) if text.starts_with('{') => {
                let mut inner: Value = serde_json::from_str(text).unwrap_or_default();
                self.change(&mut inner);
                *text = inner.to_string();
            }
            other => *other = self.word(),
        }
    }

    /// As bytes, sometimes damaged beyond JSON.
    fn bytes(&mut self, value: &Value) -> Vec<u8> {
        let mut bytes = value.to_string().into_bytes();
        let at = self.0.below(bytes.len());
        match self.0.below(10) {
            0 => bytes.truncate(at),
            1 => bytes[at] = u8::try_from(self.0.below(256)).unwrap(),
            2 => bytes.insert(at, u8::try_from(self.0.below(256)).unwrap()),
            _ => {}
        }
        bytes
    }
}

fn seed() -> u64 {
    std::env::var("SEED").ok().and_then(|text| text.parse().ok()).unwrap_or(1)
}

on_both! {
    options: options().await,
    async fn no_changed_webhook_is_our_fault(app: &TestApp) {
        let site = brewery(app).await;
        connect(app, &site).await;
        let mut dice = Mutator(Dice(seed()));
        for (path, secret, name) in WEBHOOKS {
            for round in 0..ROUNDS {
                let mut call = payload(name);
                for _ in 0..=dice.0.below(3) {
                    dice.change(&mut call);
                }
                let body = dice.bytes(&call);
                let answer = send(app, path, secret, &body).await;
                let text = String::from_utf8_lossy(&body).into_owned();
                assert_eq!(answer.status.as_u16(), 200, "{name} round {round}: {} for {text}", answer.text);
            }
            work(app).await;
        }
        let states = states(app).await;
        assert!(states.len() > 100, "{} things came in", states.len());
        // Lookups of ids that nobody has may be tried again.
        let left: Vec<_> = states.iter().filter(|(kind, status, _)| *status == ItemStatus::Waiting && kind != "brand_mention").collect();
        assert!(left.is_empty(), "{left:?}");
    }
}

on_both! {
    async fn no_changed_batch_is_our_fault(app: &TestApp) {
        let site = brewery(app).await;
        let mut dice = Mutator(Dice(seed()));
        for round in 0..6 * ROUNDS {
            let mut batch = payload("provider_push_batch");
            for _ in 0..=dice.0.below(4) {
                dice.change(&mut batch);
            }
            let body = dice.bytes(&batch);
            let call = app.call("POST", "/ingest/tiktok/posts").key(ADMIN_KEY, &site.id);
            let answer = call.text("application/json", body.clone()).send().await;
            let text = String::from_utf8_lossy(&body).into_owned();
            assert!([200, 400].contains(&answer.status.as_u16()), "round {round}: {} for {text}", answer.text);
            if answer.status.as_u16() == 200 {
                let sent: Value = serde_json::from_slice(&body).unwrap();
                let results = answer.json()["results"].as_array().unwrap().len();
                assert_eq!(results, sent["items"].as_array().unwrap().len(), "one answer for each row: {text}");
            }
        }
        work(app).await;
        assert!(states(app).await.iter().all(|(_, status, _)| *status != ItemStatus::Waiting));
    }
}

on_both! {
    options: options().await,
    async fn no_changed_answer_stops_the_reading(app: &TestApp) {
        let site = brewery(app).await;
        connect(app, &site).await;
        let tiktok = Tiktok::of(app);
        let mut dice = Mutator(Dice(seed()));
        for (path, name) in LISTS {
            for round in 0..ROUNDS / 2 {
                let mut answer = payload(name);
                for _ in 0..=dice.0.below(4) {
                    dice.change(&mut answer);
                }
                tiktok.always(path, 200, answer.clone());
                // Beyond every pause that an answer may have asked for.
                app.clock.advance_ms(HOUR);
                let read = app.app.tiktok.poll_due().await;
                assert!(read.is_ok(), "{name} round {round}: {read:?} for {answer}");
            }
            work(app).await;
        }
        assert!(states(app).await.iter().all(|(_, status, _)| *status != ItemStatus::Waiting));
    }
}
