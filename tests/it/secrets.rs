//! G8: secrets are hashed or sealed at rest, shown once, and never in the log.

use std::io::{BufRead as _, BufReader};
use std::net::SocketAddr;
use std::process::{Child, Command, Stdio};

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use entity::{app_key, instance_key, subscription_secret, trusted_issuer};
use followpoints::seal::{self, Sealer};
use sea_orm::EntityTrait as _;
use serde_json::{Value, json};

use crate::on_both;
use crate::support::callers::{Everything, INSTANCE_ADMIN};
use crate::support::document::operations;
use crate::support::dump::dump;
use crate::support::keys::{self, HMAC_SECRET};
use crate::support::receiver::Receiver;
use crate::support::world::{ALL_EVENTS, text};
use crate::support::{ADMIN_KEY, ENOUGH, TestApp, wire};

/// Everything that must not be found, by name: what callers were given, and the private halves of keys.
async fn secrets(app: &TestApp, all: &Everything) -> Vec<(String, Vec<u8>)> {
    let body = json!({"siteAuth": {"trustedIssuers": [
        {"issuer": "https://id.example", "audience": "shop", "hmacSecret": HMAC_SECRET},
    ]}});
    app.call("PATCH", "/admin/v1/site-auth").auth(&all.admin.secret).json(&body).ok().await;
    let body = json!({"apiKey": {"name": "operator", "scopes": [INSTANCE_ADMIN]}});
    let instance = app.call("POST", "/admin/v1/api-keys").auth(ADMIN_KEY).json(&body).ok().await;
    let mut found: Vec<(String, Vec<u8>)> = [
        ("the admin key", ADMIN_KEY.to_owned()),
        ("an instance key", text(&instance["secret"])),
        ("a site's key", all.admin.secret.clone()),
        ("another key", all.reader.secret.clone()),
        ("the app's secret", all.app.secret.clone()),
        ("the shared secret", HMAC_SECRET.to_owned()),
        ("a member's token", all.member.token.clone()),
        ("a member's refresh token", all.member.refresh_token.clone()),
        ("a visitor's token", all.visitor.clone()),
        ("a visitor's refresh token", all.visitor_refresh.clone()),
        ("the app's token", all.app_token.clone()),
        ("a subscription's shared secret", all.signing_secret.clone()),
    ]
    .map(|(name, secret)| (name.to_owned(), secret.into_bytes()))
    .to_vec();
    let sealer = &app.app.sealer;
    for key in app_key::Entity::find().all(app.app.db.read()).await.unwrap() {
        let private = sealer.open(&format!("app-key:{}", key.id), &key.private_key).unwrap();
        found.push(("an app's private key".to_owned(), private));
    }
    for key in instance_key::Entity::find().all(app.app.db.read()).await.unwrap() {
        let private = sealer.open(&format!("instance-key:{}", key.name), &key.private_key).unwrap();
        found.push(("the installation's private key".to_owned(), private));
    }
    for secret in subscription_secret::Entity::find().all(app.app.db.read()).await.unwrap() {
        let bytes = sealer.open(&format!("subscription-secret:{}", secret.id), &secret.sealed).unwrap();
        found.push(("what signs a subscription's webhooks".to_owned(), bytes));
    }
    assert_eq!(found.len(), 16);
    found
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |text, byte| format!("{text}{byte:02x}"))
}

/// The secret as it might be written. Of long ones a stretch from the middle is enough, at a place where base64 of the
/// whole has it in one line; what comes before it is the same in every key.
fn spellings(secret: &[u8]) -> Vec<String> {
    let stretch = if secret.len() > 100 { &secret[48..84] } else { secret };
    let mut spellings = vec![
        STANDARD.encode(stretch).trim_end_matches('=').to_owned(),
        URL_SAFE_NO_PAD.encode(stretch),
        hex(stretch),
        hex(stretch).to_uppercase(),
    ];
    if let Ok(text) = std::str::from_utf8(stretch) {
        spellings.push(text.to_owned());
    }
    let written: Vec<String> = spellings.iter().map(|text| hex(text.as_bytes())).collect();
    spellings.extend(written.iter().map(|text| text.to_uppercase()));
    spellings.extend(written);
    spellings
}

/// The secrets that stand in `text`, by name.
fn leaks<'a>(secrets: &'a [(String, Vec<u8>)], text: &str) -> Vec<&'a str> {
    let is_there = |secret: &[u8]| spellings(secret).iter().any(|spelling| text.contains(spelling.as_str()));
    secrets.iter().filter(|(_, secret)| is_there(secret)).map(|(name, _)| name.as_str()).collect()
}

#[test]
fn a_leak_is_found_in_every_spelling() {
    for secret in [b"fpk_short".to_vec(), (0..=255).collect::<Vec<u8>>()] {
        let secrets = [("it".to_owned(), secret.clone())];
        for text in [
            hex(&secret),
            hex(&secret).to_uppercase(),
            STANDARD.encode(&secret),
            URL_SAFE_NO_PAD.encode(&secret),
            hex(STANDARD.encode(&secret).as_bytes()),
        ] {
            assert_eq!(leaks(&secrets, &format!("x{text}y")), ["it"], "{text}");
        }
        assert_eq!(leaks(&secrets, "nothing of that kind"), Vec::<&str>::new());
    }
}

on_both! {
    async fn g8_no_table_holds_a_secret_in_any_spelling(app: &TestApp) {
        let all = app.everything().await;
        let secrets = secrets(app, &all).await;
        let rows = dump(&app.app.db).await;
        for table in
            ["api_key", "app_secret", "app_key", "instance_key", "refresh_token", "trusted_issuer", "signed_event", "subscription_secret"]
        {
            assert!(rows.iter().any(|row| row.starts_with(&format!("{table}: "))), "{table} is empty");
        }
        for row in rows {
            assert_eq!(leaks(&secrets, &row), Vec::<&str>::new(), "{row}");
        }
    }
}

on_both! {
    async fn g8_what_was_shown_once_is_never_shown_again(app: &TestApp) {
        let all = app.everything().await;
        let secrets = secrets(app, &all).await;
        for operation in operations().iter().filter(|operation| operation.method == "GET") {
            let sample = all.sample(operation.id);
            let is_admin_list = operation.id.starts_with("list") && operation.path.starts_with("/admin/");
            let query = if is_admin_list { "?limit=100" } else { &sample.query };
            let auth = if operation.is_members_own() { &all.member.token } else { ADMIN_KEY };
            let call = app.call("GET", &operation.uri(&sample.id, query)).key(auth, &all.site.id);
            let answer = call.send().await;
            assert_eq!(answer.status.as_u16(), 200, "{}: {}", operation.id, answer.text);
            assert_eq!(leaks(&secrets, &answer.text), Vec::<&str>::new(), "{}", operation.id);
        }
        let listed = app.call("GET", "/admin/v1/api-keys").auth(ADMIN_KEY).ok().await;
        assert_eq!(leaks(&secrets, &listed.to_string()), Vec::<&str>::new());
    }
}

on_both! {
    async fn g8_sealed_secrets_open_only_with_their_key_for_their_purpose(app: &TestApp) {
        let all = app.everything().await;
        secrets(app, &all).await;
        let db = app.app.db.read();
        let issuers = trusted_issuer::Entity::find().all(db).await.unwrap();
        let stored = issuers[0].hmac_secret.as_deref().unwrap();
        let purpose = format!("trusted-issuer:{}", all.site.id);
        let sealer = &app.app.sealer;
        assert_eq!(sealer.open(&purpose, stored).unwrap(), HMAC_SECRET.as_bytes());

        let other = Sealer::new(&seal::new_master_key().unwrap()).unwrap();
        assert!(other.open(&purpose, stored).is_err());
        assert!(sealer.open(&format!("trusted-issuer:{}", all.app.id), stored).is_err());
        assert!(sealer.open("", stored).is_err());
        for index in 0..stored.len() {
            let mut altered = stored.to_vec();
            altered[index] ^= 1;
            assert!(sealer.open(&purpose, &altered).is_err(), "byte {index}");
            assert!(sealer.open(&purpose, &stored[..index]).is_err(), "{index} bytes");
        }
        let again = sealer.seal(&purpose, HMAC_SECRET.as_bytes()).unwrap();
        assert_ne!(again, stored, "the same secret sealed twice looks different");
    }
}

/// The real service, logging everything it can.
struct Service {
    child: Running,
    address: SocketAddr,
    log: std::thread::JoinHandle<String>,
}

/// A process that does not outlive the test.
struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn start(master_key: &str, dir: &std::path::Path) -> Service {
    let mut child = Command::new(env!("CARGO_BIN_EXE_followpoints"))
        .arg("serve")
        .env_clear()
        .env("FOLLOWPOINTS_LISTEN", "127.0.0.1:0")
        .env("FOLLOWPOINTS_DATABASE_URL", format!("sqlite://{}/test.db?mode=rwc", dir.display()))
        .env("FOLLOWPOINTS_ADMIN_KEY", ADMIN_KEY)
        .env("FOLLOWPOINTS_MASTER_KEY", master_key)
        .env("FOLLOWPOINTS_WEBHOOK_ALLOW_NETS", "127.0.0.0/8")
        .env("FOLLOWPOINTS_LOG", "trace")
        .current_dir(dir)
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .map(Running)
        .unwrap();
    let (found, address) = std::sync::mpsc::channel();
    let lines = BufReader::new(child.0.stderr.take().unwrap()).lines();
    let log = std::thread::spawn(move || {
        let mut text = String::new();
        for line in lines.map_while(Result::ok) {
            let event: Value = serde_json::from_str(&line).unwrap_or_default();
            if event["message"] == "serving" {
                found.send(event["address"].as_str().unwrap().parse().unwrap()).unwrap();
            }
            text.push_str(&line);
            text.push('\n');
        }
        text
    });
    let address = address.recv_timeout(ENOUGH).expect("the service starts");
    Service { child, address, log }
}

impl Service {
    async fn post(&self, path: &str, auth: &str, site: &str, body: &Value) -> Value {
        let headers = [
            format!("authorization: {auth}"),
            "content-type: application/json".to_owned(),
            if site.is_empty() { "x-none: 1".to_owned() } else { format!("wix-site-id: {site}") },
        ];
        let is_change = path.ends_with("/site-auth") || path.ends_with("-settings");
        let line = format!("{} {path}", if is_change { "PATCH" } else { "POST" });
        let answer = wire::send(self.address, &line, &headers, &body.to_string()).await;
        assert_eq!(answer.status, 200, "{path}: {}", answer.body);
        serde_json::from_str(&answer.body).unwrap()
    }
}

/// Makes one of every kind of secret through the service; gives them all.
async fn use_secrets(service: &Service) -> Vec<(String, Vec<u8>)> {
    let mut found = vec![ADMIN_KEY.to_owned(), HMAC_SECRET.to_owned()];
    let made = service.post("/admin/v1/sites", ADMIN_KEY, "", &json!({"site": {"name": "Nordbrew"}})).await;
    let site = text(&made["site"]["id"]);
    let made = service.post("/admin/v1/api-keys", ADMIN_KEY, &site, &json!({"apiKey": {"name": "ci"}})).await;
    let key = text(&made["secret"]);
    let made = service.post("/admin/v1/members", &key, "", &json!({"member": {"externalId": "u-1"}})).await;
    let member = text(&made["member"]["id"]);
    let tokens = service.post(&format!("/admin/v1/members/{member}/tokens"), &key, "", &json!({})).await;
    let refresh = text(&tokens["refresh_token"]);
    let body = json!({"grantType": "refresh_token", "refreshToken": refresh});
    let renewed = service.post("/oauth2/token", "", "", &body).await;
    let made =
        service.post("/admin/v1/oauth-clients", &key, "", &json!({"oauthClient": {"name": "shop"}})).await;
    let body = json!({"grantType": "anonymous", "clientId": made["oauthClient"]["id"]});
    let visitor = service.post("/oauth2/token", "", "", &body).await;
    let login = format!("{},{key}", text(&visitor["access_token"]));
    let body = json!({"grant_type": "authorized_client", "member_id": member});
    let signed_in = service.post("/oauth2/token", &login, "", &body).await;
    let issuer = json!({"issuer": "https://id.example", "audience": "shop", "hmacSecret": HMAC_SECRET});
    let body = json!({"siteAuth": {"trustedIssuers": [issuer]}});
    service.post("/admin/v1/site-auth", &key, "", &body).await;
    let app = service.post("/admin/v1/apps", &key, "", &json!({"app": {"name": "CRM sync"}})).await;
    let body = json!({"appInstance": {"appId": app["app"]["id"]}});
    let installed = service.post("/admin/v1/app-instances", &key, "", &body).await;
    let body = json!({
        "grant_type": "client_credentials", "client_id": app["app"]["id"], "client_secret": app["appSecret"],
        "instance_id": installed["appInstance"]["id"],
    });
    let app_token = service.post("/oauth2/token", "", "", &body).await;
    let of_receiver =
        tell_a_receiver(service, &site, &app["app"]["id"], &text(&tokens["access_token"])).await;
    let info = json!({"token": tokens["access_token"]});
    service.post("/oauth2/token-info", "", "", &info).await;
    found.extend([key, refresh, text(&app["appSecret"])]);
    for answer in [&tokens, &renewed, &visitor, &signed_in, &app_token] {
        found.push(text(&answer["access_token"]));
    }
    for answer in [&renewed, &visitor, &signed_in] {
        found.push(text(&answer["refresh_token"]));
    }
    found.extend(of_receiver);
    // A replaced token and forged ones leave traces too.
    let replaced = json!({"grantType": "refresh_token", "refreshToken": found[3]}).to_string();
    let kind = ["content-type: application/json".to_owned()];
    assert_eq!(wire::send(service.address, "POST /oauth2/token", &kind, &replaced).await.status, 400);
    let mut claims = json!({"iss": "https://id.example", "aud": "shop", "sub": "u-1", "exp": 1});
    claims["name"] = json!("late");
    let late = keys::hmac(HMAC_SECRET.as_bytes()).sign(&claims);
    let headers = [format!("authorization: {late}")];
    assert_eq!(
        wire::send(service.address, "GET /loyalty-programs/v1/program", &headers, "").await.status,
        401
    );
    found.push(late);
    found.into_iter().map(|secret| ("a secret".to_owned(), secret.into_bytes())).collect()
}

/// Has a receiver told of a follow that knows the sender by secrets of every kind; gives them.
async fn tell_a_receiver(service: &Service, site: &str, app: &Value, member: &str) -> Vec<String> {
    let post = async |path: &str, body: Value| service.post(path, ADMIN_KEY, site, &body).await;
    let channel = json!({"type": "X", "enabled": true, "id": "nordbrew", "points": 50});
    let settings = json!({"socialMediaSettings": {"channels": [channel]}});
    post("/admin/v1/social-media-settings", settings).await;
    post("/loyalty-programs/v1/program/activate", json!({})).await;
    let receiver = Receiver::start().await;
    let [in_url, in_header] = ["url-3f1c0d5e8b7a49", "header-92ab7cd4e1f063"];
    let new = json!({
        "appId": app, "eventTypes": &ALL_EVENTS[..1], "url": format!("{}?key={in_url}", receiver.url),
        "customHeaders": [{"name": "authorization", "value": format!("Bearer {in_header}")}],
        "signatureHeaders": ["V1", "V1A"],
    });
    let made = post("/admin/v1/webhook-subscriptions", json!({"webhookSubscription": new})).await;
    let follow = json!({"followedChannel": {"channel": "X"}});
    service.post("/loyalty-social-media/v1/followed-channels", member, "", &follow).await;
    receiver.wait_for(1).await;
    vec![in_url.to_owned(), in_header.to_owned(), text(&made["signingSecret"])]
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn g8_the_log_holds_no_secret_even_at_its_most_talkative() {
    let dir = tempfile::tempdir().unwrap();
    let master_key = seal::new_master_key().unwrap();
    let service = start(&master_key, dir.path());
    let mut secrets = use_secrets(&service).await;
    secrets.push(("the master key".to_owned(), STANDARD.decode(&master_key).unwrap()));
    drop(service.child);
    let log = service.log.join().unwrap();
    assert!(log.contains("\"operation\":\"createToken\""), "the log does not tell about requests:\n{log}");
    for line in log.lines() {
        assert_eq!(leaks(&secrets, line), Vec::<&str>::new(), "{line}");
    }
}
