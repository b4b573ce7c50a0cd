//! What the program does not start with: each case gives one clear line on standard error that says what to do, a status
//! other than zero, nothing on standard output, and shows no secret.

use std::net::TcpListener;

use super::{Ended, Sandbox};

const MASTER_KEY: &str = "MDEyMzQ1Njc4OTAxMjM0NTY3ODkwMTIzNDU2Nzg5MDE=";
const OTHER_MASTER_KEY: &str = "QUJDREVGR0hJSktMTU5PUFFSU1RVVldYWVphYmNkZWY=";

/// Commands that need the settings.
const COMMANDS: [&[&str]; 4] = [&["serve"], &["migrate"], &["verify"], &["admin", "list-sites"]];

/// Whether `ended` is one line that begins with `start`, contains `advice` and looks like no crash.
#[track_caller]
fn assert_refused(ended: &Ended, start: &str, advice: &str) {
    assert_eq!((ended.code, ended.stdout.as_str()), (Some(1), ""), "{}", ended.stderr);
    let lines: Vec<&str> = ended.stderr.lines().collect();
    let [line] = lines.as_slice() else { panic!("not one line: {:?}", ended.stderr) };
    assert!(line.starts_with(&format!("followpoints: {start}")), "{line}");
    assert!(line.contains(advice), "{line}");
    for crash in ["panicked", "RUST_BACKTRACE", "SqlxError", "hunter2"] {
        assert!(!line.contains(crash), "{line}");
    }
}

#[test]
fn g8_a_bad_setting_is_told_with_what_it_must_be_and_secrets_are_not_repeated() {
    let cases = [
        ("LISTEN", "nonsense", LISTEN),
        ("LISTEN", "localhost", LISTEN),
        ("LISTEN", "127.0.0.1", LISTEN),
        ("LISTEN", "127.0.0.1:99999", LISTEN),
        ("PUBLIC_URL", "points.example", PUBLIC_URL),
        ("PUBLIC_URL", "ftp://points.example", PUBLIC_URL),
        ("PUBLIC_URL", "https://points.example/?a=b", PUBLIC_URL),
        ("PUBLIC_URL", "https://points.example/#top", PUBLIC_URL),
        ("ADMIN_KEY", "hunter2", ADMIN_KEY),
        ("ADMIN_KEY", "hunter2-hunter2", ADMIN_KEY),
        ("ADMIN_KEY", "schlüsselschlüssel", ADMIN_KEY),
        ("ADMIN_KEY", "hunter2 hunter2 hunter2", ADMIN_KEY),
        ("MASTER_KEY", "hunter2", MASTER_KEY_FORM),
        ("MASTER_KEY", "aHVudGVyMg==", MASTER_KEY_FORM),
        ("MASTER_KEY", "not base64!", MASTER_KEY_FORM),
        ("WEBHOOK_ALLOW_NETS", "10.0.0.0/33", ALLOW_NETS),
        ("WEBHOOK_ALLOW_NETS", "10.0.0.0/8,intranet", ALLOW_NETS),
        ("WEBHOOK_ALLOW_NETS", "10.0.0.0/8,0.0.0.0/0", EVERYTHING),
        ("WEBHOOK_ALLOW_NETS", "::/0", EVERYTHING),
        ("TRUSTED_PROXIES", "0.0.0.0/0", EVERYTHING),
        ("TRUSTED_PROXIES", "10.0.0.0/33", ALLOW_NETS),
        ("TRUSTED_PROXIES", "10.0.0.0/8,intranet", ALLOW_NETS),
        ("WEBHOOK_CA_FILE", "/nonexistent/ca.pem", CA_FILE),
        ("WEBHOOK_PROXY", "proxy.example:3128", PROXY),
        ("WEBHOOK_PROXY", "https://user:hunter2@proxy.example:3128", PROXY),
        ("WEBHOOK_PROXY", "http://user:hunter2@proxy.example:3128/path", PROXY),
        ("RATE_MEMBER", "fast", RATE),
        ("RATE_CLIENT", "100", RATE),
        ("RATE_ADDRESS", "0/10", RATE),
        ("RATE_MEMBER", "-1/10", RATE),
        ("NATS_URL", "nats.example:4222", NATS_URL),
        ("NATS_URL", "http://points:hunter2@nats.example", NATS_URL),
        ("NATS_URL", "nats://points:hunter2@a.example,nats://points:hunter3@b.example", NATS_SIGN_INS),
        ("NATS_CREDENTIALS_FILE", "/nonexistent/points.creds", NATS_NO_URL),
        ("NATS_STREAM", "points.of.all", NATS_STREAM),
        ("NATS_REPLICAS", "0", NATS_REPLICAS),
        ("NATS_REPLICAS", "6", NATS_REPLICAS),
        ("NATS_REPLICAS", "three", NATS_REPLICAS),
        ("RETAIN_ANSWERS_DAYS", "0", DAYS),
        ("RETAIN_DELIVERIES_DAYS", "3651", DAYS),
        ("RETAIN_EVENTS_DAYS", "-1", DAYS),
        ("RETAIN_EVENTS_DAYS", "seven", DAYS),
    ];
    for (name, value, form) in cases {
        let mut sandbox = Sandbox::new();
        let variable = format!("FOLLOWPOINTS_{name}");
        sandbox.set(&variable, value);
        let message = form.replace("{name}", &variable).replace("{value}", &format!("{value:?}"));
        let message = message.replace("{entry}", value.rsplit(',').next().unwrap());
        assert_eq!(sandbox.run(&["serve"]), Ended::refused(message), "{name}={value}");
        assert!(!sandbox.path("followpoints.db").exists(), "nothing is made before the settings are right");
    }
}

const LISTEN: &str = "{name} is {value}; it must be an address and a port like 127.0.0.1:8080";
const PUBLIC_URL: &str =
    "{name} is {value}; it must be an http or https URL without a query, like https://points.example";
const ADMIN_KEY: &str = "{name} must have at least 16 characters, all of them visible ones of ASCII; `openssl rand -hex 32` makes a good one";
const MASTER_KEY_FORM: &str = "{name} must be 32 bytes in base64; `openssl rand -base64 32` makes one";
const ALLOW_NETS: &str = "{name}: `{entry}` is neither an address nor a network such as 10.0.0.0/8; it must be a \
    comma-separated list of networks like 10.0.0.0/8,127.0.0.1";
const EVERYTHING: &str = "{name}: `{entry}` has every address in it, so that nothing would be kept out; it must be a comma-separated \
    list of networks like 10.0.0.0/8,127.0.0.1";
const CA_FILE: &str = "{name}: cannot read /nonexistent/ca.pem: No such file or directory (os error 2)";
const PROXY: &str = "{name}: it must be a URL of a host and a port like http://user:password@proxy.example:3128, and \
    nothing after it";
const RATE: &str = "{name} is {value}; it must be requests a second, a slash and a burst, like 100/1000";

const NATS_URL: &str = "{name} must be 1 to 16 comma-separated URLs like nats://nats.example:4222 or \
    tls://user:password@nats.example";
const NATS_SIGN_INS: &str = "{name} has different user names, passwords or tokens; every server gets the same, so name \
    them once";
const NATS_NO_URL: &str = "{name} is set without FOLLOWPOINTS_NATS_URL; set both or none";
const NATS_STREAM: &str = "{name} is {value}; it must be 1 to 64 letters, digits, hyphens and underscores";
const NATS_REPLICAS: &str = "{name} is {value}; it must be a number from 1 to 5, best 1 or 3";
const DAYS: &str = "{name} is {value}; it must be a number of days from 1 to 3650";

#[test]
fn g8_a_credentials_file_that_is_none_is_told_without_what_is_in_it() {
    let mut sandbox = Sandbox::new();
    std::fs::write(sandbox.path("points.creds"), "hunter2").unwrap();
    sandbox.set("FOLLOWPOINTS_NATS_URL", "nats://nats.example");
    let told = "FOLLOWPOINTS_NATS_CREDENTIALS_FILE: ";
    for (file, problem, advice) in [
        ("points.creds", "points.creds holds no NATS credentials", "`nsc generate creds` writes such a file"),
        ("nowhere.creds", "cannot read nowhere.creds: No such file", "(os error 2)"),
    ] {
        sandbox.set("FOLLOWPOINTS_NATS_CREDENTIALS_FILE", file);
        assert_refused(&sandbox.run(&["serve"]), &format!("{told}{problem}"), advice);
    }
    sandbox.set("FOLLOWPOINTS_NATS_URL", "nats://points:hunter2@nats.example");
    let start =
        "FOLLOWPOINTS_NATS_URL has a user name or token, and FOLLOWPOINTS_NATS_CREDENTIALS_FILE is set too";
    assert_refused(&sandbox.run(&["serve"]), start, "choose one of them");
}

#[test]
fn postgres_needs_a_master_key_that_every_node_has() {
    for url in ["postgres://points@127.0.0.1:1/points", "postgresql://points@127.0.0.1:1/points"] {
        let mut sandbox = Sandbox::new();
        sandbox.set("FOLLOWPOINTS_DATABASE_URL", url);
        for command in ["serve", "migrate"] {
            let message = "FOLLOWPOINTS_MASTER_KEY is required with PostgreSQL, the same on every node; \
                           `openssl rand -base64 32` makes one";
            assert_eq!(sandbox.run(&[command]), Ended::refused(message));
        }
        let ended = sandbox.run(&["verify"]);
        assert_refused(&ended, "cannot open the database: ", "FOLLOWPOINTS_DATABASE_URL");
    }
}

#[test]
fn what_opens_no_secret_needs_no_master_key() {
    let sandbox = Sandbox::new();
    sandbox.run(&["migrate"]);
    std::fs::remove_file(sandbox.path("followpoints.db.master-key")).unwrap();
    let site = sandbox.word(&["admin", "create-site", "Nordbrew"]);
    assert_eq!(sandbox.run(&["admin", "list-sites"]), Ended::with(format!("{site}  Nordbrew\n")));
    let member = sandbox.word(&["admin", "create-member", "--site", &site]);
    let sound = "accounts: 0, ledger entries: 0\nevery balance is the sum of its entries\n";
    assert_eq!(sandbox.run(&["verify"]), Ended::with(sound));
    let gone = "the master key file followpoints.db.master-key is missing: without it the secrets in the database cannot be opened; \
                restore it, or set FOLLOWPOINTS_MASTER_KEY";
    let token = ["admin", "create-member-token", "--site", &site, &member];
    assert_eq!(sandbox.run(&token), Ended::refused(gone));
    assert!(!sandbox.path("followpoints.db.master-key").exists());
}

#[test]
fn a_misspelt_name_is_refused_by_every_command_that_reads_the_settings() {
    for (name, closest) in [
        ("DATABSE_URL", "DATABASE_URL"),
        ("ADMINKEY", "ADMIN_KEY"),
        ("WEBHOOK_ALLOWED_NETS", "WEBHOOK_ALLOW_NETS"),
        ("NATS_URLS", "NATS_URL"),
        ("RETAIN_EVENT_DAYS", "RETAIN_EVENTS_DAYS"),
        ("RATE_MEMBERS", "RATE_MEMBER"),
        ("META_TAG_MINUTES", "META_TAGS_MINUTES"),
        ("TRUSTED_PROXY", "TRUSTED_PROXIES"),
    ] {
        let mut sandbox = Sandbox::new();
        sandbox.set(&format!("FOLLOWPOINTS_{name}"), "hunter2");
        let refused = Ended::refused(format!(
            "FOLLOWPOINTS_{name} is not a setting; the closest one is FOLLOWPOINTS_{closest}, and the README has them all"
        ));
        for command in COMMANDS {
            assert_eq!(sandbox.run(command), refused, "{command:?}");
        }
        assert_eq!(std::fs::read_dir(sandbox.dir.path()).unwrap().count(), 0, "nothing is made");
    }
}

#[test]
fn names_of_tests_benchmarks_and_kubernetes_are_left_alone() {
    let mut sandbox = Sandbox::new();
    sandbox
        .set("FOLLOWPOINTS_TEST_SEED", "7")
        .set("FOLLOWPOINTS_BENCH_SECONDS", "7")
        .set("FOLLOWPOINTS_SERVICE_HOST", "10.0.0.1")
        .set("FOLLOWPOINTS_PORT", "tcp://10.0.0.1:8080");
    assert_eq!(sandbox.run(&["migrate"]), Ended::with("the schema is up to date\n"));
}

#[test]
fn only_sqlite_and_postgres_are_known_as_databases() {
    for url in ["mysql://root:hunter2@127.0.0.1/points", "followpoints.db", "nonsense"] {
        for master_key in [None, Some(MASTER_KEY)] {
            let mut sandbox = Sandbox::new();
            sandbox.set("FOLLOWPOINTS_DATABASE_URL", url);
            if let Some(key) = master_key {
                sandbox.set("FOLLOWPOINTS_MASTER_KEY", key);
            }
            for command in COMMANDS {
                let message = "FOLLOWPOINTS_DATABASE_URL must start with sqlite:// or postgres://";
                assert_eq!(sandbox.run(command), Ended::refused(message), "{command:?} on {url}");
            }
        }
    }
}

#[test]
fn an_unreachable_postgres_is_told_without_its_password() {
    // Taken and given back: nothing listens there.
    let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let mut sandbox = Sandbox::new();
    sandbox
        .set("FOLLOWPOINTS_DATABASE_URL", format!("postgres://points:hunter2@127.0.0.1:{port}/points"))
        .set("FOLLOWPOINTS_MASTER_KEY", MASTER_KEY);
    for command in [&["serve"][..], &["verify"]] {
        let advice = "check FOLLOWPOINTS_DATABASE_URL and that the server runs";
        let ended = sandbox.run(command);
        assert_refused(&ended, "cannot open the database: ", advice);
        assert!(ended.stderr.contains("Connection refused"), "it says why: {}", ended.stderr);
    }
}

#[test]
fn a_file_that_cannot_be_made_is_named() {
    let mut sandbox = Sandbox::new();
    std::fs::write(sandbox.path("file"), "").unwrap();
    let url = format!("sqlite://{}?mode=rwc", sandbox.path("file/points.db").display());
    sandbox.set("FOLLOWPOINTS_DATABASE_URL", url);
    for command in [&["serve"], &["migrate"]] {
        let path = sandbox.path("file/points.db.master-key");
        let start = format!("cannot use the master key file {}: Not a directory", path.display());
        assert_refused(
            &sandbox.run(command),
            &start,
            "set FOLLOWPOINTS_MASTER_KEY or fix the file's permissions",
        );
    }
    sandbox.set("FOLLOWPOINTS_MASTER_KEY", MASTER_KEY);
    for command in [&["serve"][..], &["migrate"]] {
        let start = format!("cannot write {}", sandbox.path("file/points.db").display());
        let advice = "check the folder's permissions and that the disk is not read-only";
        assert_refused(&sandbox.run(command), &start, advice);
    }
    for command in [&["verify"][..], &["admin", "list-sites"]] {
        assert_refused(&sandbox.run(command), "there is no database ", "check FOLLOWPOINTS_DATABASE_URL");
    }
}

#[test]
fn a_folder_or_a_text_in_place_of_the_database_is_told() {
    let mut sandbox = Sandbox::new();
    std::fs::create_dir(sandbox.path("points.db")).unwrap();
    std::fs::write(
        sandbox.path("text.db"),
        "this is a text and no database, and it is long enough ".repeat(40),
    )
    .unwrap();

    sandbox.set("FOLLOWPOINTS_DATABASE_URL", "sqlite://points.db?mode=rwc");
    let advice = "check the folder's permissions";
    assert_refused(&sandbox.run(&["serve"]), "cannot write points.db: Is a directory", advice);
    sandbox.set("FOLLOWPOINTS_DATABASE_URL", "sqlite://text.db?mode=rwc");
    assert_refused(&sandbox.run(&["serve"]), "cannot open the database: ", "file is not a database");
}

#[test]
fn a_database_that_is_not_there_is_not_made_against_the_urls_word() {
    let mut sandbox = Sandbox::new();
    sandbox.set("FOLLOWPOINTS_DATABASE_URL", "sqlite://points.db?mode=rw");
    for command in ["serve", "migrate"] {
        let ended = sandbox.run(&[command]);
        assert_refused(&ended, "there is no database at points.db; ", "mode=rwc to have it made");
    }
    sandbox.set("FOLLOWPOINTS_DATABASE_URL", "sqlite://points.db?mode=ro");
    assert_refused(
        &sandbox.run(&["serve"]),
        "FOLLOWPOINTS_DATABASE_URL must not say mode=ro",
        "must be kept",
    );
    assert!(!sandbox.path("points.db").exists());
    sandbox.set("FOLLOWPOINTS_DATABASE_URL", "sqlite://points.db?mode=rwc");
    sandbox.run(&["migrate"]);
    sandbox.set("FOLLOWPOINTS_DATABASE_URL", "sqlite://points.db?mode=rw");
    let verified = sandbox.run(&["verify"]);
    assert_eq!(verified.code, Some(0), "{}", verified.stderr);
}

#[test]
fn a_port_that_is_taken_is_told() {
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap();
    let mut sandbox = Sandbox::new();
    sandbox.set("FOLLOWPOINTS_LISTEN", address.to_string());
    let start = format!("cannot listen on {address}: ");
    let advice = "is the port taken? Choose another with FOLLOWPOINTS_LISTEN or --listen";
    assert_refused(&sandbox.run(&["serve"]), &start, advice);
    assert!(!sandbox.path("followpoints.db").exists());
}

#[test]
fn a_number_of_threads_that_is_none_is_told() {
    for wrong in ["0", "two", "-1", ""] {
        let mut sandbox = Sandbox::new();
        sandbox.set("FOLLOWPOINTS_THREADS", wrong);
        let refused = Ended::refused("FOLLOWPOINTS_THREADS must be a number from 1 on");
        assert_eq!(sandbox.run(&["serve"]), refused, "{wrong:?}");
    }
}

#[test]
fn an_empty_database_is_not_served_without_migrating_it() {
    let behind = Ended::refused(
        "the database schema is 6 step(s) behind; run `followpoints migrate` with the same FOLLOWPOINTS_DATABASE_URL",
    );
    let commands: [&[&str]; 4] = [
        &["serve", "--no-migrate"],
        &["verify"],
        &["admin", "list-sites"],
        &["admin", "create-site", "Nordbrew"],
    ];
    for command in commands {
        let sandbox = Sandbox::new();
        std::fs::write(sandbox.path("followpoints.db"), "").unwrap();
        assert_eq!(sandbox.run(command), behind, "{command:?}");
    }
}

#[test]
fn a_command_that_reads_does_not_make_the_database_it_does_not_find() {
    let commands: [&[&str]; 3] =
        [&["verify"], &["admin", "list-sites"], &["admin", "create-site", "Nordbrew"]];
    for command in commands {
        let sandbox = Sandbox::new();
        let refused = Ended::refused(
            "there is no database followpoints.db; check FOLLOWPOINTS_DATABASE_URL, or make one with `followpoints migrate`",
        );
        assert_eq!(sandbox.run(command), refused, "{command:?}");
        assert!(!sandbox.path("followpoints.db").exists());
        assert!(!sandbox.path("followpoints.db.master-key").exists());
    }
}

#[test]
fn a_log_filter_that_cannot_be_read_is_refused_and_an_empty_one_is_none() {
    let mut sandbox = Sandbox::new();
    for filter in ["[", "foo=bar=baz", "info,followpoints=debugg"] {
        sandbox.set("FOLLOWPOINTS_LOG", filter);
        let ended = sandbox.run(&["serve"]);
        assert_refused(&ended, "", "FOLLOWPOINTS_LOG is ");
    }
    sandbox.set("FOLLOWPOINTS_LOG", " ");
    drop(sandbox.serve());
}

#[test]
fn a_database_that_could_not_be_kept_is_refused_before_anything_is_made() {
    for (url, message) in [
        ("sqlite::memory:", "FOLLOWPOINTS_DATABASE_URL must name a file: what is written must be kept"),
        ("sqlite://", "FOLLOWPOINTS_DATABASE_URL must name a file: what is written must be kept"),
        (
            "sqlite://nowhere/a.db?mode=rwc",
            "there is no folder nowhere; make it, or check FOLLOWPOINTS_DATABASE_URL",
        ),
    ] {
        let mut sandbox = Sandbox::new();
        sandbox.set("FOLLOWPOINTS_DATABASE_URL", url);
        for command in [&["serve"][..], &["migrate"], &["verify"]] {
            assert_eq!(sandbox.run(command).without_log(), Ended::refused(message), "{url} {command:?}");
        }
        assert!(!sandbox.path("a.db.master-key").exists());
    }
}

#[test]
fn a_second_process_does_not_serve_from_the_same_file() {
    let sandbox = Sandbox::new();
    let _first = sandbox.serve();
    let in_use = Ended::refused("followpoints.db is in use by another followpoints process; stop it first");
    assert_eq!(sandbox.run(&["serve"]), in_use);
    assert_eq!(sandbox.run(&["serve", "--no-migrate"]), in_use);
    assert_eq!(sandbox.run(&["migrate"]), in_use);
}

#[test]
fn another_master_key_than_the_one_that_sealed_the_secrets_is_told() {
    let mut sandbox = Sandbox::new();
    sandbox.set("FOLLOWPOINTS_MASTER_KEY", MASTER_KEY);
    drop(sandbox.serve());

    sandbox.set("FOLLOWPOINTS_MASTER_KEY", OTHER_MASTER_KEY);
    let told = Ended::refused(
        "a stored secret cannot be opened: was it sealed under another FOLLOWPOINTS_MASTER_KEY?",
    );
    assert_eq!(sandbox.run(&["serve"]).without_log(), told);
    // A lost key file is not made anew, as it would open nothing.
    sandbox.environment.remove("FOLLOWPOINTS_MASTER_KEY");
    let gone = Ended::refused(
        "the master key file followpoints.db.master-key is missing: without it the secrets in the database cannot be opened; restore it, or set FOLLOWPOINTS_MASTER_KEY",
    );
    for command in ["serve", "migrate"] {
        assert_eq!(sandbox.run(&[command]).without_log(), gone, "{command}");
        assert!(!sandbox.path("followpoints.db.master-key").exists());
    }
    std::fs::write(sandbox.path("followpoints.db.master-key"), "rubbish").unwrap();
    let damaged = Ended::refused(
        "the master key file followpoints.db.master-key does not hold 32 bytes in base64; restore it, or set FOLLOWPOINTS_MASTER_KEY",
    );
    assert_eq!(sandbox.run(&["serve"]).without_log(), damaged);

    sandbox.set("FOLLOWPOINTS_MASTER_KEY", MASTER_KEY);
    drop(sandbox.serve());
}

/// Half a configuration is worse than none: what stands behind the line that cannot be read would be missing.
#[test]
fn g8_a_dot_env_with_a_line_that_cannot_be_read_is_told() {
    let sandbox = Sandbox::new();
    let text = "FOLLOWPOINTS_ADMIN_KEY=hunter2 hunter2 hunter2\nFOLLOWPOINTS_RATE_MEMBER=1/1\n";
    std::fs::write(sandbox.path(".env"), text).unwrap();
    assert_refused(&sandbox.run(&["migrate"]), "", ".env");
}

#[test]
fn admin_names_what_does_not_exist_or_is_not_allowed() {
    let sandbox = Sandbox::new();
    sandbox.run(&["migrate"]);
    let site = sandbox.word(&["admin", "create-site", "Nordbrew"]);
    let nobody = "01a1fae0-1eff-77b5-972a-09dcdce0937d";
    let refused = |words: &[&str], message: &str| {
        assert_eq!(sandbox.run(&[&["admin"], words].concat()), Ended::refused(message), "{words:?}");
    };

    refused(&["create-key", "k", "--site", nobody], "there is no such site");
    refused(&["create-member", "--site", nobody], "there is no such site");
    refused(&["create-member-token", "--site", nobody, nobody], "the site has no such member");
    refused(&["create-member-token", "--site", &site, nobody], "the site has no such member");
    let instance = ["create-key", "k", "--site", &site, "--scope", "SCOPE.FOLLOWPOINTS.INSTANCE-ADMIN"];
    refused(&instance, "a key of one site cannot administer the instance");
    let unknown = sandbox.run(&["admin", "create-key", "k", "--scope", "EVERYTHING"]);
    assert_eq!((unknown.code, unknown.stdout.as_str()), (Some(2), ""));
    assert!(unknown.stderr.contains("must be one of SCOPE.DC-LOYALTY.READ-LOYALTY, "), "{}", unknown.stderr);
    let listed = format!("{site}  Nordbrew\n");
    assert_eq!(sandbox.run(&["admin", "list-sites"]), Ended::with(listed));
}
