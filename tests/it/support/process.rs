//! The real program in a process of its own, on a free port: started, killed, asked to stop; and a small HTTP client
//! for it.

use std::io::{BufRead as _, BufReader};
use std::path::PathBuf;
use std::process::{Child, Command, ExitStatus, Output, Stdio};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use bytes::Bytes;
use followpoints::seal;
use http_body_util::{BodyExt as _, Full};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;
use serde_json::Value;
use tempfile::TempDir;
use tokio::sync::oneshot;

use super::{ADMIN_KEY, TestDatabase};

/// How long anything may take. On PostgreSQL the leases of a killed process last 15 s of it.
pub const WAIT: Duration = Duration::from_secs(30);
/// How often a process or a list is looked at.
pub const LOOK: Duration = Duration::from_millis(20);

/// A database, and what every process on it is started with.
pub struct Installation {
    pub database: TestDatabase,
    dir: TempDir,
    master_key: String,
}

impl Installation {
    pub fn new(database: TestDatabase) -> Self {
        let master_key = seal::new_master_key().unwrap();
        Self { database, dir: tempfile::tempdir().unwrap(), master_key }
    }

    fn command(&self, argument: &str) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_followpoints"));
        command
            .arg(argument)
            .env_clear()
            .env("FOLLOWPOINTS_LISTEN", "127.0.0.1:0")
            .env("FOLLOWPOINTS_DATABASE_URL", &self.database.url)
            .env("FOLLOWPOINTS_ADMIN_KEY", ADMIN_KEY)
            .env("FOLLOWPOINTS_MASTER_KEY", &self.master_key)
            .env("FOLLOWPOINTS_WEBHOOK_ALLOW_NETS", "127.0.0.0/8")
            .env("FOLLOWPOINTS_LOG", "info,sqlx=warn")
            .current_dir(self.dir.path())
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        command
    }

    /// Runs a command that ends by itself.
    pub async fn run(&self, argument: &str) -> Output {
        let child = self.command(argument).spawn().unwrap();
        let ended = tokio::task::spawn_blocking(|| child.wait_with_output());
        tokio::time::timeout(WAIT, ended).await.expect("the command ends").unwrap().unwrap()
    }

    /// Starts the service and waits until it accepts requests.
    pub async fn serve(&self) -> Process {
        Self::started(self.command("serve")).await
    }

    /// The same on a machine whose clock is wrong by so many seconds.
    pub async fn serve_when(&self, wrong_by: i64) -> Process {
        self.serve_through(&self.database.url, wrong_by).await
    }

    /// The same with this database's URL, which leads to the same database on another way.
    pub async fn serve_through(&self, url: &str, wrong_by: i64) -> Process {
        let mut command = self.command("serve");
        command.env("FOLLOWPOINTS_DATABASE_URL", url);
        if wrong_by != 0 {
            command.env("LD_PRELOAD", self.wrong_clock()).env("WRONG_CLOCK_SECONDS", wrong_by.to_string());
        }
        Self::started(command).await
    }

    /// The library that tells a program another time than it is.
    fn wrong_clock(&self) -> PathBuf {
        let library = self.dir.path().join("wrong_clock.so");
        if !library.exists() {
            let source = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/it/support/wrong_clock.c");
            let built =
                Command::new("cc").args(["-shared", "-fPIC", "-O1", "-o"]).arg(&library).arg(source).status();
            assert!(built.unwrap().success(), "{source} can be compiled");
        }
        library
    }

    /// The same under a shell's `setting`, which the service inherits.
    pub async fn serve_under(&self, setting: &str) -> Process {
        let service = self.command("serve");
        let mut shell = Command::new("sh");
        shell.args(["-c", &format!("{setting}; exec \"$0\" serve")]).arg(service.get_program()).env_clear();
        for (name, value) in service.get_envs() {
            shell.env(name, value.unwrap_or_default());
        }
        shell.current_dir(self.dir.path()).stdin(Stdio::null()).stderr(Stdio::piped());
        Self::started(shell).await
    }

    async fn started(mut command: Command) -> Process {
        let mut child = command.stdout(Stdio::null()).spawn().unwrap();
        let errors = child.stderr.take().unwrap();
        let log = Log::default();
        let (found, address) = oneshot::channel();
        let lines = log.clone();
        let reader = std::thread::spawn(move || {
            let mut found = Some(found);
            for line in BufReader::new(errors).lines().map_while(Result::ok) {
                if let Some(address) = serving_at(&line)
                    && let Some(found) = found.take()
                {
                    let _ = found.send(address);
                }
                lines.push(line);
            }
        });
        let mut process = Process { child, url: String::new(), log, reader: Some(reader) };
        let address = tokio::time::timeout(WAIT, address).await.expect("the service starts in time");
        process.url = format!("http://{}", address.expect("the service says where it listens"));
        process
    }
}

/// The address in the line that says where the service listens.
fn serving_at(line: &str) -> Option<String> {
    let line: Value = serde_json::from_str(line).ok()?;
    (line["message"] == "serving").then(|| line["address"].as_str().unwrap_or_default().to_owned())
}

#[derive(Clone, Default)]
struct Log(Arc<Mutex<Vec<String>>>);

impl Log {
    fn push(&self, line: String) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).push(line);
    }

    fn text(&self) -> String {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).join("\n")
    }
}

/// A running service. It is killed at the end; when the test fails, its log is shown.
pub struct Process {
    child: Child,
    pub url: String,
    log: Log,
    /// Ends when the log does, which is when the process has ended.
    reader: Option<JoinHandle<()>>,
}

impl Process {
    /// SIGKILL: no goodbye.
    pub fn kill(mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    /// SIGKILL; then everything it has ever logged.
    pub fn kill_and_read(mut self) -> String {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
        self.reader.take().unwrap().join().unwrap();
        self.log.text()
    }

    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Sends the signal of this name, like STOP.
    pub fn signal(&self, name: &str) {
        let sent = Command::new("kill").args([format!("-{name}"), self.pid().to_string()]).status();
        assert!(sent.unwrap().success(), "SIG{name}");
    }

    /// How many lines of its log, as far as it has been read, have `text`.
    pub fn said(&self, text: &str) -> usize {
        self.log.text().lines().filter(|line| line.contains(text)).count()
    }

    /// Waits until so many lines of its log have `text`.
    pub async fn wait_until_said(&self, text: &str, count: usize) {
        let mut looks = tokio::time::interval(LOOK);
        let said = async {
            while self.said(text) < count {
                looks.tick().await;
            }
        };
        let waited = tokio::time::timeout(WAIT, said).await;
        assert!(waited.is_ok(), "{text:?} was said {} of {count} times", self.said(text));
    }

    /// The most memory it has had so far, in KiB.
    pub fn peak_kib(&self) -> u64 {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.pid())).unwrap();
        let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap();
        line.trim().trim_end_matches("kB").trim().parse().unwrap()
    }

    /// SIGTERM: waits until it has stopped by itself.
    pub async fn terminate(mut self) -> ExitStatus {
        self.signal("TERM");
        let mut looks = tokio::time::interval(LOOK);
        let stopped = async {
            loop {
                looks.tick().await;
                if let Some(status) = self.child.try_wait().unwrap() {
                    return status;
                }
            }
        };
        tokio::time::timeout(WAIT, stopped).await.expect("the service stops in time")
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        if std::thread::panicking() {
            println!("{}", self.log.text());
        }
    }
}

/// Sends JSON over HTTP.
#[derive(Clone)]
pub struct Http(Client<HttpConnector, Full<Bytes>>);

/// Why no answer came: the connection broke, or it took too long.
#[derive(Debug)]
pub struct NoAnswer(pub String);

impl Http {
    pub fn new() -> Self {
        Self(Client::builder(TokioExecutor::new()).build_http())
    }

    /// Status and body of the answer; an empty body is `null`.
    pub async fn send(
        &self,
        (method, url): (&str, &str),
        headers: &[(&str, &str)],
        body: Option<&Value>,
    ) -> Result<(u16, Value), NoAnswer> {
        let mut request = http::Request::builder().method(method).uri(url);
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        if body.is_some() {
            request = request.header("content-type", "application/json");
        }
        let body = body.map(|body| Bytes::from(body.to_string())).unwrap_or_default();
        let request = request.body(Full::new(body)).unwrap();
        let exchange = async {
            let response = self.0.request(request).await.map_err(|error| NoAnswer(format!("{error:?}")))?;
            let status = response.status().as_u16();
            let body = response.into_body().collect().await;
            let body = body.map_err(|error| NoAnswer(format!("{error:?}")))?.to_bytes();
            let json = if body.is_empty() { Value::Null } else { serde_json::from_slice(&body).unwrap() };
            Ok((status, json))
        };
        match tokio::time::timeout(WAIT, exchange).await {
            Ok(answer) => answer,
            Err(_) => Err(NoAnswer(format!("{url} took too long"))),
        }
    }
}

/// Runs a test on both databases without a service in process:
/// `on_both_databases!(async fn name(database: TestDatabase) { … })`.
#[macro_export]
macro_rules! on_both_databases {
    ($(#[$doc:meta])* async fn $name:ident($database:ident: TestDatabase) $body:block) => {
        $(#[$doc])*
        mod $name {
            use super::*;

            async fn scenario($database: $crate::support::TestDatabase) $body

            async fn on(backend: $crate::support::Backend) {
                let Some(database) = $crate::support::TestDatabase::new(backend).await else { return };
                scenario(database).await;
            }

            #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn sqlite() {
                on($crate::support::Backend::Sqlite).await;
            }

            #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn postgres() {
                on($crate::support::Backend::Postgres).await;
            }
        }
    };
}
