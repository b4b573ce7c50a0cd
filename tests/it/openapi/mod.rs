//! The OpenAPI document: checked in as it is, sound in itself, and true.

mod truth;

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use followpoints::http::openapi::{document, document_text, methods};
use serde_json::{Value, json};

use crate::support::document::{operations, resolve};
use crate::support::world::ALL_EVENTS;

fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

/// Calls `visit` for every object in `value` with the way to it.
fn walk(value: &'static Value, path: &str, visit: &mut impl FnMut(&str, &'static Value)) {
    match value {
        Value::Object(fields) => {
            visit(path, value);
            for (name, field) in fields {
                walk(field, &format!("{path}/{name}"), visit);
            }
        }
        Value::Array(items) => {
            for (index, item) in items.iter().enumerate() {
                walk(item, &format!("{path}/{index}"), visit);
            }
        }
        _ => {}
    }
}

#[test]
fn the_checked_in_document_is_the_current_one() {
    let checked_in = std::fs::read_to_string(root().join("openapi/openapi.json")).unwrap();
    let is_current = checked_in == document_text();
    assert!(is_current, "out of date; run: cargo run -- openapi > openapi/openapi.json");
}

#[test]
fn it_is_openapi_3_1_with_the_programs_version() {
    assert_eq!(document()["openapi"], "3.1.0");
    assert_eq!(document()["info"]["version"], env!("CARGO_PKG_VERSION"));
    assert_eq!(document()["info"]["title"], "Followpoints");
}

#[test]
fn every_path_stands_once_in_the_text() {
    let text = document_text();
    for operation in operations() {
        let count = text.matches(&format!("\n    \"{}\": {{", operation.path)).count();
        assert_eq!(count, 1, "{}", operation.path);
    }
}

#[test]
fn a_path_has_its_own_methods_and_not_those_of_one_with_an_id() {
    let id = "01a1fae0-1eff-77b5-972a-09dcdce0937d";
    assert_eq!(methods("/admin/v1/events/expunge"), ["POST"]);
    assert_eq!(methods(&format!("/admin/v1/events/{id}")), ["GET"]);
    assert_eq!(methods("/admin/v1/events"), ["GET"]);
    assert_eq!(methods("/admin/v1/nothing"), [""; 0]);
}

#[test]
fn every_reference_leads_somewhere() {
    let mut references = 0;
    walk(document(), "", &mut |path, object| {
        if object.get("$ref").is_some() {
            references += 1;
            assert!(resolve(object).is_object(), "{path}");
        }
    });
    assert!(references > 100, "only {references} references were found");
}

#[test]
fn operation_ids_are_unique_words() {
    let ids: Vec<_> = operations().iter().map(|operation| operation.id).collect();
    let unique: BTreeSet<_> = ids.iter().collect();
    assert_eq!(unique.len(), ids.len());
    for id in ids {
        assert!(id.starts_with(|first: char| first.is_ascii_lowercase()), "{id}");
        assert!(id.chars().all(|char| char.is_ascii_alphanumeric()), "{id}");
    }
}

fn sources(dir: &Path, found: &mut Vec<PathBuf>) {
    for entry in std::fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            sources(&path, found);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            found.push(path);
        }
    }
}

fn camel(name: &str) -> String {
    let mut out = String::new();
    for (index, part) in name.split('_').enumerate() {
        let (first, rest) = part.split_at(1);
        out.push_str(&if index == 0 { first.to_owned() } else { first.to_uppercase() });
        out.push_str(rest);
    }
    out
}

#[test]
fn every_operation_id_is_its_handlers_name() {
    let mut files = Vec::new();
    sources(&root().join("src"), &mut files);
    let mut found = BTreeSet::new();
    for file in files {
        let text = std::fs::read_to_string(&file).unwrap();
        for (at, _) in text.match_indices("operation_id = \"") {
            let rest = &text[at + "operation_id = \"".len()..];
            let id = rest.split('"').next().unwrap();
            let handler = rest.split("async fn ").nth(1).unwrap().split(['(', '<']).next().unwrap();
            assert_eq!(id, camel(handler), "{}", file.display());
            found.insert(id.to_owned());
        }
    }
    let documented: BTreeSet<_> = operations().iter().map(|operation| operation.id.to_owned()).collect();
    assert_eq!(found, documented);
}

/// Operations that cannot fail, or say so in their own words.
const WITHOUT_ERRORS: [&str; 3] = ["getHealth", "getReadiness", "getOpenapiDocument"];

#[test]
fn every_operation_tells_its_errors_as_wix_error_bodies() {
    for operation in operations() {
        let responses = &operation.definition["responses"];
        let schema = |status: &str| {
            let content = &resolve(&responses[status])["content"]["application/json"]["schema"]["$ref"];
            content.as_str().unwrap_or_else(|| panic!("{} has no {status}", operation.id)).to_owned()
        };
        let error = "#/components/schemas/Error";
        match operation.id {
            id if WITHOUT_ERRORS.contains(&id) => assert!(!operation.is_secured()),
            "createToken" | "createAccessToken" => {
                for status in ["400", "401", "413", "415", "429", "500", "503"] {
                    assert_eq!(schema(status), "#/components/schemas/OauthError", "{}", operation.id);
                }
            }
            id => {
                let of_callers = operation.is_secured().then_some(["401", "403", "404", "429"]);
                let of_bodies =
                    operation.definition.get("requestBody").is_some().then_some(["408", "413", "415"]);
                let shaped = of_callers.iter().flatten().chain(of_bodies.iter().flatten());
                let expected: BTreeSet<&str> =
                    shaped.copied().chain(["200", "400", "500", "503", "504"]).collect();
                for status in expected.iter().filter(|status| **status != "200") {
                    assert_eq!(schema(status), error, "{id}");
                }
                // What else it lists it must name.
                for (status, response) in responses.as_object().unwrap() {
                    let codes = response["description"].as_str().unwrap_or_default();
                    assert!(expected.contains(status.as_str()) || codes.contains('`'), "{id} {status}");
                }
            }
        }
        for (status, response) in responses.as_object().unwrap() {
            let headers = &resolve(response)["headers"];
            assert!(headers.get("X-Wix-Request-Id").is_some(), "{} {status}", operation.id);
            if ["429", "503"].contains(&status.as_str()) && operation.id != "getReadiness" {
                assert!(headers.get("Retry-After").is_some(), "{} {status}", operation.id);
            }
        }
    }
}

#[test]
fn every_operation_is_described_and_its_caller_named() {
    for operation in operations() {
        let id = operation.id;
        assert!(operation.definition["summary"].as_str().is_some_and(|text| text.len() > 4), "{id}");
        assert_eq!(operation.definition["tags"].as_array().unwrap().len(), 1, "{id}");
        let names: Vec<_> = operation.definition["parameters"]
            .as_array()
            .into_iter()
            .flatten()
            .map(|it| &it["name"])
            .collect();
        let takes_id = names.contains(&&json!("id"));
        assert_eq!(takes_id, operation.path.contains("{id}"), "{id}");
        assert_eq!(names.contains(&&json!("wix-site-id")), operation.is_secured(), "{id}");
        let unique: BTreeSet<_> = names.iter().map(ToString::to_string).collect();
        assert_eq!(unique.len(), names.len(), "{id}");
    }
    let schemes = document()["components"]["securitySchemes"].as_object().unwrap();
    for (name, scheme) in schemes {
        let header = if name == "tiktokSignature" { "TikTok-Signature" } else { "Authorization" };
        assert_eq!(
            (&scheme["type"], &scheme["in"], &scheme["name"]),
            (&json!("apiKey"), &json!("header"), &json!(header)),
            "{name}"
        );
    }
}

#[test]
fn every_event_is_a_webhook() {
    let webhooks = document()["webhooks"].as_object().unwrap();
    let mut expected = ALL_EVENTS.to_vec();
    expected.extend([
        "followpoints.social.v1.activity_recorded",
        "followpoints.webhooks.v1.subscription_disabled",
        "followpoints.webhooks.v1.subscription_failing",
        "followpoints.webhooks.v1.subscription_recovered",
        "followpoints.webhooks.v1.test",
    ]);
    expected.sort_unstable();
    assert_eq!(webhooks.keys().map(String::as_str).collect::<Vec<_>>(), expected);
    for (name, webhook) in webhooks {
        let content = &webhook["post"]["requestBody"]["content"]["text/plain"]["schema"];
        assert_eq!(content["contentSchema"], json!({"$ref": "#/components/schemas/WebhookClaims"}), "{name}");
        assert!(webhook["post"]["operationId"].as_str().unwrap().starts_with("on"), "{name}");
        let headers = webhook["post"]["parameters"].as_array().unwrap();
        let names: Vec<_> = headers.iter().map(|header| header["name"].as_str().unwrap()).collect();
        assert_eq!(names, ["webhook-id", "webhook-timestamp", "webhook-signature"], "{name}");
    }
}

#[test]
fn no_webhook_shares_its_tag_with_an_operation() {
    let tags = |definition: &'static Value| definition["tags"].as_array().unwrap().iter();
    let of_operations: BTreeSet<_> =
        operations().iter().flat_map(|operation| tags(operation.definition)).map(Value::to_string).collect();
    let webhooks = document()["webhooks"].as_object().unwrap();
    let of_webhooks: BTreeSet<_> =
        webhooks.values().flat_map(|webhook| tags(&webhook["post"])).map(Value::to_string).collect();
    assert_eq!(of_webhooks, BTreeSet::from([json!("Webhook events").to_string()]));
    assert!(of_operations.is_disjoint(&of_webhooks));
    let described: BTreeSet<_> = document()["tags"]
        .as_array()
        .unwrap()
        .iter()
        .filter(|tag| tag["description"].as_str().is_some_and(|text| !text.is_empty()))
        .map(|tag| tag["name"].to_string())
        .collect();
    assert_eq!(described, of_operations.union(&of_webhooks).cloned().collect());
}

/// In Go, `NewX` is what makes an `X`.
#[test]
fn no_schema_has_the_name_of_anothers_constructor() {
    let schemas = document()["components"]["schemas"].as_object().unwrap();
    for name in schemas.keys() {
        for constructor in [format!("New{name}"), format!("New{name}WithDefaults")] {
            assert!(!schemas.contains_key(&constructor), "{constructor} stands beside {name}");
        }
    }
}

#[test]
fn nothing_of_openapi_3_0_is_left() {
    walk(document(), "", &mut |path, object| {
        assert!(object.get("nullable").is_none(), "{path}");
        assert!(!object.get("exclusiveMinimum").is_some_and(Value::is_boolean), "{path}");
        assert!(object.keys_of_media().all(|name| !name.contains("charset")), "{path}");
    });
}

trait MediaKeys {
    fn keys_of_media(&self) -> impl Iterator<Item = &str>;
}

impl MediaKeys for Value {
    /// Names that look like media types.
    fn keys_of_media(&self) -> impl Iterator<Item = &str> {
        let keys = self.as_object().into_iter().flat_map(|fields| fields.keys());
        keys.map(String::as_str).filter(|name| name.starts_with("application/") || name.starts_with("text/"))
    }
}
