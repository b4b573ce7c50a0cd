//! The verifier of each language in `docs/verify`, run as a program of its own, with the network off, on what the service
//! really delivered: it accepts that and refuses everything else.
//!
//! A language that is not installed is skipped, which is said loudly; `FOLLOWPOINTS_TEST_REQUIRE_VERIFIERS` makes that a
//! failure.

use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::OnceLock;

use entity::kinds::SignatureScheme;
use followpoints::clock::{Clock as _, SystemClock};
use followpoints::webhooks::standard::{SigningSecret, content};
use serde_json::Value;
use tempfile::TempDir;

use crate::support::delivered::{Delivered, deliver, header, tampered, unsigned, with_head};
use crate::support::receiver::Received;
use crate::support::world::{ALL_EVENTS, text};
use crate::webhooks::unfold;

/// What runs a verifier: the program and its first arguments.
type Words = Vec<String>;

/// The file in the folder of the verifiers.
fn source(name: &str) -> String {
    format!("{}/docs/verify/{name}", env!("CARGO_MANIFEST_DIR"))
}

/// Past the test harness, which would swallow it: somebody must see this.
fn say_loudly(what: &str) {
    let _ = writeln!(std::io::stderr().lock(), "\n*** {what} ***\n");
}

/// Whether the command runs and succeeds.
fn works(program: &str, arguments: &[&str]) -> bool {
    let mut command = Command::new(program);
    command.args(arguments).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    command.status().is_ok_and(|status| status.success())
}

/// What cuts the network off for the command behind it, or nothing where that cannot be done.
fn offline() -> &'static [&'static str] {
    static OFFLINE: OnceLock<&[&str]> = OnceLock::new();
    const WAYS: [&[&str]; 2] =
        [&["unshare", "--net", "--"], &["unshare", "--user", "--map-root-user", "--net", "--"]];
    OFFLINE.get_or_init(|| {
        let is_cut = |way: &&&[&str]| {
            let output = Command::new(way[0]).args(&way[1..]).args(["cat", "/proc/self/net/dev"]).output();
            output.is_ok_and(|output| {
                let devices = String::from_utf8_lossy(&output.stdout).into_owned();
                let devices: Vec<&str> = devices
                    .lines()
                    .filter_map(|line| line.split_once(':'))
                    .map(|(name, _)| name.trim())
                    .collect();
                output.status.success() && devices == ["lo"]
            })
        };
        WAYS.iter().find(is_cut).copied().unwrap_or_else(|| {
            say_loudly("The verifiers run WITH THE NETWORK ON: there are no namespaces to run them in");
            &[]
        })
    })
}

/// A verifier with everything that it reads, in a folder of its own.
struct Verifier {
    words: Words,
    dir: TempDir,
    delivered: Delivered,
}

impl Verifier {
    /// Runs it: what it printed, or the reason that it gave for refusing.
    fn run(
        &self,
        key_file: &str,
        app_id: &str,
        body: &str,
        headers: &[(&str, &str)],
    ) -> Result<String, String> {
        let words =
            offline().iter().copied().chain(self.words.iter().map(String::as_str)).collect::<Vec<_>>();
        let mut child = Command::new(words[0])
            .args(&words[1..])
            .arg(self.dir.path().join(key_file))
            .arg(app_id)
            .env_clear()
            .env("PATH", std::env::var_os("PATH").unwrap())
            .env("HOME", self.dir.path())
            .envs(headers.iter().copied())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        // One that has refused already reads no more.
        let _ = child.stdin.take().unwrap().write_all(body.as_bytes());
        let output = child.wait_with_output().unwrap();
        let [stdout, stderr] = [output.stdout, output.stderr].map(|bytes| String::from_utf8(bytes).unwrap());
        match output.status.code() {
            Some(0) => {
                assert_eq!(stderr, "");
                Ok(stdout)
            }
            Some(1) => {
                assert_eq!((stdout.as_str(), stderr.lines().count()), ("", 1), "{stderr}");
                Err(stderr.to_lowercase())
            }
            code => panic!("{words:?} ended with {code:?}: {stderr}"),
        }
    }

    fn accepts_the_token(&self) {
        let Delivered { app_id, fresh, .. } = &self.delivered;
        let told = Ok(format!("{} {}\n", text(&unfold(&fresh.body)["jti"]), ALL_EVENTS[0]));
        for key_file in ["app.pem", "keys.json"] {
            assert_eq!(self.run(key_file, app_id, &fresh.body, &[]), told, "{key_file}");
        }
    }

    fn refuses_everything_else(&self) {
        let Delivered { app_id, fresh, expired, foreign, .. } = &self.delivered;
        let kid = unfold_kid(&fresh.body);
        let confused = with_head(&fresh.body, &format!(r#"{{"alg":"HS256","kid":"{kid}","typ":"JWT"}}"#));
        let cases: [(&str, &str, &str, &[&str]); 8] = [
            ("another payload", "app.pem", &tampered(&fresh.body, &expired.body), &["signature"]),
            ("another payload", "keys.json", &tampered(&fresh.body, &expired.body), &["signature"]),
            ("no signature", "app.pem", &unsigned(&fresh.body), &["alg", "none"]),
            ("no signature", "keys.json", &unsigned(&fresh.body), &["alg", "none", "kid"]),
            ("an HMAC", "app.pem", &confused, &["alg"]),
            ("another app's key", "app.pem", &foreign.body, &["signature"]),
            ("another app", "keys.json", &foreign.body, &["audience"]),
            ("one that expired", "app.pem", &expired.body, &["expired"]),
        ];
        for (what, key_file, body, reasons) in cases {
            let refused = self.run(key_file, app_id, body, &[]).expect_err(what);
            assert!(reasons.iter().any(|reason| refused.contains(reason)), "{what}: {refused}");
        }
    }

    fn checks_the_headers(&self) {
        let Delivered { app_id, fresh, secret, .. } = &self.delivered;
        let verify = |body: &str, timestamp: &str, signature: &str| {
            let id = header(fresh, "webhook-id");
            let headers = [
                ("WEBHOOK_SECRET", secret.as_str()),
                ("WEBHOOK_ID", id),
                ("WEBHOOK_TIMESTAMP", timestamp),
                ("WEBHOOK_SIGNATURE", signature),
            ];
            self.run("app.pem", app_id, body, &headers)
        };
        let of = |request: &Received, name: &str| header(request, name).to_owned();
        let (timestamp, signature) = (of(fresh, "webhook-timestamp"), of(fresh, "webhook-signature"));
        let told = Ok(format!("{} {}\n", header(fresh, "webhook-id"), ALL_EVENTS[0]));
        assert_eq!(verify(&fresh.body, &timestamp, &signature), told);

        let mut changed = fresh.body.clone();
        changed.insert(changed.len() - 1, 'A');
        assert!(verify(&changed, &timestamp, &signature).unwrap_err().contains("no signature"));
        assert!(verify(&fresh.body, &timestamp, "v1,AAAA").unwrap_err().contains("no signature"));
        // Signed with the right secret, but ten minutes ago: a replay.
        let old = (SystemClock::default().now().seconds() - 600).to_string();
        let content = content(header(fresh, "webhook-id"), &old, fresh.body.as_bytes());
        let replayed = signing_secret(secret).sign(&content);
        assert!(verify(&fresh.body, &old, &replayed).unwrap_err().contains("timestamp"));
    }
}

fn unfold_kid(token: &str) -> String {
    let head: Value = crate::webhooks::unfold_head(token);
    text(&head["kid"])
}

fn signing_secret(shown: &str) -> SigningSecret {
    use base64::Engine as _;
    let bytes = base64::engine::general_purpose::STANDARD.decode(shown.strip_prefix("whsec_").unwrap());
    SigningSecret::new(SignatureScheme::V1, &bytes.unwrap()).unwrap()
}

/// Holds the verifier of a language to its promise; `prepare` gives what runs it, or says what is missing.
async fn hold(language: &str, prepare: impl FnOnce(&Path) -> Result<Words, String>) {
    let dir = tempfile::tempdir().unwrap();
    let words = match prepare(dir.path()) {
        Ok(words) => words,
        Err(missing) => {
            let required = std::env::var_os("FOLLOWPOINTS_TEST_REQUIRE_VERIFIERS").is_some();
            assert!(!required, "the verifier in {language} is required, but {missing}");
            say_loudly(&format!("The verifier in {language} is SKIPPED: {missing}"));
            return;
        }
    };
    let delivered = deliver().await;
    std::fs::write(dir.path().join("app.pem"), &delivered.public_key).unwrap();
    std::fs::write(dir.path().join("keys.json"), &delivered.jwks).unwrap();
    let verifier = Verifier { words, dir, delivered };
    verifier.accepts_the_token();
    verifier.refuses_everything_else();
    verifier.checks_the_headers();
}

fn words(words: &[&str]) -> Words {
    words.iter().map(|word| (*word).to_owned()).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn node() {
    hold("Node", |_| {
        let is_there = works("node", &["--version"]);
        is_there.then(|| words(&["node", &source("verify.mjs")])).ok_or("there is no node".to_owned())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn python() {
    hold("Python", |_| {
        // Where the client tests install what they need.
        let installed = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/clients/.venv/bin/python");
        let has_packages = |python: &&str| works(python, &["-c", "import jwt, cryptography"]);
        let python = [installed, "python3"].into_iter().find(has_packages);
        let python = python.ok_or("no python3 has PyJWT[crypto]; tests/clients/run installs it")?;
        Ok(words(&[python, "-B", &source("verify.py")]))
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn go() {
    hold("Go", |dir| {
        if !works("go", &["version"]) {
            return Err("there is no go".to_owned());
        }
        let program = dir.join("verify").into_os_string().into_string().unwrap();
        // `go run` would do the same for every single run. What the compiler keeps makes the next test run faster.
        let built = Command::new("go")
            .args(["build", "-o", &program, &source("verify.go")])
            .env("GOCACHE", PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join("go"))
            .env("GOPROXY", "off")
            .output()
            .unwrap();
        assert!(built.status.success(), "{}", String::from_utf8_lossy(&built.stderr));
        Ok(vec![program])
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn java() {
    hold("Java", |_| {
        let is_there = works("javac", &["--version"]);
        let java = ["java", "-XX:TieredStopAtLevel=1", &source("Verify.java")];
        is_there.then(|| words(&java)).ok_or("there is no JDK".to_owned())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn rust() {
    hold("Rust", |_| {
        // Built with the tests: <target>/debug/deps/it-… and <target>/debug/examples/….
        let tests = std::env::current_exe().unwrap();
        let program = tests.ancestors().nth(2).unwrap().join("examples/verify_webhook");
        let program = program.into_os_string().into_string().unwrap();
        let is_there = Path::new(&program).exists();
        is_there
            .then(|| vec![program])
            .ok_or("it is not built; `cargo build --examples` does that".to_owned())
    })
    .await;
}
