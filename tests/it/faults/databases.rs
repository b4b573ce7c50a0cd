//! Databases that restart, cut connections, are locked by somebody else or have no room left: what was acknowledged is
//! there, an answer says that the service failed and no more, and the service goes on when the fault is over.

use std::io::Write as _;
use std::path::PathBuf;
use std::process::Command;

use rusqlite::Connection;
use sea_orm::{ConnectionTrait, DatabaseBackend, QueryResult, Statement};

use super::{check_attempts, connect};
use crate::recovery::{check_everything, set_up};
use crate::support::postgres::OwnServer;
use crate::support::process::{Http, Installation, LOOK, Process, WAIT};
use crate::support::{Backend, Options, TestApp, TestDatabase};

/// Times that connections are cut.
const CUTS: usize = 10;
const CUT: &str = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity \
                   WHERE datname = current_database() AND pid <> pg_backend_pid()";

/// What a connection to SQLite says of itself.
async fn pragma(connection: &impl ConnectionTrait, name: &str) -> QueryResult {
    let statement = Statement::from_string(DatabaseBackend::Sqlite, format!("PRAGMA {name}"));
    connection.query_one_raw(statement).await.unwrap().unwrap()
}

/// Whether the log is used, and how sure a commit is, which no kill of a process tells: the system keeps what was written. Then
/// whether the schema is guarded.
async fn promises(connection: &impl ConnectionTrait) -> (String, [i64; 4]) {
    let mut numbers = [0; 4];
    let names = ["synchronous", "foreign_keys", "recursive_triggers", "busy_timeout"];
    for (number, name) in numbers.iter_mut().zip(names) {
        *number = pragma(connection, name).await.try_get_by_index(0).unwrap();
    }
    (pragma(connection, "journal_mode").await.try_get_by_index(0).unwrap(), numbers)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn g2_g3_every_connection_to_sqlite_commits_to_the_disk_and_keeps_the_rules_of_the_schema() {
    let database = TestDatabase::new(Backend::Sqlite).await.unwrap();
    let app = TestApp::start(database, Options::default()).await;
    // 2 is FULL.
    let promised = ("wal".to_owned(), [2, 1, 1, 5_000]);
    let tx = app.app.db.write().await.unwrap();
    assert_eq!(promises(tx.conn()).await, promised, "the one that writes");
    drop(tx);
    assert_eq!(promises(app.app.db.read()).await, promised, "those that read");
    app.app.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn g2_g3_a_postgresql_that_is_stopped_and_started_again_loses_nothing() {
    let Some(mut server) = OwnServer::start() else { return };
    let installation = Installation::new(TestDatabase::at(&server.url).await);
    let process = installation.serve().await;
    let (drive, all, some) = set_up(&process).await;
    drive.shop.may_fail(true);

    for signal in ["INT", "QUIT"] {
        drive.wait_for(drive.count() + 40).await;
        let failures = process.said("due deliveries could not be read");
        server.stop(signal);
        process.wait_until_said("due deliveries could not be read", failures + 2).await;
        server.resume();
    }
    drive.wait_for(drive.count() + 40).await;
    drive.stop().await;

    check_everything(&installation, &drive, [&all, &some]).await;
    let database = connect(&server.url).await;
    check_attempts(&database).await;
    database.close().await.unwrap();
    assert!(process.terminate().await.success());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn g2_g3_connections_that_are_cut_in_the_middle_of_batches_lose_nothing() {
    let Some(database) = TestDatabase::new(Backend::Postgres).await else { return };
    let installation = Installation::new(database);
    let process = installation.serve().await;
    let (drive, all, some) = set_up(&process).await;
    drive.shop.may_fail(true);
    let cutter = connect(&installation.database.url).await;

    for _ in 0..CUTS {
        drive.wait_for(drive.count() + 10).await;
        cutter.execute_unprepared(CUT).await.unwrap();
    }
    drive.wait_for(drive.count() + 40).await;
    drive.stop().await;
    drive.shop.may_fail(false);

    check_everything(&installation, &drive, [&all, &some]).await;
    check_attempts(&cutter).await;
    assert!(process.terminate().await.success());
}

/// An installation on SQLite, and its file.
async fn on_sqlite() -> (Installation, PathBuf) {
    let installation = Installation::new(TestDatabase::new(Backend::Sqlite).await.unwrap());
    let url = installation.database.url.clone();
    let file = url.trim_start_matches("sqlite://").trim_end_matches("?mode=rwc");
    (installation, PathBuf::from(file))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn g2_g3_a_file_that_somebody_else_writes_to_for_long_is_waited_for_and_nothing_is_lost() {
    let (installation, file) = on_sqlite().await;
    let process = installation.serve().await;
    let (drive, all, some) = set_up(&process).await;
    drive.shop.may_fail(true);
    drive.wait_for(40).await;

    let other = Connection::open(file).unwrap();
    let mut tries = tokio::time::interval(LOOK);
    let begun = async {
        while other.execute_batch("BEGIN IMMEDIATE").is_err() {
            tries.tick().await;
        }
    };
    tokio::time::timeout(WAIT, begun).await.expect("the other program gets its turn");
    // Longer than a transaction waits for the lock.
    process.wait_until_said("database is locked", 2).await;
    let count = drive.count();
    other.execute_batch("ROLLBACK").unwrap();
    drive.wait_for(count + 40).await;
    drive.stop().await;

    check_everything(&installation, &drive, [&all, &some]).await;
    check_attempts(&connect(&installation.database.url).await).await;
    assert!(process.terminate().await.success());
}

/// Lets the process write no file beyond so many bytes.
fn limit_files(pid: u32, bytes: &str) {
    let limited =
        Command::new("prlimit").args([format!("--pid={pid}"), format!("--fsize={bytes}:")]).status();
    assert!(limited.unwrap().success(), "the limit can be set");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn g2_g3_a_file_that_may_not_grow_loses_nothing_and_service_goes_on_when_it_may() {
    let (installation, _) = on_sqlite().await;
    // A write beyond the limit then fails, as on a full disk, instead of ending the process.
    let process = installation.serve_under("trap '' XFSZ").await;
    let (drive, all, some) = set_up(&process).await;
    drive.shop.may_fail(true);
    drive.wait_for(40).await;

    limit_files(process.pid(), "4096");
    // Members who were never seen fail before they follow.
    process.wait_until_said("request failed", 2).await;
    let count = drive.count();
    limit_files(process.pid(), "unlimited");
    drive.wait_for(count + 40).await;
    drive.stop().await;

    check_everything(&installation, &drive, [&all, &some]).await;
    check_attempts(&connect(&installation.database.url).await).await;
    assert!(process.terminate().await.success());
}

/// A file system in memory with room for so many bytes, if this system lets the test mount one.
struct SmallDisk(tempfile::TempDir);

impl SmallDisk {
    fn mount(size: &str) -> Option<Self> {
        let dir = tempfile::tempdir().unwrap();
        let mounted = Command::new("mount")
            .args(["-t", "tmpfs", "-o", &format!("size={size}"), "tmpfs"])
            .arg(dir.path())
            .output();
        if mounted.is_ok_and(|mounted| mounted.status.success()) {
            return Some(Self(dir));
        }
        let _ = writeln!(
            std::io::stderr().lock(),
            "\n*** the test of a full disk is SKIPPED: it needs the right to mount a file system ***\n"
        );
        None
    }

    /// Leaves no room; gives the file that has taken it.
    fn fill(&self) -> PathBuf {
        let ballast = self.0.path().join("ballast");
        let mut of = std::ffi::OsString::from("of=");
        of.push(&ballast);
        // `dd` ends when nothing fits any more.
        let filled = Command::new("dd").args(["if=/dev/zero", "bs=4096", "status=none"]).arg(of).output();
        assert!(!filled.unwrap().status.success(), "the disk is full");
        ballast
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("--lazy").arg(self.0.path()).status();
    }
}

/// Waits until the service says that it is ready, or not, with a database of which it says this first.
async fn until_ready_is(process: &Process, status: u16, seen: &str) {
    let (http, url) = (Http::new(), format!("{}/readyz", process.url));
    let mut looks = tokio::time::interval(LOOK);
    let told = async {
        loop {
            looks.tick().await;
            let (answered, body) = http.send(("GET", &url), &[], None).await.unwrap();
            let detail = body["checks"][0]["detail"].as_str().unwrap();
            if answered == status && detail.starts_with(seen) {
                return;
            }
        }
    };
    tokio::time::timeout(WAIT, told).await.expect("it is told");
}

/// Serves from the database at `url`, which is on `disk`, until nothing fits on that any more, and goes on when there is room and
/// `ready` has seen to the database.
async fn fill_and_go_on(disk: &SmallDisk, url: &str, ready: impl FnOnce()) {
    let installation = Installation::new(TestDatabase::at(url).await);
    let process = installation.serve().await;
    let (drive, all, some) = set_up(&process).await;
    drive.shop.may_fail(true);
    drive.wait_for(40).await;

    let ballast = disk.fill();
    process.wait_until_said("request failed", 2).await;
    // A server that cannot write its log ends; a file only takes nothing more.
    let refused = if url.starts_with("sqlite:") { "nothing can be written: " } else { "" };
    until_ready_is(&process, 503, refused).await;
    let count = drive.count();
    std::fs::remove_file(ballast).unwrap();
    ready();
    drive.wait_for(count + 40).await;
    until_ready_is(&process, 200, "reachable and migrated").await;
    drive.stop().await;

    check_everything(&installation, &drive, [&all, &some]).await;
    check_attempts(&connect(url).await).await;
    assert!(process.terminate().await.success());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn g2_g3_a_full_disk_loses_nothing_and_service_goes_on_when_there_is_room() {
    let Some(disk) = SmallDisk::mount("64m") else { return };
    let url = format!("sqlite://{}/test.db?mode=rwc", disk.0.path().display());
    fill_and_go_on(&disk, &url, || {}).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn g2_g3_a_full_disk_of_postgresql_loses_nothing_and_service_goes_on_when_there_is_room() {
    let Some(disk) = SmallDisk::mount("256m") else { return };
    let Some(mut server) = OwnServer::start_in(disk.0.path()) else { return };
    let url = server.url.clone();
    // A server that cannot write its log ends.
    fill_and_go_on(&disk, &url, || server.revive()).await;
}
