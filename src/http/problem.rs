//! Errors on the wire: the Wix error body, from a rule that was broken or from the framework.
//!
//! A [`Problem`] is what a handler fails with. Features map their own errors to it in their `api.rs`; the edge renders it.
//! 4xx carry `details.applicationError.code` or `details.validationError`; a 5xx is `{"message":"","details":{}}` by design
//! and its cause goes to the log only.

use std::sync::Arc;

use poem::error::{MethodNotAllowedError, NotFoundError, ResponseError, SizedLimitError};
use poem::http::{HeaderValue, StatusCode, header};
use poem::{Body, Response};
use poem_openapi::error::{
    AuthorizationError, ContentTypeError, ParseParamError, ParsePathError, ParseRequestPayloadError,
};
use poem_openapi::payload::Json;
use poem_openapi::registry::{MetaResponses, Registry};
use poem_openapi::{ApiResponse, Object, OperationId};
use serde_json::{Value, json};

use super::openapi;
use crate::outages::{self, Outage};

/// What is wrong with one field.
#[derive(Debug, Clone, PartialEq)]
pub struct Violation {
    /// JSON path: `followedChannel.channel`, `channels[0].points`.
    pub field: String,
    /// For people.
    pub description: String,
    /// Wix's `violatedRule`: `REQUIRED_FIELD`, `FORMAT`, `MAX_LENGTH` …
    pub rule: &'static str,
    /// More about the rule: `{"threshold":20}`, `{"expected":"GUID"}`.
    pub data: Value,
}

impl Violation {
    /// A violation without data.
    #[must_use]
    pub fn new(field: impl Into<String>, rule: &'static str, description: impl Into<String>) -> Self {
        Self { field: field.into(), description: description.into(), rule, data: json!({}) }
    }

    /// The same with data.
    #[must_use]
    pub fn with(mut self, data: Value) -> Self {
        self.data = data;
        self
    }
}

type Cause = Arc<dyn std::error::Error + Send + Sync>;

/// A failed request, ready to be rendered.
#[derive(Debug, Clone)]
pub struct Problem {
    status: StatusCode,
    kind: Kind,
    retry_after_s: Option<u32>,
}

#[derive(Debug, Clone)]
enum Kind {
    Application { code: &'static str, description: String, data: Value },
    Validation(Vec<Violation>),
    System(Option<Cause>),
}

/// Seconds after which a caller that was turned away for load may come back.
const RETRY_AFTER_S: u32 = 1;

impl Problem {
    /// A broken rule with its code.
    #[must_use]
    pub fn new(status: StatusCode, code: &'static str, description: impl Into<String>) -> Self {
        let kind = Kind::Application { code, description: description.into(), data: json!({}) };
        Self { status, kind, retry_after_s: None }
    }

    /// 400 with what is wrong per field.
    #[must_use]
    pub const fn validation(violations: Vec<Violation>) -> Self {
        Self { status: StatusCode::BAD_REQUEST, kind: Kind::Validation(violations), retry_after_s: None }
    }

    /// 400 for one field.
    #[must_use]
    pub fn invalid(field: impl Into<String>, rule: &'static str, description: impl Into<String>) -> Self {
        Self::validation(vec![Violation::new(field, rule, description)])
    }

    /// 401: nobody could be recognised.
    #[must_use]
    pub fn unauthenticated(description: impl Into<String>) -> Self {
        Self::new(StatusCode::UNAUTHORIZED, "UNAUTHENTICATED", description)
    }

    /// 403: the caller is known but may not.
    #[must_use]
    pub fn forbidden(description: impl Into<String>) -> Self {
        Self::new(StatusCode::FORBIDDEN, "PERMISSION_DENIED", description)
    }

    /// 404: absent, or not the caller's to know.
    #[must_use]
    pub fn not_found(code: &'static str, description: impl Into<String>) -> Self {
        Self::new(StatusCode::NOT_FOUND, code, description)
    }

    /// 409: in conflict with what is.
    #[must_use]
    pub fn conflict(code: &'static str, description: impl Into<String>) -> Self {
        Self::new(StatusCode::CONFLICT, code, description)
    }

    /// 409 for a revision that is no longer current, in Wix's words.
    #[must_use]
    pub fn stale_revision() -> Self {
        Self::conflict("ABORTED", "entity has already changed since the requested revision")
    }

    /// 428: something must be so first.
    #[must_use]
    pub fn precondition(code: &'static str, description: impl Into<String>) -> Self {
        Self::new(StatusCode::PRECONDITION_REQUIRED, code, description)
    }

    /// 429 with the seconds to wait.
    #[must_use]
    pub fn too_many(retry_after_s: u32) -> Self {
        let mut problem =
            Self::new(StatusCode::TOO_MANY_REQUESTS, "RESOURCE_EXHAUSTED", "too many requests; slow down");
        problem.retry_after_s = Some(retry_after_s.max(1));
        problem
    }

    /// 503: more is being asked than the store can do.
    #[must_use]
    pub const fn busy() -> Self {
        let status = StatusCode::SERVICE_UNAVAILABLE;
        Self { status, kind: Kind::System(None), retry_after_s: Some(RETRY_AFTER_S) }
    }

    /// 500, or 503 while the database is out of order, with its cause for the log.
    #[must_use]
    pub fn internal(cause: impl std::error::Error + Send + Sync + 'static) -> Self {
        outages::WRITES.note_error(&cause);
        let (status, retry_after_s) = match Outage::behind(&cause) {
            Some(_) => (StatusCode::SERVICE_UNAVAILABLE, Some(RETRY_AFTER_S)),
            None => (StatusCode::INTERNAL_SERVER_ERROR, None),
        };
        Self { status, kind: Kind::System(Some(Arc::new(cause))), retry_after_s }
    }

    /// 504: it took too long.
    #[must_use]
    pub const fn timed_out() -> Self {
        Self { status: StatusCode::GATEWAY_TIMEOUT, kind: Kind::System(None), retry_after_s: None }
    }

    /// The same with data beside the code.
    #[must_use]
    pub fn with(mut self, more: Value) -> Self {
        if let Kind::Application { data, .. } = &mut self.kind {
            *data = more;
        }
        self
    }

    /// The HTTP status.
    #[must_use]
    pub const fn status_code(&self) -> StatusCode {
        self.status
    }

    /// The cause of a 5xx with the causes of that, for the log.
    #[must_use]
    pub fn cause_chain(&self) -> Option<String> {
        let Kind::System(Some(cause)) = &self.kind else {
            return None;
        };
        let mut chain = cause.to_string();
        let mut next = cause.source();
        while let Some(error) = next {
            chain.push_str(": ");
            chain.push_str(&error.to_string());
            next = error.source();
        }
        Some(chain)
    }

    /// The body on the wire.
    #[must_use]
    pub fn body(&self) -> Value {
        match &self.kind {
            Kind::Application { code, description, data } => json!({
                "message": description,
                "details": {"applicationError": {"code": code, "description": description, "data": data}},
            }),
            Kind::Validation(violations) => {
                let message: Vec<_> =
                    violations.iter().map(|v| format!("{} {}", v.field, v.description)).collect();
                let fields: Vec<_> = violations
                    .iter()
                    .map(|v| {
                        json!({
                            "field": v.field, "description": v.description,
                            "violatedRule": v.rule, "data": v.data,
                        })
                    })
                    .collect();
                json!({
                    "message": message.join("; "),
                    "details": {"validationError": {"fieldViolations": fields}},
                })
            }
            Kind::System(_) => json!({"message": "", "details": {}}),
        }
    }

    /// The response on the wire.
    #[must_use]
    pub fn render(&self) -> Response {
        let mut response = Response::builder()
            .status(self.status)
            .content_type("application/json")
            .body(Body::from_string(self.body().to_string()));
        if let Some(seconds) = self.retry_after_s {
            response.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from(seconds));
        }
        if self.status == StatusCode::UNAUTHORIZED {
            response
                .headers_mut()
                .insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer realm=\"followpoints\""));
        }
        response
    }

    /// The problem behind any error that reaches the edge.
    #[must_use]
    pub fn from_framework(error: &poem::Error) -> Self {
        if let Some(problem) = error.downcast_ref::<Self>() {
            return problem.clone();
        }
        if let Some(parameter) = error.downcast_ref::<ParseParamError>() {
            return Self::of_parameter(error.data::<OperationId>(), parameter);
        }
        if let Some(error) = error.downcast_ref::<ParseRequestPayloadError>() {
            return Self::invalid("body", "FORMAT", plain(&error.reason));
        }
        if error.is::<ParsePathError>() {
            return Self::invalid("id", "FORMAT", "is not a GUID").expecting("GUID");
        }
        if error.is::<AuthorizationError>() {
            return Self::unauthenticated("the Authorization header is missing");
        }
        if error.is::<NotFoundError>() {
            return Self::not_found("NOT_FOUND", "there is nothing at this path");
        }
        if error.is::<MethodNotAllowedError>() {
            return Self::new(
                StatusCode::METHOD_NOT_ALLOWED,
                "METHOD_NOT_ALLOWED",
                "this path does not have this method",
            );
        }
        if error.is::<ContentTypeError>() {
            return Self::new(
                StatusCode::UNSUPPORTED_MEDIA_TYPE,
                "UNSUPPORTED_MEDIA_TYPE",
                "send the body as application/json",
            );
        }
        if error.is::<SizedLimitError>() || error.status() == StatusCode::PAYLOAD_TOO_LARGE {
            return Self::too_large();
        }
        match error.status() {
            status if status.is_client_error() => {
                Self::new(status, "INVALID_ARGUMENT", plain(&error.to_string()))
            }
            _ => Self::internal(std::io::Error::other(error.to_string())),
        }
    }

    /// 413.
    #[must_use]
    pub fn too_large() -> Self {
        Self::new(StatusCode::PAYLOAD_TOO_LARGE, "PAYLOAD_TOO_LARGE", "the body is too large")
    }

    /// 408.
    #[must_use]
    pub fn too_slow() -> Self {
        Self::new(StatusCode::REQUEST_TIMEOUT, "REQUEST_TIMEOUT", "the body did not come in time")
    }

    /// 400 for a parameter of `operation` that could not be read, in the words of its schema.
    fn of_parameter(operation: Option<&OperationId>, error: &ParseParamError) -> Self {
        let schema = operation.and_then(|operation| openapi::parameter_schema(operation.0, error.name));
        let Some(schema) = schema else { return Self::invalid(error.name, "FORMAT", plain(&error.reason)) };
        let violation = |rule, description: String, data| {
            Self::validation(vec![Violation::new(error.name, rule, description).with(data)])
        };
        if let Some(allowed) = schema["enum"].as_array() {
            let names: Vec<_> = allowed.iter().filter_map(Value::as_str).collect();
            let description = format!("must be one of {}", names.join(", "));
            violation("INVALID_ENUM_VALUE", description, json!({"allowed": allowed}))
        } else if schema["format"] == "uuid" {
            violation("FORMAT", "is not a GUID".to_owned(), json!({"expected": "GUID"}))
        } else if schema["type"] == "integer" {
            let range = schema["minimum"].as_u64().zip(schema["maximum"].as_u64());
            let range = range.map(|(min, max)| format!(" from {min} to {max}")).unwrap_or_default();
            violation("FORMAT", format!("must be an integer{range}"), json!({"expected": "INTEGER"}))
        } else {
            Self::invalid(error.name, "FORMAT", plain(&error.reason))
        }
    }

    fn expecting(mut self, what: &str) -> Self {
        if let Kind::Validation(violations) = &mut self.kind {
            for violation in violations {
                violation.data = json!({"expected": what});
            }
        }
        self
    }
}

/// The first sentence of a framework's message; the rest names Rust types.
fn plain(reason: &str) -> String {
    reason.split(" (occurred while").next().unwrap_or(reason).trim_end_matches('.').to_owned()
}

impl std::fmt::Display for Problem {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}", self.status)
    }
}

impl std::error::Error for Problem {}

impl ResponseError for Problem {
    fn status(&self) -> StatusCode {
        self.status
    }

    fn as_response(&self) -> Response {
        self.render()
    }
}

impl From<sea_orm::DbErr> for Problem {
    fn from(error: sea_orm::DbErr) -> Self {
        match &error {
            sea_orm::DbErr::ConnectionAcquire(_) => Self::busy(),
            _ => Self::internal(error),
        }
    }
}

impl From<Arc<sea_orm::DbErr>> for Problem {
    fn from(error: Arc<sea_orm::DbErr>) -> Self {
        match &*error {
            sea_orm::DbErr::ConnectionAcquire(_) => Self::busy(),
            _ => Self::internal(error),
        }
    }
}

impl From<crate::seal::SealError> for Problem {
    fn from(error: crate::seal::SealError) -> Self {
        Self::internal(error)
    }
}

/// An error as Wix services answer it.
#[derive(Debug, Object)]
#[oai(rename = "Error")]
pub struct ErrorBody {
    /// What is wrong, for people; empty for a 5xx.
    message: String,
    details: ErrorDetails,
}

/// Exactly one of the two, or neither for a 5xx.
#[derive(Debug, Object)]
#[oai(skip_serializing_if_is_none)]
struct ErrorDetails {
    #[oai(rename = "applicationError")]
    application_error: Option<ApplicationError>,
    #[oai(rename = "validationError")]
    validation_error: Option<ValidationError>,
}

/// A broken rule.
#[derive(Debug, Object)]
struct ApplicationError {
    /// Stable, for programs: `ALREADY_EXISTS`, `CHANNEL_NOT_ENABLED`, `PROGRAM_NOT_ACTIVE` …
    code: String,
    /// For people.
    description: String,
    /// More about the case.
    data: poem_openapi::types::Any<Value>,
}

/// What is wrong per field.
#[derive(Debug, Object)]
struct ValidationError {
    #[oai(rename = "fieldViolations")]
    field_violations: Vec<FieldViolation>,
}

/// One broken rule of one field.
#[derive(Debug, Object)]
#[oai(rename_all = "camelCase")]
struct FieldViolation {
    /// JSON path of the field, or the name of the parameter.
    field: String,
    /// For people.
    description: String,
    /// `REQUIRED_FIELD`, `INVALID_ENUM_VALUE`, `FORMAT`, `MIN`, `MAX`, `MIN_LENGTH`, `MAX_LENGTH`, `MAX_SIZE` …
    violated_rule: String,
    /// More about the rule.
    data: poem_openapi::types::Any<Value>,
}

/// It lists the statuses for the document.
#[derive(ApiResponse)]
#[expect(dead_code, reason = "never made, only described")]
enum ProblemDoc {
    /// The request breaks a rule; see `fieldViolations`.
    #[oai(status = 400)]
    BadRequest(Json<ErrorBody>),
    /// No usable credentials.
    #[oai(status = 401)]
    Unauthenticated(Json<ErrorBody>),
    /// The caller may not do this.
    #[oai(status = 403)]
    Forbidden(Json<ErrorBody>),
    /// It does not exist, or is not the caller's.
    #[oai(status = 404)]
    NotFound(Json<ErrorBody>),
    /// The path has no such method.
    #[oai(status = 405)]
    MethodNotAllowed(Json<ErrorBody>),
    /// The body did not come in time.
    #[oai(status = 408)]
    TooSlow(Json<ErrorBody>),
    /// In conflict with what is: it exists already, or the revision is not current.
    #[oai(status = 409)]
    Conflict(Json<ErrorBody>),
    /// The body is too large.
    #[oai(status = 413)]
    TooLarge(Json<ErrorBody>),
    /// The body is not application/json.
    #[oai(status = 415)]
    UnsupportedMediaType(Json<ErrorBody>),
    /// Something must be so first: the program active, the channel enabled.
    #[oai(status = 428)]
    PreconditionRequired(Json<ErrorBody>),
    /// Too many requests; wait for `Retry-After` seconds.
    #[oai(status = 429)]
    TooManyRequests(Json<ErrorBody>),
    /// Our fault; the request id is in `X-Wix-Request-Id`.
    #[oai(status = 500)]
    Internal(Json<ErrorBody>),
    /// Overloaded, stopping, or without its database; wait for `Retry-After` seconds.
    #[oai(status = 503)]
    Unavailable(Json<ErrorBody>),
    /// It took too long.
    #[oai(status = 504)]
    TimedOut(Json<ErrorBody>),
}

impl ApiResponse for Problem {
    fn meta() -> MetaResponses {
        ProblemDoc::meta()
    }

    fn register(registry: &mut Registry) {
        ProblemDoc::register(registry);
    }
}
