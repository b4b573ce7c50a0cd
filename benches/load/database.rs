//! The databases of a run: a SQLite file, or a database of PostgreSQL, both durable (`fsync` on) and in a folder that
//! goes away at the end.

use std::cell::Cell;
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::rc::Rc;
use std::time::{Duration, Instant};

use sea_orm::{ConnectOptions, ConnectionTrait as _, DatabaseConnection, QueryResult, Statement};
use tempfile::TempDir;

/// How long PostgreSQL may take to start or stop.
const POSTGRES_TIMEOUT: Duration = Duration::from_mins(1);

#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Kind {
    Sqlite,
    Postgres,
}

impl Kind {
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Sqlite => "SQLite",
            Self::Postgres => "PostgreSQL",
        }
    }
}

/// One database.
pub(crate) struct Database {
    pub(crate) kind: Kind,
    pub(crate) url: String,
    /// The server behind it, if we started it.
    pub(crate) server_pid: Option<u32>,
    dir: TempDir,
}

impl Database {
    /// The folder for everything that belongs to it.
    pub(crate) fn dir(&self) -> &Path {
        self.dir.path()
    }

    /// Runs `statements` one by one on a connection of their own; durability does not matter while filling.
    pub(crate) fn execute(&self, statements: &[String]) {
        block_on(async {
            let connection = self.connect().await;
            if self.kind == Kind::Sqlite {
                connection.execute_unprepared("PRAGMA synchronous = OFF").await.expect("a pragma");
            }
            for statement in statements {
                let done = connection.execute_unprepared(statement).await;
                done.unwrap_or_else(|error| panic!("{statement}: {error}"));
            }
            connection.close().await.expect("the connection closes");
        });
    }

    /// The rows of `query`.
    pub(crate) fn query(&self, query: &str) -> Vec<QueryResult> {
        block_on(async {
            let connection = self.connect().await;
            let statement = Statement::from_string(connection.get_database_backend(), query);
            let rows = connection.query_all_raw(statement).await.expect("the query is right");
            connection.close().await.expect("the connection closes");
            rows
        })
    }

    /// A connection of its own.
    pub(crate) async fn connect(&self) -> DatabaseConnection {
        let mut options = ConnectOptions::new(&self.url);
        options.max_connections(1).sqlx_logging(false);
        options.map_sqlx_sqlite_opts(|sqlite| sqlite.pragma("busy_timeout", "30000"));
        sea_orm::Database::connect(options).await.expect("the database answers")
    }

    /// Settles what filling left behind, so that it does not fall into the measured time.
    pub(crate) fn settle(&self) {
        let statements: &[&str] = match self.kind {
            Kind::Sqlite => &["PRAGMA wal_checkpoint(TRUNCATE)"],
            Kind::Postgres => &["VACUUM ANALYZE", "CHECKPOINT"],
        };
        self.execute(&statements.iter().map(|text| (*text).to_owned()).collect::<Vec<_>>());
    }
}

/// Runs `work` on a small runtime of its own.
pub(crate) fn block_on<T>(work: impl Future<Output = T>) -> T {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    runtime.expect("a runtime").block_on(work)
}

/// Makes databases.
pub(crate) struct Databases {
    parent: PathBuf,
    postgres_url: Option<String>,
    cluster: Option<Rc<Cluster>>,
    count: Cell<u32>,
}

impl Databases {
    pub(crate) fn new(parent: PathBuf, postgres_url: Option<String>) -> Self {
        Self { parent, postgres_url, cluster: None, count: Cell::new(0) }
    }

    /// A new, empty database.
    pub(crate) fn create(&mut self, kind: Kind) -> Database {
        let dir = tempfile::Builder::new().prefix("followpoints-bench-").tempdir_in(&self.parent);
        let dir = dir.expect("a folder for the run");
        if kind == Kind::Sqlite {
            let url = format!("sqlite://{}?mode=rwc", dir.path().join("data.db").display());
            return Database { kind, url, server_pid: None, dir };
        }
        let (base, server_pid) = self.server();
        self.count.set(self.count.get() + 1);
        let name = format!("followpoints_bench_{}_{}", std::process::id(), self.count.get());
        let maintenance = format!("{base}/postgres");
        let statement = format!("CREATE DATABASE {name}");
        block_on(async {
            let connection = sea_orm::Database::connect(&maintenance).await.expect("PostgreSQL answers");
            connection.execute_unprepared(&statement).await.expect("a new database");
            connection.close().await.expect("the connection closes");
        });
        Database { kind, url: format!("{base}/{name}"), server_pid, dir }
    }

    fn server(&mut self) -> (String, Option<u32>) {
        if let Some(url) = &self.postgres_url {
            let base = url.rsplit_once('/').map_or(url.as_str(), |(base, _)| base);
            return (base.to_owned(), None);
        }
        let parent = &self.parent;
        let cluster = self.cluster.get_or_insert_with(|| Rc::new(Cluster::start(parent)));
        (cluster.base.clone(), Some(cluster.server.id()))
    }
}

/// Where PostgreSQL's programs are; the newest version that is installed.
pub(crate) fn postgres_programs() -> PathBuf {
    let installed = std::fs::read_dir("/usr/lib/postgresql").into_iter().flatten().flatten();
    let mut versions: Vec<PathBuf> = installed.map(|entry| entry.path().join("bin")).collect();
    versions.sort();
    let newest = versions.into_iter().rev().find(|bin| bin.join("initdb").exists());
    newest.expect("PostgreSQL's programs are installed, or --postgres-url is given")
}

/// A throw-away PostgreSQL server with default settings.
struct Cluster {
    base: String,
    server: Child,
    _dir: TempDir,
}

impl Cluster {
    fn start(parent: &Path) -> Self {
        let dir = tempfile::Builder::new().prefix("followpoints-bench-postgres-").tempdir_in(parent);
        let dir = dir.expect("a folder for PostgreSQL");
        let data = dir.path().join("data");
        let is_root = Command::new("id").arg("-u").output().is_ok_and(|out| out.stdout == b"0\n");
        if is_root {
            let given = Command::new("chown").arg("nobody").arg(dir.path()).status();
            assert!(given.is_ok_and(|status| status.success()), "the folder can be given away");
        }
        let bin = postgres_programs();
        let made = unprivileged(is_root, &bin.join("initdb"))
            .args(["-A", "trust", "-U", "followpoints", "-E", "UTF8", "--locale=C", "-D"])
            .arg(&data)
            .current_dir("/")
            .stdout(Stdio::null())
            .status();
        assert!(made.is_ok_and(|status| status.success()), "initdb succeeds");
        let port = free_port();
        let log = std::fs::File::create(dir.path().join("log")).expect("a log file");
        let server = unprivileged(is_root, &bin.join("postgres"))
            .arg("-D")
            .arg(&data)
            .args(["-p", &port.to_string(), "-c", "listen_addresses=127.0.0.1"])
            .args(["-c", "unix_socket_directories="])
            .current_dir("/")
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(log)
            .spawn()
            .expect("PostgreSQL starts");
        let base = format!("postgres://followpoints@127.0.0.1:{port}");
        wait_until_ready(&base);
        Self { base, server, _dir: dir }
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        stop(&mut self.server, "INT", POSTGRES_TIMEOUT);
    }
}

/// PostgreSQL refuses to run as root.
fn unprivileged(is_root: bool, program: &Path) -> Command {
    if !is_root {
        return Command::new(program);
    }
    let mut command = Command::new("setpriv");
    command.args(["--reuid=nobody", "--regid=nogroup", "--clear-groups"]).arg(program);
    command
}

fn wait_until_ready(base: &str) {
    let url = format!("{base}/postgres");
    let deadline = Instant::now() + POSTGRES_TIMEOUT;
    loop {
        match block_on(sea_orm::Database::connect(&url)) {
            Ok(connection) => return block_on(connection.close()).expect("the connection closes"),
            Err(error) => assert!(Instant::now() < deadline, "PostgreSQL does not start: {error}"),
        }
        std::thread::sleep(Duration::from_millis(50));
    }
}

/// A port that nobody listens on.
pub(crate) fn free_port() -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
    listener.local_addr().expect("its address").port()
}

/// Asks `child` to end with `signal`, and ends it by force when it takes longer than `limit`.
pub(crate) fn stop(child: &mut Child, signal: &str, limit: Duration) {
    let pid = child.id().to_string();
    let _ = Command::new("kill").args([format!("-{signal}"), pid]).status();
    let deadline = Instant::now() + limit;
    while Instant::now() < deadline {
        if !matches!(child.try_wait(), Ok(None)) {
            return;
        }
        std::thread::sleep(Duration::from_millis(5));
    }
    let _ = child.kill();
    let _ = child.wait();
}
