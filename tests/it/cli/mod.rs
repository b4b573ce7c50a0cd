//! The program as an operator runs it: its commands, its settings, its refusals.

mod log;
mod refusals;
mod webhooks;

use std::collections::BTreeMap;
use std::io::{BufRead as _, BufReader, Read as _};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc;

use serde_json::{Value, json};
use tempfile::TempDir;

use crate::support::process::Http;
use crate::support::{ADMIN_KEY, ENOUGH};

/// A folder to run in, and the whole environment of what runs there.
struct Sandbox {
    dir: TempDir,
    environment: BTreeMap<String, String>,
}

/// What became of a command.
#[derive(Debug, PartialEq, Eq)]
struct Ended {
    code: Option<i32>,
    stdout: String,
    stderr: String,
}

impl Ended {
    fn with(stdout: impl Into<String>) -> Self {
        Self { code: Some(0), stdout: stdout.into(), stderr: String::new() }
    }

    /// One line that says what is wrong.
    fn refused(message: impl std::fmt::Display) -> Self {
        Self { code: Some(1), stdout: String::new(), stderr: format!("followpoints: {message}\n") }
    }

    /// Without the log, which is one JSON object a line.
    fn without_log(mut self) -> Self {
        self.stderr = self.stderr.split_inclusive('\n').filter(|line| !line.starts_with('{')).collect();
        self
    }
}

impl Sandbox {
    /// An empty folder; it listens on a free port and has an admin key.
    fn new() -> Self {
        let mut sandbox = Self { dir: tempfile::tempdir().unwrap(), environment: BTreeMap::new() };
        sandbox.set("FOLLOWPOINTS_LISTEN", "127.0.0.1:0").set("FOLLOWPOINTS_ADMIN_KEY", ADMIN_KEY);
        sandbox
    }

    fn set(&mut self, name: &str, value: impl Into<String>) -> &mut Self {
        self.environment.insert(name.to_owned(), value.into());
        self
    }

    fn path(&self, name: impl AsRef<Path>) -> PathBuf {
        self.dir.path().join(name)
    }

    fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_followpoints"));
        command
            .args(arguments)
            .env_clear()
            .envs(&self.environment)
            .current_dir(self.dir.path())
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        command
    }

    fn spawn(&self, arguments: &[&str]) -> Child {
        self.command(arguments).spawn().unwrap()
    }

    /// Runs a command to its end; one that does not end in time is killed, and the test fails.
    fn run(&self, arguments: &[&str]) -> Ended {
        let child = self.spawn(arguments);
        let id = child.id().to_string();
        let (sender, ended) = mpsc::channel();
        std::thread::spawn(move || sender.send(child.wait_with_output()));
        let Ok(output) = ended.recv_timeout(ENOUGH) else {
            let _ = Command::new("kill").args(["-KILL", &id]).status();
            panic!("{arguments:?} did not end");
        };
        let output = output.unwrap();
        let [stdout, stderr] = [output.stdout, output.stderr].map(|bytes| String::from_utf8(bytes).unwrap());
        Ended { code: output.status.code(), stdout, stderr }
    }

    /// Runs a command that prints one word; gives it.
    fn word(&self, arguments: &[&str]) -> String {
        let ended = self.run(arguments);
        assert_eq!((ended.code, ended.stderr.as_str()), (Some(0), ""), "{arguments:?}");
        let word = ended.stdout.strip_suffix('\n').unwrap();
        assert!(!word.is_empty() && !word.contains(char::is_whitespace), "{word:?}");
        word.to_owned()
    }

    /// Starts the service and waits until it listens.
    fn serve(&self) -> Serving {
        let mut child = self.spawn(&["serve"]);
        let (sender, listening) = mpsc::channel();
        let log = BufReader::new(child.stderr.take().unwrap());
        // Reads to the end, so that the service never waits for a full pipe.
        std::thread::spawn(move || {
            log.lines().map_while(Result::ok).for_each(|line| drop(sender.send(line)));
        });
        let mut serving = Serving { child, url: String::new() };
        let mut said = Vec::new();
        while let Ok(line) = listening.recv_timeout(ENOUGH) {
            let entry: Value = serde_json::from_str(&line).unwrap_or_default();
            if entry["message"] == "serving" {
                serving.url = format!("http://{}", entry["address"].as_str().unwrap());
                return serving;
            }
            said.push(line);
        }
        panic!("the service did not start: {said:#?}");
    }
}

/// A running service, killed at the end.
struct Serving {
    child: Child,
    url: String,
}

impl Serving {
    async fn send(
        &self,
        method: &str,
        path: &str,
        token: &str,
        site: &str,
        body: Option<Value>,
    ) -> (u16, Value) {
        let url = format!("{}{path}", self.url);
        let headers = [("authorization", token), ("wix-site-id", site)];
        Http::new().send((method, &url), &headers, body.as_ref()).await.unwrap()
    }
}

impl Drop for Serving {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[test]
fn whoever_reads_only_the_beginning_of_the_document_hears_no_complaint() {
    let sandbox = Sandbox::new();
    let mut child = sandbox.spawn(&["openapi"]);
    let mut begin = [0];
    child.stdout.take().unwrap().read_exact(&mut begin).unwrap();
    let output = child.wait_with_output().unwrap();
    assert_eq!((output.status.code(), String::from_utf8(output.stderr).unwrap()), (Some(0), String::new()));
}

#[tokio::test]
async fn a_log_that_nobody_reads_any_more_costs_no_answer() {
    let mut sandbox = Sandbox::new();
    sandbox.set("FOLLOWPOINTS_LOG", "debug");
    let mut child = sandbox.spawn(&["serve"]);
    let mut log = BufReader::new(child.stderr.take().unwrap());
    let mut serving = Serving { child, url: String::new() };
    while serving.url.is_empty() {
        let mut line = String::new();
        assert!(log.read_line(&mut line).unwrap() > 0, "it ended");
        let entry: Value = serde_json::from_str(&line).unwrap_or_default();
        if entry["message"] == "serving" {
            serving.url = format!("http://{}", entry["address"].as_str().unwrap());
        }
    }
    drop(log);
    for _ in 0..3 {
        assert_eq!(serving.send("GET", "/healthz", "", "", None).await.0, 200);
    }
}

#[test]
fn every_command_explains_itself() {
    let sandbox = Sandbox::new();
    let commands = [
        "",
        "serve",
        "demo",
        "migrate",
        "openapi",
        "verify",
        "webhooks",
        "webhooks verify",
        "admin",
        "admin create-site",
        "admin list-sites",
        "admin create-key",
        "admin create-member",
        "admin create-member-token",
    ];
    for command in commands {
        let arguments: Vec<&str> =
            command.split(' ').filter(|word| !word.is_empty()).chain(["--help"]).collect();
        let help = sandbox.run(&arguments);
        assert_eq!((help.code, help.stderr.as_str()), (Some(0), ""), "{command}");
        let usage = format!("Usage: followpoints {command}").trim_end().to_owned();
        assert!(help.stdout.contains(&usage), "{command}: {}", help.stdout);
        assert!(help.stdout.contains("--database-url"), "{command}: {}", help.stdout);
    }
    let version = concat!("followpoints ", env!("CARGO_PKG_VERSION"), "\n");
    assert_eq!(sandbox.run(&["--version"]), Ended::with(version));
}

#[test]
fn openapi_prints_the_checked_in_document_whatever_the_settings_are() {
    let mut sandbox = Sandbox::new();
    sandbox.set("FOLLOWPOINTS_LISTEN", "nonsense").set("FOLLOWPOINTS_DATABASE_URL", "nonsense");
    assert_eq!(sandbox.run(&["openapi"]), Ended::with(include_str!("../../../openapi/openapi.json")));
    assert_eq!(std::fs::read_dir(sandbox.dir.path()).unwrap().count(), 0);
}

#[test]
fn migrating_twice_is_fine() {
    let sandbox = Sandbox::new();
    let done = Ended::with("the schema is up to date\n");
    assert_eq!(sandbox.run(&["migrate"]), done);
    assert_eq!(sandbox.run(&["migrate"]), done);
    assert!(sandbox.path("followpoints.db").exists());
}

#[cfg(unix)]
#[test]
fn g8_the_master_key_is_made_beside_the_database_for_its_owner_only() {
    use std::os::unix::fs::PermissionsExt as _;

    let sandbox = Sandbox::new();
    sandbox.run(&["migrate"]);
    let path = sandbox.path("followpoints.db.master-key");
    assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
    let key = std::fs::read_to_string(&path).unwrap();

    sandbox.run(&["migrate"]);

    assert_eq!(std::fs::read_to_string(&path).unwrap(), key);
}

#[test]
fn a_file_named_dot_env_fills_in_what_the_environment_does_not_say() {
    let mut sandbox = Sandbox::new();
    let text = "FOLLOWPOINTS_DATABASE_URL=sqlite://from-file.db?mode=rwc\nFOLLOWPOINTS_LISTEN=nonsense\n";
    std::fs::write(sandbox.path(".env"), text).unwrap();
    sandbox.run(&["migrate"]);
    assert!(sandbox.path("from-file.db").exists());

    sandbox.set("FOLLOWPOINTS_DATABASE_URL", "sqlite://from-environment.db?mode=rwc");
    sandbox.run(&["migrate"]);
    assert!(sandbox.path("from-environment.db").exists());

    sandbox.run(&["migrate", "--database-url", "sqlite://from-flag.db?mode=rwc"]);
    assert!(sandbox.path("from-flag.db").exists());
    assert!(!sandbox.path("followpoints.db").exists());
}

#[test]
fn a_dot_env_that_is_no_file_is_ignored() {
    let sandbox = Sandbox::new();
    std::fs::create_dir(sandbox.path(".env")).unwrap();
    assert_eq!(sandbox.run(&["migrate"]), Ended::with("the schema is up to date\n"));
}

#[test]
fn flags_go_before_the_environment() {
    let mut sandbox = Sandbox::new();
    sandbox.set("FOLLOWPOINTS_LISTEN", "nonsense").set("FOLLOWPOINTS_PUBLIC_URL", "nonsense");
    let flags = ["--listen", "127.0.0.1:0", "--public-url", "https://points.example"];
    let done = Ended::with("the schema is up to date\n");
    assert_eq!(sandbox.run(&[&["migrate"], &flags[..]].concat()), done);
    assert_eq!(sandbox.run(&[&flags[..], &["migrate"]].concat()), done);
}

#[tokio::test]
async fn what_admin_makes_works_against_the_service() {
    let sandbox = Sandbox::new();
    sandbox.run(&["migrate"]);
    let site = sandbox.word(&["admin", "create-site", "Nordbrew"]);
    let other = sandbox.word(&["admin", "create-site", "Südbräu"]);
    let listed = format!("{other}  Südbräu\n{site}  Nordbrew\n");
    assert_eq!(sandbox.run(&["admin", "list-sites"]), Ended::with(listed));
    let of_site = ["--site", &site];
    let in_site = |words: &[&str]| sandbox.word(&[&["admin"], words, &of_site].concat());

    let operator = sandbox.word(&["admin", "create-key", "operator"]);
    let owner = in_site(&["create-key", "owner"]);
    let reader = in_site(&["create-key", "reader", "--scope", "SCOPE.DC-LOYALTY.READ-LOYALTY"]);
    let person = ["--external-id", "u-1", "--email", "member@example.com", "--name", "Example Member"];
    let member = in_site(&[&["create-member"], &person[..]].concat());
    assert_eq!(in_site(&["create-member", "--external-id", "u-1"]), member);
    let token = in_site(&["create-member-token", &member]);

    let service = sandbox.serve();
    let path = format!("/admin/v1/members/{member}");
    let (status, body) = service.send("GET", &path, &owner, &site, None).await;
    assert_eq!((status, &body["member"]["email"]), (200, &json!("member@example.com")));
    assert_eq!(service.send("GET", &path, &operator, &site, None).await.0, 200);
    assert_eq!(service.send("GET", &path, &operator, &other, None).await.0, 404);
    assert_eq!(service.send("GET", &path, &owner, &other, None).await.0, 404);
    assert_eq!(service.send("GET", &path, &reader, &site, None).await.0, 403);
    assert_eq!(service.send("GET", "/loyalty-programs/v1/program", &reader, &site, None).await.0, 200);
    let sites = service.send("GET", "/admin/v1/sites", &operator, "", None).await;
    assert_eq!(sites.0, 400, "an empty wix-site-id is no site");
    let channels = "/loyalty-social-media/v1/followed-channels";
    let own = service.send("GET", channels, &token, &site, None).await;
    assert_eq!(own, (200, json!({"followedChannels": []})));
    let wish = json!({"followedChannel": {"channel": "X"}});
    let refused = service.send("POST", channels, &token, &site, Some(wish)).await;
    assert_eq!(refused.1["details"]["applicationError"]["code"], "PROGRAM_NOT_ACTIVE");

    // Short commands run beside the service.
    let third = sandbox.word(&["admin", "create-site", "Third"]);
    assert_eq!(
        service.send("GET", &format!("/admin/v1/sites/{third}"), &operator, &third, None).await.0,
        200
    );
    let sound = "accounts: 0, ledger entries: 0\nevery balance is the sum of its entries\n";
    assert_eq!(sandbox.run(&["verify"]), Ended::with(sound));
}

#[tokio::test]
async fn g8_the_key_of_our_own_tokens_is_made_anew_where_it_was_deleted() {
    let sandbox = Sandbox::new();
    sandbox.run(&["migrate"]);
    let site = sandbox.word(&["admin", "create-site", "Nordbrew"]);
    let member = sandbox.word(&["admin", "create-member", "--site", &site]);
    let token = || sandbox.word(&["admin", "create-member-token", "--site", &site, &member]);
    let channels = "/loyalty-social-media/v1/followed-channels";
    let before = token();
    let service = sandbox.serve();
    assert_eq!(service.send("GET", channels, &before, &site, None).await.0, 200);
    drop(service);

    let database = rusqlite::Connection::open(sandbox.path("followpoints.db")).unwrap();
    assert_eq!(database.execute("DELETE FROM instance_key", []).unwrap(), 1);
    drop(database);
    let service = sandbox.serve();
    assert_eq!(service.send("GET", channels, &before, &site, None).await.0, 401);
    assert_eq!(service.send("GET", channels, &token(), &site, None).await.0, 200);
}

#[test]
fn the_demo_plays_its_story_to_the_end() {
    let sandbox = Sandbox::new();
    let told = sandbox.run(&["demo", "--once"]);
    assert_eq!((told.code, told.stderr.as_str()), (Some(0), ""), "{}", told.stdout);
    assert_eq!(std::fs::read_dir(sandbox.dir.path()).unwrap().count(), 0, "it leaves nothing behind");
}
