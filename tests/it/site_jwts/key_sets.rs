//! Key sets behind a URL: rotation, outages, and addresses that must not be asked.

use std::io;
use std::net::{IpAddr, Ipv4Addr, TcpListener};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use followpoints::outbound::Resolve;
use futures_util::future::{BoxFuture, join_all};
use serde_json::{Value, json};

use super::{NOW, claims, issuer, known, status, trust, trusting_site};
use crate::on_both;
use crate::support::Options;
use crate::support::keys::{self, HMAC_SECRET, Key};
use crate::support::receiver::{Receiver, Reply};

/// A key set as a provider answers it.
pub fn set(keys: &[Value]) -> Reply {
    Reply::status(200).header("content-type", "application/json").body(json!({"keys": keys}).to_string())
}

/// Claims of a token that outlives the test.
fn long_claims(sub: &str) -> Value {
    let mut claims = claims(sub);
    claims["exp"] = json!(NOW + 86_400);
    claims
}

fn provider() -> (Key, Key) {
    (keys::ed(keys::ED_PRIVATE), keys::ed(keys::STRANGER_ED_PRIVATE))
}

on_both! {
    async fn a_new_key_is_found_by_asking_again_at_most_every_ten_seconds(app: &TestApp) {
        let (old, new) = provider();
        let server = Receiver::start().await;
        server.answer([set(&[old.jwk("k-1")]), set(&[old.jwk("k-1"), new.jwk("k-2")])]);
        trusting_site(app, issuer("jwksUrl", &server.url)).await;

        assert_eq!(status(app, &old.sign_as("k-1", &claims("u-1"))).await, 200);
        assert_eq!(server.received().len(), 1);
        // The provider signs with the new key, but the set was asked for a moment ago.
        for _ in 0..3 {
            assert_eq!(status(app, &new.sign_as("k-2", &claims("u-2"))).await, 401);
        }
        app.clock.advance_ms(9_999);
        assert_eq!(status(app, &new.sign_as("k-2", &claims("u-2"))).await, 401);
        assert_eq!(server.received().len(), 1);

        app.clock.advance_ms(1);
        assert_eq!(status(app, &new.sign_as("k-2", &claims("u-2"))).await, 200);
        assert_eq!(server.received().len(), 2);
        for number in 0..10 {
            assert_eq!(status(app, &new.sign_as(&format!("k-{number}x"), &claims("u-3"))).await, 401);
        }
        assert_eq!(server.received().len(), 2);
    }
}

on_both! {
    async fn a_key_that_was_taken_back_is_refused_once_the_set_is_asked_for_again(app: &TestApp) {
        let (old, new) = provider();
        let server = Receiver::start().await;
        server.answer([set(&[old.jwk("k-1")]), set(&[new.jwk("k-2")])]);
        trusting_site(app, issuer("jwksUrl", &server.url)).await;
        assert_eq!(status(app, &old.sign_as("k-1", &long_claims("u-1"))).await, 200);

        app.clock.advance_ms(5 * 60_000);

        assert_eq!(status(app, &old.sign_as("k-1", &long_claims("u-1"))).await, 401);
        assert_eq!(status(app, &new.sign_as("k-2", &long_claims("u-2"))).await, 200);
        assert_eq!(server.received().len(), 2);
    }
}

on_both! {
    async fn g7_a_set_that_cannot_be_had_proves_nobody(app: &TestApp) {
        let (key, _) = provider();
        let gone = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
        let closed = format!("http://{gone}/jwks.json");
        let site = trusting_site(app, issuer("jwksUrl", &closed)).await;
        assert_eq!(status(app, &key.sign_as("k-1", &claims("u-1"))).await, 401);

        let good = json!({"keys": [key.jwk("k-1")]}).to_string();
        let elsewhere = Receiver::start().await;
        elsewhere.answer([set(&[key.jwk("k-1")])]);
        let padded = format!("{good}{}", " ".repeat(64 * 1024));
        for reply in [
            Reply::status(500).body(good.clone()),
            Reply::status(404).body(good.clone()),
            Reply::status(302).header("location", elsewhere.url.clone()),
            Reply::status(204),
            Reply::status(200).body("not JSON"),
            Reply::status(200).body(json!({"keys": {}}).to_string()),
            Reply::status(200).body(json!([key.jwk("k-1")]).to_string()),
            Reply::status(200).body(padded),
            set(&[]),
        ] {
            let server = Receiver::start().await;
            let text = format!("{reply:?}");
            server.answer([reply]);
            assert_eq!(trust(app, &site, json!([issuer("jwksUrl", &server.url)])).await.status.as_u16(), 200);
            assert_eq!(status(app, &key.sign_as("k-1", &claims("u-1"))).await, 401, "{text}");
            assert_eq!(server.received().len(), 1, "{text}");
        }
        assert_eq!(elsewhere.received().len(), 0);
        assert_eq!(known(app, &site).await, Vec::<String>::new());
    }
}

on_both! {
    async fn g7_a_set_that_cannot_be_had_again_is_trusted_for_an_hour_and_no_longer(app: &TestApp) {
        let (key, _) = provider();
        let server = Receiver::start().await;
        // After its first answer the server sends empty bodies.
        server.answer([set(&[key.jwk("k-1")])]);
        trusting_site(app, issuer("jwksUrl", &server.url)).await;
        assert_eq!(status(app, &key.sign_as("k-1", &long_claims("u-1"))).await, 200);

        app.clock.advance_ms(3_600_000 - 1);
        assert_eq!(status(app, &key.sign_as("k-1", &long_claims("u-2"))).await, 200);
        app.clock.advance_ms(1);
        assert_eq!(status(app, &key.sign_as("k-1", &long_claims("u-3"))).await, 401);
        // What was verified is remembered for a minute at the most.
        app.clock.advance_ms(60_000);
        for sub in ["u-1", "u-2"] {
            assert_eq!(status(app, &key.sign_as("k-1", &long_claims(sub))).await, 401);
        }

        // The provider is back.
        server.answer([set(&[key.jwk("k-1")])]);
        app.clock.advance_ms(10_000);
        assert_eq!(status(app, &key.sign_as("k-1", &long_claims("u-1"))).await, 200);
    }
}

on_both! {
    async fn of_a_set_only_the_named_signing_key_counts(app: &TestApp) {
        let (one, two) = provider();
        let rsa = keys::rsa(keys::RSA_PRIVATE);
        let mut for_encryption = rsa.jwk("k-enc");
        for_encryption["use"] = json!("enc");
        let secret = keys::hmac(HMAC_SECRET.as_bytes());
        let unknown = json!({"kty": "NEW", "kid": "k-new", "z": 1});
        let server = Receiver::start().await;
        let all = [unknown, json!(7), for_encryption, secret.jwk("k-secret"), one.jwk("k-1"), two.jwk("k-2")];
        server.answer([set(&all)]);
        let site = trusting_site(app, issuer("jwksUrl", &server.url)).await;

        assert_eq!(status(app, &one.sign_as("k-1", &claims("u-1"))).await, 200);
        assert_eq!(status(app, &two.sign_as("k-2", &claims("u-2"))).await, 200);
        for (name, token) in [
            ("another key of the set", one.sign_as("k-2", &claims("u-3"))),
            ("no kid among several", one.sign(&claims("u-3"))),
            ("an empty kid", one.sign_as("", &claims("u-3"))),
            ("an unknown kid", one.sign_as("k-9", &claims("u-3"))),
            ("a key for encryption", rsa.sign_as("k-enc", &claims("u-3"))),
            ("a published secret", secret.sign_as("k-secret", &claims("u-3"))),
            ("another algorithm", rsa.sign_as("k-1", &claims("u-3"))),
        ] {
            assert_eq!(status(app, &token).await, 401, "{name}");
        }
        assert_eq!(known(app, &site).await, ["u-1", "u-2"]);
    }
}

on_both! {
    async fn parallel_callers_share_one_fetch(app: &TestApp) {
        let (key, _) = provider();
        let server = Receiver::start().await;
        server.answer([set(&[key.jwk("k-1")])]);
        let site = trusting_site(app, issuer("jwksUrl", &server.url)).await;
        let tokens: Vec<_> =
            (0..30).map(|number| key.sign_as("k-1", &claims(&format!("u-{number}")))).collect();

        let statuses = join_all(tokens.iter().map(|token| status(app, token))).await;

        assert_eq!(statuses, [200; 30]);
        assert_eq!(server.received().len(), 1);
        assert_eq!(known(app, &site).await.len(), 30);
    }
}

/// Answers every name with the loopback address, after the URL was saved: a name that was bound anew.
#[derive(Default)]
struct Rebinding {
    asked: AtomicUsize,
}

impl Resolve for Rebinding {
    fn resolve(&self, _: &str) -> BoxFuture<'_, io::Result<Vec<IpAddr>>> {
        self.asked.fetch_add(1, Ordering::SeqCst);
        Box::pin(async { Ok(vec![IpAddr::V4(Ipv4Addr::LOCALHOST)]) })
    }
}

static REBINDING: std::sync::LazyLock<Arc<Rebinding>> = std::sync::LazyLock::new(Arc::default);

on_both! {
    options: Options { allow_nets: "", resolver: REBINDING.clone(), ..Options::default() },
    async fn a_name_that_leads_inside_is_not_asked_for_keys(app: &TestApp) {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        listener.set_nonblocking(true).unwrap();
        let url = format!("https://keys.example:{}/jwks.json", listener.local_addr().unwrap().port());
        trusting_site(app, issuer("jwksUrl", &url)).await;
        let asked = REBINDING.asked.load(Ordering::SeqCst);

        assert_eq!(status(app, &provider().0.sign_as("k-1", &claims("u-1"))).await, 401);

        assert!(REBINDING.asked.load(Ordering::SeqCst) > asked, "the name was not even looked up");
        assert_eq!(listener.accept().unwrap_err().kind(), io::ErrorKind::WouldBlock);
    }
}

on_both! {
    options: Options { allow_nets: "", ..Options::default() },
    async fn an_address_inside_is_not_saved(app: &TestApp) {
        let site = app.site().await;
        for url in [
            "http://keys.example/jwks.json",
            "https://127.0.0.1/jwks.json",
            "https://2130706433/jwks.json",
            "https://localhost/jwks.json",
            "https://10.0.0.1/jwks.json",
            "https://169.254.169.254/latest/meta-data",
            "https://[::1]/jwks.json",
            "https://[::ffff:10.0.0.1]/jwks.json",
            "https://user:password@keys.example/jwks.json",
            "ftp://keys.example/jwks.json",
            "file:///etc/passwd",
            "keys.example",
            "",
        ] {
            let answer = trust(app, &site, json!([issuer("jwksUrl", url)])).await;
            let expected = [("siteAuth.trustedIssuers[0].jwksUrl".to_owned(), "FORMAT".to_owned())];
            assert_eq!(answer.violations(), expected, "{url}");
        }
    }
}
