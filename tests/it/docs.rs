//! What the documents say of the code is so: limits stand where they are said to stand, every code of an error is explained, and what they
//! send fits the operations.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use serde_json::Value;

use crate::support::document::{operations, resolve};

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn read(path: impl AsRef<Path>) -> String {
    let path = root().join(path);
    fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

fn is_rust(path: &Path) -> bool {
    path.extension().is_some_and(|extension| extension == "rs")
}

fn sources(folder: &Path, found: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            sources(&path, found);
        } else if is_rust(&path) {
            found.push(path);
        }
    }
}

/// What stands in backticks in `line`.
fn quoted(line: &str) -> impl Iterator<Item = &str> {
    line.split('`').skip(1).step_by(2)
}

fn is_name(text: &str) -> bool {
    text.len() > 3
        && text.contains('_')
        && text.chars().all(|char| char.is_ascii_uppercase() || char == '_' || char.is_ascii_digit())
}

#[test]
fn limits_stand_where_the_architecture_says() {
    let architecture = read("docs/architecture.md");
    let mut checked = 0;
    for line in architecture.lines().filter(|line| line.starts_with('|')) {
        let files: Vec<&str> = quoted(line)
            .filter(|text| text.starts_with("src/") && is_rust(Path::new(text)) && !text.contains('<'))
            .collect();
        if files.is_empty() {
            continue;
        }
        let code: String = files.iter().map(read).collect();
        for name in quoted(line).filter(|text| is_name(text) && !text.starts_with("FOLLOWPOINTS_")) {
            assert!(code.contains(&format!("const {name}:")), "{name} is not in {files:?}");
            checked += 1;
        }
    }
    assert!(checked > 100, "{checked} limits were found");
}

#[test]
fn every_code_of_an_error_is_in_the_readme() {
    let readme = read("README.md");
    let explained: BTreeSet<&str> = readme.lines().flat_map(quoted).collect();
    let mut files = Vec::new();
    sources(&root().join("src"), &mut files);
    let mut missing = BTreeSet::new();
    let mut checked = 0;
    for file in files {
        let code = read(&file);
        for call in ["not_found(", "conflict(", "precondition("] {
            for rest in code.split(call).skip(1) {
                let Some(name) = rest.trim_start().strip_prefix('"').and_then(|rest| rest.split('"').next())
                else {
                    continue;
                };
                checked += 1;
                if !explained.contains(name) {
                    missing.insert(name.to_owned());
                }
            }
        }
    }
    assert!(checked > 40, "{checked} codes were found");
    assert_eq!(missing, BTreeSet::new());
}

/// A word as a shell reads it from the beginning of `text`, with variables as they stand; of `BODY` its value in `page`.
fn shell_word(text: &str, page: &str) -> String {
    let (mut word, mut rest) = (String::new(), text);
    while let Some(first) = rest.chars().next().filter(|char| !char.is_whitespace()) {
        match first {
            '\'' | '"' => {
                let (quoted, after) = rest[1..].split_once(first).expect("a quote ends");
                word.push_str(quoted);
                rest = after;
            }
            _ => {
                let end =
                    rest.find(|c: char| c.is_whitespace() || c == '\'' || c == '"').unwrap_or(rest.len());
                word.push_str(&rest[..end]);
                rest = &rest[end..];
            }
        }
    }
    if word == "$BODY" {
        return page.split("BODY='").nth(1).and_then(|text| text.split('\'').next()).unwrap().to_owned();
    }
    word
}

/// What of `value` does not fit `schema`: fields that there are not or that are missing, other types, words that are not in a list.
fn misfits(schema: &'static Value, value: &Value, at: &str, found: &mut Vec<String>) {
    let schema = resolve(schema);
    if let Some(any) = schema["anyOf"].as_array() {
        return misfits(&any[0], value, at, found);
    }
    if schema["enum"].as_array().is_some_and(|words| !words.contains(value)) {
        found.push(format!("{at} is {value}"));
    }
    match value {
        Value::Object(fields) => {
            let Some(properties) = schema["properties"].as_object() else { return };
            for (name, value) in fields {
                let at = format!("{at}.{name}");
                match properties.get(name) {
                    Some(schema) => misfits(schema, value, &at, found),
                    None => found.push(format!("{at} is not known")),
                }
            }
            let required = schema["required"].as_array().into_iter().flatten().filter_map(Value::as_str);
            found.extend(
                required
                    .filter(|name| !fields.contains_key(*name))
                    .map(|name| format!("{at}.{name} is missing")),
            );
        }
        Value::Array(items) => {
            for item in items.iter().filter(|_| schema["items"].is_object()) {
                misfits(&schema["items"], item, &format!("{at}[]"), found);
            }
        }
        Value::String(_) if !schema["type"].is_null() && !schema["type"].to_string().contains("string") => {
            found.push(format!("{at} is a text"));
        }
        _ => {}
    }
}

#[test]
fn what_the_documents_send_fits_the_operations() {
    let (mut found, mut checked) = (Vec::new(), 0);
    for page in ["README.md", "docs/sources.md", "docs/streams.md"] {
        let text = read(page).replace("\\\n", " ");
        for call in text.split("curl -s").skip(1) {
            let call = call.split("\ncurl ").next().unwrap().split("\n```").next().unwrap();
            let address = ["$FP/", "$FOLLOWPOINTS/"].iter().find_map(|host| call.split_once(host));
            let (Some((_, path)), Some((_, body))) = (address, call.split_once(" -d ")) else { continue };
            let path = path.split([' ', '"']).next().unwrap();
            let body = shell_word(body.trim_start(), &text);
            let method = if call.contains("-X PATCH") { "PATCH" } else { "POST" };
            let operation = operations()
                .into_iter()
                .find(|of| of.method == method && of.path.trim_start_matches('/') == path);
            let operation = operation.unwrap_or_else(|| panic!("{page}: there is no {method} {path}"));
            let body: Value =
                serde_json::from_str(&body).unwrap_or_else(|error| panic!("{page}: {error}: {body}"));
            let schema = &operation.definition["requestBody"]["content"]["application/json"]["schema"];
            misfits(schema, &body, &format!("{page}: {path}"), &mut found);
            checked += 1;
        }
    }
    assert!(checked >= 16, "{checked} calls were found");
    assert_eq!(found, [""; 0]);
}
