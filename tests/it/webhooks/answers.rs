//! What a receiver may answer, or fail to, and what becomes of it.

use std::io;
use std::net::IpAddr;
use std::sync::Arc;

use followpoints::outbound::Resolve;
use futures_util::future::BoxFuture;
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpListener;

use super::{
    DELIVERIES, FOLLOWED, SUBSCRIPTIONS, deliveries, delivery_of, installed_site, new_follower,
    patch_subscription, subscribe_with,
};
use crate::on_both;
use crate::support::receiver::{Receiver, Reply};
use crate::support::world::{ALL_EVENTS, text};
use crate::support::{ADMIN_KEY, Options};

const AT: &str = "2024-08-01T11:51:41.431Z";

on_both! {
    async fn any_2xx_is_accepted_all_else_is_tried_again_and_redirects_are_not_followed(app: &TestApp) {
        let (site, installed) = installed_site(app).await;
        let elsewhere = Receiver::start().await;
        let mut cases = Vec::new();
        for (status, expected) in [
            (200, "DELIVERED"),
            (201, "DELIVERED"),
            (202, "DELIVERED"),
            (204, "DELIVERED"),
            (299, "DELIVERED"),
            (300, "RETRYING"),
            (301, "RETRYING"),
            (302, "RETRYING"),
            (307, "RETRYING"),
            (308, "RETRYING"),
            (400, "RETRYING"),
            (401, "RETRYING"),
            (404, "RETRYING"),
            (500, "RETRYING"),
            (503, "RETRYING"),
        ] {
            let receiver = Receiver::start().await;
            receiver.answer([Reply::status(status).header("location", elsewhere.url.clone())]);
            let subscription = app.subscribe(&site, &installed, &[FOLLOWED], &receiver.url).await;
            cases.push((status, expected, subscription, receiver));
        }
        new_follower(app, &site, "u-1").await;
        app.drain().await;

        for (status, expected, subscription, receiver) in cases {
            let delivery = delivery_of(app, &site, &subscription).await;
            assert_eq!(delivery["status"], expected, "{status}");
            assert_eq!(delivery["attempts"].as_array().unwrap().len(), 1);
            assert_eq!(delivery["attempts"][0]["statusCode"], status);
            assert_eq!(delivery["attempts"][0]["responseHeaders"]["location"], elsewhere.url);
            assert_eq!(delivery["finishedDate"].is_string(), expected == "DELIVERED");
            assert_eq!(delivery["nextAttemptDate"].is_string(), expected == "RETRYING");
            assert_eq!(receiver.count(), 1);
        }
        assert_eq!(elsewhere.count(), 0);
    }
}

on_both! {
    async fn a_410_disables_the_subscription_and_later_events_are_held_for_it(app: &TestApp) {
        let (site, installed) = installed_site(app).await;
        let (leaving, staying) = (Receiver::start().await, Receiver::start().await);
        leaving.answer([Reply::status(410)]);
        let gone = app.subscribe(&site, &installed, &[FOLLOWED], &leaving.url).await;
        let other = app.subscribe(&site, &installed, &[FOLLOWED], &staying.url).await;
        app.clock.advance_ms(1_000);
        new_follower(app, &site, "u-1").await;
        app.drain().await;

        let path = format!("{SUBSCRIPTIONS}/{gone}");
        assert_eq!(
            app.call("GET", &path).key(ADMIN_KEY, &site.id).ok().await,
            json!({"webhookSubscription": {
                "id": gone, "appId": installed.id, "appInstanceId": installed.instance_id,
                "eventTypes": [FOLLOWED], "type": "WEBHOOK", "url": leaving.url, "status": "DISABLED",
                "statusReason": "the receiver answered 410 Gone", "timeoutMs": 1250, "maxInFlight": 64,
                "retryProfile": "WIX", "ordering": "PARALLEL", "customHeaders": [], "failingSinceDate": "2024-08-01T11:51:42.431Z",
                "signatureHeaders": [],
                "revision": "2", "createdDate": AT, "updatedDate": "2024-08-01T11:51:42.431Z",
            }})
        );
        let delivery = delivery_of(app, &site, &gone).await;
        assert_eq!((&delivery["status"], &delivery["attemptCount"]), (&json!("EXHAUSTED"), &json!(1)));
        assert_eq!(delivery["finishedDate"], "2024-08-01T11:51:42.431Z");

        new_follower(app, &site, "u-2").await;
        app.drain().await;
        let of_gone =
            |rows: &[Value]| rows.iter().filter(|row| row["subscriptionId"] == gone.as_str()).count();
        let rows = deliveries(app, &site).await;
        assert_eq!((of_gone(&rows), rows.len()), (2, 4));
        assert_eq!(leaving.count(), 1);

        let same = patch_subscription(app, &site, &gone, &json!({"status": "DISABLED"})).await;
        assert_eq!(same["statusReason"], "the receiver answered 410 Gone", "the owner changed nothing");
        let enabled = patch_subscription(app, &site, &gone, &json!({"status": "ENABLED"})).await;
        assert_eq!((&enabled["status"], enabled.get("statusReason")), (&json!("ENABLED"), None));
        new_follower(app, &site, "u-3").await;
        app.drain().await;
        let rows = deliveries(app, &site).await;
        assert_eq!((of_gone(&rows), rows.len()), (3, 6));
        assert_eq!((leaving.count(), staying.count()), (3, 3));
        assert_eq!(rows.iter().filter(|row| row["subscriptionId"] == other.as_str()).count(), 3);
    }
}

/// A port that nobody listens on.
async fn closed_port() -> u16 {
    TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap().port()
}

/// A name that leads into the operator's network, and all others, which lead to the outside.
struct Names;

impl Resolve for Names {
    fn resolve(&self, host: &str) -> BoxFuture<'_, io::Result<Vec<IpAddr>>> {
        let address = if host == "inside.example" { [10, 0, 0, 7] } else { [8, 8, 8, 8] };
        Box::pin(async move { Ok(vec![IpAddr::from(address)]) })
    }
}

on_both! {
    options: Options { resolver: Arc::new(Names), ..Options::default() },
    async fn the_owner_of_a_url_that_must_not_be_called_is_not_told_where_it_leads(app: &TestApp) {
        let inside = "the host is not publicly reachable and must not be called";
        for (url, error) in [
            ("https://inside.example/", inside),
            ("http://inside.example/", inside),
            ("http://outside.example/", "the host may only be called over https"),
        ] {
            let (site, installed) = installed_site(app).await;
            let id = app.subscribe(&site, &installed, &[FOLLOWED], url).await;
            new_follower(app, &site, "u-1").await;
            app.drain().await;
            let delivery = text(&deliveries(app, &site).await[0]["id"]);
            for (method, path, attempt) in [
                ("GET", format!("{DELIVERIES}/{delivery}"), "/webhookDelivery/attempts/0"),
                ("POST", format!("{SUBSCRIPTIONS}/{id}/test"), "/webhookTest/attempt"),
            ] {
                let shown = app.call(method, &path).key(ADMIN_KEY, &site.id).ok().await;
                let attempt = shown.pointer(attempt).unwrap();
                assert_eq!(
                    (&attempt["errorClass"], &attempt["error"]),
                    (&json!("FORBIDDEN_ADDRESS"), &json!(error)),
                    "{method} {url}"
                );
                for address in ["10.0.0.7", "8.8.8.8"] {
                    assert!(!shown.to_string().contains(address), "{shown}");
                }
            }
        }
    }
}

/// Answers the first bytes of every connection with these bytes and says no more.
async fn raw_receiver(answer: &'static [u8]) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/hook", listener.local_addr().unwrap());
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            let _ = stream.read(&mut [0; 16]).await;
            let _ = stream.write_all(answer).await;
            let _ = stream.shutdown().await;
            // To close with unread bytes would take back what was sent.
            let _ = tokio::io::copy(&mut stream, &mut tokio::io::sink()).await;
        }
    });
    url
}

on_both! {
    async fn a_receiver_that_gives_no_answer_is_tried_again_and_the_reason_is_logged(app: &TestApp) {
        let (site, installed) = installed_site(app).await;
        let silent = Receiver::start().await;
        silent.answer([Reply::hang()]);
        let port = closed_port().await;
        let mut cases = Vec::new();
        for (url, class, error) in [
            (silent.url.clone(), "TIMEOUT", "the time ran out while waiting for the answer".to_owned()),
            (
                format!("http://127.0.0.1:{port}/hook"),
                "CONNECT_FAILED",
                format!("no connection to 127.0.0.1:{port}: the connection was refused"),
            ),
            (
                format!("https://127.0.0.1:{port}/hook"),
                "CONNECT_FAILED",
                format!("no connection to 127.0.0.1:{port}: the connection was refused"),
            ),
        ] {
            let id =
                subscribe_with(app, &site, &installed, &url, &json!({"timeoutMs": 100})).await["id"].clone();
            cases.push((text(&id), class, error));
        }
        new_follower(app, &site, "u-1").await;
        app.drain().await;

        for (subscription, class, error) in cases {
            let delivery = delivery_of(app, &site, &subscription).await;
            assert_eq!(delivery["status"], "RETRYING", "{class}");
            assert_eq!(
                delivery["attempts"],
                json!([{"number": 1, "startedDate": AT, "errorClass": class, "error": error}])
            );
        }
    }
}

on_both! {
    async fn what_is_not_http_is_a_failure_and_a_body_that_breaks_off_changes_no_status(app: &TestApp) {
        let (site, installed) = installed_site(app).await;
        let mut cases = Vec::new();
        for (answer, status, class) in [
            (b"".as_slice(), "RETRYING", Some("PROTOCOL_ERROR")),
            (b"SSH-2.0-OpenSSH_9.7\r\n".as_slice(), "RETRYING", Some("PROTOCOL_ERROR")),
            (b"HTTP/1.1 200 OK\r\ncontent-le".as_slice(), "RETRYING", Some("PROTOCOL_ERROR")),
            (b"HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\nonly this".as_slice(), "DELIVERED", None),
            (b"HTTP/1.1 500 No\r\ncontent-length: 100\r\n\r\nonly this".as_slice(), "RETRYING", None),
        ] {
            let url = raw_receiver(answer).await;
            let subscription = app.subscribe(&site, &installed, &[FOLLOWED], &url).await;
            cases.push((String::from_utf8_lossy(answer), status, class, subscription));
        }
        new_follower(app, &site, "u-1").await;
        app.drain().await;

        for (answer, status, class, subscription) in cases {
            let delivery = delivery_of(app, &site, &subscription).await;
            let attempt = &delivery["attempts"][0];
            assert_eq!(delivery["status"], status, "{answer}");
            assert_eq!(attempt["errorClass"].as_str(), class, "{answer}");
            assert!(attempt["error"].is_string(), "{answer}");
            assert_eq!(attempt["responseBody"].as_str(), class.is_none().then_some("only this"), "{answer}");
        }
    }
}

on_both! {
    async fn the_time_limit_of_a_try_is_the_subscriptions_own(app: &TestApp) {
        let (site, installed) = installed_site(app).await;
        let silent = Receiver::start().await;
        silent.answer([Reply::hang(), Reply::hang()]);
        let mut limits = Vec::new();
        for limit in [100_u64, 1_600] {
            let more = json!({"timeoutMs": limit});
            let id = subscribe_with(app, &site, &installed, &silent.url, &more).await["id"].clone();
            limits.push((id, limit));
        }
        new_follower(app, &site, "u-1").await;
        app.drain().await;

        let mut took = Vec::new();
        for delivery in deliveries(app, &site).await {
            let path = format!("{DELIVERIES}/{}", text(&delivery["id"]));
            let whole = app.call("GET", &path).key(ADMIN_KEY, &site.id).ok().await;
            let attempt = &whole["webhookDelivery"]["attempts"][0];
            assert_eq!(attempt["errorClass"], "TIMEOUT");
            let limit = limits.iter().find(|(id, _)| *id == delivery["subscriptionId"]).unwrap().1;
            let millis = attempt["durationMs"].as_u64().unwrap();
            assert!(millis >= limit, "given up after {millis} of {limit} ms");
            took.push((limit, millis));
        }
        took.sort_unstable();
        assert!(took[0].1 < took[1].1, "the shorter limit ends sooner: {took:?}");
    }
}

on_both! {
    async fn at_most_16_kib_of_an_answer_is_kept_and_bytes_that_are_not_text_do_no_harm(app: &TestApp) {
        let (site, installed) = installed_site(app).await;
        let mut cases = Vec::new();
        for (body, kept) in [
            (vec![b'a'; 16_384], "a".repeat(16_384)),
            (vec![b'a'; 300_000], "a".repeat(16_384)),
            (b"a\0b\0".to_vec(), "a\u{fffd}b\u{fffd}".to_owned()),
            (b"f\xff\xfeo\xc3".to_vec(), "f\u{fffd}\u{fffd}o\u{fffd}".to_owned()),
            (
                "\u{1f37a} 'quoted' \"twice\" \\ \u{7} {rows} {1} $1 ?1".into(),
                "\u{1f37a} 'quoted' \"twice\" \\ \u{7} {rows} {1} $1 ?1".to_owned(),
            ),
        ] {
            for (status, becomes) in [(200, "DELIVERED"), (500, "RETRYING")] {
                let receiver = Receiver::start().await;
                let reply = Reply::status(status).header("x-note", "caf\u{e9} {rows}").header("x-note", "and more");
                receiver.answer([reply.body(body.clone())]);
                let subscription = app.subscribe(&site, &installed, &ALL_EVENTS[..1], &receiver.url).await;
                cases.push((subscription, becomes, kept.clone()));
            }
        }
        new_follower(app, &site, "u-1").await;
        app.drain().await;

        for (subscription, becomes, kept) in cases {
            let delivery = delivery_of(app, &site, &subscription).await;
            assert_eq!(delivery["status"], becomes);
            let logged = text(&delivery["attempts"][0]["responseBody"]);
            assert_eq!((logged.len(), &logged), (kept.len(), &kept));
            assert_eq!(delivery["attempts"][0]["responseHeaders"]["x-note"], "caf\u{e9} {rows}, and more");
        }
    }
}
