//! The service under test: the release binary as a process of its own, set up through its admin API.

use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use uuid::Uuid;

use super::database::{self, Database};
use super::generator::{Connection, Requests};
use super::process::{self, Memory, Watch};

/// How long a start or stop may take.
const TIMEOUT: Duration = Duration::from_secs(30);
/// The instance key.
pub(crate) const ADMIN_KEY: &str = "benchmark-admin-key-0123456789";
/// Seals secrets: 32 bytes in base64.
pub(crate) const MASTER_KEY: &str = "MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3ODlhYmNkZWY=";

/// What the platform signs webhooks with.
pub(crate) const META_SECRET: &str = "benchmark-app-secret-0123456789";

/// A running service; it ends with this value.
pub(crate) struct Service {
    child: Child,
    pub(crate) address: SocketAddr,
    /// From the start of the process until it was ready.
    pub(crate) ready_after: Duration,
}

impl Service {
    /// Starts the service on `database` and waits until it is ready.
    pub(crate) fn start(database: &Database) -> Self {
        let address = SocketAddr::from(([127, 0, 0, 1], database::free_port()));
        let log = std::fs::File::create(database.dir().join("service.log")).expect("a log file");
        let started = Instant::now();
        let child = Command::new(env!("CARGO_BIN_EXE_followpoints"))
            .arg("serve")
            .current_dir(database.dir())
            .env("FOLLOWPOINTS_LISTEN", address.to_string())
            .env("FOLLOWPOINTS_DATABASE_URL", &database.url)
            .env("FOLLOWPOINTS_ADMIN_KEY", ADMIN_KEY)
            .env("FOLLOWPOINTS_MASTER_KEY", MASTER_KEY)
            .env("FOLLOWPOINTS_WEBHOOK_ALLOW_NETS", "127.0.0.0/8")
            .env("FOLLOWPOINTS_META_APP_SECRETS", META_SECRET)
            .env("FOLLOWPOINTS_RATE_MEMBER", "1000000/1000000")
            .env("FOLLOWPOINTS_RATE_CLIENT", "1000000/1000000")
            .env("FOLLOWPOINTS_RATE_ADDRESS", "1000000/1000000")
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(log)
            .spawn()
            .expect("the service starts");
        let mut service = Self { child, address, ready_after: Duration::ZERO };
        while !is_ready(address) {
            assert!(started.elapsed() < TIMEOUT, "the service does not get ready: {}", log_text(database));
            let is_running = matches!(service.child.try_wait(), Ok(None));
            assert!(is_running, "the service ended: {}", log_text(database));
            std::thread::sleep(Duration::from_millis(1));
        }
        service.ready_after = started.elapsed();
        service
    }

    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    pub(crate) fn memory(&self) -> Memory {
        process::memory(self.pid())
    }

    /// The service, this process, and PostgreSQL if there is one.
    pub(crate) fn watch(&self, database: &Database) -> Watch {
        Watch::new(&[("service", Some(self.pid())), ("postgres", database.server_pid)])
    }

    /// Calls the admin API and gives the answer's JSON.
    pub(crate) fn admin(&self, method: &str, path: &str, site: Option<Uuid>, body: &Value) -> Value {
        let site = site.map(|site| format!("wix-site-id: {site}"));
        let key = format!("authorization: {ADMIN_KEY}");
        let headers: Vec<&str> = std::iter::once(key.as_str()).chain(site.as_deref()).collect();
        self.call(method, path, &headers, body)
    }

    /// Makes a call that must succeed and gives the answer's JSON.
    pub(crate) fn call(&self, method: &str, path: &str, headers: &[&str], body: &Value) -> Value {
        let mut requests = Requests::default();
        let body = if body.is_null() { String::new() } else { body.to_string() };
        requests.push(method, path, headers, &body);
        let text = database::block_on(async {
            let mut connection = Connection::open(self.address).await.expect("the service listens");
            let answer = connection.exchange(requests.get(0)).await.expect("an answer");
            let text = String::from_utf8_lossy(&connection.buffer[answer.body]).into_owned();
            assert!(answer.status == 200, "{method} {path}: {} {text}", answer.status);
            text
        });
        serde_json::from_str(&text).unwrap_or(Value::Null)
    }
}

impl Drop for Service {
    fn drop(&mut self) {
        database::stop(&mut self.child, "TERM", TIMEOUT);
    }
}

fn log_text(database: &Database) -> String {
    std::fs::read_to_string(database.dir().join("service.log")).unwrap_or_default()
}

fn is_ready(address: SocketAddr) -> bool {
    let Ok(mut stream) = TcpStream::connect(address) else { return false };
    let _ = stream.set_read_timeout(Some(Duration::from_secs(1)));
    let asked = stream.write_all(b"GET /readyz HTTP/1.1\r\nhost: 127.0.0.1\r\nconnection: close\r\n\r\n");
    let mut answer = Vec::new();
    asked.is_ok() && stream.read_to_end(&mut answer).is_ok() && answer.starts_with(b"HTTP/1.1 200")
}

/// Claims of the site's own tokens.
pub(crate) const ISSUER: &str = "https://shop.example";
pub(crate) const AUDIENCE: &str = "followpoints-bench";
pub(crate) const HMAC_SECRET: &str = "a shared secret of the benchmark's shop";

/// The channels, all enabled.
pub(crate) const CHANNELS: [&str; 5] = ["X", "INSTAGRAM", "FACEBOOK", "TIKTOK", "LINKEDIN"];
/// Points for each.
pub(crate) const POINTS: i64 = 50;

/// Makes a site whose program is active, all of whose channels are enabled, and which trusts [`ISSUER`].
pub(crate) fn create_site(service: &Service) -> Uuid {
    let made = service.admin("POST", "/admin/v1/sites", None, &json!({"site": {"name": "Nordbrew"}}));
    let site: Uuid = id(&made["site"]["id"]);
    let channels: Vec<Value> = CHANNELS
        .iter()
        .map(|channel| json!({"type": channel, "enabled": true, "id": "nordbrew", "points": POINTS}))
        .collect();
    let settings = json!({"socialMediaSettings": {"revision": "1", "channels": channels}});
    service.admin("PATCH", "/admin/v1/social-media-settings", Some(site), &settings);
    service.admin("POST", "/loyalty-programs/v1/program/activate", Some(site), &json!({}));
    let issuer = json!({"issuer": ISSUER, "audience": AUDIENCE, "hmacSecret": HMAC_SECRET});
    let auth = json!({"siteAuth": {"trustedIssuers": [issuer]}});
    service.admin("PATCH", "/admin/v1/site-auth", Some(site), &auth);
    site
}

/// An id in an answer.
pub(crate) fn id(value: &Value) -> Uuid {
    value.as_str().and_then(|text| Uuid::try_parse(text).ok()).expect("an id")
}
