//! Instagram's webhooks over HTTP: what is refused leaves nothing behind, and what is acknowledged is stored.

use entity::{item, raw_delivery};
use followpoints::inbox::Call;
use futures_util::future::join_all;
use sea_orm::{ConnectionTrait as _, EntityTrait as _, QueryOrder as _};
use serde_json::{Value, json};

use super::{
    BRAND, FACEBOOK_LOGIN, FACEBOOK_SECRETS, INSTAGRAM_LOGIN, INSTAGRAM_SECRET, SIGNATURE, base64, deliver,
    message, messaging, options, signature, webhooks,
};
use crate::on_both;
use crate::support::{Backend, START, TestApp};

async fn deliveries(app: &TestApp) -> Vec<raw_delivery::Model> {
    let query = raw_delivery::Entity::find().order_by_asc(raw_delivery::Column::Id);
    query.all(app.app.db.read()).await.unwrap()
}

async fn items(app: &TestApp) -> Vec<item::Model> {
    item::Entity::find().order_by_asc(item::Column::Id).all(app.app.db.read()).await.unwrap()
}

on_both! {
    options: options(),
    async fn g6_what_is_acknowledged_is_stored_byte_for_byte_with_everything_in_it(app: &TestApp) {
        let vectors: Value =
            serde_json::from_str(include_str!("../payloads/instagram/signature_vectors.json")).unwrap();
        let vectors = vectors["vectors"].as_array().unwrap();
        for (count, vector) in vectors.iter().enumerate() {
            let is_facebook = vector["secret"] == FACEBOOK_SECRETS[0];
            let path = if is_facebook { FACEBOOK_LOGIN } else { INSTAGRAM_LOGIN };
            let body = base64(vector["body_base64"].as_str().unwrap());
            let header = vector["x_hub_signature_256"].as_str().unwrap();
            let answer = app.call("POST", path).header(SIGNATURE, header).bytes(body.clone()).send().await;
            assert_eq!((answer.status.as_u16(), answer.json()), (200, json!({"received": 1})));

            let stored = deliveries(app).await.pop().unwrap();
            assert_eq!(stored.body.as_deref(), Some(&body[..]));
            assert_eq!(format!("/ingest/{}", stored.source), path);
            assert_eq!((stored.item_count, stored.received_at), (1, START));
            assert_eq!(deliveries(app).await.len(), count + 1);
        }
        // Two of the vectors are the same message in different letters.
        let items = items(app).await;
        let kinds: Vec<_> = items.iter().map(|item| item.kind.as_str()).collect();
        assert_eq!(kinds, ["story_mention", "message", "message"]);
        assert_eq!(items[0].item_key, "story_mention:18055500011122233");
        assert_eq!(items[0].account, BRAND);
        assert_eq!(items[0].person.as_deref(), Some("5512034987760112"));
        assert_eq!(items[0].delivery_id, Some(deliveries(app).await[0].id));
        assert_eq!(items[0].received_at, START);
        let payload: Value = serde_json::from_str(&items[1].payload).unwrap();
        assert_eq!(
            payload["message"]["text"],
            "Merci beaucoup ☕️❤️ – ça marche? äöå 👩‍🍳"
        );
    }
}

on_both! {
    options: options(),
    async fn g6_what_is_not_signed_by_this_app_leaves_nothing(app: &TestApp) {
        let body = messaging(&[message("m1")]).to_string().into_bytes();
        let good = signature(FACEBOOK_SECRETS[0], &body);
        let reserialised = serde_json::to_vec_pretty(&messaging(&[message("m1")])).unwrap();
        let mut tampered = body.clone();
        let at = tampered.len() / 2;
        tampered[at] ^= 1;
        let sha1 = "sha1=293aaa5362c2bc0a2089134d936f0b8ba6fca007";
        let cases: [(&str, &[u8], Option<&str>); 10] = [
            ("no header", &body, None),
            ("empty header", &body, Some("")),
            ("only SHA-1", &body, Some(sha1)),
            ("no prefix", &body, Some(&good["sha256=".len()..])),
            ("cut off", &body, Some(&good[..good.len() - 2])),
            ("other flavour's secret", &body, Some(&signature(INSTAGRAM_SECRET, &body))),
            ("no secret", &body, Some(&signature("", &body))),
            ("tampered", &tampered, Some(&good)),
            ("written again", &reserialised, Some(&good)),
            ("no body", b"", Some(&good)),
        ];
        for (what, body, header) in cases {
            let mut call = app.call("POST", FACEBOOK_LOGIN).header("x-hub-signature", sha1);
            if let Some(header) = header {
                call = call.header(SIGNATURE, header);
            }
            let answer = call.text("application/json", body).send().await;
            assert_eq!(answer.error(), (403, "PERMISSION_DENIED".to_owned()), "{what}");
        }
        let other = app.call("POST", INSTAGRAM_LOGIN).header(SIGNATURE, &good).bytes(body.clone()).send().await;
        assert_eq!(other.status.as_u16(), 403);
        assert_eq!((deliveries(app).await.len(), items(app).await.len()), (0, 0));

        for secret in FACEBOOK_SECRETS {
            let header = signature(secret, &body);
            app.call("POST", FACEBOOK_LOGIN).header(SIGNATURE, &header).bytes(body.clone()).ok().await;
        }
        assert_eq!((deliveries(app).await.len(), items(app).await.len()), (2, 1));
    }
}

/// Parts of all webhooks by their delivery's `object`: the entry without its parts, the name of the parts, the part.
fn parts() -> Vec<(Value, Value, String, Value)> {
    let mut parts = Vec::new();
    for (_, body) in webhooks() {
        let body: Value = serde_json::from_slice(&body).unwrap();
        let deliveries = body.as_array().cloned().unwrap_or_else(|| vec![body]);
        for delivery in deliveries {
            for entry in delivery["entry"].as_array().unwrap() {
                for name in ["changes", "messaging"] {
                    for part in entry[name].as_array().into_iter().flatten() {
                        let mut entry = entry.clone();
                        entry.as_object_mut().unwrap().remove(name);
                        parts.push((delivery["object"].clone(), entry, name.to_owned(), part.clone()));
                    }
                }
            }
        }
    }
    assert_eq!(parts.len(), webhooks().len());
    parts
}

/// One delivery of an `object` with these parts, in as few entries as there can be.
fn batch(object: &Value, parts: &[(Value, Value, String, Value)]) -> Value {
    let mut entries: Vec<Value> = Vec::new();
    for (_, entry, name, part) in parts.iter().filter(|part| part.0 == *object) {
        let place = entries.iter_mut().find(|one| one["id"] == entry["id"] && one["time"] == entry["time"]);
        let place = match place {
            Some(place) => place,
            None => {
                entries.push(entry.clone());
                entries.last_mut().unwrap()
            }
        };
        match place[name].as_array_mut() {
            Some(list) => list.push(part.clone()),
            None => place[name] = json!([part]),
        }
    }
    json!({"object": object, "entry": entries})
}

/// The same as Python writes it: spaces, and escapes for what is not ASCII.
fn in_python(value: &Value) -> String {
    let text = serde_json::to_string_pretty(value).unwrap().replace('\n', " ").replace('/', "\\/");
    let escape = |c: char| {
        let mut units = [0; 2];
        let escapes: Vec<_> =
            c.encode_utf16(&mut units).iter().map(|unit| format!("\\u{unit:04x}")).collect();
        escapes.concat()
    };
    text.chars().map(|c| if c.is_ascii() { c.to_string() } else { escape(c) }).collect()
}

on_both! {
    options: options(),
    async fn g6_replayed_rebatched_and_reordered_deliveries_change_nothing(app: &TestApp) {
        for (name, body) in webhooks() {
            let answer = deliver(app, &body).await;
            assert_eq!(answer.status.as_u16(), 200, "{name}: {}", answer.text);
        }
        app.app.sources.work_off().await.unwrap();
        let before = items(app).await;
        // The same mention comes as an object and in an array.
        assert_eq!(before.len(), webhooks().len() - 1);

        app.clock.advance_ms(3_600_000);
        let mut parts = parts();
        let mut bodies: Vec<String> = Vec::new();
        for is_reversed in [false, true] {
            for object in [json!("instagram"), json!("permissions")] {
                let all = batch(&object, &parts);
                bodies.extend([all.to_string(), json!([all]).to_string(), in_python(&all)]);
            }
            bodies.extend(parts.iter().map(|part| batch(&part.0, std::slice::from_ref(part)).to_string()));
            bodies.extend(parts.chunks(7).map(|some| batch(&json!("instagram"), some).to_string()));
            if !is_reversed {
                parts.reverse();
            }
        }
        bodies.extend(webhooks().into_iter().map(|(_, body)| String::from_utf8(body).unwrap()));
        for body in &bodies {
            let answer = deliver(app, body.as_bytes()).await;
            assert_eq!(answer.status.as_u16(), 200, "{body}");
            assert_eq!(items(app).await, before, "{body}");
        }
        assert_eq!(deliveries(app).await.len(), webhooks().len() + bodies.len());
    }
}

on_both! {
    options: options(),
    async fn g6_calls_that_come_at_once_are_all_stored_and_what_is_in_several_counts_once(app: &TestApp) {
        let bodies: Vec<String> = (0..40)
            .map(|number| messaging(&[message(&format!("own-{number:02}")), message("shared")]).to_string())
            .collect();
        for answer in join_all(bodies.iter().map(|body| deliver(app, body.as_bytes()))).await {
            assert_eq!((answer.status.as_u16(), answer.json()), (200, json!({"received": 2})));
        }
        let (deliveries, items) = (deliveries(app).await, items(app).await);
        assert_eq!((deliveries.len(), items.len()), (40, 41));
        for (number, body) in bodies.iter().enumerate() {
            let stored: Vec<_> =
                deliveries.iter().filter(|row| row.body.as_deref() == Some(body.as_bytes())).collect();
            assert_eq!(stored.len(), 1);
            let key = format!("message:own-{number:02}");
            let own = items.iter().find(|item| item.item_key == key).unwrap();
            assert_eq!(own.delivery_id, Some(stored[0].id), "it belongs to the call that brought it");
        }
    }
}

on_both! {
    async fn g6_a_call_that_cannot_be_stored_spoils_no_other(app: &TestApp) {
        let refuse = match app.backend() {
            Backend::Sqlite => {
                "CREATE TRIGGER refuse BEFORE INSERT ON raw_delivery WHEN NEW.source = 'bad' \
                 BEGIN SELECT RAISE(ABORT, 'refused'); END"
            }
            Backend::Postgres => "ALTER TABLE raw_delivery ADD CONSTRAINT refuse CHECK (source <> 'bad')",
        };
        let tx = app.app.db.write().await.unwrap();
        tx.conn().execute_unprepared(refuse).await.unwrap();
        tx.commit().await.unwrap();
        let call = |number: usize| Call {
            source: if number == 7 { "bad" } else { "good" },
            body: number.to_string().into(),
            items: Vec::new(),
        };
        let results = join_all((0..20).map(|number| app.app.intake.store(call(number)))).await;
        let refused: Vec<usize> = (0..20).filter(|number| results[*number].is_err()).collect();
        assert_eq!(refused, [7]);
        let mut stored: Vec<usize> = deliveries(app)
            .await
            .into_iter()
            .map(|row| String::from_utf8(row.body.unwrap()).unwrap().parse().unwrap())
            .collect();
        stored.sort_unstable();
        assert_eq!(stored, (0..20).filter(|number| *number != 7).collect::<Vec<_>>());
    }
}

on_both! {
    options: options(),
    async fn g6_what_cannot_be_stored_is_not_acknowledged_and_comes_again(app: &TestApp) {
        let body = messaging(&[message("m1")]).to_string();
        app.app.db.close().await.unwrap();
        let answer = deliver(app, body.as_bytes()).await;
        assert_eq!((answer.status.as_u16(), answer.text.as_str()), (503, r#"{"details":{},"message":""}"#));
        assert_eq!(answer.headers["retry-after"], "1");
    }
}

on_both! {
    options: options(),
    async fn a_body_has_at_most_four_mebibytes(app: &TestApp) {
        let most = " ".repeat(4 * 1024 * 1024);
        let answer = deliver(app, most.as_bytes()).await;
        assert_eq!((answer.status.as_u16(), answer.json()), (200, json!({"received": 1})));
        assert_eq!(deliveries(app).await[0].body.as_ref().map(Vec::len), Some(4 * 1024 * 1024));
        let answer = deliver(app, format!("{most} ").as_bytes()).await;
        assert_eq!(answer.error(), (413, "PAYLOAD_TOO_LARGE".to_owned()));
        assert_eq!(deliveries(app).await.len(), 1);
    }
}

on_both! {
    options: options(),
    async fn a_thousand_things_come_in_one_call(app: &TestApp) {
        let all: Vec<_> = (0..1_000).map(|number| message(&format!("m{number}"))).collect();
        let body = messaging(&all).to_string();
        for _ in 0..2 {
            let answer = deliver(app, body.as_bytes()).await;
            assert_eq!((answer.status.as_u16(), answer.json()), (200, json!({"received": 1_000})));
        }
        let items = items(app).await;
        assert_eq!(items.len(), 1_000);
        assert_eq!(items[999].item_key, "message:m999");
    }
}
