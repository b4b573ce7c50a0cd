//! The document is true: its examples and our samples follow its schemas, and so does every answer of the service.

use std::collections::BTreeMap;

use followpoints::http::openapi::document;
use serde_json::{Value, json};

use super::walk;
use crate::on_both;
use crate::support::ADMIN_KEY;
use crate::support::callers::UNKNOWN_ID;
use crate::support::document::{operations, resolve};

/// What of `value` does not follow `schema`.
fn faults(schema: &'static Value, value: &Value) -> Vec<String> {
    let mut found = Vec::new();
    check(schema, value, "$", &mut found);
    found
}

fn check(schema: &'static Value, value: &Value, path: &str, found: &mut Vec<String>) {
    if schema.get("$ref").is_some() {
        check(resolve(schema), value, path, found);
    }
    for part in list(&schema["allOf"]) {
        check(part, value, path, found);
    }
    let choices = list(&schema["anyOf"]);
    if !choices.is_empty() && choices.iter().all(|choice| !faults(choice, value).is_empty()) {
        found.push(format!("{path} fits no choice"));
    }
    let types: Vec<&str> = match &schema["type"] {
        Value::String(one) => vec![one],
        Value::Array(many) => many.iter().filter_map(Value::as_str).collect(),
        _ => Vec::new(),
    };
    if !types.is_empty() && !types.iter().any(|ty| is_of(ty, value)) {
        found.push(format!("{path} is {value}, not {types:?}"));
        return;
    }
    let allowed = list(&schema["enum"]);
    if !allowed.is_empty() && !allowed.contains(value) {
        found.push(format!("{path} is {value}, which is not listed"));
    }
    check_format(schema, value, path, found);
    for (index, item) in value.as_array().into_iter().flatten().enumerate() {
        check(&schema["items"], item, &format!("{path}[{index}]"), found);
    }
    let Some(fields) = value.as_object() else { return };
    for name in list(&schema["required"]).iter().filter_map(Value::as_str) {
        if !fields.contains_key(name) {
            found.push(format!("{path}.{name} is missing"));
        }
    }
    let Some(properties) = schema["properties"].as_object() else { return };
    for (name, field) in fields {
        match properties.get(name) {
            Some(schema) => check(schema, field, &format!("{path}.{name}"), found),
            None => found.push(format!("{path}.{name} is not in the document")),
        }
    }
}

fn check_format(schema: &Value, value: &Value, path: &str, found: &mut Vec<String>) {
    let Some(text) = value.as_str() else { return };
    let is_good = match schema["format"].as_str() {
        Some("uuid") => uuid::Uuid::try_parse(text).is_ok(),
        Some("date-time") => chrono::DateTime::parse_from_rfc3339(text).is_ok(),
        _ => true,
    };
    if !is_good {
        found.push(format!("{path} is {text:?}, not {}", schema["format"]));
    }
}

fn list(value: &'static Value) -> &'static [Value] {
    value.as_array().map(Vec::as_slice).unwrap_or_default()
}

fn is_of(ty: &str, value: &Value) -> bool {
    match ty {
        "string" => value.is_string(),
        "integer" => value.is_i64() || value.is_u64(),
        "number" => value.is_number(),
        "boolean" => value.is_boolean(),
        "array" => value.is_array(),
        "object" => value.is_object(),
        "null" => value.is_null(),
        other => panic!("{other} is no type of JSON"),
    }
}

#[test]
fn the_check_finds_what_is_wrong() {
    let schema = &document()["components"]["schemas"]["FollowedChannel"];
    let at = "2024-08-01T11:51:41.431Z";
    let good = json!({"id": UNKNOWN_ID, "accountId": UNKNOWN_ID, "channel": "X", "createdDate": at});
    assert_eq!(faults(schema, &good), Vec::<String>::new());
    let wrong = json!({"id": "u-1", "channel": "MYSPACE", "createdDate": 7, "more": null});
    assert_eq!(faults(schema, &wrong).len(), 5, "{:?}", faults(schema, &wrong));
}

#[test]
fn every_example_follows_its_schema() {
    let mut examples = BTreeMap::new();
    walk(document(), "", &mut |path, object| {
        if let Some(example) = object.get("example") {
            // Beside the schema where something is sent, within it otherwise.
            examples.insert(path.to_owned(), faults(object.get("schema").unwrap_or(object), example));
        }
        for example in object.get("examples").map(list).unwrap_or_default() {
            examples.insert(path.to_owned(), faults(object, example));
        }
    });
    assert!(!examples.is_empty(), "the document has no examples");
    examples.retain(|_, faults| !faults.is_empty());
    assert_eq!(examples, BTreeMap::new());
}

#[test]
fn every_request_answer_and_error_has_an_example() {
    let mut without = Vec::new();
    let mut look = |what: String, content: &'static Value| {
        if content.get("application/json").is_some_and(|media| media.get("example").is_none()) {
            without.push(what);
        }
    };
    for operation in operations() {
        look(format!("the request of {}", operation.id), &operation.definition["requestBody"]["content"]);
        for (status, answer) in operation.definition["responses"].as_object().unwrap() {
            look(format!("{status} of {}", operation.id), &resolve(answer)["content"]);
        }
    }
    // Its own example would be the document, and a service that is not ready says so in many ways.
    without.retain(|what| !["200 of getOpenapiDocument", "503 of getReadiness"].contains(&what.as_str()));
    assert_eq!(without, Vec::<String>::new());
}

/// Where the examples of the document are kept; the next test writes them if `FOLLOWPOINTS_TEST_WRITE_EXAMPLES` is set.
const EXAMPLES: &str = "openapi/examples.json";

fn write_examples(operations: &Value) {
    let path = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join(EXAMPLES);
    let mut examples: Value = serde_json::from_str(&std::fs::read_to_string(&path).unwrap()).unwrap();
    examples["operations"] = operations.clone();
    std::fs::write(path, format!("{}\n", serde_json::to_string_pretty(&examples).unwrap())).unwrap();
}

/// `value` as an example: short, without secrets, and of nobody's machine.
fn shown(value: &Value) -> Value {
    match value {
        Value::Object(fields) => {
            let field = |name: &str, value: &Value| match name {
                "hmacSecret" => json!("a secret of 32 characters and more"),
                _ => shown(value),
            };
            fields.iter().map(|(name, value)| (name.clone(), field(name, value))).collect()
        }
        Value::Array(items) => items.iter().take(2).map(shown).collect(),
        Value::String(text) => Value::String(shown_text(text)),
        other => other.clone(),
    }
}

fn shown_text(text: &str) -> String {
    if let Some(head) =
        ["fpk_", "fps_", "fpr_", "fpc_", "whsec_", "whpk_"].iter().find(|head| text.starts_with(**head))
    {
        return format!("{head}EXAMPLE");
    }
    if text.starts_with("eyJ") {
        return "eyJhbGciOiJFZERTQSJ9.EXAMPLE.EXAMPLE".to_owned();
    }
    let text = elsewhere(text);
    if text.starts_with("-----BEGIN") || text.chars().count() > 200 {
        let head: String = text.chars().take(60).collect();
        return format!("{}…", head.lines().next().unwrap_or_default());
    }
    text
}

/// `text` with the servers of the test at a place with a name.
fn elsewhere(text: &str) -> String {
    let mut parts = text.split("127.0.0.1");
    let mut named = parts.next().unwrap_or_default().to_owned();
    for part in parts {
        let is_digit = |char: char| char.is_ascii_digit();
        named.push_str("crm.example");
        named.push_str(part.strip_prefix(':').map_or(part, |port| port.trim_start_matches(is_digit)));
    }
    named.replace("http://crm", "https://crm")
}

fn body_schema(definition: &'static Value) -> &'static Value {
    &definition["requestBody"]["content"]["application/json"]["schema"]
}

on_both! {
    options: crate::support::platforms_stood_in().await,
    async fn every_request_and_every_answer_follows_the_document(app: &TestApp) {
        app.show_a_new_post_on_tiktok();
        let all = app.everything().await;
        let late = app.member(&all.site, "late").await;
        let mut order = operations();
        // What deletes comes last, and what hangs on something else before it.
        order.sort_by_key(|operation| operation.method == "DELETE");
        let deletes = order.iter().position(|operation| operation.method == "DELETE").unwrap();
        order[deletes..].reverse();
        let mut wrong = Vec::new();
        let mut examples = json!({});
        for operation in order {
            app.call("POST", "/loyalty-programs/v1/program/activate").key(ADMIN_KEY, &all.site.id).ok().await;
            let mut sample = all.sample(operation.id);
            if operation.id == "deleteAppInstance" {
                for row in
                    app.admin_list(&all.site, "/admin/v1/webhook-subscriptions", "webhookSubscriptions").await
                {
                    let path = format!("/admin/v1/webhook-subscriptions/{}", row["id"].as_str().unwrap());
                    app.call("DELETE", &path).key(ADMIN_KEY, &all.site.id).ok().await;
                }
            }
            if operation.id == "createAccount" {
                sample.body = Some(json!({"contactId": late.contact_id}));
            }
            let auth = if operation.is_members_own() { &all.member.token } else { ADMIN_KEY };
            let mut call =
                app.call(operation.method, &operation.uri(&sample.id, &sample.query)).key(auth, &all.site.id);
            if let Some(body) = &sample.body {
                // Token requests are documented in snake_case and may be sent in camelCase.
                if operation.path.starts_with("/oauth2/token-info") || !operation.path.starts_with("/oauth") {
                    wrong.extend(
                        faults(body_schema(operation.definition), body)
                            .into_iter()
                            .map(|fault| format!("{} sends {fault}", operation.id)),
                    );
                }
                call = call.json(body);
            }
            let answer = call.send().await;
            assert_eq!(answer.status.as_u16(), 200, "{}: {}", operation.id, answer.text);
            let example = &mut examples[operation.path][operation.method.to_lowercase()];
            if matches!(operation.path, "/oauth2/token" | "/oauth/access") {
                // Of the grants, that which names nothing that a reader would take for given.
                let refresh = json!({"grant_type": "refresh_token", "refresh_token": answer.json()["refresh_token"]});
                *example = json!({"request": shown(&refresh), "answer": shown(&app.token(&refresh).await.json())});
                continue;
            }
            if let Some(body) = &sample.body {
                example["request"] = shown(body);
            }
            if operation.id != "getOpenapiDocument" && answer.headers["content-type"].to_str().unwrap().contains("json") {
                example["answer"] = shown(&answer.json());
            }
            let content = operation.definition["responses"]["200"]["content"].as_object().unwrap();
            assert_eq!(content.len(), 1, "{}", operation.id);
            let (kind, media) = content.iter().next().unwrap();
            let sent = answer.headers["content-type"].to_str().unwrap();
            assert_eq!(sent.split(';').next().unwrap(), kind, "{}", operation.id);
            if kind == "application/json" {
                wrong.extend(
                    faults(&media["schema"], &answer.json())
                        .into_iter()
                        .map(|fault| format!("{} answers {fault}", operation.id)),
                );
            }
        }
        assert_eq!(wrong, Vec::<String>::new());
        if std::env::var_os("FOLLOWPOINTS_TEST_WRITE_EXAMPLES").is_some() {
            write_examples(&examples);
        }
    }
}

on_both! {
    async fn every_kind_of_error_follows_the_document(app: &TestApp) {
        let all = app.everything().await;
        let schema = &document()["components"]["schemas"]["Error"];
        let followed = "/loyalty-social-media/v1/followed-channels";
        for (status, answer) in [
            (400, app.call("GET", "/admin/v1/members?limit=0").auth(&all.admin.secret).send().await),
            (401, app.call("GET", "/admin/v1/members").auth("x").send().await),
            (403, app.call("GET", "/admin/v1/members").auth(&all.reader.secret).send().await),
            (
                404,
                app.call("GET", &format!("/admin/v1/members/{UNKNOWN_ID}"))
                    .auth(&all.admin.secret)
                    .send()
                    .await,
            ),
            (405, app.call("PUT", followed).send().await),
            (
                409,
                app.call("POST", followed)
                    .auth(&all.member.token)
                    .json(&json!({"followedChannel": {"channel": "X"}}))
                    .send()
                    .await,
            ),
            (415, app.call("POST", followed).auth(&all.member.token).text("text/plain", "{}").send().await),
            (
                428,
                app.call("POST", followed)
                    .auth(&all.member.token)
                    .json(&json!({"followedChannel": {"channel": "TIKTOK"}}))
                    .send()
                    .await,
            ),
        ] {
            assert_eq!(answer.status.as_u16(), status, "{}", answer.text);
            assert_eq!(faults(schema, &answer.json()), Vec::<String>::new(), "{status}");
        }
    }
}
