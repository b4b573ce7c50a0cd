//! The operations as the OpenAPI document lists them.

use followpoints::http::openapi;
use serde_json::Value;

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
