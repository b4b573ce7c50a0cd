//! The operations as the OpenAPI document lists them.

use std::sync::LazyLock;

use followpoints::http::openapi;
use serde_json::Value;

use super::client::Answer;

/// One operation.
#[derive(Debug, Clone, Copy)]
pub struct Operation {
    /// `GET`, `POST` …
    pub method: &'static str,
    /// With `{id}` where an id belongs.
    pub path: &'static str,
    pub id: &'static str,
    pub definition: &'static Value,
}

/// Every operation of the document, in its order.
pub fn operations() -> Vec<Operation> {
    let paths = openapi::document()["paths"].as_object().unwrap();
    let operations = paths.iter().flat_map(|(path, methods)| {
        methods.as_object().unwrap().iter().map(move |(method, definition)| Operation {
            method: upper(method),
            path,
            id: definition["operationId"].as_str().unwrap(),
            definition,
        })
    });
    operations.collect()
}

fn upper(method: &str) -> &'static str {
    match method {
        "get" => "GET",
        "post" => "POST",
        "patch" => "PATCH",
        "put" => "PUT",
        "delete" => "DELETE",
        other => panic!("{other} is not a method of ours"),
    }
}

impl Operation {
    /// The path with its query, about `id`.
    pub fn uri(&self, id: &str, query: &str) -> String {
        format!("{}{query}", self.path.replace("{id}", id))
    }

    /// Whether it is a member's own, and nobody else's.
    pub fn is_members_own(&self) -> bool {
        self.path.starts_with("/me/") || self.id == "getCurrentMemberAccount"
    }

    /// Whether it needs credentials.
    pub fn is_secured(&self) -> bool {
        self.definition.get("security").is_some()
    }
}

/// Fails unless the document says that the operation behind `method` and `path`, if there is one, may answer so.
pub fn expect_documented(method: &str, path: &str, answer: &Answer) {
    static OPERATIONS: LazyLock<Vec<Operation>> = LazyLock::new(operations);
    let path = path.split('?').next().unwrap_or_default();
    let mounted = path.strip_prefix("/_api").filter(|path| path.starts_with("/loyalty-"));
    let path = mounted.unwrap_or(path);
    let is_at = |operation: &&Operation| {
        operation.method == method
            && operation.path.split('/').count() == path.split('/').count()
            && operation
                .path
                .split('/')
                .zip(path.split('/'))
                .all(|(part, of)| part == of || (part == "{id}" && !of.is_empty()))
    };
    // A path without `{id}` goes before one with it.
    let Some(operation) =
        OPERATIONS.iter().filter(is_at).min_by_key(|operation| operation.path.contains("{id}"))
    else {
        return;
    };
    let status = answer.status.as_str();
    let said = &operation.definition["responses"][status];
    assert!(
        !said.is_null(),
        "{} answers {status}, which is not in the document: {}",
        operation.id,
        answer.text
    );
    let Ok(body) = serde_json::from_str::<Value>(&answer.text) else { return };
    if let Some(code) = body["details"]["applicationError"]["code"].as_str()
        && ["404", "409", "428"].contains(&status)
    {
        let codes = said["description"].as_str().unwrap_or_default();
        assert!(
            codes.split('`').any(|known| known == code),
            "{} answers {code}, which is not in the document",
            operation.id
        );
    }
}

/// `value`, or what it refers to if it is a reference into the document.
pub fn resolve(value: &'static Value) -> &'static Value {
    match value.get("$ref").and_then(Value::as_str) {
        None => value,
        Some(reference) => {
            let pointer = reference.strip_prefix('#').unwrap_or_else(|| panic!("{reference} leads outside"));
            let found = openapi::document().pointer(pointer);
            resolve(found.unwrap_or_else(|| panic!("{reference} leads nowhere")))
        }
    }
}
