//! Signing in to the server: user, token, credentials; and that none of it is ever shown (G8).

use std::io::{BufRead as _, BufReader};
use std::process::{Command, Stdio};
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use followpoints::outbound;
use followpoints::streams::{Given, Message, Settings, Streams};
use nkeys::KeyPair;
use serde_json::{Value, json};

use super::{PATIENT, deliver_everything, failures, installed_site, subscribe};
use crate::support::certificates::{CERTIFICATE, KEY, ROOT};
use crate::support::nats::{Observer, Server, file};
use crate::support::{ADMIN_KEY, Backend, ENOUGH, Options, TestApp, TestDatabase};

const USER: &str = "authorization { user: points, password: \"p@ss-hunter2\" }";
const TOKEN: &str = "authorization { token: token-hunter2 }";

/// A service with these settings after a follow.
async fn followed(nats: Given, timeout_ms: i32) -> (TestApp, crate::support::world::Site) {
    let database = TestDatabase::new(Backend::Sqlite).await.unwrap();
    let app = TestApp::start(database, Options { nats, ..Options::default() }).await;
    let (site, installed) = installed_site(&app).await;
    subscribe(&app, &site, &installed, timeout_ms).await;
    let member = app.member(&site, "u-1").await;
    app.follow(&member, "FACEBOOK").await;
    app.drain().await;
    (app, site)
}

fn at(server: &Server, sign_in: &str) -> Given {
    Given { url: Some(format!("nats://{sign_in}@127.0.0.1:{}", server.port)), ..Given::default() }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_user_and_a_token_sign_in_and_wrong_ones_are_told() {
    for (server, right, wrong) in
        [(USER, "points:p%40ss-hunter2", "points:wrong"), (TOKEN, "token-hunter2", "wrong")]
    {
        let Some(nats) = Server::start_with(server).await else { return };
        let (app, site) = followed(at(&nats, right), PATIENT).await;
        deliver_everything(&app, &site).await;
        app.app.stop().await;

        let (app, site) = followed(at(&nats, wrong), 1_000).await;
        let told = "there is no connection to the NATS server: it refused the user name, password, token or credentials";
        assert_eq!(failures(&app, &site).await, [("CONNECT_FAILED".to_owned(), told.to_owned())]);
        app.app.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_user_who_may_only_publish_does_so_without_seeing_the_stream() {
    let more = "authorization { users: [
        { user: owner, password: owner },
        { user: points, password: points, permissions: { publish: [\"followpoints.>\"], subscribe: [\"_INBOX.>\"] } },
        { user: reader, password: reader, permissions: { publish: [\"$JS.API.>\"], subscribe: [\"_INBOX.>\"] } },
    ] }";
    let Some(nats) = Server::start_with(more).await else { return };
    let observer = Observer::with_user(&nats.url(), ("owner", "owner")).await;
    let config = json!({"name": "FOLLOWPOINTS", "subjects": ["followpoints.>"], "retention": "limits", "num_replicas": 1});
    observer.make("FOLLOWPOINTS", &config).await;

    let (app, site) = followed(at(&nats, "points:points"), PATIENT).await;
    deliver_everything(&app, &site).await;
    assert_eq!(observer.messages("FOLLOWPOINTS").await.len(), 2);
    app.app.stop().await;

    let (app, site) = followed(at(&nats, "reader:reader"), 500).await;
    let told = "the time ran out before the NATS server acknowledged the event";
    assert_eq!(failures(&app, &site).await, [("TIMEOUT".to_owned(), told.to_owned())]);
    app.app.stop().await;
}

/// A JWT as NATS has them, signed by `issuer`.
fn jwt(issuer: &KeyPair, subject: &KeyPair, nats: &Value) -> String {
    let part = |value: Value| URL_SAFE_NO_PAD.encode(value.to_string());
    let claims = json!({
        "jti": "1", "iat": 1_722_513_101, "iss": issuer.public_key(), "sub": subject.public_key(), "name": "points",
        "nats": nats,
    });
    let signed = format!("{}.{}", part(json!({"typ": "JWT", "alg": "ed25519-nkey"})), part(claims));
    let signature = URL_SAFE_NO_PAD.encode(issuer.sign(signed.as_bytes()).unwrap());
    format!("{signed}.{signature}")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_credentials_file_signs_in() {
    let (operator, account, user) = (KeyPair::new_operator(), KeyPair::new_account(), KeyPair::new_user());
    let system = KeyPair::new_account();
    let unlimited = json!({
        "subs": -1, "data": -1, "payload": -1, "imports": -1, "exports": -1, "wildcards": true, "conn": -1, "leaf": -1,
        "mem_storage": -1, "disk_storage": -1, "streams": -1, "consumer": -1,
    });
    let operator_jwt = jwt(&operator, &operator, &json!({"type": "operator", "version": 2}));
    let account_jwt =
        jwt(&operator, &account, &json!({"type": "account", "version": 2, "limits": unlimited}));
    let system_jwt = jwt(&operator, &system, &json!({"type": "account", "version": 2}));
    let may =
        json!({"type": "user", "version": 2, "pub": {}, "sub": {}, "subs": -1, "data": -1, "payload": -1});
    let user_jwt = jwt(&account, &user, &may);
    let more = format!(
        "operator: {operator_jwt}\nsystem_account: {system}\nresolver: MEMORY\n\
         resolver_preload: {{ {}: {account_jwt}, {system}: {system_jwt} }}",
        account.public_key(),
        system = system.public_key(),
    );
    let Some(nats) = Server::start_with(&more).await else { return };
    let dir = tempfile::tempdir().unwrap();
    let text = format!(
        "-----BEGIN NATS USER JWT-----\n{user_jwt}\n------END NATS USER JWT------\n\n\
         -----BEGIN USER NKEY SEED-----\n{}\n------END USER NKEY SEED------\n",
        user.seed().unwrap(),
    );
    let credentials = file(dir.path(), "points.creds", &text);

    let (app, site) = followed(Given { credentials_file: Some(credentials), ..nats.given() }, PATIENT).await;
    deliver_everything(&app, &site).await;
    app.app.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_with_tls_is_trusted_by_the_operators_authorities_alone() {
    let dir = tempfile::tempdir().unwrap();
    let (certificate, key) = (file(dir.path(), "cert.pem", CERTIFICATE), file(dir.path(), "key.pem", KEY));
    let more = format!("tls {{ cert_file: {certificate:?}, key_file: {key:?} }}");
    let Some(nats) = Server::start_with(&more).await else { return };
    let message = Message {
        subject: "followpoints.site.event".to_owned(),
        id: "1".to_owned(),
        headers: Vec::new(),
        payload: "told".into(),
    };
    // A server that wants encryption is given it, whatever the URL says.
    for scheme in ["tls", "nats"] {
        let url = Some(format!("{scheme}://127.0.0.1:{}", nats.port));
        let settings = Settings::new(Given { url, ..Given::default() }).unwrap().unwrap();
        let streams = Streams::connect(&settings, outbound::trust(ROOT.as_bytes()).unwrap()).await.unwrap();
        assert_eq!(streams.publish(&message, ENOUGH).await.unwrap().stream, "FOLLOWPOINTS");
        streams.close().await;

        let stranger = Streams::connect(&settings, outbound::trust(b"").unwrap()).await.unwrap();
        let refused = stranger.publish(&message, Duration::from_secs(1)).await.unwrap_err();
        assert_eq!(refused.class(), "CONNECT_FAILED");
        stranger.close().await;
    }
}

#[test]
fn g8_the_log_does_not_show_the_password_even_at_its_most_talkative() {
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let Some(nats) = runtime.block_on(Server::start_with(USER)) else { return };
    for (password, until) in [
        ("p%40ss-hunter2", "the NATS stream is there"),
        ("wrong-hunter2", "NATS cannot be reached; trying again"),
    ] {
        let dir = tempfile::tempdir().unwrap();
        let mut child = Command::new(env!("CARGO_BIN_EXE_followpoints"))
            .arg("serve")
            .env_clear()
            .env("FOLLOWPOINTS_LISTEN", "127.0.0.1:0")
            .env("FOLLOWPOINTS_ADMIN_KEY", ADMIN_KEY)
            .env("FOLLOWPOINTS_NATS_URL", format!("nats://points:{password}@127.0.0.1:{}", nats.port))
            .env("FOLLOWPOINTS_LOG", "trace")
            .current_dir(dir.path())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let lines = BufReader::new(child.stderr.take().unwrap()).lines();
        let (said, hears) = std::sync::mpsc::channel();
        std::thread::spawn(move || {
            for line in lines.map_while(Result::ok) {
                let _ = said.send(line);
            }
        });
        let (deadline, mut log) = (std::time::Instant::now() + ENOUGH, String::new());
        while !log.contains(until) {
            let left = deadline.saturating_duration_since(std::time::Instant::now());
            log += &hears.recv_timeout(left).unwrap_or_else(|_| panic!("no `{until}` in:\n{log}"));
            log.push('\n');
        }
        child.kill().unwrap();
        child.wait().unwrap();
        assert!(log.contains("write operation: CONNECT"), "the client library logs what it sends");
        assert!(!log.contains("hunter2"), "{log}");
    }
}
