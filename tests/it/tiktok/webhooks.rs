//! The entrances that TikTok calls.

use entity::raw_delivery;
use sea_orm::EntityTrait as _;
use serde_json::{Value, json};

use super::{BUSINESS, DEVELOPER, HOUR, NOW, brewery, items, send, signature, signature_at, states, work};
use crate::on_both;
use crate::support::tiktok::{
    BUSINESS_SECRET, DEVELOPER_SECRET, OLD_DEVELOPER_SECRET, options, payload, payload_text,
};

on_both! {
    options: options().await,
    async fn g6_only_what_tiktok_signed_comes_in(app: &TestApp) {
        brewery(app).await;
        // When the last vector holds.
        app.clock.advance_ms(957_000);
        let vectors = payload("signature_vectors");
        let call = |path: &str, header: &str, body: &str| {
            let call = app.call("POST", path).text("application/json", body.to_owned());
            let call = if header.is_empty() { call } else { call.header("tiktok-signature", header) };
            call.send()
        };
        let text = |value: &Value| value.as_str().unwrap().to_owned();
        for vector in vectors["vectors"].as_array().unwrap() {
            let (path, other) = match vector["secret"].as_str().unwrap() {
                DEVELOPER_SECRET => (DEVELOPER, BUSINESS),
                _ => (BUSINESS, DEVELOPER),
            };
            let (header, body) = (text(&vector["tiktok_signature"]), text(&vector["body"]));
            assert_eq!(call(path, &header, &body).await.status.as_u16(), 200, "{}", vector["name"]);
            assert_eq!(call(other, &header, &body).await.status.as_u16(), 403, "{}", vector["name"]);
            let spaced = body.replace(':', ": ");
            assert_eq!(call(path, &header, &spaced).await.status.as_u16(), 403, "{}", vector["name"]);
        }
        let before = items(app).await.len();
        let body = payload_text("webhook_authorization_removed");
        for header in [
            String::new(),
            "t=1,s=2".to_owned(),
            signature(app, BUSINESS_SECRET, body.as_bytes()),
            signature_at(NOW.plus_ms(-74 * HOUR), DEVELOPER_SECRET, body.as_bytes()),
        ] {
            let answer = call(DEVELOPER, &header, &body).await;
            assert_eq!(answer.error(), (403, "PERMISSION_DENIED".to_owned()), "{header}");
        }
        assert_eq!(items(app).await.len(), before);
        for secret in [DEVELOPER_SECRET, OLD_DEVELOPER_SECRET] {
            assert_eq!(send(app, DEVELOPER, secret, body.as_bytes()).await.status.as_u16(), 200);
        }
        let late = signature_at(NOW.plus_ms(-72 * HOUR), DEVELOPER_SECRET, body.as_bytes());
        assert_eq!(call(DEVELOPER, &late, &body).await.status.as_u16(), 200, "TikTok tries for 72 hours");
        assert_eq!(app.call("GET", DEVELOPER).send().await.status.as_u16(), 405);
    }
}

on_both! {
    async fn g6_without_a_secret_nothing_comes_in(app: &TestApp) {
        for path in [DEVELOPER, BUSINESS] {
            assert_eq!(send(app, path, "", b"{}").await.status.as_u16(), 403);
        }
    }
}

on_both! {
    options: options().await,
    async fn g1_what_is_sent_again_is_one_thing(app: &TestApp) {
        brewery(app).await;
        for name in [
            "business_webhook_im_receive_msg",
            "business_webhook_im_send_msg",
            "business_webhook_comment_update",
            "business_webhook_brand_mention_video",
            "business_webhook_brand_mention_comment",
        ] {
            let before = items(app).await.len();
            let body = payload_text(name);
            // Another order of keys and other spaces are the same thing, too.
            let again = payload(name).to_string();
            for body in [&body, &again, &body] {
                assert_eq!(send(app, BUSINESS, BUSINESS_SECRET, body.as_bytes()).await.status.as_u16(), 200);
            }
            assert_eq!(items(app).await.len(), before + 1, "{name}");
        }
        // A comment that is deleted is other news of the same comment.
        let mut call = payload("business_webhook_comment_update");
        let content = call["content"].as_str().unwrap().replace("insert", "delete");
        call["content"] = content.into();
        send(app, BUSINESS, BUSINESS_SECRET, call.to_string().as_bytes()).await;
        assert_eq!(items(app).await.len(), 6);
        let raw = raw_delivery::Entity::find().all(app.app.db.read()).await.unwrap();
        assert_eq!(raw.len(), 16);
        assert!(raw.iter().all(|raw| raw.source == "tiktok/business-webhook" && raw.body.is_some()));
    }
}

on_both! {
    options: options().await,
    async fn whatever_was_signed_is_answered_200(app: &TestApp) {
        brewery(app).await;
        let deep = format!("{{\"event\":\"x\",\"content\":{}1{}}}", "[".repeat(100_000), "]".repeat(100_000));
        let bodies: Vec<Vec<u8>> = vec![
            b"".to_vec(),
            b"not json".to_vec(),
            b"\xff\xfe\x00".to_vec(),
            b"null".to_vec(),
            b"[]".to_vec(),
            b"{}".to_vec(),
            b"[{\"event\":\"a\"},7,{\"event\":\"b\"}]".to_vec(),
            deep.into_bytes(),
            json!({"event": null, "create_time": "never", "user_openid": 7, "content": null}).to_string().into_bytes(),
            json!({"event": "im_receive_msg", "create_time": 1e300, "user_openid": "x\u{0}y", "content": "{\"message_id\":\"\\u0000\",\"from_user\":7}"})
                .to_string().into_bytes(),
            json!({"event": "tiktok.ping", "create_time": 1_794_994_212_345_i64, "content": "ping"}).to_string().into_bytes(),
            json!({"event": "im_receive_msg", "user_openid": "b".repeat(5_000), "content": json!({"message_id": "m".repeat(5_000)}).to_string()})
                .to_string().into_bytes(),
        ];
        for body in &bodies {
            for (path, secret) in [(DEVELOPER, DEVELOPER_SECRET), (BUSINESS, BUSINESS_SECRET)] {
                let answer = send(app, path, secret, body).await;
                assert_eq!(answer.status.as_u16(), 200, "{}", String::from_utf8_lossy(body).chars().take(99).collect::<String>());
                assert_eq!(answer.text, "");
            }
        }
        let ping = items(app).await.into_iter().find(|item| item.payload.contains("tiktok.ping")).unwrap();
        assert_eq!(ping.kind, "unknown");
        assert_eq!(ping.occurred_at.unwrap().to_rfc3339(), "2026-11-18T09:30:12.345Z");
        work(app).await;
        assert!(states(app).await.iter().all(|(_, status, _)| *status == entity::kinds::ItemStatus::Done));

        let huge = vec![b' '; 4 * 1024 * 1024 + 1];
        assert_eq!(send(app, BUSINESS, BUSINESS_SECRET, &huge).await.status.as_u16(), 413);
        let large = vec![b' '; 4 * 1024 * 1024];
        assert_eq!(send(app, BUSINESS, BUSINESS_SECRET, &large).await.status.as_u16(), 200);
    }
}
