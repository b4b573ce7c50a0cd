//! PostgreSQL for tests: from `FOLLOWPOINTS_TEST_POSTGRES_URL`, else a throw-away cluster started from installed binaries, as an
//! unprivileged user when run as root. Where neither exists the tests say loudly that they were skipped, and fail if
//! `FOLLOWPOINTS_TEST_REQUIRE_POSTGRES` is set.

use std::io::Write as _;
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Mutex, OnceLock};
use std::time::Duration;

use followpoints::db::Db;
use sea_orm::{ConnectionTrait as _, Database as Orm, DatabaseBackend, DatabaseConnection, Statement};

/// The server of this test run.
struct Server {
    /// `postgres://user@host:port`, without a database.
    base: String,
    template: String,
    /// Holds the cluster's keeper alive: when this process ends, the pipe closes and the keeper stops the cluster.
    _keeper: Option<std::process::ChildStdin>,
}

/// A database of one test, dropped at the end.
pub struct Database {
    pub url: String,
    name: String,
}

static SERVER: OnceLock<Option<Server>> = OnceLock::new();
/// A database cannot be copied while another is being copied from the same template.
static COPYING: Mutex<()> = Mutex::new(());
static COUNT: AtomicU32 = AtomicU32::new(0);

/// A migrated database, or `None` where there is no server and none is required.
pub fn create_database() -> Option<Database> {
    let server = SERVER.get_or_init(start).as_ref()?;
    let name = format!("fp_test_{}_{}", std::process::id(), COUNT.fetch_add(1, Ordering::Relaxed));
    let _copying = COPYING.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
    administer(server, format!("CREATE DATABASE {name} TEMPLATE {}", server.template));
    Some(Database { url: format!("{}/{name}", server.base), name })
}

/// An empty database without a schema.
pub fn create_empty_database() -> Option<Database> {
    let server = SERVER.get_or_init(start).as_ref()?;
    let name = format!("fp_test_{}_{}", std::process::id(), COUNT.fetch_add(1, Ordering::Relaxed));
    let _copying = COPYING.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
    administer(server, format!("CREATE DATABASE {name}"));
    Some(Database { url: format!("{}/{name}", server.base), name })
}

/// An empty database that sorts texts as they are sorted in English, or `None` where the server knows no languages.
pub fn create_english_database() -> Option<Database> {
    let server = SERVER.get_or_init(start).as_ref()?;
    if !knows_languages(server) {
        say("tests of sorting are SKIPPED: PostgreSQL 15 or later with ICU is needed");
        return None;
    }
    let name = format!("fp_test_{}_{}", std::process::id(), COUNT.fetch_add(1, Ordering::Relaxed));
    let _copying = COPYING.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
    let english = "LOCALE_PROVIDER icu ICU_LOCALE 'en-US' TEMPLATE template0";
    administer(server, format!("CREATE DATABASE {name} {english}"));
    Some(Database { url: format!("{}/{name}", server.base), name })
}

fn knows_languages(server: &Server) -> bool {
    let url = format!("{}/postgres", server.base);
    blocking(async move {
        let connection = connect(&url).await.expect("the test server answers");
        let sql = "SELECT 1 AS known FROM pg_collation WHERE collprovider = 'i' \
                   AND current_setting('server_version_num')::int >= 150000 LIMIT 1";
        let query = Statement::from_string(DatabaseBackend::Postgres, sql);
        let known = connection.query_one_raw(query).await.expect("it can be asked").is_some();
        connection.close().await.expect("closes");
        known
    })
}

impl Drop for Database {
    fn drop(&mut self) {
        if let Some(Some(server)) = SERVER.get() {
            administer(server, format!("DROP DATABASE IF EXISTS {} WITH (FORCE)", self.name));
        }
    }
}

fn administer(server: &Server, sql: String) {
    let url = format!("{}/postgres", server.base);
    blocking(async move {
        let connection = connect(&url).await.expect("the test server answers");
        connection.execute_unprepared(&sql).await.unwrap_or_else(|error| panic!("{sql}: {error}"));
        connection.close().await.expect("closes");
    });
}

async fn connect(url: &str) -> Result<DatabaseConnection, sea_orm::DbErr> {
    let mut options = sea_orm::ConnectOptions::new(url);
    options.max_connections(1).sqlx_logging(false).connect_timeout(Duration::from_secs(5));
    Orm::connect(options).await
}

/// Runs `work` on a runtime of its own: tests and destructors call this from wherever they are.
fn blocking<F: Future<Output: Send + 'static> + Send + 'static>(work: F) -> F::Output {
    std::thread::spawn(|| {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
        runtime.block_on(work)
    })
    .join()
    .expect("the work on the test server succeeds")
}

fn start() -> Option<Server> {
    let (base, keeper) = match std::env::var("FOLLOWPOINTS_TEST_POSTGRES_URL") {
        Ok(url) => (url.rsplit_once('/').expect("a URL with a database").0.to_owned(), None),
        Err(_) => match start_cluster() {
            Some((base, keeper)) => (base, Some(keeper)),
            None => return skip(),
        },
    };
    let template = format!("fp_template_{}", std::process::id());
    let server = Server { base, template, _keeper: keeper };
    administer(&server, format!("DROP DATABASE IF EXISTS {}", server.template));
    administer(&server, format!("CREATE DATABASE {}", server.template));
    let url = format!("{}/{}", server.base, server.template);
    blocking(async move { Db::prepare(&url).await.expect("the schema can be made") });
    Some(server)
}

fn skip() -> Option<Server> {
    assert!(
        std::env::var_os("FOLLOWPOINTS_TEST_REQUIRE_POSTGRES").is_none(),
        "PostgreSQL is required but neither FOLLOWPOINTS_TEST_POSTGRES_URL nor installed binaries are there"
    );
    say("PostgreSQL tests are SKIPPED: set FOLLOWPOINTS_TEST_POSTGRES_URL or install PostgreSQL");
    None
}

/// Past the test harness, which would swallow it: somebody must see this.
fn say(what: &str) {
    let _ = writeln!(std::io::stderr().lock(), "\n*** {what} ***\n");
}

fn binaries() -> Option<PathBuf> {
    let installed = std::fs::read_dir("/usr/lib/postgresql").ok()?;
    let mut versions: Vec<PathBuf> =
        installed.filter_map(|entry| Some(entry.ok()?.path().join("bin"))).collect();
    versions.sort();
    versions.into_iter().rev().find(|bin| bin.join("initdb").exists() && bin.join("postgres").exists())
}

/// Starts a cluster that ends with this process; gives its URL and what keeps it alive.
fn start_cluster() -> Option<(String, std::process::ChildStdin)> {
    let bin = binaries()?;
    let dir = tempfile::Builder::new().prefix("followpoints-postgres-").tempdir().ok()?.keep();
    let port = TcpListener::bind("127.0.0.1:0").ok()?.local_addr().ok()?.port();
    let is_root = is_root();
    if is_root {
        let owned =
            Command::new("chown").arg("nobody").arg(&dir).status().is_ok_and(|status| status.success());
        assert!(owned, "the cluster's folder can be given to an unprivileged user");
    }
    let mut keeper = keeper_command(is_root);
    keeper.arg(KEEPER).arg("keeper").arg(&bin).arg(&dir).arg(port.to_string());
    let mut child = keeper
        .current_dir("/")
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .ok()?;
    let stdin = child.stdin.take()?;
    // The keeper outlives this process by the moment it needs to stop the cluster.
    std::thread::spawn(move || child.wait());
    let base = format!("postgres://followpoints@127.0.0.1:{port}");
    wait_until_ready(&base, &dir);
    Some((base, stdin))
}

/// `$1` binaries, `$2` folder, `$3` port. Runs until its standard input closes.
const KEEPER: &str = r#"
set -u
"$1/initdb" -D "$2/data" -A trust -U followpoints --no-sync -E UTF8 --locale=C >"$2/log" 2>&1 || exit 1
"$1/postgres" -D "$2/data" -p "$3" -c listen_addresses=127.0.0.1 -c unix_socket_directories= \
    -c fsync=off -c full_page_writes=off -c synchronous_commit=off -c max_connections=400 >>"$2/log" 2>&1 </dev/null &
server=$!
cat >/dev/null
kill -INT "$server"
wait "$server"
rm -rf "$2"
"#;

fn keeper_command(is_root: bool) -> Command {
    let mut command = Command::new(if is_root { "setpriv" } else { "sh" });
    if is_root {
        command.args(["--reuid=nobody", "--regid=nogroup", "--clear-groups", "sh"]);
    }
    command.arg("-c");
    command
}

fn wait_until_ready(base: &str, dir: &Path) {
    let url = format!("{base}/postgres");
    let log = dir.join("log");
    blocking(async move {
        let deadline = std::time::Instant::now() + Duration::from_mins(1);
        let mut pause = tokio::time::interval(Duration::from_millis(50));
        loop {
            pause.tick().await;
            match connect(&url).await {
                Ok(connection) => return connection.close().await.expect("closes"),
                Err(error) => {
                    let said = std::fs::read_to_string(&log).unwrap_or_default();
                    assert!(
                        std::time::Instant::now() < deadline,
                        "PostgreSQL did not start: {error}\n{said}"
                    );
                }
            }
        }
    });
}

/// A server of one test alone, which the test may stop and start again. What was committed outlives that.
pub struct OwnServer {
    /// The URL of its only database.
    pub url: String,
    programs: PathBuf,
    dir: tempfile::TempDir,
    port: u16,
    server: Option<std::process::Child>,
}

impl OwnServer {
    /// A running server with an empty database, or `None` where there are no binaries and none are required.
    pub fn start() -> Option<Self> {
        Self::start_in(&std::env::temp_dir())
    }

    /// The same with everything it keeps below `parent`.
    pub fn start_in(parent: &Path) -> Option<Self> {
        let Some(programs) = binaries() else {
            skip();
            return None;
        };
        let dir = tempfile::Builder::new().prefix("followpoints-postgres-").tempdir_in(parent);
        let dir = dir.expect("a folder");
        if is_root() {
            let owned = Command::new("chown").arg("nobody").arg(dir.path()).status();
            assert!(owned.is_ok_and(|status| status.success()), "the folder can be given away");
        }
        let made = unprivileged(&programs.join("initdb"))
            .args(["-A", "trust", "-U", "followpoints", "--no-sync", "-E", "UTF8", "--locale=C", "-D"])
            .arg(dir.path().join("data"))
            .current_dir("/")
            .stdout(Stdio::null())
            .status();
        assert!(made.is_ok_and(|status| status.success()), "initdb succeeds");
        let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
        let port = listener.local_addr().expect("its address").port();
        drop(listener);
        let url = format!("postgres://followpoints@127.0.0.1:{port}/postgres");
        let mut server = Self { url, programs, dir, port, server: None };
        server.resume();
        Some(server)
    }

    /// Starts it again and waits until it answers.
    pub fn resume(&mut self) {
        let log = std::fs::OpenOptions::new().create(true).append(true).open(self.dir.path().join("log"));
        let server = unprivileged(&self.programs.join("postgres"))
            .arg("-D")
            .arg(self.dir.path().join("data"))
            .args(["-p", &self.port.to_string(), "-c", "listen_addresses=127.0.0.1"])
            // What was committed must outlive the server, not the machine.
            .args(["-c", "unix_socket_directories=", "-c", "fsync=off"])
            .current_dir("/")
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(log.expect("a log file"))
            .spawn();
        self.server = Some(server.expect("PostgreSQL starts"));
        wait_until_ready(&format!("postgres://followpoints@127.0.0.1:{}", self.port), self.dir.path());
    }

    /// Starts it again if it has ended by itself.
    pub fn revive(&mut self) {
        let has_ended =
            self.server.as_mut().is_none_or(|server| server.try_wait().is_ok_and(|status| status.is_some()));
        if has_ended {
            self.resume();
        }
    }

    /// Ends it with this signal: INT cuts all connections, QUIT leaves what was under way to the recovery.
    pub fn stop(&mut self, signal: &str) {
        let Some(mut server) = self.server.take() else { return };
        let sent = Command::new("kill").args([format!("-{signal}"), server.id().to_string()]).status();
        assert!(sent.is_ok_and(|status| status.success()), "the server can be stopped");
        server.wait().expect("the server ends");
    }
}

impl Drop for OwnServer {
    fn drop(&mut self) {
        self.stop("INT");
    }
}

fn is_root() -> bool {
    Command::new("id").arg("-u").output().is_ok_and(|out| out.stdout == b"0\n")
}

/// PostgreSQL refuses to run as root.
fn unprivileged(program: &Path) -> Command {
    if !is_root() {
        return Command::new(program);
    }
    let mut command = Command::new("setpriv");
    command.args(["--reuid=nobody", "--regid=nogroup", "--clear-groups"]).arg(program);
    command
}
