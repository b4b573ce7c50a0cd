//! NATS servers for tests: installed binaries on loopback with free ports and JetStream in a temporary folder, alone or as a
//! cluster, killed and started again. Where there is none the tests say loudly that they were skipped, and fail if
//! `FOLLOWPOINTS_TEST_REQUIRE_NATS` is set.

use std::io::Write as _;
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::{Mutex, Once, PoisonError};

use async_nats::Client;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use followpoints::streams::Given;
use serde_json::{Value, json};
use tempfile::TempDir;

use super::until;

/// A server, or the place of one that was killed. What runs is killed at the end.
pub struct Server {
    pub port: u16,
    dir: TempDir,
    process: Mutex<Option<Child>>,
}

/// A message as the stream has it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Stored {
    pub sequence: u64,
    pub subject: String,
    pub headers: Vec<(String, String)>,
    pub payload: String,
}

impl Stored {
    pub fn header(&self, name: &str) -> &str {
        let found = self.headers.iter().find(|(own, _)| own == name);
        found.map_or_else(|| panic!("no {name} in {self:?}"), |(_, value)| value)
    }
}

/// The program, or `None` where there is none and that is allowed.
fn binary() -> Option<PathBuf> {
    static TOLD: Once = Once::new();
    let path = std::env::var_os("PATH").unwrap_or_default();
    // Debian keeps it where only root looks.
    let mut folders = std::env::split_paths(&path).chain([PathBuf::from("/usr/sbin")]);
    let found = folders.find_map(|folder| Some(folder.join("nats-server")).filter(|file| file.exists()));
    if found.is_none() {
        assert!(
            std::env::var_os("FOLLOWPOINTS_TEST_REQUIRE_NATS").is_none(),
            "nats-server is required but not installed"
        );
        // Past the test harness, which would swallow it: somebody must see this.
        TOLD.call_once(|| {
            let told = "\n*** NATS tests are SKIPPED: install nats-server ***\n";
            let _ = writeln!(std::io::stderr().lock(), "{told}");
        });
    }
    found
}

/// A port that nobody has at this moment.
pub fn free_port() -> u16 {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

impl Server {
    /// A server that runs and answers, or `None` where there is none to be had.
    pub async fn start() -> Option<Self> {
        Self::start_with("").await
    }

    /// The same with more configuration.
    pub async fn start_with(more: &str) -> Option<Self> {
        let server = Self::place("alone", more)?;
        server.run();
        server.wait_until_it_listens().await;
        Some(server)
    }

    /// One without JetStream.
    pub async fn start_plain() -> Option<Self> {
        let server = Self::place("plain", "")?;
        std::fs::write(server.config(), format!("listen: 127.0.0.1:{}\n", server.port)).unwrap();
        server.run();
        server.wait_until_it_listens().await;
        Some(server)
    }

    /// The place of a server that does not run.
    pub fn place(name: &str, more: &str) -> Option<Self> {
        binary()?;
        let server = Self { port: free_port(), dir: tempfile::tempdir().unwrap(), process: Mutex::default() };
        let store = server.dir.path().join("store");
        let text = format!(
            "server_name: {name}\nlisten: 127.0.0.1:{}\njetstream {{ store_dir: \"{}\" }}\n{more}\n",
            server.port,
            store.display(),
        );
        std::fs::write(server.config(), text).unwrap();
        Some(server)
    }

    fn config(&self) -> PathBuf {
        self.dir.path().join("nats.conf")
    }

    /// Starts it, again after a kill.
    pub fn run(&self) {
        let log = std::fs::File::options().create(true).append(true).open(self.log()).unwrap();
        let child = Command::new(binary().unwrap())
            .arg("--config")
            .arg(self.config())
            .current_dir(self.dir.path())
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(log)
            .spawn()
            .unwrap();
        *self.lock() = Some(child);
    }

    fn log(&self) -> PathBuf {
        self.dir.path().join("log")
    }

    /// SIGKILL: no goodbye.
    pub fn kill(&self) {
        if let Some(mut child) = self.lock().take() {
            child.kill().unwrap();
            child.wait().unwrap();
        }
    }

    /// Sends a signal by its name.
    pub fn signal(&self, name: &str) {
        let pid = self.lock().as_ref().expect("it runs").id().to_string();
        assert!(Command::new("kill").args([&format!("-{name}"), &pid]).status().unwrap().success());
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Option<Child>> {
        self.process.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub fn url(&self) -> String {
        format!("nats://127.0.0.1:{}", self.port)
    }

    /// The settings of a service that uses it.
    pub fn given(&self) -> Given {
        Given { url: Some(self.url()), ..Given::default() }
    }

    pub async fn wait_until_it_listens(&self) {
        let what = format!("{} listens", self.url());
        until(&what, async || {
            let ended = self.lock().as_mut().and_then(|child| child.try_wait().unwrap());
            assert!(ended.is_none(), "the server ended: {ended:?}");
            tokio::net::TcpStream::connect(("127.0.0.1", self.port)).await.ok()
        })
        .await;
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.kill();
        if std::thread::panicking() {
            println!("{}", std::fs::read_to_string(self.log()).unwrap_or_default());
        }
    }
}

/// Three servers that are one JetStream.
pub struct Cluster(pub Vec<Server>);

impl Cluster {
    pub async fn start() -> Option<Self> {
        let routes: Vec<u16> = (0..3).map(|_| free_port()).collect();
        let all: Vec<String> = routes.iter().map(|port| format!("nats-route://127.0.0.1:{port}")).collect();
        let mut servers = Vec::new();
        for (number, port) in routes.iter().enumerate() {
            let more =
                format!("cluster {{ name: three, listen: 127.0.0.1:{port}, routes: [{}] }}", all.join(", "));
            servers.push(Server::place(&format!("n{number}"), &more)?);
        }
        servers.iter().for_each(Server::run);
        for server in &servers {
            server.wait_until_it_listens().await;
        }
        let cluster = Self(servers);
        let observer = cluster.observer().await;
        // The leader answers before it knows of all three, and until then nothing can have three replicas.
        let trial = json!({"name": "TRIAL", "subjects": ["trial"], "num_replicas": 3});
        until("a stream can be on all three servers", async || {
            let made = observer.api("STREAM.CREATE.TRIAL", &trial).await?;
            made.get("error").is_none().then_some(())
        })
        .await;
        observer.answer("STREAM.DELETE.TRIAL", &Value::Null).await;
        Some(cluster)
    }

    pub fn url(&self) -> String {
        self.0.iter().map(Server::url).collect::<Vec<_>>().join(",")
    }

    pub async fn observer(&self) -> Observer {
        Observer::new(&self.url()).await
    }

    /// The server with this name.
    pub fn named(&self, name: &str) -> &Server {
        let number: usize = name.strip_prefix('n').and_then(|number| number.parse().ok()).unwrap();
        &self.0[number]
    }
}

/// Looks into streams, past the service.
pub struct Observer(Client);

impl Observer {
    pub async fn new(urls: &str) -> Self {
        Self::signed_in(urls, async_nats::ConnectOptions::new()).await
    }

    /// The same as a user.
    pub async fn with_user(urls: &str, (name, password): (&str, &str)) -> Self {
        let options =
            async_nats::ConnectOptions::with_user_and_password(name.to_owned(), password.to_owned());
        Self::signed_in(urls, options).await
    }

    async fn signed_in(urls: &str, options: async_nats::ConnectOptions) -> Self {
        let urls: Vec<String> = urls.split(',').map(str::to_owned).collect();
        let options =
            options.retry_on_initial_connect().request_timeout(Some(std::time::Duration::from_secs(2)));
        Self(options.connect(urls).await.unwrap())
    }

    /// A call of the JetStream API; `None` while nobody answers.
    pub async fn api(&self, operation: &str, request: &Value) -> Option<Value> {
        let payload = if request.is_null() { String::new() } else { request.to_string() };
        let answer = self.0.request(format!("$JS.API.{operation}"), payload.into()).await.ok()?;
        Some(serde_json::from_slice(&answer.payload).unwrap())
    }

    /// The same, until somebody answers.
    pub async fn answer(&self, operation: &str, request: &Value) -> Value {
        until(operation, async || self.api(operation, request).await).await
    }

    pub async fn make(&self, stream: &str, config: &Value) {
        let made = self.answer(&format!("STREAM.CREATE.{stream}"), config).await;
        assert!(made.get("error").is_none(), "{made}");
    }

    /// State, configuration and cluster of a stream.
    pub async fn info(&self, stream: &str) -> Value {
        until(stream, async || {
            let info = self.api(&format!("STREAM.INFO.{stream}"), &Value::Null).await?;
            info.get("error").is_none().then_some(info)
        })
        .await
    }

    /// Every message, oldest first.
    pub async fn messages(&self, stream: &str) -> Vec<Stored> {
        let last = self.info(stream).await["state"]["last_seq"].as_u64().unwrap();
        let mut stored = Vec::new();
        for sequence in 1..=last {
            let request = json!({"seq": sequence});
            let got = self.answer(&format!("STREAM.MSG.GET.{stream}"), &request).await;
            // A number may be skipped when the leader changes.
            if got["error"]["err_code"] != 10_037 {
                assert!(got.get("error").is_none(), "{got}");
                stored.push(read(&got["message"]));
            }
        }
        stored
    }
}

fn read(message: &Value) -> Stored {
    let decoded = |value: &Value| {
        let bytes = STANDARD.decode(value.as_str().unwrap_or_default()).unwrap();
        String::from_utf8(bytes).unwrap()
    };
    let headers = decoded(&message["hdrs"]);
    let headers = headers.lines().filter_map(|line| line.split_once(": "));
    Stored {
        sequence: message["seq"].as_u64().unwrap(),
        subject: message["subject"].as_str().unwrap().to_owned(),
        headers: headers.map(|(name, value)| (name.to_owned(), value.to_owned())).collect(),
        payload: decoded(&message["data"]),
    }
}

/// A file in a folder that lasts as long as the test wants.
pub fn file(dir: &Path, name: &str, text: &str) -> PathBuf {
    let path = dir.join(name);
    std::fs::write(&path, text).unwrap();
    path
}
