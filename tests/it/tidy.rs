//! The shape of the code, held by reading it: which module may use which, how long a file may be, what does not occur.
//!
//! Where the code does not keep a rule yet, the place stands on a list with its reason. A list may only shrink: an entry that
//! is no longer needed fails the test until it is removed.

use std::collections::BTreeSet;
use std::path::Path;

use followpoints::http::openapi;

/// Lines of a file of the service.
const LINES_MAX: usize = 500;

/// The features from the bottom up: each may use those before it.
const FEATURES: [&str; 17] = [
    "members",
    "points",
    "sites",
    "channels",
    "programs",
    "access",
    "apps",
    "webhooks",
    "accounts",
    "follows",
    "inbox",
    "profiles",
    "activities",
    "sources",
    "connections",
    "instagram",
    "tiktok",
];
/// Uses against the order: who, whom, why it is so for now.
const UPWARDS: &[(&str, &str, &str)] = &[
    ("sites", "webhooks", "the configuration of a site lists the event types of its subscriptions"),
    ("access", "apps", "the token endpoint checks an app's secret"),
    ("apps", "webhooks", "a retired key stays published for as long as a webhook's token lives"),
];

/// What stands below the features, and what of the crate each may use.
const FOUNDATION: &[(&str, &[&str])] = &[
    ("clock", &[]),
    ("ids", &[]),
    ("gather", &[]),
    ("change", &[]),
    ("threads", &[]),
    ("rows", &[]),
    ("seal", &[]),
    ("nets", &[]),
    ("outbound", &["clock", "nets"]),
    ("streams", &[]),
    ("outages", &[]),
    ("db", &["clock", "gather", "ids", "outages"]),
    // It counts what the dispatcher does.
    ("metrics", &["webhooks"]),
    // The rates are settings, and their type belongs to the edge.
    // How long the log is kept is a setting too, and its type belongs to the log.
    ("config", &["db", "http", "nets", "outbound", "seal", "sources", "webhooks", "streams"]),
];

/// What HTTP files use of another feature's HTTP files.
const SHARED_HTTP: &[(&str, &str)] = &[("src/members/api.rs", "crate::access::token_api")];

/// A file of the repository.
struct Source {
    /// Its path from the top.
    path: String,
    text: String,
    /// The text without comments and unit tests.
    code: String,
}

impl Source {
    fn is_http(&self) -> bool {
        self.path.ends_with("/api.rs") || self.path.ends_with("_api.rs")
    }

    /// The module of the crate that the file belongs to: `follows` for `src/follows/batch.rs`, `rows` for `src/rows.rs`.
    fn module(&self) -> &str {
        let below = self.path.strip_prefix("src/").unwrap_or("");
        below.split('/').next().unwrap_or(below).trim_end_matches(".rs")
    }

    /// The modules of the crate that the code names.
    fn uses(&self) -> BTreeSet<&str> {
        let after = self.code.split("crate::").skip(1);
        let names =
            after.map(|rest| rest.split(|c: char| !c.is_ascii_alphanumeric() && c != '_').next().unwrap());
        names.filter(|name| !name.is_empty() && *name != self.module()).collect()
    }

    fn has(&self, word: &str) -> bool {
        self.code.contains(word)
    }

    /// Every function with its name, from `fn` to the next one.
    fn functions(&self) -> impl Iterator<Item = (&str, &str)> {
        self.code.split("\nasync fn ").flat_map(|part| part.split("fn ")).skip(1).map(|function| {
            let end = function.find(|c: char| !c.is_ascii_alphanumeric() && c != '_').unwrap_or(0);
            (&function[..end], function)
        })
    }
}

fn sources(folder: &str) -> Vec<Source> {
    let top = Path::new(env!("CARGO_MANIFEST_DIR"));
    let (mut folders, mut found) = (vec![top.join(folder)], Vec::new());
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(&folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                let text = std::fs::read_to_string(&path).unwrap();
                let path = path.strip_prefix(top).unwrap().to_str().unwrap().to_owned();
                found.push(Source { path, code: code_of(&text), text });
            }
        }
    }
    assert!(!found.is_empty(), "{folder} is empty");
    found.sort_by(|one, other| one.path.cmp(&other.path));
    found
}

fn code_of(text: &str) -> String {
    let text = text.split("#[cfg(test)]").next().unwrap_or(text);
    let lines = text.lines().map(|line| if line.trim_start().starts_with("//") { "" } else { line });
    lines.collect::<Vec<_>>().join("\n")
}

/// Fails with every place found, and with every exception that was not needed.
#[track_caller]
fn assert_none(found: &[String], rule: &str) {
    assert!(found.is_empty(), "{rule}:\n{}", found.join("\n"));
}

/// Every pair of a file and a word that occurs in it although it must not.
fn occurrences(sources: &[Source], words: &[&str]) -> Vec<String> {
    let of = |source: &Source| {
        let path = source.path.clone();
        let found = words.iter().filter(|word| source.has(word)).map(move |word| format!("{path}: {word}"));
        found.collect::<Vec<_>>()
    };
    sources.iter().flat_map(of).collect()
}

#[test]
fn every_file_begins_by_saying_what_it_is_for() {
    for folder in ["src", "entity", "migration", "tests/it"] {
        let silent: Vec<_> = sources(folder)
            .into_iter()
            .filter(|source| !source.text.starts_with("//!"))
            .map(|s| s.path)
            .collect();
        assert_none(&silent, "a file begins with `//!`");
    }
}

#[test]
fn files_are_short() {
    let mut long = Vec::new();
    for source in ["src", "entity", "migration"].into_iter().flat_map(sources) {
        let lines = source.text.lines().count();
        if lines > LINES_MAX {
            long.push(format!("{} has {lines} lines, {LINES_MAX} are allowed", source.path));
        }
    }
    assert_none(&long, "files are short");
}

#[test]
fn entities_and_migrations_stand_alone() {
    let entity = occurrences(&sources("entity"), &["followpoints", "poem", "migration"]);
    assert_none(&entity, "the entities know neither the service nor HTTP");
    let migration = occurrences(&sources("migration"), &["followpoints", "poem", "entity::", "entity ="]);
    assert_none(&migration, "a migration keeps its meaning when entities move on");
    for (manifest, foreign) in [("entity", "migration"), ("migration", "entity")] {
        let path = format!("{}/{manifest}/Cargo.toml", env!("CARGO_MANIFEST_DIR"));
        let text = std::fs::read_to_string(path).unwrap();
        for name in [foreign, "poem", "followpoints"] {
            assert!(!text.lines().any(|line| line.starts_with(name)), "{manifest} depends on {name}");
        }
    }
}

#[test]
fn the_foundation_knows_no_feature() {
    for (module, may_use) in FOUNDATION {
        let of_module: Vec<_> =
            sources("src").into_iter().filter(|source| source.module() == *module).collect();
        assert!(!of_module.is_empty(), "there is no {module}");
        let uses: BTreeSet<_> = of_module.iter().flat_map(Source::uses).collect();
        assert_eq!(uses, may_use.iter().copied().collect(), "what {module} uses");
        assert_none(&occurrences(&of_module, &["poem"]), "below the features nothing knows HTTP's framework");
    }
}

#[test]
fn rules_and_queries_know_no_http() {
    let rules: Vec<_> = sources("src")
        .into_iter()
        .filter(|source| FEATURES.contains(&source.module()) && !source.is_http())
        .collect();
    assert_none(&occurrences(&rules, &["poem"]), "a feature's rules know no HTTP");
    for source in &rules {
        let above = ["http", "app", "config", "server", "cli"]
            .into_iter()
            .filter(|name| source.uses().contains(name));
        assert_eq!(above.collect::<Vec<_>>(), [""; 0], "{} uses what stands above it", source.path);
    }
}

#[test]
fn features_use_only_those_below_them() {
    let rank = |feature: &str| FEATURES.iter().position(|name| *name == feature);
    let mut upwards = BTreeSet::new();
    for source in sources("src").iter().filter(|source| !source.is_http()) {
        let Some(own) = rank(source.module()) else { continue };
        for used in source.uses() {
            if rank(used).is_some_and(|used| used > own) {
                upwards.insert((source.module().to_owned(), used.to_owned()));
            }
        }
    }
    let known = UPWARDS.iter().map(|(who, whom, _)| ((*who).to_owned(), (*whom).to_owned())).collect();
    assert_eq!(upwards, known);
    for feature in FEATURES {
        assert!(Path::new(env!("CARGO_MANIFEST_DIR")).join("src").join(feature).is_dir(), "{feature}");
    }
}

#[test]
fn every_module_has_its_place() {
    let foundation = FOUNDATION.iter().map(|(module, _)| *module);
    let known: BTreeSet<_> =
        foundation.chain(FEATURES).chain(["app", "cli", "http", "lib", "main", "server"]).collect();
    let sources = sources("src");
    let modules: BTreeSet<_> = sources.iter().map(Source::module).collect();
    assert_eq!(modules, known);
}

#[test]
fn http_files_build_no_queries() {
    let http: Vec<_> = sources("src").into_iter().filter(Source::is_http).collect();
    assert!(http.len() >= 10);
    let words =
        ["sea_query", "Entity::", "QueryFilter", "QuerySelect", "ActiveModel", "_raw(", "Rows::", "SELECT "];
    assert_none(&occurrences(&http, &words), "HTTP files build no queries");
    let edge: Vec<_> = sources("src").into_iter().filter(|source| source.path == "src/http/mod.rs").collect();
    assert_none(&occurrences(&edge, &["sea_orm", "entity::"]), "the edge knows no tables");
}

#[test]
fn http_files_do_not_use_each_other() {
    let mut found = BTreeSet::new();
    for source in sources("src").iter().filter(|source| FEATURES.contains(&source.module())) {
        for feature in FEATURES.iter().filter(|feature| **feature != source.module()) {
            for file in ["api", "token_api", "log_api"] {
                let name = format!("crate::{feature}::{file}");
                if source.has(&format!("{name}::")) {
                    found.insert((source.path.clone(), name));
                }
            }
        }
    }
    let known = SHARED_HTTP.iter().map(|(path, name)| ((*path).to_owned(), (*name).to_owned())).collect();
    assert_eq!(found, known);
}

#[test]
fn time_and_ids_have_one_source() {
    let elsewhere: Vec<_> =
        sources("src").into_iter().filter(|source| !["clock", "ids"].contains(&source.module())).collect();
    let words = ["Utc::now", "SystemTime::now", "Local::now", "Uuid::now_v7", "Uuid::new_v4", "Uuid::new_v7"];
    assert_none(&occurrences(&elsewhere, &words), "time and ids come from the clock and the generator");
    assert_none(&occurrences(&sources("migration"), &["now()", "CURRENT_TIMESTAMP", "uuid("]), "no defaults");
}

#[test]
fn nothing_unfinished_or_careless_occurs() {
    let all: Vec<_> = ["src", "entity", "migration"].into_iter().flat_map(sources).collect();
    let words = [
        ".unwrap()",
        "panic!(",
        "unreachable!(",
        "todo!(",
        "unimplemented!(",
        "dbg!(",
        "#[allow(",
        "#![allow(",
        "unsafe ",
        "thread::sleep",
        "time::sleep",
        "InternalServerError",
        "eprintln!(\"{:?}",
    ];
    assert_none(&occurrences(&all, &words), "production code does not do this");
    let unfinished = ["TODO", "FIXME", "XXX", "HACK"];
    for source in all.iter().chain(&sources("tests/it")).filter(|source| !source.path.ends_with("tidy.rs")) {
        for word in unfinished {
            assert!(!source.text.contains(word), "{}: {word}", source.path);
        }
    }
}

#[test]
fn only_commands_print() {
    let library: Vec<_> =
        sources("src").into_iter().filter(|source| !["cli", "main"].contains(&source.module())).collect();
    assert_none(&occurrences(&library, &["println!(", "print!("]), "the library logs and does not print");
}

#[test]
fn writes_need_a_transaction() {
    let words = [
        "INSERT INTO",
        "UPDATE ",
        "DELETE FROM",
        "Entity::insert",
        "update_many",
        "delete_many",
        "delete_by_id",
        ".exec(",
        "execute(",
        "exec_without_returning",
    ];
    let mut found = BTreeSet::new();
    for source in sources("src").iter().filter(|source| source.module() != "cli") {
        for (name, body) in source.functions() {
            if body.contains("db.read()")
                && words.iter().any(|word| body.contains(word))
                && !body.contains("tx.conn()")
            {
                found.insert(name.to_owned());
            }
        }
    }
    assert!(found.is_empty(), "these write on the reading connection: {found:?}");
}

#[test]
fn every_operation_is_named_after_its_function() {
    let mut named = BTreeSet::new();
    for source in sources("src").iter().filter(|source| source.has("#[OpenApi")) {
        for operation in source.code.split("#[oai(").skip(1).filter(|text| {
            let attribute = text.split(")]").next().unwrap_or(text);
            attribute.contains("path =") && attribute.contains("method =")
        }) {
            let quoted = |name: &str| operation.split(name).nth(1).and_then(|rest| rest.split('"').nth(1));
            let id = quoted("operation_id =").unwrap_or_else(|| panic!("{}: no operation_id", source.path));
            let function =
                operation.split("async fn ").nth(1).and_then(|rest| rest.split('(').next()).unwrap();
            assert_eq!(id, camel_case(function), "{}", source.path);
            assert!(named.insert(id.to_owned()), "{id} occurs twice");
        }
    }
    let paths = openapi::document()["paths"].as_object().unwrap();
    let described = paths.values().filter_map(|path| path.as_object()).flat_map(|path| path.values());
    let described: BTreeSet<_> = described
        .map(|operation| operation["operationId"].as_str().unwrap_or("without").to_owned())
        .collect();
    assert_eq!(described, named);
}

fn camel_case(name: &str) -> String {
    let mut words = name.split('_');
    let first = words.next().unwrap_or("").to_owned();
    words.fold(first, |text, word| text + &word[..1].to_uppercase() + &word[1..])
}

#[test]
fn tests_neither_wait_idly_nor_are_skipped() {
    let tests: Vec<_> =
        sources("tests/it").into_iter().filter(|source| !source.path.ends_with("tidy.rs")).collect();
    let words = ["sleep(", "#[ignore", "#[allow(", "assert!(true"];
    assert_none(&occurrences(&tests, &words), "a test does not do this");
}
