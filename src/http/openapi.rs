//! The OpenAPI 3.1 document: what the framework derives from the code, with what it cannot say put right. It is served,
//! printed by `followpoints openapi` and checked in as `openapi/openapi.json`.

use std::collections::HashMap;
use std::marker::PhantomData;
use std::sync::LazyLock;

use poem::endpoint::BoxEndpoint;
use poem::http::Method;
use poem_openapi::registry::{MetaApi, Registry};
use poem_openapi::{LicenseObject, OpenApi, OpenApiService};
use serde_json::{Map, Value, json};

use super::Apis;
use super::auth::SITE_HEADER;
use super::paging::LIMIT_MAX;
use super::refusals;
use crate::follows::api::IDEMPOTENCY_KEY_MAX;
use crate::webhooks::trial::TEST_EVENT;
use crate::webhooks::{EventType, standard};

const DESCRIPTION: &str = "Rewards a site's members for following its social channels. The loyalty paths speak the Wix \
    Loyalty wire format and are mounted a second time under `/_api`, so that the Wix SDK works unchanged. Success is always \
    200 with a JSON body; errors are Wix error bodies; every answer has `X-Wix-Request-Id`.";

/// The tag of what receivers take. Generators make a class of each tag: with one of the operations' tags, the receivers' would be
/// written over the operations'.
const WEBHOOK_EVENTS: &str = "Webhook events";

/// The operations without the running service behind them.
pub(super) struct Described<T>(PhantomData<T>);

impl<T: OpenApi> OpenApi for Described<T> {
    fn meta() -> Vec<MetaApi> {
        T::meta()
    }

    fn register(registry: &mut Registry) {
        T::register(registry);
    }

    fn add_routes(self, _: &mut HashMap<String, HashMap<Method, BoxEndpoint<'static>>>) {}
}

pub(super) fn described() -> OpenApiService<Described<Apis>, ()> {
    OpenApiService::new(Described(PhantomData), "Followpoints", env!("CARGO_PKG_VERSION"))
        .description(DESCRIPTION)
        .license(LicenseObject::new("MIT OR Apache-2.0").identifier("MIT OR Apache-2.0"))
        .server("/")
}

/// The document.
pub fn document() -> &'static Value {
    static DOCUMENT: LazyLock<Value> = LazyLock::new(|| {
        let mut document: Value = serde_json::from_str(&described().spec()).unwrap_or_default();
        correct(&mut document);
        document["openapi"] = json!("3.1.0");
        if let Some(paths) = document["paths"].as_object_mut() {
            let mut shared = Map::new();
            for operation in paths.values_mut().filter_map(Value::as_object_mut).flat_map(Map::values_mut) {
                correct_operation(operation);
                share_errors(operation, &mut shared);
            }
            document["components"]["responses"] = Value::Object(shared);
            add_examples(&mut document);
        }
        for (name, description) in CREDENTIALS {
            document["components"]["securitySchemes"][name]["description"] = json!(description);
        }
        document["webhooks"] = webhooks();
        if let Some(tags) = document["tags"].as_array_mut() {
            tags.push(json!({"name": WEBHOOK_EVENTS, "description": "What receivers are sent."}));
        }
        let schemas = &mut document["components"]["schemas"];
        schemas["WebhookClaims"] = claims_schema();
        allow_null(&mut schemas["WebhookSubscriptionUpdate"]["properties"]["clientCertificate"]);
        for handle in ["instagramHandle", "tiktokHandle"] {
            schemas["ProfileUpdate"]["properties"][handle]["anyOf"] =
                json!([{"type": "string"}, {"$ref": "#/components/schemas/ClaimedHandle"}, {"type": "null"}]);
        }
        for (schema, fields) in NULL_TAKES_AWAY {
            for field in fields {
                allow_null(&mut schemas[schema]["properties"][field]);
            }
        }
        document
    });
    &DOCUMENT
}

/// What the document says that the parameter `name` of `operation` is.
#[must_use]
pub fn parameter_schema(operation: &str, name: &str) -> Option<&'static Value> {
    let document = document();
    let mut operations = document["paths"].as_object()?.values().filter_map(Value::as_object);
    let operation =
        operations.find_map(|of_path| of_path.values().find(|found| found["operationId"] == operation))?;
    let parameter = operation["parameters"].as_array()?.iter().find(|parameter| parameter["name"] == name)?;
    let schema = &parameter["schema"];
    match schema["$ref"].as_str() {
        Some(reference) => document.pointer(reference.strip_prefix('#')?),
        None => Some(schema),
    }
}

/// The methods that `path` has, as `Allow` lists them.
#[must_use]
pub fn methods(path: &str) -> Vec<String> {
    let is_at = |template: &str| {
        template.split('/').count() == path.split('/').count()
            && template.split('/').zip(path.split('/')).all(|(part, of)| part.starts_with('{') || part == of)
    };
    let paths = &document()["paths"];
    // A path of its own goes before one with an id, as it does in the router.
    let own = paths.get(path).and_then(Value::as_object);
    let templates = paths.as_object().filter(|_| own.is_none()).into_iter().flatten();
    let of_templates =
        templates.filter(|(template, _)| is_at(template)).filter_map(|(_, of_path)| of_path.as_object());
    let methods = own.into_iter().chain(of_templates).flat_map(Map::keys);
    let mut methods: Vec<String> = methods.map(|method| method.to_uppercase()).collect();
    methods.sort_unstable();
    methods.dedup();
    methods
}

/// The document as text, as it is checked in.
#[must_use]
pub fn document_text() -> String {
    let mut text = serde_json::to_string_pretty(document()).unwrap_or_default();
    text.push('\n');
    text
}

/// What callers prove themselves with. Handlers take several kinds of caller by the same credentials, of which the framework would
/// describe the first.
const CREDENTIALS: [(&str, &str); 2] = [
    (
        "token",
        "A visitor's, member's or app's access token, or an API key together with `wix-site-id`. Sent raw, as the Wix SDK \
         does, or behind `Bearer`.",
    ),
    ("apiKey", "An API key; for what belongs to a site together with `wix-site-id`."),
];

/// Fields of updates in which `null` takes away what there is.
const NULL_TAKES_AWAY: [(&str, &[&str]); 6] = [
    ("MemberUpdate", &["email", "name"]),
    ("OauthClientUpdate", &["allowedOrigins"]),
    ("SocialMediaChannelUpdate", &["id", "url", "points"]),
    ("ActivityRuleUpdate", &["platform", "mentionType", "limits", "requires", "startsAt", "endsAt"]),
    ("ActivityRuleLimitsUpdate", &["perMember", "total"]),
    ("ActivityRuleRequiresUpdate", &["verifiedHandle", "followersMin", "captionContains"]),
];

/// Says that a field may also be `null`, which the framework leaves out.
fn allow_null(field: &mut Value) {
    let Some(fields) = field.as_object_mut() else { return };
    if let Some(reference) = fields.remove("$ref") {
        fields.insert("anyOf".to_owned(), json!([{"$ref": reference}, {"type": "null"}]));
    } else if let Some(ty) = fields.get_mut("type") {
        *ty = json!([ty.take(), "null"]);
    }
}

/// Puts right what the framework's 3.0 spelling gets wrong in 3.1, everywhere in the document.
fn correct(value: &mut Value) {
    match value {
        Value::Array(items) => items.iter_mut().for_each(correct),
        Value::Object(fields) => {
            if let Some(json) = fields.remove("application/json; charset=utf-8") {
                fields.insert("application/json".to_owned(), json);
            }
            if let Some(text) = fields.remove("text/plain; charset=utf-8") {
                fields.insert("text/plain".to_owned(), text);
            }
            if fields.remove("nullable") == Some(Value::Bool(true))
                && let Some(ty) = fields.get_mut("type")
            {
                *ty = json!([ty.take(), "null"]);
            }
            if let Some(reference) = described_reference(fields) {
                fields.remove("allOf");
                fields.insert("$ref".to_owned(), reference);
            }
            if fields.get("type").is_some_and(|ty| ty == "string") && fields.get("minLength").is_some() {
                // Blank is as good as empty (`body.rs`).
                fields.insert("pattern".to_owned(), json!(r"\S"));
            }
            for name in ["minimum", "maximum"] {
                // Written as `100.0`, which generators take for a limit of a floating-point number.
                #[expect(clippy::cast_possible_truncation, reason = "our limits are whole numbers")]
                if let Some(limit) = fields.get(name).and_then(Value::as_f64) {
                    fields.insert(name.to_owned(), json!(limit as i64));
                }
            }
            if let Some(properties) = fields.get_mut("properties").and_then(Value::as_object_mut) {
                for (name, schema) in properties.iter_mut() {
                    if (name.ends_with("Date") || matches!(name.as_str(), "notAfter" | "startsAt" | "endsAt"))
                        && schema["type"] == "string"
                    {
                        schema["format"] = json!("date-time");
                    }
                }
            }
            fields.values_mut().for_each(correct);
        }
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
    }
}

/// The reference that an `allOf` joins with nothing but its description, which 3.1 allows to stand beside it.
fn described_reference(fields: &Map<String, Value>) -> Option<Value> {
    let [reference, rest @ ..] = fields.get("allOf")?.as_array()?.as_slice() else { return None };
    let is_description =
        |part: &Value| part.as_object().is_some_and(|part| part.keys().all(|key| key == "description"));
    if rest.iter().all(is_description) { reference.get("$ref").cloned() } else { None }
}

/// Adds what the edge does for every operation: the site header of keys, the request id of answers.
fn correct_operation(operation: &mut Value) {
    if operation.get("security").is_some() {
        let parameter = json!({
            "name": SITE_HEADER, "in": "header", "required": false,
            "description": "The site, for API keys that are not bound to one.",
            "schema": {"type": "string", "format": "uuid"},
        });
        match operation.get_mut("parameters").and_then(Value::as_array_mut) {
            Some(parameters) => parameters.push(parameter),
            None => operation["parameters"] = json!([parameter]),
        }
    }
    for parameter in operation.get_mut("parameters").and_then(Value::as_array_mut).into_iter().flatten() {
        if parameter["name"] == "limit" {
            (parameter["schema"]["minimum"], parameter["schema"]["maximum"]) = (json!(1), json!(LIMIT_MAX));
        }
        if parameter["name"] == "Idempotency-Key" {
            let schema = &mut parameter["schema"];
            (schema["minLength"], schema["maxLength"]) = (json!(1), json!(IDEMPOTENCY_KEY_MAX));
        }
    }
    if let Some(responses) = operation.get_mut("responses").and_then(Value::as_object_mut) {
        for response in responses.values_mut() {
            response["headers"]["X-Wix-Request-Id"] = json!({
                "description": "Names the request in the log.",
                "schema": {"type": "string", "format": "uuid"},
            });
        }
        for status in ["429", "503"] {
            if let Some(response) = responses.get_mut(status) {
                response["headers"]["Retry-After"] =
                    json!({"description": "Seconds to wait.", "schema": {"type": "integer"}});
            }
        }
    }
}

/// What the operations were sent and answered in a test, and an error of each kind; `tests/it/openapi/truth.rs` writes it.
const EXAMPLES: &str = include_str!("../../openapi/examples.json");

/// Puts examples beside the schemas of requests, answers and errors.
fn add_examples(document: &mut Value) {
    let examples: Value = serde_json::from_str(EXAMPLES).unwrap_or_default();
    let mut put = |pointer: &str, example: &Value| {
        if let Some(media) = document.pointer_mut(&format!("{pointer}/content/application~1json"))
            && !example.is_null()
        {
            media["example"] = example.clone();
        }
    };
    for (path, methods) in examples["operations"].as_object().into_iter().flatten() {
        for (method, of_operation) in methods.as_object().into_iter().flatten() {
            let operation = format!("/paths/{}/{method}", path.replace('~', "~0").replace('/', "~1"));
            put(&format!("{operation}/requestBody"), &of_operation["request"]);
            put(&format!("{operation}/responses/200"), &of_operation["answer"]);
        }
    }
    for (name, example) in examples["errors"].as_object().into_iter().flatten() {
        put(&format!("/components/responses/{name}"), example);
    }
}

/// Moves the error answers, which look the same for nearly every operation, to where all can refer to them; leaves out those that
/// the operation never gives, and says which codes the others have.
fn share_errors(operation: &mut Value, shared: &mut Map<String, Value>) {
    let Some(responses) = operation["responses"].as_object().cloned() else { return };
    let mut own = Map::new();
    for (status, response) in responses {
        let prefix = match response["content"]["application/json"]["schema"]["$ref"].as_str() {
            Some("#/components/schemas/Error") => "Error",
            Some("#/components/schemas/OauthError") => "OauthError",
            _ => {
                own.insert(status, response);
                continue;
            }
        };
        let name = format!("{prefix}{status}");
        let mut reference = json!({"$ref": format!("#/components/responses/{name}")});
        if prefix == "Error" {
            let Some(codes) = status.parse().ok().and_then(|status| refusals::codes(operation, status))
            else {
                continue;
            };
            if !codes.is_empty() {
                reference["description"] = json!(format!("`{}`", codes.join("`, `")));
            }
        }
        own.insert(status, reference);
        shared.entry(name).or_insert(response);
    }
    operation["responses"] = Value::Object(own);
}

fn webhooks() -> Value {
    let mut webhooks = Map::new();
    let account = "whose entity is an `Account`";
    let receiver = "whose `actionEvent.body` says which subscription, since when it fails and why";
    let told = |kind| match kind {
        EventType::FollowedChannelCreated => {
            ("FollowedChannelCreated", "An account followed a channel", "whose entity is a `FollowedChannel`")
        }
        EventType::AccountCreated => ("AccountCreated", "An account was made", account),
        EventType::AccountUpdated => ("AccountUpdated", "An account changed", account),
        EventType::AccountPointsUpdated => {
            ("AccountPointsUpdated", "The points of an account changed", account)
        }
        EventType::ActivityRecorded => (
            "ActivityRecorded",
            "Somebody did something on a social platform",
            "whose entity is an `Activity`, without `updatedDate`",
        ),
        EventType::SubscriptionFailing => ("SubscriptionFailing", "A receiver has failed for long", receiver),
        EventType::SubscriptionRecovered => ("SubscriptionRecovered", "It works again", receiver),
        EventType::SubscriptionDisabled => {
            ("SubscriptionDisabled", "A subscription was disabled because of its receiver", receiver)
        }
    };
    let test = ("SubscriptionTest", "A test event", "which says that nothing happened");
    let kinds = EventType::ALL.into_iter().map(|kind| (kind.as_str(), told(kind)));
    for (name, (operation, summary, what)) in kinds.chain([(TEST_EVENT, test)]) {
        webhooks.insert(
            name.to_owned(),
            json!({"post": {
                "operationId": format!("on{operation}"),
                "summary": summary,
                "description": format!(
                    "The body is a compact JWS, RS256, whose key is in `/.well-known/jwks.json`. Its `data` claim is the \
                     envelope as JSON text, whose `data` is the event as JSON text, {what}. The event's `id` is the same in \
                     every resend."
                ),
                "tags": [WEBHOOK_EVENTS],
                "parameters": signature_headers(),
                "requestBody": {"required": true, "content": {"text/plain": {"schema": {
                    "type": "string", "contentMediaType": "application/jwt",
                    "contentSchema": {"$ref": "#/components/schemas/WebhookClaims"},
                }}}},
                "responses": {
                    "2XX": {"description": "Accepted; it is not sent again."},
                    "410": {"description": "Gone for good: the subscription is disabled."},
                    "default": {"description": "Anything else, or nothing in time: it is sent again, not before `Retry-After`."},
                },
            }}),
        );
    }
    Value::Object(webhooks)
}

/// The headers of a webhook whose subscription wants them.
fn signature_headers() -> Value {
    let header = |name: &str, description: &str| json!({"name": name, "in": "header", "required": false, "description": description, "schema": {"type": "string"}});
    json!([
        header(standard::ID_HEADER, "With `signatureHeaders`: the event's `id`, the same in every resend."),
        header(
            standard::TIMESTAMP_HEADER,
            "With `signatureHeaders`: when this try was made, in seconds since 1970."
        ),
        header(
            standard::SIGNATURE_HEADER,
            "With `signatureHeaders`: `v1,` or `v1a,` and a signature of `webhook-id.webhook-timestamp.body` in base64, \
             for each secret that signs; spaces between them."
        ),
    ])
}

/// The claims of a webhook, down to the event.
fn claims_schema() -> Value {
    let event = json!({
        "type": "object",
        "required": ["id", "entityFqdn", "slug", "entityId", "eventTime", "entityEventSequence"],
        "description": "Has exactly one of createdEvent, updatedEvent and actionEvent.",
        "properties": {
            "id": {"type": "string", "format": "uuid", "description": "The receiver's key against duplicates."},
            "entityFqdn": {"type": "string"},
            "slug": {"type": "string"},
            "entityId": {"type": "string", "format": "uuid"},
            "createdEvent": {"type": "object", "properties": {"entity": {"anyOf": [
                {"$ref": "#/components/schemas/FollowedChannel"}, {"$ref": "#/components/schemas/Account"},
                {"$ref": "#/components/schemas/Activity"}]}}},
            "updatedEvent": {"type": "object", "properties": {
                "currentEntity": {"$ref": "#/components/schemas/Account"}}},
            "actionEvent": {"type": "object", "properties": {"body": {"type": "object", "properties": {
                "account": {"$ref": "#/components/schemas/Account"}}}}},
            "eventTime": {"type": "string", "format": "date-time"},
            "triggeredByAnonymizeRequest": {"type": "boolean"},
            "originatedFrom": {"type": ["string", "null"],
                "description": format!("`{TEST_EVENT}` in a sample that was sent as a test; otherwise null.")},
            "entityEventSequence": {"type": "string", "description": "Grows per entity."},
        },
    });
    let identity = json!({
        "type": "object",
        "required": ["identityType"],
        "properties": {
            "identityType": {"type": "string", "enum": ["UNKNOWN", "ANONYMOUS_VISITOR", "MEMBER", "WIX_USER", "APP"]},
            "anonymousVisitorId": {"type": "string"}, "memberId": {"type": "string"},
            "wixUserId": {"type": "string"}, "appId": {"type": "string"},
        },
    });
    let text_of = |schema: Value| json!({"type": "string", "contentMediaType": "application/json", "contentSchema": schema});
    let envelope = json!({
        "type": "object",
        "required": ["eventType", "instanceId", "data", "identity"],
        "properties": {
            "eventType": {"type": "string"},
            "instanceId": {"type": "string", "format": "uuid"},
            "data": text_of(event),
            "identity": text_of(identity),
            "accountInfo": {"type": "object", "properties": {"siteId": {"type": "string", "format": "uuid"}}},
        },
    });
    json!({
        "type": "object",
        "required": ["data", "iss", "aud", "jti", "iat", "exp"],
        "properties": {
            "data": text_of(envelope),
            "iss": {"type": "string", "const": "followpoints"},
            "aud": {"type": "string", "format": "uuid", "description": "The app."},
            "jti": {"type": "string", "format": "uuid", "description": "The event's id."},
            "iat": {"type": "integer", "description": "The event's time in seconds."},
            "exp": {"type": "integer", "description": "300000 seconds later, which outlives every resend."},
        },
    })
}
