//! What the documents say of the code is so: limits stand where they are said to stand, and every code of an error is explained.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

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
