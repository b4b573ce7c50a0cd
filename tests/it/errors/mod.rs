//! Whatever is wrong with a request, the answer is a Wix error body with a request id.

mod bodies;
mod mutations;
mod parameters;

use serde_json::{Value, json};

use crate::support::client::Answer;

const FOLLOWED: &str = "/loyalty-social-media/v1/followed-channels";

/// The body of an application error.
fn application(code: &str, description: &str) -> Value {
    json!({"message": description, "details": {"applicationError": {
        "code": code, "description": description, "data": {},
    }}})
}

/// The body of a validation error of one field.
fn violation(field: &str, rule: &str, description: &str, data: &Value) -> Value {
    json!({"message": format!("{field} {description}"), "details": {"validationError": {"fieldViolations": [{
        "field": field, "description": description, "violatedRule": rule, "data": data,
    }]}}})
}

/// Status and body, after a look at what every answer has.
fn checked(answer: &Answer) -> (u16, Value) {
    let id = answer.headers["x-wix-request-id"].to_str().unwrap();
    assert!(uuid::Uuid::try_parse(id).is_ok(), "{id}");
    let kind = answer.headers["content-type"].to_str().unwrap();
    assert_eq!(kind.split(';').next(), Some("application/json"), "{}", answer.text);
    (answer.status.as_u16(), answer.json())
}
